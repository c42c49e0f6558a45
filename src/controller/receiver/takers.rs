//! Whether Rules take what comes, where one is for what no other takes. Most Webhooks have no such Rule: the others are compiled
//! when it is asked first.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::Key;
use crate::api::{AlertState, Rule, TriggerEvent};
use crate::decide::lead::takes;
use crate::decide::matching::CompiledRule;

/// Which text of a Rule, and what that was compiled to when it was asked first, if it compiles.
type Compiled = ((Option<String>, Option<i64>), Arc<OnceLock<Option<Arc<CompiledRule>>>>);

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
        let compiled = self.compiled(rule, |rule| CompiledRule::compile(rule).ok());
        compiled.is_some_and(|rule| takes(&rule, received, now))
    }

    /// Forgets a Rule that is gone.
    pub(super) fn forget(&self, rule: &Rule) {
        self.compiled.lock().remove(&(rule.namespace().unwrap_or_default(), rule.name_any()));
    }

    /// A Rule, compiled by whoever asks first. Who asks about another one meanwhile does not wait for that.
    fn compiled(
        &self,
        rule: &Rule,
        compile: impl FnOnce(&Rule) -> Option<CompiledRule>,
    ) -> Option<Arc<CompiledRule>> {
        let key = (rule.namespace().unwrap_or_default(), rule.name_any());
        let text = (rule.uid(), rule.metadata.generation);
        let once = {
            let mut compiled = self.compiled.lock();
            let (known, once) = compiled.entry(key).or_default();
            if *known != text {
                (*known, *once) = (text, Arc::default());
            }
            once.clone()
        };
        once.get_or_init(|| compile(rule).map(Arc::new)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use serde_json::json;

    fn rule(name: &str, generation: usize, when: &str) -> Rule {
        serde_json::from_value(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule",
            "metadata": {"name": name, "namespace": "a", "uid": "u", "generation": generation},
            "spec": {"serviceAccountName": "h", "trigger": {"webhook": {"name": "w"}}, "when": when,
                "target": {"key": "'k'"}, "ladder": [{"run": "x"}]}}))
        .expect("a Rule")
    }

    fn push() -> TriggerEvent {
        serde_json::from_value(
            json!({"id": "1", "source": "s", "type": "push", "time": "2026-01-01T00:00:00Z"}),
        )
        .expect("an event")
    }

    #[test]
    fn a_rule_is_asked_as_it_reads_now() {
        let event = push();
        let takers = Takers::default();
        for (generation, when, expected) in [
            (1, "event.type == 'push'", true),
            (2, "event.type == 'tag'", false),
            (3, "event.type ==", false),
            (4, "event.type == 'push'", true),
        ] {
            for _ in 0..2 {
                let takes = takers.takes(&rule("r", generation, when), (&event, None), event.time.0);
                assert_eq!(takes, expected, "{when}");
            }
        }
        takers.forget(&rule("r", 4, "true"));
        assert!(takers.compiled.lock().is_empty());
    }

    /// Who compiles holds up nobody but those who ask about the same text.
    #[test]
    fn a_rule_is_compiled_once_and_in_nobodys_way() {
        const THREADS: usize = 8;
        let (takers, together, compiled) = (Takers::default(), Barrier::new(THREADS), AtomicUsize::new(0));
        let compile = |rule: &Rule| {
            let is_free = takers.compiled.try_lock_for(Duration::from_secs(10)).is_some();
            assert!(is_free, "others cannot ask");
            compiled.fetch_add(1, Ordering::SeqCst);
            CompiledRule::compile(rule).ok()
        };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    for number in 0..10 {
                        let rule = rule(&number.to_string(), 1, "event.type == 'push'");
                        assert!(takers.compiled(&rule, compile).is_some());
                    }
                });
            }
        });
        assert_eq!(compiled.into_inner(), 10);
    }

    #[test]
    fn whoever_asks_about_a_text_hears_of_that_one() {
        const THREADS: usize = 8;
        let (takers, together, event) = (Takers::default(), Barrier::new(THREADS), push());
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (takers, together, event) = (&takers, &together, &event);
                scope.spawn(move || {
                    together.wait();
                    for number in 0..50 {
                        let generation = 1 + (thread + number) % 3;
                        let when =
                            ["event.type == 'push'", "event.type == 'tag'", "event.type =="][generation - 1];
                        let takes = takers.takes(&rule("r", generation, when), (event, None), event.time.0);
                        assert_eq!(takes, generation == 1, "{when}");
                    }
                });
            }
        });
    }
}
