//! What happens to objects: changes, creations, deletions. Nobody keeps it; each that matches is led to its target, to be
//! decided about once.

use std::collections::BTreeSet;
use std::sync::Arc;

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

    fn waits_for_target(&mut self, happening: Happening) {
        let Some(Happening { object, event }) = self.unled.keep(happening) else { return };
        self.state.lock().overflown += 1;
        self.metrics.received("resource", "dropped", now().as_second());
        self.passes_over((&matched(&object).object, &event.id), Why::TooMany);
        self.wake();
    }
}
