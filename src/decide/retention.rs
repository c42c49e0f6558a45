//! Which finished Executions may go. What an open episode, a limit, a window or a redelivered event may still need stays.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::episode::KEPT;
use super::identity::TargetKey;
use crate::api::{Decision, Duration, Execution, Mode};

/// The most finished Executions that are kept of one rule.
const KEEP_PER_RULE: usize = 20;
/// Older finished Executions go even if there are few.
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What may be delivered again: an event or alert seen within this time must still find its Execution.
const REDELIVERY: SignedDuration = SignedDuration::from_hours(24);

/// The most closed records that are kept of a rule that observes, however young: a flapping target makes one each time.
const KEEP_OBSERVED: usize = 100;

/// A finished Execution, and what bears on whether it may go.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    execution: &'a Execution,
    is_newest: bool,
    finished_at: Timestamp,
}

/// The Executions of one rule (or those by hand) that may be deleted now. A rule that is gone may come back and find its
/// episodes open, but not for ever.
pub fn expired<'a>(
    executions: &[&'a Execution],
    (has_rule, memory): (bool, Duration),
    now: Timestamp,
) -> Vec<&'a Execution> {
    let needed_for = REDELIVERY.max(memory.signed() + KEPT);
    let age = |candidate: &Candidate<'_>| now.duration_since(candidate.finished_at);
    let mut candidates = candidates(executions);
    candidates.retain(|candidate| !is_open(candidate.execution) || (!has_rule && age(candidate) > KEEP_FOR));
    let surplus = executions.len().saturating_sub(KEEP_PER_RULE);
    let old = candidates.iter().filter(|candidate| age(candidate) > needed_for).enumerate();
    let old = old.filter(|(index, candidate)| {
        *index < surplus || (!(candidate.is_newest && has_rule) && age(candidate) > KEEP_FOR)
    });
    let mut gone: Vec<_> = old.map(|(_, candidate)| candidate.execution).collect();
    candidates.retain(|candidate| is_observed(candidate.execution));
    let many = candidates.len().saturating_sub(KEEP_OBSERVED);
    for candidate in &candidates[..many] {
        if gone.iter().all(|known| known.metadata.name != candidate.execution.metadata.name) {
            gone.push(candidate.execution);
        }
    }
    gone
}

/// What has finished, in the order in which it may go.
fn candidates<'a>(executions: &[&'a Execution]) -> Vec<Candidate<'a>> {
    let newest = newest_of_each_target(executions);
    let newest: BTreeSet<_> = newest.values().map(|newest| &newest.metadata.name).collect();
    let finished = executions.iter().filter_map(|execution| {
        let finished_at = execution.status.as_ref()?.finished_at.as_ref()?.0;
        let is_newest = newest.contains(&execution.metadata.name);
        Some(Candidate { execution, is_newest, finished_at })
    });
    let mut candidates: Vec<_> = finished.collect();
    candidates.sort_by_key(|candidate| (candidate.is_newest, candidate.finished_at));
    candidates
}

fn is_open(execution: &Execution) -> bool {
    let closed = execution.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    execution.spec.decision.is_some() && !closed
}

fn is_observed(execution: &Execution) -> bool {
    execution.spec.decision.as_ref().is_some_and(|decision| decision.mode == Mode::Observe)
}

/// The newest Execution of each target: the next decision's identity builds on it. It goes last, so that a name is
/// never given twice, but it goes: a rule whose targets are Pods never meets most of them again.
fn newest_of_each_target<'a>(executions: &[&'a Execution]) -> BTreeMap<TargetKey, &'a Execution> {
    let decisions = executions.iter().filter_map(|execution| execution.spec.decision.as_ref());
    let followed: BTreeSet<_> = decisions.map(|decision| decision.occurrence.as_str()).collect();
    let mut newest = BTreeMap::<TargetKey, &Execution>::new();
    for execution in executions {
        let (Some(target), Some(decision)) = (&execution.spec.target, &execution.spec.decision) else {
            continue;
        };
        // Whichever no other follows; then by time, as clocks differ.
        let rank = |decision: &Decision| (!followed.contains(decision.id.as_str()), decision.time.0);
        let known = |known: &Execution| known.spec.decision.as_ref().map(rank);
        let key = TargetKey::from(target);
        if newest.get(&key).is_none_or(|newest| known(newest) < Some(rank(decision))) {
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

    fn names(executions: &[Execution], has_rule: bool, now: i64) -> Vec<String> {
        let references: Vec<_> = executions.iter().collect();
        let gone = expired(&references, (has_rule, Duration::from_mins(30)), at(now));
        gone.into_iter().filter_map(|execution| execution.metadata.name.clone()).collect()
    }

    fn check(executions: &[Execution], now: i64, gone: &[&str]) {
        assert_eq!(names(executions, true, now), gone);
    }

    #[test]
    fn episodes_of_a_rule_that_is_gone_go_in_the_end() {
        let executions = [execution("a1", "a", Some(1), false), execution("a2", "a", None, false)];
        assert_eq!(names(&executions, false, 6 * DAY), [] as [&str; 0], "it may come back");
        assert_eq!(names(&executions, false, 8 * DAY), ["a1"], "what runs stays");
        assert_eq!(names(&executions, true, 80 * DAY), [] as [&str; 0], "its episode is open");
    }

    #[test]
    fn records_of_a_flapping_target_are_bounded_by_number() {
        let observed = |name: String, target: &str, second, closed| {
            let mut execution = execution(&name, target, Some(second), closed);
            execution.spec.decision.as_mut().expect("a decision").mode = Mode::Observe;
            execution
        };
        let mut executions: Vec<_> =
            (0..102).map(|n| observed(format!("f{n:03}"), "flaps", n, true)).collect();
        executions.push(observed("open".into(), "other", 0, false));
        executions.push(observed("alone".into(), "alone", 0, true));
        check(&executions, 200, &["f000", "f001", "f002"]);
        let acted: Vec<_> = (0..102).map(|n| execution(&format!("a{n}"), "a", Some(n), true)).collect();
        check(&acted, 200, &[]);
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
    fn the_newest_is_the_one_that_no_other_follows() {
        let mut executions = [execution("a1", "a", Some(9), true), execution("a2", "a", Some(2), true)];
        executions[1].spec.decision.as_mut().expect("a decision").occurrence = "a1".to_owned();
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
