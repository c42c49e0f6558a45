//! Objects that really come into the states that predicates are about: `records` says how each is known.

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::harbor::{Harbor, restricted};
use crate::support::wait::{DEADLINE, eventually};

const IMAGE: &str = "docker.io/library/debian:12-slim";
const NODE: &str = "node-1";
/// Those that begin a rollout which does not end.
const ROLLING: [(&str, &str); 4] = [
    ("Deployment", "rolling"),
    ("Deployment", "stalled"),
    ("StatefulSet", "stateful-set-rolling"),
    ("DaemonSet", "daemon-set-rolling"),
];

/// The container of a Pod that would be well, and the Pod, changed.
fn pod(container: Value, pod: Value) -> Value {
    let mut main = json!({"name": "main", "image": IMAGE, "command": ["sleep", "infinity"]});
    json_patch::merge(&mut main, &container);
    let mut spec = json!({"containers": [main], "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false});
    json_patch::merge(&mut spec, &pod);
    restricted(spec)
}

/// Ends in this way the first time that it runs, and goes on the second time.
fn once(ends: &str) -> Value {
    let script = format!("[ ! -e /kept/ran ] || exec sleep infinity; touch /kept/ran; {ends}");
    let container = json!({"command": ["sh", "-c", script], "volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
        "resources": memory()});
    pod(container, json!({"volumes": [{"name": "kept", "emptyDir": {}}]}))
}

fn memory() -> Value {
    json!({"limits": {"memory": "32Mi"}})
}

/// Nobody listens there.
fn deaf() -> Value {
    json!({"readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}})
}

fn object(kind: (&str, &str), name: &str, spec: &Value) -> Value {
    json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": name}, "spec": spec})
}

fn pods() -> Vec<Value> {
    let never = || json!({"restartPolicy": "Never"});
    let absent = json!({"image": "127.0.0.1:1/absent:1"});
    let too_large = json!({"resources": {"requests": {"cpu": "64"}}});
    let eats = json!({"command": ["tail", "/dev/zero"], "resources": memory()});
    let sick = [
        ("image-pull", pod(absent, json!({}))),
        ("unschedulable", pod(too_large, json!({}))),
        ("not-ready", pod(deaf(), json!({}))),
    ];
    let others = [
        ("crash-looping", pod(json!({"command": ["false"]}), json!({}))),
        ("restarted-once", once("exit 1")),
        ("oom-killed", pod(eats, never())),
        ("oom-restarted", once("exec tail /dev/zero")),
        ("gated", pod(json!({}), json!({"schedulingGates": [{"name": "example.com/quota"}]}))),
        ("completed", pod(json!({"command": ["true"]}), never())),
    ];
    let sick = sick.map(|(name, spec)| {
        let mut pod = object(("v1", "Pod"), name, &spec);
        pod["metadata"]["labels"] = json!({"sick": "true"});
        pod
    });
    sick.into_iter().chain(others.map(|(name, spec)| object(("v1", "Pod"), name, &spec))).collect()
}

/// A workload of one Pod. It stays on the node that is one: tests make up others.
fn workload((kind, name): (&str, &str), container: Value, changes: Value) -> Value {
    let template = pod(container, json!({"nodeSelector": {"kubernetes.io/hostname": NODE}}));
    let mut spec = json!({"selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": template}});
    if kind == "StatefulSet" {
        spec["serviceName"] = "none".into();
    }
    json_patch::merge(&mut spec, &changes);
    let mut workload = object(("apps/v1", kind), name, &spec);
    workload["metadata"]["labels"] = json!({"app": name});
    workload
}

fn workloads() -> Vec<Value> {
    // Its rollout is complete at another second than it was created.
    let later = json!({"minReadySeconds": 3});
    let at_rest = [
        ("Deployment", "rolled-out"),
        ("Deployment", "restarted"),
        ("StatefulSet", "stateful-set"),
        ("DaemonSet", "daemon-set"),
    ];
    at_rest.into_iter().chain(ROLLING).map(|of| workload(of, json!({}), later.clone())).collect()
}

fn jobs() -> [Value; 2] {
    [("complete-job", "true"), ("failed-job", "false")].map(|(name, command)| {
        let template = pod(json!({"command": [command]}), json!({"restartPolicy": "Never"}));
        object(("batch/v1", "Job"), name, &json!({"backoffLimit": 0, "template": {"spec": template}}))
    })
}

/// A node whose kubelet has said once that it is well, as that of the real one does, and never again.
async fn lose_a_node(harbor: &Harbor) {
    let nodes: Api<Node> = Api::all(harbor.client().await);
    let status = json!({"status": {"conditions": nodes.get(NODE).await.unwrap().status.unwrap().conditions}});
    let lost = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "lost-node"}});
    nodes.create(&PostParams::default(), &serde_json::from_value(lost).unwrap()).await.unwrap();
    nodes.patch_status("lost-node", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// Has the kubelet look again at the Pod that crashes: left alone it says for a minute, or until it starts the container
/// again, how the container has ended, and not that it waits.
async fn look_again(harbor: &Harbor, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(harbor.client().await, namespace);
    eventually("the Pod has crashed three times", DEADLINE, || async {
        let pod = pods.get("crash-looping").await.map_err(|error| error.to_string())?;
        let found = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let ended = |it: &ContainerStatus| it.state.as_ref().is_some_and(|state| state.terminated.is_some());
        let again = found.iter().any(|it| it.restart_count >= 2 && ended(it));
        if again { Ok(()) } else { Err(format!("{found:#?}")) }
    })
    .await;
    let seen = json!({"metadata": {"annotations": {"example.com/seen": "thrice"}}});
    pods.patch("crash-looping", &PatchParams::default(), &Patch::Merge(seen)).await.unwrap();
}

/// Creates all of them, and begins what is to go on; the node controllers take a minute to miss a kubelet.
pub async fn enter(harbor: &Harbor, namespace: &str) {
    lose_a_node(harbor).await;
    let here = ["-n", namespace];
    let apply = async |items: Vec<Value>| {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        harbor.kubectl.apply(&list.to_string(), &here).await;
    };
    apply(workloads().into_iter().chain(pods()).chain(jobs()).collect()).await;
    let names = |of: &(&str, &str)| format!("{}/{}", of.0, of.1);
    for workload in ROLLING.iter().chain(&[("Deployment", "restarted")]).map(names) {
        harbor.kubectl.run(&[&here[..], &["rollout", "status", &workload, "--timeout=120s"]].concat()).await;
    }
    harbor.kubectl.run(&[&here[..], &["rollout", "restart", "deployment/restarted"]].concat()).await;
    let impatient =
        |of: (&str, &str)| if of.1 == "stalled" { json!({"progressDeadlineSeconds": 2}) } else { json!({}) };
    apply(ROLLING.map(|of| workload(of, deaf(), impatient(of))).to_vec()).await;
    look_again(harbor, namespace).await;
}
