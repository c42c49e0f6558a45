//! Alerts fire, are resolved, and fire again; what a Webhook is told of that comes late, again, and in another order, and
//! what was kept of it goes when it is over (`trigger.alert.state: Resolved`).
//!
//! What may be lost, and is: an end that nobody was told of; one of an alert that fires again before it is acted on; and
//! one after which something was decided about the same target, as that is about this end as well.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::api::{AcceptedEvent, EventBatch, MatchedObject, ObjectReference, OutcomeKind, WebhookSpec};
use crate::decide::identity::occurrence;
use crate::decide::inbox::{self, Item, REMEMBERED, received_at};
use crate::decide::lead::{Lead, lead};
use crate::decide::owed::{recorded, settled_at};
use crate::decide::unmatched::ended_by;
use crate::source::webhook::{Request, read};

const ALERTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many tenths of a second pass, or minutes.
    Pass(i64),
    Rest(i64),
    /// An alert fires, or is resolved if it does.
    Toggle(usize),
    /// The Webhook is told what is new; of what happened so long ago, and so much of it; or that the other way round.
    News,
    Old(usize, usize),
    Back(usize, usize),
    /// The rule decides; what came of it may not be recorded, as the process ends there.
    Decide(bool),
    /// What runs comes to its end.
    Finish,
    /// Batches go that are over.
    Forget,
    /// Another process leads.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let old = || (0..8usize, 1..4usize);
    prop_oneof![
        3 => (1..40i64).prop_map(Step::Pass),
        1 => (1..30i64).prop_map(Step::Rest),
        5 => (0..ALERTS).prop_map(Step::Toggle),
        4 => Just(Step::News),
        2 => old().prop_map(|(from, count)| Step::Old(from, count)),
        1 => old().prop_map(|(from, count)| Step::Back(from, count)),
        5 => prop::bool::weighted(0.2).prop_map(Step::Decide),
        3 => Just(Step::Finish),
        2 => Just(Step::Forget),
        1 => Just(Step::Restart),
    ]
}

/// What is said of an alert: since when it fires, or fired until when.
#[derive(Clone, Debug)]
struct Said {
    alert: usize,
    starts: i64,
    ends: Option<i64>,
    event: AcceptedEvent,
}

struct World {
    store: Store,
    compiled: Arc<CompiledRule>,
    now: i64,
    /// The alerts that fire, and since when.
    firing: BTreeMap<usize, i64>,
    /// All that can be said, in the order in which it happened, and how much of it is not news any more.
    happened: Vec<Said>,
    sent: usize,
    batches: Vec<Arc<EventBatch>>,
    received: usize,
    /// What was told of each alert: by its beginnings its ends.
    told: BTreeMap<usize, BTreeMap<i64, Option<i64>>>,
}

impl World {
    fn new() -> Self {
        let (rule, compiled) = rule(&json!({"trigger": {"alert": {"webhook": "am", "state": "Resolved"}},
            "target": {"key": "alert.labels.node"}}));
        Self {
            store: Store::of(&rule),
            compiled,
            now: 1000,
            firing: BTreeMap::new(),
            happened: Vec::new(),
            sent: 0,
            batches: Vec::new(),
            received: 0,
            told: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(tenths) => self.now += tenths * 100,
            Step::Rest(minutes) => self.now += minutes * 60_000,
            Step::Toggle(alert) => self.toggle(alert),
            Step::News => {
                let news = self.happened[self.sent..].to_vec();
                self.sent = self.happened.len();
                self.post(news);
            }
            Step::Old(from, count) => self.post(self.past(from, count)),
            Step::Back(from, count) => {
                let mut old = self.past(from, count);
                old.reverse();
                for one in old {
                    self.post(vec![one]);
                }
            }
            Step::Decide(ends) => self.decide(ends),
            Step::Finish => self.store.finish(at(self.now)),
            Step::Forget => self.forget(),
            Step::Restart => self.store.restart(0),
        }
    }

    fn toggle(&mut self, alert: usize) {
        let (starts, ends) = match self.firing.remove(&alert) {
            Some(starts) => (starts, Some(self.now)),
            None => (self.now, None),
        };
        if ends.is_none() {
            self.firing.insert(alert, starts);
        }
        self.happened.push(Said { alert, starts, ends, event: accepted(alert, starts, ends) });
        // What happens next happens later.
        self.now += 100;
    }

    fn past(&self, from: usize, count: usize) -> Vec<Said> {
        let first = self.sent.saturating_sub(from + 1);
        self.happened[first..self.sent.min(first + count)].to_vec()
    }

    /// Keeps what is posted: each time, as if by a replica that knows nothing of what the others keep.
    fn post(&mut self, said: Vec<Said>) {
        if said.is_empty() {
            return;
        }
        for one in &said {
            let of_alert = self.told.entry(one.alert).or_default();
            let ends = of_alert.entry(one.starts).or_default();
            *ends = ends.or(one.ends);
        }
        self.received += 1;
        let events: Vec<_> = said.into_iter().map(|one| one.event).collect();
        let batch = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch",
            "metadata": {"name": format!("b{}", self.received)},
            "spec": {"webhook": "am", "receivedAt": at(self.now).to_string(), "events": events}});
        self.batches.push(Arc::new(serde_json::from_value(batch).expect("an EventBatch")));
    }

    /// Decides, as the rule's reconcile does.
    fn decide(&mut self, ends: bool) {
        let (compiled, now) = (self.compiled.clone(), at(self.now));
        let inbox = inbox::of(&compiled, &self.batches, &BTreeSet::new(), now);
        let (mut outcomes, mut holds) = (Vec::new(), false);
        let mut note =
            |item: &Item, kind| outcomes.push((item.batch.clone(), item.outcome("r", kind, "", now)));
        inbox.over.iter().for_each(|(item, kind, _)| note(item, *kind));
        inbox.firing.iter().for_each(|item| note(item, OutcomeKind::Held));
        for item in &inbox.waiting {
            let Lead::To(target) = lead(&compiled, item.accepted(), true, now) else {
                panic!("it leads somewhere")
            };
            let kind = match self.end(item, target) {
                Came::Made => OutcomeKind::Fired,
                Came::Suppressed(_) => OutcomeKind::Suppressed,
                Came::Held => OutcomeKind::Held,
                Came::Failed => panic!("it can be created"),
            };
            holds |= kind == OutcomeKind::Held;
            note(item, kind);
        }
        if ends {
            return self.store.restart(0);
        }
        for (batch, outcome) in outcomes {
            self.record(&batch, outcome);
        }
        if !holds {
            self.all_are_answered();
        }
    }

    fn end(&mut self, item: &Item, target: ObjectReference) -> Came {
        let (compiled, event) = (self.compiled.clone(), &item.accepted().event);
        let object =
            ObjectReference { kind: "Webhook".into(), name: "am".into(), ..ObjectReference::default() };
        let time = event.time.0.min(received_at(&item.batch));
        let edge = Edge {
            target,
            event: MatchedObject { object, resource_version: String::new() },
            occurrence: occurrence(event),
            time,
            since: time,
            data: Arc::new(json!(event)),
            recorded: Some(event.clone()),
            captured: Vec::new(),
            depth: 0,
        };
        let before = self.store.decided(&TargetKey::from(&edge.target));
        let came = self.store.end(&compiled, &edge, at(self.now));
        if self.store.decided(&TargetKey::from(&edge.target)).len() > before.len() {
            let is_answered = before.iter().any(|decided| kept(*decided) >= edge.time);
            assert!(!is_answered, "{} was answered by {before:?}", edge.occurrence);
            let alert = item.accepted().alert.as_ref().expect("an alert");
            let later =
                |(starts, ends): (&i64, &Option<i64>)| at(*starts) > alert.starts_at.0 && ends.is_none();
            let number: usize = alert.fingerprint.parse().expect("a number");
            assert!(!self.told[&number].iter().any(later), "{} fires again", edge.occurrence);
        }
        came
    }

    fn record(&mut self, batch: &EventBatch, outcome: crate::api::EventOutcome) {
        let place = self.batches.iter_mut().find(|one| one.metadata.name == batch.metadata.name);
        let place = place.expect("it is there");
        let status = Some(recorded(place, &[outcome]));
        Arc::make_mut(place).status = status;
    }

    /// Batches go with which all is over, when what they say of others is recorded there.
    fn forget(&mut self) {
        let now = at(self.now);
        for batch in self.batches.clone() {
            if settled_at(&batch).is_none_or(|settled| now.duration_since(settled) < REMEMBERED) {
                continue;
            }
            for (other, outcome) in ended_by(&batch, &self.batches.clone(), false, now) {
                self.record(&other, outcome);
            }
            self.batches.retain(|one| one.metadata.name != batch.metadata.name);
        }
    }

    /// After the end of what fires no more, for all that was told, something was decided about its target.
    fn all_are_answered(&self) {
        for (alert, told) in &self.told {
            let Some((_, Some(ends))) = told.last_key_value() else { continue };
            let key = TargetKey::from(&ObjectReference::key("a", node(*alert).to_owned()));
            let decided = self.store.decided(&key);
            let is_answered = decided.iter().any(|decided| *decided >= at(*ends));
            assert!(is_answered, "the end of {alert} at {:?}: {decided:?}", at(*ends));
        }
    }

    /// What fires is resolved, all is told, and decided about one after the other.
    fn settle(&mut self) {
        (0..ALERTS)
            .filter(|alert| self.firing.contains_key(alert))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|alert| self.toggle(alert));
        self.take(Step::News);
        for _ in 0..=ALERTS {
            self.now += 2000;
            self.store.finish(at(self.now));
            self.now += 2000;
            self.decide(false);
        }
        self.all_are_answered();
    }
}

/// Two of the alerts are of one node.
fn node(alert: usize) -> &'static str {
    if alert < 2 { "n" } else { "m" }
}

/// What the Webhook keeps of what Alertmanager says.
fn accepted(alert: usize, starts: i64, ends: Option<i64>) -> AcceptedEvent {
    let spec = json!({"serviceAccountName": "h", "alertmanager": {},
        "authentication": {"bearer": {"secretRef": {"name": "s", "key": "k"}}}});
    let spec: WebhookSpec = serde_json::from_value(spec).expect("a Webhook");
    let status = if ends.is_some() { "resolved" } else { "firing" };
    let body = json!({"version": "4", "alerts": [{"status": status, "fingerprint": alert.to_string(),
        "labels": {"alertname": "Odd", "node": node(alert)}, "annotations": {},
        "startsAt": at(starts).to_string(), "endsAt": ends.map(|ends| at(ends).to_string())}]});
    let body = body.to_string();
    let (headers, received_at) = (HeaderMap::new(), at(starts));
    let request = Request { headers: &headers, body: body.as_bytes(), received_at };
    let received = read(&spec, "am", request).expect("an alert").events.remove(0);
    AcceptedEvent { event: received.event, rules: vec!["r".to_owned()], alert: received.alert }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_end_is_answered_and_none_twice(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps { world.take(step); }
        world.settle();
    }
}
