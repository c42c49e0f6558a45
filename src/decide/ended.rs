//! Whether the end of an alert gets an Execution now, later, or not.
//!
//! That an alert is resolved is said once, as of an event; but nobody says it again, and what is to be undone stays so until
//! it is. So an end is not dropped where something stands in the way: it is owed, as long as the alert does not fire again.

use k8s_openapi::jiff::Timestamp;

use super::episode::{Caps, Held, Load, Past, RuleFacts, Suppressed, guard};
use super::identity::{TargetKey, decision_id};
use crate::api::Mode;

/// The end of an alert that leads to a target.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The rule.
    pub rule: &'a RuleFacts,
    /// When the rule was created.
    pub rule_created_at: Timestamp,
    /// The target.
    pub target: &'a TargetKey,
    /// What tells the end from all others.
    pub occurrence: &'a str,
    /// When the alert ended.
    pub time: Timestamp,
    /// The Executions of this rule and target.
    pub past: &'a [Past],
}

/// What is to be done about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It has its Execution, of this identity.
    Fired(String),
    /// Create an Execution with this identity.
    Fire(String),
    /// Not now; look again at the time, if one is known.
    Held(Held, Option<Timestamp>),
    /// It gets none.
    Dropped(Suppressed),
}

/// Decides about one end.
#[must_use]
pub fn decide(end: End<'_>, load: Load, caps: Caps, now: Timestamp) -> Verdict {
    let End { rule, rule_created_at, target, occurrence, time, past } = end;
    let id = decision_id(&rule.namespace, &rule.name, target, occurrence);
    if past.iter().any(|past| past.id == id) {
        return Verdict::Fired(id);
    }
    if time < rule_created_at {
        return Verdict::Dropped(Suppressed::BeforeRule);
    }
    // As several alerts that fire for a target are one episode, several that had ended get one Execution.
    let mut acting = past.iter().filter(|past| past.mode != Mode::Observe || rule.mode == Mode::Observe);
    if acting.any(|past| past.decided_at >= time) {
        return Verdict::Dropped(Suppressed::Superseded);
    }
    match guard((rule, past), time, load, caps, now) {
        Some((held, until)) => Verdict::Held(held, until),
        None => Verdict::Fire(id),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Duration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn key() -> TargetKey {
        TargetKey { group: String::new(), kind: "ConfigMap".into(), namespace: "a".into(), name: "x".into() }
    }

    fn rule(cooldown: u32) -> RuleFacts {
        RuleFacts {
            namespace: "a".into(),
            name: "undo".into(),
            mode: Mode::Enforce,
            cooldown: Duration::from_secs(cooldown),
            ..RuleFacts::default()
        }
    }

    fn past(id: &str, decided: i64, finished: Option<i64>) -> Past {
        Past {
            id: id.into(),
            occurrence: String::new(),
            decided_at: at(decided),
            mode: Mode::Enforce,
            since: None,
            finished_at: finished.map(at),
            closed_at: finished.map(at),
        }
    }

    fn ask(rule: &RuleFacts, time: i64, past: &[Past], load: Load) -> Verdict {
        let key = key();
        let end = End {
            rule,
            rule_created_at: at(10),
            target: &key,
            occurrence: "f/5/resolved",
            time: at(time),
            past,
        };
        decide(end, load, Caps::default(), at(100))
    }

    #[test]
    fn an_end_is_owed_until_it_is_done_once() {
        let (plain, rests) = (rule(0), rule(60));
        let id = decision_id("a", "undo", &key(), "f/5/resolved");
        let (none, busy) = (Load::default(), Load { target: 1, total: 1, ..Load::default() });
        let full = Load { rule: 1, total: 1, ..Load::default() };
        let (fire, superseded) = (Verdict::Fire(id.clone()), Verdict::Dropped(Suppressed::Superseded));
        let held = |held, until: Option<i64>| Verdict::Held(held, until.map(at));
        for (rule, time, past, load, expected) in [
            (&plain, 50, vec![], none, fire.clone()),
            (&plain, 9, vec![], none, Verdict::Dropped(Suppressed::BeforeRule)),
            (&plain, 50, vec![past(&id, 60, None)], busy, Verdict::Fired(id.clone())),
            // Whatever acts on the target, it comes after that.
            (&plain, 50, vec![], busy, held(Held::TargetBusy, None)),
            (&plain, 50, vec![past("other", 40, None)], busy, held(Held::TargetBusy, None)),
            (&plain, 50, vec![past("other", 40, Some(70))], none, fire),
            (&plain, 50, vec![], full, held(Held::Concurrency, None)),
            (&rests, 50, vec![past("other", 40, Some(70))], none, held(Held::Cooldown, Some(130))),
            // What was decided after it had ended was about this end as well.
            (&plain, 50, vec![past("other", 50, None)], busy, superseded.clone()),
            (&plain, 50, vec![past("other", 60, Some(70))], none, superseded),
        ] {
            assert_eq!(ask(rule, time, &past, load), expected, "{time} {past:?} {load:?}");
        }
    }

    #[test]
    fn what_was_observed_stands_in_the_way_of_what_is_observed_alone() {
        let observed = Past { mode: Mode::Observe, ..past("other", 60, Some(60)) };
        let observes = RuleFacts { mode: Mode::Observe, ..rule(0) };
        let load = Load::default();
        assert!(matches!(ask(&rule(0), 50, std::slice::from_ref(&observed), load), Verdict::Fire(_)));
        assert_eq!(ask(&observes, 50, &[observed], load), Verdict::Dropped(Suppressed::Superseded));
        let many = Load { observed_open: 100, ..load };
        assert_eq!(ask(&observes, 50, &[], many), Verdict::Held(Held::ObservedLimit, None));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// An alert ends.
        End,
        /// All ends are decided about, as they are whenever anything changes.
        Decide,
        /// The same by another process, which is told again of what was decided.
        Again,
        /// What runs comes to its end.
        Finish,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever comes when: one Execution at a time, none twice, and none of the ends is left without one that was decided
        /// after it.
        #[test]
        fn every_end_is_answered_and_none_twice(
            steps in prop::collection::vec(
                prop_oneof![3 => Just(Step::End), 2 => Just(Step::Decide), 1 => Just(Step::Again), 2 => Just(Step::Finish)],
                1..40,
            ),
        ) {
            let (rule, key) = (rule(0), key());
            let (mut ends, mut open, mut past) = (Vec::<i64>::new(), Vec::<i64>::new(), Vec::<Past>::new());
            let last = [Step::Decide, Step::Finish].into_iter().cycle().take(80);
            for (now, step) in (11..).zip(steps.into_iter().chain(last)) {
                match step {
                    Step::End => {
                        ends.push(now);
                        open.push(now);
                    }
                    Step::Again => open.clone_from(&ends),
                    Step::Finish => {
                        past.iter_mut().filter(|one| one.finished_at.is_none()).for_each(|one| one.finished_at = Some(at(now)));
                    }
                    Step::Decide => {}
                }
                open.retain(|ended| {
                    let running = past.iter().filter(|one| one.finished_at.is_none()).count();
                    let load = Load { rule: running, target: running, total: running, namespace: running, ..Load::default() };
                    let occurrence = ended.to_string();
                    let end = End { rule: &rule, rule_created_at: at(10), target: &key, occurrence: &occurrence, time: at(*ended), past: &past };
                    match decide(end, load, Caps { rule: 10, ..Caps::default() }, at(now)) {
                        Verdict::Held(..) => true,
                        Verdict::Fire(id) => {
                            assert_eq!(running, 0, "one at a time");
                            past.push(Past { id, ..super::tests::past("", now, None) });
                            false
                        }
                        Verdict::Fired(_) | Verdict::Dropped(_) => false,
                    }
                });
            }
            let mut ids: Vec<_> = past.iter().map(|one| one.id.as_str()).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), past.len(), "none twice");
            for ended in ends {
                prop_assert!(past.iter().any(|one| one.decided_at >= at(ended)), "{} of {:?}", ended, past);
            }
        }
    }
}
