//! Which alerts fire, by all that was said of them: an alert is a state, and what says so is spread over batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::inbox::{Item, Place, SILENCE, starts_at};
use super::owed::{fires, outcomes};
use crate::api::{EventBatch, OutcomeKind};

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
