//! The whole way: a workload breaks, a rule sees it, a script mends it, and what it did is proven.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::scenario::Scenario;

/// A pod that crash-loops until the index on its claim is good.
fn reader() -> Value {
    let command = "grep -q good $INDEX || { echo index is corrupted; exit 1; }; exec sleep 600";
    let main = json!({
        "name": "main", "image": "debian", "command": ["sh", "-c", command],
        "env": [{"name": "INDEX", "value": "/cache/index"}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    });
    json!({"metadata": {"name": "reader"}, "spec": {
        "selector": {"matchLabels": {"app": "reader"}},
        "template": {
            "metadata": {"labels": {"app": "reader"}, "annotations": {"sandbox.local/run": "process"}},
            "spec": {
                "containers": [main], "terminationGracePeriodSeconds": 1,
                "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
            },
        },
    }})
}

/// The rule, with a script that repairs the index, or `script` instead.
async fn rule_and_action(scenario: &Scenario, script: &str) {
    let spec = json!({
        "script": {"image": "debian", "inline": script, "volumes": [{"claimName": "cache", "mountPath": "/cache"}]},
        "parameters": [{"name": "cache", "default": "/cache"}],
        "outputs": [{"name": "repaired", "type": "boolean"}, {"name": "bytes", "type": "integer"}],
    });
    scenario.action("repair-index", spec).await;
    scenario.action("evidence", json!({"collect": {}})).await;
    let changes = json!({
        "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "labelSelector": {"matchLabels": {"app": "reader"}}}},
        "when": "object.status.containerStatuses.exists(c, !c.ready && c.restartCount >= 1)",
        "for": "1s",
        "ladder": [{"run": "evidence"}, {"run": "repair-index", "verify": {"within": "20s", "stableFor": "1s"}}],
    });
    scenario.rule("crashloop", changes).await;
}

async fn break_the_reader(scenario: &Scenario) {
    scenario.claim("cache").await;
    std::fs::write(scenario.stage.claim("cache").join("index"), "corrupted").unwrap();
    scenario.stage.create::<Deployment>(reader()).await;
}

const REPAIR: &str = r#"
printf good >"$FOTHER_PARAM_CACHE/index"
echo '{"repaired": true, "bytes": 4}' >"$FOTHER_OUTPUT"
"#;

#[tokio::test]
async fn a_crash_loop_is_mended_by_a_script_and_proven() {
    let Some(scenario) = Scenario::new("main-path").await else { return };
    rule_and_action(&scenario, REPAIR).await;
    scenario.watching("crashloop").await;
    break_the_reader(&scenario).await;

    let execution = scenario.only("crashloop", "an Execution", |_| true).await;
    let name = execution.metadata.name.unwrap();
    let wait = ["wait", "--for=condition=Finished", &format!("execution/{name}"), "--timeout=60s"];
    scenario.stage.kubectl(&wait).await;
    let execution = scenario.ends("crashloop", "TargetRecovered").await;

    let target = execution.spec.target.unwrap();
    assert_eq!((target.kind.as_str(), target.name.as_str()), ("Deployment", "reader"));
    let status = execution.status.unwrap();
    assert_eq!(status.rungs[1].outputs.to_value(), json!({"repaired": true, "bytes": 4}));
    assert!(status.episode_closed_at.is_some(), "the verification proved that it is over");
    let jobs = scenario.jobs().await;
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    assert_eq!(jobs[0].metadata.uid, status.rungs[1].job.as_ref().unwrap().uid);
    assert!(jobs[0].metadata.finalizers.is_none(), "the Job is let go");
    let evidence = status.rungs[0].outputs.to_value()["configMap"].as_str().unwrap().to_owned();
    let logs = scenario.stage.kubectl(&["get", "configmap", &evidence, "-o", "yaml"]).await;
    assert!(logs.contains("index is corrupted"), "{logs}");
    let told = scenario.told("Deployment", "reader").await;
    assert_eq!(told, ["ExecutionJobCreated", "RemediationVerified", "RuleFired"]);
    scenario
        .stage
        .kubectl(&["wait", "--for=condition=Available", "deployment/reader", "--timeout=10s"])
        .await;
}

#[tokio::test]
async fn a_script_that_fails_leads_to_quarantine_and_ends_the_wait() {
    let Some(scenario) = Scenario::new("main-path-fails").await else { return };
    rule_and_action(&scenario, "echo the disk is read-only >&2; exit 3").await;
    break_the_reader(&scenario).await;

    let execution = scenario.only("crashloop", "an Execution", |_| true).await;
    let name = execution.metadata.name.unwrap();
    let wait = ["wait", "--for=condition=Finished", &format!("execution/{name}"), "--timeout=60s"];
    scenario.stage.kubectl(&wait).await;
    let execution = scenario.ends("crashloop", "Quarantined").await;
    let status = execution.status.unwrap();
    assert_eq!(status.rungs[1].message, "exit code 3: the disk is read-only");
    assert_eq!(status.episode_closed_at, None, "it is still broken: the episode goes on");
    let told = scenario.told("Deployment", "reader").await;
    assert_eq!(told, ["ExecutionJobCreated", "ExecutionStepFailed", "RemediationIneffective", "RuleFired"]);

    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("crashloop").await.len(), 1, "left alone while it stays broken");
}
