//! Objects as a cluster reports them, for the tests of predicates: each is what `real_node::records` has found on a real node,
//! which says of it whether it still is what is found.

use jiff::Timestamp;
use serde_json::Value;

use super::NOW;

macro_rules! recorded {
    ($($name:ident $file:literal,)*) => {$(
        pub(super) fn $name() -> Value {
            serde_saphyr::from_str(include_str!(concat!("statuses/", $file, ".yaml"))).expect("YAML")
        }
    )*};
}

recorded! {
    crash_looping "crash-looping",
    // The same between two runs: most of the time the kubelet says only how the last one has ended.
    crash_ended "crash-ended",
    restarted_once "restarted-once",
    oom_killed "oom-killed",
    oom_restarted "oom-restarted",
    image_pull "image-pull",
    image_pull_back_off "image-pull-back-off",
    unschedulable "unschedulable",
    gated "gated",
    not_ready "not-ready",
    completed "completed",
    rolled_out "rolled-out",
    restarted "restarted",
    rolling "rolling",
    stalled "stalled",
    stateful_set "stateful-set",
    stateful_set_rolling "stateful-set-rolling",
    daemon_set "daemon-set",
    daemon_set_rolling "daemon-set-rolling",
    complete_job "complete-job",
    failed_job "failed-job",
    node "node-1",
    lost_node "lost-node",
}

/// For how many seconds that has been so.
pub(super) fn seconds_since(time: &Value) -> i64 {
    let time: Timestamp =
        time.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{time}"));
    NOW.parse::<Timestamp>().unwrap().duration_since(time).as_secs()
}

/// The condition of this type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|it| it["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {object:#}"))
}

/// Changes a field of a condition.
pub(super) fn with_condition(mut object: Value, kind: &str, field: &str, value: Value) -> Value {
    let conditions = object["status"]["conditions"].as_array_mut().into_iter().flatten();
    conditions.filter(|it| it["type"] == kind).for_each(|it| it[field] = value.clone());
    object
}

/// Changes fields of an object: `("status.replicas", json!(2))`; null removes the field.
pub(super) fn changed(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let mut at = &mut object;
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            at = match name.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[name],
            };
        }
        if value.is_null() {
            at.as_object_mut().and_then(|fields| fields.remove(last));
        } else {
            at[last] = value.clone();
        }
    }
    object
}
