//! Property tests: whatever order, repetition or gaps a watch may produce, nothing is decided twice.
//!
//! A watch tells what happens in the order in which it does, all objects of a kind in one. It may be late, tell something
//! again, and be replaced by a list, which leaves out what came before it, or by another process that begins with one.
//! Kubernetes Events are told by when they were written, which is not when they happened. Decisions are made after each
//! step, by what is in the view and in the Executions.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::episode::{
    Caps, EdgeQuestion, KEPT, Load, Past, Question, RuleFacts, Verdict, decide, decide_edge,
};
use super::identity::{TargetKey, execution_name};
use super::view::{Match, ObjectKey, Sight, View};
use crate::api::{Duration, MatchedObject, Mode, ObjectReference, Rate};

const OBJECTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An object begins or ceases to match.
    Change(usize, bool),
    /// The watch tells the next that is to be told.
    Deliver,
    /// It tells again what it told last of an object.
    Repeat(usize),
    /// A complete list.
    List,
    /// Another process leads, which knows nothing before its list; and of Executions what was written but for the latest.
    Restart(usize),
    /// It hears of all that was written.
    CatchUp,
    /// What runs comes to its end.
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    let object = 0..OBJECTS;
    prop_oneof![
        4 => (object.clone(), any::<bool>()).prop_map(|(object, matches)| Step::Change(object, matches)),
        6 => Just(Step::Deliver),
        1 => object.prop_map(Step::Repeat),
        2 => Just(Step::List),
        1 => (0..6usize).prop_map(Step::Restart),
        1 => Just(Step::CatchUp),
        2 => Just(Step::Finish),
    ]
}

fn at(seconds: usize) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(seconds).expect("a moment"))
}

/// What all that is delivered leads to.
pub fn target() -> ObjectReference {
    ObjectReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: "web".into(),
        ..Default::default()
    }
}

fn key(object: usize) -> ObjectKey {
    ("a".into(), object.to_string())
}

fn found(object: usize) -> Match {
    let reference = ObjectReference { kind: "Pod".into(), name: object.to_string(), ..Default::default() };
    let object = MatchedObject { object: reference, resource_version: "1".into() };
    Match { object, target: target(), since: None, part: None }
}

/// Objects of one target, what a watch is about to tell of them, and what was decided.
#[derive(Default)]
struct World {
    matches: [bool; OBJECTS],
    /// How often the target began to match.
    episodes: usize,
    pending: VecDeque<(usize, bool)>,
    told: [bool; OBJECTS],
    view: View,
    complete_at: Option<Timestamp>,
    /// What the process knows of what was decided.
    past: Vec<Past>,
    /// What the API server has, after each write.
    written: Vec<Vec<Past>>,
}

impl World {
    fn take(&mut self, step: Step, now: Timestamp) {
        match step {
            Step::Change(object, matches) => {
                let before = self.matches.contains(&true);
                self.matches[object] = matches;
                self.episodes += usize::from(!before && matches);
                self.pending.push_back((object, matches));
            }
            Step::Deliver => {
                let Some((object, matches)) = self.pending.pop_front() else { return };
                self.told[object] = matches;
                self.tell(object, now);
            }
            Step::Repeat(object) => self.tell(object, now),
            Step::List => {
                self.pending.clear();
                self.told = self.matches;
                let all = (0..OBJECTS).filter(|object| self.matches[*object]);
                self.view.replace(all.map(|object| (key(object), found(object))).collect(), now);
                self.complete_at = Some(now);
            }
            Step::Restart(behind) => {
                (self.view, self.complete_at) = (View::default(), None);
                let read = self.written.len().checked_sub(1 + behind);
                self.past = read.map(|read| self.written[read].clone()).unwrap_or_default();
            }
            Step::CatchUp => self.past = self.store().to_vec(),
            Step::Finish => {
                let ended = now.saturating_add(KEPT).expect("a time");
                self.write(|past| {
                    past.finished_at.get_or_insert(ended);
                });
            }
        }
    }

    /// What the API server has.
    fn store(&self) -> &[Past] {
        self.written.last().map_or(&[], Vec::as_slice)
    }

    /// Writes what the process makes of those that it knows; what it is answered is what they are by now.
    fn write(&mut self, change: impl Fn(&mut Past)) {
        let mut store = self.store().to_vec();
        for known in &mut self.past {
            let kept = store.iter_mut().find(|kept| kept.id == known.id).expect("what was known is kept");
            change(kept);
            known.clone_from(kept);
        }
        if store != self.store() {
            self.written.push(store);
        }
    }

    /// Creates one, or takes that in which has its name.
    fn create(&mut self, one: Past) {
        let mut store = self.store().to_vec();
        let there = store.iter().find(|kept| kept.id == one.id).cloned();
        if there.is_none() {
            store.push(one.clone());
            self.written.push(store);
        }
        self.past.push(there.unwrap_or(one));
    }

    /// Before its list a process is told nothing.
    fn tell(&mut self, object: usize, now: Timestamp) {
        if self.complete_at.is_some() {
            self.view.observe(key(object), self.told[object].then(|| found(object)), now);
        }
    }

    /// Decides, as a rule's reconcile does.
    fn decide(&mut self, rule: &RuleFacts, now: Timestamp) -> Verdict {
        let (key, targets) = (TargetKey::from(&target()), self.view.targets());
        let sight = Sight {
            heard_at: self.complete_at.map(|_| now),
            complete_at: self.complete_at,
            all_resolved: true,
        };
        let view = targets.get(&key).map(|view| &**view);
        let verdict = decide(
            Question { rule, target: &key, view, sight, past: &self.past },
            Load::default(),
            Caps::default(),
            now,
        );
        match &verdict {
            Verdict::Fire { id, occurrence } => {
                assert!(self.past.iter().all(|past| past.id != *id), "its name is taken");
                self.create(past((id, occurrence), now));
            }
            Verdict::Close => {
                self.write(|past| {
                    if past.finished_at.is_some() {
                        past.closed_at.get_or_insert(now);
                    }
                });
            }
            _ => {}
        }
        verdict
    }
}

fn past((id, occurrence): (&str, &str), decided_at: Timestamp) -> Past {
    Past {
        id: id.to_owned(),
        occurrence: occurrence.to_owned(),
        decided_at,
        mode: Mode::Enforce,
        since: Some(decided_at),
        finished_at: None,
        closed_at: None,
    }
}

fn rule(cooldown: u32) -> RuleFacts {
    RuleFacts {
        namespace: "a".into(),
        name: "r".into(),
        mode: Mode::Enforce,
        cooldown: Duration::from_secs(cooldown),
        ..RuleFacts::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_target_that_matches_without_a_break_is_acted_on_once(steps in prop::collection::vec(step(), 1..80)) {
        let (mut world, rule) = (World::default(), rule(0));
        for (moment, step) in std::iter::once(Step::Change(0, true)).chain(steps).enumerate() {
            // One of the three always matches, whichever.
            if let Step::Change(object, false) = step
                && (0..OBJECTS).all(|other| other == object || !world.matches[other])
            {
                continue;
            }
            world.take(step, at(2 * moment));
            let verdict = world.decide(&rule, at(2 * moment + 1));
            prop_assert!(verdict != Verdict::Close, "it is not over");
        }
        prop_assert!(world.store().len() <= 1);
    }

    #[test]
    fn no_more_is_decided_than_has_happened(
        steps in prop::collection::vec(step(), 1..120),
        (hold_for, cooldown) in (0..12u32, 0..12u32),
        rate in prop::option::of((1..3u32, 10..60u32)),
    ) {
        let per_target = rate.map(|(count, within)| Rate { count, within: Duration::from_secs(within) });
        let hold_for = Duration::from_secs(hold_for);
        let (mut world, rule) = (World::default(), RuleFacts { hold_for, per_target, ..rule(cooldown) });
        for (moment, step) in steps.into_iter().enumerate() {
            world.take(step, at(2 * moment));
            world.decide(&rule, at(2 * moment + 1));
            let store = world.store();
            prop_assert!(store.len() <= world.episodes, "{:?} {}", store, world.episodes);
            for (before, after) in store.iter().zip(store.iter().skip(1)) {
                prop_assert_eq!(&after.occurrence, &before.id, "each follows the one before it");
                let ended = before.finished_at.expect("the one before has ended");
                prop_assert!(after.decided_at >= ended.saturating_add(rule.cooldown.signed()).expect("a time"));
            }
            if let Some(Rate { count, within }) = per_target {
                let count = usize::try_from(count).expect("a few");
                for (first, next) in store.iter().zip(store.iter().skip(count)) {
                    prop_assert!(next.decided_at.duration_since(first.decided_at) >= within.signed());
                }
            }
        }
    }

    #[test]
    fn an_event_is_decided_once_in_whatever_order_it_comes(
        deliveries in prop::collection::vec((0..8usize, any::<bool>()), 1..80),
        cooldown in 0..20u32,
    ) {
        let (rule, key) = (rule(cooldown), TargetKey::from(&target()));
        let mut past = Vec::<Past>::new();
        // What the API server has, by name: of two creates under one name it refuses the second.
        let mut store = BTreeMap::<String, usize>::new();
        for (event, finishes) in deliveries {
            let (occurrence, time) = (format!("event-{event}"), at(3 * event));
            let question = EdgeQuestion {
                rule: &rule, rule_created_at: at(0), target: &key, occurrence: &occurrence, time, depth: 0, past: &past,
            };
            if let Ok(id) = decide_edge(question, Load::default(), Caps::default()) {
                match store.entry(execution_name(&rule.name, &id)) {
                    Entry::Occupied(taken) => prop_assert_eq!(*taken.get(), event, "a name for two events"),
                    Entry::Vacant(free) => {
                        free.insert(event);
                        past.push(Past { since: Some(time), ..self::past((&id, &occurrence), time) });
                    }
                }
            }
            let created = store.values().filter(|created| **created == event).count();
            prop_assert!(created <= 1, "{} is created {} times", occurrence, created);
            if finishes {
                for past in &mut past {
                    past.finished_at.get_or_insert(past.decided_at);
                }
            }
        }
    }
}
