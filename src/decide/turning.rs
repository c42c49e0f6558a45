//! When time alone can change what a rule says of an object or of an alert: it is looked at again then, and not before.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::excerpt::excerpt;
use super::matching::{CompiledRule, received};
use crate::api::TriggerEvent;
use crate::expr::{Bindings, NextChange};

/// How long it takes until it is asked again where the moment cannot be foreseen.
pub const UNFORESEEN: SignedDuration = SignedDuration::from_secs(60);

impl CompiledRule {
    /// When it may say something else of an object; none if it will not before the object changes.
    pub fn object_turns(&self, object: &Arc<Value>, now: Timestamp) -> Option<Timestamp> {
        let bindings = Bindings::at(now).with("object", object.clone());
        let asked = std::iter::once(self.when_of(object)?).chain(self.members());
        let turning = asked.filter(|expression| expression.reads_now());
        turning.filter_map(|expression| moment(expression.next_change(&bindings), now)).min()
    }

    /// When it may say something else of what a Webhook received.
    pub fn received_turns(&self, event: &TriggerEvent, now: Timestamp) -> Option<Timestamp> {
        let when = self.when().filter(|when| when.reads_now())?;
        moment(when.next_change(&received(&json!(event), &self.spec.trigger, now)), now)
    }

    /// What has to be kept of an object so that it can be judged, and led to its target, without asking for it.
    pub fn excerpt(&self, object: &Value) -> Value {
        excerpt(object, "object", self.over_object())
    }
}

fn moment(change: NextChange, now: Timestamp) -> Option<Timestamp> {
    let asked = now.saturating_add(UNFORESEEN).ok().filter(|_| change.unforeseen);
    change.at.into_iter().chain(asked).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: &str) -> CompiledRule {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": when,
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod",
                "labelSelector": {"matchLabels": {"tier": "web"}}}}});
        CompiledRule::of(&serde_json::from_value(spec).expect("a spec"), "a", "r", Timestamp::UNIX_EPOCH)
            .expect("compiles")
    }

    fn pod(tier: &str, phase: &str) -> Arc<Value> {
        Arc::new(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "x"}]},
            "metadata": {"name": "p", "labels": {"tier": tier}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": phase, "hostIP": "10.0.0.1"}}))
    }

    /// `when`, and the second after the creation of the Pod from which on another answer is possible.
    #[test]
    fn each_object_has_its_moment_or_none() {
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let old = "now - timestamp(object.metadata.creationTimestamp) > duration('1h')";
        for (when, tier, phase, age, expected) in [
            (old.to_owned(), "web", "Pending", 0, Some(3600)),
            (old.to_owned(), "web", "Pending", 3600, Some(3600)),
            (old.to_owned(), "web", "Pending", 3601, None),
            (old.to_owned(), "db", "Pending", 0, None),
            (format!("object.status.phase == 'Pending' && {old}"), "web", "Pending", 0, Some(3600)),
            (format!("object.status.phase == 'Pending' && {old}"), "web", "Running", 0, None),
            ("!rolledOutWithin(object, duration('15m'))".to_owned(), "web", "Pending", 0, Some(900)),
            ("now.getHours() > 8".to_owned(), "web", "Pending", 7, Some(67)),
            (format!("now.getHours() > 8 || {old}"), "web", "Pending", 3590, Some(3600)),
            ("object.status.phase == 'Pending'".to_owned(), "web", "Pending", 0, None),
        ] {
            let now = created + SignedDuration::from_secs(age);
            let found = rule(&when).object_turns(&pod(tier, phase), now);
            assert_eq!(found.map(|at| at.duration_since(created).as_secs()), expected, "{when} at {age}");
        }
    }

    #[test]
    fn what_is_kept_of_an_object_is_judged_like_the_whole() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().expect("a time");
        for when in [
            "now - timestamp(object.metadata.creationTimestamp) > duration('1h')",
            "crashLooping(object, 0, duration('10m')) || object.status.phase == 'Pending'",
            "has(object.status.message) || size(object.spec.containers) == 1",
            "object.status.message == 'x'",
            "object.status.phase.x == 'x'",
            "size(object) == 5",
        ] {
            let (rule, whole) = (rule(when), pod("web", "Pending"));
            let kept = Arc::new(rule.excerpt(&whole));
            assert_eq!(rule.matches_object(&kept, now), rule.matches_object(&whole, now), "{when}");
        }
        let kept = rule("object.status.phase == 'x'").excerpt(&pod("web", "Pending"));
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Pending"},
            "metadata": {"name": "p", "labels": {"tier": "web"}}});
        assert_eq!(kept, expected);
    }
}
