//! A record as it is kept: what of an object is written, and what of it has to be as it was.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use regex::{Captures, Regex};
use serde_json::{Value, json};

/// The newest time of each record.
const NEWEST: &str = "2026-03-01T11:50:00Z";

/// What predicates read of an object, without what is another each time.
pub fn shape(object: &Value) -> Value {
    let status = &object["status"];
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let conditions: BTreeMap<_, _> = list(&status["conditions"])
        .iter()
        .map(|it| {
            (it["type"].to_string(), json!([it["status"], reason(it), it["lastTransitionTime"].is_null()]))
        })
        .collect();
    let states = |state: &Value| -> Vec<Value> {
        let states = state.as_object().into_iter().flatten();
        states.map(|(name, of)| json!([name, of["reason"], of["finishedAt"].is_null()])).collect()
    };
    let containers: Vec<_> = list(&status["containerStatuses"])
        .iter()
        .map(|it| {
            json!([it["restartCount"].as_u64() > Some(0), states(&it["state"]), states(&it["lastState"])])
        })
        .collect();
    let counts: BTreeMap<_, _> = status
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, it)| *name != "observedGeneration" && it.is_number())
        .collect();
    json!({"kind": object["kind"], "phase": status["phase"], "conditions": conditions, "containers": containers, "counts": counts,
        "seen": status["observedGeneration"] == object["metadata"]["generation"]})
}

/// The reason of a condition. Which of two the controller gives for a rollout that goes on depends on whether it has seen the
/// new `ReplicaSet` before its Pods; no predicate reads it.
fn reason(condition: &Value) -> &Value {
    const UNDER_WAY: [&str; 2] = ["NewReplicaSetCreated", "ReplicaSetUpdated"];
    let reason = &condition["reason"];
    if reason.as_str().is_some_and(|it| UNDER_WAY.contains(&it)) { &Value::Null } else { reason }
}

/// The text of a record. Times are moved so that the newest is [`NEWEST`]; what says where and in which run it was recorded,
/// and what no predicate reads of a spec, is left out.
pub fn written(object: &Value, version: &str) -> String {
    let mut object = object.clone();
    keep(
        &mut object["metadata"],
        &["name", "namespace", "labels", "annotations", "generation", "creationTimestamp"],
    );
    if let Some(annotations) = object["metadata"].get_mut("annotations") {
        keep(annotations, &["deployment.kubernetes.io/revision"]);
    }
    object["metadata"].as_object_mut().unwrap().retain(|_, value| *value != json!({}));
    if object["kind"] == "Node" {
        keep(&mut object["status"], &["conditions"]);
        keep(&mut object["spec"], &["taints"]);
    } else {
        trim(&mut object["spec"]);
        if let Some(template) = object.pointer_mut("/spec/template/spec") {
            trim(template);
        }
    }
    format!(
        "# What scheduler, kubelet and controllers of Kubernetes {version} said on the node of `real_node::predicates`, which writes it\n\
         # with UPDATE_EXPECT=1. Times are moved; identities and most of the spec are left out.\n{}",
        normalized(&serde_saphyr::to_string(&object).unwrap())
    )
}

/// The spec of a Pod, if that is what this is.
fn trim(spec: &mut Value) {
    let Some(containers) = spec.get_mut("containers").and_then(Value::as_array_mut) else { return };
    for container in containers {
        keep(container, &["name", "image", "resources"]);
    }
    keep(spec, &["containers", "nodeName", "restartPolicy", "schedulingGates"]);
}

fn keep(object: &mut Value, names: &[&str]) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| names.contains(&name.as_str()));
    }
}

fn normalized(text: &str) -> String {
    let identities =
        Regex::new(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}").unwrap();
    let text = identities.replace_all(text, "0123456789ab");
    let times = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)").unwrap();
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let newest = times.find_iter(&text).map(|found| time(found.as_str())).max().unwrap();
    let later = newest.duration_until(time(NEWEST));
    times.replace_all(&text, |found: &Captures<'_>| (time(&found[0]) + later).to_string()).into_owned()
}
