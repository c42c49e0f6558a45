//! What was received and is kept, by identity: whether an event is new costs one look, however much is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;
use parking_lot::Mutex;

use super::Key;
use crate::api::{EventBatch, TriggerEvent};
use crate::decide::identity::{digest, occurrence};

/// What all that is kept comes to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    /// Batches.
    pub batches: usize,
    /// Bytes, about.
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    /// The batches that have an event, by its identity and Webhook.
    holders: BTreeMap<String, BTreeSet<Key>>,
    /// The identities of each batch, and its size.
    batches: BTreeMap<Key, (Vec<String>, usize)>,
    bytes: usize,
}

/// An index of all batches.
#[derive(Default)]
pub(super) struct Known {
    state: Mutex<State>,
}

fn identity(namespace: &str, webhook: &str, event: &TriggerEvent) -> String {
    digest(&["event", namespace, webhook, &occurrence(event)])[..32].to_owned()
}

impl Known {
    /// Takes in what has become of a batch: none if it is gone.
    pub(super) fn learn(&self, batch: &EventBatch, current: Option<Arc<EventBatch>>) {
        let key = (batch.namespace().unwrap_or_default(), batch.name_any());
        let mut state = self.state.lock();
        let State { holders, batches, bytes } = &mut *state;
        if current.is_some() == batches.contains_key(&key) {
            return;
        }
        let Some(current) = current else {
            let (identities, size) = batches.remove(&key).unwrap_or_default();
            *bytes -= size;
            for identity in identities {
                let emptied = holders.get_mut(&identity).is_some_and(|of| of.remove(&key) && of.is_empty());
                if emptied {
                    holders.remove(&identity);
                }
            }
            return;
        };
        let webhook = &current.spec.webhook;
        let identities: Vec<_> =
            current.spec.events.iter().map(|accepted| identity(&key.0, webhook, &accepted.event)).collect();
        for identity in &identities {
            holders.entry(identity.clone()).or_default().insert(key.clone());
        }
        let size = serde_json::to_vec(&current.spec).map_or(0, |text| text.len());
        *bytes += size;
        batches.insert(key, (identities, size));
    }

    /// The batches that have this event.
    pub(super) fn holders(&self, (namespace, webhook): (&str, &str), event: &TriggerEvent) -> Vec<Key> {
        let state = self.state.lock();
        let of = state.holders.get(&identity(namespace, webhook, event));
        of.into_iter().flatten().cloned().collect()
    }

    /// How much is kept.
    pub(super) fn kept(&self) -> Kept {
        let state = self.state.lock();
        Kept { batches: state.batches.len(), bytes: state.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn batch(name: &str, ids: &[&str]) -> EventBatch {
        let event = |id: &&str| json!({"rules": ["r"], "event": event(id)});
        serde_json::from_value(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch",
            "metadata": {"name": name, "namespace": "a"},
            "spec": {"webhook": "w", "events": ids.iter().map(event).collect::<Vec<_>>()}}))
        .expect("an EventBatch")
    }

    fn event(id: &str) -> serde_json::Value {
        json!({"id": id, "source": "s", "type": "t", "time": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn an_event_is_known_as_long_as_a_batch_has_it() {
        let known = Known::default();
        let of = |id: &str| {
            let event = serde_json::from_value(event(id)).expect("an event");
            known.holders(("a", "w"), &event).into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        for name in ["one", "two"] {
            let batch = batch(name, &["1", name]);
            known.learn(&batch, Some(Arc::new(batch.clone())));
            known.learn(&batch, Some(Arc::new(batch.clone())));
        }
        assert_eq!(
            (of("1"), of("two"), of("3")),
            (vec!["one".to_owned(), "two".into()], vec!["two".into()], vec![])
        );
        assert_eq!(known.kept().batches, 2);
        known.learn(&batch("one", &["1"]), None);
        assert_eq!(of("1"), ["two"]);
        known.learn(&batch("two", &["1"]), None);
        assert_eq!((of("1").len(), known.kept()), (0, Kept::default()));
    }
}
