//! What was received and is kept, by identity: whether an event is new costs one look, however much is kept. And how much
//! that is: whether there is room for more, and whether what is over has to make room.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use parking_lot::Mutex;

use super::Key;
use crate::api::{EventBatch, TriggerEvent};
use crate::decide::identity::{digest, occurrence};
use crate::decide::owed::settled_at;
use crate::decide::room::{Over, makes_room};

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
/// Of those that have to make room as many are told so at a time: each batch that comes, and each that is over, has some told,
/// so that they go faster than others come.
const TOLD: usize = 8;
/// How long none of these is told again: what cannot be deleted just now is tried again by itself, and rests between.
const TOLD_AGAIN: SignedDuration = SignedDuration::from_secs(30);

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

    /// By how many batches and bytes it is too much to be within these.
    fn beyond(self, batches: usize, bytes: usize) -> (usize, usize) {
        let too_many = |kept: usize, most: usize| (kept + 1).saturating_sub(most);
        (too_many(self.batches, batches), too_many(self.bytes, bytes))
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

/// Batches with which all is over, by since when.
type Remembered = BTreeMap<(Timestamp, Arc<Key>), Over>;

#[derive(Default)]
struct State {
    /// The batches that have an event, by its identity and Webhook.
    holders: BTreeMap<Identity, Vec<Arc<Key>>>,
    /// The batches that have something of an alert, by its fingerprint and Webhook.
    alerts: BTreeMap<Identity, Vec<Arc<Key>>>,
    batches: BTreeMap<Arc<Key>, Held>,
    over: Remembered,
    all: Kept,
    /// What each namespace has of it.
    of: BTreeMap<String, Kept>,
}

impl State {
    /// The batches that have to make room for others, those first with which all was over first.
    fn going(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Key>> {
        let over = self.over.iter().map(|((_, key), over)| (key, *over));
        makes_room(over, self.all.beyond(CROWDED_BATCHES, CROWDED_BYTES), now)
    }
}

/// What a batch holds: its events and their alerts, and its size; and how it stands with it.
struct Held {
    events: Vec<Identity>,
    alerts: Vec<Identity>,
    size: usize,
    authentic_until: Option<Timestamp>,
    /// Since when all is over with it, if it is.
    over_since: Option<Timestamp>,
    /// When it was told last that it has to make room.
    told_at: Option<Timestamp>,
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
            authentic_until: batch.spec.authentic_until.as_ref().map(|until| until.0),
            over_since: None,
            told_at: None,
        }
    }

    fn may_be_told(&self, now: Timestamp) -> bool {
        self.told_at.is_none_or(|told| now.duration_since(told) >= TOLD_AGAIN)
    }

    /// Takes in since when all is over with it.
    fn is_over_since(&mut self, since: Option<Timestamp>, key: &Arc<Key>, over: &mut Remembered) {
        if let Some(before) = std::mem::replace(&mut self.over_since, since) {
            over.remove(&(before, key.clone()));
        }
        if let Some(since) = since {
            let own = Over { bytes: self.size, authentic_until: self.authentic_until };
            over.insert((since, key.clone()), own);
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
        let since = current.as_deref().and_then(settled_at);
        let mut state = self.state.lock();
        let State { holders, alerts, batches, over, all, of } = &mut *state;
        // What is in it stays as it is, and what has become of it does not.
        if current.is_some()
            && let Some(held) = batches.get_mut(&key)
        {
            return held.is_over_since(since, &key, over);
        }
        let Some(current) = current else {
            let Some(mut held) = batches.remove(&key) else { return };
            held.is_over_since(None, &key, over);
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
        let mut held = Held::of(&key.0, &current);
        held.is_over_since(since, &key, over);
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

    /// Whether a batch, by its namespace and name, has to make room for others.
    pub fn has_to_go(&self, batch: (&str, &str), now: Timestamp) -> bool {
        let state = self.state.lock();
        state.going(now).any(|key| (key.0.as_str(), key.1.as_str()) == batch)
    }

    /// The first of the batches that have to make room for others and have not been told so.
    pub fn first_to_go(&self, now: Timestamp) -> Vec<Key> {
        let mut state = self.state.lock();
        let may_be_told = |key: &&Arc<Key>| state.batches.get(*key).is_some_and(|held| held.may_be_told(now));
        let told: Vec<_> = state.going(now).filter(may_be_told).take(TOLD).cloned().collect();
        for key in &told {
            state.batches.entry(key.clone()).and_modify(|held| held.told_at = Some(now));
        }
        told.iter().map(|key| Key::clone(key)).collect()
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
    use std::cell::Cell;

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

    /// What is over last is the likeliest to be sent again.
    #[test]
    fn those_make_room_first_with_which_all_was_over_first() {
        let known = Known::default();
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let learn = |name: &str, over: Option<i64>| {
            let mut batch = batch(name, &["1"]);
            batch.status = over.map(|second| {
                let time = at(second).to_string();
                let outcome = json!({"event": 0, "rule": "r", "outcome": "Suppressed", "time": time});
                serde_json::from_value(json!({"outcomes": [outcome]})).expect("a status")
            });
            known.learn(&batch, Some(Arc::new(batch.clone())));
        };
        let clock = Cell::new(9000);
        let told = |second| {
            clock.set(second);
            known.first_to_go(at(second)).into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        let going = || told(clock.get() + 30);
        // The last by name was over first.
        let name = |number: usize| format!("batch-{number:03}");
        for (number, second) in (0..CROWDED_BATCHES - 1).zip((0..1000).rev()) {
            learn(&name(number), Some(second));
        }
        assert_eq!(going(), [""; 0], "there is room");
        learn("new", None);
        assert_eq!(going(), [name(298)]);
        assert_eq!(told(clock.get() + 29), [""; 0], "it was told a moment ago");
        learn("new", Some(8000));
        assert_eq!(going(), [name(298)], "what is over last is remembered for longest");
        let has_to_go = |name: &str| known.has_to_go(("a", name), at(9000));
        assert_eq!([has_to_go("new"), has_to_go(&name(298)), has_to_go(&name(297))], [false, true, false]);
        learn("newer", None);
        assert_eq!(going(), [name(298), name(297)]);
        learn(&name(298), None);
        assert_eq!(going(), [name(297), name(296)], "a Rule has taken it up again");
        for number in 296..298 {
            known.learn(&batch(&name(number), &["1"]), None);
        }
        assert_eq!(going(), [""; 0], "no more than it takes");
        (0..CROWDED_BATCHES).for_each(|number| learn(&format!("fires-{number}"), None));
        assert_eq!((going().len(), has_to_go("new")), (TOLD, true), "what is not over leaves no room");
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
