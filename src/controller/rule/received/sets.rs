//! Alerts that mean something only together: sets of them that are complete are decided about like one alert. What an
//! Execution was made of is not used again; its episode is open as long as any of that fires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::alerts::{Alerts, latest};
use super::events::used;
use super::{Listener, known};
use crate::api::{CapturedEvent, Execution, Mode, OutcomeKind};
use crate::cluster::Result;
use crate::controller::heard::{self, From, fingerprints};
use crate::controller::rule::{Executions, executions_of};
use crate::decide::alerts::{Filled, Set, fill};
use crate::decide::capture::Correlation;
use crate::decide::episode::Past;
use crate::decide::identity::{TargetKey, occurrence};
use crate::decide::inbox::{Inbox, Item};
use crate::decide::lead::{self, Lead};
use crate::decide::view::TargetView;
use crate::source::watch::now;

impl Listener<'_> {
    /// What is complete, by its target, and what Executions hold open.
    pub(super) fn sets(
        &mut self,
        mut inbox: Inbox,
        correlation: &Correlation,
        executions: &Executions,
    ) -> BTreeMap<TargetKey, Alerts> {
        let mut found = self.held_open(&inbox, executions);
        let used = self.used(executions);
        for item in take_used(&mut inbox, &used) {
            match used.get(occurrence(&item.accepted().event).as_str()) {
                Some(by) if is_open(by) => self.note(&item, OutcomeKind::Fired, "", Some(by.name_any())),
                by => {
                    let name = by.map(|by| by.name_any());
                    self.note(&item, OutcomeKind::Duplicate, "it was dealt with", name);
                }
            }
        }
        let turns: Vec<_> = inbox.firing.iter().filter_map(|item| self.turns(item)).collect();
        let before = self.tried(correlation);
        let Filled { sets, waiting, over, nowhere, next, dropped, mistake, tried } =
            fill(self.case.compiled, correlation, (inbox, &before), self.hearing());
        self.set_tried(correlation, tried);
        for (item, lead) in nowhere {
            self.leads_nowhere(&item, lead);
        }
        self.note_all(over);
        self.note_all(waiting.into_iter().map(|(item, why)| (item, OutcomeKind::Held, why)).collect());
        for time in turns.into_iter().chain(next) {
            self.round.wake_at(time);
        }
        self.dropped = dropped;
        self.round.mistake = self.round.mistake.take().or(mistake);
        for set in sets {
            self.lead_set(set, executions, &mut found);
        }
        found
    }

    /// Leads a set to the target of the alert that completed it; one at a time, and none while an episode is open that
    /// is not older.
    fn lead_set(&mut self, set: Set, executions: &Executions, found: &mut BTreeMap<TargetKey, Alerts>) {
        let Some(target) = set.last().cloned().and_then(|last| self.lead(&last)) else { return };
        let (key, time) = (TargetKey::from(&target), set.found.time);
        let busy = match latest(known(executions, &key)) {
            Some(latest) if self.holds(latest, time) => {
                Some(format!("the episode of {} is open", latest.name_any()))
            }
            _ => found
                .get(&key)
                .filter(|first| first.set.is_some())
                .map(|_| "others of its target come first".to_owned()),
        };
        if let Some(why) = busy {
            return self.note_all(
                set.items.into_iter().map(|item| (item, OutcomeKind::Held, why.clone())).collect(),
            );
        }
        let view = TargetView {
            target,
            object: self.matched(),
            since: time,
            began: Some(time),
            together: Vec::new(),
        };
        found.insert(key, Alerts { view, items: set.items.clone(), set: Some(set) });
    }

    /// Whether an Execution holds its episode against what was complete at a time.
    fn holds(&self, latest: &Execution, time: Timestamp) -> bool {
        let ended = Past::of(latest).and_then(|past| past.finished_at);
        is_open(latest) && !self.is_only_observed(latest) && ended.is_none_or(|ended| time <= ended)
    }

    /// Whether it is only a record of what the rule, which acts by now, would have done.
    fn is_only_observed(&self, execution: &Execution) -> bool {
        let mode = execution.spec.decision.as_ref().map(|decision| decision.mode);
        mode == Some(Mode::Observe) && self.case.compiled.facts.mode == Mode::Enforce
    }

    /// The targets whose episode is open because an alert fires of which an Execution was made. Of one that cannot be
    /// judged it is not known, so that it is not over either.
    fn held_open(&mut self, inbox: &Inbox, executions: &Executions) -> BTreeMap<TargetKey, Alerts> {
        let (mut fires, mut unknown) = (BTreeSet::<&str>::new(), BTreeSet::<&str>::new());
        for item in inbox.firing.iter().chain(&inbox.unjudged) {
            match lead::matches(self.case.compiled, item.accepted(), now()) {
                Ok(()) => fires.extend(item.fingerprint()),
                Err(Lead::Unknown(_)) => unknown.extend(item.fingerprint()),
                Err(Lead::Nowhere(_) | Lead::To(_)) => {}
            }
        }
        let mut found = BTreeMap::new();
        for (key, executions) in executions {
            if latest(executions).is_none_or(|latest| !is_open(latest) || self.is_only_observed(latest)) {
                continue;
            }
            let of = executions.iter().find(|execution| is_held_by(&fires, execution));
            let Some((target, decision)) =
                of.and_then(|of| Some((of.spec.target.clone()?, of.spec.decision.as_ref()?)))
            else {
                if executions.iter().any(|execution| is_held_by(&unknown, execution)) {
                    self.unjudged.insert(key.clone());
                }
                continue;
            };
            let since = decision.since.as_ref().unwrap_or(&decision.time).0;
            let view =
                TargetView { target, object: self.matched(), since, began: None, together: Vec::new() };
            found.insert(key.clone(), Alerts { view, items: Vec::new(), set: None });
        }
        found
    }

    /// The alerts that Executions were made of.
    fn used<'e>(&self, executions: &'e Executions) -> BTreeMap<&'e str, &'e Arc<Execution>> {
        used(executions, |execution| !self.is_only_observed(execution))
    }

    /// The alert that completed a set, if what the API server has makes the same set at this moment.
    pub(super) async fn still_complete(&self, set: &Set) -> Result<Option<Item>> {
        let (context, compiled) = (self.context, self.case.compiled);
        let Some(correlation) = &compiled.correlation else { return Ok(None) };
        let mut inbox = heard::inbox(context, compiled, From::ApiServer).await?;
        let executions = executions_of(context, compiled);
        take_used(&mut inbox, &self.used(&executions));
        let filled = fill(compiled, correlation, (inbox, &self.tried(correlation)), self.hearing());
        Ok(filled.sets.iter().find(|found| found.is(set)).and_then(Set::last).cloned())
    }

    /// What is recorded of a set.
    pub(super) fn recorded(&self, set: Option<&Set>) -> Vec<CapturedEvent> {
        let recorded = |set: &Set| Some(self.case.compiled.correlation.as_ref()?.record(&set.found));
        set.and_then(recorded).unwrap_or_default()
    }
}

/// Takes out the alerts that were used.
fn take_used(inbox: &mut Inbox, used: &BTreeMap<&str, &Arc<Execution>>) -> Vec<Item> {
    let is_used = |item: &Item| used.contains_key(occurrence(&item.accepted().event).as_str());
    let (gone, left) = std::mem::take(&mut inbox.firing).into_iter().partition(is_used);
    inbox.firing = left;
    gone
}

/// Whether the episode of an Execution is open as long as one of these alerts fires.
fn is_held_by(alerts: &BTreeSet<&str>, execution: &Execution) -> bool {
    is_open(execution) && fingerprints(execution).any(|one| alerts.contains(one))
}

fn is_open(execution: &Execution) -> bool {
    execution.status.as_ref().is_none_or(|status| status.episode_closed_at.is_none())
}
