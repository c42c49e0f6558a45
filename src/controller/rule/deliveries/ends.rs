//! Executions of another rule end, and each end is an event (`trigger.execution`); the rule may be edited meanwhile.
//!
//! What may be lost, and is: an end about which nobody had decided when an hour had passed. An end that was dropped stays so
//! unless what stood in its way ended within the same second; so here it takes longer.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::MatchedObject;
use crate::controller::reference_to;
use crate::controller::rule::seen::Occurrences;
use crate::controller::rule::unwatched::over_already;
use crate::decide::ends::{OLDEST, end, recorded};
use crate::decide::matching::received;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many seconds pass.
    Pass(i64),
    /// An Execution of the other rule begins, and one ends.
    Begin,
    End(usize),
    /// The rule decides, and may create, or not.
    Decide(bool),
    /// What runs of its own comes to its end.
    Finish,
    /// It is edited: what leads to one target leads to another.
    Edit,
    /// For so many minutes all goes on well.
    Rest(i64),
    /// Another process leads after so many minutes; of Executions it does not know so many of the latest.
    Restart(i64, usize),
}

fn step(edits: bool, behind: usize) -> impl Strategy<Value = Step> {
    let gap = || prop_oneof![3 => Just(0i64), 2 => 1..50i64, 1 => 55..70i64];
    prop_oneof![
        2 => (1..5i64).prop_map(Step::Pass),
        3 => Just(Step::Begin),
        4 => (0..6usize).prop_map(Step::End),
        4 => prop::bool::weighted(0.8).prop_map(Step::Decide),
        3 => Just(Step::Finish),
        1 => Just(if edits { Step::Edit } else { Step::Finish }),
        1 => gap().prop_map(Step::Rest),
        2 => (gap(), 0..=behind).prop_map(|(minutes, behind)| Step::Restart(minutes, behind)),
    ]
}

struct World {
    store: Store,
    /// The rule's texts; the first is in force.
    texts: Vec<Arc<CompiledRule>>,
    /// Whether it is what it was, and all is known.
    is_plain: bool,
    now: i64,
    /// The Executions of the other rule.
    others: Vec<Execution>,
    decided: Occurrences,
    edges: BTreeMap<String, Edge>,
    said: BTreeMap<String, Came>,
}

impl World {
    fn of(is_plain: bool) -> Self {
        let text = |key: &str| {
            rule(&json!({"trigger": {"execution": {"rules": ["q"]}}, "target": {"key": key},
                "when": "event.data.rule == 'q'"}))
        };
        let (rule, one) = text("event.data.target.name");
        let texts = vec![one, text("'x-' + event.data.target.name").1];
        Self {
            store: Store { caps: if is_plain { Caps::default() } else { MANY }, ..Store::of(&rule) },
            texts,
            is_plain,
            now: 0,
            others: Vec::new(),
            decided: Occurrences::default(),
            edges: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(seconds) => self.now += seconds * 1000,
            Step::Begin => self.begin(),
            Step::End(number) => self.end(number),
            Step::Decide(is_up) => self.decide(is_up),
            Step::Finish => {
                self.now += 2000;
                self.store.finish(at(self.now));
            }
            Step::Edit => self.texts.swap(0, 1),
            Step::Rest(minutes) => {
                self.decide(true);
                self.now += minutes * 60_000;
            }
            Step::Restart(minutes, behind) => {
                self.store.restart(behind);
                (self.decided, self.edges) = (Occurrences::default(), BTreeMap::new());
                self.now += minutes * 60_000;
            }
        }
    }

    fn begin(&mut self) {
        let number = self.others.len();
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "namespace": "a", "name": (number % 3).to_string()});
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": format!("q{number}"), "namespace": "a", "uid": format!("u{number}")},
            "spec": {"serviceAccountName": "h", "target": pod, "decision": {"id": number.to_string(),
                "time": at(self.now).to_string(), "rule": {"name": "q"}, "mode": "Enforce", "definition": "d",
                "matched": {"object": pod}}}});
        self.others.push(serde_json::from_value(execution).expect("an Execution"));
    }

    fn end(&mut self, number: usize) {
        let Some(one) = self.others.iter_mut().rev().nth(number).filter(|one| !one.is_finished()) else {
            return;
        };
        let now = kept(at(self.now)).to_string();
        let status = json!({"finishedAt": now, "conditions": [{"type": "Succeeded", "status": "True",
            "reason": "Completed", "message": "m", "lastTransitionTime": now}]});
        one.status = serde_json::from_value(status).expect("a status");
    }

    /// Looks at all ends, and leads those to their targets that are not known.
    fn look(&mut self) {
        let (text, now) = (self.texts[0].clone(), at(self.now));
        let trigger = text.spec.trigger.execution.as_ref().expect("a trigger");
        for execution in &self.others {
            let uid = execution.metadata.uid.as_deref().expect("a UID");
            if self.decided.has(uid) || self.edges.contains_key(uid) {
                continue;
            }
            let Some(found) = end(execution, trigger) else { continue };
            if over_already(&text, &found, now).is_some() {
                continue;
            }
            assert_eq!(text.matches_received(&found.event, now), Ok(true));
            let bindings = received(&json!(found.event), &text.spec.trigger, now);
            let edge = Edge {
                target: text.aim.as_ref().expect("a target").at(&bindings, "a").expect("a name"),
                event: MatchedObject { object: reference_to(execution), resource_version: String::new() },
                occurrence: found.event.id.clone(),
                time: found.time,
                since: found.time,
                data: Arc::new(json!(found.event)),
                recorded: Some(recorded(&text, found.event)),
                captured: Vec::new(),
                depth: found.depth,
            };
            self.edges.insert(edge.occurrence.clone(), edge);
        }
    }

    fn decide(&mut self, is_up: bool) {
        self.look();
        let mut edges: Vec<_> = self.edges.values().cloned().collect();
        edges.sort_by(|a, b| (a.time, &a.occurrence).cmp(&(b.time, &b.occurrence)));
        for edge in edges {
            let came = self.store.edge(&self.texts[0].clone(), &edge, (is_up, at(self.now)));
            if came == Came::Failed {
                continue;
            }
            self.edges.remove(&edge.occurrence);
            self.decided.add(&edge.occurrence);
            let before = self.said.insert(edge.occurrence.clone(), came);
            let stays = before.is_none_or(|before| (before == Came::Made) == (came == Came::Made));
            assert!(stays || !self.is_plain, "{} was {before:?} and is {came:?}", edge.occurrence);
        }
        if is_up {
            self.all_are_answered();
        }
    }

    /// Each end of the last hour has been decided about.
    fn all_are_answered(&self) {
        for one in &self.others {
            let ended = one.status.as_ref().and_then(|status| status.finished_at.as_ref());
            let is_young = ended.is_some_and(|ended| at(self.now).duration_since(ended.0) < OLDEST);
            let uid = one.metadata.uid.as_ref().expect("a UID");
            assert!(!is_young || self.said.contains_key(uid), "{uid} of {:?}", self.said);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_end_is_decided_once(steps in prop::collection::vec(step(false, 0), 1..60)) {
        let mut world = World::of(true);
        steps.into_iter().chain([Step::Decide(true)]).for_each(|step| world.take(step));
    }

    #[test]
    fn by_whoever_does_not_know_the_latest(steps in prop::collection::vec(step(false, 3), 1..60)) {
        let mut world = World::of(false);
        steps.into_iter().chain([Step::Decide(true)]).for_each(|step| world.take(step));
    }

    #[test]
    fn wherever_the_rule_leads_by_now(steps in prop::collection::vec(step(true, 0), 1..60)) {
        let mut world = World::of(false);
        steps.into_iter().chain([Step::Decide(true)]).for_each(|step| world.take(step));
    }
}
