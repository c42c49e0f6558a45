//! What Webhooks received and is kept: which alerts fire, which events wait, what is over. All of it is read from the
//! `EventBatch`es, so that any process can go on at any point.
//!
//! A rule looks at the events that are listed for it, and takes up the alerts that fire and may match as it reads now: it
//! was mended, or came later.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::capture::Correlation;
use super::firing::Said;
use super::identity::{digest, occurrence};
use super::interest::Wish;
use super::matching::CompiledRule;
use super::owed::{self, may_be_judged_anew, rules_of, settled};
use crate::api::{AcceptedEvent, AlertState, EventBatch, EventOutcome, OutcomeKind};

/// How long what is decided is remembered, so that whoever sends it again hears that it was received.
pub const REMEMBERED: SignedDuration = SignedDuration::from_mins(15);
/// How long an alert counts as firing that nobody repeats. Alertmanager repeats every four hours, if not told else.
pub const SILENCE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How old a firing alert may be before a repetition of it is taken in again, as a sign of life.
pub const REFRESHED: SignedDuration = SignedDuration::from_hours(24);

/// Why nothing is done about an alert that was resolved.
pub const FIRES_AGAIN: &str = "the alert fires again";

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

    /// An Execution that a rule was led to by it.
    pub fn execution(&self) -> Option<String> {
        let of_item = owed::outcomes(&self.batch).filter(|(index, ..)| *index == self.index);
        of_item.into_iter().find_map(|(.., outcome)| outcome.execution.clone())
    }

    /// When it was received.
    pub fn received_at(&self) -> Timestamp {
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

    /// What tells it from all others.
    pub fn place(&self) -> Place {
        (Arc::as_ptr(&self.batch), self.index)
    }
}

/// A batch, and the place of an event in it.
pub type Place = (*const EventBatch, usize);

/// A hash of a rule's text.
pub fn text_of(rule: &CompiledRule) -> String {
    digest(&["rule", &json!(rule.spec).to_string()])[..32].to_owned()
}

/// Sorts what the batches of its Webhook hold for a rule. Of an absence nothing is decided anew: nobody knows any more what
/// came meanwhile. `beside` are Rules of which it does not matter, to one for what no other takes, what they have said.
pub fn of(
    rule: &CompiledRule,
    batches: &[Arc<EventBatch>],
    beside: &BTreeSet<String>,
    now: Timestamp,
) -> Inbox {
    let absence = rule.correlation.as_ref().is_some_and(Correlation::is_absence);
    let judges = (!absence).then(|| (text_of(rule), Wish::of(rule)));
    let (text, wish) = judges.as_ref().map(|(text, wish)| (text.as_str(), wish)).unzip();
    let ends = rule.spec.trigger.is_about_ends();
    let unmatched = rule.spec.trigger.is_unmatched().then_some(beside);
    let wish = wish.filter(|_| !ends);
    open(Reader { rule: &rule.facts.name, text, wish, ends, unmatched }, batches, now)
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
pub fn heard_at(item: &Item, rule: &str) -> Timestamp {
    let before = item.accepted().alert.as_ref().and_then(|alert| alert.heard.get(rule));
    before.map_or(item.received_at(), |before| before.0.min(item.received_at()))
}

/// Keeps in an alert that is repeated when its rules heard of it first: what says so goes when the repetition is there.
pub fn remember(repeated: &mut AcceptedEvent, known: &Item) {
    let Some(alert) = &mut repeated.alert else { return };
    let heard = rules_of(&known.batch, known.index);
    for rule in repeated.rules.iter().filter(|rule| heard.contains(rule.as_str())) {
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
    /// Alerts that fire, and of which the rule as it reads now could not say whether they match.
    pub unjudged: Vec<Item>,
    /// Events that wait for their decision, oldest first.
    pub waiting: Vec<Item>,
    /// What is over, and why.
    pub over: Vec<(Item, OutcomeKind, &'static str)>,
    /// When the rule heard first of each, however often it is repeated.
    pub heard: BTreeMap<String, Timestamp>,
    /// Alerts that fire and may match, but that too many rules have taken up before this one.
    pub refused: Vec<Item>,
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

/// A rule that looks at what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// Its name.
    pub rule: &'a str,
    /// A hash of its text, if it judges alerts anew that another text has judged.
    pub text: Option<&'a str>,
    /// What it takes up though it is not listed for it.
    pub wish: Option<&'a Wish>,
    /// Whether it is about alerts that are resolved: they are what waits for its decision.
    pub ends: bool,
    /// If it takes up only what is no other rule's, and keeps what it has been given: the rules that take nothing from it, whatever
    /// they have said.
    pub unmatched: Option<&'a BTreeSet<String>>,
}

impl Reader<'_> {
    /// Whether it may be that an alert is listed for others alone because one of them took it.
    fn may_want(&self, item: &Item) -> bool {
        let accepted = item.accepted();
        let may_match = |wish: &Wish| wish.may_match(&accepted.event, accepted.alert.as_ref());
        self.unmatched.is_some() && self.wish.is_some_and(may_match)
    }

    /// Whether it may take up an alert: to all rules that were asked it means nothing, if that matters.
    fn is_free(&self, item: &Item) -> bool {
        let means_nothing =
            |rule: &str| item.known(rule).is_some_and(|known| known.outcome == OutcomeKind::NotMatched);
        let others = || rules_of(&item.batch, item.index);
        self.unmatched.is_none_or(|beside| {
            others().into_iter().all(|rule| rule == self.rule || beside.contains(rule) || means_nothing(rule))
        })
    }
}

/// Sorts what the batches of one Webhook hold for one rule, and for its text. An alert that fires and was judged by
/// another text fires anew; one that was judged by this one stays, but is over when it is resolved.
pub fn open(reader: Reader<'_>, batches: &[Arc<EventBatch>], now: Timestamp) -> Inbox {
    let (all, rule) = (items(batches), reader.rule);
    let (said, standing) = (Said::of(&all), standing((rule, reader.text), batches));
    let own = own(rule, &all);
    let (firing, refused) = firing(reader, &all, (&said, &own), now);
    let mut inbox = Inbox { refused: refused.into_iter().cloned().collect(), ..Inbox::default() };
    for item in all.iter().filter(|item| own.contains(&item.place()) || firing.contains(&item.place())) {
        let is_first = inbox.hear(item, rule);
        let stands = standing.get(&item.place()).copied();
        let fires = || firing.contains(&item.place()) && !said.is_silent(item, now);
        if stands.is_some_and(Standing::is_unknown) && fires() {
            inbox.unjudged.push(item.clone());
        }
        if let Some(Standing::Over(_)) = stands {
            continue;
        }
        let over = match &item.accepted().alert {
            None if is_first => {
                inbox.waiting.push(item.clone());
                continue;
            }
            None => (OutcomeKind::Duplicate, "it was received before"),
            Some(AlertState { ends_at: Some(_), .. }) if reader.ends => {
                let Some(over) = over_though_resolved(item, (is_first, &said), now) else {
                    inbox.waiting.push(item.clone());
                    continue;
                };
                over
            }
            Some(AlertState { ends_at: Some(_), .. }) => (OutcomeKind::Resolved, ""),
            Some(_) if said.is_resolved(item) => (OutcomeKind::Resolved, ""),
            Some(_) if said.is_silent(item, now) => {
                (OutcomeKind::Resolved, "nothing was heard of it for 7 days")
            }
            Some(_) if firing.contains(&item.place()) => {
                inbox.firing.extend(stands.is_none().then(|| item.clone()));
                continue;
            }
            Some(_) => (OutcomeKind::Duplicate, "there is a newer one"),
        };
        inbox.over.push((item.clone(), over.0, over.1));
    }
    inbox.firing.sort_by(|a, b| a.fingerprint().cmp(&b.fingerprint()));
    inbox
}

/// Why a rule about alerts that are resolved has nothing to decide about one; none if it has.
fn over_though_resolved(
    item: &Item,
    (is_first, said): (bool, &Said<'_>),
    now: Timestamp,
) -> Option<(OutcomeKind, &'static str)> {
    match () {
        () if !is_first => Some((OutcomeKind::Duplicate, "it was received before")),
        () if said.fires_again(item, now) => Some((OutcomeKind::Suppressed, FIRES_AGAIN)),
        () if now.duration_since(item.received_at()) > SILENCE => {
            Some((OutcomeKind::Suppressed, "for 7 days something stood in its way"))
        }
        () => None,
    }
}

/// All that batches hold, in the order in which it was received.
pub fn items(batches: &[Arc<EventBatch>]) -> Vec<Item> {
    let of = |batch: &Arc<EventBatch>| {
        let batch = batch.clone();
        (0..batch.spec.events.len()).map(move |index| Item { batch: batch.clone(), index })
    };
    let mut items: Vec<Item> = batches.iter().flat_map(of).collect();
    items.sort_by(|a, b| key(a).cmp(&key(b)));
    items
}

/// What is listed for a rule, and what it has taken up.
fn own(rule: &str, items: &[Item]) -> BTreeSet<Place> {
    let listed = items.iter().filter(|item| item.accepted().rules.iter().any(|name| name == rule));
    let mut own: BTreeSet<Place> = listed.map(Item::place).collect();
    let mut last = std::ptr::null();
    for item in items
        .iter()
        .filter(|item| std::mem::replace(&mut last, Arc::as_ptr(&item.batch)) != Arc::as_ptr(&item.batch))
    {
        let of_rule = owed::outcomes(&item.batch).filter(|(.., outcome)| outcome.rule == rule);
        own.extend(of_rule.map(|(index, ..)| (Arc::as_ptr(&item.batch), index)));
    }
    own
}

/// For each alert that fires, the item by which a rule goes: what was said last, if it is listed for the rule; else what
/// says the same (whatever it says, if the rule is for what no other takes) and is the rule's own, as if that is one of several batches of one request; else the rule takes up
/// what was said last, if it may match. Also those that it cannot take up because there is no room.
fn firing<'a>(
    reader: Reader<'_>,
    items: &'a [Item],
    (said, own): (&Said<'a>, &BTreeSet<Place>),
    now: Timestamp,
) -> (BTreeSet<Place>, Vec<&'a Item>) {
    let mut same = BTreeMap::<Place, Place>::new();
    for item in items.iter().filter(|item| own.contains(&item.place()) && !said.is_resolved(item)) {
        let Some(last) = said.last(item) else { continue };
        let is_the_same = reader.may_want(last) || last.accepted().event.data == item.accepted().event.data;
        if starts_at(last) == starts_at(item) && is_the_same {
            same.insert(last.place(), item.place());
        }
    }
    let (mut firing, mut refused, mut room) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
    for item in items.iter().filter(|item| said.last(item).is_some_and(|last| last.place() == item.place())) {
        let (place, accepted) = (item.place(), item.accepted());
        if let Some(place) =
            Some(place).filter(|place| own.contains(place)).or_else(|| same.get(&place).copied())
        {
            firing.insert(place);
            continue;
        }
        let may_match = |wish: &Wish| wish.may_match(&accepted.event, accepted.alert.as_ref());
        if said.is_silent(item, now) || !reader.wish.is_some_and(may_match) || !reader.is_free(item) {
            continue;
        }
        let left = room.entry(place.0).or_insert_with(|| owed::room(&item.batch));
        match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                firing.insert(place);
            }
            None => refused.push(item),
        }
    }
    (firing, refused)
}

/// The order in which things were received.
fn key(item: &Item) -> (Timestamp, Option<&str>, usize) {
    (item.received_at(), item.batch.metadata.name.as_deref(), item.index)
}

/// When an alert began.
pub fn starts_at(item: &Item) -> Option<Timestamp> {
    item.accepted().alert.as_ref().map(|alert| alert.starts_at.0)
}

/// How a rule stands with an event about which there is nothing to decide, and what became of that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It is done with it.
    Over(OutcomeKind),
    /// It is an alert that fires, and that means nothing to the rule as it reads now, or could not be judged.
    Judged(OutcomeKind),
}

impl Standing {
    /// Whether it could not be judged. Of an absence nothing is judged anew, so that it does not matter by which text.
    fn is_unknown(self) -> bool {
        let (Self::Over(kind) | Self::Judged(kind)) = self;
        kind == OutcomeKind::Failed
    }
}

fn standing((rule, text): (&str, Option<&str>), batches: &[Arc<EventBatch>]) -> BTreeMap<Place, Standing> {
    let mut standing = BTreeMap::new();
    for batch in batches {
        for (index, event, outcome) in settled(batch).filter(|(_, _, outcome)| outcome.rule == rule) {
            let stands = match text.filter(|_| may_be_judged_anew(event, outcome.outcome)) {
                None => Standing::Over(outcome.outcome),
                Some(text) if outcome.judged_by.as_deref() == Some(text) => Standing::Judged(outcome.outcome),
                Some(_) => continue,
            };
            standing.insert((Arc::as_ptr(batch), index), stands);
        }
    }
    standing
}

#[cfg(test)]
pub(in crate::decide) mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::api::EventBatchStatus;
    use serde_json::Value;

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    pub fn batch(name: &str, received: i64, events: Value) -> Arc<EventBatch> {
        let batch = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch", "metadata": {"name": name},
            "spec": {"webhook": "am", "receivedAt": at(received).to_string(), "events": events}});
        Arc::new(serde_json::from_value(batch).expect("an EventBatch"))
    }

    pub fn alert(fingerprint: &str, starts: i64, ends: Option<i64>) -> Value {
        let status = if ends.is_some() { "resolved" } else { "firing" };
        json!({"rules": ["r"],
            "alert": {"fingerprint": fingerprint, "startsAt": at(starts).to_string(), "endsAt": ends.map(|e| at(e).to_string())},
            "event": {"id": format!("{fingerprint}/{starts}/{status}"), "source": "alertmanager",
                "type": "alert", "time": at(starts).to_string(), "data": {"status": status}}})
    }

    pub fn event(id: &str) -> Value {
        json!({"rules": ["r"], "event": {"id": id, "source": "s", "type": "t", "time": at(0).to_string()}})
    }

    pub fn decided(batch: &Arc<EventBatch>, outcomes: &[(usize, OutcomeKind)]) -> Arc<EventBatch> {
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
        show(&open(listed("r", text), batches, at(100)))
    }

    /// A rule that takes up nothing.
    pub fn listed<'a>(rule: &'a str, text: Option<&'a str>) -> Reader<'a> {
        Reader { rule, text, wish: None, ends: false, unmatched: None }
    }

    fn show(inbox: &Inbox) -> String {
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
    fn for_a_rule_about_ends_what_is_resolved_waits_for_its_decision() {
        let look = |batches: &[Arc<EventBatch>], now: i64| {
            show(&open(Reader { ends: true, ..listed("r", Some("t")) }, batches, at(now)))
        };
        let first = batch("a", 10, json!([alert("f", 5, None), alert("g", 6, None)]));
        let (end, twin) = (
            batch("b", 20, json!([alert("f", 5, Some(15))])),
            batch("c", 21, json!([alert("f", 5, Some(16)), alert("h", 7, Some(17))])),
        );
        assert_eq!(look(std::slice::from_ref(&first), 30), "firing a[0],a[1] waiting  over ");
        let all = [first.clone(), end.clone(), twin.clone()];
        assert_eq!(look(&all, 30), "firing a[1] waiting b[0],c[1] over a[0] Resolved,c[0] Duplicate");
        let done = decided(&end, &[(0, OutcomeKind::Fired)]);
        assert_eq!(
            look(&[first.clone(), done, twin], 30),
            "firing a[1] waiting c[1] over a[0] Resolved,c[0] Duplicate"
        );
        // In whatever order they come: what fires again has not ended, but nobody has to say so for ever.
        let again = batch("d", 15, json!([alert("f", 18, None)]));
        let both = [end.clone(), again.clone()];
        assert_eq!(look(&both, 30), "firing d[0] waiting  over b[0] Suppressed");
        let ends_again = batch("e", 40, json!([alert("f", 18, Some(25))]));
        assert_eq!(
            look(&[end.clone(), again, ends_again], 41),
            "firing  waiting b[0],e[0] over d[0] Resolved"
        );
        let week = SILENCE.as_secs();
        assert_eq!(look(std::slice::from_ref(&end), 20 + week), "firing  waiting b[0] over ");
        assert_eq!(look(&[end], 21 + week), "firing  waiting  over b[0] Suppressed");
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
            open(listed(rule, None), &[batch], at(100))
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
        assert!(open(listed("other", None), &[batch("a", 1, json!([event("1")]))], at(2)).waiting.is_empty());
    }

    /// With what a rule of this text has said of the first event.
    pub fn judged(batch: &Arc<EventBatch>, kind: OutcomeKind, text: Option<&str>) -> Arc<EventBatch> {
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
    fn an_alert_that_could_not_be_judged_is_told_of_while_it_fires() {
        use OutcomeKind::{Failed, NotMatched};
        let fires = batch("a", 10, json!([alert("f", 5, None)]));
        let (end, again) =
            (batch("b", 20, json!([alert("f", 5, Some(15))])), batch("c", 30, json!([alert("f", 5, None)])));
        let unjudged = |text: Option<&str>, batches: &[Arc<EventBatch>], now: i64| {
            let inbox = open(listed("r", text), batches, at(now));
            (inbox.unjudged.len(), inbox.firing.len())
        };
        let failed = judged(&fires, Failed, Some("t"));
        assert_eq!(unjudged(Some("t"), std::slice::from_ref(&failed), 100), (1, 0));
        assert_eq!(unjudged(Some("new"), std::slice::from_ref(&failed), 100), (0, 1), "it is judged anew");
        assert_eq!(unjudged(None, std::slice::from_ref(&failed), 100), (1, 0), "an absence");
        assert_eq!(unjudged(Some("t"), &[judged(&fires, NotMatched, Some("t"))], 100), (0, 0));
        for text in [Some("t"), None] {
            assert_eq!(unjudged(text, &[failed.clone(), end.clone()], 100), (0, 0), "resolved");
            assert_eq!(unjudged(text, &[failed.clone(), again.clone()], 100), (0, 1), "repeated");
            let later = 11 + SILENCE.as_secs();
            assert_eq!(unjudged(text, std::slice::from_ref(&failed), later), (0, 0), "nobody repeats it");
        }
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
        let end = batch("b", 20, json!([alert("f", 5, Some(15))]));
        assert_eq!(
            look_as(Some("t"), &[fires.clone(), end]),
            "firing  waiting  over a[0] Resolved,b[0] Resolved"
        );
        let again = batch("c", 30, json!([alert("f", 5, None)]));
        assert_eq!(look_as(Some("t"), &[fires.clone(), again]), "firing c[0] waiting  over a[0] Duplicate");
    }

    #[test]
    fn what_nobody_repeats_for_a_week_is_over() {
        let old = batch("a", 10, json!([alert("f", 5, None)]));
        let week = SILENCE.as_secs();
        assert_eq!(open(listed("r", None), std::slice::from_ref(&old), at(10 + week)).firing.len(), 1);
        assert_eq!(open(listed("r", None), &[old], at(11 + week)).over.len(), 1);
    }

    /// A rule about disks of this kind, if it is about any.
    fn wish(disk: Option<&str>) -> Wish {
        let when = disk.map(|disk| format!("alert.labels.disk == '{disk}'"));
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": when,
            "trigger": {"alert": {"webhook": "am", "names": ["Full"]}}, "target": {"key": "'k'"}});
        let spec = serde_json::from_value(spec).expect("a spec");
        Wish::of(&CompiledRule::of(&spec, "a", "r", at(0)).expect("compiles"))
    }

    /// An alert about a disk that is listed for these rules.
    fn about(rules: &[&str], disk: &str, ends: Option<i64>) -> Value {
        let mut alert = alert("f", 5, ends);
        alert["rules"] = json!(rules);
        alert["event"]["data"]["labels"] = json!({"alertname": "Full", "disk": disk});
        alert
    }

    fn with(batch: &Arc<EventBatch>, rule: &str, kind: OutcomeKind) -> Arc<EventBatch> {
        let mut batch = EventBatch::clone(batch);
        let item = Item { batch: Arc::new(batch.clone()), index: 0 };
        batch.status = Some(owed::recorded(&batch, &[item.outcome(rule, kind, "", at(50))]));
        Arc::new(batch)
    }

    fn look_for(wish: &Wish, batches: &[Arc<EventBatch>]) -> String {
        show(&open(
            Reader { rule: "r", text: Some("t"), wish: Some(wish), ends: false, unmatched: None },
            batches,
            at(100),
        ))
    }

    #[test]
    fn a_rule_takes_up_what_fires_and_may_match() {
        let (sda, any) = (wish(Some("sda")), wish(None));
        let fires = batch("a", 10, json!([about(&[], "sda", None)]));
        let taken = "firing a[0] waiting  over ";
        assert_eq!(look_for(&sda, std::slice::from_ref(&fires)), taken);
        assert_eq!(look_for(&any, std::slice::from_ref(&fires)), taken);
        assert_eq!(look_for(&wish(Some("sdb")), std::slice::from_ref(&fires)), "firing  waiting  over ");
        assert_eq!(
            look_as(Some("t"), std::slice::from_ref(&fires)),
            "firing  waiting  over ",
            "as an absence"
        );
        let nobody = with(&fires, owed::NOBODY, OutcomeKind::NotMatched);
        assert_eq!(look_for(&sda, std::slice::from_ref(&nobody)), taken);
        let fired = with(&nobody, "r", OutcomeKind::Fired);
        assert_eq!(look_for(&wish(Some("sdb")), std::slice::from_ref(&fired)), taken, "it has taken it up");
        let suppressed = with(&nobody, "r", OutcomeKind::Suppressed);
        assert_eq!(look_for(&sda, &[suppressed]), "firing  waiting  over ");
        let others = batch("a", 10, json!([about(&["s"], "sda", None)]));
        assert_eq!(look_for(&sda, &[others]), taken);
        let resolved = batch("a", 10, json!([about(&[], "sda", Some(8))]));
        assert_eq!(look_for(&sda, &[resolved]), "firing  waiting  over ", "only what fires");
        let named = batch("a", 10, json!([event("1")]));
        assert_eq!(
            open(
                Reader { rule: "q", text: Some("t"), wish: Some(&any), ends: false, unmatched: None },
                &[named],
                at(100)
            )
            .waiting
            .len(),
            0
        );
    }

    /// The rules that take nothing from one for what no other takes.
    static BESIDE: LazyLock<BTreeSet<String>> = LazyLock::new(|| ["ends".to_owned()].into());

    #[test]
    fn a_rule_for_what_no_other_takes_takes_up_what_is_nobodys_and_keeps_it() {
        let wish = wish(None);
        let look = |batches: &[Arc<EventBatch>]| {
            let reader = Reader {
                rule: "r",
                text: Some("t"),
                wish: Some(&wish),
                ends: false,
                unmatched: Some(&*BESIDE),
            };
            show(&open(reader, batches, at(100)))
        };
        let (taken, left) = ("firing a[0] waiting  over ", "firing  waiting  over ");
        let of = |rules: &[&str]| batch("a", 10, json!([about(rules, "sda", None)]));
        assert_eq!(look(&[of(&[])]), taken);
        assert_eq!(look(&[with(&of(&[]), owed::NOBODY, OutcomeKind::NotMatched)]), taken);
        assert_eq!(look(&[of(&["s"])]), left, "nobody knows yet");
        for (kind, expected) in [
            (OutcomeKind::NotMatched, taken),
            (OutcomeKind::Fired, left),
            (OutcomeKind::Held, left),
            (OutcomeKind::Failed, left),
            (OutcomeKind::Suppressed, left),
        ] {
            assert_eq!(look(&[with(&of(&["s"]), "s", kind)]), expected, "{kind:?}");
        }
        let judged = with(&of(&["s", "q"]), "s", OutcomeKind::NotMatched);
        assert_eq!(look(&[judged]), left, "one of two");
        let held = with(&with(&of(&["s", "ends"]), "s", OutcomeKind::NotMatched), "ends", OutcomeKind::Held);
        assert_eq!(look(&[held]), taken, "one that waits for its end takes nothing");
        let own = with(&of(&["r", "s"]), "s", OutcomeKind::Fired);
        assert_eq!(look(std::slice::from_ref(&own)), taken, "a rule that is mended takes it, too");
        let mut changed = about(&["s"], "sda", None);
        changed["event"]["data"]["annotations"] = json!({"more": "is read"});
        assert_eq!(look(&[own, batch("b", 20, json!([changed]))]), taken, "whatever others read of it");
        let own = with(&of(&["r"]), "r", OutcomeKind::Fired);
        let other = batch("b", 20, json!([about(&["s"], "sdb", None)]));
        let reader = Reader {
            rule: "r",
            text: Some("t"),
            wish: Some(&super::tests::wish(Some("sda"))),
            ends: false,
            unmatched: Some(&*BESIDE),
        };
        let over = "firing  waiting  over a[0] Duplicate";
        assert_eq!(show(&open(reader, &[own, other], at(100))), over, "it says something else by now");
    }

    #[test]
    fn what_is_resolved_is_not_taken_up_also_if_what_said_so_is_gone() {
        let wish = wish(Some("sda"));
        let fires = batch("a", 10, json!([about(&["s"], "sda", None)]));
        let end = batch("b", 20, json!([about(&[], "sda", Some(15))]));
        assert_eq!(look_for(&wish, &[fires.clone(), end.clone()]), "firing  waiting  over ");
        for rule in [owed::NOBODY, "s"] {
            let marked = with(&fires, rule, OutcomeKind::Resolved);
            assert_eq!(look_for(&wish, &[marked]), "firing  waiting  over ", "{rule:?}");
        }
        let fired = with(&fires, "r", OutcomeKind::Fired);
        let over = "firing  waiting  over a[0] Resolved";
        assert_eq!(look_for(&wish, &[fired.clone(), end]), over, "nothing is listed for it");
        assert_eq!(look_for(&wish, &[with(&fired, owed::NOBODY, OutcomeKind::Resolved)]), over);
        let week = SILENCE.as_secs();
        let reader = Reader { rule: "r", text: Some("t"), wish: Some(&wish), ends: false, unmatched: None };
        assert_eq!(show(&open(reader, &[fires], at(11 + week))), "firing  waiting  over ", "nobody says so");
    }

    #[test]
    fn a_rule_goes_by_one_batch_of_a_request_and_by_what_was_said_last() {
        let wish = wish(Some("sda"));
        let parts = [
            batch("a", 10, json!([about(&["r"], "sda", None)])),
            batch("b", 10, json!([about(&["s"], "sda", None)])),
        ];
        assert_eq!(look_for(&wish, &parts), "firing a[0] waiting  over ", "its own");
        let done = with(&parts[0], "r", OutcomeKind::Suppressed);
        assert_eq!(look_for(&wish, &[done, parts[1].clone()]), "firing  waiting  over ", "once");
        let both = batch("c", 30, json!([about(&["r", "s"], "sda", None)]));
        let all = [parts[0].clone(), parts[1].clone(), both];
        assert_eq!(look_for(&wish, &all), "firing c[0] waiting  over a[0] Duplicate");
        let changed = batch("d", 40, json!([about(&["s"], "sdb", None)]));
        assert_eq!(
            look_for(&wish, &[parts[0].clone(), changed.clone()]),
            "firing  waiting  over a[0] Duplicate",
            "it says something else by now"
        );
        assert_eq!(look_for(&super::tests::wish(Some("sdb")), &[changed]), "firing d[0] waiting  over ");
    }

    #[test]
    fn an_alert_that_too_many_have_taken_up_is_left_to_when_it_is_sent_again() {
        let wish = wish(None);
        let mut batch = EventBatch::clone(&batch("a", 10, json!([about(&[], "sda", None)])));
        let item = Item { batch: Arc::new(batch.clone()), index: 0 };
        let many: Vec<_> = (0..2000)
            .map(|number| item.outcome(&format!("r{number}"), OutcomeKind::NotMatched, "", at(50)))
            .collect();
        batch.status = Some(owed::recorded(&batch, &many));
        let full = Arc::new(batch);
        let reader = Reader { rule: "r", text: Some("t"), wish: Some(&wish), ends: false, unmatched: None };
        let inbox = open(reader, std::slice::from_ref(&full), at(100));
        assert_eq!((inbox.firing.len(), inbox.refused.len()), (0, 1));
        let known = Reader { rule: "r7", ..reader };
        assert_eq!(open(known, &[full], at(100)).refused.len(), 0);
    }

    /// What the released version has kept is listed for all that are about the name, whatever their `when` says.
    #[test]
    fn a_batch_of_an_earlier_version_is_read_as_it_was() {
        let wish = wish(Some("sdb"));
        let fires = batch("a", 10, json!([about(&["r"], "sda", None)]));
        assert_eq!(look_for(&wish, std::slice::from_ref(&fires)), "firing a[0] waiting  over ");
        let judged = judged(&fires, OutcomeKind::NotMatched, Some("t"));
        assert_eq!(look_for(&wish, std::slice::from_ref(&judged)), "firing  waiting  over ");
        let reader =
            Reader { rule: "r", text: Some("mended"), wish: Some(&wish), ends: false, unmatched: None };
        assert_eq!(show(&open(reader, &[judged], at(100))), "firing a[0] waiting  over ");
    }
}
