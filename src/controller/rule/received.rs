//! Rules that listen to a Webhook: alerts are states, decided like those of objects; events are decided once. Every
//! event gets its outcome, in the status of its batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::evaluator::{Edge, Seen};
use super::fire::{self, Making};
use super::held::Hold;
use super::load::Counted;
use super::{
    Checked, Executions, LOOK_AGAIN, Outcome, RESYNC, executions_of, past_of, targets, told, write_status,
};
use crate::api::{
    EventBatch, EventOutcome, Execution, GROUP, MatchedObject, ObjectReference, OutcomeKind, Rule, VERSION,
};
use crate::cluster::account::Account;
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result};
use crate::controller::context::Context;
use crate::controller::heard::{self, From};
use crate::controller::outcomes;
use crate::controller::queue::Requeue;
use crate::decide::episode::{self, EdgeQuestion, Held, Past, Question, Suppressed, Verdict};
use crate::decide::guards::asked;
use crate::decide::identity::{TargetKey, occurrence};
use crate::decide::inbox::{self, Item, Lead, starts_at};
use crate::decide::matching::CompiledRule;
use crate::decide::view::{Sight, TargetView};
use crate::source::watch::now;

/// Events that one round decides, at the most: then other rules have their turn.
const EVENTS: usize = 200;

/// A rule that listens, while it is decided about.
struct Listener<'a> {
    context: &'a Context,
    rule: &'a Arc<Rule>,
    compiled: &'a CompiledRule,
    account: &'a Account,
    namespaced: bool,
    outcomes: Vec<(Arc<EventBatch>, EventOutcome)>,
    round: Outcome,
}

/// Alerts that lead to one target.
struct Alerts {
    view: TargetView,
    /// The first comes first: it stands for all.
    items: Vec<Item>,
}

/// Decides about what a rule's Webhook received.
pub async fn reconcile(
    context: &Context,
    rule: &Arc<Rule>,
    checked: &Checked,
    (compiled, account): (&CompiledRule, &Account),
) -> Result<Requeue> {
    let namespaced = heard::is_namespaced(context, compiled).await?;
    let (outcomes, round) = (Vec::new(), Outcome::default());
    let mut listener = Listener { context, rule, compiled, account, namespaced, outcomes, round };
    let inbox = heard::inbox(context, compiled, From::Store).await?;
    for (item, kind, reason) in &inbox.over {
        listener.note(item, *kind, *reason, None);
    }
    listener.alerts(inbox.firing).await;
    listener.events(inbox.waiting).await;
    let Listener { outcomes, mut round, .. } = listener;
    outcomes::record(context, outcomes).await?;
    let seen = Seen { sight: sight(), ..Seen::default() };
    let waiting = context.evaluators.waiting(&compiled.facts.namespace, &compiled.facts.name);
    for Hold { target, held, until } in waiting.take_in(&round.holds, rule.status.as_ref(), now()) {
        context.metrics.suppressed(held, &compiled.facts.namespace, &compiled.facts.name);
        context.journal.held(rule, &target, held, until);
    }
    write_status(context, rule, checked, Some((&seen, &waiting)), &round).await?;
    if let Some((_, error)) = round.failed.take() {
        return Err(error);
    }
    Ok(Requeue::After(round.wake.unwrap_or(RESYNC).min(RESYNC)))
}

impl Listener<'_> {
    fn note(&mut self, item: &Item, kind: OutcomeKind, reason: impl Into<String>, execution: Option<String>) {
        let outcome = item.outcome(&self.compiled.facts.name, kind, reason, now());
        self.outcomes.push((item.batch.clone(), EventOutcome { execution, ..outcome }));
    }

    /// The target of an event. What does not match, or leads nowhere, has its outcome by that.
    fn lead(&mut self, item: &Item) -> Option<ObjectReference> {
        let facts = &self.compiled.facts;
        match inbox::lead(self.compiled, item.accepted(), self.namespaced, now()) {
            Lead::To(target) => return Some(target),
            // Time alone may make it match.
            Lead::Nowhere(_) if self.compiled.reads_now() && item.accepted().alert.is_some() => {
                self.round.wake_in(LOOK_AGAIN);
            }
            Lead::Nowhere(why) => {
                self.context.metrics.evaluated(&facts.namespace, &facts.name, "not_matched");
                self.note(item, OutcomeKind::NotMatched, why, None);
            }
            Lead::Unknown(why) => {
                self.context.metrics.evaluated(&facts.namespace, &facts.name, "error");
                self.note(item, OutcomeKind::Failed, why, None);
            }
        }
        None
    }

    /// What stands for what matched.
    fn matched(&self) -> MatchedObject {
        let webhook = self.compiled.spec.trigger.webhook_name().unwrap_or_default();
        let object = ObjectReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "Webhook".to_owned(),
            namespace: Some(self.compiled.facts.namespace.clone()),
            name: webhook.to_owned(),
            uid: None,
        };
        MatchedObject { object, resource_version: String::new() }
    }

    /// Decides about each target that alerts lead to, and each whose episode is open.
    async fn alerts(&mut self, firing: Vec<Item>) {
        if self.compiled.spec.trigger.alert.is_none() {
            return;
        }
        let executions = executions_of(self.context, self.compiled);
        let mut found = self.grouped(firing, &executions);
        let views = found.iter().map(|(key, alerts)| (key.clone(), alerts.view.clone())).collect();
        let seen = Seen { targets: views, ..Seen::default() };
        for target in targets(&seen, &executions) {
            let alerts = found.remove(&target);
            if let Err(error) = self.target(&target, alerts, known(&executions, &target)).await {
                self.round.failed.get_or_insert((target, error));
            }
        }
    }

    /// The alerts by their targets.
    fn grouped(&mut self, firing: Vec<Item>, executions: &Executions) -> BTreeMap<TargetKey, Alerts> {
        let (mut found, matched) = (BTreeMap::<TargetKey, Alerts>::new(), self.matched());
        for item in firing {
            let Some(target) = self.lead(&item) else { continue };
            let (key, began) = (TargetKey::from(&target), starts_at(&item).unwrap_or_else(now));
            if let Some(known) = remedied(known(executions, &key), began) {
                self.note(&item, OutcomeKind::Duplicate, "it was dealt with", Some(known));
                continue;
            }
            let view = TargetView { target, object: matched.clone(), since: began, began: Some(began) };
            let alerts = found.entry(key).or_insert_with(|| Alerts { view, items: Vec::new() });
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
        alerts: Option<Alerts>,
        executions: &[Arc<Execution>],
    ) -> Result<()> {
        let past = past_of(executions);
        let items = alerts.as_ref().map_or(&[][..], |alerts| &alerts.items).to_vec();
        let (context, view) = (self.context, alerts.as_ref().map(|alerts| &alerts.view));
        let mut verdict = self.verdict(target, view, &past);
        if let (Verdict::Fire { .. }, Some(alerts)) = (&verdict, &alerts) {
            match self.fire(target, alerts).await? {
                Some(otherwise) => verdict = otherwise,
                None => return Ok(()),
            }
        }
        match verdict {
            Verdict::InEpisode => {
                let name = latest(executions).map(|execution| execution.name_any());
                for item in &items {
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
                    let waits = Hold { target: view.target.clone(), held, until };
                    self.round.holds.insert(target.clone(), waits);
                }
                self.held(&items, held, until);
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
        Question { rule: &self.compiled.facts, target, view, sight: sight(), past }
    }

    fn verdict(&self, target: &TargetKey, view: Option<&TargetView>, past: &[Past]) -> Verdict {
        let counted = Counted { rule: &self.compiled.facts, target, since: None };
        let load = self.context.places.load(&self.context.executions, counted);
        episode::decide(self.question(target, view, past), load, self.context.caps, now())
    }

    fn held(&mut self, items: &[Item], held: Held, until: Option<Timestamp>) {
        match held {
            Held::ObservedLimit => self.round.unrecorded += 1,
            _ => self.round.wake_in(until.map_or(LOOK_AGAIN, |until| {
                std::time::Duration::try_from(until.duration_since(now())).unwrap_or_default()
                    + std::time::Duration::from_millis(5)
            })),
        }
        for item in items {
            self.note(item, OutcomeKind::Held, format!("{held:?}"), None);
        }
    }

    /// Fires for alerts, after a last look at what the API server has of them and of the target; the verdict, if they are
    /// decided otherwise by what it has of Executions.
    async fn fire(&mut self, target: &TargetKey, alerts: &Alerts) -> Result<Option<Verdict>> {
        let context = self.context;
        let past = fire::stored(context, self.compiled, target).await?;
        let counted = Counted { rule: &self.compiled.facts, target, since: None };
        let question = self.question(target, Some(&alerts.view), &past);
        let taken = context.places.take(&context.executions, counted, now(), |load| {
            match episode::decide(question, load, context.caps, now()) {
                Verdict::Fire { id, occurrence } => Ok((id, occurrence)),
                verdict => Err(verdict),
            }
        });
        let (id, occurrence, place) = match taken {
            Ok(taken) => taken,
            Err(verdict) => return Ok(Some(verdict)),
        };
        let alert = heard::firing(context, self.compiled, &alerts.view.target, From::ApiServer).await?;
        let Some(alert) = alert else {
            self.round.wake_in(LOOK_AGAIN);
            return Ok(None);
        };
        let Some(live) = self.live(&alerts.view.target).await? else {
            let why = format!("{target} does not exist");
            for item in &alerts.items {
                self.note(item, OutcomeKind::Held, why.clone(), None);
            }
            self.round.wake_in(LOOK_AGAIN);
            return Ok(None);
        };
        let making = Making {
            rule: self.rule,
            id,
            occurrence,
            target: &live,
            matched: &alerts.view.object,
            since: Some(alerts.view.since),
            passed: asked(&self.compiled.facts),
            event: Some(&alert.accepted().event),
        };
        let name = making.name();
        self.round.fired_at = fire::create(context, making, place).await?.or(self.round.fired_at);
        for item in &alerts.items {
            self.note(item, OutcomeKind::Fired, "", Some(name.clone()));
        }
        Ok(None)
    }

    /// The target with its UID; none if there is none. A name needs no object.
    async fn live(&self, target: &ObjectReference) -> Result<Option<ObjectReference>> {
        if target.is_key() {
            return Ok(Some(target.clone()));
        }
        let objects = Objects::around(self.account.client(), &self.context.kinds, target).await?;
        let found = objects.get(&target.name).await?;
        let uid = |object: &serde_json::Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        Ok(found.map(|object| ObjectReference { uid: uid(&object), ..target.clone() }))
    }

    /// Decides about events, oldest first.
    async fn events(&mut self, waiting: Vec<Item>) {
        if waiting.len() > EVENTS {
            self.round.wake_in(std::time::Duration::from_millis(50));
        }
        for item in waiting.into_iter().take(EVENTS) {
            let Some(target) = self.lead(&item) else { continue };
            match self.event(&item, &target).await {
                Ok(()) => {}
                Err(error) if error.is_lasting() => {
                    self.note(&item, OutcomeKind::Failed, error.to_string(), None);
                }
                // It stays, and is tried again with the rule.
                Err(error) => drop(self.round.failed.get_or_insert((TargetKey::from(&target), error))),
            }
        }
    }

    async fn event(&mut self, item: &Item, target: &ObjectReference) -> Result<()> {
        let event = &item.accepted().event;
        let Some(target) = self.live(target).await? else {
            return Err(Error::Unexpected(format!("{target} does not exist")));
        };
        let (key, occurrence) = (TargetKey::from(&target), occurrence(event));
        let mut past = past_of(known(&executions_of(self.context, self.compiled), &key));
        past.extend(fire::stored(self.context, self.compiled, &key).await?);
        // A clock that goes ahead gets no event past a cooldown.
        let time = event.time.0.min(inbox::received_at(&item.batch));
        let question = EdgeQuestion {
            rule: &self.compiled.facts,
            rule_created_at: self.compiled.created_at,
            target: &key,
            occurrence: &occurrence,
            time,
            past: &past,
        };
        let (context, rule) = (self.context, self.rule);
        let counted = Counted { rule: &self.compiled.facts, target: &key, since: Some(time) };
        let taken = context.places.take(&context.executions, counted, now(), |load| {
            episode::decide_edge(question, load, context.caps).map(|id| (id, ()))
        });
        match taken {
            Ok((id, (), place)) => {
                let (matched, since) = (self.matched(), Some(time));
                let making = Making {
                    rule,
                    id,
                    occurrence,
                    target: &target,
                    matched: &matched,
                    since,
                    passed: asked(&self.compiled.facts),
                    event: Some(event),
                };
                let name = making.name();
                if !past.iter().any(|past| past.id == making.id) {
                    self.round.fired_at = fire::create(context, making, place).await?.or(self.round.fired_at);
                }
                self.note(item, OutcomeKind::Fired, "", Some(name));
            }
            Err(suppressed) => self.suppressed(item, target, suppressed).await,
        }
        Ok(())
    }

    async fn suppressed(&mut self, item: &Item, target: ObjectReference, suppressed: Suppressed) {
        let (facts, event) = (&self.compiled.facts, &item.accepted().event);
        self.context.metrics.suppressed(suppressed, &facts.namespace, &facts.name);
        self.context.journal.suppressed(self.rule, &target, &occurrence(event), &format!("{suppressed:?}"));
        let edge = Edge {
            target,
            event: self.matched(),
            occurrence: occurrence(event),
            time: event.time.0,
            data: Arc::default(),
        };
        told::suppressed(self.context, self.rule, &edge, &format!("{suppressed:?}")).await;
        self.note(item, OutcomeKind::Suppressed, format!("{suppressed:?}"), None);
    }
}

/// How far can be trusted what is read from the store: what was received is all there is to see.
fn sight() -> Sight {
    Sight { heard_at: Some(now()), complete_at: Some(now()), all_resolved: true }
}

/// The Executions of a rule for a target.
fn known<'e>(executions: &'e Executions, target: &TargetKey) -> &'e [Arc<Execution>] {
    executions.get(target).map_or(&[], Vec::as_slice)
}

/// The Execution that has dealt with an alert of this start: its episode is over, and what still says that the alert
/// fires was sent before that, or is late.
fn remedied(executions: &[Arc<Execution>], began: Timestamp) -> Option<String> {
    let latest = latest(executions)?;
    let closed = latest.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    let since = latest.spec.decision.as_ref()?.since.as_ref()?.0;
    // Times in objects are kept in whole seconds.
    (closed && began.as_second() <= since.as_second()).then(|| latest.name_any())
}

fn latest(executions: &[Arc<Execution>]) -> Option<&Arc<Execution>> {
    executions.iter().max_by_key(|execution| execution.spec.decision.as_ref().map(|d| d.time.0))
}
