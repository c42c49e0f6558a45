//! Objects are created, changed, deleted, and made again under the same name.
//!
//! What may be lost, and is: a deletion that no process was told of which had been told of the object (it was deleted while
//! nobody watched, or created and deleted while a watch was interrupted); what such a process had not decided about when it
//! ended; a creation that is shown for the first time after an hour; and one from while the watch was broken, if the process
//! that heard of it first ended soon and had not decided about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::api::{ConditionType, Moment, ObjectReference, condition};
use crate::cluster::lease::settled_by;
use crate::controller::rule::checks::{self, Checked};
use crate::controller::rule::happening::{Happening, Unled};
use crate::controller::rule::lives::{Lives, Shown, Turn};
use crate::controller::rule::seen::{Looked, Occurrences, Seen, handled_by, horizon, key_of, too_old};
use crate::decide::ends::OLDEST;
use crate::decide::identity;
use crate::decide::matching::received;
use crate::decide::view::{ObjectKey, Sight};

const NAMES: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A second passes.
    Tick,
    /// An object of a name is there, or is gone.
    Toggle(usize),
    /// It is deleted and made again.
    Again(usize),
    /// It moves elsewhere.
    Move(usize),
    /// The watch tells the next that happened.
    Deliver,
    /// It tells again what it told last.
    Repeat,
    /// It is interrupted: what it has not told it never will.
    Interrupt,
    /// A complete list, page by page. It may break off after so many objects, and begin anew.
    List(Option<usize>),
    /// Targets can be found, or not.
    Reach(bool),
    /// The rule decides, and may create, or not.
    Decide(bool),
    /// What runs comes to its end.
    Finish,
    /// For so many minutes all goes on well and nothing happens.
    Rest(i64),
    /// For so many minutes the watch is broken, which is said of the rule; what happens at the beginning is not told.
    Break(usize, i64),
    /// Another process leads after so many minutes.
    Restart(i64),
}

fn step(moves: bool) -> impl Strategy<Value = Step> {
    let name = 0..NAMES;
    let gap = || prop_oneof![3 => Just(0i64), 2 => 1..50i64, 1 => 55..70i64];
    let moved = name.clone().prop_map(move |name| if moves { Step::Move(name) } else { Step::Tick });
    prop_oneof![
        3 => Just(Step::Tick),
        5 => name.clone().prop_map(Step::Toggle),
        2 => name.prop_map(Step::Again),
        2 => moved,
        6 => Just(Step::Deliver),
        1 => Just(Step::Repeat),
        1 => Just(Step::Interrupt),
        3 => prop::option::weighted(0.3, 0..3usize).prop_map(Step::List),
        1 => any::<bool>().prop_map(Step::Reach),
        5 => prop::bool::weighted(0.8).prop_map(Step::Decide),
        2 => Just(Step::Finish),
        1 => gap().prop_map(Step::Rest),
        1 => (0..NAMES, gap()).prop_map(|(name, minutes)| Step::Break(name, minutes)),
        2 => gap().prop_map(Step::Restart),
    ]
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Added,
    Changed,
    Deleted,
}

/// An object that was ever there.
struct Boat {
    name: usize,
    created: Timestamp,
    version: usize,
    pier: usize,
}

impl Boat {
    fn object(&self, uid: usize) -> Arc<Value> {
        Arc::new(
            json!({"apiVersion": "example.com/v1", "kind": "Boat", "spec": {"pier": format!("p{}", self.pier)},
            "metadata": {"namespace": "a", "name": self.name.to_string(), "uid": uid.to_string(),
                "resourceVersion": self.version.to_string(), "creationTimestamp": kept(self.created).to_string()}}),
        )
    }
}

/// What a process knows, and nobody else.
struct Process {
    began: Timestamp,
    /// Until when it had been led before, as the Lease says.
    before: Option<Timestamp>,
    lives: Lives,
    decided: Occurrences,
    edges: BTreeMap<String, Edge>,
    unled: Unled,
    /// Whether it was the one to say that the watch is broken no more.
    has_mended: bool,
    /// The objects that it was told of, and those of them of which it was told that they are gone; what has to be decided.
    told: BTreeSet<usize>,
    owed: BTreeSet<String>,
}

struct World {
    store: Store,
    compiled: Arc<CompiledRule>,
    now: i64,
    boats: Vec<Boat>,
    /// Those that are there, by name.
    there: BTreeMap<usize, usize>,
    pending: VecDeque<(Told, usize, Arc<Value>)>,
    last: Option<(Told, usize, Arc<Value>)>,
    is_watched: bool,
    is_reachable: bool,
    process: Process,
    /// Whether an object leads to one target for all its life.
    is_fixed: bool,
    said: BTreeMap<String, Came>,
    /// What was lost, and may be.
    excused: BTreeSet<String>,
}

impl World {
    fn of(key: &str) -> Self {
        let (rule, compiled) = rule(&json!({"target": {"key": key}, "trigger": {"resource":
            {"apiVersion": "example.com/v1", "kind": "Boat", "lifecycle": ["Created", "Deleted"]}}}));
        let is_fixed = key == "object.metadata.name";
        let caps = if is_fixed { Caps::default() } else { MANY };
        let store = Store { caps, ..Store::of(&rule) };
        let process = Process::of(&compiled, &store, (at(0), None));
        Self {
            store,
            compiled,
            now: 0,
            boats: Vec::new(),
            there: BTreeMap::new(),
            pending: VecDeque::new(),
            last: None,
            is_watched: false,
            is_reachable: true,
            process,
            is_fixed,
            said: BTreeMap::new(),
            excused: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Tick => self.now += 1000,
            Step::Toggle(name) => match self.there.contains_key(&name) {
                true => self.delete(name),
                false => self.make(name),
            },
            Step::Again(name) => {
                self.delete(name);
                self.make(name);
            }
            Step::Move(name) => self.shift(name),
            Step::Deliver => {
                let Some(next) = self.pending.pop_front() else { return };
                self.last = Some(next.clone());
                self.tell(next);
            }
            Step::Repeat => {
                if let Some(last) = self.last.clone().filter(|_| self.is_watched) {
                    self.tell(last);
                }
            }
            Step::Interrupt => self.interrupt(),
            Step::List(breaks_off) => {
                if let Some(objects) = breaks_off {
                    self.pages(objects);
                    self.interrupt();
                } else {
                    self.list();
                }
            }
            Step::Reach(is_reachable) => self.is_reachable = is_reachable,
            Step::Decide(is_up) => self.decide(is_up),
            Step::Finish => self.store.finish(at(self.now)),
            Step::Rest(minutes) => {
                self.settle();
                self.now += minutes * 60_000;
            }
            Step::Break(name, minutes) => {
                self.settle();
                self.interrupt();
                self.say(Some("broken"));
                self.take(Step::Toggle(name));
                self.now += minutes * 60_000;
            }
            Step::Restart(minutes) => self.restart(minutes),
        }
    }

    /// What the rule's status says of its watch.
    fn say(&mut self, broken: Option<&str>) {
        let sight = Sight { heard_at: Some(at(self.now)), ..Sight::default() };
        let ready =
            condition(&self.store.rule.status.clone().unwrap_or_default().conditions, ConditionType::Ready)
                .is_none_or(|ready| ready.status == "True");
        self.process.has_mended |= !ready && broken.is_none();
        let seen = Seen { broken: broken.map(str::to_owned), sight, ..Seen::default() };
        let mut status = self.store.rule.status.clone().unwrap_or_default();
        let checked = Checked::default();
        checks::conditions(&mut status.conditions, &self.store.rule, &checked, Some(&seen), at(self.now));
        self.store.rule.status = Some(status);
    }

    fn make(&mut self, name: usize) {
        self.boats.push(Boat { name, created: at(self.now), version: self.now_version(), pier: 0 });
        let uid = self.boats.len() - 1;
        self.there.insert(name, uid);
        self.push(Told::Added, uid);
    }

    fn delete(&mut self, name: usize) {
        if let Some(uid) = self.there.remove(&name) {
            self.push(Told::Deleted, uid);
        }
    }

    fn shift(&mut self, name: usize) {
        if let Some(uid) = self.there.get(&name).copied() {
            self.boats[uid].pier += 1;
            self.boats[uid].version += 1;
            self.push(Told::Changed, uid);
        }
    }

    fn now_version(&self) -> usize {
        self.boats.len() * 100
    }

    fn push(&mut self, told: Told, uid: usize) {
        if self.is_watched {
            self.pending.push_back((told, uid, self.boats[uid].object(uid)));
        }
    }

    fn interrupt(&mut self) {
        self.pending.clear();
        (self.is_watched, self.last) = (false, None);
    }

    /// What the watch tells, as it is taken in.
    fn tell(&mut self, (told, uid, object): (Told, usize, Arc<Value>)) {
        let now = at(self.now);
        let turns = match told {
            Told::Added => self.process.lives.take(&self.compiled, &object, Shown::Added, now),
            Told::Changed => self.process.lives.take(&self.compiled, &object, Shown::Changed, now),
            Told::Deleted => {
                self.process.lives.forget(&key_of(&object));
                self.process.lives.lose(&self.compiled, &object, now).into_iter().collect()
            }
        };
        match told {
            Told::Added => self.sees(uid),
            Told::Changed => {}
            Told::Deleted => self.misses(uid),
        }
        for turn in turns {
            self.moment(&turn);
        }
    }

    /// So many objects of a list, from its beginning.
    fn pages(&mut self, most: usize) -> BTreeSet<ObjectKey> {
        let listed: Vec<_> = self.there.values().take(most).copied().collect();
        for uid in &listed {
            let object = self.boats[*uid].object(*uid);
            let turns = self.process.lives.take(&self.compiled, &object, Shown::Listed, at(self.now));
            // What has taken the name of another shows that the other is gone.
            let same = |other: &usize| self.boats[*other].name == self.boats[*uid].name && other != uid;
            let gone: Vec<_> = self.process.told.iter().filter(|other| same(other)).copied().collect();
            for gone in gone {
                self.misses(gone);
            }
            self.sees(*uid);
            for turn in turns {
                self.moment(&turn);
            }
        }
        listed.into_iter().map(|uid| key_of(&self.boats[uid].object(uid))).collect()
    }

    fn list(&mut self) {
        self.pending.clear();
        let (listed, now) = (self.pages(NAMES), at(self.now));
        let turns = self.process.lives.compare(&self.compiled, &listed, (handled_by(now), now));
        for turn in turns {
            self.moment(&turn);
        }
        let gone: Vec<_> = self
            .process
            .told
            .iter()
            .filter(|uid| !self.there.values().any(|there| there == *uid))
            .copied()
            .collect();
        for uid in gone {
            self.misses(uid);
        }
        (self.is_watched, self.last) = (true, None);
    }

    /// This process was told that an object is there, which has to be decided about unless that happened too long ago.
    fn sees(&mut self, uid: usize) {
        if self.process.told.insert(uid) && at(self.now).duration_since(self.boats[uid].created) < OLDEST {
            self.process.owed.insert(occurrence(uid, "Created"));
        }
    }

    /// It was told that one is gone of which it had been told that it was there.
    fn misses(&mut self, uid: usize) {
        if self.process.told.remove(&uid) {
            self.process.owed.insert(occurrence(uid, "Deleted"));
        }
    }

    /// What an evaluator does with a moment.
    fn moment(&mut self, Turn { object, moment, time }: &Turn) {
        let event = self.compiled.moment(object, *moment, *time);
        let name = identity::occurrence(&event);
        let now = at(self.now);
        let matches = || self.compiled.matches_moment(object, &event, now).expect("it can be said");
        if self.process.decided.has(&name) || !matches() || too_old(&self.compiled, *time, now) {
            return;
        }
        assert!(*moment != Moment::Unknown, "{name}");
        self.lead(Happening { object: object.clone(), event });
    }

    fn lead(&mut self, happening: Happening) {
        if !self.is_reachable {
            assert_eq!(self.process.unled.keep(happening), None, "there is room");
            return;
        }
        let bindings = received(&json!(happening.event), &self.compiled.spec.trigger, at(self.now))
            .with("object", happening.object.clone());
        let aim = self.compiled.aim.as_ref().expect("a target");
        let target: ObjectReference = aim.at(&bindings, "a").expect("a name");
        let edge = Edge::of_object(&self.compiled, happening, target);
        self.process.edges.insert(edge.occurrence.clone(), edge);
    }

    /// Decides, as a rule's reconcile does.
    fn decide(&mut self, is_up: bool) {
        for happening in self.process.unled.take() {
            self.lead(happening);
        }
        let mut edges: Vec<_> = self.process.edges.values().cloned().collect();
        edges.sort_by(|a, b| (a.time, &a.occurrence).cmp(&(b.time, &b.occurrence)));
        for edge in edges {
            let came = self.store.edge(&self.compiled, &edge, (is_up, at(self.now)));
            if came == Came::Failed {
                continue;
            }
            self.process.edges.remove(&edge.occurrence);
            self.process.decided.add(&edge.occurrence);
            let before = self.said.insert(edge.occurrence.clone(), came);
            let stays = before.is_none_or(|before| (before == Came::Made) == (came == Came::Made));
            let moved = !self.is_fixed && came == Came::Made;
            assert!(stays || moved, "{} was {before:?} and is {came:?}", edge.occurrence);
        }
        if is_up && self.is_reachable {
            let left = self.left();
            assert!(left.is_empty(), "{left:?} of {:?}", self.said);
        }
        if self.is_watched {
            self.say(None);
        }
    }

    /// What this process has to decide about, and has not.
    fn left(&self) -> Vec<String> {
        let is_left = |owed: &&String| !self.said.contains_key(*owed) && !self.excused.contains(*owed);
        self.process.owed.iter().filter(is_left).cloned().collect()
    }

    /// Another process leads, which knows what is stored.
    fn restart(&mut self, minutes: i64) {
        let before = settled_by(self.process.before, (self.process.began, at(self.now)));
        if self.process.has_mended {
            self.excused.extend(self.left());
        }
        self.interrupt();
        self.store.restart(0);
        self.now += minutes * 60_000;
        self.process = Process::of(&self.compiled, &self.store, (at(self.now), before));
    }

    /// Tells all, and decides about it.
    fn settle(&mut self) {
        self.is_reachable = true;
        self.store.finish(at(self.now));
        while let Some(next) = self.pending.pop_front() {
            self.tell(next);
        }
        self.list();
        self.decide(true);
    }

    /// Of what is there all is decided about that was created an hour ago or later.
    fn all_are_answered(&self) -> TestCaseResult {
        for uid in self.there.values() {
            let is_young = at(self.now).duration_since(self.boats[*uid].created) < OLDEST;
            let created = occurrence(*uid, "Created");
            let is_answered = self.said.contains_key(&created) || self.excused.contains(&created);
            prop_assert!(is_answered || !is_young, "{} of {:?}", uid, self.said);
        }
        Ok(())
    }
}

impl Process {
    /// One that has just begun, where somebody has looked until so long ago.
    fn of(rule: &CompiledRule, store: &Store, (began, before): (Timestamp, Option<Timestamp>)) -> Self {
        let of_rule = store.known.of_rule("a", "r");
        let looked = Looked { until: Some(began), settled: before }.for_rule(&store.rule);
        Self {
            began,
            before,
            has_mended: false,
            lives: Lives::since(rule, horizon(rule, looked.settled)),
            decided: Occurrences::of(of_rule.iter().map(|one| occurrence_of(one))),
            edges: BTreeMap::new(),
            unled: Unled::default(),
            told: BTreeSet::new(),
            owed: BTreeSet::new(),
        }
    }
}

fn occurrence(uid: usize, moment: &str) -> String {
    format!("example.com/v1/Boat {uid}/{moment}")
}

/// Whatever happens to objects of one target each, all of one, or of one that is another by the time.
fn lives(key: &str, steps: Vec<Step>) -> TestCaseResult {
    let mut world = World::of(key);
    for step in steps {
        world.take(step);
    }
    world.settle();
    world.all_are_answered()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_creation_and_deletion_is_decided_once(steps in prop::collection::vec(step(false), 1..60)) {
        lives("object.metadata.name", steps)?;
    }

    #[test]
    fn wherever_it_would_lead_by_now(steps in prop::collection::vec(step(true), 1..60)) {
        lives("object.spec.pier + '-' + object.metadata.name", steps)?;
    }
}
