//! Ends of Executions, as events for other Rules.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::episode::KEPT;
use crate::api::{
    AnyValue, ConditionType, Execution, ExecutionTrigger, Outcome, Reason, TriggerEvent, condition,
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
    let data = json!({
        "execution": name,
        "rule": decision.rule.name,
        "target": execution.spec.target,
        "outcome": outcome,
        "reason": execution.reason(),
        "message": message.map(|condition| condition.message.chars().take(512).collect::<String>()),
    });
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

#[cfg(test)]
mod tests {
    use super::*;

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
