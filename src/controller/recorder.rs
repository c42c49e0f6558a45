//! What the journal is told: one line where something happens or is decided. Without a journal it is told nothing.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::api::{
    AcceptedEvent, Condition, ConditionType, EventBatch, EventOutcome, Execution, MatchedObject,
    ObjectReference, OutcomeKind, Rule, TriggerEvent, condition,
};
use crate::decide::correlation::{TOO_MANY, WINDOW_ENDED};
use crate::decide::episode::{Held, RuleFacts};
use crate::decide::identity::occurrence;
use crate::journal::entry::{EVENTS, OBJECTS};
use crate::journal::{Decision, Entry, Event, Health, Journal, Outcome};
use crate::source::watch::now;

/// Tells the journal.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Option<Journal>);

/// What a decision is about.
struct About<'a> {
    namespace: String,
    rule: String,
    target: Option<&'a ObjectReference>,
    event: String,
}

impl Recorder {
    /// One that tells this journal, if there is one.
    pub fn new(journal: Option<Journal>) -> Self {
        Self(journal)
    }

    /// How the journal stands; none if there is none.
    pub fn health(&self) -> Option<Health> {
        self.0.as_ref().map(Journal::health)
    }

    /// An object matched, and looked like this when that was acted on.
    pub fn object(&self, matched: &MatchedObject, object: &Arc<Value>) {
        self.event((OBJECTS, "Matched"), (object_id(matched), now()), &matched.object, object.clone());
    }

    /// A Kubernetes Event matched.
    pub fn kubernetes_event(&self, event: &MatchedObject, when: (&str, Timestamp), data: &Arc<Value>) {
        let reason = data.pointer("/reason").or_else(|| data.pointer("/data/reason"));
        let reason = reason.and_then(Value::as_str).unwrap_or("Event");
        self.event((EVENTS, reason), (when.0.to_owned(), when.1), &event.object, data.clone());
    }

    /// A time of a schedule, or the end of an Execution.
    pub fn told(&self, event: &TriggerEvent, namespace: &str) {
        self.record(|| {
            Entry::Event(Event {
                time: event.time.0,
                id: occurrence(event),
                source: event.source.clone(),
                event_type: event.event_type.clone(),
                namespace: namespace.to_owned(),
                data: Arc::new(json!({"data": event.data.0})),
            })
        });
    }

    fn event(
        &self,
        (source, event_type): (&str, &str),
        (id, time): (String, Timestamp),
        object: &ObjectReference,
        data: Arc<Value>,
    ) {
        self.record(|| {
            let namespace = object.namespace.clone().unwrap_or_default();
            let (source, event_type) = (source.to_owned(), event_type.to_owned());
            Entry::Event(Event { time, id, source, event_type, namespace, data })
        });
    }

    /// A decision led to an Execution.
    pub fn fired(&self, execution: &Execution) {
        let mode = execution.spec.decision.as_ref().map(|decision| format!("{:?}", decision.mode));
        self.of_execution(execution, Outcome::Fired, mode.unwrap_or_default());
    }

    /// An Execution ended.
    pub fn ended(&self, execution: &Execution) {
        let conditions = execution.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let why = condition(conditions, ConditionType::Succeeded).map(why);
        self.of_execution(execution, Outcome::Ended, why.unwrap_or_default());
    }

    /// The episode of an Execution is over.
    pub fn closed(&self, execution: &Execution) {
        self.of_execution(execution, Outcome::Closed, String::new());
    }

    fn of_execution(&self, execution: &Execution, outcome: Outcome, reason: String) {
        let about = About {
            namespace: execution.namespace().unwrap_or_default(),
            rule: execution.rule().unwrap_or_default().to_owned(),
            target: execution.spec.target.as_ref(),
            event: event_of(execution),
        };
        self.decided(about, outcome, reason, execution.name_any());
    }

    /// An event led to nothing.
    pub fn suppressed(&self, rule: &Rule, target: &ObjectReference, event: &str, why: &str) {
        self.decided(
            About::rule(rule, Some(target), event),
            Outcome::Suppressed,
            why.to_owned(),
            String::new(),
        );
    }

    /// An event could not be decided about.
    pub fn failed(&self, rule: &Rule, target: Option<&ObjectReference>, event: &str, why: &str) {
        let about = About::rule(rule, target, event);
        self.decided(about, Outcome::Failed, why.to_owned(), String::new());
    }

    /// An event was over before it was decided about.
    pub fn passed_over(&self, facts: &RuleFacts, target: &ObjectReference, event: &str, why: &str) {
        let (namespace, rule) = (facts.namespace.clone(), facts.name.clone());
        let about = About { namespace, rule, target: Some(target), event: event.to_owned() };
        self.decided(about, Outcome::Suppressed, why.to_owned(), String::new());
    }

    /// A target that matches began to wait.
    pub fn held(&self, rule: &Rule, target: &ObjectReference, held: Held, until: Option<Timestamp>) {
        let until = until.map_or(String::new(), |until| format!(" until {until:.0}"));
        let why = format!("{held:?}{until}");
        self.decided(About::rule(rule, Some(target), ""), Outcome::Held, why, String::new());
    }

    /// A Rule became usable, or unusable.
    pub fn ready(&self, rule: &Rule, ready: &Condition) {
        let outcome = if ready.status == "True" { Outcome::Ready } else { Outcome::Unready };
        self.decided(About::rule(rule, None, ""), outcome, why(ready), String::new());
    }

    /// What became of the events of a batch is now this, and was that. What is recorded where it is decided is not
    /// recorded here once more.
    pub fn received(&self, batch: &EventBatch, before: &[EventOutcome], fresh: &[EventOutcome]) {
        // Outcomes keep their places.
        let news = fresh.iter().enumerate().filter(|(place, outcome)| before.get(*place) != Some(outcome));
        for (_, outcome) in news {
            let index = usize::try_from(outcome.event).unwrap_or(usize::MAX);
            let Some(accepted) = batch.spec.events.get(index) else { continue };
            self.record(|| accepted_event(batch, accepted));
            let kind = match outcome.outcome {
                OutcomeKind::NotMatched => Outcome::NotMatched,
                OutcomeKind::Duplicate => Outcome::Duplicate,
                OutcomeKind::Failed => Outcome::Failed,
                OutcomeKind::Suppressed if [TOO_MANY, WINDOW_ENDED].contains(&&*outcome.reason) => {
                    Outcome::Suppressed
                }
                OutcomeKind::Fired | OutcomeKind::Suppressed | OutcomeKind::Held | OutcomeKind::Resolved => {
                    continue;
                }
            };
            let about = About {
                namespace: batch.namespace().unwrap_or_default(),
                rule: outcome.rule.clone(),
                target: None,
                event: occurrence(&accepted.event),
            };
            self.decided(about, kind, outcome.reason.clone(), outcome.execution.clone().unwrap_or_default());
        }
    }

    fn decided(&self, about: About<'_>, outcome: Outcome, reason: String, execution: String) {
        self.record(|| {
            let About { namespace, rule, target, event } = about;
            let target = target.map(ToString::to_string).unwrap_or_default();
            Entry::Decision(Decision {
                time: now(),
                namespace,
                rule,
                target,
                event,
                outcome,
                reason,
                execution,
            })
        });
    }

    fn record(&self, entry: impl FnOnce() -> Entry) {
        if let Some(journal) = &self.0 {
            journal.record(entry());
        }
    }
}

impl<'a> About<'a> {
    fn rule(rule: &Rule, target: Option<&'a ObjectReference>, event: &str) -> Self {
        let (namespace, rule) = (rule.namespace().unwrap_or_default(), rule.name_any());
        Self { namespace, rule, target, event: event.to_owned() }
    }
}

fn accepted_event(batch: &EventBatch, accepted: &AcceptedEvent) -> Entry {
    let AcceptedEvent { event, alert, .. } = accepted;
    let data = match alert {
        Some(alert) => json!({"data": event.data.0, "alert": alert}),
        None => json!({"data": event.data.0}),
    };
    Entry::Event(Event {
        time: event.time.0,
        id: occurrence(event),
        source: format!("webhook/{}", batch.spec.webhook),
        event_type: event.event_type.clone(),
        namespace: batch.namespace().unwrap_or_default(),
        data: Arc::new(data),
    })
}

/// The event that an Execution was decided by, as the journal knows it.
fn event_of(execution: &Execution) -> String {
    let Some(decision) = &execution.spec.decision else { return String::new() };
    match &decision.event {
        Some(event) => occurrence(event),
        None if decision.matched.object.kind == "Event" => decision.occurrence.clone(),
        None => object_id(&decision.matched),
    }
}

/// What tells a version of an object from all others.
fn object_id(matched: &MatchedObject) -> String {
    let uid = matched.object.uid.as_deref().unwrap_or_default();
    format!("{uid}/{}", matched.resource_version)
}

fn why(condition: &Condition) -> String {
    match condition.message.as_str() {
        "" => condition.reason.clone(),
        message => format!("{}: {message}", condition.reason),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::{File, Filter, Keeping, Limits, Place};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn recorder() -> Recorder {
        let keeping = Keeping { place: Place::Memory, limits: Limits::default() };
        Recorder::new(Some(Journal::start(keeping, now).expect("starts")))
    }

    fn ask<T: Send + 'static>(recorder: &Recorder, question: impl FnOnce(&File) -> T + Send + 'static) -> T {
        recorder.0.as_ref().and_then(|journal| journal.ask(question, PATIENCE)).expect("answers")
    }

    fn decisions(recorder: &Recorder) -> Vec<[String; 5]> {
        let all = Filter { limit: 100, ..Filter::default() };
        let read = ask(recorder, move |file| file.decisions(&all).expect("reads"));
        let row = |d: Decision| [d.outcome.to_string(), d.rule, d.target, d.event, d.reason];
        read.into_iter().rev().map(row).collect()
    }

    fn execution(decision: Value) -> Execution {
        serde_json::from_value(json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": "r-1", "namespace": "a"},
            "spec": {"serviceAccountName": "s", "target": {"apiVersion": "v1", "kind": "Node", "name": "n"}, "decision": decision},
            "status": {"conditions": [{"type": "Succeeded", "status": "False", "reason": "ActionFailed",
                "message": "exit code 1", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .expect("an Execution")
    }

    fn decision(matched: Value, event: Value) -> Value {
        let mut decision = json!({"id": "1", "time": "2026-01-01T00:00:00Z", "rule": {"name": "r"}, "mode": "Enforce",
            "occurrence": "u/1", "matched": matched, "definition": "d"});
        if event.is_object() {
            decision["event"] = event;
        }
        decision
    }

    #[test]
    fn an_execution_is_told_of_with_the_event_that_led_to_it() {
        let recorder = recorder();
        let pod = json!({"object": {"apiVersion": "v1", "kind": "Pod", "namespace": "a", "name": "p", "uid": "u"},
            "resourceVersion": "7"});
        let event = json!({"object": {"apiVersion": "events.k8s.io/v1", "kind": "Event", "namespace": "a", "name": "e"}});
        let alert =
            json!({"id": "3", "source": "s", "type": "t", "time": "2026-01-01T00:00:00.000000Z", "data": {}});
        let by_object = execution(decision(pod.clone(), Value::Null));
        recorder.fired(&by_object);
        recorder.fired(&execution(decision(event, Value::Null)));
        recorder.fired(&execution(decision(pod, alert)));
        recorder.ended(&by_object);
        recorder.closed(&by_object);
        let row = |outcome: &str, event: &str, reason: &str| {
            [outcome, "r", "Node/n", event, reason].map(str::to_owned)
        };
        assert_eq!(
            decisions(&recorder),
            [
                row("Fired", "u/7", "Enforce"),
                row("Fired", "u/1", "Enforce"),
                row("Fired", "s 3", "Enforce"),
                row("Ended", "u/7", "ActionFailed: exit code 1"),
                row("Closed", "u/7", ""),
            ]
        );
    }

    #[test]
    fn what_a_webhook_received_is_told_once_with_what_became_of_it() {
        let recorder = recorder();
        let batch: EventBatch = serde_json::from_value(json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch", "metadata": {"name": "b", "namespace": "a"},
            "spec": {"webhook": "w", "receivedAt": "2026-01-01T00:00:00.000000Z", "events": [{"rules": ["r", "q"], "event":
                {"id": "1", "source": "s", "type": "t", "time": "2026-01-01T00:00:00.000000Z", "data": {"n": 1}}}]},
        }))
        .expect("a batch");
        let outcome = |rule: &str, outcome: &str| -> EventOutcome {
            let time = "2026-01-01T00:00:00Z";
            serde_json::from_value(
                json!({"event": 0, "rule": rule, "outcome": outcome, "reason": "why", "time": time}),
            )
            .expect("an outcome")
        };
        let outcomes = [outcome("r", "NotMatched"), outcome("q", "Fired")];
        recorder.received(&batch, &[], &outcomes[..1]);
        recorder.received(&batch, &outcomes[..1], &outcomes);
        let all = Filter { limit: 10, ..Filter::default() };
        let events = ask(&recorder, move |file| file.events(&all).expect("reads"));
        assert_eq!((events.len(), events[0].source.as_str(), events[0].id.as_str()), (1, "webhook/w", "s 1"));
        assert_eq!(*events[0].data, json!({"data": {"n": 1}}));
        assert_eq!(decisions(&recorder), [["NotMatched", "r", "", "s 1", "why"].map(str::to_owned)]);
    }

    #[test]
    fn without_a_journal_nothing_is_told() {
        let recorder = Recorder::default();
        recorder.closed(&execution(Value::Null));
        assert_eq!(recorder.health(), None);
    }
}
