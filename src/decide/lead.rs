//! Where an event that a Webhook received leads with a rule: to a target, nowhere, or that cannot be said.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::interest::{as_it_fired, wants};
use super::matching::{CompiledRule, received};
use crate::api::{AcceptedEvent, AlertState, ObjectReference, TriggerEvent};
use crate::expr::{EvalError, EvalErrorKind};

/// Where an event leads with a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Lead {
    /// To a target.
    To(ObjectReference),
    /// Nowhere: it does not match.
    Nowhere(String),
    /// That cannot be said.
    Unknown(String),
}

/// Whether an event matches a rule.
///
/// # Errors
/// Where it leads if it does not, or if that cannot be said.
pub fn matches(rule: &CompiledRule, event: &AcceptedEvent, now: Timestamp) -> Result<(), Lead> {
    if !wants(&rule.spec.trigger, &event.event, event.alert.as_ref()) {
        return Err(Lead::Nowhere("the Rule names others by now".to_owned()));
    }
    match rule.matches_received(&event.event, now) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Lead::Nowhere(String::new())),
        Err(error) if error.kind == EvalErrorKind::Absent => Err(Lead::Nowhere(error.to_string())),
        Err(error) => Err(Lead::Unknown(error.to_string())),
    }
}

/// Whether a rule takes what comes, before it is decided about, so that a rule for what no other takes is not for it: it matches, or
/// that cannot be said, or of an alert time alone may bring it about.
pub fn takes(
    rule: &CompiledRule,
    (event, alert): (&TriggerEvent, Option<&AlertState>),
    now: Timestamp,
) -> bool {
    let event = as_it_fired(event, alert);
    let not_absent = |judged: Result<bool, EvalError>| match judged {
        Err(error) => error.kind != EvalErrorKind::Absent,
        Ok(matches) => matches,
    };
    if !wants(&rule.spec.trigger, &event, alert) {
        return false;
    }
    if !not_absent(rule.matches_received(&event, now)) {
        return alert.is_some() && rule.received_turns(&event, now).is_some();
    }
    let Some(correlation) = &rule.correlation else { return true };
    let part = correlation.part(&received(&json!(*event), &rule.spec.trigger, now));
    not_absent(part.map(|part| part.is_some()))
}

/// Where an event leads with a rule; `namespaced` says whether the kind of the rule's targets has namespaces.
pub fn lead(rule: &CompiledRule, event: &AcceptedEvent, namespaced: bool, now: Timestamp) -> Lead {
    matches(rule, event, now).err().unwrap_or_else(|| aimed(rule, event, namespaced, now))
}

/// Where an event would lead with a rule if it matched.
pub fn aimed(rule: &CompiledRule, event: &AcceptedEvent, namespaced: bool, now: Timestamp) -> Lead {
    let Some(aim) = &rule.aim else { return Lead::Unknown("the Rule has no target".to_owned()) };
    let own = &rule.facts.namespace;
    match aim.at(&received(&json!(event.event), &rule.spec.trigger, now), own) {
        Err(problem) => Lead::Unknown(problem),
        Ok(target) if !namespaced => Lead::To(ObjectReference { namespace: None, ..target }),
        Ok(target) => match &target.namespace {
            Some(other) if other != own => Lead::Nowhere(format!("its target is in namespace {other}")),
            _ => Lead::To(ObjectReference { namespace: Some(own.clone()), ..target }),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;
    use serde_json::Value;

    use super::*;

    fn rule(trigger: Value, changes: Value) -> CompiledRule {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": trigger, "target": {"key": "'k'"}});
        json_patch::merge(&mut spec, &changes);
        let spec = serde_json::from_value(spec).expect("a spec");
        CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH).unwrap_or_else(|found| panic!("{found:?}"))
    }

    #[test]
    fn a_rule_takes_what_it_matches_and_what_it_cannot_judge() {
        let event: TriggerEvent = serde_json::from_value(json!({"id": "1", "source": "s", "type": "push",
            "time": "2026-01-01T00:00:00Z", "data": {"size": 5}}))
        .expect("an event");
        let members =
            |when: &str| json!({"correlate": {"within": "10m", "any": [{"name": "one", "when": when}]}});
        for (changes, expected) in [
            (json!({}), true),
            (json!({"when": "event.data.size > 4"}), true),
            (json!({"when": "event.data.size > 5"}), false),
            (json!({"when": "event.data.other > 5"}), false),
            (json!({"when": "event.data.size.contains('x')"}), true),
            (json!({"when": "now < timestamp(event.time)"}), false),
            (members("event.data.size > 4"), true),
            (members("event.data.size > 5"), false),
            (members("event.data.other > 5"), false),
            (members("event.data.size.contains('x')"), true),
            (json!({"trigger": {"webhook": {"types": ["tag"]}}}), false),
        ] {
            let rule = rule(json!({"webhook": {"name": "w"}}), changes.clone());
            assert_eq!(takes(&rule, (&event, None), event.time.0), expected, "{changes}");
        }
    }

    #[test]
    fn an_alert_is_asked_for_as_it_fired_and_as_time_may_have_it() {
        let alert: TriggerEvent =
            serde_json::from_value(json!({"id": "f/1", "source": "am", "type": "alert.resolved",
            "time": "2026-01-01T00:00:00Z", "data": {"status": "resolved", "labels": {"disk": "sda"}}}))
            .expect("an alert");
        let (ends_at, starts_at) = (Some(alert.time.clone()), alert.time.clone());
        let resolved = AlertState { fingerprint: "f".into(), starts_at, ends_at, heard: [].into() };
        for (when, expected) in [
            ("alert.status == 'firing'", true),
            ("alert.status == 'resolved'", false),
            ("now > timestamp(event.time) + duration('1h')", true),
            ("alert.labels.disk == 'sdb' && now > timestamp(event.time) + duration('1h')", false),
            ("now < timestamp(event.time)", false),
        ] {
            let rule = rule(json!({"alert": {"webhook": "am"}}), json!({"when": when}));
            let now = alert.time.0 + SignedDuration::from_secs(1);
            assert_eq!(takes(&rule, (&alert, Some(&resolved)), now), expected, "{when}");
        }
    }
}
