//! Whether Rules take what comes, where one is for what no other takes. Most Webhooks have no such Rule: the others are compiled
//! when it is asked first.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::Key;
use crate::api::{AlertState, Rule, TriggerEvent};
use crate::decide::lead::takes;
use crate::decide::matching::CompiledRule;

/// A Rule as it was compiled, if it compiles, and which text of it.
type Compiled = ((Option<String>, Option<i64>), Option<Arc<CompiledRule>>);

/// Rules, compiled.
#[derive(Default)]
pub struct Takers {
    compiled: Mutex<BTreeMap<Key, Compiled>>,
}

impl Takers {
    /// Whether a Rule takes what comes. One that does not compile takes nothing.
    pub(super) fn takes(
        &self,
        rule: &Rule,
        received: (&TriggerEvent, Option<&AlertState>),
        now: Timestamp,
    ) -> bool {
        self.compiled(rule).is_some_and(|rule| takes(&rule, received, now))
    }

    /// Forgets a Rule that is gone.
    pub(super) fn forget(&self, rule: &Rule) {
        self.compiled.lock().remove(&(rule.namespace().unwrap_or_default(), rule.name_any()));
    }

    fn compiled(&self, rule: &Rule) -> Option<Arc<CompiledRule>> {
        let key = (rule.namespace().unwrap_or_default(), rule.name_any());
        let text = (rule.uid(), rule.metadata.generation);
        let mut compiled = self.compiled.lock();
        if let Some((_, known)) = compiled.get(&key).filter(|(known, _)| *known == text) {
            return known.clone();
        }
        let fresh = CompiledRule::compile(rule).ok().map(Arc::new);
        compiled.insert(key, (text, fresh.clone()));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_is_asked_as_it_reads_now() {
        let rule = |generation: i64, when: &str| -> Rule {
            serde_json::from_value(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule",
                "metadata": {"name": "r", "namespace": "a", "uid": "u", "generation": generation},
                "spec": {"serviceAccountName": "h", "trigger": {"webhook": {"name": "w"}}, "when": when,
                    "target": {"key": "'k'"}, "ladder": [{"run": "x"}]}}))
            .expect("a Rule")
        };
        let event: TriggerEvent = serde_json::from_value(
            json!({"id": "1", "source": "s", "type": "push", "time": "2026-01-01T00:00:00Z"}),
        )
        .expect("an event");
        let takers = Takers::default();
        for (generation, when, expected) in [
            (1, "event.type == 'push'", true),
            (2, "event.type == 'tag'", false),
            (3, "event.type ==", false),
            (4, "event.type == 'push'", true),
        ] {
            for _ in 0..2 {
                let takes = takers.takes(&rule(generation, when), (&event, None), event.time.0);
                assert_eq!(takes, expected, "{when}");
            }
        }
        takers.forget(&rule(4, "true"));
        assert!(takers.compiled.lock().is_empty());
    }
}
