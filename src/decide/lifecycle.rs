//! Lifecycle: a resource Rule that names moments of objects' lives is about their creation or deletion, not about how they
//! are. Such a moment is an event: it is decided once, by the object's UID, and is not looked at again.
//!
//! Of an object that is gone there is nothing left but what was seen of it. What is read of that goes into the decision.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::aim::Aim;
use super::episode::KEPT;
use super::excerpt::excerpt;
use super::matching::CompiledRule;
use crate::api::{AnyValue, Decision, Moment, ObjectReference, RuleSpec, Target, TriggerEvent};
use crate::expr::{Bindings, EvalError};

/// What expressions see of `event`: the object is a variable of its own.
pub const FIELDS: [&str; 4] = ["id", "source", "type", "time"];

/// Whether the target of what a Rule is about is, or may be, an object that is gone by then.
pub fn has_lost_target(spec: &RuleSpec) -> bool {
    let kind = spec.trigger.resource.as_ref().map_or("", |resource| resource.kind.as_str());
    let is_object = match &spec.target {
        Some(target) => *target == Target::Object,
        None => kind != "Pod",
    };
    is_object && spec.trigger.lifecycle().contains(&Moment::Deleted)
}

/// Whether a decision is about an object that is gone and is the target itself: whatever has its name by now is another.
pub fn is_lost(decision: &Decision, target: &ObjectReference) -> bool {
    let is_deletion = |event: &TriggerEvent| event.event_type == name(Moment::Deleted);
    decision.matched.object == *target && decision.event.as_ref().is_some_and(is_deletion)
}

/// When an object was created at the earliest: the API server has it in whole seconds.
pub fn created(object: &Value) -> Option<Timestamp> {
    object.pointer("/metadata/creationTimestamp").and_then(Value::as_str)?.parse().ok()
}

/// By when an object had been created. What is told of it later, or in a list, gives the same.
pub fn created_by(object: &Value, now: Timestamp) -> Timestamp {
    let by = created(object).map(|created| created.saturating_add(KEPT).unwrap_or(Timestamp::MAX));
    by.map_or(now, |by| by.min(now))
}

/// As of when something that has happened to an object is decided about. A creation is known to the second, and counts from its
/// beginning, whenever it is told: what stood in its way must not be over for whoever is told of it later.
pub fn as_of(rule: &CompiledRule, object: &Value, event: &TriggerEvent) -> Timestamp {
    let by = event.time.0;
    let created = created(object).filter(|_| event.event_type == name(Moment::Created));
    let is_kept = |created: &Timestamp| by.duration_since(*created) <= KEPT;
    created.filter(is_kept).map_or(by, |created| created.max(rule.created_at).min(by))
}

/// What expressions see of a moment.
pub(super) fn with_moment(bindings: Bindings, event: &Value) -> Bindings {
    let fields = FIELDS.map(|field| (field.to_owned(), event[field].clone()));
    bindings
        .with("object", event["data"]["object"].clone())
        .with("event", Value::Object(fields.into_iter().collect()))
}

/// A moment as the type of an event.
const fn name(moment: Moment) -> &'static str {
    match moment {
        Moment::Created => "Created",
        Moment::Deleted => "Deleted",
        Moment::Unknown => "",
    }
}

impl CompiledRule {
    /// Whether it is about moments of objects' lives.
    pub fn is_about_lifecycle(&self) -> bool {
        !self.spec.trigger.lifecycle().is_empty()
    }

    /// Whether it is about a moment of objects' lives.
    pub fn is_about(&self, moment: Moment) -> bool {
        self.spec.trigger.lifecycle().contains(&moment)
    }

    /// Whether a moment of an object's life matches, given what is known of the object.
    ///
    /// # Errors
    /// Why `when` cannot be evaluated.
    pub fn matches_moment(
        &self,
        object: &Arc<Value>,
        event: &TriggerEvent,
        now: Timestamp,
    ) -> Result<bool, EvalError> {
        if !self.selects(object) {
            return Ok(false);
        }
        let Some(when) = self.when() else { return Ok(true) };
        when.matches(&with_moment(Bindings::at(now), &json!(event)).with("object", object.clone()))
    }

    /// A moment of an object's life as an event, with what is read of the object.
    pub fn moment(&self, object: &Value, moment: Moment, time: Timestamp) -> TriggerEvent {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        TriggerEvent {
            id: format!("{}/{}", text("/metadata/uid"), name(moment)),
            source: format!("{}/{}", text("/apiVersion"), text("/kind")),
            event_type: name(moment).to_owned(),
            time: MicroTime(time),
            data: AnyValue(json!({"object": excerpt(object, "object", self.over_change())})),
        }
    }

    /// What has to be kept of an object to know, when it is gone, whether that matches and where it leads.
    pub fn last(&self, object: &Value) -> Value {
        let aim = self.aim.iter().flat_map(Aim::expressions);
        excerpt(object, "object", self.over_change().chain(aim).chain(self.members()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(changes: Value) -> CompiledRule {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}],
            "trigger": {"resource": {"apiVersion": "example.com/v1", "kind": "Boat", "lifecycle": ["Created", "Deleted"],
                "labelSelector": {"matchLabels": {"kind": "raft"}}}}});
        json_patch::merge(&mut spec, &changes);
        let spec = serde_json::from_value(spec).expect("a spec");
        let rule = CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH);
        rule.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn boat(kind: &str, crew: u32) -> Arc<Value> {
        Arc::new(json!({"apiVersion": "example.com/v1", "kind": "Boat",
            "metadata": {"name": "ark", "uid": "u", "labels": {"kind": kind}, "creationTimestamp": "2026-01-01T00:00:07Z"},
            "spec": {"crew": crew, "pier": "north", "secret": "x"}}))
    }

    fn matches(rule: &CompiledRule, object: &Arc<Value>, moment: Moment) -> bool {
        let now = Timestamp::UNIX_EPOCH;
        rule.matches_moment(object, &rule.moment(object, moment, now), now).expect("evaluates")
    }

    #[test]
    fn a_moment_matches_by_labels_condition_and_what_happened() {
        use Moment::{Created, Deleted};
        for (when, kind, crew, moment, expected) in [
            (Value::Null, "raft", 3, Created, true),
            (Value::Null, "raft", 3, Deleted, true),
            (Value::Null, "ship", 3, Deleted, false),
            (json!("object.spec.crew > 2"), "raft", 3, Created, true),
            (json!("object.spec.crew > 2"), "raft", 2, Created, false),
            (json!("event.type == 'Deleted'"), "raft", 3, Deleted, true),
            (json!("event.type == 'Deleted'"), "raft", 3, Created, false),
        ] {
            let rule = rule(json!({"when": when}));
            assert_eq!(
                matches(&rule, &boat(kind, crew), moment),
                expected,
                "{when} {kind} {crew} {moment:?}"
            );
        }
    }

    #[test]
    fn it_is_no_state_and_has_its_own_variables() {
        let spec = rule(json!({})).spec;
        assert!(!spec.trigger.is_state() && !crate::decide::change::is_state(&spec));
        let hears_of = crate::decide::index::conditions(&rule(json!({"when": "object.kind == 'Boat'"})));
        assert!(hears_of.is_empty(), "what it does not hear of would seem to be gone: {hears_of:?}");
        let mut spec = json!(spec);
        spec["when"] = json!("object.a != oldObject.a");
        let refused =
            CompiledRule::of(&serde_json::from_value(spec).expect("a spec"), "a", "r", Timestamp::UNIX_EPOCH);
        let problems = refused.err().expect("refused");
        assert!(problems[0].message.starts_with("unknown variable \"oldObject\""), "{problems:?}");
    }

    #[test]
    fn of_a_moment_is_kept_what_is_read_and_no_more() {
        let with = json!([{"run": "x", "with": {"crew": "${{ object.spec.crew }}"}}]);
        let target = json!({"key": "object.spec.pier"});
        let rule = rule(json!({"when": "object.spec.crew > 2", "ladder": with, "target": target}));
        let event = rule.moment(&boat("raft", 3), Moment::Deleted, Timestamp::UNIX_EPOCH);
        assert_eq!((event.id.as_str(), event.source.as_str()), ("u/Deleted", "example.com/v1/Boat"));
        assert_eq!(event.data.0["object"]["spec"], json!({"crew": 3}));
        assert_eq!(
            rule.last(&boat("raft", 3))["spec"],
            json!({"crew": 3, "pier": "north"}),
            "to find the target, too"
        );
        let at =
            |second: u32| -> Timestamp { format!("2026-01-01T00:00:{second:02}Z").parse().expect("a time") };
        assert_eq!(created(&boat("raft", 3)), Some(at(7)));
        assert_eq!([7, 8, 30].map(|now| created_by(&boat("raft", 3), at(now))), [at(7), at(8), at(8)]);
    }

    #[test]
    fn a_creation_is_decided_about_as_of_the_same_moment_whenever_it_is_told() {
        let at = |millisecond| Timestamp::from_millisecond(millisecond).expect("a time");
        let boat = json!({"metadata": {"uid": "u", "creationTimestamp": at(20_000).to_string()}});
        let mut rule = rule(json!({}));
        let mut as_of = |created_at, moment, time| {
            rule.created_at = at(created_at);
            super::as_of(&rule, &boat, &rule.moment(&boat, moment, at(time)))
        };
        for (rule, moment, time, expected) in [
            (0, Moment::Created, 20_300, 20_000),
            (0, Moment::Created, 21_000, 20_000),
            // Not before the rule, nor before what it has taken the place of.
            (20_200, Moment::Created, 20_300, 20_200),
            (0, Moment::Created, 29_000, 29_000),
            (0, Moment::Deleted, 20_300, 20_300),
        ] {
            assert_eq!(as_of(rule, moment, time), at(expected), "{rule} {moment:?} {time}");
        }
    }

    #[test]
    fn a_target_is_lost_if_it_is_what_was_deleted() {
        let kind = |kind: &str, lifecycle: &[&str], target: Value| {
            let resource =
                json!({"apiVersion": "v1", "kind": kind, "lifecycle": lifecycle, "labelSelector": null});
            has_lost_target(&rule(json!({"trigger": {"resource": resource}, "target": target})).spec)
        };
        for (of, lifecycle, target, expected) in [
            ("ConfigMap", &["Deleted"][..], Value::Null, true),
            ("ConfigMap", &["Created", "Deleted"], Value::Null, true),
            ("ConfigMap", &["Created"], Value::Null, false),
            ("ConfigMap", &["Deleted"], json!({"key": "object.metadata.name"}), false),
            ("Pod", &["Deleted"], Value::Null, false),
            ("Pod", &["Deleted"], json!("object"), true),
            ("Pod", &["Deleted"], json!("workload"), false),
        ] {
            assert_eq!(kind(of, lifecycle, target.clone()), expected, "{of} {lifecycle:?} {target}");
        }
    }
}
