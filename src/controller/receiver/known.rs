//! What was received and is kept, by identity: whether an event is new costs one look, however much is kept. And how much
//! that is: whether there is room for more, and whether what is over has to make room.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use kube::ResourceExt;
use parking_lot::Mutex;

use super::Key;
use crate::api::{EventBatch, TriggerEvent};
use crate::decide::identity::{digest, occurrence};

/// Batches that are kept at the most, and their bytes. Each replica holds them, and whoever leads as much again while it
/// decides about them, within its 256 MiB. One namespace has half of it, so that none keeps the others from being heard.
const MAX_BATCHES: usize = 2000;
const MAX_BYTES: usize = 40 * 1024 * 1024;
/// What an event takes beside its text: its maps, its place here, and its outcome; and the outcome of each further Rule.
const EVENT: usize = 2048;
const OUTCOME: usize = 256;
/// Batches that are remembered although all is over with them, and their bytes; more would be kept from those that are
/// to come.
const CROWDED_BATCHES: usize = 300;
const CROWDED_BYTES: usize = 10 * 1024 * 1024;

/// What all that is kept comes to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Kept {
    batches: usize,
    bytes: usize,
}

impl Kept {
    fn is_within(self, batches: usize, bytes: usize) -> bool {
        self.batches < batches && self.bytes < bytes
    }

    /// Whether it is less than so many eighths of all that may be kept.
    fn is_within_eighths(self, eighths: usize) -> bool {
        self.is_within(MAX_BATCHES / 8 * eighths, MAX_BYTES / 8 * eighths)
    }

    fn add(&mut self, bytes: usize) {
        self.batches += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.batches -= 1;
        self.bytes -= bytes;
    }
}

#[derive(Default)]
struct State {
    /// The batches that have an event, by its identity and Webhook.
    holders: BTreeMap<Identity, Vec<Arc<Key>>>,
    /// The batches that have something of an alert, by its fingerprint and Webhook.
    alerts: BTreeMap<Identity, Vec<Arc<Key>>>,
    batches: BTreeMap<Arc<Key>, Held>,
    all: Kept,
    /// What each namespace has of it.
    of: BTreeMap<String, Kept>,
}

/// What a batch holds: its events and their alerts, and its size.
#[derive(Default)]
struct Held {
    events: Vec<Identity>,
    alerts: Vec<Identity>,
    size: usize,
}

impl Held {
    fn of(namespace: &str, batch: &EventBatch) -> Self {
        let (webhook, events) = (&batch.spec.webhook, &batch.spec.events);
        let text = serde_json::to_vec(&batch.spec).map_or(0, |text| text.len());
        let further: usize = events.iter().map(|event| event.rules.len().saturating_sub(1)).sum();
        let alerts = events.iter().filter_map(|event| event.alert.as_ref());
        let mut alerts: Vec<_> =
            alerts.map(|alert| of_alert(namespace, webhook, &alert.fingerprint)).collect();
        alerts.sort_unstable();
        alerts.dedup();
        Self {
            events: events.iter().map(|event| identity(namespace, webhook, &event.event)).collect(),
            alerts,
            size: text + EVENT * events.len() + OUTCOME * further,
        }
    }
}

/// An index of all batches.
#[derive(Clone, Default)]
pub struct Known {
    state: Arc<Mutex<State>>,
}

/// A hash of namespace, Webhook and what tells an event, or an alert, from others.
type Identity = u128;

fn identity(namespace: &str, webhook: &str, event: &TriggerEvent) -> Identity {
    hash(&["event", namespace, webhook, &occurrence(event)])
}

fn of_alert(namespace: &str, webhook: &str, fingerprint: &str) -> Identity {
    hash(&["alert", namespace, webhook, fingerprint])
}

fn hash(parts: &[&str]) -> Identity {
    u128::from_str_radix(&digest(parts)[..32], 16).expect("a digest is hexadecimal")
}

impl Known {
    /// Takes in what has become of a batch: none if it is gone.
    pub(super) fn learn(&self, batch: &EventBatch, current: Option<Arc<EventBatch>>) {
        let key = Arc::new((batch.namespace().unwrap_or_default(), batch.name_any()));
        let mut state = self.state.lock();
        let State { holders, alerts, batches, all, of } = &mut *state;
        if current.is_some() == batches.contains_key(&key) {
            return;
        }
        let Some(current) = current else {
            let held = batches.remove(&key).unwrap_or_default();
            all.remove(held.size);
            if let Entry::Occupied(mut share) = of.entry(key.0.clone()) {
                share.get_mut().remove(held.size);
                if share.get().batches == 0 {
                    share.remove();
                }
            }
            drop_from(holders, &held.events, &key);
            drop_from(alerts, &held.alerts, &key);
            return;
        };
        let held = Held::of(&key.0, &current);
        for (index, identities) in [(holders, &held.events), (alerts, &held.alerts)] {
            for identity in identities {
                index.entry(*identity).or_default().push(key.clone());
            }
        }
        all.add(held.size);
        of.entry(key.0.clone()).or_default().add(held.size);
        batches.insert(key, held);
    }

    /// The batches that have this event.
    pub(super) fn holders(&self, (namespace, webhook): (&str, &str), event: &TriggerEvent) -> Vec<Key> {
        let state = self.state.lock();
        let of = state.holders.get(&identity(namespace, webhook, event));
        of.into_iter().flatten().map(|key| Key::clone(key)).collect()
    }

    /// The batches that have something of this alert, whenever it began.
    pub fn holding(&self, (namespace, webhook): (&str, &str), fingerprint: &str) -> Vec<Key> {
        let state = self.state.lock();
        let of = state.alerts.get(&of_alert(namespace, webhook, fingerprint));
        of.into_iter().flatten().map(|key| Key::clone(key)).collect()
    }

    /// Whether there is room for one event more of a namespace. What ends an alert makes room soon: it has room where nothing else has,
    /// or what fires would fill it for ever.
    pub(super) fn has_room(&self, namespace: &str, ends: bool) -> bool {
        let state = self.state.lock();
        let of_it = state.of.get(namespace).copied().unwrap_or_default();
        let (all, share) = if ends { (10, 5) } else { (8, 4) };
        state.all.is_within_eighths(all) && of_it.is_within_eighths(share)
    }

    /// Whether what is over has to go at once.
    pub fn is_crowded(&self) -> bool {
        !self.kept().is_within(CROWDED_BATCHES, CROWDED_BYTES)
    }

    /// Whether there is room for alerts that fire and mean nothing, beside what is remembered.
    pub fn has_room_to_wait(&self) -> bool {
        self.kept().is_within(CROWDED_BATCHES / 2, CROWDED_BYTES / 2)
    }

    fn kept(&self) -> Kept {
        self.state.lock().all
    }
}

fn drop_from(index: &mut BTreeMap<Identity, Vec<Arc<Key>>>, identities: &[Identity], key: &Arc<Key>) {
    for identity in identities {
        let Entry::Occupied(mut holding) = index.entry(*identity) else { continue };
        holding.get_mut().retain(|holder| holder != key);
        if holding.get().is_empty() {
            holding.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn batch(name: &str, ids: &[&str]) -> EventBatch {
        batch_in("a", name, ids)
    }

    fn batch_in(namespace: &str, name: &str, ids: &[&str]) -> EventBatch {
        let event = |id: &&str| json!({"rules": ["r"], "event": event(id)});
        serde_json::from_value(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch",
            "metadata": {"name": name, "namespace": namespace},
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

    #[test]
    fn one_namespace_leaves_room_to_others() {
        let known = Known::default();
        let keep = |namespace: &str| {
            let mut kept = 0;
            while known.has_room(namespace, false) && kept < 2 * MAX_BATCHES {
                let batch = batch_in(namespace, &format!("batch-{kept}"), &[]);
                known.learn(&batch, Some(Arc::new(batch.clone())));
                kept += 1;
            }
            kept
        };
        assert_eq!([keep("flooded"), keep("other")], [MAX_BATCHES / 2; 2]);
        assert!(known.has_room("flooded", true), "what ends makes room");
        assert!(!known.has_room("third", false), "it is a bound of memory");
        let gone = batch_in("flooded", "batch-0", &[]);
        known.learn(&gone, None);
        assert!(known.has_room("flooded", false) && !known.has_room("other", false));
    }
}
