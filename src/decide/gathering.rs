//! Objects that mean something only together: which of those that match and lead to one target complete a Rule's
//! `correlate`.
//!
//! An object counts from the time since which it has been wrong, which the Rule's `since` reads from it, and as long as it
//! matches. So all of this follows from what is: nothing has to be remembered, and another leader finds the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::capture::Correlation;
use super::correlation::Captured;
use super::view::{Match, ObjectKey};
use crate::api::{AnyValue, CapturedEvent, MatchedObject, ObjectReference};

/// Of an absence, the member after which another should have come.
const AFTER: usize = 0;
/// Of an absence, the member that should have come.
const EXPECTED: usize = 1;
/// What is kept of an object's labels, at the most, in bytes: a hundred objects fit into an Execution.
const LABELS_LIMIT: usize = 1024;

/// What an object is in the pattern of a Rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// What it belongs together with: the value of `groupBy`.
    pub group: String,
    /// The members of the pattern that it is one of, by their place.
    pub members: Vec<usize>,
}

/// An object of a pattern that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathered {
    /// What `captured` calls it.
    pub member: Option<String>,
    /// The object.
    pub object: MatchedObject,
    /// Since when it has been wrong.
    pub since: Timestamp,
}

/// A pattern that is complete, or will be if nothing happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Together {
    /// From when on it is complete: of an absence, when what is expected is given up.
    pub since: Timestamp,
    /// The objects that make it, by the time since which they have been wrong; at least one.
    pub objects: Vec<Gathered>,
}

impl Correlation {
    /// The objects that are together, of those that match and lead to one target; of several sets the newest.
    pub fn together<'m>(
        &self,
        matches: impl Iterator<Item = (&'m ObjectKey, &'m Match)>,
    ) -> Option<Together> {
        let by_id: BTreeMap<String, &Match> =
            matches.map(|((namespace, name), found)| (format!("{namespace}/{name}"), found)).collect();
        let captured: Vec<_> = by_id.iter().filter_map(|(id, found)| capture(id, found)).collect();
        let (since, found) = match self.is_absence() {
            true => self.left_alone(&captured)?,
            false => self.newest(captured)?,
        };
        let gather = |(place, captured): (usize, Captured)| {
            let object = by_id.get(&captured.id)?.object.clone();
            Some(Gathered { member: self.member(place).map(str::to_owned), object, since: captured.time })
        };
        Some(Together { since, objects: found.into_iter().filter_map(gather).collect() })
    }

    /// The set that was complete last.
    fn newest(&self, captured: Vec<Captured>) -> Option<(Timestamp, Vec<(usize, Captured)>)> {
        let mut windows = self.windows();
        for one in captured {
            windows.take(one);
        }
        let found = windows.found(Timestamp::MAX);
        let newest = found.into_iter().max_by(|a, b| (a.time, &a.group).cmp(&(b.time, &b.group)))?;
        Some((newest.time, newest.events))
    }

    /// The object that waits the longest in a group that has nothing of what is expected.
    fn left_alone(&self, captured: &[Captured]) -> Option<(Timestamp, Vec<(usize, Captured)>)> {
        let has_come = |group: &str| captured.iter().any(|one| one.group == group && is(one, EXPECTED));
        let waiting = captured.iter().filter(|one| is(one, AFTER) && !has_come(&one.group));
        let first = waiting.min_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)))?;
        let until = first.time.saturating_add(self.within()).unwrap_or(Timestamp::MAX);
        Some((until, vec![(AFTER, first.clone())]))
    }
}

fn is(captured: &Captured, member: usize) -> bool {
    captured.members.contains(&member)
}

fn capture(id: &str, found: &Match) -> Option<Captured> {
    let (part, time) = (found.part.as_ref()?, found.since?);
    Some(Captured {
        id: id.to_owned(),
        time,
        lasts: (time, Timestamp::MAX),
        group: part.group.clone(),
        members: part.members.clone(),
        data: Arc::new(Value::Null),
        size: 0,
    })
}

/// What a decision records of an object of a pattern: what it is known by.
pub fn record(gathered: &Gathered, object: &Value) -> CapturedEvent {
    let reference = &gathered.object.object;
    CapturedEvent {
        id: reference.uid.clone().unwrap_or_else(|| reference.name.clone()),
        member: gathered.member.clone(),
        event_type: reference.kind.clone(),
        time: Time(gathered.since),
        data: AnyValue(known_by(reference, object)),
        left_out: Vec::new(),
    }
}

/// What an object is known by, with its labels.
pub fn known_by(reference: &ObjectReference, object: &Value) -> Value {
    let mut metadata =
        json!({"name": reference.name, "namespace": reference.namespace, "uid": reference.uid});
    let labels = object.pointer("/metadata/labels").filter(|all| all.to_string().len() <= LABELS_LIMIT);
    if let Some(labels) = labels {
        metadata["labels"] = labels.clone();
    }
    json!({"apiVersion": reference.api_version, "kind": reference.kind, "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::api::Correlate;
    use crate::expr::{Bindings, Scope};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn correlation(spec: Value) -> Correlation {
        let spec: Correlate = serde_json::from_value(spec).expect("a pattern");
        Correlation::compile(&spec, &Scope::of(["object"])).expect("compiles")
    }

    /// An object `a12` of group `n1`, wrong since second 12.
    fn object(correlation: &Correlation, text: &str, group: &str) -> (ObjectKey, Match) {
        let since = at(text[1..].parse().expect("a second"));
        let data = Arc::new(json!({"is": &text[..1], "node": group}));
        let part = correlation.part(&Bindings::at(at(0)).with("object", data)).expect("evaluates");
        let reference = ObjectReference { kind: "Pod".into(), name: text.into(), ..Default::default() };
        let object = MatchedObject { object: reference, resource_version: "1".into() };
        let target = ObjectReference::key("a", group.to_owned());
        (("a".into(), format!("{text}-{group}")), Match { object, target, since: Some(since), part })
    }

    /// When the objects of one target are together, and their names.
    fn together(spec: Value, objects: &[(&str, &str)]) -> Option<(i64, String)> {
        let correlation = correlation(spec);
        let objects: Vec<_> = objects.iter().map(|(text, group)| object(&correlation, text, group)).collect();
        let found = correlation.together(objects.iter().map(|(key, found)| (key, found)))?;
        let names: Vec<_> = found.objects.iter().map(|one| one.object.object.name.as_str()).collect();
        Some((found.since.as_second(), names.join(" ")))
    }

    fn of_one_node<'t>(texts: &'t [&'t str]) -> Vec<(&'t str, &'t str)> {
        texts.iter().map(|text| (*text, "n1")).collect()
    }

    fn members(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({"name": name, "when": format!("object.is == '{name}'")})).collect()
    }

    #[test]
    fn objects_are_together_by_the_times_since_which_they_are_wrong() {
        let count = json!({"within": "10s", "count": 3});
        for (objects, expected) in [
            (vec!["a1", "a2"], None),
            (vec!["a1", "a2", "a9"], Some((9, "a1 a2 a9"))),
            (vec!["a1", "a2", "a12"], None),
            (vec!["a1", "a2", "a3", "a20", "a21", "a22"], Some((22, "a20 a21 a22"))),
        ] {
            let expected = expected.map(|(since, names): (i64, &str)| (since, names.to_owned()));
            assert_eq!(together(count.clone(), &of_one_node(&objects)), expected, "{objects:?}");
        }
    }

    #[test]
    fn groups_do_not_mix() {
        let count = json!({"groupBy": "object.node", "within": "10s", "count": 2});
        assert_eq!(together(count.clone(), &[("a1", "n1"), ("a2", "n2")]), None);
        let found = together(count, &[("a1", "n1"), ("a2", "n2"), ("a3", "n1")]);
        assert_eq!(found, Some((3, "a1 a3".to_owned())));
    }

    #[test]
    fn members_are_told_by_their_conditions() {
        let all = json!({"within": "10s", "all": members(&["a", "b"])});
        let sequence = json!({"within": "10s", "sequence": members(&["a", "b"])});
        for (objects, of_all, of_sequence) in [
            (["a1", "b2"], true, true),
            (["b1", "a2"], true, false),
            (["a1", "b12"], false, false),
            (["a1", "c2"], false, false),
        ] {
            let objects = of_one_node(&objects);
            assert_eq!(together(all.clone(), &objects).is_some(), of_all, "{objects:?}");
            assert_eq!(together(sequence.clone(), &objects).is_some(), of_sequence, "{objects:?}");
        }
    }

    #[test]
    fn what_is_expected_is_given_up_after_the_window_unless_it_is_there() {
        let [after, expected] = members(&["a", "b"]).try_into().expect("two");
        let absent = json!({"groupBy": "object.node", "within": "10s",
            "absent": {"after": after, "expected": expected}});
        assert_eq!(together(absent.clone(), &[("a5", "n1"), ("a1", "n1")]), Some((11, "a1".to_owned())));
        assert_eq!(together(absent.clone(), &[("a1", "n1"), ("b90", "n1")]), None);
        assert_eq!(together(absent, &[("a1", "n1"), ("b2", "n2")]), Some((11, "a1".to_owned())));
    }

    #[test]
    fn an_object_is_recorded_by_what_it_is_known_by() {
        let uid = Some("u".to_owned());
        let reference = ObjectReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: Some("a".into()),
            name: "p".into(),
            uid,
        };
        let object = MatchedObject { object: reference, resource_version: "1".into() };
        let gathered = Gathered { member: Some("down".to_owned()), object, since: at(7) };
        let long = "x".repeat(LABELS_LIMIT);
        for (labels, kept) in [(json!({"app": "web"}), true), (json!({"app": long}), false)] {
            let recorded = record(&gathered, &json!({"metadata": {"labels": labels}, "spec": {}}));
            assert_eq!((recorded.id.as_str(), recorded.event_type.as_str()), ("u", "Pod"));
            assert_eq!(recorded.data.0.pointer("/metadata/name"), Some(&json!("p")));
            assert_eq!(recorded.data.0.pointer("/metadata/labels"), kept.then_some(&labels));
            assert_eq!(recorded.data.0.get("spec"), None);
        }
    }
}
