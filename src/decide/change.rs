//! Changes: a resource Rule whose `when` reads `oldObject` is about what has just happened to an object, not about how it
//! is. Such a change is an event: it is decided once, and is not looked at again.
//!
//! Nobody keeps what an object was. What is read of it is kept in memory for the next change, and what was read of both
//! goes into the decision.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::excerpt::excerpt;
use super::execution::rung;
use super::matching::{CompiledRule, RESOURCE_VARIABLES};
use crate::api::{AnyValue, RuleSpec, TriggerEvent};
use crate::expr::{Bindings, EvalError, Expression, Scope, TemplateTree};

/// The most that may be read of a change, in bytes: it goes into an Execution.
pub const LARGEST: usize = 64 * 1024;

/// The variable that is an object as it was before.
pub const OLD: &str = "oldObject";

/// Whether a Rule is about changes.
pub fn is_about_changes(spec: &RuleSpec) -> bool {
    // Few texts have the word, and those are looked at closely.
    let is_state = spec.trigger.resource.is_some() && spec.trigger.lifecycle().is_empty();
    let when = spec.when.as_deref().filter(|when| is_state && when.contains(OLD));
    let compiled = when.map(|when| Expression::compile(when, &Scope::of(RESOURCE_VARIABLES)));
    compiled.is_some_and(|when| when.is_ok_and(|when| reads_old(&when)))
}

/// Whether what a Rule is about can be looked at again.
pub fn is_state(spec: &RuleSpec) -> bool {
    spec.trigger.is_state() && !is_about_changes(spec)
}

fn reads_old(expression: &Expression) -> bool {
    expression.variables().any(|variable| variable == OLD)
}

/// What the templates of a Rule's rungs read, if it is about what happens to objects.
pub(super) fn templates(spec: &RuleSpec) -> Vec<TemplateTree> {
    let happens = is_about_changes(spec) || !spec.trigger.lifecycle().is_empty();
    let ladder = spec.ladder.iter().filter(|_| happens);
    let scope = Scope::of(rung::VARIABLES);
    ladder.filter_map(|rung| TemplateTree::compile(&rung.with.to_value(), &scope).ok()).collect()
}

/// What expressions see of a change.
pub(super) fn with_change(bindings: Bindings, event: &Value) -> Bindings {
    let data = &event["data"];
    bindings.with("object", data["object"].clone()).with(OLD, data[OLD].clone())
}

impl CompiledRule {
    /// Whether it is about changes.
    pub fn is_about_changes(&self) -> bool {
        self.when().is_some_and(reads_old)
    }

    /// What has to be kept of an object to know at its next change what it was.
    pub fn before(&self, object: &Value) -> Value {
        excerpt(object, OLD, self.over_change())
    }

    /// Whether a change matches, given what was kept of the object.
    pub fn matches_change(
        &self,
        object: &Arc<Value>,
        old: &Arc<Value>,
        now: Timestamp,
    ) -> Result<bool, EvalError> {
        let Some(when) = self.when_of(object) else { return Ok(false) };
        when.matches(&Bindings::at(now).with("object", object.clone()).with(OLD, old.clone()))
    }

    /// A change as an event, with what is read of it.
    pub fn change(&self, object: &Value, old: &Value, now: Timestamp) -> TriggerEvent {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        TriggerEvent {
            id: format!("{}/{}", text("/metadata/uid"), text("/metadata/resourceVersion")),
            source: format!("{}/{}", text("/apiVersion"), text("/kind")),
            event_type: "Changed".to_owned(),
            time: MicroTime(now),
            data: AnyValue(json!({"object": excerpt(object, "object", self.over_change()), OLD: old})),
        }
    }

    /// All its expressions over what has happened to an object, but for where that leads.
    pub(super) fn over_change(&self) -> impl Iterator<Item = &Expression> {
        let templates = self.templates.iter().flat_map(TemplateTree::expressions);
        self.when().into_iter().chain(self.unless.expressions()).chain(templates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(when: &str) -> RuleSpec {
        let with = json!({"from": "${{ oldObject.spec.image }}", "to": "${{ object.spec.image }}"});
        serde_json::from_value(json!({"serviceAccountName": "h", "when": when,
            "ladder": [{"run": "x", "with": with}],
            "trigger": {"resource": {"apiVersion": "example.com/v1", "kind": "Boat"}}}))
        .expect("a spec")
    }

    fn boat(version: &str, crew: u32, image: &str) -> Arc<Value> {
        Arc::new(json!({"apiVersion": "example.com/v1", "kind": "Boat",
            "metadata": {"name": "ark", "uid": "u", "resourceVersion": version},
            "spec": {"crew": crew, "image": image, "secret": "x"}}))
    }

    #[test]
    fn a_rule_is_about_changes_if_its_condition_reads_what_was() {
        for (when, expected) in [
            ("object.spec.crew < oldObject.spec.crew", true),
            ("object.spec.crew < 3", false),
            ("object.spec.note == 'oldObject'", false),
        ] {
            assert_eq!(
                (is_about_changes(&spec(when)), is_state(&spec(when))),
                (expected, !expected),
                "{when}"
            );
        }
    }

    #[test]
    fn of_a_change_is_kept_what_is_read_and_no_more() {
        let rule = CompiledRule::of(
            &spec("object.spec.crew < oldObject.spec.crew"),
            "a",
            "r",
            Timestamp::UNIX_EPOCH,
        )
        .expect("compiles");
        let (before, after) = (boat("1", 3, "old"), boat("2", 2, "new"));
        let old = Arc::new(rule.before(&before));
        assert_eq!(old["spec"], json!({"crew": 3, "image": "old"}));
        assert_eq!(rule.matches_change(&after, &old, Timestamp::UNIX_EPOCH), Ok(true));
        assert_eq!(rule.matches_change(&before, &old, Timestamp::UNIX_EPOCH), Ok(false));

        let event = rule.change(&after, &old, Timestamp::UNIX_EPOCH);
        assert_eq!((event.id.as_str(), event.source.as_str()), ("u/2", "example.com/v1/Boat"));
        assert_eq!(event.data.0["object"]["spec"], json!({"crew": 2, "image": "new"}));
        assert_eq!(event.data.0["oldObject"]["spec"]["crew"], 3);
    }
}
