//! Events are kept once and shown in two forms: core `v1` (involvedObject) and `events.k8s.io` (regarding).

use serde_json::{Value, json};

use super::meta;

/// (core, events.k8s.io) names of the fields that differ.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(
    event: &Value,
    api_version: &str,
    pairs: impl Iterator<Item = (&'static str, &'static str)>,
) -> Value {
    let mut result = event.clone();
    for (from, to) in pairs {
        if let Some(value) = meta::remove(&mut result, from) {
            result[to] = value;
        }
    }
    result["apiVersion"] = api_version.into();
    result
}

/// As `events.k8s.io/v1` shows it.
pub fn to_regarding(event: &Value) -> Value {
    let mut event = rename(event, "events.k8s.io/v1", NAMES.iter().copied());
    fill(&mut event, "deprecatedSource", json!({}));
    event
}

/// What the old form is written with even where nothing was said.
pub fn filled(event: &Value) -> Value {
    let mut event = event.clone();
    fill(&mut event, "source", json!({}));
    fill(&mut event, "reportingComponent", "".into());
    fill(&mut event, "reportingInstance", "".into());
    event
}

fn fill(event: &mut Value, field: &str, value: Value) {
    if event.get(field).is_none() {
        event[field] = value;
    }
}

/// As core `v1` shows it, and as it is kept.
pub fn to_involved(event: &Value) -> Value {
    rename(event, "v1", NAMES.iter().map(|(core, other)| (*other, *core)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m",
            "count": 3, "reason": "R", "reportingComponent": "c"});
        let other = to_regarding(&core);
        assert_eq!((&other["regarding"]["name"], &other["note"]), (&json!("p"), &json!("m")));
        assert_eq!(other["reportingController"], "c");
        assert_eq!(to_involved(&other)["message"], core["message"]);
        assert_eq!(filled(&core)["reportingInstance"], "");
    }
}
