//! What a script is given, and how it can fail its rung: it takes too long, or says too much. Each scenario is written once, and runs on the real
//! control plane and in the sandbox.

use fother::api::{ConditionType, Execution, condition};
use serde_json::{Value, json};

use super::scenario::Scenario;

/// Lets a leaking boat be answered by a script, alone, and returns the Execution that it failed.
async fn fails(scenario: &Scenario, script: &str, timeout: &str, reason: &str) -> Execution {
    let outputs = json!([{"name": "planks"}]);
    let action: Value =
        json!({"timeout": timeout, "script": {"image": "debian", "inline": script}, "outputs": outputs});
    scenario.action("bail", action).await;
    scenario.rule("leak", json!({"ladder": [{"run": "bail", "verify": null}]})).await;
    scenario.boat("ark", "leaking").await;
    let execution = scenario.ends("leak", reason).await;
    let conditions = &execution.status.as_ref().unwrap().conditions;
    let succeeded = condition(conditions, ConditionType::Succeeded).unwrap();
    let message = &execution.status.as_ref().unwrap().rungs[0].message;
    let seen = (succeeded.status.as_str(), succeeded.reason.as_str(), &succeeded.message);
    assert_eq!(seen, ("False", reason, message), "{execution:#?}");
    execution
}

/// The kubelet replaces `$(NAME)` in an environment and halves `$$`, unless it is kept from it.
pub async fn a_script_gets_values_as_they_were_given(scenario: &Scenario) {
    let given = "pa$$word $$(FOTHER_EXECUTION) $(FOTHER_EXECUTION) $HOME $ö $";
    let script =
        r#"printf 'word=%s\ntarget=%s\n' "$FOTHER_PARAM_WORD" "$FOTHER_TARGET_NAME" >"$FOTHER_OUTPUT""#;
    let action = json!({
        "parameters": [{"name": "word"}], "outputs": [{"name": "word"}, {"name": "target"}],
        "script": {"image": "debian", "inline": script},
    });
    scenario.action("tell", action).await;
    let target = "$(FOTHER_EXECUTION)$$";
    let key = json!({"target": {"key": format!("'{target}'")}, "ladder": [{"run": "tell", "with": {"word": given}}]});
    scenario.rule("told", key).await;
    scenario.boat("ark", "leaking").await;
    let execution = scenario.ends("told", "Completed").await;
    let outputs = execution.status.unwrap().rungs[0].outputs.to_value();
    assert_eq!(outputs, json!({"word": given, "target": target}));
}

pub async fn a_script_that_overruns_is_stopped_and_told_of(scenario: &Scenario) {
    let script = "exec sleep 600";
    let execution = fails(scenario, script, "2s", "DeadlineExceeded").await;
    let rung = &execution.status.unwrap().rungs[0];
    assert!(rung.message.starts_with("killed after 2s: "), "{}", rung.message);
    assert_eq!(json!(rung.state), "DeadlineExceeded");
    let story = ["ExecutionDeadlineExceeded", "ExecutionJobCreated", "RuleFired"];
    scenario.is_told("ConfigMap", "ark", &story).await;
}

pub async fn a_script_that_says_too_much_fails_and_is_told_how(scenario: &Scenario) {
    let script = r#"printf 'planks=%05000d' 7 >"$FOTHER_OUTPUT""#;
    let execution = fails(scenario, script, "1m", "ActionFailed").await;
    let rung = &execution.status.unwrap().rungs[0];
    assert_eq!(rung.message, "output exceeds 4096 bytes; write the rest to the log");
    assert!(rung.outputs.is_empty(), "{rung:#?}");
    let story = ["ExecutionJobCreated", "ExecutionStepFailed", "RuleFired"];
    scenario.is_told("ConfigMap", "ark", &story).await;
}
