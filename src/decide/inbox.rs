//! What Webhooks received and is kept: which alerts fire, which events wait, what is over. All of it is read from the
//! `EventBatch`es, so that any process can go on at any point.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::capture::Correlation;
use super::identity::{digest, occurrence};
use super::matching::CompiledRule;
use crate::api::{AcceptedEvent, AlertState, EventBatch, EventBatchStatus, EventOutcome, OutcomeKind};

/// How long what is decided is remembered, so that whoever sends it again hears that it was received.
pub const REMEMBERED: SignedDuration = SignedDuration::from_mins(15);
/// How long an alert counts as firing that nobody repeats. Alertmanager repeats every four hours, if not told else.
pub const SILENCE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How old a firing alert may be before a repetition of it is taken in again, as a sign of life.
pub const REFRESHED: SignedDuration = SignedDuration::from_hours(24);

/// One event of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// The batch.
    pub batch: Arc<EventBatch>,
    /// Which event of it.
    pub index: usize,
}

impl Item {
    /// The event.
    pub fn accepted(&self) -> &AcceptedEvent {
        &self.batch.spec.events[self.index]
    }

    /// What tells an alert from others, whenever it began.
    pub fn fingerprint(&self) -> Option<&str> {
        self.accepted().alert.as_ref().map(|alert| alert.fingerprint.as_str())
    }

    /// What a rule has recorded of it.
    pub fn known(&self, rule: &str) -> Option<&EventOutcome> {
        let mut outcomes = self.batch.status.iter().flat_map(|status| &status.outcomes);
        outcomes.find(|outcome| usize::try_from(outcome.event) == Ok(self.index) && outcome.rule == rule)
    }

    fn received_at(&self) -> Timestamp {
        received_at(&self.batch)
    }

    /// What becomes of it.
    pub fn outcome(
        &self,
        rule: &str,
        kind: OutcomeKind,
        reason: impl Into<String>,
        now: Timestamp,
    ) -> EventOutcome {
        EventOutcome {
            event: i32::try_from(self.index).unwrap_or(i32::MAX),
            rule: rule.to_owned(),
            outcome: kind,
            reason: reason.into().chars().take(512).collect(),
            execution: None,
            judged_by: None,
            time: Time(now),
        }
    }

    fn place(&self) -> Place {
        (Arc::as_ptr(&self.batch), self.index)
    }
}

/// A batch, and the place of an event in it.
type Place = (*const EventBatch, usize);

/// A hash of a rule's text.
pub fn text_of(rule: &CompiledRule) -> String {
    digest(&["rule", &json!(rule.spec).to_string()])[..32].to_owned()
}

/// Sorts what the batches of its Webhook hold for a rule. Of an absence nothing is decided anew: nobody knows any more what
/// came meanwhile.
pub fn of(rule: &CompiledRule, batches: &[Arc<EventBatch>], now: Timestamp) -> Inbox {
    let absence = rule.correlation.as_ref().is_some_and(Correlation::is_absence);
    let text = (!absence).then(|| text_of(rule));
    open((&rule.facts.name, text.as_deref()), batches, now)
}

/// What a rule of this text could not decide about last, as far as that is remembered, and why.
pub fn mistake((rule, text): (&str, &str), batches: &[Arc<EventBatch>]) -> Option<String> {
    let failed = batches.iter().flat_map(|batch| settled(batch)).filter(|(_, _, outcome)| {
        let own = outcome.rule == rule && outcome.judged_by.as_deref() == Some(text);
        own && outcome.outcome == OutcomeKind::Failed
    });
    let last = failed.max_by_key(|(_, event, outcome)| (outcome.time.0, event.event.id.as_str()));
    last.map(|(_, event, outcome)| format!("{}: {}", event.event.id, outcome.reason))
}

/// When a batch was received.
pub fn received_at(batch: &EventBatch) -> Timestamp {
    batch.spec.received_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// When a rule heard first of an event: by its batch, or by an earlier one that it repeats.
fn heard_at(item: &Item, rule: &str) -> Timestamp {
    let before = item.accepted().alert.as_ref().and_then(|alert| alert.heard.get(rule));
    before.map_or(item.received_at(), |before| before.0.min(item.received_at()))
}

/// Keeps in an alert that is repeated when its rules heard of it first: what says so goes when the repetition is there.
pub fn remember(repeated: &mut AcceptedEvent, known: &Item) {
    let Some(alert) = &mut repeated.alert else { return };
    for rule in repeated.rules.iter().filter(|rule| known.accepted().rules.contains(rule)) {
        let first = MicroTime(heard_at(known, rule));
        let kept = alert.heard.entry(rule.clone()).or_insert_with(|| first.clone());
        kept.0 = kept.0.min(first.0);
    }
}

/// What one rule has before it.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Alerts that fire, one for each fingerprint.
    pub firing: Vec<Item>,
    /// Events that wait for their decision, oldest first.
    pub waiting: Vec<Item>,
    /// What is over, and why.
    pub over: Vec<(Item, OutcomeKind, &'static str)>,
    /// When the rule heard first of each, however often it is repeated.
    pub heard: BTreeMap<String, Timestamp>,
}

impl Inbox {
    /// Whether it is the first that is heard of an event.
    fn hear(&mut self, item: &Item, rule: &str) -> bool {
        let at = heard_at(item, rule);
        match self.heard.entry(occurrence(&item.accepted().event)) {
            Entry::Vacant(place) => {
                place.insert(at);
                true
            }
            Entry::Occupied(mut known) => {
                *known.get_mut() = at.min(*known.get());
                false
            }
        }
    }
}

/// Up to when the alerts of a fingerprint are resolved.
#[derive(Clone, Copy, Default)]
struct Ended {
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

/// Sorts what the batches of one Webhook hold for one rule, and for its text. An alert that fires and was judged by
/// another text fires anew; one that was judged by this one stays, but is over when it is resolved.
pub fn open((rule, text): (&str, Option<&str>), batches: &[Arc<EventBatch>], now: Timestamp) -> Inbox {
    let mut items: Vec<Item> = batches
        .iter()
        .flat_map(|batch| (0..batch.spec.events.len()).map(|index| Item { batch: batch.clone(), index }))
        .collect();
    items.sort_by(|a, b| key(a).cmp(&key(b)));
    let ended = ended(&items);
    let standing = standing((rule, text), batches);
    let (mut inbox, mut newest) = (Inbox::default(), BTreeMap::<String, Item>::new());
    for item in items.into_iter().filter(|item| item.accepted().rules.iter().any(|name| name == rule)) {
        let is_first = inbox.hear(&item, rule);
        if standing.get(&item.place()) == Some(&Standing::Over) {
            continue;
        }
        match &item.accepted().alert {
            None if is_first => inbox.waiting.push(item),
            None => inbox.over.push((item, OutcomeKind::Duplicate, "it was received before")),
            Some(AlertState { ends_at: Some(_), .. }) => inbox.over.push((item, OutcomeKind::Resolved, "")),
            Some(alert) if ended.get(&alert.fingerprint).is_some_and(|e| e.covers(alert.starts_at.0)) => {
                inbox.over.push((item, OutcomeKind::Resolved, ""));
            }
            Some(_) if now.duration_since(item.received_at()) > SILENCE => {
                inbox.over.push((item, OutcomeKind::Resolved, "nothing was heard of it for 7 days"));
            }
            Some(alert) => {
                let known = newest.get(&alert.fingerprint);
                let is_newer = known.is_none_or(|known| starts_at(known) <= Some(alert.starts_at.0));
                let fingerprint = alert.fingerprint.clone();
                let older = if is_newer { newest.insert(fingerprint, item) } else { Some(item) };
                inbox.over.extend(older.map(|item| (item, OutcomeKind::Duplicate, "there is a newer one")));
            }
        }
    }
    inbox.firing = newest.into_values().filter(|item| !standing.contains_key(&item.place())).collect();
    inbox
}

/// The order in which things were received.
fn key(item: &Item) -> (Timestamp, Option<&str>, usize) {
    (item.received_at(), item.batch.metadata.name.as_deref(), item.index)
}

/// When an alert began.
pub fn starts_at(item: &Item) -> Option<Timestamp> {
    item.accepted().alert.as_ref().map(|alert| alert.starts_at.0)
}

fn ended(items: &[Item]) -> BTreeMap<String, Ended> {
    let mut ended = BTreeMap::<String, Ended>::new();
    for alert in items.iter().filter_map(|item| item.accepted().alert.as_ref()) {
        let Some(ends_at) = &alert.ends_at else { continue };
        let known = ended.entry(alert.fingerprint.clone()).or_default();
        known.starts = known.starts.max(Some(alert.starts_at.0));
        known.ends = known.ends.max(Some(ends_at.0));
    }
    ended
}

/// How a rule stands with an event about which there is nothing to decide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It is done with it.
    Over,
    /// It is an alert that fires, and that means nothing to the rule as it reads now.
    Judged,
}

fn standing((rule, text): (&str, Option<&str>), batches: &[Arc<EventBatch>]) -> BTreeMap<Place, Standing> {
    let mut standing = BTreeMap::new();
    for batch in batches {
        for (index, event, outcome) in settled(batch).filter(|(_, _, outcome)| outcome.rule == rule) {
            let stands = match text.filter(|_| may_be_judged_anew(event, outcome.outcome)) {
                None => Standing::Over,
                Some(text) if outcome.judged_by.as_deref() == Some(text) => Standing::Judged,
                Some(_) => continue,
            };
            standing.insert((Arc::as_ptr(batch), index), stands);
        }
    }
    standing
}

/// The events of a batch that are decided, each with what became of it.
fn settled(batch: &EventBatch) -> impl Iterator<Item = (usize, &AcceptedEvent, &EventOutcome)> {
    batch.status.iter().flat_map(|status| &status.outcomes).filter_map(|outcome| {
        let index = usize::try_from(outcome.event).ok()?;
        let event = batch.spec.events.get(index)?;
        is_final(event, outcome.outcome).then_some((index, event, outcome))
    })
}

/// The events of a batch and the rules that are done with them.
fn done(batch: &EventBatch) -> BTreeSet<(usize, &str)> {
    settled(batch).map(|(index, _, outcome)| (index, outcome.rule.as_str())).collect()
}

fn fires(event: &AcceptedEvent) -> bool {
    event.alert.as_ref().is_some_and(|alert| alert.ends_at.is_none())
}

/// Whether a rule of another text has to look at it: an alert that fires is a state, of an event it is said once.
pub fn may_be_judged_anew(event: &AcceptedEvent, outcome: OutcomeKind) -> bool {
    fires(event) && matches!(outcome, OutcomeKind::NotMatched | OutcomeKind::Failed)
}

/// Whether an alert of a batch fires, for all that is known, that means nothing to one of these rules as it reads now:
/// somebody may mend the rule.
pub fn fires_unmatched(batch: &EventBatch, exists: impl Fn(&str) -> bool) -> bool {
    settled(batch).any(|(_, event, outcome)| {
        outcome.judged_by.is_some() && may_be_judged_anew(event, outcome.outcome) && exists(&outcome.rule)
    })
}

/// Whether nothing more will become of an event. What fires goes on, until it is resolved.
fn is_final(event: &AcceptedEvent, outcome: OutcomeKind) -> bool {
    match outcome {
        OutcomeKind::Held => false,
        OutcomeKind::Fired => !fires(event),
        _ => true,
    }
}

/// Since when all is over with a batch; none while anything is not.
pub fn settled_at(batch: &EventBatch) -> Option<Timestamp> {
    let outcomes = batch.status.as_ref().map_or(&[][..], |status| &status.outcomes);
    let settled = done(batch);
    let mut events = batch.spec.events.iter().enumerate();
    let all =
        events.all(|(index, event)| event.rules.iter().all(|rule| settled.contains(&(index, rule.as_str()))));
    let last = outcomes.iter().map(|outcome| outcome.time.0).max();
    all.then(|| last.unwrap_or_else(|| received_at(batch)))
}

/// The status with these outcomes in it. What is the same but for its time stays as it is.
pub fn recorded(status: &EventBatchStatus, fresh: &[EventOutcome]) -> EventBatchStatus {
    let mut recorded = status.clone();
    let mut places: BTreeMap<_, _> = status
        .outcomes
        .iter()
        .enumerate()
        .map(|(place, known)| ((known.event, known.rule.as_str()), place))
        .collect();
    for outcome in fresh {
        let key = (outcome.event, outcome.rule.as_str());
        let Some(place) = places.get(&key) else {
            places.insert(key, recorded.outcomes.len());
            recorded.outcomes.push(outcome.clone());
            continue;
        };
        let known = &mut recorded.outcomes[*place];
        let time = known.time.clone();
        if (EventOutcome { time, ..outcome.clone() }) != *known {
            *known = outcome.clone();
        }
    }
    recorded
}

/// What becomes of events whose rules are gone.
pub fn orphaned(batch: &Arc<EventBatch>, exists: impl Fn(&str) -> bool, now: Timestamp) -> Vec<EventOutcome> {
    let settled = done(batch);
    let items = (0..batch.spec.events.len()).map(|index| Item { batch: batch.clone(), index });
    items
        .flat_map(|item| {
            let gone = item
                .accepted()
                .rules
                .iter()
                .filter(|rule| !exists(rule) && !settled.contains(&(item.index, rule.as_str())));
            let outcome =
                |rule: &String| item.outcome(rule, OutcomeKind::NotMatched, "the Rule is gone", now);
            gone.map(outcome).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn batch(name: &str, received: i64, events: Value) -> Arc<EventBatch> {
        let batch = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch", "metadata": {"name": name},
            "spec": {"webhook": "am", "receivedAt": at(received).to_string(), "events": events}});
        Arc::new(serde_json::from_value(batch).expect("an EventBatch"))
    }

    fn alert(fingerprint: &str, starts: i64, ends: Option<i64>) -> Value {
        let status = if ends.is_some() { "resolved" } else { "firing" };
        json!({"rules": ["r"],
            "alert": {"fingerprint": fingerprint, "startsAt": at(starts).to_string(), "endsAt": ends.map(|e| at(e).to_string())},
            "event": {"id": format!("{fingerprint}/{starts}/{status}"), "source": "alertmanager",
                "type": "alert", "time": at(starts).to_string(), "data": {"status": status}}})
    }

    fn event(id: &str) -> Value {
        json!({"rules": ["r"], "event": {"id": id, "source": "s", "type": "t", "time": at(0).to_string()}})
    }

    fn decided(batch: &Arc<EventBatch>, outcomes: &[(usize, OutcomeKind)]) -> Arc<EventBatch> {
        let mut batch = EventBatch::clone(batch);
        let item = |index| Item { batch: Arc::new(batch.clone()), index };
        let outcomes: Vec<_> =
            outcomes.iter().map(|(index, kind)| item(*index).outcome("r", *kind, "", at(50))).collect();
        batch.status = Some(EventBatchStatus { outcomes });
        Arc::new(batch)
    }

    fn look(batches: &[Arc<EventBatch>]) -> String {
        look_as(None, batches)
    }

    fn look_as(text: Option<&str>, batches: &[Arc<EventBatch>]) -> String {
        let inbox = open(("r", text), batches, at(100));
        let name = |item: &Item| {
            format!("{}[{}]", item.batch.metadata.name.as_deref().unwrap_or_default(), item.index)
        };
        let firing: Vec<_> = inbox.firing.iter().map(name).collect();
        let waiting: Vec<_> = inbox.waiting.iter().map(name).collect();
        let mut over: Vec<_> =
            inbox.over.iter().map(|(item, kind, _)| format!("{} {kind:?}", name(item))).collect();
        over.sort();
        format!("firing {} waiting {} over {}", firing.join(","), waiting.join(","), over.join(","))
    }

    #[test]
    fn an_alert_fires_until_it_is_resolved() {
        let first = batch("a", 10, json!([alert("f", 5, None), alert("g", 6, None)]));
        let end = batch("b", 20, json!([alert("f", 5, Some(15))]));
        assert_eq!(look(std::slice::from_ref(&first)), "firing a[0],a[1] waiting  over ");
        assert_eq!(
            look(&[first.clone(), end.clone()]),
            "firing a[1] waiting  over a[0] Resolved,b[0] Resolved"
        );
        let end = decided(&end, &[(0, OutcomeKind::Resolved)]);
        assert_eq!(
            look(&[first.clone(), end.clone()]),
            "firing a[1] waiting  over a[0] Resolved",
            "it ends others still"
        );
        let first = decided(&first, &[(0, OutcomeKind::Resolved), (1, OutcomeKind::Fired)]);
        assert_eq!(look(&[first]), "firing a[1] waiting  over ", "what fired goes on");
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let late = batch("z", 30, json!([alert("f", 5, None)]));
        let end = batch("b", 20, json!([alert("f", 5, Some(15))]));
        let again = batch("c", 40, json!([alert("f", 18, None)]));
        assert_eq!(look(&[end.clone(), late.clone()]), "firing  waiting  over b[0] Resolved,z[0] Resolved");
        assert_eq!(
            look(&[late, again, end]),
            "firing c[0] waiting  over b[0] Resolved,z[0] Resolved",
            "a new one fires"
        );
    }

    #[test]
    fn of_one_alert_the_newest_counts() {
        let (old, new) =
            (batch("a", 10, json!([alert("f", 5, None)])), batch("b", 20, json!([alert("f", 5, None)])));
        assert_eq!(look(&[new, old.clone()]), "firing b[0] waiting  over a[0] Duplicate");
        let stale = batch("c", 30, json!([alert("f", 1, None)]));
        assert_eq!(look(&[stale, old]), "firing a[0] waiting  over c[0] Duplicate", "by its start");
    }

    #[test]
    fn a_repetition_remembers_for_each_rule_when_it_heard_first() {
        let (first, other) =
            (batch("a", 10, json!([alert("f", 5, None)])), batch("b", 20, json!([alert("f", 5, None)])));
        let item = |batch: &Arc<EventBatch>| Item { batch: batch.clone(), index: 0 };
        let repeated = |received, known: &[&Arc<EventBatch>]| {
            let mut repeated = EventBatch::clone(&batch("c", received, json!([alert("f", 5, None)])));
            let event = &mut repeated.spec.events[0];
            event.rules.push("new".to_owned());
            for known in known {
                remember(event, &item(known));
            }
            Arc::new(repeated)
        };
        let heard = |rule: &str, batch: Arc<EventBatch>| {
            open((rule, None), &[batch], at(100))
                .heard
                .into_values()
                .map(Timestamp::as_second)
                .collect::<Vec<_>>()
        };
        assert_eq!(heard("r", repeated(30, &[&other, &first])), [10]);
        let twice = repeated(40, &[&repeated(30, &[&first])]);
        assert_eq!(heard("r", twice.clone()), [10], "what said so first is gone");
        assert_eq!(heard("new", twice), [30], "it came later");
    }

    #[test]
    fn an_event_waits_once() {
        let (first, again) =
            (batch("a", 10, json!([event("1"), event("2")])), batch("b", 20, json!([event("1")])));
        assert_eq!(look(&[again.clone(), first.clone()]), "firing  waiting a[0],a[1] over b[0] Duplicate");
        let first = decided(&first, &[(0, OutcomeKind::Suppressed)]);
        assert_eq!(
            look(&[first, again]),
            "firing  waiting a[1] over b[0] Duplicate",
            "also after it was decided"
        );
        assert!(open(("other", None), &[batch("a", 1, json!([event("1")]))], at(2)).waiting.is_empty());
    }

    #[test]
    fn a_batch_is_settled_when_nothing_is_open() {
        let both = batch("a", 10, json!([alert("f", 5, None), event("1")]));
        for (outcomes, settled) in [
            (vec![], None),
            (vec![(0, OutcomeKind::Fired), (1, OutcomeKind::Fired)], None),
            (vec![(0, OutcomeKind::Held), (1, OutcomeKind::Suppressed)], None),
            (vec![(0, OutcomeKind::Resolved)], None),
            (vec![(0, OutcomeKind::Resolved), (1, OutcomeKind::Fired)], Some(at(50))),
            (vec![(0, OutcomeKind::NotMatched), (1, OutcomeKind::Failed)], Some(at(50))),
        ] {
            assert_eq!(settled_at(&decided(&both, &outcomes)), settled, "{outcomes:?}");
        }
    }

    /// With what a rule of this text has said of the first event.
    fn judged(batch: &Arc<EventBatch>, kind: OutcomeKind, text: Option<&str>) -> Arc<EventBatch> {
        let mut batch = EventBatch::clone(&decided(batch, &[(0, kind)]));
        batch.status.as_mut().expect("a status").outcomes[0].judged_by = text.map(str::to_owned);
        Arc::new(batch)
    }

    #[test]
    fn a_rule_of_another_text_decides_anew_about_what_fires() {
        use OutcomeKind::{Duplicate, Failed, NotMatched, Suppressed};
        let fires = batch("a", 10, json!([alert("f", 5, None)]));
        for (kind, judge, reader, open) in [
            (NotMatched, Some("old"), Some("old"), false),
            (NotMatched, Some("old"), Some("new"), true),
            (Failed, Some("old"), Some("new"), true),
            // The Rule was gone, and is there again.
            (NotMatched, None, Some("new"), true),
            (NotMatched, None, None, false),
            (Suppressed, None, Some("new"), false),
            (Duplicate, None, Some("new"), false),
        ] {
            let expected = if open { "firing a[0] waiting  over " } else { "firing  waiting  over " };
            assert_eq!(
                look_as(reader, &[judged(&fires, kind, judge)]),
                expected,
                "{kind:?} {judge:?} {reader:?}"
            );
        }
        let event = judged(&batch("a", 10, json!([event("1")])), NotMatched, Some("old"));
        assert_eq!(look_as(Some("new"), &[event]), "firing  waiting  over ", "an event is decided once");
    }

    #[test]
    fn a_rule_says_what_it_cannot_decide_about_until_it_reads_otherwise() {
        let failed = judged(&batch("a", 10, json!([event("1")])), OutcomeKind::Failed, Some("old"));
        let says = |rule: (&str, &str)| mistake(rule, std::slice::from_ref(&failed));
        assert_eq!(says(("r", "old")), Some("1: ".to_owned()));
        assert_eq!((says(("r", "new")), says(("other", "old"))), (None, None));
    }

    #[test]
    fn what_means_nothing_to_a_rule_is_over_when_it_is_resolved_or_repeated() {
        let fires = judged(&batch("a", 10, json!([alert("f", 5, None)])), OutcomeKind::NotMatched, Some("t"));
        assert!(fires_unmatched(&fires, |_| true) && !fires_unmatched(&fires, |_| false));
        let end = batch("b", 20, json!([alert("f", 5, Some(15))]));
        assert_eq!(
            look_as(Some("t"), &[fires.clone(), end]),
            "firing  waiting  over a[0] Resolved,b[0] Resolved"
        );
        let again = batch("c", 30, json!([alert("f", 5, None)]));
        assert_eq!(look_as(Some("t"), &[fires.clone(), again]), "firing c[0] waiting  over a[0] Duplicate");
        let resolved = judged(&fires, OutcomeKind::Resolved, None);
        assert!(!fires_unmatched(&resolved, |_| true));
    }

    #[test]
    fn what_is_recorded_again_changes_nothing() {
        let item = Item { batch: batch("a", 10, json!([event("1")])), index: 0 };
        let status = recorded(
            &EventBatchStatus::default(),
            &[item.outcome("r", OutcomeKind::Held, "Cooldown", at(1))],
        );
        assert_eq!(recorded(&status, &[item.outcome("r", OutcomeKind::Held, "Cooldown", at(2))]), status);
        let fired = recorded(&status, &[item.outcome("r", OutcomeKind::Fired, "", at(3))]);
        assert_eq!((fired.outcomes.len(), fired.outcomes[0].time.0), (1, at(3)));
    }

    #[test]
    fn a_rule_that_is_gone_matches_nothing() {
        let batch = batch("a", 10, json!([alert("f", 5, None)]));
        assert!(orphaned(&batch, |_| true, at(20)).is_empty());
        let outcomes = orphaned(&batch, |_| false, at(20));
        assert_eq!(outcomes.iter().map(|o| o.outcome).collect::<Vec<_>>(), [OutcomeKind::NotMatched]);
    }

    #[test]
    fn what_nobody_repeats_for_a_week_is_over() {
        let old = batch("a", 10, json!([alert("f", 5, None)]));
        let week = SILENCE.as_secs();
        assert_eq!(open(("r", None), std::slice::from_ref(&old), at(10 + week)).firing.len(), 1);
        assert_eq!(open(("r", None), &[old], at(11 + week)).over.len(), 1);
    }
}
