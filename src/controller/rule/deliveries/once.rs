//! Of many events for a target one counts (`limits.once`).
//!
//! What may be lost, and is: an event of a window of which another one is acted on; and one that happened before the end
//! of an Execution of the rule for the target. What Kubernetes has forgotten before anybody read it is not looked at here.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::api::{Once, Take};
use crate::controller::rule::chosen;
use crate::controller::rule::seen::{Occurrences, Seen};
use crate::decide::deliveries::target;
use crate::decide::guard::Chosen;
use crate::decide::matching::{event_identity, occurred};
use crate::decide::view::Sight;

/// For so long what was written is told at the latest, in milliseconds.
const LATE: i64 = 60_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many halves of a second pass, and the watch says that it lives.
    Pass(i64),
    /// An event happens, and is written so many halves of a second later.
    Happen(i64),
    /// The watch tells the next one.
    Deliver,
    /// It tells one again.
    Repeat(usize),
    /// A complete list.
    List,
    /// The rule decides, and may create, or not.
    Decide(bool),
    /// What runs comes to its end.
    Finish,
    /// Another process leads, which does not know of so many of the latest Executions.
    Restart(usize),
}

/// How bad the world is: for how many halves of a second an event may go unwritten, whether creating fails, and how many
/// Executions a process may not know.
type Badness = (i64, bool, usize);

fn step((lag, fails, behind): Badness) -> impl Strategy<Value = Step> {
    let is_up = if fails { any::<bool>().boxed() } else { Just(true).boxed() };
    prop_oneof![
        4 => prop_oneof![Just(1), 1..=120i64].prop_map(Step::Pass),
        4 => prop_oneof![Just(0), 0..=lag].prop_map(Step::Happen),
        4 => Just(Step::Deliver),
        1 => (0..20usize).prop_map(Step::Repeat),
        2 => Just(Step::List),
        4 => is_up.prop_map(Step::Decide),
        2 => Just(Step::Finish),
        1 => (0..=behind).prop_map(Step::Restart),
    ]
}

fn steps(badness: Badness) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(badness), 1..70)
}

/// An event that has happened.
struct Happened {
    time: i64,
    written: i64,
    /// As Kubernetes has it.
    event: Value,
}

struct World {
    store: Store,
    compiled: Arc<CompiledRule>,
    now: i64,
    events: Vec<Happened>,
    /// What this process was told of.
    told: BTreeSet<usize>,
    edges: BTreeMap<String, Edge>,
    decided: Occurrences,
    sight: Sight,
    /// Whether what is said of an event stays so: of the last of many it does not if some are written late, or cannot be
    /// created, as a window begins with the first that waits.
    stays: bool,
    /// What was said of each event.
    said: BTreeMap<String, Came>,
}

impl World {
    fn of(take: &str, within: i64, stays: bool) -> Self {
        let (rule, compiled) = rule(&json!({"trigger": {"event": {"reasons": ["Odd"]}},
            "limits": {"once": {"take": take, "within": format!("{within}s")}}}));
        Self {
            store: Store::of(&rule),
            compiled,
            now: 0,
            events: Vec::new(),
            told: BTreeSet::new(),
            edges: BTreeMap::new(),
            decided: Occurrences::default(),
            sight: Sight { all_resolved: true, ..Sight::default() },
            stays,
            said: BTreeMap::new(),
        }
    }

    fn once(&self) -> Once {
        self.compiled.facts.once.clone().expect("one of many")
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(halves) => {
                self.now += halves * 500;
                let late = self.untold(self.now - LATE);
                for number in late {
                    self.tell(number);
                }
                self.sight.heard_at = self.sight.heard_at.map(|_| at(self.now));
            }
            Step::Happen(lag) => self.happen(lag * 500),
            Step::Deliver => {
                if let Some(number) = self.untold(self.now).first() {
                    self.tell(*number);
                }
            }
            Step::Repeat(number) => {
                if self.told.contains(&number) {
                    self.tell(number);
                }
            }
            Step::List => self.list(),
            Step::Decide(is_up) => self.decide(is_up),
            Step::Finish => self.store.finish(at(self.now)),
            Step::Restart(behind) => {
                self.store.restart(behind);
                (self.told, self.edges) = (BTreeSet::new(), BTreeMap::new());
                self.decided = Occurrences::default();
                (self.sight.heard_at, self.sight.complete_at) = (None, None);
            }
        }
    }

    fn happen(&mut self, lag: i64) {
        let (number, time, written) = (self.events.len(), self.now, self.now + lag);
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "reason": "Odd",
            "metadata": {"namespace": "a", "name": format!("e{number}"), "uid": format!("{number:03}"),
                "creationTimestamp": kept(at(written)).to_string()},
            "eventTime": at(time).to_string()});
        self.events.push(Happened { time, written, event });
    }

    /// What was written by then and is not told yet, in that order.
    fn untold(&self, by: i64) -> Vec<usize> {
        let written = |number: &usize| self.events[*number].written;
        let mut untold: Vec<_> =
            (0..self.events.len()).filter(|n| written(n) <= by && !self.told.contains(n)).collect();
        untold.sort_by_key(written);
        untold
    }

    /// Before its list a process is told nothing.
    fn tell(&mut self, number: usize) {
        if self.sight.complete_at.is_none() {
            return;
        }
        self.told.insert(number);
        self.sight.heard_at = Some(at(self.now));
        self.hear(number);
    }

    fn hear(&mut self, number: usize) {
        let event = &self.events[number].event;
        let (occurrence, time) = (event_identity(event), occurred(event, at(self.now)));
        if !self.decided.has(&occurrence) {
            let edge = Edge::of_event(event, target(), (occurrence.clone(), time), Vec::new());
            self.edges.insert(occurrence, edge);
        }
    }

    fn list(&mut self) {
        let all: Vec<_> = (0..self.events.len()).filter(|n| self.events[*n].written <= self.now).collect();
        for number in all {
            self.told.insert(number);
            self.hear(number);
        }
        (self.sight.heard_at, self.sight.complete_at) = (Some(at(self.now)), Some(at(self.now)));
    }

    /// Decides, as a rule's reconcile does.
    fn decide(&mut self, is_up: bool) {
        let mut edges: Vec<_> = self.edges.values().cloned().collect();
        edges.sort_by(|a, b| (a.time, &a.occurrence).cmp(&(b.time, &b.occurrence)));
        let seen = Seen { edges, sight: self.sight, ..Seen::default() };
        let chosen = chosen(&self.compiled, &seen);
        for edge in &seen.edges {
            let came = match chosen.get(edge.occurrence.as_str()) {
                Some(Chosen::Wait(_)) => continue,
                Some(Chosen::Drop) => Came::Suppressed(Suppressed::Superseded),
                Some(Chosen::Take) | None => self.store.edge(&self.compiled, edge, (is_up, at(self.now))),
            };
            if came != Came::Failed {
                self.edges.remove(&edge.occurrence);
                self.decided.add(&edge.occurrence);
                let before = self.said.insert(edge.occurrence.clone(), came);
                let stays = before.is_none_or(|before| (before == Came::Made) == (came == Came::Made));
                assert!(stays || !self.stays, "{} was {before:?} and is {came:?}", edge.occurrence);
            }
        }
    }

    /// Tells all, and decides until nothing waits.
    fn settle(&mut self) {
        self.store.restart(0);
        let end = self.events.iter().map(|event| event.written).max().unwrap_or_default();
        self.now = self.now.max(end) + 1_000_000;
        for _ in 0..=self.events.len() {
            self.store.finish(at(self.now));
            self.now += 2000;
            self.list();
            self.decide(true);
        }
        assert!(self.edges.is_empty(), "{:?} wait", self.edges.keys());
    }

    /// The events that are the last of their windows: a window begins with the first event that is in none before.
    fn lasts(&self, within: i64) -> BTreeSet<usize> {
        let mut order: Vec<_> = (0..self.events.len()).collect();
        order.sort_by_key(|number| (self.events[*number].time, *number));
        let mut lasts = BTreeMap::<i64, usize>::new();
        let mut began = i64::MIN / 2;
        for number in order {
            let time = self.events[number].time;
            began = if time < began + within { began } else { time };
            lasts.insert(began, number);
        }
        lasts.into_values().collect()
    }

    /// When what was acted on happened, in the order of decisions.
    fn acted(&self) -> Vec<Timestamp> {
        self.store.acted().into_iter().map(|(time, _)| time).collect()
    }

    /// Each event is acted on, or another one of its window is, or something that acts was not over when it happened.
    fn all_are_answered(&self) -> TestCaseResult {
        let (within, acted) = (self.once().within.signed(), self.store.acted());
        for event in &self.events {
            let time = at(event.time);
            let another = |other: Timestamp| match self.once().take {
                // Times are kept in whole seconds, and it is rather one too few than one too many.
                Take::First => other.duration_since(time).abs() < within + KEPT + KEPT,
                Take::Last => other + KEPT > time && other.duration_since(time) < within + KEPT,
            };
            let is_answered = acted.iter().any(|(other, ended)| {
                *other == time || another(*other) || ended.is_none_or(|ended| ended > time)
            });
            prop_assert!(is_answered, "{:?} of {:?}", time, acted);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_first_of_many_is_acted_on_and_no_other_near_it(steps in steps((120, true, 0)), within in 2..120i64) {
        let mut world = World::of("First", within, true);
        for step in steps { world.take(step); }
        world.settle();
        let mut acted = world.acted();
        acted.sort_unstable();
        for (one, next) in acted.iter().zip(acted.iter().skip(1)) {
            prop_assert!(next.duration_since(*one) >= seconds(within), "{:?}", acted);
        }
        world.all_are_answered()?;
    }

    #[test]
    fn the_last_of_each_window_is_acted_on_and_no_other(steps in steps((0, false, 3)), within in 2..120i64) {
        let mut world = World::of("Last", within, true);
        for step in steps { world.take(step); }
        world.settle();
        let lasts: BTreeSet<_> = world.lasts(within * 1000).into_iter().map(|n| at(world.events[n].time)).collect();
        let acted = world.store.acted();
        for (time, _) in &acted {
            prop_assert!(lasts.contains(time), "{:?} is not the last of {:?}", time, lasts);
        }
        for last in lasts {
            let stands_in_its_way = |(time, ended): &(Timestamp, Option<Timestamp>)| {
                *time < last && ended.is_none_or(|ended| ended > last)
            };
            let is_answered = acted.iter().any(|one| one.0 == last || stands_in_its_way(one));
            prop_assert!(is_answered, "{:?} of {:?}", last, acted);
        }
    }

    /// What is written after its window was decided about comes too late, or begins another window.
    #[test]
    fn no_earlier_one_is_acted_on_after_the_last(steps in steps((240, true, 0)), within in 2..120i64) {
        let mut world = World::of("Last", within, false);
        for step in steps { world.take(step); }
        world.settle();
        let acted = world.acted();
        for (place, time) in acted.iter().enumerate() {
            let after = acted[..place].iter().any(|other| {
                other >= time && other.duration_since(*time) < seconds(within)
            });
            prop_assert!(!after, "{:?} in {:?}", time, acted);
        }
        world.all_are_answered()?;
    }
}
