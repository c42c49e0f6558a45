//! A rule's windows over the Kubernetes Events that its watch brings.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::seen::key_of;
use crate::controller::executions::Executions;
use crate::decide::correlation::{Captured, Found, Windows};
use crate::decide::matching::{CompiledRule, envelope};
use crate::decide::view::ObjectKey;
use crate::expr::{Bindings, EvalError};

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
    /// With nothing in it; none if the rule is about objects, or its events mean something alone.
    pub fn of(rule: &Arc<CompiledRule>, executions: &Executions) -> Option<Self> {
        rule.spec.trigger.event.as_ref()?;
        let windows = rule.correlation.as_ref()?.windows();
        Some(Self {
            rule: rule.clone(),
            executions: executions.clone(),
            windows,
            found: Vec::new(),
            unsaid: None,
        })
    }

    /// Takes an Event in that matches, and gives the one that is dropped for it, if too many wait.
    pub fn take(
        &mut self,
        event: &Value,
        occurrence: (&str, Timestamp),
        now: Timestamp,
    ) -> Result<Option<Captured>, EvalError> {
        let Some(correlation) = &self.rule.correlation else { return Ok(None) };
        let data = Arc::new(envelope(event));
        let bindings = Bindings::at(now).with("event", data.clone());
        let captured = correlation.capture(occurrence, &bindings, data)?;
        Ok(captured.and_then(|captured| self.windows.take(captured)))
    }

    /// Takes in what Executions have used, which a list brings again.
    pub fn use_up(&mut self) {
        used(&self.executions, &self.rule, &mut self.windows);
    }

    /// What is complete, given that all that happened by a time is known, and what was and has been put back.
    pub fn complete(&mut self, known_by: Timestamp) -> Vec<Found> {
        self.found.extend(self.windows.found(known_by));
        std::mem::take(&mut self.found)
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

    /// Keeps what could not be led to its target yet.
    pub fn put_back(&mut self, found: Found) {
        self.found.push(found);
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

/// Takes the events out of windows that Executions of the rule have used.
pub fn used(executions: &Executions, rule: &CompiledRule, windows: &mut Windows) {
    let of_rule = executions.of_rule(&rule.facts.namespace, &rule.facts.name);
    let decisions = of_rule.iter().filter_map(|execution| execution.spec.decision.as_ref());
    windows.use_up(decisions.flat_map(|decision| &decision.captured).map(|event| event.id.as_str()));
}
