//! The Executions as last seen, and where those of a Rule, on a target, or still under way are.
//!
//! Decisions ask for these at every change, and there may be ten thousand others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::store::{self, Index, Key, Objects};
use crate::api::{Execution, Mode};
use crate::decide::episode::{KEPT, RuleFacts};
use crate::decide::identity::TargetKey;
use crate::decide::view::Targets;

/// The Executions as last seen.
pub type Executions = store::Store<Execution, ByUse>;

/// Where Executions are.
#[derive(Default)]
pub struct ByUse {
    /// By namespace and name of their Rule.
    rules: BTreeMap<Key, OfRule>,
    targets: BTreeMap<TargetKey, BTreeSet<Key>>,
    /// By their end; those that go on come last.
    ends: BTreeSet<(Timestamp, Key)>,
}

/// Those of one Rule.
#[derive(Default)]
struct OfRule {
    names: BTreeSet<Key>,
    /// By the time of their decision.
    decided: BTreeSet<(Timestamp, Key)>,
    /// By the occurrence that they were decided of.
    occurrences: BTreeSet<(String, Key)>,
    /// Those that hold the episode of their target open.
    open: BTreeSet<(TargetKey, Key)>,
}

impl Index<Execution> for ByUse {
    fn change(&mut self, key: &Key, before: Option<&Execution>, after: Option<&Execution>) {
        if let Some(before) = before {
            self.remove(key, before);
        }
        if let Some(after) = after {
            self.insert(key, after);
        }
    }
}

impl ByUse {
    fn insert(&mut self, key: &Key, execution: &Execution) {
        self.ends.insert((end(execution), key.clone()));
        let target = execution.spec.target.as_ref().map(TargetKey::from);
        if let Some(target) = &target {
            self.targets.entry(target.clone()).or_default().insert(key.clone());
        }
        let Some(rule) = rule_of(execution) else { return };
        let of_rule = self.rules.entry(rule).or_default();
        of_rule.names.insert(key.clone());
        if let Some(decision) = &execution.spec.decision {
            of_rule.decided.insert((decision.time.0, key.clone()));
            of_rule.occurrences.insert((decision.occurrence.clone(), key.clone()));
        }
        if let Some(target) = target.filter(|_| is_open(execution)) {
            of_rule.open.insert((target, key.clone()));
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.targets.is_empty() && self.ends.is_empty()
    }

    fn remove(&mut self, key: &Key, execution: &Execution) {
        self.ends.remove(&(end(execution), key.clone()));
        let target = execution.spec.target.as_ref().map(TargetKey::from);
        if let Some(target) = &target
            && let Some(on_target) = self.targets.get_mut(target)
        {
            on_target.remove(key);
            if on_target.is_empty() {
                self.targets.remove(target);
            }
        }
        let Some(rule) = rule_of(execution) else { return };
        let Some(of_rule) = self.rules.get_mut(&rule) else { return };
        of_rule.names.remove(key);
        if let Some(decision) = &execution.spec.decision {
            of_rule.decided.remove(&(decision.time.0, key.clone()));
            of_rule.occurrences.remove(&(decision.occurrence.clone(), key.clone()));
        }
        if let Some(target) = target {
            of_rule.open.remove(&(target, key.clone()));
        }
        if of_rule.names.is_empty() {
            self.rules.remove(&rule);
        }
    }
}

impl Executions {
    /// Those of a Rule.
    pub fn of_rule(&self, namespace: &str, rule: &str) -> Vec<Arc<Execution>> {
        self.with(|objects| objects.of_rule(namespace, rule).cloned().collect())
    }

    /// Those of a Rule on a target.
    pub fn of_target(&self, rule: &RuleFacts, target: &TargetKey) -> Vec<Arc<Execution>> {
        let mut on_target = self.on_target(target);
        on_target.retain(|execution| is_of(execution, rule));
        on_target
    }

    /// Those on a target, whose they may be.
    pub fn on_target(&self, target: &TargetKey) -> Vec<Arc<Execution>> {
        self.with(|objects| {
            let keys = objects.index.targets.get(target).into_iter().flatten();
            keys.filter_map(|key| objects.get(key)).cloned().collect()
        })
    }

    /// The targets whose episode an Execution of a Rule holds open, beside those that match.
    pub fn open_beside(&self, rule: &RuleFacts, matching: &Targets) -> BTreeSet<TargetKey> {
        let rule = (rule.namespace.clone(), rule.name.clone());
        self.with(|objects| {
            let open = objects.index.rules.get(&rule).into_iter().flat_map(|of_rule| &of_rule.open);
            let targets = open.map(|(target, _)| target);
            targets.filter(|target| !matching.contains_key(*target)).cloned().collect()
        })
    }

    /// Whether a Rule still observed at a time, as far as there are records that tell. Of those the newest go last.
    pub fn observed_at(&self, rule: &RuleFacts, time: Timestamp) -> bool {
        let rule = (rule.namespace.clone(), rule.name.clone());
        // A record's time is cut off to the second.
        let from = time.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
        self.with(|objects| {
            let Some(of_rule) = objects.index.rules.get(&rule) else { return false };
            let mut later = of_rule.decided.range((from, Key::default())..);
            later.any(|(_, key)| objects.get(key).is_some_and(|execution| observes(execution)))
        })
    }

    /// The identity of the decision that a Rule made of an occurrence, wherever that led: where it would lead by now may be
    /// somewhere else, as objects change, and Rules are edited.
    pub fn made_of(&self, rule: &RuleFacts, occurrence: &str) -> Option<String> {
        let rule = (rule.namespace.clone(), rule.name.clone());
        self.with(|objects| {
            let from = (occurrence.to_owned(), Key::default());
            let (of, key) = objects.index.rules.get(&rule)?.occurrences.range(from..).next()?;
            let execution = objects.get(key).filter(|_| of == occurrence)?;
            Some(execution.spec.decision.as_ref()?.id.clone())
        })
    }

    /// When a Rule fired last, as far as there are Executions that tell.
    pub fn last_fired(&self, rule: &RuleFacts) -> Option<Timestamp> {
        let rule = (rule.namespace.clone(), rule.name.clone());
        self.with(|objects| objects.index.rules.get(&rule)?.decided.last().map(|(decided, _)| *decided))
    }
}

/// The Executions in one moment.
pub type Moment = Objects<Execution, ByUse>;

impl Moment {
    /// Those that had not ended by a time; if none is given, those that go on.
    pub fn under_way(&self, since: Option<Timestamp>) -> impl Iterator<Item = &Execution> {
        let ends = self.index.ends.range((since.unwrap_or(Timestamp::MAX), Key::default())..);
        ends.filter_map(|(_, key)| self.get(key)).map(AsRef::as_ref)
    }

    /// Those of a Rule.
    pub fn of_rule(&self, namespace: &str, rule: &str) -> impl Iterator<Item = &Arc<Execution>> {
        let of_rule = self.index.rules.get(&(namespace.to_owned(), rule.to_owned()));
        of_rule.into_iter().flat_map(|of_rule| &of_rule.names).filter_map(|key| self.get(key))
    }
}

fn rule_of(execution: &Execution) -> Option<Key> {
    Some((execution.namespace().unwrap_or_default(), execution.rule()?.to_owned()))
}

fn is_of(execution: &Execution, rule: &RuleFacts) -> bool {
    execution.metadata.namespace.as_deref() == Some(&rule.namespace) && execution.rule() == Some(&rule.name)
}

fn is_open(execution: &Execution) -> bool {
    execution.status.as_ref().is_none_or(|status| status.episode_closed_at.is_none())
}

fn observes(execution: &Execution) -> bool {
    execution.spec.decision.as_ref().is_some_and(|decision| decision.mode == Mode::Observe)
}

/// When an Execution is under way no more: one that observes, when its episode is over.
pub fn ended_at(execution: &Execution) -> Option<Timestamp> {
    let status = execution.status.as_ref()?;
    let ended = if observes(execution) { &status.episode_closed_at } else { &status.finished_at };
    ended.as_ref().map(|ended| ended.0)
}

/// The same, for the order of the index.
fn end(execution: &Execution) -> Timestamp {
    ended_at(execution).filter(|_| execution.is_finished()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn time(second: u8) -> String {
        Timestamp::from_second(second.into()).expect("a time").to_string()
    }

    /// One of few names, rules and targets, so that they meet.
    fn executions() -> impl Strategy<Value = Arc<Execution>> {
        let status = prop_oneof![
            Just(json!({})),
            (0..9u8).prop_map(|end| json!({"finishedAt": time(end)})),
            (0..9u8).prop_map(|end| json!({"finishedAt": time(end), "episodeClosedAt": time(end + 1)})),
        ];
        let by_hand = prop::bool::weighted(0.2);
        (0..6u8, 0..3u8, 0..3u8, 0..9u8, status, by_hand).prop_map(|(name, rule, target, second, status, by_hand)| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "a", "name": format!("p{target}")});
            let mode = if second % 2 == 0 { "Observe" } else { "Enforce" };
            let decision = json!({"id": "i", "time": time(second), "occurrence": format!("o{}", second % 3),
                "rule": {"name": format!("r{rule}")}, "mode": mode, "matched": {"object": pod}, "definition": "d"});
            let decision = if by_hand { Value::Null } else { decision };
            let execution = json!({
                "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
                "metadata": {"name": format!("e{name}"), "namespace": "a", "resourceVersion": "1"},
                "spec": {"serviceAccountName": "h", "target": pod, "decision": decision}, "status": status,
            });
            Arc::new(serde_json::from_value(execution).expect("an Execution"))
        })
    }

    fn names(executions: &[Arc<Execution>]) -> BTreeSet<String> {
        executions.iter().map(|execution| execution.name_any()).collect()
    }

    proptest! {
        /// Whatever came, changed and went: what is found is what a look at all would find.
        #[test]
        fn what_is_kept_beside_them_says_what_they_say(
            steps in prop::collection::vec((executions(), any::<bool>()), 1..40),
        ) {
            let store = Executions::new();
            for (mut execution, goes) in steps {
                let version = store.filter(|_| true).len() + 1;
                Arc::make_mut(&mut execution).metadata.resource_version = Some(version.to_string());
                let key = ("a".to_owned(), execution.name_any());
                store.with_mut(|objects| match goes {
                    true => drop(objects.remove(&key)),
                    false => objects.insert(key, execution),
                });
                for rule in ["r0", "r1", "r2"] {
                    let facts = RuleFacts { namespace: "a".into(), name: rule.into(), ..RuleFacts::default() };
                    let all = store.filter(|execution| is_of(execution, &facts));
                    prop_assert_eq!(names(&store.of_rule("a", rule)), names(&all));
                    let decided = all.iter().filter_map(|e| e.spec.decision.as_ref().map(|d| d.time.0));
                    prop_assert_eq!(store.last_fired(&facts), decided.max());
                    for occurrence in ["o", "o0", "o1", "o2", "o3"] {
                        let mut decisions = all.iter().filter_map(|e| e.spec.decision.as_ref());
                        let is_made = decisions.any(|decision| decision.occurrence == occurrence);
                        prop_assert_eq!(store.made_of(&facts, occurrence).is_some(), is_made);
                    }
                    let at = Timestamp::from_second(5).expect("a time");
                    let later = |e: &&Arc<Execution>| {
                        e.spec.decision.as_ref().is_some_and(|d| observes(e) && d.time.0 + KEPT >= at)
                    };
                    prop_assert_eq!(store.observed_at(&facts, at), all.iter().any(|e| later(&e)));
                    let open = all.iter().filter(|e| is_open(e)).filter_map(|e| e.spec.target.as_ref());
                    prop_assert_eq!(
                        store.open_beside(&facts, &Targets::new()),
                        open.map(TargetKey::from).collect::<BTreeSet<_>>()
                    );
                }
                for name in ["p0", "p1", "p2"] {
                    let is_on = |e: &Execution| e.spec.target.as_ref().is_some_and(|target| target.name == name);
                    let all = store.filter(is_on);
                    let pod = all.first().and_then(|e| e.spec.target.as_ref()).map(TargetKey::from);
                    let found = pod.map(|pod| names(&store.on_target(&pod))).unwrap_or_default();
                    prop_assert_eq!(found, names(&all));
                }
                for since in [None, Timestamp::from_second(4).ok()] {
                    let counts = |e: &Execution| end(e) >= since.unwrap_or(Timestamp::MAX);
                    let under_way: BTreeSet<_> =
                        store.with(|objects| objects.under_way(since).map(ResourceExt::name_any).collect());
                    prop_assert_eq!(under_way, names(&store.filter(counts)));
                }
            }
            let all = store.filter(|_| true);
            let keys: Vec<_> = all.iter().map(|e| ("a".to_owned(), e.name_any())).collect();
            store.with_mut(|objects| keys.iter().for_each(|key| drop(objects.remove(key))));
            prop_assert!(store.with(|objects| objects.index.is_empty()), "nothing is left of what is gone");
        }
    }
}
