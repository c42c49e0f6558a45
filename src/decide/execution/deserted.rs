//! An Execution whose account may not be used (any more): nothing can be looked at, so little can be done.

use k8s_openapi::jiff::Timestamp;

use super::PATIENCE;
use crate::api::Execution;

/// That the account may not be used.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Since when, as far as is known.
    pub since: Timestamp,
    /// Whether somebody has said so, by an annotation that is missing. What the API server refuses may pass: it learns of
    /// rights with a delay, and bindings are applied anew.
    pub is_meant: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deserted {
    /// Nothing was done yet, and nothing will be.
    Refuse,
    /// It has begun, or the trouble is young; it goes on when the account is back.
    StandStill,
    /// It has ended, and waits for the account to let go of its Jobs.
    Wait,
    /// It leaves no Job behind, or is to be deleted: held any longer it would hold its namespace, whose accounts may be
    /// gone for good.
    LetGo,
}

/// Says what becomes of it.
pub fn deserted(execution: &Execution, trouble: Trouble, now: Timestamp) -> Deserted {
    let is_over = |since: Timestamp| now.duration_since(since) > PATIENCE;
    let lasts = is_over(trouble.since);
    let overdue = lasts && execution.metadata.deletion_timestamp.as_ref().is_some_and(|at| is_over(at.0));
    let begun = execution.has_begun();
    let given_up = trouble.is_meant || lasts;
    match execution.is_finished() {
        _ if overdue => Deserted::LetGo,
        true if execution.has_jobs() || !given_up => Deserted::Wait,
        true => Deserted::LetGo,
        false if begun || !given_up => Deserted::StandStill,
        false => Deserted::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::SignedDuration;
    use serde_json::{Value, json};

    fn becomes(metadata: &Value, status: &Value) -> Deserted {
        told(metadata, status, (0, true))
    }

    /// What becomes of it after so many seconds, a minute and a half after the beginning, whoever says so.
    fn told(metadata: &Value, status: &Value, (seconds, is_meant): (i64, bool)) -> Deserted {
        let now: Timestamp = "2026-01-01T00:01:30Z".parse().unwrap();
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": metadata,
            "spec": {"serviceAccountName": "healer"}, "status": status});
        let lasting = SignedDuration::from_secs(if is_meant { 90 } else { seconds });
        let trouble = Trouble { since: now - lasting, is_meant };
        deserted(&serde_json::from_value(execution).unwrap(), trouble, now)
    }

    #[test]
    fn what_the_api_server_refuses_may_pass() {
        let ended = json!({"rungs": [], "finishedAt": "2026-01-01T00:00:10Z"});
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (metadata, status, at_first, in_the_end) in [
            (json!({}), json!({}), Deserted::StandStill, Deserted::Refuse),
            (json!({}), ended, Deserted::Wait, Deserted::LetGo),
            (deleted, json!({}), Deserted::StandStill, Deserted::LetGo),
        ] {
            assert_eq!(told(&metadata, &status, (0, false)), at_first);
            assert_eq!(told(&metadata, &status, (60, false)), at_first);
            assert_eq!(told(&metadata, &status, (61, false)), in_the_end);
        }
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
