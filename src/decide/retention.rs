//! Which finished Executions may go. What an open episode, a cooldown or a redelivered event may still need stays.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::identity::TargetKey;
use crate::api::{Duration, Execution};

/// The most finished Executions that are kept of one rule.
const KEEP_PER_RULE: usize = 20;
/// Older finished Executions go even if there are few.
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What may be delivered again: an event or alert seen within this time must still find its Execution.
const REDELIVERY: SignedDuration = SignedDuration::from_hours(24);

/// The names of the Executions of one rule (or of runs by hand) that may be deleted now.
pub fn expired(executions: &[&Execution], cooldown: Duration, now: Timestamp) -> Vec<String> {
    let newest = newest_of_each_target(executions);
    let needed_for = REDELIVERY.max(cooldown.signed());
    let mut candidates: Vec<_> = executions
        .iter()
        .filter_map(|execution| Some((execution.status.as_ref()?.finished_at.as_ref()?.0, *execution)))
        .filter(|(finished_at, execution)| {
            let open = execution.spec.decision.is_some()
                && execution.status.as_ref().is_none_or(|s| s.episode_closed_at.is_none());
            now.duration_since(*finished_at) > needed_for && !open
        })
        .map(|(finished_at, execution)| {
            let is_newest = newest.values().any(|newest| newest.metadata.name == execution.metadata.name);
            (is_newest, finished_at, execution)
        })
        .collect();
    candidates.sort_by_key(|(is_newest, finished_at, _)| (*is_newest, *finished_at));
    let surplus = executions.len().saturating_sub(KEEP_PER_RULE);
    candidates
        .into_iter()
        .enumerate()
        .filter(|(index, (is_newest, finished_at, _))| {
            *index < surplus || (!is_newest && now.duration_since(*finished_at) > KEEP_FOR)
        })
        .filter_map(|(_, (_, _, execution))| execution.metadata.name.clone())
        .collect()
}

/// The newest Execution of each target: the next decision's identity builds on it. It goes last, so that a name is
/// never given twice, but it goes: a rule whose targets are Pods never meets most of them again.
fn newest_of_each_target<'a>(executions: &[&'a Execution]) -> BTreeMap<TargetKey, &'a Execution> {
    let mut newest = BTreeMap::<TargetKey, &Execution>::new();
    for execution in executions {
        let (Some(target), Some(decision)) = (&execution.spec.target, &execution.spec.decision) else {
            continue;
        };
        let time = |e: &Execution| e.spec.decision.as_ref().map(|d| d.time.0);
        let key = TargetKey::from(target);
        if newest.get(&key).is_none_or(|known| time(known) < Some(decision.time.0)) {
            newest.insert(key, execution);
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DAY: i64 = 24 * 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn execution(name: &str, target: &str, finished: Option<i64>, closed: bool) -> Execution {
        let decided = finished.unwrap_or(0);
        let mut status = json!({});
        if let Some(finished) = finished {
            status["finishedAt"] = json!(at(finished).to_string());
            if closed {
                status["episodeClosedAt"] = json!(at(finished).to_string());
            }
        }
        serde_json::from_value(json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": name},
            "spec": {"serviceAccountName": "h", "target": {"apiVersion": "v1", "kind": "Pod", "name": target},
                "decision": {"id": name, "time": at(decided).to_string(), "rule": {"name": "r"}, "mode": "Enforce",
                    "matched": {"object": {"apiVersion": "v1", "kind": "Pod", "name": target}}, "definition": "d"}},
            "status": status,
        }))
        .expect("an Execution")
    }

    fn check(executions: &[Execution], now: i64, gone: &[&str]) {
        let references: Vec<_> = executions.iter().collect();
        assert_eq!(expired(&references, Duration::from_mins(30), at(now)), gone);
    }

    #[test]
    fn old_ones_go_but_for_the_newest_of_each_target() {
        let executions = [
            execution("a1", "a", Some(1), true),
            execution("a2", "a", Some(2), true),
            execution("b1", "b", Some(1), true),
        ];
        check(&executions, 6 * DAY, &[]);
        check(&executions, 8 * DAY, &["a1"]);
    }

    #[test]
    fn targets_that_never_come_back_do_not_pile_up() {
        let mut executions: Vec<_> =
            (0..25).map(|n| execution(&format!("p{n:02}"), &format!("pod-{n}"), Some(n), true)).collect();
        executions.push(execution("q1", "q", Some(30), true));
        executions.push(execution("q2", "q", Some(31), true));
        check(&executions, DAY - 100, &[]);
        let gone = ["q1", "p00", "p01", "p02", "p03", "p04", "p05"];
        check(&executions, DAY + 100, &gone);
    }

    #[test]
    fn open_and_running_ones_stay() {
        let executions = [
            execution("a1", "a", Some(1), false),
            execution("a2", "a", None, false),
            execution("a3", "a", Some(3), true),
        ];
        check(&executions, 80 * DAY, &[]);
    }

    #[test]
    fn surplus_goes_after_the_redelivery_window() {
        let executions: Vec<_> =
            (0..23).map(|n| execution(&format!("a{n:02}"), "a", Some(n), true)).collect();
        check(&executions, DAY - 100, &[]);
        check(&executions, DAY + 100, &["a00", "a01", "a02"]);
    }
}
