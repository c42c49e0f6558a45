//! Which alerts fire, by all that was said of them: an alert is a state, and what says so is spread over batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use serde_json::Value;

use super::inbox::{Item, Place, SILENCE, items, starts_at};
use super::owed::{fires, outcomes};
use crate::api::{EventBatch, OutcomeKind, TriggerEvent};

/// Up to when the alerts of a fingerprint are resolved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    starts: Option<Timestamp>,
    ends: Option<Timestamp>,
}

impl Ended {
    /// Whether an alert that began then is over: it is the resolved one, or one from before.
    fn covers(&self, starts_at: Timestamp) -> bool {
        self.starts.is_some_and(|starts| starts_at <= starts)
            || self.ends.is_some_and(|ends| starts_at < ends)
    }
}

/// What was said of one alert.
#[derive(Debug, Default)]
struct Alert<'a> {
    ended: Ended,
    /// When it was said last that it fires.
    heard: Option<Timestamp>,
    /// What was said last of the alert that began last, of those that are not resolved.
    last: Option<&'a Item>,
}

/// What was said of alerts, by fingerprint.
#[derive(Debug, Default)]
pub struct Said<'a> {
    alerts: BTreeMap<&'a str, Alert<'a>>,
    /// Those that fired, and of which it is recorded that they are resolved: what said so may be gone.
    resolved: BTreeSet<Place>,
}

impl<'a> Said<'a> {
    /// Takes in what was said, in the order in which it was received.
    pub fn of(items: &'a [Item]) -> Self {
        let mut said = Self { alerts: BTreeMap::new(), resolved: resolved(items) };
        for item in items {
            let Some(alert) = &item.accepted().alert else { continue };
            let known = said.alerts.entry(alert.fingerprint.as_str()).or_default();
            match &alert.ends_at {
                Some(ends_at) => {
                    known.ended.starts = known.ended.starts.max(Some(alert.starts_at.0));
                    known.ended.ends = known.ended.ends.max(Some(ends_at.0));
                }
                None => known.heard = known.heard.max(Some(item.received_at())),
            }
        }
        for item in items.iter().filter(|item| fires(item.accepted())) {
            if said.is_resolved(item) {
                continue;
            }
            let known = item.fingerprint().and_then(|fingerprint| said.alerts.get_mut(fingerprint));
            let Some(known) = known else { continue };
            if known.last.is_none_or(|last| starts_at(last) <= starts_at(item)) {
                known.last = Some(item);
            }
        }
        said
    }

    /// Whether an alert that was resolved fires again, for all that has been said lately.
    pub fn fires_again(&self, item: &Item, now: Timestamp) -> bool {
        self.last(item).is_some_and(|last| !self.is_silent(last, now))
    }

    fn alert(&self, item: &Item) -> Option<&Alert<'a>> {
        self.alerts.get(item.fingerprint()?)
    }

    /// Whether an alert that fired does so no longer.
    pub fn is_resolved(&self, item: &Item) -> bool {
        let covered = self.alert(item).zip(starts_at(item)).is_some_and(|(said, at)| said.ended.covers(at));
        covered || self.resolved.contains(&item.place())
    }

    /// Whether nobody has said for so long that an alert fires that it does so no longer.
    pub fn is_silent(&self, item: &Item, now: Timestamp) -> bool {
        let heard = self.alert(item).and_then(|said| said.heard);
        heard.is_some_and(|heard| now.duration_since(heard) > SILENCE)
    }

    /// What was said last of the alert, if it is not resolved.
    pub fn last(&self, item: &Item) -> Option<&'a Item> {
        self.alert(item)?.last
    }

    /// Whether a later request said it again, or that it fires anew.
    pub fn is_repeated(&self, item: &Item) -> bool {
        self.last(item).is_some_and(|last| {
            starts_at(last) > starts_at(item)
                || (starts_at(last) == starts_at(item) && last.received_at() > item.received_at())
        })
    }
}

/// Whether an alert fires again of which an event said that it is resolved. What said so may be gone by now.
pub fn fires_again(ended: &TriggerEvent, batches: &[Arc<EventBatch>], now: Timestamp) -> bool {
    let field = |name: &str| ended.data.0.get(name).and_then(Value::as_str);
    let starts = field("startsAt").and_then(|starts| starts.parse().ok());
    let (end, fingerprint) = (Ended { starts, ends: Some(ended.time.0) }, field("fingerprint"));
    let all = items(batches);
    let said = Said::of(&all);
    let mut own = all.iter().filter(|item| item.fingerprint().is_some() && item.fingerprint() == fingerprint);
    own.any(|item| {
        let is_last = said.last(item).is_some_and(|last| last.place() == item.place());
        is_last && !said.is_silent(item, now) && starts_at(item).is_some_and(|at| !end.covers(at))
    })
}

fn resolved(items: &[Item]) -> BTreeSet<Place> {
    // The items of a batch stand beside each other.
    let mut seen = BTreeSet::<*const EventBatch>::new();
    let batches = items.iter().map(|item| &item.batch).filter(|batch| seen.insert(Arc::as_ptr(batch)));
    let outcomes = batches.flat_map(|batch| outcomes(batch).map(move |outcome| (batch, outcome)));
    outcomes
        .filter(|(_, (_, event, outcome))| fires(event) && outcome.outcome == OutcomeKind::Resolved)
        .map(|(batch, (index, ..))| (Arc::as_ptr(batch), index))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::inbox::tests::{alert, at, batch};
    use super::*;

    #[test]
    fn what_fires_later_than_what_ended_fires_again() {
        let data = json!({"fingerprint": "f", "startsAt": at(5).to_string()});
        let ended = json!({"id": "f/5/resolved", "source": "alertmanager", "type": "alert.resolved",
            "time": at(15).to_string(), "data": data});
        let ended: TriggerEvent = serde_json::from_value(ended).expect("an event");
        let week = SILENCE.as_secs();
        for (alerts, now, expected) in [
            (json!([]), 30, false),
            (json!([alert("f", 18, None)]), 30, true),
            // What is late, what others say, what is resolved again, and what nobody has said for long.
            (json!([alert("f", 5, None), alert("f", 14, None)]), 30, false),
            (json!([alert("g", 18, None)]), 30, false),
            (json!([alert("f", 18, None), alert("f", 18, Some(20))]), 30, false),
            (json!([alert("f", 18, None)]), 21 + week, false),
        ] {
            let batches = [batch("a", 20, alerts.clone())];
            assert_eq!(fires_again(&ended, &batches, at(now)), expected, "{alerts} {now}");
        }
    }
}
