//! Events that Kubernetes keeps. Each that matches is led to its target, to be decided about once.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Eye;
use crate::api::{CapturedEvent, ObjectReference, Target};
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result, owners};
use crate::controller::lead::matched;
use crate::controller::rule::passed_over::Why;
use crate::controller::rule::seen::{Edge, key_of};
use crate::controller::rule::unwatched::recorded;
use crate::controller::rule::windows::{Capturing, Happened, happened};
use crate::decide::correlation::{Captured, Found};
use crate::decide::identity;
use crate::decide::matching::{event_identity, is_own, occurred};
use crate::decide::view::ObjectKey;
use crate::expr::{EvalError, EvalErrorKind};
use crate::source::watch::now;

/// Events that wait for their decision, and sets of them for their target, at the most: a flood is cut, not hoarded.
const EDGES: usize = 1000;
/// How long a list that is to show that nothing has happened rests.
const PROVE_EVERY: SignedDuration = SignedDuration::from_secs(5);

impl Eye {
    /// Whether something that happened matches; takes in that it does not, or cannot be judged.
    pub(super) fn is_match(
        &mut self,
        key: &ObjectKey,
        matches: std::result::Result<bool, EvalError>,
    ) -> bool {
        match matches {
            Ok(true) => return true,
            Err(error) if error.kind != EvalErrorKind::Absent => {
                self.count("error");
                self.mistake(key, &error.to_string());
            }
            // Fields come and go: what lacks one does not match, and that is no mistake.
            Ok(false) | Err(_) => {
                self.judged(key);
                self.count("not_matched");
            }
        }
        false
    }

    /// Has the rule decide about an event.
    pub(super) fn wait_for_decision(&self, edge: Edge) {
        let mut state = self.state.lock();
        // A list brings again what waits already.
        let room = state.edges.len() < EDGES || state.edges.contains_key(&edge.occurrence);
        if room {
            state.edges.insert(edge.occurrence.clone(), edge);
        } else {
            state.overflown += 1;
        }
        drop(state);
        self.metrics.received("event", if room { "accepted" } else { "dropped" }, now().as_second());
        self.wake();
    }

    pub(super) async fn event(&mut self, event: &Arc<Value>) {
        let (occurrence, time) = (event_identity(event), occurred(event, now()));
        if time < self.rule.created_at {
            return self.too_early(event, (&occurrence, time));
        }
        if self.state.lock().decided.has(&occurrence) {
            return self.metrics.received("event", "deduplicated", now().as_second());
        }
        self.metrics.lagged(now().duration_since(time).as_secs_f64().max(0.0));
        let key = key_of(event);
        if !self.is_match(&key, self.rule.matches_event(event, now())) {
            return;
        }
        self.unresolved.remove(&key);
        if let Some(capturing) = &mut self.capturing {
            return match capturing.take(event, (&occurrence, time), now()) {
                Ok(dropped) => {
                    self.judged(&key);
                    self.pushed_out(&dropped);
                }
                Err(error) => {
                    self.count("error");
                    self.mistake(&key, &error.to_string());
                }
            };
        }
        self.lead(event, (occurrence, time), Vec::new()).await;
    }

    /// Tells of an Event that would have led to something, had the rule been there.
    fn too_early(&mut self, event: &Arc<Value>, (occurrence, time): (&str, Timestamp)) {
        if !self.told.has(occurrence) && matches!(self.rule.matches_event(event, now()), Ok(true)) {
            self.journal.kubernetes_event(&matched(event), (occurrence, time), event);
            self.passes_over((&regarding(event), occurrence), Why::BeforeRule);
        }
    }

    /// Leads what has become complete to its targets, given that all that happened by a time was told.
    pub(super) async fn complete(&mut self, told_by: Timestamp) {
        let known_by = self.led_by(told_by);
        let Some(capturing) = &mut self.capturing else { return };
        let found = capturing.complete(known_by);
        let ended = capturing.ended();
        let (settled, mistake) = capturing.mistake();
        self.state.lock().dropped = capturing.dropped();
        self.never_counts(&ended, Why::WindowEnded);
        if let Some(key) = &settled {
            self.judged(key);
        }
        if let Some((key, text)) = mistake {
            self.mistake(&key, &text);
        }
        for found in found {
            self.lead_together(found).await;
        }
    }

    /// Leads again what is complete and could not be led. Not with each delivery: it costs a request for each of them.
    pub(super) async fn lead_again(&mut self) {
        let found = self.capturing.as_mut().map(Capturing::take_back).unwrap_or_default();
        for found in found {
            self.lead_together(found).await;
        }
    }

    async fn lead_together(&mut self, found: Found) {
        let Some((_, event)) = found.events.last() else { return };
        if let Some(happened) = happened(event) {
            let edge = Edge::together(&found, happened, recorded(&self.rule, &found));
            return self.wait_for_decision(edge);
        }
        let event = Arc::new(event.data["data"].clone());
        let captured = recorded(&self.rule, &found);
        if !self.lead(&event, (found.occurrence.clone(), found.time), captured).await {
            self.put_back(found);
        }
    }

    /// Counts and tells of Events for which there was no room among those that wait for others.
    pub(super) fn pushed_out(&mut self, events: &[Captured]) {
        let Some(capturing) = self.capturing.as_ref().filter(|_| !events.is_empty()) else { return };
        self.state.lock().dropped = capturing.dropped();
        self.never_counts(events, Why::TooMany);
        self.wake();
    }

    /// Tells of Events that waited for others and will not any more.
    pub(super) fn never_counts(&mut self, events: &[Captured], why: Why) {
        for over in events {
            let happened = happened(over);
            let occurrence = match &happened {
                Some((happened, _)) => identity::occurrence(&happened.event),
                None => over.id.clone(),
            };
            if self.told.has(&occurrence) {
                continue;
            }
            if let Some((Happened { event, .. }, target)) = happened {
                self.journal.told(&event, &self.rule.facts.namespace);
                self.passes_over((&target, &occurrence), why);
                continue;
            }
            let event = Arc::new(over.data["data"].clone());
            self.journal.kubernetes_event(&matched(&event), (&occurrence, over.time), &event);
            self.passes_over((&regarding(&event), &occurrence), why);
        }
    }

    /// Keeps what could not be led yet. The oldest goes if there is too much, and is told of with all that makes it.
    fn put_back(&mut self, found: Found) {
        let oldest = self.capturing.as_mut().and_then(|capturing| capturing.put_back(found, EDGES));
        let Some(oldest) = oldest else { return };
        self.state.lock().overflown += 1;
        self.metrics.received("event", "dropped", now().as_second());
        let events: Vec<_> = oldest.events.into_iter().map(|(_, event)| event).collect();
        self.never_counts(&events, Why::TooMany);
        self.wake();
    }

    /// Whether something would be complete if a list showed that nothing has happened.
    pub(super) fn is_due(&self) -> bool {
        // A list does not say where that leads which has no target yet.
        let by = self.led_by(now());
        let due = self.capturing.as_ref().is_some_and(|capturing| capturing.is_due(by));
        due && now().duration_since(self.resynced) > PROVE_EVERY
    }

    /// Leads an event to its target, to be decided about; says whether that is settled.
    async fn lead(
        &mut self,
        event: &Arc<Value>,
        (occurrence, time): (String, Timestamp),
        captured: Vec<CapturedEvent>,
    ) -> bool {
        let (key, alone) = (key_of(event), captured.is_empty());
        let regarded = self.regarded(event).await;
        if regarded.is_ok() {
            self.judged(&key);
        }
        match regarded {
            Ok(None) => {}
            Ok(Some(target)) => {
                self.wait_for_decision(Edge::of_event(event, target, (occurrence, time), captured));
            }
            Err(error) => {
                self.mistake(&key, &error.to_string());
                let settled = matches!(error, Error::Unexpected(_));
                if !settled && alone {
                    self.unresolved.insert(key, event.clone());
                }
                return settled;
            }
        }
        true
    }

    /// The target of an event: the object that it regards, led on as the rule says; none for fother's own.
    async fn regarded(&self, event: &Value) -> Result<Option<ObjectReference>> {
        let regarding: ObjectReference = serde_json::from_value(event["regarding"].clone())
            .map_err(|error| Error::Unexpected(format!("the Event regards no object: {error}")))?;
        let how = self.rule.target(&regarding.kind);
        let objects = Objects::around(self.account.client(), &self.kinds, &regarding).await?;
        match objects.get(&regarding.name).await? {
            Some(object) if is_own(&object) => Ok(None),
            Some(object) if how != Target::Object => {
                owners::resolve(&self.account.client(), &self.kinds, &object, &how).await.map(Some)
            }
            live if how == Target::Object => Ok(Some(led_by_event(regarding, live.as_deref()))),
            _ => Err(Error::Unexpected(format!("{regarding} does not exist any more"))),
        }
    }
}

/// What an Event says that it regards, to be named and no more.
fn regarding(event: &Value) -> ObjectReference {
    serde_json::from_value(event["regarding"].clone()).unwrap_or_default()
}

/// What an Event regards, with a UID that is one: the kubelet writes a Node's name there. A true one stays, as what the
/// Event tells is of that very object and not of another that has taken its name.
fn led_by_event(regarding: ObjectReference, live: Option<&Value>) -> ObjectReference {
    let told = regarding.uid.clone().filter(|uid| !uid.is_empty() && *uid != regarding.name);
    let uid = told.or_else(|| live.and_then(|live| owners::reference(live).uid));
    ObjectReference { uid, ..regarding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::rule::evaluator::tests::eye;
    use serde_json::json;

    fn event(number: usize) -> Arc<Value> {
        let time = "1970-01-02T00:00:00Z";
        let pier =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "a", "name": "pier", "uid": "p"});
        let metadata = json!({"namespace": "a", "name": format!("e{number}"), "uid": number.to_string(),
            "creationTimestamp": time});
        Arc::new(json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "reason": "Odd",
            "metadata": metadata, "eventTime": time, "regarding": pier}))
    }

    #[tokio::test]
    async fn what_waits_already_is_not_dropped_when_a_list_brings_it_again() {
        let (eye, _server) = eye(&json!({"trigger": {"event": {"reasons": ["Odd"]}}})).await;
        let edge = |number: usize| {
            let (event, occurrence) = (event(number), (number.to_string(), Timestamp::UNIX_EPOCH));
            Edge::of_event(&event, regarding(&event), occurrence, Vec::new())
        };
        for number in (0..=EDGES).chain([0]) {
            eye.wait_for_decision(edge(number));
        }
        let state = eye.state.lock();
        assert_eq!((state.edges.len(), state.overflown), (EDGES, 1), "for the last there is no room");
    }

    #[tokio::test]
    async fn sets_without_a_target_are_cut_and_not_tried_with_each_delivery() {
        let any = json!({"within": "10m", "any": [{"name": "odd", "when": "true"}]});
        let rule = json!({"trigger": {"event": {"reasons": ["Odd"]}}, "correlate": any});
        let (mut eye, server) = eye(&rule).await;
        server.is_up(false);
        // All at once are more than a window has room for.
        for (first, end) in [(0, EDGES / 2), (EDGES / 2, EDGES + 1)] {
            for number in first..end {
                eye.event(&event(number)).await;
            }
            eye.complete(now()).await;
        }
        assert_eq!((server.asked(), eye.state.lock().overflown), (EDGES + 1, 1));
        assert!(eye.told.has("0/0"), "the oldest goes");
        server.is_up(true);
        eye.look_again().await;
        assert_eq!((server.asked(), eye.state.lock().edges.len()), (EDGES + 1 + EDGES, EDGES));
        eye.look_again().await;
        assert_eq!(server.asked(), EDGES + 1 + EDGES, "they are led");
    }

    #[test]
    fn the_name_of_a_node_is_not_taken_for_its_uid() {
        let node = |uid: Option<&str>| ObjectReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: None,
            name: "n1".into(),
            uid: uid.map(str::to_owned),
        };
        let live = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}});
        for (told, live, uid) in [
            (Some("n1"), Some(&live), Some("u")),
            (Some(""), Some(&live), Some("u")),
            (None, Some(&live), Some("u")),
            (Some("older"), Some(&live), Some("older")),
            (Some("n1"), None, None),
        ] {
            assert_eq!(led_by_event(node(told), live), node(uid), "{told:?}");
        }
    }
}
