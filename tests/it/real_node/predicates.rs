//! Predicates over what a real scheduler, kubelet and Deployment controller say of objects that really are in that state.
//! `expr::tests::predicates` has the fine points, over such statuses.

use std::time::Duration;

use fother::api::Execution;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::harbor::{Harbor, restricted};
use crate::support::wait::eventually;

const NAMESPACE: &str = "predicates";
const IMAGE: &str = "docker.io/library/debian:12-slim";
/// Beside all others, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// The container of a Pod that would be well, changed.
fn pod(changes: &Value) -> Value {
    let mut main = json!({"name": "main", "image": IMAGE, "command": ["sleep", "infinity"]});
    json_patch::merge(&mut main, changes);
    restricted(json!({"containers": [main], "terminationGracePeriodSeconds": 1}))
}

/// Three Pods that are not well, each for its own reason, and a Deployment that is.
fn objects() -> Vec<Value> {
    // Nobody listens there.
    let missing = pod(&json!({"image": "127.0.0.1:1/absent:1"}));
    let large = pod(&json!({"resources": {"requests": {"cpu": "64"}}}));
    let deaf = pod(&json!({"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}));
    let pods = [("missing-image", missing), ("too-large", large), ("deaf", deaf)].map(|(name, spec)| {
        let metadata = json!({"name": name, "namespace": NAMESPACE, "labels": {"sick": "true"}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    });
    let template = json!({"metadata": {"labels": {"app": "fresh"}}, "spec": pod(&json!({}))});
    let fresh = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "fresh", "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": "fresh"}}, "template": template},
    });
    pods.into_iter().chain([fresh]).collect()
}

/// A Rule that records what its condition is true of.
fn rule(name: &str, resource: &Value, when: &str) -> Value {
    let mut of =
        json!({"apiVersion": "v1", "kind": "Pod", "labelSelector": {"matchLabels": {"sick": "true"}}});
    json_patch::merge(&mut of, resource);
    json!({
        "apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "watcher", "mode": "Observe", "trigger": {"resource": of}, "target": "object", "when": when,
            "ladder": [{"run": "note"}]},
    })
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

#[tokio::test]
async fn predicates_know_what_a_real_cluster_says() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace(NAMESPACE).await;
    let rights = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]},
    ]);
    harbor.account(NAMESPACE, "watcher", &rights).await;
    let note = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "note", "namespace": NAMESPACE}, "spec": {"kubernetes": {"annotate": {"values": {"example.com/seen": "true"}}}}});
    let pods = json!({});
    let deployments = json!({"apiVersion": "apps/v1", "kind": "Deployment", "labelSelector": null});
    let rules = [
        rule("image", &pods, "imagePullFailing(object)"),
        rule("scheduled", &pods, "unschedulable(object)"),
        rule("ready", &pods, "notReadyFor(object, duration('3s'))"),
        rule("condition", &pods, "condition(object, 'PodScheduled') == 'False'"),
        rule("fresh", &deployments, "rolledOutWithin(object, duration('10m'))"),
        rule("complete", &deployments, "rolloutComplete(object)"),
    ];
    for object in objects().into_iter().chain([note]).chain(rules) {
        harbor.kubectl.apply(&object.to_string(), &[]).await;
    }
    let executions = Api::<Execution>::namespaced(harbor.client().await, NAMESPACE);
    let expected = [
        "complete fresh",
        "condition too-large",
        "fresh fresh",
        "image missing-image",
        "ready deaf",
        "ready missing-image",
        "ready too-large",
        "scheduled too-large",
    ];
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
