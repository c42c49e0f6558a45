//! Pods crash on nodes that have just come back: nobody is told, unless it goes on.

use fother::api::Rule;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::stage::{Place, Stage, alert};
use crate::webhooks::stage::at;

pub const PACK: (&str, &str) = ("node-restart", "oncall");

fn crash_looping(pod: &str, node: &str, starts: &str, ends: Option<&str>) -> Value {
    alert("KubePodCrashLooping", pod, json!({"namespace": "shop", "pod": pod, "node": node}), (starts, ends))
}

/// A node whose Ready has this status since so many seconds.
pub async fn node(stage: &Stage, name: &str, ready: &str, seconds: i64) {
    stage.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
    let since = at(-seconds);
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready, "reason": "KubeletReady",
        "message": "", "lastHeartbeatTime": since, "lastTransitionTime": since}]}});
    let nodes: Api<Node> = Api::all(stage.admin.clone());
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

pub async fn a_crash_loop_on_a_node_that_came_back_is_told_only_if_it_goes_on(place: &Place) {
    let stage = Stage::of(place, PACK, json!({}), |_| {}).await;
    node(&stage, "worker-7", "True", 60).await;
    let starts = at(-5);
    stage.told_twice(&crash_looping("web-1", "worker-7", &starts, None)).await;
    stage.came_to("web-1", &["node-restart Held Unless NodeRestarted"]).await;
    stage.holds(&[("worker-7", "Unless")]).await;
    stage.explained("NodeRestarted").await;
    assert_eq!(stage.executions().await.len(), 0);
    // Ten minutes later.
    node(&stage, "worker-7", "True", 601).await;
    let found = stage.ended(&["Completed"]).await;
    let told = found[0].status.as_ref().unwrap().rungs[0].outputs.to_value();
    assert_eq!(told, json!({"told": "shop/web-1 crash-loops on worker-7"}));
    stage.holds(&[]).await;
    stage.came_to("web-1", &["node-restart Fired"]).await;
    stage.told_twice(&crash_looping("web-1", "worker-7", &starts, Some(&at(0)))).await;
    stage.closed().await;
    assert_eq!(stage.executions().await.len(), 1);
}

/// The ten minutes of the pack, in seconds.
const SPAN: i64 = 30;

fn quicker(rule: &mut Rule) {
    let text = json!(rule.spec).to_string().replace("duration('10m')", &format!("duration('{SPAN}s')"));
    rule.spec = serde_json::from_str(&text).unwrap();
}

/// Nobody touches the node, and the alert does not come again: time alone lets the Rule act.
pub async fn a_crash_loop_is_told_when_the_span_has_passed_and_nothing_else_happens(place: &Place) {
    let stage = Stage::of(place, PACK, json!({}), quicker).await;
    node(&stage, "worker-6", "True", 0).await;
    let nodes: Api<Node> = Api::all(stage.admin.clone());
    let before = nodes.get("worker-6").await.unwrap();
    stage.told_twice(&crash_looping("web-1", "worker-6", &at(-5), None)).await;
    stage.came_to("web-1", &["node-restart Held Unless NodeRestarted"]).await;
    let found = stage.ended(&["Completed"]).await;
    assert_eq!(nodes.get("worker-6").await.unwrap().status, before.status);
    let since: Timestamp =
        json!(before)["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap().parse().unwrap();
    let waited = found[0].metadata.creation_timestamp.as_ref().unwrap().0.duration_since(since);
    // An object's creation is told to the second.
    assert!(waited > SignedDuration::from_secs(SPAN - 1), "{waited:?}");
    stage.came_to("web-1", &["node-restart Fired"]).await;
    stage.holds(&[]).await;
}

pub async fn a_crash_loop_that_ends_with_the_restart_is_told_to_nobody(place: &Place) {
    let stage = Stage::of(place, PACK, json!({}), |_| {}).await;
    node(&stage, "worker-8", "False", 30).await;
    let starts = at(-5);
    stage.told_twice(&crash_looping("web-2", "worker-8", &starts, None)).await;
    stage.came_to("web-2", &["node-restart Held Unless NodeNotReady"]).await;
    node(&stage, "worker-8", "True", 1).await;
    stage.came_to("web-2", &["node-restart Held Unless NodeRestarted"]).await;
    stage.told_twice(&crash_looping("web-2", "worker-8", &starts, Some(&at(0)))).await;
    stage.holds(&[]).await;
    node(&stage, "worker-8", "True", 601).await;
    let mut nowhere = crash_looping("web-4", "", &starts, None);
    nowhere["labels"].as_object_mut().unwrap().remove("node");
    stage.told_twice(&nowhere).await;
    stage.came_to("web-4", &["node-restart Failed target.ref.name: alert.labels.node is absent"]).await;
    // What comes next is decided, and this has led to nothing.
    node(&stage, "worker-9", "True", 3600).await;
    stage.told_twice(&crash_looping("web-3", "worker-9", &at(-5), None)).await;
    let found = stage.ended(&["Completed"]).await;
    assert_eq!(found[0].spec.target.as_ref().unwrap().name, "worker-9");
}
