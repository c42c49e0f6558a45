//! Alerts are states: those that fire and lead to one target are decided about together.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::try_join;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{Listener, known};
use crate::api::{CapturedEvent, Execution, ObjectReference, OutcomeKind};
use crate::cluster::{Error, Result};
use crate::controller::heard::{self, From};
use crate::controller::rule::fire::{self, Making};
use crate::controller::rule::load::Counted;
use crate::controller::rule::{Executions, LOOK_AGAIN, executions_of, objection, past_of, targets};
use crate::decide::alerts::Set;
use crate::decide::episode::{self, Held, Load, Past, Question, Verdict};
use crate::decide::firing::LATECOMERS;
use crate::decide::identity::TargetKey;
use crate::decide::inbox::{Inbox, Item, heard_at, starts_at};
use crate::decide::lead::{self, Lead};
use crate::decide::matching::received;
use crate::decide::view::{Sight, TargetView};
use crate::source::watch::now;

/// The type of an alert that fires, as an event.
const FIRING: &str = "alert.firing";

/// Alerts that lead to one target.
pub(super) struct Alerts {
    pub(super) view: TargetView,
    /// The first comes first: it stands for all.
    pub(super) items: Vec<Item>,
    /// What they are complete together as, if the rule asks for that.
    pub(super) set: Option<Set>,
}

impl Alerts {
    /// The one that stands for all, by what the watch has brought.
    fn first(&self) -> Option<&Item> {
        self.set.as_ref().map_or_else(|| self.items.first(), Set::last)
    }
}

impl Listener<'_> {
    /// Decides about each target that alerts lead to, and each whose episode is open.
    pub(super) async fn alerts(&mut self, inbox: Inbox) {
        let executions = executions_of(self.context, self.case.compiled);
        let found = if let Some(correlation) = &self.case.compiled.correlation {
            self.sets(inbox, correlation, &executions)
        } else {
            self.note_all(inbox.over);
            self.unjudged_before(&inbox.unjudged);
            self.grouped(inbox.firing, &executions)
        };
        for target in targets(found.keys(), &executions) {
            let decided = self.target(target, found.get(target), known(&executions, target)).await;
            if let Err(error) = decided {
                self.round.failed.get_or_insert_with(|| (target.clone(), error));
            }
        }
    }

    /// Takes in alerts that fire and could not be judged earlier, unless time alone has it that they mean nothing by now.
    fn unjudged_before(&mut self, unjudged: &[Item]) {
        for item in unjudged {
            if !matches!(lead::matches(self.case.compiled, item.accepted(), now()), Err(Lead::Nowhere(_))) {
                self.is_unjudged(item);
            }
        }
    }

    /// The alerts by their targets.
    fn grouped(&mut self, firing: Vec<Item>, executions: &Executions) -> BTreeMap<TargetKey, Alerts> {
        let (mut found, matched) = (BTreeMap::<TargetKey, Alerts>::new(), self.matched());
        for item in firing {
            let Some(target) = self.lead(&item) else { continue };
            let (key, began) = (TargetKey::from(&target), starts_at(&item).unwrap_or_else(now));
            let heard = heard_at(&item, &self.case.compiled.facts.name);
            let when = (began, heard);
            if let Some(known) = remedied(known(executions, &key), item.fingerprint(), when) {
                self.note(&item, OutcomeKind::Duplicate, "it was dealt with", Some(known));
                continue;
            }
            let view = TargetView {
                target,
                object: matched.clone(),
                since: began,
                began: Some(began),
                together: Vec::new(),
            };
            let alerts = found.entry(key).or_insert_with(|| Alerts { view, items: Vec::new(), set: None });
            alerts.view.since = alerts.view.since.min(began);
            alerts.view.began = alerts.view.began.max(Some(began));
            alerts.items.push(item);
        }
        for alerts in found.values_mut() {
            alerts.items.sort_by_key(starts_at);
        }
        found
    }

    async fn target(
        &mut self,
        target: &TargetKey,
        alerts: Option<&Alerts>,
        executions: &[Arc<Execution>],
    ) -> Result<()> {
        let past = past_of(executions);
        let items = alerts.map_or(&[][..], |alerts| &alerts.items);
        let (context, view) = (self.context, alerts.map(|alerts| &alerts.view));
        let mut verdict = self.verdict(target, view, &past);
        if let (Verdict::Fire { .. }, Some(alerts)) = (&verdict, alerts) {
            match self.fire(target, alerts, &past).await? {
                Some(otherwise) => verdict = otherwise,
                None => return Ok(()),
            }
        }
        match verdict {
            Verdict::InEpisode => {
                let name = latest(executions).map(|execution| execution.name_any());
                for item in items {
                    self.note(item, OutcomeKind::Fired, "", name.clone());
                }
            }
            Verdict::Close => {
                fire::close(context, executions).await?;
                self.round.wake_in(LOOK_AGAIN);
            }
            Verdict::Prove => self.round.wake_in(LOOK_AGAIN),
            Verdict::Held(held, until) => {
                if let Some(view) = view {
                    self.wait_for(target, &view.target, (held, until));
                }
                self.wait(items, &format!("{held:?}"));
            }
            Verdict::Clear | Verdict::Fire { .. } => {}
        }
        Ok(())
    }

    fn question<'q>(
        &'q self,
        target: &'q TargetKey,
        view: Option<&'q TargetView>,
        past: &'q [Past],
    ) -> Question<'q> {
        let seen = self.case.seen.sight;
        let all_resolved = seen.all_resolved && !self.unjudged.contains(target);
        let sight = Sight { all_resolved, ..seen };
        Question { rule: &self.case.compiled.facts, target, view, sight, past }
    }

    fn verdict(&self, target: &TargetKey, view: Option<&TargetView>, past: &[Past]) -> Verdict {
        let counted = Counted { rule: &self.case.compiled.facts, target, since: None, now: now() };
        let (caps, question) = (self.context.caps, self.question(target, view, past));
        match episode::decide(question, Load::default(), caps, now()) {
            // What goes on elsewhere is counted only for who would fire else.
            Verdict::Fire { id, .. } => {
                let load = self.context.places.load(&self.context.executions, counted, &id);
                episode::decide(question, load, caps, now())
            }
            verdict => verdict,
        }
    }

    fn wait(&mut self, items: &[Item], why: &str) {
        for item in items {
            self.note(item, OutcomeKind::Held, why, None);
        }
    }

    /// Holds a target if something speaks against acting for an alert now; says whether it does.
    async fn object(
        &mut self,
        (target, live): (&TargetKey, &ObjectReference),
        alerts: &Alerts,
        alert: &Item,
        captured: &[CapturedEvent],
    ) -> Result<bool> {
        let event = json!(alert.accepted().event);
        let bindings = received(&event, &self.case.compiled.spec.trigger, now());
        let raised = objection::raised(self.context, self.case, (bindings, captured), live).await?;
        let Some(objection) = raised else { return Ok(false) };
        self.round.object(target, &objection);
        self.wait(&alerts.items, &format!("{:?} {objection}", Held::Unless));
        self.wait_for(target, &alerts.view.target, (Held::Unless, None));
        Ok(true)
    }

    /// The alert that stands for all, if by what the API server has at this moment it is as it seemed.
    async fn still(&self, alerts: &Alerts) -> Result<Option<Item>> {
        if let Some(set) = &alerts.set {
            return self.still_complete(set).await;
        }
        let (compiled, target) = (self.case.compiled, &alerts.view.target);
        match heard::firing(self.context, compiled, target, From::ApiServer).await {
            // What cannot be judged any more is no reason to act.
            Err(Error::Unexpected(_)) => Ok(None),
            found => found,
        }
    }

    /// Fires for alerts, after a last look at what the API server has of them and of the target; the verdict, if they are
    /// decided otherwise by what it has of Executions.
    async fn fire(&mut self, target: &TargetKey, alerts: &Alerts, past: &[Past]) -> Result<Option<Verdict>> {
        let context = self.context;
        let counted = Counted { rule: &self.case.compiled.facts, target, since: None, now: now() };
        let question = self.question(target, Some(&alerts.view), past);
        let taken = context.places.take(&context.executions, counted, |load| {
            match episode::decide(question, load, context.caps, now()) {
                Verdict::Fire { id, occurrence } => Ok((id, occurrence)),
                verdict => Err(verdict),
            }
        });
        let (id, occurrence, place) = match taken {
            Ok(taken) => taken,
            Err(verdict) => return Ok(Some(verdict)),
        };
        let Some(first) = alerts.first() else { return Ok(None) };
        let (account, aimed) = (self.case.account, &alerts.view.target);
        let (live, ()) = try_join!(fire::live(context, account, aimed), fire::permitted(context, account))?;
        let Some(live) = live else {
            self.wait(&alerts.items, &format!("{target} does not exist"));
            self.wait_for(target, &alerts.view.target, (Held::TargetMissing, None));
            return Ok(None);
        };
        let captured = self.recorded(alerts.set.as_ref());
        if self.object((target, &live), alerts, first, &captured).await? {
            return Ok(None);
        }
        // The last look, as it is at all that is kept: what has to wait in a storm must not ask for it again and again.
        let Some(alert) = self.still(alerts).await? else {
            self.round.wake_in(LOOK_AGAIN);
            return Ok(None);
        };
        let is_another = alert.accepted().event != first.accepted().event;
        if is_another && self.object((target, &live), alerts, &alert, &captured).await? {
            return Ok(None);
        }
        let making = Making {
            rule: self.case.rule,
            id,
            occurrence,
            target: &live,
            matched: &alerts.view.object,
            since: Some(alerts.view.since),
            event: Some(&alert.accepted().event),
            captured: &captured,
            depth: 0,
            passed: fire::passed(self.case.compiled),
        };
        let name = making.name();
        fire::create(context, making, (place, None)).await?;
        for item in &alerts.items {
            self.note(item, OutcomeKind::Fired, "", Some(name.clone()));
        }
        Ok(None)
    }
}

/// The Execution that has dealt with an alert of this start: its episode is over, and what still says that the alert
/// fires was sent before that, or is late. What is heard of for the first time long after it fires on, under the start that it had.
fn remedied(
    executions: &[Arc<Execution>],
    fingerprint: Option<&str>,
    (began, heard): (Timestamp, Timestamp),
) -> Option<String> {
    let latest = latest(executions)?;
    let closed = latest.status.as_ref()?.episode_closed_at.as_ref()?.0;
    if heard.duration_since(closed) > LATECOMERS {
        return None;
    }
    let decision = latest.spec.decision.as_ref()?;
    // Another text of the Rule may have been about something else that led to the target.
    let event = decision.event.as_ref().filter(|event| event.event_type == FIRING)?;
    // Another alert that had been heard of by then would be firing in that episode still, had it matched: the Rule has been
    // mended since.
    let is_it = fingerprint.is_some_and(|fingerprint| event.data.0["fingerprint"] == fingerprint);
    if heard < decision.time.0 && !is_it {
        return None;
    }
    let since = decision.since.as_ref()?.0;
    // Times in objects are kept in whole seconds.
    (began.as_second() <= since.as_second()).then(|| latest.name_any())
}

pub(super) fn latest(executions: &[Arc<Execution>]) -> Option<&Arc<Execution>> {
    executions.iter().max_by_key(|execution| execution.spec.decision.as_ref().map(|d| d.time.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_with_what_was_dealt_with_is_late() {
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let time = |second| at(second).to_string();
        let object = json!({"apiVersion": "v1", "kind": "K", "name": "a"});
        let event = json!({"id": "f", "source": "am", "type": FIRING, "time": time(5),
            "data": {"fingerprint": "f"}});
        let decision = json!({"id": "d", "time": time(6), "rule": {"name": "r"}, "mode": "Enforce", "definition": "x",
            "since": time(5), "event": event, "matched": {"object": object, "resourceVersion": ""}});
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": "x"},
            "spec": {"serviceAccountName": "h", "decision": decision},
            "status": {"finishedAt": time(300), "episodeClosedAt": time(302)}});
        let execution: Execution = serde_json::from_value(execution).expect("an Execution");
        let executions = [Arc::new(execution)];
        for (fingerprint, began, heard, is_late) in [
            ("f", 5, 290, true),
            ("f", 5, 347, true),
            ("f", 5, 348, false),
            ("f", 310, 311, false),
            ("f", 310, 347, false),
            ("f", 3, 4, true),
            ("other", 3, 290, true),
            // The Rule did not match it when the Execution was decided.
            ("other", 3, 4, false),
        ] {
            let known = remedied(&executions, Some(fingerprint), (at(began), at(heard)));
            assert_eq!(known.is_some(), is_late, "{fingerprint} began at {began}, heard of at {heard}");
        }
    }
}
