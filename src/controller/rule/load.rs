//! How much is going on: counted over the Executions as last seen, and over those that are being created at this moment.
//!
//! Rules fire side by side, and a create takes a while. Whoever fires takes a place first, in the moment in which it is
//! counted; the place is given back when the store has the Execution, or the API server has refused it. A run by hand
//! counts once it has begun, and takes a place to begin: anybody can write as many as they like.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use parking_lot::Mutex;

use crate::api::{Execution, Mode, ObjectReference};
use crate::controller::executions::{Executions, ended_at};
use crate::controller::store::Key;
use crate::decide::episode::{KEPT, Load, RuleFacts};
use crate::decide::guard::{full_until, is_full};
use crate::decide::identity::{TargetKey, execution_name};

/// How long a place is kept for what nobody waits for any more, such as a create whose answer was lost: the watch brings
/// the Execution sooner, if there is one.
const STAYS: SignedDuration = SignedDuration::from_mins(1);

/// For whom it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The Rule.
    pub rule: &'a RuleFacts,
    /// The target.
    pub target: &'a TargetKey,
    /// For an event: when it happened. Whatever has not ended before is counted, so that the count never falls: an event
    /// that was suppressed stays so, whoever looks at it again, and when.
    pub since: Option<Timestamp>,
    /// This moment.
    pub now: Timestamp,
}

/// A place that is taken for an Execution that is being created, or for a run by hand that begins.
#[derive(Clone, Debug)]
struct Place {
    /// None for a run by hand.
    rule: Option<String>,
    target: Option<TargetKey>,
    mode: Mode,
    /// What it counts for in the rule's rate.
    at: Timestamp,
    /// When it is given back at the latest.
    until: Timestamp,
}

/// The places that are taken, by namespace and name of the Execution.
#[derive(Default)]
pub struct Places {
    taken: Mutex<BTreeMap<Key, Place>>,
}

impl Places {
    /// Counts what is going on, and in the same moment takes a place if `decide` gives a decision: its id, and whatever
    /// else. The decision's own place does not count: it is there if an answer was lost, and tried again then.
    pub fn take<T, E>(
        &self,
        executions: &Executions,
        counted: Counted<'_>,
        decide: impl Fn(Load) -> Result<(String, T), E>,
    ) -> Result<(String, T, Taken<'_>), E> {
        let (mut taken, now) = (self.taken.lock(), counted.now);
        taken.retain(|_, place| place.until > now);
        let (own, _) = decide(Load::default())?;
        let (id, rest) = decide(count(executions, &taken, counted, &key_of(counted.rule, &own)))?;
        let key = key_of(counted.rule, &id);
        let place = Place {
            rule: Some(counted.rule.name.clone()),
            target: Some(counted.target.clone()),
            mode: counted.rule.mode,
            at: counted.since.unwrap_or(now),
            until: now.saturating_add(STAYS).unwrap_or(Timestamp::MAX),
        };
        taken.insert(key.clone(), place);
        Ok((id, rest, Taken { places: self, key, stays: false }))
    }

    /// Takes a place for a run by hand that is about to begin, if fewer than `most` run in its namespace.
    pub fn begin(
        &self,
        executions: &Executions,
        execution: &Execution,
        (most, now): (usize, Timestamp),
    ) -> Option<Taken<'_>> {
        let mut taken = self.taken.lock();
        taken.retain(|_, place| place.until > now);
        let key = (execution.namespace().unwrap_or_default(), execution.name_any());
        let rule = RuleFacts { namespace: key.0.clone(), ..RuleFacts::default() };
        let target = execution.spec.target.as_ref().map(TargetKey::from);
        let nothing = TargetKey::default();
        let counted = Counted { rule: &rule, target: target.as_ref().unwrap_or(&nothing), since: None, now };
        if count(executions, &taken, counted, &key).namespace >= most {
            return None;
        }
        let until = now.saturating_add(STAYS).unwrap_or(Timestamp::MAX);
        taken.insert(key.clone(), Place { rule: None, target, mode: Mode::Enforce, at: now, until });
        Some(Taken { places: self, key, stays: false })
    }

    /// Counts what is going on beside a decision of this id.
    pub fn load(&self, executions: &Executions, counted: Counted<'_>, own: &str) -> Load {
        count(executions, &self.taken.lock(), counted, &key_of(counted.rule, own))
    }
}

/// A place that is taken, until this is dropped.
pub struct Taken<'a> {
    places: &'a Places,
    key: Key,
    stays: bool,
}

impl Taken<'_> {
    /// The place stays for a while: there may be an Execution, as the answer to its create was lost; or it begins, and will
    /// be counted by itself.
    pub fn stay(mut self) {
        self.stays = true;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.stays {
            self.places.taken.lock().remove(&self.key);
        }
    }
}

/// Namespace and name of the Execution of a decision.
fn key_of(rule: &RuleFacts, id: &str) -> Key {
    (rule.namespace.clone(), execution_name(&rule.name, id))
}

fn count(executions: &Executions, taken: &BTreeMap<Key, Place>, counted: Counted<'_>, own: &Key) -> Load {
    let rule = counted.rule;
    let (mut load, mut acted) = (Load::default(), Vec::new());
    // In one moment: an Execution that came in between would be counted neither by itself nor by its place.
    executions.with(|executions| {
        // Who ended so long before an event does not count for it.
        let since = counted.since.map(|since| since.saturating_sub(KEPT).unwrap_or(Timestamp::MIN));
        executions.under_way(since).for_each(|execution| add_execution(&mut load, execution, counted));
        if rule.per_rule.is_some() {
            let of_rule = executions.of_rule(&rule.namespace, &rule.name);
            acted.extend(of_rule.filter_map(|execution| acted_at(execution, counted)));
        }
        let not_yet = |(key, place): &(&Key, &Place)| match (executions.get(key), &place.rule) {
            (found, Some(_)) => found.is_none(),
            (found, None) => found.is_some_and(|found| !found.has_begun() && !found.is_finished()),
        };
        for (key, place) in taken.iter().filter(|(key, _)| *key != own).filter(not_yet) {
            let here = key.0 == rule.namespace;
            let of_rule = here && place.rule.as_ref() == Some(&rule.name);
            let whose = Whose { is_decided: place.rule.is_some(), of_rule, here };
            add(&mut load, place.mode, whose, || place.target.as_ref() == Some(counted.target));
            acted.extend((of_rule && place.mode != Mode::Observe).then_some(place.at));
        }
    });
    load.rule_full = rule.per_rule.and_then(|rate| match counted.since {
        Some(time) => is_full(rate, acted, time).then_some(Timestamp::MAX),
        None => full_until(rate, acted, counted.now),
    });
    load
}

/// When an Execution of the rule counts for its rate: an event by when it happened, so that one that had no room never
/// has.
fn acted_at(execution: &Execution, counted: Counted<'_>) -> Option<Timestamp> {
    let decision = execution.spec.decision.as_ref().filter(|decision| decision.mode != Mode::Observe)?;
    let event = counted.since.and(decision.since.as_ref());
    Some(event.unwrap_or(&decision.time).0)
}

fn add_execution(load: &mut Load, execution: &Execution, counted: Counted<'_>) {
    let decision = execution.spec.decision.as_ref();
    if decision.is_none() && !execution.has_begun() {
        return;
    }
    let mode = decision.map_or(Mode::Enforce, |decision| decision.mode);
    let over = ended_at(execution).is_some_and(|ended| {
        counted.since.is_none_or(|since| ended.saturating_add(KEPT).unwrap_or(Timestamp::MAX) <= since)
    });
    if over {
        return;
    }
    let here = execution.metadata.namespace.as_ref() == Some(&counted.rule.namespace);
    let of_rule = here && decision.is_some_and(|decision| decision.rule.name == counted.rule.name);
    let same = |target: &ObjectReference| {
        target.name == counted.target.name && TargetKey::from(target) == *counted.target
    };
    let whose = Whose { is_decided: decision.is_some(), of_rule, here };
    add(load, mode, whose, || execution.spec.target.as_ref().is_some_and(same));
}

/// Whose an Execution is.
struct Whose {
    /// Of any Rule: not a run by hand.
    is_decided: bool,
    /// Of the Rule for which it is counted.
    of_rule: bool,
    /// In its namespace.
    here: bool,
}

fn add(
    load: &mut Load,
    mode: Mode,
    Whose { is_decided, of_rule, here }: Whose,
    on_target: impl FnOnce() -> bool,
) {
    if mode == Mode::Observe {
        load.observed_open += usize::from(of_rule);
        return;
    }
    // Who runs things by hand stops the Rules of their own namespace at the most.
    load.total += usize::from(is_decided);
    load.namespace += usize::from(here);
    load.rule += usize::from(of_rule);
    load.target += usize::from(on_target());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::episode::Caps;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn facts(namespace: &str, name: &str) -> RuleFacts {
        RuleFacts {
            namespace: namespace.into(),
            name: name.into(),
            mode: Mode::Enforce,
            ..RuleFacts::default()
        }
    }

    fn target(name: &str) -> TargetKey {
        TargetKey { group: String::new(), kind: "Pod".into(), namespace: "a".into(), name: name.into() }
    }

    fn execution(name: &str, rule: &str, status: Value) -> Arc<Execution> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "a", "name": "p"});
        let execution = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": name, "namespace": "a", "resourceVersion": "1"},
            "spec": {"serviceAccountName": "h", "target": pod, "decision": {"id": name, "time": at(0).to_string(),
                "rule": {"name": rule}, "mode": "Enforce", "matched": {"object": pod}, "definition": "d"}},
            "status": status,
        });
        Arc::new(serde_json::from_value(execution).expect("an Execution"))
    }

    /// Takes a place for a rule if the caps allow it.
    fn fire<'a>(
        places: &'a Places,
        store: &Executions,
        (namespace, rule, name): (&str, &str, &str),
        second: i64,
    ) -> Option<Taken<'a>> {
        let (rule, target) = (facts(namespace, rule), target(name));
        let counted = Counted { rule: &rule, target: &target, since: None, now: at(second) };
        let caps = Caps::default();
        let decide = |load: Load| {
            let full = load.rule >= caps.rule || load.namespace >= caps.namespace || load.total >= caps.total;
            if full || load.target > 0 { Err(()) } else { Ok((format!("{name:0<32}"), ())) }
        };
        places.take(store, counted, decide).ok().map(|(_, (), taken)| taken)
    }

    #[test]
    fn whoever_creates_side_by_side_is_counted() {
        let (places, store) = (Places::default(), Executions::new());
        let first = fire(&places, &store, ("a", "r0", "p0"), 0);
        assert!(first.is_some() && fire(&places, &store, ("a", "r0", "p1"), 0).is_none(), "one of a rule");
        assert!(fire(&places, &store, ("a", "r1", "p0"), 0).is_none(), "one on a target");
        let others: Vec<_> = (1..9)
            .filter_map(|n| fire(&places, &store, ("a", &format!("r{n}"), &format!("p{n}")), 0))
            .collect();
        assert_eq!(others.len(), 4, "five in a namespace");
        drop((first, others));
        assert!(fire(&places, &store, ("a", "r0", "p1"), 0).is_some(), "the places were given back");
    }

    #[test]
    fn a_place_and_its_execution_are_one() {
        let (places, store) = (Places::default(), Executions::new());
        let taken = fire(&places, &store, ("a", "r", "p"), 0).expect("a place");
        let name = execution_name("r", &format!("{:0<32}", "p"));
        store.insert(execution(&name, "r", json!({})));
        let (rule, target) = (facts("a", "r"), target("p"));
        let counted = Counted { rule: &rule, target: &target, since: None, now: at(0) };
        let load = places.load(&store, counted, "another");
        assert_eq!((load.rule, load.namespace, load.total, load.target), (1, 1, 1, 1));
        drop(taken);
        assert_eq!(places.load(&store, counted, "another").total, 1);
    }

    fn by_hand(name: &str, status: Value) -> Arc<Execution> {
        let target = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "a", "name": "p"});
        let execution = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": name, "namespace": "a", "resourceVersion": "1"},
            "spec": {"serviceAccountName": "h", "run": "x", "target": target}, "status": status,
        });
        Arc::new(serde_json::from_value(execution).expect("an Execution"))
    }

    fn begun() -> Value {
        json!({"rungs": [{"run": "x", "state": "Running", "startedAt": at(0).to_string()}]})
    }

    #[test]
    fn a_run_by_hand_counts_once_it_has_begun_and_only_in_its_namespace() {
        let (places, store) = (Places::default(), Executions::new());
        let (rule, target) = (facts("a", "r"), target("p"));
        let load = |store: &Executions| {
            let counted = Counted { rule: &rule, target: &target, since: None, now: at(0) };
            let load = places.load(store, counted, "another");
            (load.rule, load.namespace, load.total, load.target)
        };
        for n in 0..20 {
            store.insert(by_hand(&format!("waits{n}"), json!({})));
        }
        assert_eq!(load(&store), (0, 0, 0, 0));
        store.insert(by_hand("begun", begun()));
        assert_eq!(load(&store), (0, 1, 0, 1));
        places.begin(&store, &by_hand("waits0", json!({})), (5, at(0))).expect("a place").stay();
        assert_eq!(load(&store), (0, 2, 0, 2), "who is about to begin counts");
    }

    #[test]
    fn runs_by_hand_that_begin_side_by_side_take_the_places_that_there_are() {
        let (places, store) = (Places::default(), Executions::new());
        let runs: Vec<_> = (0..4).map(|n| by_hand(&format!("x{n}"), json!({}))).collect();
        for run in &runs {
            store.insert(run.clone());
        }
        let begin = |n: usize| places.begin(&store, &runs[n], (2, at(0)));
        let (first, second) = (begin(0).expect("a place"), begin(1).expect("a place"));
        assert!(begin(2).is_none());
        second.stay();
        begin(1).expect("its own place does not count").stay();
        drop(first);
        begin(2).expect("the place was given back").stay();
        store.insert(changed(&runs[2], "2", begun()));
        assert!(begin(3).is_none(), "who has begun counts once, by itself");
        store.insert(changed(&runs[2], "3", json!({"finishedAt": at(1).to_string()})));
        assert!(begin(3).is_some());
    }

    fn changed(execution: &Execution, version: &str, status: Value) -> Arc<Execution> {
        let mut changed = execution.clone();
        changed.metadata.resource_version = Some(version.to_owned());
        changed.status = serde_json::from_value(status).expect("a status");
        Arc::new(changed)
    }

    #[test]
    fn a_create_whose_answer_was_lost_keeps_its_place_for_a_while() {
        let (places, store) = (Places::default(), Executions::new());
        fire(&places, &store, ("a", "r", "p"), 0).expect("a place").stay();
        assert!(fire(&places, &store, ("a", "r", "q"), 59).is_none());
        assert!(fire(&places, &store, ("a", "s", "p"), 1).is_none(), "another rule's, on the same target");
        fire(&places, &store, ("a", "r", "p"), 1).expect("the same decision is tried again").stay();
        assert!(fire(&places, &store, ("a", "r", "q"), 60).is_none());
        assert!(fire(&places, &store, ("a", "r", "q"), 61).is_some());
    }

    #[test]
    fn the_rate_of_a_rule_counts_all_its_targets_and_places() {
        let (places, store) = (Places::default(), Executions::new());
        let rule = RuleFacts { per_rule: "2/100s".parse().ok(), ..facts("a", "r") };
        let target = target("z");
        let full = |since: Option<i64>, now: i64| {
            let counted = Counted { rule: &rule, target: &target, since: since.map(at), now: at(now) };
            places.load(&store, counted, "another").rule_full
        };
        store.insert(execution("x", "r", json!({"finishedAt": at(1).to_string()})));
        store.insert(execution("y", "other", json!({})));
        assert_eq!((full(None, 50), full(Some(50), 50)), (None, None));
        let _second = fire(&places, &store, ("a", "r", "q"), 40).expect("a place");
        assert_eq!((full(None, 50), full(Some(50), 50)), (Some(at(101)), Some(Timestamp::MAX)));
        assert_eq!((full(None, 101), full(Some(30), 500)), (None, Some(Timestamp::MAX)));
    }

    #[test]
    fn what_stopped_an_event_stops_it_for_ever() {
        let (places, store) = (Places::default(), Executions::new());
        let (rule, target) = (facts("a", "r"), target("p"));
        let load = |since: Option<i64>| {
            places
                .load(
                    &store,
                    Counted { rule: &rule, target: &target, since: since.map(at), now: at(0) },
                    "another",
                )
                .rule
        };
        store.insert(execution("x", "r", json!({})));
        assert_eq!((load(Some(10)), load(None)), (1, 1), "it runs");
        let mut ended = (*execution("x", "r", json!({"finishedAt": at(20).to_string()}))).clone();
        ended.metadata.resource_version = Some("2".into());
        store.insert(Arc::new(ended));
        assert_eq!((load(Some(10)), load(Some(20)), load(Some(21)), load(None)), (1, 1, 0, 0));
    }
}
