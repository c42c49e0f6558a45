//! A rule's windows over what its watch brings: Kubernetes Events, and what happens to objects.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::happening::Happening;
use super::seen::key_of;
use crate::api::{MatchedObject, ObjectReference, TriggerEvent};
use crate::controller::executions::Executions;
use crate::controller::lead::matched;
use crate::decide::change::is_state;
use crate::decide::correlation::{Captured, Found, Windows};
use crate::decide::gathering::known_by;
use crate::decide::identity::TargetKey;
use crate::decide::lifecycle::as_of;
use crate::decide::matching::{CompiledRule, envelope, received};
use crate::decide::view::ObjectKey;
use crate::expr::{Bindings, EvalError};

/// Where the target of what has happened to an object is kept beside what is recorded of it.
const TARGET: &str = "target";
/// Where the object is.
const MATCHED: &str = "matched";
/// Where the whole event is.
const EVENT: &str = "event";
/// And as of when it is decided about.
const SINCE: &str = "since";

/// The members of an absence, by their place: what something is awaited after, and what is expected.
const AFTER: usize = 0;
const EXPECTED: usize = 1;

/// Events that wait for others.
pub struct Capturing {
    rule: Arc<CompiledRule>,
    executions: Executions,
    windows: Windows,
    /// What is complete and not led to its target yet.
    found: Vec<Found>,
    /// Of which Event it was said last that something cannot be said of it.
    unsaid: Option<ObjectKey>,
}

/// An Event, and what cannot be said of it.
type Mistaken = (ObjectKey, String);

impl Capturing {
    /// With nothing in it; none if the rule is about how objects are, or its events mean something alone.
    pub fn of(rule: &Arc<CompiledRule>, executions: &Executions) -> Option<Self> {
        if is_state(&rule.spec) {
            return None;
        }
        let windows = rule.correlation.as_ref()?.windows();
        Some(Self {
            rule: rule.clone(),
            executions: executions.clone(),
            windows,
            found: Vec::new(),
            unsaid: None,
        })
    }

    /// Takes an Event in that matches, and gives those that are dropped for it, if too many wait.
    pub fn take(
        &mut self,
        event: &Value,
        occurrence: (&str, Timestamp),
        now: Timestamp,
    ) -> Result<Vec<Captured>, EvalError> {
        let Some(correlation) = &self.rule.correlation else { return Ok(Vec::new()) };
        let data = Arc::new(envelope(event));
        let bindings = Bindings::at(now).with("event", data.clone());
        let captured = correlation.capture(occurrence, &bindings, data)?;
        Ok(captured.map(|captured| self.windows.take(captured)).unwrap_or_default())
    }

    /// Takes in what has happened to an object and leads to a target, beside what else leads there.
    pub fn take_happening(
        &mut self,
        happening: &Happening,
        target: &ObjectReference,
        now: Timestamp,
    ) -> Result<Vec<Captured>, EvalError> {
        let Some(correlation) = &self.rule.correlation else { return Ok(Vec::new()) };
        let Happening { object, event } = happening;
        let bindings = self.bindings(happening, now);
        let matched = matched(object);
        let data = json!({"type": event.event_type, "data": known_by(&matched.object, object),
            TARGET: target, MATCHED: matched, EVENT: event, SINCE: as_of(&self.rule, object, event)});
        let captured = correlation.capture((&event.id, event.time.0), &bindings, Arc::new(data))?;
        let of_target = |captured: Captured| {
            let key = TargetKey::from(target);
            Captured { group: format!("{} {key} {}", key.hash(), captured.group), ..captured }
        };
        Ok(captured.map(|captured| self.windows.take(of_target(captured))).unwrap_or_default())
    }

    /// Takes in what Executions have used, which a list brings again.
    pub fn use_up(&mut self) {
        used(&self.executions, &self.rule, &mut self.windows);
    }

    /// What has become complete, given that all that happened by a time is known.
    pub fn complete(&mut self, known_by: Timestamp) -> Vec<Found> {
        self.windows.found(known_by)
    }

    /// What was complete and has been put back, to try again.
    pub fn take_back(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// Lets go of what awaits something that may have happened with this, wherever that leads; gives it.
    pub fn let_go(&mut self, happening: &Happening, now: Timestamp) -> Vec<Captured> {
        let Some(correlation) = self.rule.correlation.as_ref().filter(|one| one.is_absence()) else {
            return Vec::new();
        };
        let bindings = self.bindings(happening, now);
        // What cannot be evaluated is not taken in either, wherever it leads.
        let part = correlation.part(&bindings).ok().flatten();
        if part.is_none_or(|part| !part.members.contains(&EXPECTED)) {
            return Vec::new();
        }
        let (time, within) = (happening.event.time.0, correlation.within());
        let awaits = |event: &&Captured| {
            let end = event.time.saturating_add(within).unwrap_or(Timestamp::MAX);
            event.members == [AFTER] && event.time <= time && time <= end
        };
        let awaiting: Vec<_> = self.windows.captured().filter(awaits).cloned().collect();
        self.windows.use_up(awaiting.iter().map(|event| event.id.as_str()));
        awaiting
    }

    /// What expressions see of what has happened to an object.
    fn bindings(&self, Happening { object, event }: &Happening, now: Timestamp) -> Bindings {
        received(&json!(event), &self.rule.spec.trigger, now).with("object", object.clone())
    }

    /// The Event that nothing is unsaid of any more, and one of which something cannot be said.
    pub fn mistake(&mut self) -> (Option<ObjectKey>, Option<Mistaken>) {
        let mistake = self.windows.mistake().and_then(|mistake| {
            let event = self.windows.captured().find(|event| event.id == mistake.id)?;
            Some((key_of(&event.data["data"]), mistake.text.clone()))
        });
        let current = mistake.as_ref().map(|(key, _)| key.clone());
        let before = std::mem::replace(&mut self.unsaid, current);
        (before.filter(|before| Some(before) != self.unsaid.as_ref()), mistake)
    }

    /// What has waited for others in vain since this was asked last.
    pub fn ended(&mut self) -> Vec<Captured> {
        self.windows.take_ended()
    }

    /// Keeps what could not be led to its target yet, up to so much; the oldest goes if there is more, and is given back.
    pub fn put_back(&mut self, found: Found, most: usize) -> Option<Found> {
        let is_full = self.found.len() >= most;
        let oldest = is_full.then(|| self.found.remove(0));
        self.found.push(found);
        oldest
    }

    /// Whether something would be complete now if it were known that nothing has happened.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.windows.due().is_some_and(|due| due < now)
    }

    /// How many events were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.windows.dropped()
    }
}

/// What has happened to an object, as it was captured.
pub struct Happened {
    pub event: TriggerEvent,
    pub matched: MatchedObject,
    /// As of when it is decided about.
    pub since: Timestamp,
}

/// What has happened to an object, with its target.
pub fn happened(captured: &Captured) -> Option<(Happened, ObjectReference)> {
    let read = |part: &str| captured.data.get(part).cloned();
    let event = serde_json::from_value(read(EVENT)?).ok()?;
    let matched = serde_json::from_value(read(MATCHED)?).ok()?;
    let since = serde_json::from_value(read(SINCE)?).ok()?;
    Some((Happened { event, matched, since }, serde_json::from_value(read(TARGET)?).ok()?))
}

/// Takes the events out of windows that Executions of the rule have used.
pub fn used(executions: &Executions, rule: &CompiledRule, windows: &mut Windows) {
    let of_rule = executions.of_rule(&rule.facts.namespace, &rule.facts.name);
    let decisions = of_rule.iter().filter_map(|execution| execution.spec.decision.as_ref());
    windows.use_up(decisions.flat_map(|decision| &decision.captured).map(|event| event.id.as_str()));
}
