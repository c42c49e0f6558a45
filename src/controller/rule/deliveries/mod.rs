//! Property tests: whatever is delivered, in whatever order and however often, nothing that happens is decided twice, and
//! what has to be decided is. Each file is about one kind of what happens; here is what all have: a rule, its Executions as
//! the API server has them, and as a process knows them.
//!
//! What is decided is decided by the code that decides; a test brings the world, what is told of it, and what may be lost.

mod ended;
mod ends;
mod lives;
mod once;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::fire::{self, Asked, Making};
use super::load::Places;
use super::seen::Edge;
use crate::api::{Execution, MatchedObject, ObjectReference, Rule};
use crate::controller::executions::Executions;
use crate::decide::ended::Verdict;
use crate::decide::episode::{Caps, KEPT, Suppressed};
use crate::decide::identity::TargetKey;
use crate::decide::matching::CompiledRule;

/// When the rule is created.
const BEGINNING: i64 = 1_000_000;

/// A moment, so long after the rule was created.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(BEGINNING * 1000 + milliseconds).expect("a time")
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

/// As the API server gives a time back: in whole seconds, cut off.
fn kept(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a time")
}

/// As many as there can be.
const MANY: Caps = Caps { rule: 100, namespace: 100, total: 100 };

/// A rule and its text.
fn rule(changes: &Value) -> (Rule, Arc<CompiledRule>) {
    let mut spec = json!({"mode": "Enforce", "serviceAccountName": "h", "ladder": [{"run": "x"}]});
    json_patch::merge(&mut spec, changes);
    let rule = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "spec": spec,
        "metadata": {"name": "r", "namespace": "a", "creationTimestamp": at(-1000).to_string()}});
    let rule: Rule = serde_json::from_value(rule).expect("a Rule");
    let compiled = CompiledRule::compile(&rule).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(compiled.created_at, at(0));
    (rule, Arc::new(compiled))
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Came {
    /// It has its Execution.
    Made,
    /// It has none, and never will.
    Suppressed(Suppressed),
    /// It waits.
    Held,
    /// The API server refused to create its Execution.
    Failed,
}

/// The Executions of a rule.
struct Store {
    rule: Rule,
    /// What the API server has, in the order in which it was created.
    server: Vec<Arc<Execution>>,
    /// When each of them was decided, and what it was made of happened, to the fraction of a second.
    times: BTreeMap<String, (Timestamp, Timestamp)>,
    /// What this process knows of it.
    known: Executions,
    places: Places,
    /// How much may go on at once: where it is one Execution of a rule, that hides much.
    caps: Caps,
    version: u64,
}

impl Store {
    fn of(rule: &Rule) -> Self {
        let (server, times) = (Vec::new(), BTreeMap::new());
        let (known, places) = (Executions::new(), Places::default());
        Self { rule: rule.clone(), server, times, known, places, caps: Caps::default(), version: 0 }
    }

    /// Decides about an event.
    fn edge(&mut self, compiled: &CompiledRule, edge: &Edge, (is_up, now): (bool, Timestamp)) -> Came {
        let known = self.known.of_target(&compiled.facts, &TargetKey::from(&edge.target));
        let (stores, edge) = ((&self.places, &self.known), (edge, known.as_slice()));
        let id = match fire::ask(stores, compiled, edge, (self.caps, now)) {
            Ok(Asked::Has(_)) => return Came::Made,
            Err(suppressed) => return Came::Suppressed(suppressed),
            Ok(Asked::Fires(..)) if !is_up => return Came::Failed,
            Ok(Asked::Fires(id, _)) => id,
        };
        self.create(edge.0, id, now);
        Came::Made
    }

    /// Decides about the end of an alert.
    fn end(&mut self, compiled: &CompiledRule, edge: &Edge, now: Timestamp) -> Came {
        let known = self.known.of_target(&compiled.facts, &TargetKey::from(&edge.target));
        let (stores, edge) = ((&self.places, &self.known), (edge, known.as_slice()));
        let id = match fire::ask_end(stores, compiled, edge, (self.caps, now)) {
            Ok((id, _)) => id,
            Err(Verdict::Fired(_)) => return Came::Made,
            Err(Verdict::Dropped(why)) => return Came::Suppressed(why),
            Err(Verdict::Held(..)) => return Came::Held,
            Err(Verdict::Fire(_)) => unreachable!("it would have been given"),
        };
        self.create(edge.0, id, now);
        Came::Made
    }

    /// Creates an Execution, or takes that in which has its name.
    fn create(&mut self, edge: &Edge, id: String, now: Timestamp) {
        let making = Making {
            rule: &self.rule,
            id: id.clone(),
            occurrence: edge.occurrence.clone(),
            target: &edge.target,
            matched: &edge.event,
            since: Some(edge.since),
            event: edge.recorded.as_ref(),
            captured: &edge.captured,
            depth: edge.depth,
            passed: Vec::new(),
        };
        let mut execution = fire::build(&making, "d", now);
        let there = self.server.iter().find(|one| one.metadata.name == execution.metadata.name);
        if let Some(there) = there {
            let decision = there.spec.decision.as_ref().expect("a decision");
            assert_eq!(decision.occurrence, edge.occurrence, "a name for two occurrences");
            self.known.insert(there.clone());
            return;
        }
        let occurrence = &edge.occurrence;
        assert_eq!(self.made(occurrence).count(), 0, "{occurrence} is decided twice: {:#?}", self.server);
        execution.metadata.uid = Some(format!("{id}-uid"));
        self.times.insert(id, (now, edge.since));
        self.write(execution);
    }

    /// Those that were made of an occurrence.
    fn made(&self, occurrence: &str) -> impl Iterator<Item = &Arc<Execution>> {
        self.server.iter().filter(move |one| occurrence_of(one) == occurrence)
    }

    /// Writes an Execution, and takes in what the API server gives back.
    fn write(&mut self, mut execution: Execution) {
        self.version += 1;
        execution.metadata.resource_version = Some(self.version.to_string());
        let written: Execution =
            serde_json::from_value(serde_json::to_value(execution).expect("JSON")).expect("an Execution");
        let written = Arc::new(written);
        match self.server.iter_mut().find(|one| one.metadata.name == written.metadata.name) {
            Some(place) => place.clone_from(&written),
            None => self.server.push(written.clone()),
        }
        self.known.insert(written);
    }

    /// Whatever runs of what this process knows comes to its end.
    fn finish(&mut self, now: Timestamp) {
        for one in self.known.filter(|execution| !execution.is_finished()) {
            let server = self.server.iter().find(|known| known.metadata.name == one.metadata.name);
            let mut execution = Execution::clone(server.expect("what is known is there"));
            if execution.is_finished() {
                self.known.insert(Arc::new(execution));
                continue;
            }
            let status =
                json!({"finishedAt": kept(now).to_string(), "episodeClosedAt": kept(now).to_string()});
            execution.status = serde_json::from_value(status).expect("a status");
            self.write(execution);
        }
    }

    /// Another process leads, which knows all that was written but for the latest.
    fn restart(&mut self, behind: usize) {
        (self.known, self.places) = (Executions::new(), Places::default());
        let read = self.server.len().saturating_sub(behind);
        self.server[..read].iter().for_each(|one| self.known.insert(one.clone()));
    }

    /// When what Executions were made of happened, and until when they ran, if they have ended.
    fn acted(&self) -> Vec<(Timestamp, Option<Timestamp>)> {
        let of = |one: &Arc<Execution>| {
            let decision = one.spec.decision.as_ref().expect("a decision");
            let ended = one.status.as_ref().and_then(|status| status.finished_at.as_ref());
            (self.times[&decision.id].1, ended.map(|ended| ended.0 + KEPT))
        };
        self.server.iter().map(of).collect()
    }

    /// The times at which Executions on a target were decided.
    fn decided(&self, target: &TargetKey) -> Vec<Timestamp> {
        let on =
            |one: &&Arc<Execution>| one.spec.target.as_ref().map(TargetKey::from).as_ref() == Some(target);
        let time = |one: &Arc<Execution>| self.times[&one.spec.decision.as_ref().expect("a decision").id].0;
        self.server.iter().filter(on).map(time).collect()
    }
}

fn occurrence_of(execution: &Execution) -> &str {
    execution.spec.decision.as_ref().map_or("", |decision| &decision.occurrence)
}

/// Something of an occurrence that leads to a target.
fn leading(occurrence: &str, target: &str, time: Timestamp) -> Edge {
    let object = |kind: &str, name: &str| ObjectReference {
        kind: kind.to_owned(),
        name: name.to_owned(),
        ..ObjectReference::default()
    };
    Edge {
        target: object("Key", target),
        event: MatchedObject { object: object("Webhook", "am"), resource_version: String::new() },
        occurrence: occurrence.to_owned(),
        time,
        since: time,
        data: Arc::new(Value::Null),
        recorded: None,
        captured: Vec::new(),
        depth: 0,
    }
}

/// As objects change, and Rules are edited, it leads elsewhere than it did. What stands in the way there is nothing to it.
#[test]
fn what_has_its_execution_on_another_target_has_it() {
    let (rule, compiled) =
        rule(&json!({"trigger": {"alert": {"webhook": "am"}}, "limits": {"cooldown": "1h"},
        "target": {"key": "alert.labels.node"}}));
    let mut store = Store { caps: MANY, ..Store::of(&rule) };
    for (occurrence, target) in [("one", "ark"), ("two", "brig")] {
        let came = store.edge(&compiled, &leading(occurrence, target, at(1000)), (true, at(1000)));
        assert_eq!(came, Came::Made);
        store.finish(at(2000));
    }
    let [known, another] = ["one", "three"].map(|occurrence| leading(occurrence, "brig", at(3000)));
    assert_eq!(store.edge(&compiled, &another, (true, at(3000))), Came::Suppressed(Suppressed::Cooldown));
    assert_eq!(store.end(&compiled, &another, at(3000)), Came::Held);
    assert_eq!(store.edge(&compiled, &known, (true, at(3000))), Came::Made);
    assert_eq!(store.end(&compiled, &known, at(3000)), Came::Made);
    assert_eq!(store.server.len(), 2);
}
