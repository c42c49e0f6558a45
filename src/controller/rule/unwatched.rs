//! Events that no watch of the rule's account brings: times of a schedule, and ends of Executions.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use super::passed_over::{self, Why};
use super::seen::{Edge, Occurrences, Seen};
use super::windows::used;
use crate::api::{
    AnyValue, CapturedEvent, Execution, GROUP, MatchedObject, ObjectReference, Rule, ScheduleStatus,
    TriggerEvent, VERSION,
};
use crate::cluster::account::Account;
use crate::cluster::events::{Telling, tell};
use crate::cluster::{Error, Result};
use crate::controller::context::Context;
use crate::controller::lead;
use crate::controller::reference_to;
use crate::decide::capture::Correlation;
use crate::decide::correlation::{Found, Windows};
use crate::decide::ends::{self, End, OLDEST, end};
use crate::decide::identity::{digest, occurrence, readable};
use crate::decide::matching::CompiledRule;
use crate::decide::view::Sight;
use crate::expr::{Bindings, EvalErrorKind};
use crate::source::watch::now;

/// Whose events they are.
#[derive(Clone, Copy)]
pub struct Listener<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The rule, compiled.
    pub compiled: &'a CompiledRule,
    /// Its account.
    pub account: &'a Account,
}

/// Within which time who led has answered an end, or never would have.
const ANSWERED_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// No generation.
const UNKNOWN: i64 = -1;

/// What a rule knows of the ends of Executions.
#[derive(Default)]
pub struct Ends {
    edges: BTreeMap<String, Edge>,
    decided: Occurrences,
    /// What is part of a pattern that is decided, or waits to be.
    used: Occurrences,
    /// What is over before it was decided about, and is told of.
    told: Occurrences,
    /// What was over when it was seen first, by this text of the rule: told of, or not worth telling.
    over: Occurrences,
    windows: Option<Windows>,
    generation: i64,
    /// Until when ends are decided of which no more is known, as of the first look.
    forgotten: OnceCell<Option<Timestamp>>,
}

impl Ends {
    /// What an earlier text of the rule left out may be in the window of this one; what it decided stays decided.
    fn read_anew(&mut self, generation: i64, windows: impl FnOnce() -> Option<Windows>) {
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        self.over = Occurrences::default();
        self.windows = windows();
    }

    /// Forgets an event that has been decided.
    pub fn decided(&mut self, occurrence: &str) {
        self.edges.remove(occurrence);
        self.decided.add(occurrence);
    }

    /// Takes in where a pattern leads: what it is made of is part of no other, whatever becomes of the rule's text.
    fn found(&mut self, compiled: &CompiledRule, found: &Found, led: Led) {
        if let Led::Waits = led {
            return;
        }
        for (_, event) in &found.events {
            self.used.add(&event.id);
        }
        if let Led::To(edge) = led {
            let (occurrence, captured) = (found.occurrence.clone(), recorded(compiled, found));
            self.edges.insert(occurrence.clone(), Edge { occurrence, captured, ..*edge });
        }
    }

    /// Whether nothing is to be known of an end any more.
    fn is_done(&self, uid: &str) -> bool {
        self.decided.has(uid) || self.used.has(uid) || self.edges.contains_key(uid) || self.over.has(uid)
    }
}

/// An event that is about no object, and where it may lead.
struct Told<'a> {
    event: TriggerEvent,
    time: Timestamp,
    matched: MatchedObject,
    /// The target, unless the rule says another.
    default: &'a ObjectReference,
    depth: u32,
}

/// Nothing that is seen here is seen late.
fn seen(now: Timestamp) -> Seen {
    let sight = Sight { heard_at: Some(now), complete_at: Some(now), all_resolved: true };
    Seen { sight, ..Seen::default() }
}

/// What is due of a schedule, and how far it has come with that.
pub async fn schedule(
    context: &Context,
    listener: Listener<'_>,
    now: Timestamp,
) -> Result<(Seen, Option<ScheduleStatus>)> {
    let Listener { rule, compiled, .. } = listener;
    let Some(schedule) = &compiled.schedule else { return Ok((seen(now), None)) };
    let known = rule.status.as_ref().and_then(|status| status.schedule.as_ref());
    // What an older text of the rule did not say is not made up for.
    let is_first = rule.metadata.generation.is_none_or(|generation| generation <= 1);
    let begun = if is_first { compiled.created_at } else { now };
    let (due, status) = schedule.advance(known, (begun, now));
    let mut seen = Seen { next: schedule.next(now), ..seen(now) };
    let Some(time) = due.latest else { return Ok((seen, Some(status))) };
    let event = TriggerEvent {
        id: time.to_string(),
        source: "schedule.fother.dev".to_owned(),
        event_type: "schedule".to_owned(),
        time: MicroTime(time),
        data: AnyValue(json!({"missed": due.missed})),
    };
    let (facts, id) = (&compiled.facts, occurrence(&event));
    let default = ObjectReference::key(&facts.namespace, facts.name.clone());
    let told = Told { event, time, matched: the_rule(rule), default: &default, depth: 0 };
    match led(context, listener, told, now).await {
        Ok(edge) => seen.edges.extend(edge),
        // Tomorrow is another day.
        Err(error) if error.is_lasting() => {
            context.journal.failed(rule, None, &id, &error.to_string());
            seen.mistake = Some(error.to_string());
        }
        Err(error) => return Err(error),
    }
    Ok((seen, Some(status)))
}

/// Records on the rule that times of its schedule have passed while nobody looked.
pub async fn tell_missed(context: &Context, rule: &Rule, edge: &Edge) {
    let missed = edge.data["data"]["missed"].as_u64().unwrap_or_default();
    if missed == 0 {
        return;
    }
    let (name, regarding) = (rule.name_any(), the_rule(rule).object);
    tracing::warn!(rule = name, missed, "times of the schedule were missed");
    let telling = Telling {
        name: readable(&name, &digest(&["missed", &name, &edge.occurrence])[..16]),
        reason: "ScheduleMissed",
        warning: true,
        note: format!("{missed} times before {} were missed and are not made up for", edge.occurrence),
        regarding: &regarding,
        related: None,
    };
    if let Err(error) = tell(&context.home, &telling, now()).await {
        tracing::warn!(%error, "event not written");
    }
}

fn the_rule(rule: &Rule) -> MatchedObject {
    let object = ObjectReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "Rule".to_owned(),
        namespace: rule.namespace(),
        name: rule.name_any(),
        uid: rule.uid(),
    };
    MatchedObject { object, resource_version: rule.resource_version().unwrap_or_default() }
}

/// The ends of Executions that wait for their decision.
pub async fn ends(context: &Context, listener: Listener<'_>, now: Timestamp) -> Result<Seen> {
    let facts = &listener.compiled.facts;
    let of_rule = |ends: &mut Ends| {
        ends.forgotten.get_or_init(|| super::objected_until(listener.rule));
        ends.read_anew(listener.rule.metadata.generation.unwrap_or_default(), || {
            listener.compiled.correlation.as_ref().map(Correlation::windows)
        });
    };
    context.evaluators.with_ends(&facts.namespace, &facts.name, of_rule);
    let unled = context.unled.and_then(|unled| super::seen::unled(listener.compiled, unled));
    let blind = unled.filter(|(until, _)| now < *until).map(|(_, text)| text);
    let mut seen = Seen { blind, ..seen(now) };
    let fresh = fresh(context, listener.compiled, now);
    match &listener.compiled.correlation {
        None => alone(context, listener, (&fresh, &mut seen), now).await?,
        Some(_) => together(context, listener, (&fresh, &mut seen), now).await?,
    }
    context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| {
        seen.edges = ends.edges.values().cloned().collect();
        seen.forgotten = ends.forgotten.get().copied().flatten();
        seen.dropped = ends.windows.as_ref().map_or(0, Windows::dropped);
    });
    seen.edges.sort_by(|a, b| (a.time, &a.occurrence).cmp(&(b.time, &b.occurrence)));
    Ok(seen)
}

/// The ends that a rule may not have decided about yet. What it never will is told of.
fn fresh(context: &Context, compiled: &CompiledRule, now: Timestamp) -> Vec<(Arc<Execution>, End)> {
    let Some(trigger) = &compiled.spec.trigger.execution else { return Vec::new() };
    let facts = &compiled.facts;
    let of_rules = trigger.rules.iter().flat_map(|rule| context.executions.of_rule(&facts.namespace, rule));
    let is_done =
        |uid: &str| context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| ends.is_done(uid));
    let ends = undecided(of_rules, is_done, |execution| end(execution, trigger));
    let (ends, over): (Vec<_>, Vec<_>) =
        ends.partition(|(_, end)| over_already(compiled, end, now).is_none());
    let unled = context.unled.filter(|unled| super::seen::unled(compiled, *unled).is_some());
    for (execution, end) in over {
        context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| ends.over.add(&end.event.id));
        let Some(why) = over_already(compiled, &end, now) else { continue };
        let is_lost = why == Why::BeforeRule || is_lost(context, (compiled, unled), &end);
        if is_lost && matches(compiled, &end.event, now).unwrap_or(false) {
            pass_over(context, compiled, (execution.spec.target.as_ref(), &end.event), why);
        }
    }
    ends
}

/// Those that have ended and with which nobody is done, each with its end. Of the others nothing is read: what an Execution was
/// made of may be much, and all of them are looked at in each round.
fn undecided(
    executions: impl Iterator<Item = Arc<Execution>>,
    is_done: impl Fn(&str) -> bool,
    read: impl Fn(&Execution) -> Option<End>,
) -> impl Iterator<Item = (Arc<Execution>, End)> {
    let is_open = move |execution: &Arc<Execution>| {
        execution.is_finished() && !is_done(execution.metadata.uid.as_deref().unwrap_or_default())
    };
    executions.filter(is_open).filter_map(move |execution| read(&execution).map(|end| (execution, end)))
}

/// Why an end is over before it is decided about; none if it is not.
pub(super) fn over_already(compiled: &CompiledRule, end: &End, now: Timestamp) -> Option<Why> {
    let window = super::seen::window(compiled).unwrap_or_default();
    let oldest = now.saturating_sub(OLDEST + window).unwrap_or(Timestamp::MIN);
    match () {
        () if end.time <= oldest => Some(Why::TooOld),
        () if end.time < compiled.created_at => Some(Why::BeforeRule),
        () => None,
    }
}

/// Whether an end of long ago was never answered, for all that is known: who led then was about to go, and the next came too late.
fn is_lost(
    context: &Context,
    (compiled, unled): (&CompiledRule, Option<(Timestamp, Timestamp)>),
    end: &End,
) -> bool {
    unled.is_some_and(|(from, to)| {
        let about_to_go = from.saturating_sub(ANSWERED_WITHIN).unwrap_or(from)..to;
        let may_be = end.time >= compiled.created_at && about_to_go.contains(&end.time);
        may_be && !is_answered(context, compiled, end)
    })
}

/// Whether the rule has an Execution that it made of an end.
fn is_answered(context: &Context, compiled: &CompiledRule, end: &End) -> bool {
    let of_rule = context.executions.of_rule(&compiled.facts.namespace, &compiled.facts.name);
    of_rule.iter().filter_map(|execution| execution.spec.decision.as_ref()).any(|decision| {
        let alone = decision.event.as_ref().is_some_and(|event| event.id == end.event.id);
        alone || decision.captured.iter().any(|event| event.id == end.event.id)
    })
}

/// Tells once of an end that is over before it is decided about.
fn pass_over(
    context: &Context,
    compiled: &CompiledRule,
    (target, event): (Option<&ObjectReference>, &TriggerEvent),
    why: Why,
) {
    let facts = &compiled.facts;
    if context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| ends.told.add(&event.id)) {
        context.journal.told(event, &facts.namespace);
        let (target, id) = (target.unwrap_or(&NOWHERE), occurrence(event));
        passed_over::tell((&context.metrics, &context.journal), facts, (target, &id), why);
    }
}

async fn alone(
    context: &Context,
    listener: Listener<'_>,
    (fresh, seen): (&[(Arc<Execution>, End)], &mut Seen),
    now: Timestamp,
) -> Result<()> {
    let facts = &listener.compiled.facts;
    for (execution, end) in fresh {
        let led = lead_or_say(context, listener, (told(execution, end), seen), now).await?;
        if let Led::Astray = led {
            pass_over(context, listener.compiled, (None, &end.event), Why::NoTarget);
        }
        context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| match led {
            Led::To(edge) => drop(ends.edges.insert(edge.occurrence.clone(), *edge)),
            Led::Nowhere | Led::Astray => drop(ends.decided.add(&end.event.id)),
            Led::Waits => {}
        });
    }
    Ok(())
}

fn told<'a>(execution: &'a Execution, end: &End) -> Told<'a> {
    let object = reference_to(execution);
    let resource_version = execution.resource_version().unwrap_or_default();
    Told {
        event: end.event.clone(),
        time: end.time,
        matched: MatchedObject { object, resource_version },
        default: execution.spec.target.as_ref().unwrap_or(&NOWHERE),
        depth: end.depth,
    }
}

/// What an Execution without a target would lead to: a Rule's always have one.
static NOWHERE: ObjectReference = ObjectReference {
    api_version: String::new(),
    kind: String::new(),
    namespace: None,
    name: String::new(),
    uid: None,
};

async fn together(
    context: &Context,
    listener: Listener<'_>,
    (fresh, seen): (&[(Arc<Execution>, End)], &mut Seen),
    now: Timestamp,
) -> Result<()> {
    let (compiled, facts) = (listener.compiled, &listener.compiled.facts);
    let Some(correlation) = &compiled.correlation else { return Ok(()) };
    let mut captured = Vec::new();
    for (_, end) in fresh.iter().filter(|(_, end)| matches(compiled, &end.event, now).unwrap_or(false)) {
        let data = Arc::new(json!(end.event));
        let bindings = Bindings::at(now).with("event", data.clone());
        match correlation.capture((&end.event.id, end.time), &bindings, data) {
            Ok(found) => captured.extend(found),
            Err(error) => seen.mistake = Some(error.to_string()),
        }
    }
    let (mut found, mut over) = (Vec::new(), Vec::new());
    context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| {
        let Some(windows) = &mut ends.windows else { return };
        let dropped = captured.drain(..).flat_map(|event| windows.take(event));
        over.extend(dropped.map(|event| (event, Why::TooMany)));
        used(&context.executions, compiled, windows);
        found = windows.found(now);
        found.retain(|found| !ends.decided.has(&found.occurrence));
        let mistake = windows.mistake().and_then(|mistake| {
            let (of, _) = fresh.iter().find(|(_, end)| end.event.id == mistake.id)?;
            Some(format!("{}: {}", of.name_any(), mistake.text))
        });
        seen.mistake = mistake.or(seen.mistake.take());
        over.extend(windows.take_ended().into_iter().map(|event| (event, Why::WindowEnded)));
        let ends_at = windows.oldest().and_then(|oldest| oldest.checked_add(correlation.within()).ok());
        seen.next = windows.due().or(ends_at);
        // Until all of it is led to its targets, it has to be found again.
        ends.generation = UNKNOWN;
    });
    for (event, why) in over {
        let of = fresh.iter().find(|(_, end)| end.event.id == event.id);
        if let Some((execution, end)) = of {
            pass_over(context, compiled, (execution.spec.target.as_ref(), &end.event), why);
        }
    }
    let mut is_led = true;
    for found in found {
        let of = |id: &str| fresh.iter().find(|(_, end)| end.event.id == id);
        let Some((execution, end)) = found.events.last().and_then(|(_, event)| of(&event.id)) else {
            continue;
        };
        let depth = found.events.iter().filter_map(|(_, event)| Some(of(&event.id)?.1.depth)).max();
        let told = Told { time: found.time, depth: depth.unwrap_or(end.depth), ..told(execution, end) };
        let led = lead_or_say(context, listener, (told, seen), now).await?;
        match &led {
            Led::Waits => is_led = false,
            Led::Astray => pass_over(context, compiled, (None, &end.event), Why::NoTarget),
            Led::To(_) | Led::Nowhere => {}
        }
        context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| ends.found(compiled, &found, led));
    }
    if !is_led {
        return Ok(());
    }
    let generation = listener.rule.metadata.generation.unwrap_or_default();
    context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| ends.generation = generation);
    Ok(())
}

/// What is recorded of a pattern's events.
pub fn recorded(compiled: &CompiledRule, found: &Found) -> Vec<CapturedEvent> {
    compiled.correlation.as_ref().map(|correlation| correlation.record(found)).unwrap_or_default()
}

/// Whether an event matches. Fields come and go: one that lacks a field does not, and that is no mistake.
fn matches(compiled: &CompiledRule, event: &TriggerEvent, now: Timestamp) -> Result<bool> {
    match compiled.matches_received(event, now) {
        Err(error) if error.kind == EvalErrorKind::Absent => Ok(false),
        other => other.map_err(|error| Error::Unexpected(error.to_string())),
    }
}

/// Where an event leads.
enum Led {
    To(Box<Edge>),
    /// It does not match.
    Nowhere,
    /// Its target is not there, or cannot be told, and the next time will be no better.
    Astray,
    /// Its target may not be read, which somebody is about to mend: it is tried again.
    Waits,
}

/// For how long it is tried again to read a target that may not be read, and how often.
const FORBIDDEN: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(10), SignedDuration::from_secs(10));

/// Leads an event to its target; what stands in its way is said.
async fn lead_or_say(
    context: &Context,
    listener: Listener<'_>,
    (told, seen): (Told<'_>, &mut Seen),
    now: Timestamp,
) -> Result<Led> {
    let (patience, pause) = FORBIDDEN;
    let may_wait = now.duration_since(told.time) < patience;
    match led(context, listener, told, now).await {
        Ok(Some(edge)) => Ok(Led::To(Box::new(edge))),
        Ok(None) => Ok(Led::Nowhere),
        Err(error) if error.is_lasting() => {
            let waits = error.is_forbidden() && may_wait;
            seen.mistake = Some(error.to_string());
            if waits {
                seen.next = now.checked_add(pause).ok().into_iter().chain(seen.next).min();
            }
            Ok(if waits { Led::Waits } else { Led::Astray })
        }
        Err(error) => Err(error),
    }
}

/// An event led to its target; none if it does not match.
async fn led(
    context: &Context,
    listener: Listener<'_>,
    told: Told<'_>,
    now: Timestamp,
) -> Result<Option<Edge>> {
    let Listener { compiled, .. } = listener;
    let facts = &compiled.facts;
    if !matches(compiled, &told.event, now)? {
        context.metrics.evaluated(&facts.namespace, &facts.name, "not_matched");
        return Ok(None);
    }
    let data = Arc::new(json!(told.event));
    let target = match &compiled.aim {
        None => told.default.clone(),
        Some(aim) => {
            let bindings = Bindings::at(now).with("event", data.clone());
            let target = aim.at(&bindings, &facts.namespace).map_err(Error::Unexpected)?;
            lead::named(&listener.account.client(), &context.kinds, &facts.namespace, target).await?
        }
    };
    Ok(Some(Edge {
        target,
        event: told.matched,
        occurrence: told.event.id.clone(),
        time: told.time,
        since: told.time,
        data,
        recorded: Some(ends::recorded(compiled, told.event)),
        captured: Vec::new(),
        depth: told.depth,
    }))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::decide::correlation::Captured;

    fn execution(uid: &str, finished: Option<&str>) -> Arc<Execution> {
        let execution = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": uid, "uid": uid},
            "spec": {"serviceAccountName": "h"}, "status": {"finishedAt": finished},
        });
        Arc::new(serde_json::from_value(execution).expect("an Execution"))
    }

    #[test]
    fn of_an_end_with_which_the_rule_is_done_nothing_is_read() {
        let mut ends = Ends::default();
        let edge = Edge::of_event(&json!({}), NOWHERE.clone(), ("waits".to_owned(), now()), Vec::new());
        ends.edges.insert("waits".to_owned(), edge);
        ends.decided("decided");
        ends.over.add("over");
        let finished = Some("2026-01-01T00:00:00Z");
        let all = ["new", "waits", "decided", "over"].map(|uid| execution(uid, finished));
        let all = all.into_iter().chain([execution("running", None)]);
        let read = RefCell::new(Vec::new());
        let found = undecided(
            all,
            |uid| ends.is_done(uid),
            |execution| {
                read.borrow_mut().push(execution.name_any());
                None
            },
        );
        assert_eq!((found.count(), read.take()), (0, vec!["new".to_owned()]));
    }

    #[test]
    fn another_text_of_the_rule_looks_again_at_what_was_over_and_not_at_what_was_decided() {
        let mut ends = Ends::default();
        ends.read_anew(1, || None);
        ends.over.add("over");
        ends.decided("decided");
        ends.read_anew(1, || panic!("it is the same text"));
        assert_eq!(["over", "decided"].map(|uid| ends.is_done(uid)), [true, true]);
        ends.read_anew(2, || None);
        assert_eq!(["over", "decided"].map(|uid| ends.is_done(uid)), [false, true]);
    }

    #[test]
    fn what_a_pattern_is_made_of_is_part_of_no_other() {
        let rule = serde_json::from_value(json!({"serviceAccountName": "h", "ladder": [{"run": "x"}],
            "trigger": {"execution": {"rules": ["r"]}}, "correlate": {"within": "1h", "count": 2}}));
        let rule = CompiledRule::of(&rule.expect("a Rule"), "a", "r", Timestamp::UNIX_EPOCH);
        let rule = rule.unwrap_or_else(|problems| panic!("{problems:?}"));
        let event = |id: &str| Captured {
            id: id.to_owned(),
            time: Timestamp::UNIX_EPOCH,
            lasts: (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
            group: String::new(),
            members: vec![0],
            data: Arc::new(json!({})),
            size: 2,
        };
        let found = Found {
            group: String::new(),
            occurrence: "two".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            events: ["one", "two"].map(|id| (0, event(id))).into(),
        };
        let mut ends = Ends::default();
        let is_done = |ends: &Ends| ["one", "two"].map(|uid| ends.is_done(uid));
        ends.found(&rule, &found, Led::Waits);
        assert_eq!(is_done(&ends), [false, false], "it is tried again");
        let edge = Edge::of_event(&json!({}), NOWHERE.clone(), ("two".to_owned(), now()), Vec::new());
        ends.found(&rule, &found, Led::To(Box::new(edge)));
        ends.decided("two");
        ends.read_anew(2, || None);
        assert_eq!(is_done(&ends), [true, true]);
    }
}
