//! Which alerts fire, by all that was said of them: an alert is a state, and what says so is spread over batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use serde_json::Value;

use super::inbox::{Item, Place, SILENCE, items, starts_at};
use super::owed::{fires, outcomes};
use crate::api::{AlertState, EventBatch, OutcomeKind, TriggerEvent};

/// How long after the end of an alert what says that it fires is late, and no news. Of several Alertmanagers the second waits
/// 15 s before it sends what it had to say by then, and the third 30 s; the rest is for a lost connection, or a 503.
///
/// It is well below `group_interval`, which is five minutes if nobody says otherwise, and seldom less than one: so long after the
/// end Alertmanager says that an alert fires on, and who answers then that this is known hears no more of it for `repeat_interval`,
/// which is hours. What is late by more is taken for a new episode. That costs an Execution that nobody needed.
pub const LATECOMERS: SignedDuration = SignedDuration::from_secs(45);

/// When a request came, and until when it is authentic if it is signed over a time.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it came.
    pub at: Timestamp,
    /// Until when it is authentic if somebody sends it again.
    pub authentic_until: Option<Timestamp>,
}

impl Arrival {
    fn of(item: &Item) -> Self {
        let authentic_until = item.batch.spec.authentic_until.as_ref().map(|until| until.0);
        Self { at: item.received_at(), authentic_until }
    }

    /// Whether it is no latecomer, so long after the other. Both are authentic equally long after they were sent, if they are
    /// signed: what somebody has overheard and sends again stays as old as it is.
    fn is_long_after(self, other: Self) -> bool {
        let came = self.at.duration_since(other.at);
        let signed = self.authentic_until.zip(other.authentic_until);
        let sent = signed.map_or(came, |(own, other)| own.duration_since(other));
        came.min(sent) > LATECOMERS
    }
}

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
pub fn start(alert: &AlertState, kept: &[Item], came: Arrival) -> Timestamp {
    let of_it = format!("{}/{}/", alert.fingerprint, alert.starts_at.0);
    let same = kept.iter().filter(|item| item.accepted().event.id.starts_with(&of_it));
    let same: Vec<&Item> = same.collect();
    let (fired, ended): (Vec<&Item>, Vec<&Item>) =
        same.iter().copied().partition(|item| fires(item.accepted()));
    let (fired, ended) = (began_last(&fired), began_last(&ended));
    let recorded = fired.as_ref().and_then(|(starts, items)| End::recorded(*starts, items));
    let said = ended.as_ref().and_then(|(starts, items)| End::said(*starts, items));
    // Of one end it counts what was said, as long as that is kept: it is the last of those that are equal.
    let end = [recorded, said].into_iter().flatten().max_by_key(|end| end.starts);
    let began = fired.as_ref().map(|(starts, _)| *starts);
    match (&alert.ends_at, end.filter(|end| began <= Some(end.starts))) {
        (None, Some(end)) if came.is_long_after(end.heard) => end.next_start(),
        (_, Some(end)) => end.starts,
        (Some(ends), None) if fired.as_ref().is_some_and(|fired| is_of_before(ends.0, fired, came)) => {
            let starts = same.iter().filter_map(|item| starts_at(item));
            starts.filter(|starts| is_before(*starts, ends.0)).max().unwrap_or(alert.starts_at.0)
        }
        (_, None) => began.unwrap_or(alert.starts_at.0),
    }
}

/// When an episode of an alert ended, and how that was heard first.
#[derive(Debug)]
struct End {
    starts: Timestamp,
    ends: Timestamp,
    heard: Arrival,
}

impl End {
    /// As is said by what is kept of the episode of this start.
    fn said(starts: Timestamp, ended: &[&Item]) -> Option<Self> {
        let ends = ended.iter().filter_map(|item| Some(item.accepted().alert.as_ref()?.ends_at.as_ref()?.0));
        Some(Self { starts, ends: ends.max()?, heard: heard_first(ended)? })
    }

    /// As is recorded where it is kept that it fires, also when what said so is gone. What was said after that is not meant.
    fn recorded(starts: Timestamp, fired: &[&Item]) -> Option<Self> {
        let last = fired.iter().map(|item| item.received_at()).max()?;
        let resolved = fired.iter().flat_map(|item| {
            outcomes(&item.batch).filter(move |(index, _, outcome)| {
                *index == item.index && outcome.outcome == OutcomeKind::Resolved
            })
        });
        let times = resolved.map(|(.., outcome)| outcome.time.0);
        // Times of outcomes are kept in whole seconds.
        let ends = times.filter(|time| time.as_second() >= last.as_second()).min()?;
        Some(Self { starts, ends, heard: Arrival { at: ends, authentic_until: None } })
    }

    /// The start of what fires after it. It is later than the one before also in whole seconds, as Executions have it.
    fn next_start(&self) -> Timestamp {
        let later = self.starts.checked_add(SignedDuration::from_secs(1)).unwrap_or(self.starts);
        self.ends.max(later)
    }
}

/// Those that began last, and when that was.
fn began_last<'a>(items: &[&'a Item]) -> Option<(Timestamp, Vec<&'a Item>)> {
    let last = items.iter().filter_map(|item| starts_at(item)).max()?;
    Some((last, items.iter().copied().filter(|item| starts_at(item) == Some(last)).collect()))
}

fn heard_first(items: &[&Item]) -> Option<Arrival> {
    items.iter().map(|item| Arrival::of(item)).min_by_key(|arrival| (arrival.at, arrival.authentic_until))
}

/// Whether an end is late: it is from before what fires now, of which it was heard a moment ago. If that is longer ago, what said
/// that it fires was late itself, and nothing else would ever end it.
fn is_of_before(ends: Timestamp, (began, fired): &(Timestamp, Vec<&Item>), came: Arrival) -> bool {
    !is_before(*began, ends) && heard_first(fired).is_some_and(|heard| !came.is_long_after(heard))
}

/// What is kept is kept in microseconds.
fn is_before(one: Timestamp, other: Timestamp) -> bool {
    one.as_microsecond() < other.as_microsecond()
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

    use super::super::inbox::tests::{alert, at, batch, decided};
    use super::*;

    /// What is said of an alert that began at 5.
    fn state(ends: Option<Timestamp>) -> AlertState {
        let (fingerprint, starts_at) = ("f".to_owned(), MicroTime(at(5)));
        AlertState { fingerprint, starts_at, ends_at: ends.map(MicroTime), heard: BTreeMap::new() }
    }

    /// What is kept of an alert that began then, and of which of its episodes.
    fn said(began: i64, starts: Option<i64>, ends: Option<i64>) -> Value {
        let mut said = alert("f", starts.unwrap_or(began), ends);
        let starts = starts.map(|starts| format!("{}/", at(starts))).unwrap_or_default();
        let status = if ends.is_some() { "resolved" } else { "firing" };
        said["event"]["id"] = json!(format!("f/{}/{starts}{status}", at(began)));
        said
    }

    fn one(received: i64, said: Value) -> Arc<EventBatch> {
        batch(&received.to_string(), received, Value::Array(vec![said]))
    }

    fn start_by(kept: &[Arc<EventBatch>], state: &AlertState, came: Arrival) -> i64 {
        let mut kept: Vec<_> = kept.iter().flat_map(|batch| of(batch, "f")).collect();
        let start = start(state, &kept, came);
        kept.reverse();
        assert_eq!(super::start(state, &kept, came), start, "another process has them in another order");
        start.as_second()
    }

    /// By which start it goes that is said now: that it fires, or is resolved.
    fn goes_by(kept: &[Arc<EventBatch>], ends: Option<i64>, now: i64) -> i64 {
        start_by(kept, &state(ends.map(at)), Arrival { at: at(now), authentic_until: None })
    }

    #[test]
    fn what_fires_on_long_after_its_end_goes_by_that_end() {
        let mut kept = vec![one(6, said(5, None, None))];
        assert_eq!(
            (goes_by(&[], None, 10), goes_by(&kept, None, 10), goes_by(&kept, Some(300), 301)),
            (5, 5, 5)
        );
        kept.push(one(301, said(5, None, Some(300))));
        let (late, twice) = (goes_by(&kept, None, 346), goes_by(&kept, Some(300), 700));
        assert_eq!((late, twice), (5, 5), "late, or said twice");
        assert_eq!(goes_by(&kept, None, 347), 300);
        kept.push(one(602, said(5, Some(300), None)));
        assert_eq!(
            (goes_by(&kept, None, 620), goes_by(&kept, None, 99_000), goes_by(&kept, Some(900), 901)),
            (300, 300, 300)
        );
        kept.push(one(901, said(5, Some(300), Some(900))));
        assert_eq!((goes_by(&kept, None, 940), goes_by(&kept, None, 1300)), (300, 900));
        let other = [one(301, said(4, None, Some(300)))];
        assert_eq!(goes_by(&other, None, 1000), 5, "another time that it fired");
    }

    /// It says so once, and then not for hours: `group_interval` after the end, if somebody has made that a minute.
    #[test]
    fn what_alertmanager_says_next_is_no_latecomer() {
        let kept = [one(6, said(5, None, None)), one(301, said(5, None, Some(300)))];
        for next in [361, 600, 601] {
            assert_eq!(goes_by(&kept, None, next), 300, "{next}");
        }
        assert_eq!(goes_by(&kept, None, 301 + 30), 5, "a third Alertmanager");
    }

    /// What tells a latecomer from what began anew is when it began, and not how soon it is told of.
    #[test]
    fn what_began_after_an_end_is_no_latecomer_however_soon_it_comes() {
        let mut kept = vec![one(6, said(5, None, None)), one(301, said(5, None, Some(300)))];
        let again = AlertState { starts_at: MicroTime(at(310)), ..state(None) };
        let came = Arrival { at: at(311), authentic_until: None };
        assert_eq!((start_by(&kept, &again, came), goes_by(&kept, None, 311)), (310, 5));
        kept.extend([one(311, said(310, None, None)), one(312, said(5, None, None))]);
        let all = items(&kept);
        let all_said = Said::of(&all);
        let resolved: Vec<_> = all.iter().map(|item| all_said.is_resolved(item)).collect();
        assert_eq!(resolved, [true, true, false, true], "the last one is late");
        let last = all_said.last(&all[0]).and_then(starts_at);
        assert_eq!(last, Some(at(310)));
        assert!(all_said.fires_again(&all[1], at(313)));
    }

    /// Of a pair each has another idea of when it was, and what is said of a Rule that came since is kept, too.
    #[test]
    fn what_fires_on_began_after_all_that_ended() {
        let ends = [one(301, said(5, None, Some(300))), one(310, said(5, None, Some(302)))];
        assert_eq!(goes_by(&ends, None, 350), 302);
        let at_once = [one(301, said(5, None, Some(5)))];
        assert_eq!(goes_by(&at_once, None, 350), 6, "what ended when it began");
    }

    #[test]
    fn what_somebody_has_overheard_and_sends_again_begins_nothing() {
        let signed = |sent: i64, now: i64| Arrival { at: at(now), authentic_until: Some(at(sent + 301)) };
        let keep = |sent: i64, said: Value| {
            let mut batch = EventBatch::clone(&one(sent + 1, said));
            batch.spec.authentic_until = Some(MicroTime(at(sent + 301)));
            Arc::new(batch)
        };
        let mut kept = vec![keep(299, said(5, None, None)), keep(300, said(5, None, Some(300)))];
        let fires = |kept: &[Arc<EventBatch>], came: Arrival| start_by(kept, &state(None), came);
        assert_eq!(fires(&kept, signed(299, 598)), 5, "as it was sent before the end");
        assert_eq!((fires(&kept, signed(345, 598)), fires(&kept, signed(346, 598))), (5, 300));
        kept.push(keep(598, said(5, Some(300), None)));
        let ends = |sent: i64| start_by(&kept, &state(Some(at(300))), signed(sent, 800));
        assert_eq!((ends(300), ends(800)), (5, 300));
    }

    #[test]
    fn what_is_recorded_as_resolved_has_ended_also_if_what_said_so_is_gone() {
        let both = batch("a", 6, json!([said(5, None, None), alert("g", 5, None)]));
        let fires = one(6, said(5, None, None));
        for (kind, expected) in [
            (OutcomeKind::Resolved, 50),
            (OutcomeKind::Fired, 5),
            (OutcomeKind::Duplicate, 5),
            (OutcomeKind::NotMatched, 5),
        ] {
            let kept = [decided(&both, &[(0, kind), (1, OutcomeKind::Fired)])];
            assert_eq!(goes_by(&kept, None, 1000), expected, "{kind:?}");
        }
        assert_eq!(goes_by(&[decided(&both, &[(1, OutcomeKind::Resolved)])], None, 1000), 5, "the other");
        let resolved = decided(&both, &[(0, OutcomeKind::Resolved)]);
        let mut kept = vec![resolved.clone()];
        assert_eq!((goes_by(&kept, None, 95), goes_by(&kept, None, 96)), (5, 50), "late, and not");
        assert_eq!(goes_by(&kept, Some(45), 1000), 5, "its own end");
        let end = one(46, said(5, None, Some(45)));
        assert_eq!(goes_by(&[resolved.clone(), end], None, 1000), 45, "as long as that is kept");
        let later = one(60, said(5, None, None));
        assert_eq!(goes_by(&[resolved, later], None, 1000), 5, "that is from before");
        kept.push(one(100, said(5, Some(50), None)));
        assert_eq!((goes_by(&kept, None, 99_000), goes_by(&kept, Some(900), 901)), (50, 50));
        let all = items(&kept);
        let all_said = Said::of(&all);
        let own = all.iter().filter(|item| item.fingerprint() == Some("f"));
        assert_eq!(own.map(|item| all_said.is_resolved(item)).collect::<Vec<_>>(), [true, false]);
        assert_eq!(goes_by(&[fires], None, 1000), 5, "nobody has recorded anything");
    }

    #[test]
    fn an_end_from_before_ends_nothing_that_fires_since() {
        let (fires, end) = (one(6, said(5, None, None)), one(301, said(5, None, Some(300))));
        let again = one(602, said(5, Some(300), None));
        let mut kept = vec![fires, end, again.clone()];
        assert_eq!((goes_by(&kept, Some(300), 620), goes_by(&kept, Some(250), 620)), (5, 5));
        assert_eq!(goes_by(&[again], Some(300), 620), 5, "all else is gone");
        assert_eq!((goes_by(&kept, Some(301), 620), goes_by(&kept, Some(900), 901)), (300, 300), "its own");
        let finer = at(300).checked_add(SignedDuration::from_nanos(1)).expect("a time");
        let came = Arrival { at: at(620), authentic_until: None };
        assert_eq!(start_by(&kept, &state(Some(finer)), came), 5, "it is kept in microseconds");
        let mut later = kept.clone();
        later.extend([one(901, said(5, Some(300), Some(900))), one(1202, said(5, Some(900), None))]);
        assert_eq!((goes_by(&later, Some(900), 1210), goes_by(&later, Some(300), 1210)), (300, 5));
        // What said that it fires again was late itself, and goes on until Alertmanager says once more that it does not.
        assert_eq!((goes_by(&kept, Some(300), 647), goes_by(&kept, Some(300), 648)), (5, 300));
        kept.push(one(648, said(5, Some(300), Some(300))));
        assert_eq!(goes_by(&kept, None, 1000), 301, "it fires after all");
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
