//! Alerts in the windows of a Rule that asks for several together. An alert that begins to fire is one event, however
//! often and by whomever it is repeated, and it counts as long as it fires.
//!
//! The windows are filled anew from what is kept whenever the Rule is looked at: with what the store has to decide, and
//! with what the API server has before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::capture::Correlation;
use super::correlation::{Captured, Found, TOO_MANY, Tried, Windows};
use super::given::Mistake;
use super::hearing::Hearing;
use super::identity::occurrence;
use super::inbox::{Inbox, Item, received_at, starts_at};
use super::lead::{self, Lead};
use super::matching::{CompiledRule, received};
use crate::api::{AcceptedEvent, OutcomeKind};
use crate::expr::{EvalError, EvalErrorKind};

/// How much later than it begins an alert may be told of. Alertmanager tells of one that joins a group after five
/// minutes, if it is not told else, and tries again where nobody answers.
pub const LATE: SignedDuration = SignedDuration::from_mins(10);

/// The member of an absence that is expected.
const EXPECTED: usize = 1;

/// Begins what is said of an alert whose window is open.
const WAITS: &str = "waits for";

/// Alerts that are complete together.
#[derive(Debug)]
pub struct Set {
    /// What they have completed.
    pub found: Found,
    /// The alerts; of one that stands for several members there is one.
    pub items: Vec<Item>,
}

impl Set {
    /// The alert that completed it, or that was not followed.
    pub fn last(&self) -> Option<&Item> {
        self.items.iter().find(|item| occurrence(&item.accepted().event) == self.found.occurrence)
    }

    /// Whether another set is of the same alerts.
    pub fn is(&self, other: &Self) -> bool {
        let ids = |set: &Self| set.found.events.iter().map(|(_, event)| event.id.clone()).collect::<Vec<_>>();
        self.found.occurrence == other.found.occurrence && ids(self) == ids(other)
    }
}

/// What has become of alerts in the windows.
#[derive(Debug, Default)]
pub struct Filled {
    /// Those that are complete together, by when they were.
    pub sets: Vec<Set>,
    /// Those that wait, and for what.
    pub waiting: Vec<(Item, String)>,
    /// Those with which it is over.
    pub over: Vec<(Item, OutcomeKind, String)>,
    /// Those that the Rule does not mean, or that cannot be judged.
    pub nowhere: Vec<(Item, Lead)>,
    /// When something of this changes though nothing happens.
    pub next: Option<Timestamp>,
    /// How many did not fit.
    pub dropped: u64,
    /// What cannot be said of one that waits.
    pub mistake: Option<String>,
    /// What was found of those that wait, for whoever fills the windows anew.
    pub tried: Tried,
}

/// Fills the windows of a Rule with the alerts that are kept for it, without those that Executions have used. Of what was tried
/// before it is known that it completes nothing.
pub fn fill(
    rule: &CompiledRule,
    correlation: &Correlation,
    (inbox, tried): (Inbox, &Tried),
    hearing: Hearing,
) -> Filled {
    let (windows, items, filled) = (correlation.windows(), BTreeMap::new(), Filled::default());
    let (now, heard) = (hearing.now, inbox.heard);
    let mut filling = Filling { rule, correlation, hearing, now, heard, windows, items, filled };
    inbox.firing.into_iter().for_each(|item| filling.fires(item));
    inbox.over.into_iter().for_each(|over| filling.is_over(over));
    filling.windows.resume(tried);
    filling.end()
}

struct Filling<'a> {
    rule: &'a CompiledRule,
    correlation: &'a Correlation,
    hearing: Hearing,
    now: Timestamp,
    heard: BTreeMap<String, Timestamp>,
    windows: Windows,
    /// What was taken in, each with its group.
    items: BTreeMap<String, (Item, String)>,
    filled: Filled,
}

impl Filling<'_> {
    fn fires(&mut self, item: Item) {
        if let Err(lead) = lead::matches(self.rule, item.accepted(), self.now) {
            return self.filled.nowhere.push((item, lead));
        }
        let captured = match self.capture(&item, item.accepted()) {
            Ok(Some(captured)) => captured,
            Ok(None) => return self.nowhere(item, Lead::Nowhere("no member of the pattern".to_owned())),
            Err(error) if error.kind == EvalErrorKind::Absent => {
                return self.nowhere(item, Lead::Nowhere(error.to_string()));
            }
            Err(error) => return self.nowhere(item, Lead::Unknown(error.to_string())),
        };
        let (began, heard) = (captured.time, self.heard_at(&item));
        let awaits = self.correlation.is_absence() && captured.members.contains(&0);
        if awaits && heard.duration_since(began) > LATE {
            let why = "it was told of too late to know what followed it".to_owned();
            return self.filled.over.push((item, OutcomeKind::Suppressed, why));
        }
        let (time, until) = match self.correlation.is_absence() {
            // What is expected may be told of as late as what it should follow.
            true if awaits => (heard, Timestamp::MAX),
            // As long as it fires it does not stay away, since whenever.
            true => (Timestamp::MIN, Timestamp::MAX),
            false => (began, began),
        };
        self.items.insert(captured.id.clone(), (item, captured.group.clone()));
        self.take(Captured { time, lasts: (began, until), ..captured });
    }

    /// Takes one into its window; one that has no place any more is over.
    fn take(&mut self, captured: Captured) {
        let dropped = self.windows.take(captured);
        let dropped = dropped.iter().filter_map(|dropped| self.items.remove(&dropped.id));
        self.filled
            .over
            .extend(dropped.map(|(item, _)| (item, OutcomeKind::Suppressed, TOO_MANY.to_owned())));
    }

    /// What is expected has come, also if it is resolved by now. Else an alert that is resolved counts no more.
    fn is_over(&mut self, (item, kind, why): (Item, OutcomeKind, &str)) {
        if kind == OutcomeKind::Resolved
            && let Some((captured, until)) = self.has_come(&item)
        {
            self.take(captured);
            self.turns_at(until);
            let until = whole(until);
            return self
                .filled
                .waiting
                .push((item, format!("has come, is resolved, and counts until {until}")));
        }
        let known = item.known(&self.rule.facts.name);
        let waited =
            known.is_some_and(|known| known.outcome == OutcomeKind::Held && known.reason.starts_with(WAITS));
        let why = match kind {
            OutcomeKind::Resolved if waited && why.is_empty() => "before its window was over",
            _ => why,
        };
        self.filled.over.push((item, kind, why.to_owned()));
    }

    /// What is expected and was there for a while, and until when that counts.
    fn has_come(&self, item: &Item) -> Option<(Captured, Timestamp)> {
        let accepted = item.accepted();
        let ended = accepted.alert.as_ref()?.ends_at.as_ref().filter(|_| self.correlation.is_absence())?.0;
        let until =
            ended.checked_add(self.correlation.within()).and_then(|end| end.checked_add(LATE)).ok()?;
        // Asked as it was while it fired.
        let mut accepted = accepted.clone();
        if let Some(data) = accepted.event.data.0.as_object_mut() {
            data.insert("status".to_owned(), "firing".into());
        }
        if until <= self.now || lead::matches(self.rule, &accepted, self.now).is_err() {
            return None;
        }
        let captured = self.capture(item, &accepted).ok()??;
        let lasts = (captured.time, ended);
        let is_expected = captured.members.contains(&EXPECTED);
        is_expected.then_some((Captured { members: vec![EXPECTED], lasts, ..captured }, until))
    }

    /// When the rule heard of it first: what is told again began no later.
    fn heard_at(&self, item: &Item) -> Timestamp {
        let heard = self.heard.get(&occurrence(&item.accepted().event));
        heard.copied().unwrap_or_else(|| received_at(&item.batch))
    }

    fn capture(&self, item: &Item, accepted: &AcceptedEvent) -> Result<Option<Captured>, EvalError> {
        let data: Arc<Value> = Arc::new(json!(accepted.event));
        let bindings = received(&data, &self.rule.spec.trigger, self.now);
        // A clock that goes ahead gets no alert into a later window.
        let heard = self.heard_at(item);
        let began = starts_at(item).unwrap_or(heard).min(heard);
        self.correlation.capture((&occurrence(&accepted.event), began), &bindings, data)
    }

    fn nowhere(&mut self, item: Item, lead: Lead) {
        self.filled.nowhere.push((item, lead));
    }

    fn turns_at(&mut self, time: Timestamp) {
        self.filled.next = Some(self.filled.next.map_or(time, |known| known.min(time)));
    }

    fn end(mut self) -> Filled {
        // Nothing is given up as long as others may be told of that began in time; but what stays away does so now.
        let absence = self.correlation.is_absence();
        let known_by = match absence {
            true => self.hearing.known_by(),
            false => self.now.saturating_sub(LATE).unwrap_or(Timestamp::MIN),
        };
        let mut behind = BTreeSet::new();
        for found in self.windows.found(known_by) {
            // As long as it is not done, another of its alerts may be resolved, and these stand in.
            if !absence {
                behind.insert(found.group.clone());
            }
            let parts = found
                .events
                .iter()
                .filter_map(|(_, event)| self.items.remove(&event.id))
                .map(|(item, _)| item)
                .collect();
            self.filled.sets.push(Set { found, items: parts });
        }
        self.filled.tried = self.windows.tried();
        let mistake =
            self.windows.mistake().and_then(|mistake| Some((self.items.get(&mistake.id)?, mistake)));
        self.filled.mistake =
            mistake.map(|((item, _), Mistake { text, .. })| format!("{}: {text}", item.accepted().event.id));
        let waits: Vec<Captured> = self.windows.captured().cloned().collect();
        for captured in waits {
            let Some((item, _)) = self.items.remove(&captured.id) else { continue };
            let end = captured.time.saturating_add(self.correlation.within()).unwrap_or(Timestamp::MAX);
            let end = if absence { self.hearing.says(end) } else { end };
            if absence && captured.members == [EXPECTED] {
                self.filled.waiting.push((item, "has come, and counts while it fires".to_owned()));
                continue;
            }
            self.turns_at(if absence { end } else { end.saturating_add(LATE).unwrap_or(Timestamp::MAX) });
            let what = if absence { "what is expected" } else { "others" };
            self.filled.waiting.push((item, format!("{WAITS} {what} until {}", whole(end))));
        }
        let why = if absence {
            "what is expected after it has come"
        } else {
            "its window ended without the others"
        };
        for (item, group) in std::mem::take(&mut self.items).into_values() {
            if behind.contains(&group) {
                self.filled.waiting.push((item, "others of its group come first".to_owned()));
                continue;
            }
            self.filled.over.push((item, OutcomeKind::Suppressed, why.to_owned()));
        }
        self.filled
            .sets
            .sort_by(|a, b| (a.found.time, &a.found.occurrence).cmp(&(b.found.time, &b.found.occurrence)));
        self.filled.dropped = self.windows.dropped();
        self.filled
    }
}

/// Without what nobody reads of a time.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EventBatch;
    use crate::decide::inbox;

    const MINUTE: i64 = 60;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn rule(correlate: &Value) -> CompiledRule {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "correlate": correlate,
            "trigger": {"alert": {"webhook": "am"}}, "target": {"key": "alert.labels.node"}});
        CompiledRule::of(&serde_json::from_value(spec).expect("a spec"), "a", "r", at(0)).expect("compiles")
    }

    fn count(count: usize) -> CompiledRule {
        rule(&json!({"groupBy": "alert.labels.node", "within": "10m", "count": count}))
    }

    /// The primary went down, and no other was promoted for five minutes.
    fn absence() -> CompiledRule {
        let named = |name: &str| json!({"name": name, "when": format!("alert.labels.alertname == '{name}' && alert.status == 'firing'")});
        rule(&json!({"groupBy": "alert.labels.node", "within": "5m",
            "absent": {"after": named("down"), "expected": named("promoted")}}))
    }

    /// A batch of one alert: its name and node, when it began, until when it fired, and when that was received.
    fn told(name: &str, node: &str, (starts, ends): (i64, Option<i64>), received: i64) -> Arc<EventBatch> {
        let status = if ends.is_some() { "resolved" } else { "firing" };
        let batch = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch", "metadata": {"name": format!("{name}{received}")},
            "spec": {"webhook": "am", "receivedAt": at(received).to_string(), "events": [{"rules": ["r"],
                "alert": {"fingerprint": name, "startsAt": at(starts).to_string(), "endsAt": ends.map(|e| at(e).to_string())},
                "event": {"id": format!("{name}/{starts}/{status}"), "source": "am", "type": "alert",
                    "time": at(starts).to_string(), "data": {"status": status, "fingerprint": name,
                        "labels": {"alertname": name, "node": node}}}}]}});
        Arc::new(serde_json::from_value(batch).expect("an EventBatch"))
    }

    fn firing(name: &str, node: &str, starts: i64) -> Arc<EventBatch> {
        told(name, node, (starts, None), starts)
    }

    /// What has become of all that was told, in words.
    fn look(rule: &CompiledRule, told: &[Arc<EventBatch>], now: i64) -> Vec<String> {
        look_hearing(rule, told, (now, 0))
    }

    /// The same, when it is sure only from a moment on what was not heard.
    fn look_hearing(
        rule: &CompiledRule,
        told: &[Arc<EventBatch>],
        (now, sure_from): (i64, i64),
    ) -> Vec<String> {
        let correlation = rule.correlation.as_ref().expect("it correlates");
        let hearing = Hearing { now: at(now), sure_from: at(sure_from), under_way: SignedDuration::ZERO };
        let filled = fill(
            rule,
            correlation,
            (inbox::open(inbox::tests::listed("r", None), told, at(now)), &Tried::default()),
            hearing,
        );
        let id = |item: &Item| item.accepted().event.id.clone();
        let sets = filled.sets.iter().map(|set| {
            assert!(set.last().is_some() && set.is(set));
            format!("together {}", set.items.iter().map(id).collect::<Vec<_>>().join(" "))
        });
        let waiting = filled.waiting.iter().map(|(item, why)| format!("{} {why}", id(item)));
        let over = filled.over.iter().map(|(item, kind, why)| format!("{} {kind:?} {why}", id(item)));
        let nowhere = filled.nowhere.iter().map(|(item, lead)| format!("{} {lead:?}", id(item)));
        sets.chain(waiting).chain(over).chain(nowhere).map(|text| text.trim_end().to_owned()).collect()
    }

    #[test]
    fn alerts_of_a_group_are_complete_together_as_long_as_all_fire() {
        let (rule, group) = (count(3), |name: &str, starts| firing(name, "n1", starts));
        let mut all = vec![group("a", 0), group("b", 10), firing("x", "n2", 20), group("c", 30)];
        let other = "x/20/firing waits for others until 1970-01-01T00:10:20Z";
        for now in [31, 15 * MINUTE] {
            assert_eq!(
                look(&rule, &all, now),
                ["together a/0/firing b/10/firing c/30/firing", other],
                "at {now}"
            );
        }
        all.extend([told("b", "n1", (10, Some(40)), 41), told("a", "n1", (0, None), 42)]);
        let waits = |name: &str| format!("{name}/firing waits for others until 1970-01-01T00:10");
        let found = look(&rule, &all, 45);
        let expected = [format!("{}:00Z", waits("a/0")), format!("{}:30Z", waits("c/30")), other.to_owned()];
        assert!(expected.iter().all(|text| found.contains(text)), "{found:#?}");
        assert!(found.contains(&"b/10/firing Resolved".to_owned()), "{found:#?}");
        all.push(firing("b", "n1", 50));
        assert!(look(&rule, &all, 51).contains(&"together a/0/firing c/30/firing b/50/firing".to_owned()));
    }

    #[test]
    fn an_alert_is_given_up_when_no_other_can_have_begun_in_time() {
        let rule = count(2);
        let first = firing("a", "n1", 0);
        let late = told("b", "n1", (9 * MINUTE, None), 14 * MINUTE);
        assert_eq!(
            look(&rule, &[first.clone(), late.clone()], 14 * MINUTE),
            ["together a/0/firing b/540/firing"],
            "Alertmanager was late"
        );
        assert!(look(&rule, std::slice::from_ref(&first), 20 * MINUTE)[0].contains("waits for others"));
        assert_eq!(
            look(&rule, &[first], 20 * MINUTE + 1),
            ["a/0/firing Suppressed its window ended without the others"]
        );
    }

    #[test]
    fn one_that_goes_because_too_many_wait_is_told_so() {
        let named = |name: &str, when: &str| json!({"name": name, "when": format!("alert.labels.alertname {when} 'b'")});
        let rule = rule(&json!({"groupBy": "alert.labels.node", "within": "10m",
            "sequence": [named("first", "!="), named("second", "==")]}));
        let all: Vec<_> = (0..=1000).map(|number| firing(&format!("a{number:04}"), "n1", number)).collect();
        let dropped: Vec<_> =
            look(&rule, &all, 1001).into_iter().filter(|text| text.contains("Suppressed")).collect();
        assert_eq!(dropped, ["a0000/0/firing Suppressed dropped: too many wait"]);
    }

    #[test]
    fn alerts_beside_a_set_that_is_held_wait_to_stand_in() {
        let rule = count(3);
        let mut all: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| firing(name, "n1", 0)).into();
        all.push(firing("x", "n2", 0));
        let late = 20 * MINUTE + 1;
        assert_eq!(
            look(&rule, &all, late),
            [
                "together a/0/firing b/0/firing c/0/firing",
                "d/0/firing others of its group come first",
                "e/0/firing others of its group come first",
                "x/0/firing Suppressed its window ended without the others"
            ]
        );
        all.push(told("a", "n1", (0, Some(late)), late));
        assert_eq!(look(&rule, &all, late + 1)[0], "together b/0/firing c/0/firing d/0/firing");
    }

    #[test]
    fn what_is_expected_after_an_alert_has_come_if_it_fired_meanwhile() {
        let down = firing("down", "n1", 100);
        let missed = ["together down/100/firing"];
        for (promoted, expected) in [
            (vec![], missed.to_vec()),
            (
                vec![firing("promoted", "n2", 200)],
                [missed[0], "promoted/200/firing has come, and counts while it fires"].into(),
            ),
            (
                vec![firing("promoted", "n1", 10)],
                vec![
                    "promoted/10/firing has come, and counts while it fires",
                    "down/100/firing Suppressed what is expected after it has come",
                ],
            ),
            (
                vec![told("promoted", "n1", (200, Some(210)), 220)],
                vec![
                    "promoted/200/resolved has come, is resolved, and counts until 1970-01-01T00:18:30Z",
                    "down/100/firing Suppressed what is expected after it has come",
                ],
            ),
            (
                vec![told("promoted", "n1", (10, Some(20)), 30)],
                [
                    missed[0],
                    "promoted/10/resolved has come, is resolved, and counts until 1970-01-01T00:15:20Z",
                ]
                .into(),
            ),
        ] {
            let told: Vec<_> = promoted.into_iter().chain([down.clone()]).collect();
            assert_eq!(look(&absence(), &told, 401), expected);
        }
    }

    #[test]
    fn what_comes_late_still_comes_before_something_is_done() {
        let told = [firing("down", "n1", 100), firing("promoted", "n1", 450)];
        assert_eq!(look(&absence(), &told[..1], 449), ["together down/100/firing"]);
        let over = "down/100/firing Suppressed what is expected after it has come";
        assert_eq!(
            look(&absence(), &told, 451),
            ["promoted/450/firing has come, and counts while it fires", over]
        );
    }

    #[test]
    fn what_stays_away_is_awaited_from_when_the_first_is_heard_of() {
        let rule = absence();
        let late = [told("down", "n1", (0, None), 4 * MINUTE)];
        assert_eq!(
            look(&rule, &late, 6 * MINUTE),
            ["down/0/firing waits for what is expected until 1970-01-01T00:09:00Z"]
        );
        assert_eq!(look(&rule, &late, 9 * MINUTE + 1), ["together down/0/firing"]);
        let too_late = [told("down", "n1", (0, None), 11 * MINUTE)];
        assert_eq!(
            look(&rule, &too_late, 11 * MINUTE),
            ["down/0/firing Suppressed it was told of too late to know what followed it"]
        );
    }

    #[test]
    fn nothing_has_stayed_away_as_long_as_who_would_tell_may_have_come_in_vain() {
        let (told, sure_from) = ([firing("down", "n1", 100)], 540);
        let waits = "down/100/firing waits for what is expected until 1970-01-01T00:09:00Z";
        assert_eq!(look_hearing(&absence(), &told, (420, sure_from)), [waits]);
        assert_eq!(look_hearing(&absence(), &told, (540, sure_from)), ["together down/100/firing"]);
        let both = [told[0].clone(), firing("promoted", "n1", 240)];
        let found = look_hearing(&absence(), &both, (540, sure_from));
        assert!(!found.iter().any(|text| text.starts_with("together")), "{found:?}");
        let enough = [firing("a", "n1", 0), firing("b", "n1", 1)];
        assert_eq!(look_hearing(&count(2), &enough, (2, sure_from)), ["together a/0/firing b/1/firing"]);
    }

    #[test]
    fn what_is_told_again_was_heard_of_when_it_was_told_first() {
        let rule = absence();
        let again = told("down", "n1", (0, None), 11 * MINUTE);
        let both = [firing("down", "n1", 0), again.clone()];
        let duplicate = "down/0/firing Duplicate there is a newer one";
        assert_eq!(look(&rule, &both, 11 * MINUTE), ["together down/0/firing", duplicate]);
        let mut alone = EventBatch::clone(&again);
        inbox::remember(&mut alone.spec.events[0], &Item { batch: both[0].clone(), index: 0 });
        assert_eq!(
            look(&rule, &[Arc::new(alone)], 11 * MINUTE),
            ["together down/0/firing"],
            "the first is gone"
        );
    }

    #[test]
    fn what_belongs_to_no_group_does_not_match() {
        let by_rack = rule(&json!({"groupBy": "alert.labels.rack", "within": "10m", "count": 2}));
        assert!(look(&by_rack, &[firing("a", "n1", 0)], 1)[0].starts_with("a/0/firing Nowhere"));
    }
}
