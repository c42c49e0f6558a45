//! How much is going on: counted over the Executions as last seen, and over those that are being created at this moment.
//!
//! Rules fire side by side, and a create takes a while. Whoever fires takes a place first, in the moment in which it is
//! counted; the place is given back when the store has the Execution, or the API server has refused it.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::api::{Execution, Mode, ObjectReference};
use crate::controller::executions::{Executions, ended_at};
use crate::decide::episode::{KEPT, Load, RuleFacts};
use crate::decide::guard::{full_until, is_full};
use crate::decide::identity::{TargetKey, execution_name};

/// How long a place is kept for a create whose answer was lost: the watch brings the Execution sooner, if there is one.
const LOST_ANSWER: SignedDuration = SignedDuration::from_mins(1);

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

/// A place that is taken for an Execution that is being created.
#[derive(Clone, Debug)]
struct Place {
    rule: String,
    target: TargetKey,
    mode: Mode,
    /// What it counts for in the rule's rate.
    at: Timestamp,
    /// When it is given back at the latest.
    until: Timestamp,
}

/// The places that are taken, by namespace and name of the Execution.
#[derive(Default)]
pub struct Places {
    taken: Mutex<BTreeMap<(String, String), Place>>,
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
        let (id, rest) = decide(count(executions, &taken, counted, &own))?;
        let RuleFacts { namespace, name, mode, .. } = counted.rule;
        let key = (namespace.clone(), execution_name(name, &id));
        let place = Place {
            rule: name.clone(),
            target: counted.target.clone(),
            mode: *mode,
            at: counted.since.unwrap_or(now),
            until: now.saturating_add(LOST_ANSWER).unwrap_or(Timestamp::MAX),
        };
        taken.insert(key.clone(), place);
        Ok((id, rest, Taken { places: self, key, is_lost: false }))
    }

    /// Counts what is going on beside a decision of this id.
    pub fn load(&self, executions: &Executions, counted: Counted<'_>, own: &str) -> Load {
        count(executions, &self.taken.lock(), counted, own)
    }
}

/// A place that is taken, until this is dropped.
pub struct Taken<'a> {
    places: &'a Places,
    key: (String, String),
    is_lost: bool,
}

impl Taken<'_> {
    /// The answer to the create was lost: the place stays for a while, as there may be an Execution.
    pub fn lose(mut self) {
        self.is_lost = true;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_lost {
            self.places.taken.lock().remove(&self.key);
        }
    }
}

fn count(
    executions: &Executions,
    taken: &BTreeMap<(String, String), Place>,
    counted: Counted<'_>,
    own: &str,
) -> Load {
    let rule = counted.rule;
    let own = (rule.namespace.clone(), execution_name(&rule.name, own));
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
        for (key, place) in taken.iter().filter(|(key, _)| **key != own && executions.get(key).is_none()) {
            let here = key.0 == rule.namespace;
            let of_rule = here && place.rule == rule.name;
            add(&mut load, place.mode, (of_rule, here), || place.target == *counted.target);
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
    add(load, mode, (of_rule, here), || execution.spec.target.as_ref().is_some_and(same));
}

fn add(load: &mut Load, mode: Mode, (of_rule, here): (bool, bool), on_target: impl FnOnce() -> bool) {
    if mode == Mode::Observe {
        load.observed_open += usize::from(of_rule);
        return;
    }
    load.total += 1;
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

    #[test]
    fn a_create_whose_answer_was_lost_keeps_its_place_for_a_while() {
        let (places, store) = (Places::default(), Executions::new());
        fire(&places, &store, ("a", "r", "p"), 0).expect("a place").lose();
        assert!(fire(&places, &store, ("a", "r", "q"), 59).is_none());
        assert!(fire(&places, &store, ("a", "s", "p"), 1).is_none(), "another rule's, on the same target");
        fire(&places, &store, ("a", "r", "p"), 1).expect("the same decision is tried again").lose();
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
