//! Guards by name: which of them a decision has to pass, and which one holds a target. [`super::episode`] asks them.

use super::episode::{Held, RuleFacts};
use crate::api::{Guard, Mode};

/// The guard that holds; none if nothing is known of the target for certain.
pub const fn guard(held: Held) -> Option<Guard> {
    match held {
        Held::For => Some(Guard::For),
        Held::Cooldown => Some(Guard::Cooldown),
        Held::TargetBusy => Some(Guard::TargetBusy),
        Held::Concurrency => Some(Guard::Concurrency),
        Held::ObservedLimit => Some(Guard::ObservedLimit),
        Held::Rate => Some(Guard::Rate),
        Held::Unless => Some(Guard::Unless),
        Held::TargetMissing => Some(Guard::TargetMissing),
        Held::Blind => None,
    }
}

/// The guards that a rule's decision is asked, in their order: what a rule does not have cannot hold it.
pub fn asked(rule: &RuleFacts) -> Vec<Guard> {
    let mut asked = Vec::new();
    if rule.hold_for.as_secs() > 0 {
        asked.push(Guard::For);
    }
    if rule.cooldown.as_secs() > 0 {
        asked.push(Guard::Cooldown);
    }
    if rule.per_target.is_some() || rule.per_rule.is_some() && rule.mode != Mode::Observe {
        asked.push(Guard::Rate);
    }
    match rule.mode {
        Mode::Observe => asked.push(Guard::ObservedLimit),
        Mode::Enforce => asked.extend([Guard::TargetBusy, Guard::Concurrency]),
        // A rule of a mode that this version does not know decides nothing.
        Mode::Unknown => {}
    }
    asked
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::api::{Duration, MatchedObject, ObjectReference};
    use crate::decide::episode::{Caps, Load, Past, Question, Verdict, decide};
    use crate::decide::identity::TargetKey;
    use crate::decide::view::{Sight, TargetView};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// What holds a target that began to match at 0, in worlds that differ in all that guards look at.
    fn holding(rule: &RuleFacts) -> BTreeSet<Guard> {
        let reference =
            ObjectReference { kind: "Pod".into(), name: "p".into(), ..ObjectReference::default() };
        let view = TargetView {
            together: Vec::new(),
            target: reference.clone(),
            object: MatchedObject { object: reference.clone(), ..MatchedObject::default() },
            since: at(0),
            began: None,
        };
        let ended = Past {
            occurrence: String::new(),
            id: "1".into(),
            decided_at: at(-9),
            mode: Mode::Enforce,
            since: None,
            finished_at: Some(at(-1)),
            closed_at: Some(at(-1)),
        };
        let full = |field: fn(&mut Load) -> &mut usize| {
            let mut load = Load::default();
            *field(&mut load) = 1000;
            load
        };
        let loads = [
            Load::default(),
            full(|load| &mut load.rule),
            full(|load| &mut load.namespace),
            full(|load| &mut load.total),
            full(|load| &mut load.target),
            full(|load| &mut load.observed_open),
        ];
        let key = TargetKey::from(&reference);
        let mut found = BTreeSet::new();
        for now in [1, 15, 1000] {
            for past in [&[][..], std::slice::from_ref(&ended)] {
                let question = Question {
                    rule,
                    target: &key,
                    view: Some(&view),
                    sight: Sight { heard_at: Some(at(now)), complete_at: Some(at(now)), all_resolved: true },
                    past,
                };
                for load in loads {
                    if let Verdict::Held(held, _) = decide(question, load, Caps::default(), at(now)) {
                        found.extend(guard(held));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn a_decision_is_asked_what_can_hold_it_and_nothing_else() {
        for mode in [Mode::Observe, Mode::Enforce] {
            for (hold_for, cooldown) in [(0, 0), (10, 0), (0, 20), (10, 20)] {
                let rule = RuleFacts {
                    namespace: "a".into(),
                    name: "r".into(),
                    mode,
                    hold_for: Duration::from_secs(hold_for),
                    cooldown: Duration::from_secs(cooldown),
                    ..RuleFacts::default()
                };
                let expected: BTreeSet<Guard> = asked(&rule).into_iter().collect();
                assert_eq!(holding(&rule), expected, "{rule:?}");
            }
        }
    }
}
