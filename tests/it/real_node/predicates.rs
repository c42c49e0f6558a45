//! Predicates over what a real scheduler, kubelet and controllers say of objects that really are in a state: as Rules ask
//! them, and each of each object (`records`). `expr::tests::predicates` has the fine points, over what was recorded here.

use std::time::Duration;

use fother::api::Execution;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::harbor::Harbor;
use super::{records, states};
use crate::support::wait::eventually;

const NAMESPACE: &str = "predicates";
/// Beside all others, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// A Rule that records what its condition is true of.
fn rule(name: &str, resource: &Value, when: &str) -> Value {
    let mut of = json!({"apiVersion": "v1", "kind": "Pod"});
    json_patch::merge(&mut of, resource);
    json!({
        "apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "watcher", "mode": "Observe", "trigger": {"resource": of}, "target": "object", "when": when,
            "ladder": [{"run": "note"}]},
    })
}

fn rules() -> [Value; 10] {
    let pods = json!({});
    // All others are not ready either, while they start.
    let sick = json!({"labelSelector": {"matchLabels": {"sick": "true"}}});
    let rolled_out = json!({"apiVersion": "apps/v1", "kind": "Deployment", "labelSelector": {"matchLabels": {"app": "rolled-out"}}});
    let jobs = json!({"apiVersion": "batch/v1", "kind": "Job"});
    [
        rule("crash", &pods, "crashLooping(object, 2, duration('10m'))"),
        rule("memory", &pods, "oomKilled(object)"),
        rule("image", &pods, "imagePullFailing(object)"),
        rule("scheduled", &pods, "unschedulable(object)"),
        rule("condition", &pods, "condition(object, 'PodScheduled') == 'False'"),
        rule("ready", &sick, "notReadyFor(object, duration('3s'))"),
        rule("fresh", &rolled_out, "rolledOutWithin(object, duration('10m'))"),
        rule("complete", &rolled_out, "rolloutComplete(object)"),
        rule("done", &jobs, "condition(object, 'Complete') == 'True'"),
        rule("failed", &jobs, "condition(object, 'Failed') == 'True'"),
    ]
}

/// What Rules have recorded, as `rule target`.
async fn recorded(executions: &Api<Execution>) -> Vec<String> {
    let found = executions.list(&ListParams::default()).await.unwrap();
    let line = |execution: &Execution| {
        let rule = &execution.spec.decision.as_ref()?.rule.name;
        Some(format!("{rule} {}", execution.spec.target.as_ref()?.name))
    };
    let observed = found.iter().filter(|execution| execution.reason() == Some("Observed"));
    let mut lines: Vec<_> = observed.filter_map(line).collect();
    lines.sort();
    lines
}

/// Waits until each Rule has recorded what it is about, and nothing else.
async fn are_recorded(harbor: &Harbor, expected: &[&str]) {
    let executions = Api::<Execution>::namespaced(harbor.client().await, NAMESPACE);
    eventually("each Rule has recorded what it is about, and nothing else", PATIENCE, || async {
        let found = recorded(&executions).await;
        let rules = ["-n", NAMESPACE, "get", "rules", "-o", "wide"];
        if found == expected {
            Ok(())
        } else {
            Err(format!("{found:#?}\n{}", harbor.kubectl.run(&rules).await))
        }
    })
    .await;
}

#[tokio::test]
async fn predicates_know_what_a_real_cluster_says() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace(NAMESPACE).await;
    let watch = ["get", "list", "watch", "patch"];
    let rights = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": watch},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": watch},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": watch},
    ]);
    harbor.account(NAMESPACE, "watcher", &rights).await;
    let note = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "note", "namespace": NAMESPACE}, "spec": {"kubernetes": {"annotate": {"values": {"example.com/seen": "true"}}}}});
    harbor.kubectl.apply(&note.to_string(), &[]).await;
    for rule in rules() {
        harbor.kubectl.apply(&rule.to_string(), &[]).await;
    }
    states::enter(harbor, NAMESPACE).await;
    records::hold(&harbor.client().await, NAMESPACE).await;
    let expected = [
        "complete rolled-out",
        "condition gated",
        "condition unschedulable",
        "crash crash-looping",
        "done complete-job",
        "failed failed-job",
        "fresh rolled-out",
        "image image-pull",
        "memory oom-killed",
        "memory oom-restarted",
        "ready image-pull",
        "ready not-ready",
        "ready unschedulable",
        "scheduled unschedulable",
    ];
    are_recorded(harbor, &expected).await;
}
