//! Targets that match and have to wait: counted when a wait begins, and shown in the Rule's status.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::api::{Guard, HeldTarget, ObjectReference, RuleStatus};
use crate::decide::episode::Held;
use crate::decide::guards::guard;
use crate::decide::identity::TargetKey;

/// Held targets that a status lists; the rest is a number, so that a storm neither fills nor keeps writing the status.
const LISTED: usize = 20;

/// What a round of decisions held.
pub type Holds = BTreeMap<TargetKey, Hold>;

/// A target that matches and gets no Execution now.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Which it is.
    pub target: ObjectReference,
    /// What holds it.
    pub held: Held,
    /// When that ends, if it is known.
    pub until: Option<Timestamp>,
}

/// A wait that this process has not seen before.
#[derive(Debug)]
pub struct Begun {
    /// What waits.
    pub hold: Hold,
    /// Since when.
    pub since: Timestamp,
    /// Whether a process before this one has shown it in the status: it goes on, and has been told of.
    pub is_shown: bool,
}

/// What was held in the last round, and since when.
#[derive(Default)]
pub struct Waiting(Mutex<BTreeMap<TargetKey, (Held, Timestamp)>>);

impl Waiting {
    /// Takes in a round; returns what this process has not seen waiting before.
    pub fn take_in(&self, holds: &Holds, shown: Option<&RuleStatus>, now: Timestamp) -> Vec<Begun> {
        let mut known = self.0.lock();
        let mut begun = Vec::new();
        let fresh = holds.iter().map(|(key, hold)| {
            let since = match known.get(key) {
                Some((held, since)) if *held == hold.held => *since,
                _ => {
                    let shown = shown_since(shown, key, hold.held);
                    let since = shown.unwrap_or_else(|| whole(now));
                    begun.push(Begun { hold: hold.clone(), since, is_shown: shown.is_some() });
                    since
                }
            };
            (key.clone(), (hold.held, since))
        });
        let fresh = fresh.collect();
        *known = fresh;
        begun
    }

    /// What the targets wait for, one for each.
    pub fn guards(&self) -> Vec<Guard> {
        self.0.lock().values().filter_map(|(held, _)| guard(*held)).collect()
    }

    /// Shows a round in the status. While nothing is known for certain, what was known stays.
    pub fn show(&self, holds: &Holds, is_blind: bool, status: &mut RuleStatus) {
        if is_blind {
            return;
        }
        let known = self.0.lock();
        let mut listed: Vec<HeldTarget> = holds
            .iter()
            .filter_map(|(key, hold)| {
                let (reason, (_, since)) = (guard(hold.held)?, known.get(key)?);
                let until = hold.until.map(|until| Time(whole(until)));
                Some(HeldTarget { target: hold.target.clone(), reason, since: Time(*since), until })
            })
            .collect();
        // Stable: targets come in the order of their keys.
        listed.sort_by_key(|held| held.since.0);
        status.held_count = match listed.len() {
            0 => None,
            few if few <= LISTED => Some(few.to_string()),
            _ => Some(format!("{LISTED}+")),
        };
        listed.truncate(LISTED);
        status.held = listed;
    }
}

fn shown_since(shown: Option<&RuleStatus>, key: &TargetKey, held: Held) -> Option<Timestamp> {
    let mut listed = shown?.held.iter();
    let same = listed.find(|one| TargetKey::from(&one.target) == *key && Some(one.reason) == guard(held))?;
    Some(same.since.0)
}

/// Objects keep whole seconds: a status that has more would differ from its own copy, and be written for ever.
pub(super) fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::api::Guard;

    fn at(millis: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis)
    }

    fn holds(of: &[(&str, Held)]) -> Holds {
        let hold = |(name, held): &(&str, Held)| {
            let target =
                ObjectReference { kind: "Pod".into(), name: (*name).into(), ..ObjectReference::default() };
            (TargetKey::from(&target), Hold { target, held: *held, until: Some(at(9900)) })
        };
        of.iter().map(hold).collect()
    }

    fn shown(status: &RuleStatus) -> Vec<(String, Guard, i64)> {
        let held = status.held.iter();
        held.map(|held| (held.target.name.clone(), held.reason, held.since.0.as_millisecond())).collect()
    }

    fn begun(waiting: &Waiting, holds: &Holds, millis: i64) -> Vec<Held> {
        waiting.take_in(holds, None, at(millis)).into_iter().map(|begun| begun.hold.held).collect()
    }

    #[test]
    fn a_wait_is_counted_once_and_keeps_its_beginning() {
        let (waiting, mut status) = (Waiting::default(), RuleStatus::default());
        let first = holds(&[("b", Held::For)]);
        assert_eq!(begun(&waiting, &first, 1500), [Held::For]);
        assert_eq!(begun(&waiting, &first, 2500), []);
        let both = holds(&[("a", Held::Cooldown), ("b", Held::For)]);
        assert_eq!(begun(&waiting, &both, 3500), [Held::Cooldown]);
        waiting.show(&both, false, &mut status);
        let expected = [("b".to_owned(), Guard::For, 1000), ("a".to_owned(), Guard::Cooldown, 3000)];
        assert_eq!(shown(&status), expected, "the longest wait first");
        assert_eq!(status.held[0].until, Some(Time(at(9000))));
        assert_eq!(status.held_count.as_deref(), Some("2"));
        let other = holds(&[("b", Held::Concurrency)]);
        assert_eq!(begun(&waiting, &other, 4500), [Held::Concurrency], "for another reason");
        waiting.show(&Holds::new(), false, &mut status);
        assert_eq!((status.held.len(), status.held_count), (0, None));
    }

    #[test]
    fn a_restarted_process_goes_on_with_what_is_shown() {
        let (waiting, mut status) = (Waiting::default(), RuleStatus::default());
        let held = holds(&[("a", Held::Cooldown)]);
        waiting.take_in(&held, None, at(1000));
        waiting.show(&held, false, &mut status);
        let (next, before) = (Waiting::default(), status.clone());
        next.show(&Holds::new(), true, &mut status);
        assert_eq!(status, before, "a watch that is out of sync proves nothing");
        let begun = next.take_in(&held, Some(&before), at(60_000));
        assert!(begun.iter().all(|begun| begun.is_shown && begun.since == at(1000)), "{begun:?}");
        next.show(&held, false, &mut status);
        assert_eq!(status, before, "nothing to write");
    }

    #[test]
    fn a_storm_is_cut() {
        let names: Vec<String> = (0..50).map(|index| format!("p{index:02}")).collect();
        let many: Vec<(&str, Held)> = names.iter().map(|name| (name.as_str(), Held::Concurrency)).collect();
        let (waiting, mut status, many) = (Waiting::default(), RuleStatus::default(), holds(&many));
        waiting.take_in(&many, None, at(1000));
        waiting.show(&many, false, &mut status);
        assert_eq!((status.held.len(), status.held_count.as_deref()), (LISTED, Some("20+")));
        let blind = holds(&[("a", Held::Blind)]);
        waiting.take_in(&blind, None, at(1000));
        waiting.show(&blind, false, &mut status);
        assert!(status.held.is_empty(), "not seen is not held");
    }
}
