//! What a rule has seen: targets that match, events that wait, and which were decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::happening::Happening;
use super::windows::Happened;
use crate::api::{
    CapturedEvent, ConditionStatus, ConditionType, Duration, MatchedObject, Moment, ObjectReference, Rule,
    TriggerEvent, condition,
};
use crate::cluster::lease::SETTLED;
use crate::cluster::owners;
use crate::controller::lead::matched;
use crate::decide::capture::Correlation;
use crate::decide::correlation::Found;
use crate::decide::ends::OLDEST;
use crate::decide::episode::STALE_AFTER;
use crate::decide::hearing::COMES_AGAIN;
use crate::decide::identity::{self, TargetKey};
use crate::decide::lifecycle::as_of;
use crate::decide::matching::{CompiledRule, envelope};
use crate::decide::view::{Match, ObjectKey, Sight, Targets, View, key};

/// Decided events that are remembered, at the most. A list brings back what is younger than an hour.
const DECIDED: usize = 10_000;
/// How long Kubernetes keeps Events, unless it is told otherwise.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// An event that matches, led to its target.
#[derive(Clone, Debug)]
pub struct Edge {
    /// What is to be remedied.
    pub target: ObjectReference,
    /// The Event itself.
    pub event: MatchedObject,
    /// What tells this occurrence from others.
    pub occurrence: String,
    /// When it happened, as it was told: what is told later comes after it.
    pub time: Timestamp,
    /// As of when it is decided about, however often and whenever it is told.
    pub since: Timestamp,
    /// What expressions see as `event`.
    pub data: Arc<Value>,
    /// The same, to be recorded because nobody else keeps it.
    pub recorded: Option<TriggerEvent>,
    /// The events that mean something only together.
    pub captured: Vec<CapturedEvent>,
    /// How many Executions it follows from.
    pub depth: u32,
}

impl Edge {
    /// A Kubernetes Event, or the last of several.
    pub fn of_event(
        event: &Value,
        target: ObjectReference,
        (occurrence, time): (String, Timestamp),
        captured: Vec<CapturedEvent>,
    ) -> Self {
        let (data, event) = (Arc::new(envelope(event)), matched(event));
        Self { target, event, occurrence, time, since: time, data, recorded: None, captured, depth: 0 }
    }
}

impl Edge {
    /// What has happened to an object.
    pub fn of_object(
        rule: &CompiledRule,
        Happening { object, event }: Happening,
        target: ObjectReference,
    ) -> Self {
        let (data, occurrence) = (Arc::new(serde_json::json!(event)), identity::occurrence(&event));
        let (time, since) = (event.time.0, as_of(rule, &object, &event));
        let (event, recorded) = (matched(&object), Some(event));
        Self { target, event, occurrence, time, since, data, recorded, captured: Vec::new(), depth: 0 }
    }
}

impl Edge {
    /// What has happened to objects that mean something only together, the last of them known with its target.
    pub fn together(
        found: &Found,
        (Happened { event, matched, since }, target): (Happened, ObjectReference),
        captured: Vec<CapturedEvent>,
    ) -> Self {
        let (occurrence, time) = (found.occurrence.clone(), found.time);
        // What stays away is noticed when it should have come by.
        let since = if time == event.time.0 { since } else { time };
        let data = Arc::new(serde_json::json!(event));
        Self {
            target,
            event: matched,
            occurrence,
            time,
            since,
            data,
            recorded: Some(event),
            captured,
            depth: 0,
        }
    }
}

/// The newest occurrences that were decided.
#[derive(Default)]
pub struct Occurrences {
    known: BTreeSet<String>,
    in_order: VecDeque<String>,
}

impl Occurrences {
    /// These.
    pub fn of<'a>(occurrences: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = Self::default();
        for occurrence in occurrences {
            known.add(occurrence);
        }
        known
    }

    /// Whether one is among them.
    pub fn has(&self, occurrence: &str) -> bool {
        self.known.contains(occurrence)
    }

    /// Adds one, and says whether it was not among them; the oldest goes if there are too many.
    pub fn add(&mut self, occurrence: &str) -> bool {
        if !self.known.insert(occurrence.to_owned()) {
            return false;
        }
        self.in_order.push_back(occurrence.to_owned());
        if self.in_order.len() > DECIDED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// What a rule knows of the world.
#[derive(Default)]
pub struct State {
    /// The objects that match.
    pub view: View,
    /// The targets of objects that cannot be judged: they may match.
    pub unjudged: BTreeMap<ObjectKey, TargetKey>,
    /// Events that wait for their decision, by occurrence.
    pub edges: BTreeMap<String, Edge>,
    /// Occurrences that were decided: seen again, they are not decided again.
    pub decided: Occurrences,
    /// When the watch was last heard of.
    pub heard_at: Option<Timestamp>,
    /// When the latest complete list was asked for.
    pub complete_at: Option<Timestamp>,
    /// Whether objects match whose targets could not be found: one that seems clear may be one of those.
    pub unresolved: bool,
    /// Why the watch does not work.
    pub broken: Option<String>,
    /// An object that could not be judged, and why.
    pub mistake: Option<(ObjectKey, String)>,
    /// How many events were dropped because too many waited for others.
    pub dropped: u64,
    /// How many were dropped because too many waited for their decision, or for their targets.
    pub overflown: u64,
    /// What is not looked at because there is too much of it.
    pub narrow: Option<String>,
}

impl State {
    /// A watch that says nothing, not even that it lives, is as good as broken. Says whether that is news.
    pub fn notice_silence(&mut self, now: Timestamp) -> bool {
        let silent = self.heard_at.is_some_and(|heard| now.duration_since(heard) >= STALE_AFTER);
        let news = silent && self.broken.is_none();
        if news {
            self.broken = Some("nothing was heard from the watch for two minutes".to_owned());
        }
        news
    }
}

/// What an object has come to.
pub enum Judged {
    /// It matches.
    Match(Box<Match>),
    /// It does not match, or leads nowhere.
    Clear,
    /// It could not be judged: what was known of it stays.
    Unknown,
}

/// What a reconcile sees of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Targets that match.
    pub targets: Arc<Targets>,
    /// Targets of which it cannot be said that nothing matches.
    pub unjudged: BTreeSet<TargetKey>,
    /// Events that wait for their decision, oldest first.
    pub edges: Vec<Edge>,
    /// How far all that can be trusted.
    pub sight: Sight,
    /// Why the watch does not work.
    pub broken: Option<String>,
    /// An object that could not be judged, and why.
    pub mistake: Option<String>,
    /// A target that is held because something speaks against acting.
    pub held: Option<String>,
    /// What cannot be known because it was forgotten before it was seen.
    pub blind: Option<String>,
    /// How many events were dropped because too many waited, for others or for their decision.
    pub dropped: u64,
    /// Until when events are decided of which no more is known, as of the moment at which this process, with this text of
    /// the rule, began to look: what it has decided since it knows.
    pub forgotten: Option<Timestamp>,
    /// When something will happen because of the time alone.
    pub next: Option<Timestamp>,
}

/// By when all that happened has been handled, if the watch was heard of at a time: what it told then may wait behind
/// other deliveries, and may not have been told yet. Sooner that is known from a list.
pub fn handled_by(heard: Timestamp) -> Timestamp {
    heard.saturating_sub(STALE_AFTER).unwrap_or(Timestamp::MIN)
}

impl Seen {
    /// How far what is seen of a target can be trusted.
    pub fn sight_of(&self, target: &TargetKey) -> Sight {
        let is_judged = !self.unjudged.contains(target);
        Sight { all_resolved: self.sight.all_resolved && is_judged, ..self.sight }
    }
}

/// Kubernetes keeps Events for an hour: what a longer window held before this controller began is not all known.
pub fn blind(rule: &CompiledRule, started: Timestamp) -> Option<(Timestamp, String)> {
    rule.spec.trigger.event.as_ref()?;
    let window = window(rule)?;
    let known_from = started.saturating_sub(EVENTS_KEPT).ok().filter(|from| *from > rule.created_at)?;
    let until = known_from.saturating_add(window).ok().filter(|until| *until > started)?;
    let text =
        format!("Events of before {known_from:.0} may be forgotten: until {until:.0} a window may lack some");
    Some((until, text))
}

/// How long a rule waits for others.
pub(super) fn window(rule: &CompiledRule) -> Option<SignedDuration> {
    let waits = rule.facts.once.as_ref().map(|once| once.within);
    let window = rule.correlation.as_ref().map(Correlation::within);
    window.max(waits.map(Duration::signed))
}

/// Until when somebody has looked for a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Looked {
    /// Until when at all; none if nobody is known to have.
    pub until: Option<Timestamp>,
    /// Until when so that nothing is left over: what was found at the beginning, and had happened while nobody looked, may be
    /// as long as it was not looked for [`SETTLED`].
    pub settled: Option<Timestamp>,
}

impl Looked {
    /// Takes in that it was looked from a time to another after that.
    #[must_use]
    pub fn and(self, (began, until): (Timestamp, Timestamp)) -> Self {
        let is_settled = until.duration_since(began) >= SETTLED;
        Self { until: Some(until), settled: if is_settled { Some(until) } else { self.settled } }
    }

    /// The same for one rule, where another process has looked: while the rule was not ready it has not, and says so in the
    /// rule's status.
    #[must_use]
    pub fn for_rule(self, rule: &Rule) -> Self {
        let conditions = rule.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let ready = condition(conditions, ConditionType::Ready);
        let unready = ready.filter(|ready| ready.status == ConditionStatus::False.as_str());
        let Some(since) = unready.map(|ready| ready.last_transition_time.0) else { return self };
        let until = |time: Timestamp| time.min(since);
        Self { until: self.until.map(until), settled: self.settled.map(until) }
    }
}

/// From when on what is created is looked at by whoever comes after somebody who has looked until then: what that one knew
/// may not have been decided, or have waited for others.
pub fn horizon(rule: &CompiledRule, looked: Option<Timestamp>) -> Timestamp {
    let waited = looked.map_or(Timestamp::MIN, handled_by);
    waited.saturating_sub(window(rule).unwrap_or_default()).unwrap_or(Timestamp::MIN)
}

/// Whether something has happened too long ago to be answered, as it is seen only now.
pub fn too_old(rule: &CompiledRule, time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time) > OLDEST + window(rule).unwrap_or_default()
}

/// What a rule about creation or deletion cannot know of a time at which nobody watched, and for how long that is said.
fn unseen(rule: &CompiledRule, (from, to): (Timestamp, Timestamp)) -> Option<(Timestamp, String)> {
    let (gap, window) = (to.duration_since(from), window(rule).unwrap_or_default());
    let until = to.saturating_add(OLDEST).ok().filter(|_| gap.is_positive())?;
    let mut texts = Vec::new();
    if rule.is_about(Moment::Created) && gap > OLDEST + window {
        texts.push("what was created more than an hour before that is not answered any more");
    }
    if rule.is_about(Moment::Deleted) {
        texts.push("nobody knows what was deleted meanwhile");
        if !window.is_zero() {
            texts.push("deletions from before that wait for no others any more");
        }
    }
    let text = format!("nobody watched from {from:.0} to {to:.0}: {}", texts.join(", "));
    (!texts.is_empty()).then_some((until, text))
}

/// What a rule cannot know because nobody led for a time, and so nobody received either; and until when that matters. Who
/// sends to a Webhook comes again if it was not for long.
pub fn unled(rule: &CompiledRule, (from, to): (Timestamp, Timestamp)) -> Option<(Timestamp, String)> {
    let from = from.max(rule.created_at);
    if rule.is_about_lifecycle() {
        return unseen(rule, (from, to));
    }
    let (gap, window) = (to.duration_since(from), window(rule));
    if rule.spec.trigger.execution.is_some() {
        let until = to.saturating_add(OLDEST).ok().filter(|_| gap > OLDEST + window.unwrap_or_default())?;
        let text = format!(
            "nobody led from {from:.0} to {to:.0}: ends of Executions that were not answered by then never are"
        );
        return Some((until, text));
    }
    if rule.spec.trigger.event.is_some() {
        let until = to.saturating_add(OLDEST).ok().filter(|_| gap > EVENTS_KEPT)?;
        let text = format!(
            "nobody led from {from:.0} to {to:.0}: Events that were an hour old by then may be forgotten, and never are answered"
        );
        return Some((until, text));
    }
    rule.spec.trigger.webhook_name()?;
    let until = to.saturating_add(window?).ok().filter(|_| gap > COMES_AGAIN)?;
    let text = format!("nobody received from {from:.0} to {to:.0}: until {until:.0} a window may lack some");
    Some((until, text))
}

/// What an object is known by in a view.
pub fn key_of(object: &Value) -> ObjectKey {
    key(&owners::reference(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_decisions_are_remembered() {
        let mut decided = Occurrences::default();
        for number in 0..=DECIDED {
            decided.add(&number.to_string());
            decided.add(&number.to_string());
        }
        assert_eq!((decided.known.len(), decided.in_order.len()), (DECIDED, DECIDED));
        assert!(!decided.known.contains("0") && decided.known.contains("1"));
    }

    /// What is blind of a Rule about Events, created at nought, whose controller starts after so many minutes.
    fn blind_after(minutes: i64, changes: &Value) -> Option<(Timestamp, String)> {
        let mut spec = serde_json::json!({"serviceAccountName": "h", "ladder": [{"run": "x"}],
            "trigger": {"event": {"reasons": ["FailedMount"]}}});
        json_patch::merge(&mut spec, changes);
        let spec = serde_json::from_value(spec).expect("a Rule");
        let rule = CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH);
        let rule = rule.unwrap_or_else(|problems| panic!("{problems:?}"));
        blind(&rule, Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes))
    }

    #[test]
    fn what_takes_the_place_of_a_deleted_object_comes_after_it_and_counts_from_its_own_second() {
        let at = |millisecond| Timestamp::from_millisecond(millisecond).expect("a time");
        let mut spec = serde_json::json!({"serviceAccountName": "h", "ladder": [{"run": "x"}],
            "target": {"ref": {"apiVersion": "'v1'", "kind": "'Service'", "name": "'harbor'"}},
            "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap", "lifecycle": ["Created", "Deleted"]}}});
        spec["when"] = "true".into();
        let spec = serde_json::from_value(spec).expect("a Rule");
        let rule = CompiledRule::of(&spec, "a", "r", at(0)).unwrap_or_else(|problems| panic!("{problems:?}"));
        let edge = |uid: &str, moment, time| {
            let object = Arc::new(serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "boat", "namespace": "a", "uid": uid, "creationTimestamp": at(20_000).to_string()}}));
            let event = rule.moment(&object, moment, at(time));
            Edge::of_object(&rule, Happening { object, event }, ObjectReference::default())
        };
        let (gone, fresh) = (edge("1", Moment::Deleted, 20_400), edge("2", Moment::Created, 20_500));
        assert!(gone.time < fresh.time, "the order in which they were told");
        assert_eq!([gone.since, fresh.since], [at(20_400), at(20_000)]);
        assert_eq!(edge("2", Moment::Created, 21_000).since, fresh.since, "told of in a list");
    }

    #[test]
    fn a_window_that_reaches_behind_the_memory_of_kubernetes_is_told() {
        let several = |within: &str| serde_json::json!({"correlate": {"groupBy": "event.data.reason", "within": within, "count": 2}});
        let told = Some((
            Timestamp::UNIX_EPOCH + SignedDuration::from_hours(4),
            "Events of before 1970-01-01T02:00:00Z may be forgotten: \
             until 1970-01-01T04:00:00Z a window may lack some"
                .to_owned(),
        ));
        assert_eq!(blind_after(180, &several("2h")), told);
        let last = serde_json::json!({"limits": {"once": {"take": "Last", "within": "2h"}}});
        assert_eq!(blind_after(180, &last), told, "the last of many is one of a window, too");

        assert_eq!(blind_after(180, &several("30m")), None, "Kubernetes keeps Events for longer");
        assert_eq!(blind_after(30, &several("2h")), None, "nothing from before the Rule is missed");
        assert_eq!(
            blind_after(180, &serde_json::json!({})),
            None,
            "for a window alone; the rest tells `unled`"
        );
        let state = serde_json::json!({"when": "true", "trigger": {"event": null,
            "resource": {"apiVersion": "v1", "kind": "Pod"}}, "correlate": {"groupBy": "object.kind",
            "within": "2h", "count": 2}});
        assert_eq!(blind_after(180, &state), None, "objects are there to be listed");
    }

    #[test]
    fn a_time_at_which_nobody_led_is_told_where_something_may_be_missing() {
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let told = |trigger: &Value, within: &str, (from, to)| {
            let correlate = serde_json::json!({"groupBy": "event.type", "within": within, "count": 2});
            let correlate = if within.is_empty() { Value::Null } else { correlate };
            let target = serde_json::json!({"key": "event.id"});
            let target = if trigger.get("event").is_some() { Value::Null } else { target };
            let spec = serde_json::json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": trigger,
                "target": target, "correlate": correlate});
            let spec = serde_json::from_value(spec).expect("a Rule");
            let rule = CompiledRule::of(&spec, "a", "r", at(10)).expect("compiles");
            unled(&rule, (at(from), at(to)))
                .map(|(until, text)| (until.duration_since(at(0)).as_mins(), text))
        };
        let (webhook, ends) = (
            serde_json::json!({"webhook": {"name": "w"}}),
            serde_json::json!({"execution": {"rules": ["q"]}}),
        );
        let (until, text) = told(&webhook, "30m", (20, 23)).expect("a window");
        assert_eq!(
            (until, text.as_str()),
            (
                53,
                "nobody received from 1970-01-01T00:20:00Z to 1970-01-01T00:23:00Z: \
            until 1970-01-01T00:53:00Z a window may lack some"
            )
        );
        assert_eq!(told(&webhook, "30m", (20, 22)), None, "who sends comes again within two minutes");
        assert_eq!(told(&webhook, "30m", (1, 12)), None, "it is younger");
        assert_eq!(told(&webhook, "", (20, 200)), None, "each stands for itself, and is sent again");
        let (until, text) = told(&ends, "", (20, 81)).expect("an hour");
        assert_eq!(
            (until, text.as_str()),
            (
                141,
                "nobody led from 1970-01-01T00:20:00Z to 1970-01-01T01:21:00Z: \
            ends of Executions that were not answered by then never are"
            )
        );
        assert_eq!(told(&ends, "", (20, 80)), None, "they are answered now");
        let events = serde_json::json!({"event": {"reasons": ["FailedMount"]}});
        for within in ["", "30m"] {
            let (until, text) = told(&events, within, (20, 90)).expect("more than an hour");
            assert_eq!(
                (until, text.as_str()),
                (
                    150,
                    "nobody led from 1970-01-01T00:20:00Z to 1970-01-01T01:30:00Z: \
                Events that were an hour old by then may be forgotten, and never are answered"
                )
            );
        }
        assert_eq!(told(&events, "", (20, 80)), None, "a list brings them");
        assert_eq!(told(&events, "", (1, 70)), None, "it is younger");
        assert_eq!(told(&ends, "30m", (20, 110)), None, "a window looks back for longer");
    }

    #[test]
    fn a_time_at_which_nobody_watched_is_told_where_something_came_or_went() {
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let rule = |lifecycle: &[&str], within: &str| {
            let correlate = (!within.is_empty()).then(|| serde_json::json!({"within": within, "count": 2}));
            let spec = serde_json::json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "correlate": correlate,
                "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "lifecycle": lifecycle}}});
            CompiledRule::of(&serde_json::from_value(spec).expect("a Rule"), "a", "r", at(10))
                .expect("compiles")
        };
        let told = |rule: &CompiledRule, from, to| {
            let (until, text) = unled(rule, (at(from), at(to)))?;
            assert_eq!(until, at(to + 60));
            Some(text.split_once("Z: ").expect("a time").1.to_owned())
        };
        let (came, went) = (
            "what was created more than an hour before that is not answered any more",
            "nobody knows what was deleted meanwhile",
        );
        assert_eq!(told(&rule(&["Deleted"], ""), 20, 21).as_deref(), Some(went));
        assert_eq!(told(&rule(&["Deleted"], ""), 1, 10), None, "it is younger");
        assert_eq!(told(&rule(&["Created"], ""), 20, 80), None, "a list shows what came");
        assert_eq!(told(&rule(&["Created"], ""), 20, 81).as_deref(), Some(came));
        assert_eq!(told(&rule(&["Created"], "30m"), 20, 110), None, "a window looks back for longer");
        assert_eq!(told(&rule(&["Created", "Deleted"], ""), 20, 81), Some(format!("{came}, {went}")));
        let waited = format!("{went}, deletions from before that wait for no others any more");
        assert_eq!(told(&rule(&["Deleted"], "30m"), 20, 21), Some(waited));

        let (alone, window) = (rule(&["Created"], ""), rule(&["Created"], "30m"));
        assert_eq!(horizon(&alone, Some(at(20))), handled_by(at(20)));
        assert_eq!(horizon(&window, Some(at(60))), handled_by(at(30)));
        assert_eq!(horizon(&alone, None), handled_by(Timestamp::MIN), "nobody is known to have looked");
        assert_eq!([79, 80, 81].map(|now| too_old(&alone, at(20), at(now))), [false, false, true]);
        assert!(!too_old(&window, at(20), at(110)) && too_old(&window, at(20), at(111)));
    }

    #[test]
    fn who_has_not_looked_for_long_leaves_what_he_found_to_the_next() {
        let at = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let looked = |until: Option<i64>, settled: Option<i64>| Looked {
            until: until.map(at),
            settled: settled.map(at),
        };
        let before = looked(Some(100), Some(90));
        assert_eq!(before.and((at(500), at(619))), looked(Some(619), Some(90)));
        assert_eq!(before.and((at(500), at(620))), looked(Some(620), Some(620)));
        assert_eq!(Looked::default().and((at(500), at(600))), looked(Some(600), None));
    }

    #[test]
    fn for_a_rule_that_was_not_ready_nobody_has_looked() {
        let at = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let led = Looked { until: Some(at(500)), settled: Some(at(500)) };
        for (status, since, until) in
            [("True", 400, 500), ("False", 400, 400), ("False", 600, 500), ("Unknown", 400, 500)]
        {
            let rule = serde_json::json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule",
                "metadata": {"name": "r", "namespace": "a"},
                "spec": {"serviceAccountName": "h", "ladder": [{"run": "x"}],
                    "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "lifecycle": ["Created"]}}},
                "status": {"conditions": [{"type": "Ready", "status": status, "reason": "Active", "message": "",
                    "lastTransitionTime": at(since).to_string()}]}});
            let rule: Rule = serde_json::from_value(rule).expect("a Rule");
            let expected = Looked { until: Some(at(until)), settled: Some(at(until)) };
            assert_eq!(led.for_rule(&rule), expected, "{status} since {since}");
            assert_eq!(Looked::default().for_rule(&rule), Looked::default());
        }
    }

    #[test]
    fn a_watch_that_says_nothing_is_noticed_once() {
        let heard = Timestamp::UNIX_EPOCH;
        let mut state = State { heard_at: Some(heard), ..State::default() };
        assert!(!state.notice_silence(heard + STALE_AFTER - SignedDuration::from_secs(1)));
        assert!(state.notice_silence(heard + STALE_AFTER) && !state.notice_silence(heard + STALE_AFTER));
        assert_eq!(state.broken.as_deref(), Some("nothing was heard from the watch for two minutes"));
        assert!(!State::default().notice_silence(heard), "one that is not in sync yet says so already");
    }
}
