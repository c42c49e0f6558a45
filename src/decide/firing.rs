//! Which alerts fire, by all that was said of them: an alert is a state, and what says so is spread over batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use serde_json::Value;

use super::inbox::{Item, Place, SILENCE, items, starts_at};
use super::owed::{fires, outcomes};
use crate::api::{AlertState, EventBatch, OutcomeKind, TriggerEvent};

/// After how long what says that a resolved alert fires is no latecomer any more: Alertmanager tries to deliver a notification for
/// `group_interval`, which is five minutes if nobody says otherwise.
pub const LATECOMERS: SignedDuration = SignedDuration::from_mins(5);

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

/// What a batch has of one fingerprint.
pub fn of(batch: &Arc<EventBatch>, fingerprint: &str) -> Vec<Item> {
    let events = batch.spec.events.iter().enumerate();
    let own = events
        .filter(|(_, event)| event.alert.as_ref().is_some_and(|alert| alert.fingerprint == fingerprint));
    own.map(|(index, _)| Item { batch: batch.clone(), index }).collect()
}

/// The start by which an alert goes, by what is kept of its fingerprint. Alertmanager resolves what it has not heard of for some
/// minutes, as where Prometheus cannot reach it; what fires on after that has the start that it had before, and goes by when it was
/// said to have ended.
pub fn start(alert: &AlertState, kept: &[Item], at: Timestamp) -> Timestamp {
    let of_it = format!("{}/{}/", alert.fingerprint, alert.starts_at.0);
    let latest = |ends: bool| {
        let same = kept.iter().filter(|item| item.accepted().event.id.starts_with(&of_it));
        let states = same.filter_map(|item| Some((item, item.accepted().alert.as_ref()?)));
        states.filter(|(_, alert)| alert.ends_at.is_some() == ends).max_by_key(|(_, alert)| alert.starts_at.0)
    };
    let (fires, ended) = (latest(false), latest(true));
    let began = |found: Option<(&Item, &AlertState)>| found.map(|(_, alert)| alert.starts_at.0);
    let is_anew = |(end, _): &(&Item, &AlertState)| at.duration_since(end.received_at()) > LATECOMERS;
    match ended.filter(|_| began(fires) <= began(ended)) {
        Some(end) if alert.ends_at.is_none() && is_anew(&end) => {
            end.1.ends_at.as_ref().map_or(alert.starts_at.0, |ends| ends.0.max(alert.starts_at.0))
        }
        Some((_, ended)) => ended.starts_at.0,
        None => began(fires).unwrap_or(alert.starts_at.0),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use serde_json::json;

    use super::super::inbox::tests::{alert, at, batch};
    use super::*;

    #[test]
    fn what_fires_on_long_after_its_end_goes_by_that_end() {
        let state = |ends: Option<i64>| AlertState {
            fingerprint: "f".to_owned(),
            starts_at: MicroTime(at(5)),
            ends_at: ends.map(|ends| MicroTime(at(ends))),
            heard: BTreeMap::new(),
        };
        let said = |began: i64, starts: Option<i64>, ends: Option<i64>| {
            let mut said = alert("f", starts.unwrap_or(began), ends);
            let starts = starts.map(|starts| format!("{}/", at(starts))).unwrap_or_default();
            said["event"]["id"] = json!(format!("f/{}/{starts}firing", at(began)));
            said
        };
        let of = |kept: &[(i64, Value)], ends: Option<i64>, now: i64| {
            let batches: Vec<_> =
                kept.iter().map(|(time, alert)| batch("b", *time, json!([alert]))).collect();
            let kept: Vec<_> = batches.iter().flat_map(|batch| super::of(batch, "f")).collect();
            start(&state(ends), &kept, at(now)).as_second()
        };
        let mut kept = vec![(6, said(5, None, None))];
        assert_eq!((of(&[], None, 10), of(&kept, None, 10), of(&kept, Some(300), 301)), (5, 5, 5));
        kept.push((301, said(5, None, Some(300))));
        assert_eq!((of(&kept, None, 600), of(&kept, Some(300), 700)), (5, 5), "late, or said twice");
        assert_eq!(of(&kept, None, 602), 300);
        kept.push((602, said(5, Some(300), None)));
        assert_eq!(
            (of(&kept, None, 620), of(&kept, None, 99_000), of(&kept, Some(900), 901)),
            (300, 300, 300)
        );
        kept.push((901, said(5, Some(300), Some(900))));
        assert_eq!((of(&kept, None, 1000), of(&kept, None, 1300)), (300, 900));
        let other = [(301, said(4, None, Some(300)))];
        assert_eq!(of(&other, None, 1000), 5, "another time that it fired");
    }

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
