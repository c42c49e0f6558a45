//! What happens to objects: changes, creations, deletions. Nobody keeps it; each that matches is led to its target, to be
//! decided about once.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::Eye;
use crate::api::ObjectReference;
use crate::cluster::Error;
use crate::controller::lead::{self, matched};
use crate::controller::rule::before::{Before, Change, Was};
use crate::controller::rule::happening::Happening;
use crate::controller::rule::lives::{Shown, Turn};
use crate::controller::rule::passed_over::Why;
use crate::controller::rule::seen::{Edge, handled_by, key_of, too_old};
use crate::decide::capture::Correlation;
use crate::decide::change::LARGEST;
use crate::decide::identity;
use crate::decide::view::ObjectKey;
use crate::source::watch::{Synced, now};

impl Eye {
    /// Looks at what is an event, or may be one of an object.
    pub(super) async fn happens(&mut self, object: &Arc<Value>, shown: Shown) {
        if self.lives.is_some() {
            return self.lives(object, shown).await;
        }
        let Some(before) = &mut self.before else { return self.event(object).await };
        match before.change(&self.rule, object) {
            Was::Other(change) => self.changed(change).await,
            Was::Passed => {
                self.metrics.received("resource", "dropped", now().as_second());
                self.notice_narrowness();
            }
            Was::Unknown => {}
        }
    }

    /// Takes in that there are more objects than can be known, or are not any more.
    pub(super) fn notice_narrowness(&self) {
        let before = self.before.as_ref().and_then(Before::narrow);
        let narrow = before.or_else(|| self.lives.as_ref()?.narrow());
        let mut state = self.state.lock();
        if state.narrow != narrow {
            state.narrow = narrow;
            drop(state);
            self.wake();
        }
    }

    /// Leads a change that matches to its target, to be decided about.
    async fn changed(&mut self, (object, old): Change) {
        let (key, now) = (key_of(&object), now());
        self.metrics.received("resource", "accepted", now.as_second());
        if self.is_match(&key, self.rule.matches_change(&object, &old, now)) {
            // It was seen to happen, so it is not from before the rule, whose creation is known to the second.
            let event = self.rule.change(&object, &old, now.max(self.rule.created_at));
            self.happened(Happening { object, event }).await;
        }
    }

    /// Looks at an object that is there, for a rule about creation or deletion.
    async fn lives(&mut self, object: &Arc<Value>, shown: Shown) {
        let Some(lives) = &mut self.lives else { return };
        for turn in lives.take(&self.rule, object, shown, now()) {
            self.moment(&turn).await;
        }
    }

    /// Takes in that an object is gone, as it was seen last.
    pub(super) async fn gone(&mut self, object: &Arc<Value>) {
        let Some(lives) = &mut self.lives else { return };
        if let Some(turn) = lives.lose(&self.rule, object, now()) {
            self.moment(&turn).await;
        }
    }

    /// Takes in which objects a complete list does not have.
    pub(super) async fn retain(&mut self, listed: &BTreeSet<ObjectKey>, synced: &Synced) {
        self.before.as_mut().into_iter().for_each(|before| before.retain(listed));
        let (rule, until) = (&self.rule, (handled_by(synced.asked), now()));
        let gone = self.lives.as_mut().map(|lives| lives.compare(rule, listed, until)).unwrap_or_default();
        for turn in gone {
            self.moment(&turn).await;
        }
        self.notice_narrowness();
    }

    /// Leads a moment of an object's life that matches to its target, to be decided about.
    async fn moment(&mut self, Turn { object, moment, time }: &Turn) {
        let (event, key) = (self.rule.moment(object, *moment, *time), key_of(object));
        let (occurrence, now) = (identity::occurrence(&event), now());
        if matched(object).object.uid.is_none_or(|uid| uid.is_empty()) {
            self.count("error");
            return self.mistake(&key, "it has no UID that tells it from what had its name before");
        }
        if self.state.lock().decided.has(&occurrence) {
            return self.metrics.received("resource", "deduplicated", now.as_second());
        }
        self.metrics.received("resource", "accepted", now.as_second());
        if !self.is_match(&key, self.rule.matches_moment(object, &event, now)) {
            return;
        }
        if too_old(&self.rule, *time, now) {
            self.journal.told(&event, &self.rule.facts.namespace);
            return self.passes_over((&matched(object).object, &occurrence), Why::TooOld);
        }
        self.happened(Happening { object: object.clone(), event }).await;
    }

    /// Leads to its target what has happened and matches.
    pub(super) async fn happened(&mut self, happening: Happening) {
        let key = key_of(&happening.object);
        let size = happening.event.data.0.to_string().len();
        if size > LARGEST {
            self.count("error");
            return self.mistake(&key, &format!("what is read of it has {size} bytes; at most {LARGEST}"));
        }
        let of = (&happening.object, &happening.event);
        match lead::from_happening(&self.account.client(), &self.kinds, &self.rule, of).await {
            Ok(target) => {
                self.judged(&key);
                self.led(happening, target);
            }
            Err(error @ Error::Unexpected(_)) if self.lives.is_some() => {
                // With an object its owners may be gone; a text that leads nowhere is a mistake of the Rule.
                match self.rule.aim {
                    None => self.judged(&key),
                    Some(_) => self.mistake(&key, &error.to_string()),
                }
                self.leads_nowhere(&happening, &error);
            }
            Err(error) => {
                self.mistake(&key, &error.to_string());
                if !matches!(error, Error::Unexpected(_)) {
                    self.waits_for_target(happening);
                }
            }
        }
    }

    /// Has the rule decide about what has happened, or lets it wait for others.
    fn led(&mut self, happening: Happening, target: ObjectReference) {
        let Some(capturing) = &mut self.capturing else {
            return self.wait_for_decision(Edge::of_object(&self.rule, happening, target));
        };
        match capturing.take_happening(&happening, &target, now()) {
            Ok(dropped) => self.pushed_out(&dropped),
            Err(error) => {
                self.count("error");
                self.mistake(&key_of(&happening.object), &error.to_string());
            }
        }
    }

    /// Tells of a moment that leads to nothing: with an object its owners may be gone.
    fn leads_nowhere(&mut self, happening: &Happening, error: &Error) {
        let occurrence = identity::occurrence(&happening.event);
        tracing::debug!(rule = %self.rule.facts.name, occurrence, %error, "leads nowhere");
        self.journal.told(&happening.event, &self.rule.facts.namespace);
        self.passes_over((&matched(&happening.object).object, &occurrence), Why::NoTarget);
    }

    /// Keeps what has no target yet, to look again. In an absence nothing later is missed as long as it waits, so there it waits
    /// until nobody would answer it any more, and not for ever.
    fn waits_for_target(&mut self, happening: Happening) {
        if self.is_about_absence() && too_old(&self.rule, happening.event.time.0, now()) {
            return self.gives_up(&happening, Why::TooOld);
        }
        let Some(oldest) = self.unled.keep(happening) else { return };
        self.state.lock().overflown += 1;
        self.metrics.received("resource", "dropped", now().as_second());
        self.gives_up(&oldest, Why::TooMany);
    }

    /// Tells of what will never be led, and of what awaited something like it: that may not be said to stay away.
    fn gives_up(&mut self, happening: &Happening, why: Why) {
        let Happening { object, event } = happening;
        self.journal.told(event, &self.rule.facts.namespace);
        self.passes_over((&matched(object).object, &identity::occurrence(event)), why);
        let awaited = self.capturing.as_mut().map(|capturing| capturing.let_go(happening, now()));
        self.never_counts(&awaited.unwrap_or_default(), why);
        self.wake();
    }

    fn is_about_absence(&self) -> bool {
        self.rule.correlation.as_ref().is_some_and(Correlation::is_absence)
    }

    /// By when all that happened has been led, given that it was told by a time. What has no target yet may be what is
    /// expected, or await what has come and is not to be forgotten before.
    pub(super) fn led_by(&self, told_by: Timestamp) -> Timestamp {
        let unled = self.unled.since().filter(|_| self.is_about_absence());
        unled.map_or(told_by, |since| since.min(told_by))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::api::Moment;
    use crate::controller::rule::evaluator::tests::eye;

    /// Pods that go, and none that comes within five minutes; all of one target.
    fn absence() -> Value {
        json!({"trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "lifecycle": ["Created", "Deleted"]}},
            "target": {"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "pier"}},
            "correlate": {"within": "5m", "absent": {
                "after": {"name": "went", "when": "event.type == 'Deleted'"},
                "expected": {"name": "came", "when": "event.type == 'Created'"}}}})
    }

    fn ago(now: Timestamp, seconds: i64) -> Timestamp {
        now - SignedDuration::from_secs(seconds)
    }

    /// Shows an eye a moment of a Pod's life.
    async fn show(eye: &mut Eye, (uid, moment): (&str, Moment), time: Timestamp) {
        let metadata = json!({"namespace": "a", "name": uid, "uid": uid});
        let object = Arc::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}));
        let event = eye.rule.moment(&object, moment, time);
        eye.happened(Happening { object, event }).await;
    }

    /// Whether the journal has been told of what happened, by the name that its event has there.
    fn is_told(eye: &Eye, id: &str) -> bool {
        eye.told.has(&format!("v1/Pod {id}"))
    }

    /// What is to be decided about.
    fn acts(eye: &Eye) -> String {
        let edges: Vec<_> = eye.state.lock().edges.keys().cloned().collect();
        edges.join(" ")
    }

    #[tokio::test]
    async fn what_has_no_target_yet_may_be_what_is_expected() {
        let (now, (mut eye, server)) = (now(), eye(&absence()).await);
        show(&mut eye, ("1", Moment::Deleted), ago(now, 1200)).await;
        show(&mut eye, ("2", Moment::Deleted), ago(now, 600)).await;
        server.is_up(false);
        show(&mut eye, ("3", Moment::Created), ago(now, 301)).await;
        eye.synced = true;
        eye.resynced = Timestamp::UNIX_EPOCH;
        eye.replace(&Synced { asked: now, version: String::new() }).await;
        assert_eq!(acts(&eye), "1/Deleted", "what was over before is not held");
        eye.look_again().await;
        assert_eq!(acts(&eye), "1/Deleted");
        assert!(!eye.unled.is_empty() && !eye.is_due(), "a list does not help");
        server.is_up(true);
        eye.look_again().await;
        assert!(eye.unled.is_empty() && is_told(&eye, "2/Deleted"), "led before it is asked what is missed");
        eye.complete(now).await;
        assert_eq!(acts(&eye), "1/Deleted");
    }

    #[tokio::test]
    async fn what_has_come_is_not_forgotten_before_what_awaited_it_is_led() {
        let (now, (mut eye, server)) = (now(), eye(&absence()).await);
        show(&mut eye, ("2", Moment::Created), ago(now, 599)).await;
        server.is_up(false);
        show(&mut eye, ("1", Moment::Deleted), ago(now, 600)).await;
        eye.complete(now).await;
        server.is_up(true);
        eye.look_again().await;
        eye.complete(now).await;
        assert_eq!((acts(&eye).as_str(), eye.unled.is_empty()), ("", true));
    }

    #[tokio::test]
    async fn what_is_never_led_holds_nothing_for_ever_and_nothing_is_missed_for_it() {
        let (now, (mut eye, server)) = (now(), eye(&absence()).await);
        show(&mut eye, ("1", Moment::Deleted), ago(now, 7200)).await;
        show(&mut eye, ("2", Moment::Deleted), ago(now, 6000)).await;
        server.is_up(false);
        show(&mut eye, ("3", Moment::Created), ago(now, 6901)).await;
        show(&mut eye, ("4", Moment::Deleted), ago(now, 5990)).await;
        assert!(eye.unled.is_empty(), "they are of more than an hour before the window");
        assert!(["1/Deleted", "3/Created", "4/Deleted"].iter().all(|event| is_told(&eye, event)));
        eye.complete(now).await;
        assert_eq!(acts(&eye), "2/Deleted", "nothing that may have followed it was lost");
    }

    #[tokio::test]
    async fn what_is_pushed_out_may_be_what_is_expected() {
        let (now, (mut eye, server)) = (now(), eye(&absence()).await);
        show(&mut eye, ("1", Moment::Deleted), ago(now, 600)).await;
        server.is_up(false);
        show(&mut eye, ("2", Moment::Created), ago(now, 500)).await;
        // As many as there is room for.
        for number in 100..200 {
            show(&mut eye, (&number.to_string(), Moment::Created), ago(now, 200)).await;
        }
        assert_eq!(eye.state.lock().overflown, 1);
        eye.complete(now).await;
        assert_eq!(acts(&eye), "");
        assert!(is_told(&eye, "1/Deleted") && is_told(&eye, "2/Created"));
    }
}
