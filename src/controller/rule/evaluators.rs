//! What is remembered of rules between two looks at them: by this process, and gone with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use super::cache::Cache;
use super::evaluator::Evaluator;
use super::held::Waiting;
use super::seen::Looked;
use super::unwatched::Ends;
use crate::api::{Guard, ObjectedEvent};
use crate::decide::correlation::Tried;

/// The evaluators that run, by rule.
#[derive(Default)]
pub struct Evaluators {
    /// Those that are good.
    pub(super) good: Cache,
    running: Mutex<BTreeMap<(String, String), Arc<Evaluator>>>,
    /// Until when those that have ended had looked.
    looked: Mutex<BTreeMap<(String, String), Looked>>,
    ends: Mutex<BTreeMap<(String, String), Ends>>,
    /// Events that something spoke against, until that is in the status of their rule: another write may come between.
    objected: Mutex<BTreeMap<(String, String), Vec<ObjectedEvent>>>,
    /// What waits of the rules that listen to a Webhook, which have no evaluator.
    listening: Mutex<BTreeMap<(String, String), Arc<Waiting>>>,
    /// The events of such rules of which the last try failed.
    failing: Mutex<BTreeMap<(String, String), BTreeSet<String>>>,
    /// What was found of the events of such rules that wait for others, and by which text of the rule.
    tried: Mutex<BTreeMap<(String, String), (String, Tried)>>,
}

impl Evaluators {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Evaluator>> {
        self.running.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// What waits of a rule that listens to a Webhook.
    pub(super) fn waiting(&self, namespace: &str, name: &str) -> Arc<Waiting> {
        self.listening.lock().entry((namespace.to_owned(), name.to_owned())).or_default().clone()
    }

    /// The events of a rule of which the last try failed.
    pub(super) fn failing(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        self.failing.lock().get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    /// What was found of its events that wait for others, by a text of the rule.
    pub(super) fn tried(&self, namespace: &str, name: &str, text: &str) -> Tried {
        let tried = self.tried.lock();
        let known = tried.get(&(namespace.to_owned(), name.to_owned()));
        known.filter(|(of, _)| of == text).map(|(_, tried)| tried.clone()).unwrap_or_default()
    }

    pub(super) fn set_tried(&self, namespace: &str, name: &str, tried: (String, Tried)) {
        self.tried.lock().insert((namespace.to_owned(), name.to_owned()), tried);
    }

    pub(super) fn set_failing(&self, namespace: &str, name: &str, events: BTreeSet<String>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut failing = self.failing.lock();
        if events.is_empty() { drop(failing.remove(&key)) } else { drop(failing.insert(key, events)) }
    }

    /// What targets wait for, as namespace and name of their rule and the guard, one for each target.
    pub fn held(&self) -> Vec<[String; 3]> {
        let running = self.running.lock();
        let watched = running.iter().map(|(rule, evaluator)| (rule, evaluator.waiting.guards()));
        let listening = self.listening.lock();
        let received = listening.iter().map(|(rule, waiting)| (rule, waiting.guards()));
        let of_rule = |((namespace, name), guards): (&(String, String), Vec<Guard>)| {
            let (namespace, name) = (namespace.clone(), name.clone());
            guards.into_iter().map(move |guard| [namespace.clone(), name.clone(), format!("{guard:?}")])
        };
        watched.chain(received).flat_map(of_rule).collect()
    }

    pub(super) fn set(&self, namespace: &str, name: &str, evaluator: Option<Arc<Evaluator>>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut running = self.running.lock();
        let ended = match evaluator {
            Some(evaluator) => running.insert(key.clone(), evaluator),
            None => running.remove(&key),
        };
        let looked = ended.map(|ended| ended.looked());
        if let Some(looked) = looked.filter(|looked| looked.until.is_some()) {
            self.looked.lock().insert(key, looked);
        }
    }

    /// Takes in that a rule does not watch objects: what happened to them until now is not made up for if it comes to.
    pub(super) fn looks_elsewhere(&self, namespace: &str, name: &str, now: Timestamp) {
        self.set(namespace, name, None);
        let looked = Looked { until: Some(now), settled: Some(now) };
        self.looked.lock().insert((namespace.to_owned(), name.to_owned()), looked);
    }

    /// Until when it was looked for a rule: by its evaluator, or by one that has ended.
    pub(super) fn looked(&self, namespace: &str, name: &str) -> Option<Looked> {
        let key = (namespace.to_owned(), name.to_owned());
        let running = self.running.lock().get(&key).map(|running| running.looked());
        running.filter(|looked| looked.until.is_some()).or_else(|| self.looked.lock().get(&key).copied())
    }

    /// Looks at what a rule knows of the ends of Executions.
    pub(super) fn with_ends<T>(&self, namespace: &str, name: &str, look: impl FnOnce(&mut Ends) -> T) -> T {
        look(self.ends.lock().entry((namespace.to_owned(), name.to_owned())).or_default())
    }

    /// Events that something spoke against, of which the rule's status does not tell yet.
    pub(super) fn objected(&self, namespace: &str, name: &str) -> Vec<ObjectedEvent> {
        self.objected.lock().get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    /// Takes in events that something spoke against.
    pub(super) fn object(&self, namespace: &str, name: &str, events: Vec<ObjectedEvent>) {
        if !events.is_empty() {
            self.objected.lock().entry((namespace.to_owned(), name.to_owned())).or_default().extend(events);
        }
    }

    /// The rule's status tells of these now.
    pub(super) fn noted(&self, namespace: &str, name: &str, told: &[ObjectedEvent]) {
        let mut objected = self.objected.lock();
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(events) = objected.get_mut(&key) {
            events.retain(|event| !told.contains(event));
            if events.is_empty() {
                objected.remove(&key);
            }
        }
    }

    /// Forgets a rule that is gone.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.set(namespace, name, None);
        let key = (namespace.to_owned(), name.to_owned());
        self.listening.lock().remove(&key);
        self.looked.lock().remove(&key);
        self.failing.lock().remove(&key);
        self.tried.lock().remove(&key);
        self.ends.lock().remove(&key);
        self.objected.lock().remove(&key);
        self.good.forget(namespace, name);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn what_was_spoken_against_is_known_until_a_status_tells_of_it() {
        let evaluators = Evaluators::default();
        let event = |id: &str| ObjectedEvent { id: id.to_owned(), time: Time(Timestamp::UNIX_EPOCH) };
        evaluators.object("a", "one", vec![event("1")]);
        let written = evaluators.objected("a", "one");
        // Somebody edits the rule meanwhile: that write fails, and the next has both.
        evaluators.object("a", "one", vec![event("2")]);
        assert_eq!(evaluators.objected("a", "one"), [event("1"), event("2")]);
        evaluators.noted("a", "one", &written);
        assert_eq!(evaluators.objected("a", "one"), [event("2")]);
        evaluators.noted("a", "one", &[event("2")]);
        assert!(evaluators.objected.lock().is_empty());
    }
}
