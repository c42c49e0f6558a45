//! What a person runs by hand, as the documents say it, and what an Action's settings come to. Each scenario is written once,
//! and runs on the real control plane and in the sandbox.

use fother::api::Execution;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::scenario::Scenario;
use crate::support::kubectl::Kubectl;
use crate::support::wait::{DEADLINE, eventually};

const DOCUMENT: &str = include_str!("../../../../docs/how-to/run-by-hand.md");
const RESTART: &str = include_str!("../../../../examples/crash-loop/actions/restart-workload.yaml");

/// A container that is ready as long as it runs.
fn crew(script: &str) -> Value {
    json!({"metadata": {"name": "api"}, "spec": {
        "selector": {"matchLabels": {"app": "api"}},
        "template": {
            "metadata": {"labels": {"app": "api"}, "annotations": {"sandbox.local/run": "process"}},
            "spec": {
                "containers": [{"name": "main", "image": "debian", "command": ["sh", "-c", script]}],
                "terminationGracePeriodSeconds": 1,
            },
        },
    }})
}

/// Runs an Action by hand and waits for its end.
async fn run(scenario: &Scenario, name: &str, action: &str, target: Option<Value>) -> Execution {
    let mut spec = json!({"serviceAccountName": "healer", "run": action});
    if let Some(target) = target {
        spec["target"] = target;
    }
    scenario.stage.create::<Execution>(json!({"metadata": {"name": name}, "spec": spec})).await;
    scenario.stage.until(&format!("{name} has ended"), name, Execution::is_finished).await
}

/// A container's parameters, arguments and outputs; and what becomes of its Job once the outcome is recorded.
pub async fn a_container_gets_parameters_and_gives_outputs(scenario: &Scenario) {
    let script = r#"printf 'planks=%s\nwho=%s %s\n' "$((FOTHER_PARAM_BUCKETS * 2))" "$FOTHER_PARAM_CREW" "$1" >"$FOTHER_OUTPUT""#;
    let action = json!({
        "parameters": [{"name": "buckets", "type": "integer"}, {"name": "crew", "default": "night watch"}],
        "outputs": [{"name": "planks", "type": "integer"}, {"name": "who"}],
        "container": {"image": "debian", "command": ["sh", "-c", script], "args": ["bail", "--fast"]},
    });
    scenario.action("bail", action).await;
    scenario
        .rule("leak", json!({"ladder": [{"run": "bail", "with": {"buckets": 21}, "verify": null}]}))
        .await;
    scenario.boat("ark", "leaking").await;
    let execution = scenario.ends("leak", "Completed").await;
    let rung = &execution.status.as_ref().unwrap().rungs[0];
    assert_eq!(rung.outputs.to_value(), json!({"planks": 42, "who": "night watch --fast"}), "{rung:#?}");

    let job = rung.job.as_ref().unwrap().name.clone();
    let job = scenario
        .stage
        .until(&format!("{job} expires by itself"), &job, |job: &Job| {
            job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished == Some(3600))
        })
        .await;
    assert!(job.metadata.finalizers.is_none(), "{job:#?}");
    // Two Pods of one attempt would be two attempts.
    assert_eq!(job.spec.unwrap().pod_replacement_policy.as_deref(), Some("Failed"));

    scenario.is_told("ConfigMap", "ark", &["ExecutionJobCreated", "RemediationCompleted", "RuleFired"]).await;
    let selector = ListParams::default().fields("regarding.kind=ConfigMap,regarding.name=ark");
    for event in scenario.stage.api::<Event>().list(&selector).await.unwrap() {
        let related = event.related.clone().unwrap_or_default();
        let seen = (related.kind.as_deref(), related.name, related.uid);
        let expected = (Some("Execution"), Some(execution.name_any()), execution.metadata.uid.clone());
        assert_eq!(seen, expected, "{event:#?}");
    }
}

/// The blocks that the document has for a shell.
fn blocks() -> Vec<String> {
    DOCUMENT.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

pub async fn an_action_is_run_by_hand_as_the_document_says(scenario: &Scenario) {
    let namespace = &scenario.stage.namespace;
    let kubectl = Kubectl::new(scenario.stage.admin());
    let here = |text: &str| text.replace("payments", namespace);
    kubectl.apply(RESTART, &["-n", namespace]).await;
    scenario.stage.create::<Deployment>(crew("exec sleep 600")).await;
    scenario.stage.kubectl(&["wait", "--for=condition=Available", "deployment/api", "--timeout=60s"]).await;

    let [create, wait, cancel] = blocks().try_into().unwrap();
    let (_, manifest) = create.split_once("<<'EOF'\n").unwrap();
    // A minute is long for a test.
    let manifest =
        here(manifest.trim_end().strip_suffix("EOF").unwrap()).replace("stableFor: 1m", "stableFor: 1s");
    let created = kubectl.try_run(&["create", "-f", "-"], &manifest).await;
    let name =
        created.stdout.strip_prefix("execution.fother.dev/").and_then(|rest| rest.strip_suffix(" created\n"));
    let name = name.filter(|name| name.starts_with("restart-api-")).unwrap_or_else(|| panic!("{created:?}"));
    let typed = async |line: &str| {
        let line = here(line).replace("restart-api-x7k2p", name);
        let words = line.strip_prefix("kubectl ").unwrap().replace('\'', "");
        kubectl.run(&words.split(' ').collect::<Vec<_>>()).await
    };
    let lines: Vec<_> = wait.lines().collect();
    assert_eq!(typed(lines[0]).await, format!("execution.fother.dev/{name} condition met\n"));
    let ended = typed(lines[1]).await;
    assert!(ended.contains("TargetRecovered"), "{ended}");
    assert!(typed(cancel.trim_end()).await.contains("patched"), "which changes nothing any more");

    // All that fother has, by one word and by short ones.
    let all = scenario.stage.kubectl(&["get", "fother", "-o", "name"]).await;
    for one in [&*format!("execution.fother.dev/{name}"), "action.fother.dev/restart-workload"] {
        assert!(all.lines().any(|line| line == one), "{all}");
    }
    let all = scenario.stage.kubectl(&["get", "fa,fx", "-o", "name"]).await;
    assert!(all.contains("action.fother.dev/restart-workload") && all.contains(name), "{all}");
    assert_eq!(scenario.stage.kubectl(&["get", "fpk,fr,fwh,feb", "-o", "name"]).await, "");
}

/// Of a run of `collect`, the files that it kept.
async fn kept(scenario: &Scenario, name: &str, collect: Value) -> Vec<(String, String)> {
    scenario.action(name, json!({"collect": collect})).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": scenario.stage.namespace, "name": "api"});
    let execution = run(scenario, &format!("run-{name}"), name, Some(target)).await;
    assert_eq!(execution.reason(), Some("Completed"), "{execution:#?}");
    let kept = execution.status.unwrap().rungs[0].outputs.to_value();
    let kept = scenario.stage.api::<ConfigMap>().get(kept["configMap"].as_str().unwrap()).await.unwrap();
    kept.data.unwrap_or_default().into_iter().collect()
}

pub async fn evidence_is_what_was_asked_for(scenario: &Scenario) {
    let script = "for line in 1 2 3 4 5; do echo line $line; done; exec sleep 600";
    scenario.stage.create::<Deployment>(crew(script)).await;
    eventually("the whole log", DEADLINE, || async {
        let kubectl = Kubectl::new(scenario.stage.admin());
        let log = kubectl
            .try_run(&["logs", "-l", "app=api", "--tail=-1", "-n", &scenario.stage.namespace], "")
            .await;
        if log.stdout.ends_with("line 5\n") { Ok(()) } else { Err(format!("{log:?}")) }
    })
    .await;
    let logs = kept(scenario, "logs", json!({"include": ["Logs"], "tailLines": 2})).await;
    let [(file, text)] = logs.try_into().unwrap();
    assert!(file.ends_with("-main-current.log"), "{file}");
    assert_eq!(text, "line 4\nline 5\n");
    let described = kept(scenario, "described", json!({"include": ["Describe", "Events"]})).await;
    let mut kinds: Vec<_> =
        described.iter().map(|(file, _)| file.split(['-', '.']).next().unwrap_or_default()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["deployment", "events", "pod"]);
}
