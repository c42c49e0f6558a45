//! An Execution whose account may not be used (any more): nothing can be looked at, so little can be done.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::Execution;

/// How long an Execution that is to be deleted waits for its account to come back.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

/// What becomes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deserted {
    /// Nothing was done yet, and nothing will be.
    Refuse,
    /// It has begun, and goes on when the account is back.
    StandStill,
    /// It has ended, and waits for the account to let go of its Jobs.
    Wait,
    /// It leaves no Job behind, or is to be deleted: held any longer it would hold its namespace, whose accounts may be
    /// gone for good.
    LetGo,
}

/// Says what becomes of it.
pub fn deserted(execution: &Execution, now: Timestamp) -> Deserted {
    let deleted = execution.metadata.deletion_timestamp.as_ref();
    let overdue = deleted.is_some_and(|at| now.duration_since(at.0) > PATIENCE);
    let begun = execution.status.as_ref().is_some_and(|status| !status.rungs.is_empty());
    match (execution.is_finished(), overdue) {
        (_, true) => Deserted::LetGo,
        (true, _) if execution.has_jobs() => Deserted::Wait,
        (true, _) => Deserted::LetGo,
        (false, _) if begun => Deserted::StandStill,
        (false, _) => Deserted::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn becomes(metadata: &Value, status: &Value) -> Deserted {
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": metadata,
            "spec": {"serviceAccountName": "healer"}, "status": status});
        deserted(&serde_json::from_value(execution).unwrap(), "2026-01-01T00:01:30Z".parse().unwrap())
    }

    #[test]
    fn what_has_not_begun_ends_and_what_runs_stands_still() {
        let rung = json!({"run": "clean", "state": "Running", "startedAt": "2026-01-01T00:00:00Z"});
        assert_eq!(becomes(&json!({}), &json!({})), Deserted::Refuse);
        assert_eq!(becomes(&json!({}), &json!({"rungs": [rung]})), Deserted::StandStill);
    }

    #[test]
    fn what_has_ended_keeps_its_outcome_and_waits_only_for_jobs() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "x"});
        let rung =
            json!({"run": "clean", "state": "Failed", "startedAt": "2026-01-01T00:00:00Z", "job": job});
        let ended = |rungs: Value| json!({"rungs": rungs, "finishedAt": "2026-01-01T00:00:10Z"});
        assert_eq!(becomes(&json!({}), &ended(json!([]))), Deserted::LetGo);
        assert_eq!(becomes(&json!({}), &ended(json!([rung]))), Deserted::Wait);
    }

    #[test]
    fn what_is_to_be_deleted_does_not_hold_its_namespace_for_ever() {
        let rung = json!({"run": "clean", "state": "Running", "startedAt": "2026-01-01T00:00:00Z"});
        let deleted = |at| json!({"deletionTimestamp": at});
        let running = json!({"rungs": [rung]});
        assert_eq!(becomes(&deleted("2026-01-01T00:01:00Z"), &running), Deserted::StandStill);
        assert_eq!(becomes(&deleted("2026-01-01T00:00:00Z"), &running), Deserted::LetGo);
    }
}
