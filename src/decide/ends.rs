//! Ends of Executions, as events for other Rules. With each goes what the Execution was made of, as far as it is recorded: so
//! that a Rule over the Executions of Rules that observe joins what comes from different sources.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::episode::KEPT;
use super::excerpt::copy;
use super::interest::read_of;
use super::matching::CompiledRule;
use crate::api::{
    AnyValue, ConditionType, Decision, Execution, ExecutionTrigger, Outcome, Reason, TriggerEvent, condition,
};

/// How many Executions may follow from each other: a circle that nobody saw stops here.
pub const DEEPEST: u32 = 3;
/// How old an end may be that is seen for the first time: as old as Kubernetes keeps Events. Its own Execution is kept for
/// longer, so that none is made twice.
pub const OLDEST: SignedDuration = SignedDuration::from_hours(1);

/// The end of an Execution.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// What expressions see.
    pub event: TriggerEvent,
    /// By when it had ended.
    pub time: Timestamp,
    /// How many Executions this one and those before it are.
    pub depth: u32,
}

/// How an Execution has ended, if it has.
pub fn outcome(execution: &Execution) -> Option<Outcome> {
    let status = execution.status.as_ref().filter(|status| status.finished_at.is_some())?;
    let succeeded = condition(&status.conditions, ConditionType::Succeeded)?;
    let is = |reason: Reason| succeeded.reason == reason.as_str();
    Some(if is(Reason::Observed) {
        Outcome::Observed
    } else if is(Reason::Superseded) {
        Outcome::Superseded
    } else if is(Reason::Canceled) {
        Outcome::Canceled
    } else if succeeded.status == "True" {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    })
}

/// The end of an Execution, if it is one that a trigger means.
pub fn end(execution: &Execution, trigger: &ExecutionTrigger) -> Option<End> {
    let decision = execution.spec.decision.as_ref()?;
    let outcome = outcome(execution)?;
    let meant = trigger.rules.contains(&decision.rule.name)
        && (trigger.outcomes.is_empty() || trigger.outcomes.contains(&outcome));
    let finished = execution.status.as_ref()?.finished_at.as_ref().filter(|_| meant)?.0;
    let (name, uid) = (execution.metadata.name.clone()?, execution.metadata.uid.clone()?);
    let message = condition(&execution.status.as_ref()?.conditions, ConditionType::Succeeded);
    let mut data = json!({
        "execution": name,
        "rule": decision.rule.name,
        "target": execution.spec.target,
        "outcome": outcome,
        "reason": execution.reason(),
        "message": message.map(|condition| condition.message.chars().take(512).collect::<String>()),
        "matched": decision.matched.object,
    });
    made_of(decision, &mut data);
    let event = TriggerEvent {
        id: uid,
        source: "executions.fother.dev".to_owned(),
        event_type: format!("{outcome:?}"),
        time: MicroTime(finished),
        data: AnyValue(data),
    };
    // Whoever counts what goes on at that time must not count this one.
    let time = finished.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
    Some(End {
        event,
        time,
        depth: decision.depth.and_then(|depth| u32::try_from(depth).ok()).unwrap_or(0).saturating_add(1),
    })
}

/// Tells what an Execution was made of, where that is recorded.
fn made_of(decision: &Decision, data: &mut Value) {
    if let Some(event) = &decision.event {
        data["event"] = json!(event);
    }
    let captured = decision.captured.iter().filter_map(|one| Some((one.member.clone()?, json!(one))));
    let captured: Map<String, Value> = captured.collect();
    if !captured.is_empty() {
        data["captured"] = captured.into();
    }
}

/// An end as it is recorded with what a rule makes of it: of what the Execution was made of only what the rule reads.
#[must_use]
pub fn recorded(rule: &CompiledRule, event: TriggerEvent) -> TriggerEvent {
    let TriggerEvent { data: AnyValue(whole), .. } = &event;
    let mut kept = whole.clone();
    if let Some(fields) = kept.as_object_mut() {
        for field in MADE_OF {
            fields.remove(field);
        }
    }
    for path in read_of(rule).into_iter().flatten() {
        if path.first().is_none_or(|field| MADE_OF.contains(&field.as_str()) && whole.get(field).is_some()) {
            copy(whole, &path, &mut kept);
        }
    }
    TriggerEvent { data: AnyValue(kept), ..event }
}

/// The fields that say what an Execution was made of.
const MADE_OF: [&str; 2] = ["event", "captured"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_tells_what_its_execution_was_made_of_and_keeps_what_is_read() {
        let mut execution = execution("Observed", "True");
        let decision = execution.spec.decision.as_mut().expect("a decision");
        decision.event = Some(
            serde_json::from_value(
                json!({"id": "f/1", "source": "am", "type": "alert.firing", "time": "2026-01-01T00:00:00Z",
                "data": {"labels": {"node": "n1", "team": "t"}, "note": "x".repeat(1000)}}),
            )
            .expect("an event"),
        );
        decision.captured = serde_json::from_value(
            json!([{"id": "1", "member": "down", "type": "t", "time": "2026-01-01T00:00:00Z",
            "data": {"reason": "Down"}}]),
        )
        .expect("events");
        let trigger = ExecutionTrigger { rules: vec!["drain".to_owned()], ..ExecutionTrigger::default() };
        let told = end(&execution, &trigger).expect("an end").event;
        for (path, expected) in [
            ("/matched/kind", json!("Node")),
            ("/event/data/labels/node", json!("n1")),
            ("/captured/down/data/reason", json!("Down")),
        ] {
            assert_eq!(told.data.0.pointer(path), Some(&expected), "{path}");
        }
        let kept = |when: &str, with: &str| {
            let spec = json!({"serviceAccountName": "h", "when": when, "ladder": [{"run": "x", "with": {"p": with}}],
                "trigger": {"execution": {"rules": ["drain"]}}});
            let spec = serde_json::from_value(spec).expect("a spec");
            let rule = CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH).expect("compiles");
            recorded(&rule, told.clone()).data.0
        };
        let least = kept("event.data.rule == 'drain'", "");
        assert_eq!(
            (least.get("event"), least.get("captured"), &least["rule"]),
            (None, None, &json!("drain"))
        );
        let some =
            kept("event.data.event.data.labels.node == 'n1'", "${{ event.data.captured.down.data.reason }}");
        assert_eq!(some["event"], json!({"data": {"labels": {"node": "n1"}}}));
        assert_eq!(some["captured"], json!({"down": {"data": {"reason": "Down"}}}));
        assert_eq!(kept("size(event.data) > 1", ""), told.data.0, "who reads all of it");
    }

    fn execution(reason: &str, status: &str) -> Execution {
        serde_json::from_value(json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": "x", "uid": "u"},
            "spec": {"serviceAccountName": "h", "decision": {"id": "0", "time": "2026-01-01T00:00:00Z",
                "rule": {"name": "drain"}, "mode": "Enforce", "definition": "d", "depth": 1,
                "matched": {"object": {"apiVersion": "v1", "kind": "Node", "name": "n"}}}},
            "status": {"finishedAt": "2026-01-01T00:05:00Z", "conditions": [{"type": "Succeeded", "status": status,
                "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:05:00Z"}]},
        }))
        .expect("an Execution")
    }

    #[test]
    fn an_end_is_told_by_its_outcome() {
        let trigger = |outcomes: &[Outcome]| ExecutionTrigger {
            rules: vec!["drain".to_owned()],
            outcomes: outcomes.to_vec(),
        };
        for (reason, status, outcome) in [
            ("Completed", "True", Outcome::Succeeded),
            ("TargetRecovered", "True", Outcome::Succeeded),
            ("Quarantined", "False", Outcome::Failed),
            ("Lost", "False", Outcome::Failed),
            ("Canceled", "False", Outcome::Canceled),
            ("Superseded", "True", Outcome::Superseded),
            ("Observed", "True", Outcome::Observed),
        ] {
            let execution = execution(reason, status);
            let found = end(&execution, &trigger(&[])).expect("an end");
            assert_eq!((found.event.event_type.as_str(), found.depth), (format!("{outcome:?}").as_str(), 2));
            assert!(end(&execution, &trigger(&[outcome])).is_some(), "{reason}");
            let others = [Outcome::Succeeded, Outcome::Failed].into_iter().filter(|other| *other != outcome);
            assert_eq!(end(&execution, &trigger(&others.collect::<Vec<_>>()[..1])), None, "{reason}");
        }
    }

    #[test]
    fn only_what_has_ended_and_is_meant_counts() {
        let mut running = execution("Completed", "True");
        running.status.as_mut().expect("a status").finished_at = None;
        let trigger = ExecutionTrigger { rules: vec!["drain".to_owned()], outcomes: Vec::new() };
        assert_eq!(end(&running, &trigger), None);
        let other = ExecutionTrigger { rules: vec!["other".to_owned()], ..trigger };
        assert_eq!(end(&execution("Completed", "True"), &other), None);
    }
}
