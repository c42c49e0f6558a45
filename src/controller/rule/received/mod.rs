//! Rules that listen to a Webhook: alerts are states, decided like those of objects; their ends are owed; events are decided once. Every
//! event gets its outcome, in the status of its batch.

mod alerts;
mod ended;
mod events;
mod sets;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;

use self::events::SOON;
use super::seen::{Seen, unled as unled_for};
use super::{Case, Checked, Executions, Outcome, RESYNC, fire, told, write_status};
use crate::api::{
    EventBatch, EventOutcome, Execution, GROUP, MatchedObject, ObjectReference, OutcomeKind, Rule, VERSION,
};
use crate::cluster::Result;
use crate::cluster::account::Account;
use crate::controller::context::Context;
use crate::controller::heard::{self, From};
use crate::controller::outcomes;
use crate::controller::queue::Requeue;
use crate::decide::capture::Correlation;
use crate::decide::correlation::Tried;
use crate::decide::hearing::Hearing;
use crate::decide::identity::TargetKey;
use crate::decide::inbox::{self, Item};
use crate::decide::lead::{self, Lead};
use crate::decide::matching::CompiledRule;
use crate::decide::owed;
use crate::decide::view::{Sight, Targets};
use crate::source::watch::now;

/// A rule that listens, while it is decided about.
struct Listener<'a> {
    context: &'a Context,
    case: Case<'a>,
    namespaced: bool,
    /// The hash of the rule's text, by which it says what it says.
    text: String,
    /// Targets to which alerts may lead that fire and cannot be judged: they are not clear.
    unjudged: BTreeSet<TargetKey>,
    outcomes: Vec<(Arc<EventBatch>, EventOutcome)>,
    round: Outcome,
    dropped: u64,
}

/// Decides about what a rule's Webhook received.
pub async fn reconcile(
    context: &Context,
    rule: &Arc<Rule>,
    checked: &Checked,
    (compiled, account): (&CompiledRule, &Account),
) -> Result<Requeue> {
    let began = Instant::now();
    let namespaced = heard::is_namespaced(context, compiled).await?;
    // What was received is all there is to see.
    let sight = Sight { heard_at: Some(now()), complete_at: Some(now()), all_resolved: true };
    let seen = Seen { sight, ..Seen::default() };
    let case = Case { rule, compiled, account, seen: &seen };
    let (outcomes, round) = (Vec::new(), Outcome::default());
    let text = inbox::text_of(compiled);
    let (unjudged, dropped) = (BTreeSet::new(), 0);
    let mut listener = Listener { context, case, namespaced, text, unjudged, outcomes, round, dropped };
    let inbox = heard::inbox(context, compiled, From::Store).await?;
    let refused = refused(&inbox.refused);
    if !compiled.spec.trigger.is_state() {
        close_open(context, compiled).await?;
    }
    match &compiled.spec.trigger {
        trigger if trigger.is_state() => listener.alerts(inbox).await,
        trigger if trigger.is_about_ends() => listener.ended(inbox).await,
        _ => listener.events(inbox).await?,
    }
    let Listener { outcomes, mut round, dropped, text, .. } = listener;
    outcomes::record(context, outcomes).await?;
    // It is said as long as it is remembered, or the next event would hide it.
    round.mistake = round.mistake.take().or_else(|| heard::mistake(context, compiled, &text)).or(refused);
    let waiting = context.evaluators.waiting(&compiled.facts.namespace, &compiled.facts.name);
    told::held(context, case, waiting.take_in(&round.holds, rule.status.as_ref(), now())).await;
    let (mistake, held) = (round.mistake.take(), round.held.take());
    let unled = context.unled.and_then(|unled| unled_for(compiled, unled));
    let blind = unled.filter(|(until, _)| now() < *until).map(|(_, text)| text);
    let seen = Seen { mistake, held, blind, dropped, ..seen };
    write_status(context, rule, checked, Some((&seen, Some(&waiting))), &mut round).await?;
    if let Some((_, error)) = round.failed.take() {
        return Err(error);
    }
    // In a storm the looks at what has to wait take long: each rests for as long as it took.
    Ok(Requeue::After(round.wake.unwrap_or(RESYNC).max(began.elapsed()).min(RESYNC)))
}

/// Closes the episodes that are open. What is no state is over with its Execution: nothing will show that it is clear.
async fn close_open(context: &Context, compiled: &CompiledRule) -> Result<()> {
    for target in context.executions.open_beside(&compiled.facts, &Targets::default()) {
        fire::close(context, &context.executions.of_target(&compiled.facts, &target)).await?;
    }
    Ok(())
}

/// What is said of alerts that too many rules have taken up before this one.
fn refused(items: &[Item]) -> Option<String> {
    let first = &items.first()?.accepted().event.id;
    let others = match items.len() - 1 {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "{first}{others}: fires and may match, but too many Rules have looked at what came with it; decided when it is sent again"
    ))
}

impl Listener<'_> {
    /// What earlier rounds have found of events that wait, where it costs to find that.
    fn tried(&self, correlation: &Correlation) -> Tried {
        if correlation.givens().next().is_none() {
            return Tried::default();
        }
        let facts = &self.case.compiled.facts;
        self.context.evaluators.tried(&facts.namespace, &facts.name, &self.text)
    }

    /// Keeps that for the next round, which comes soon if there is more to try.
    fn set_tried(&mut self, correlation: &Correlation, tried: Tried) {
        if correlation.givens().next().is_none() {
            return;
        }
        if tried.has_more {
            self.round.wake_in(SOON);
        }
        let facts = &self.case.compiled.facts;
        self.context.evaluators.set_tried(&facts.namespace, &facts.name, (self.text.clone(), tried));
    }

    /// How it stands with hearing those who send to the rule's Webhook.
    fn hearing(&self) -> Hearing {
        let compiled = self.case.compiled;
        let webhook = compiled.spec.trigger.webhook_name().unwrap_or_default();
        self.context.unheard.hearing(&compiled.facts.namespace, webhook, now())
    }

    fn note(&mut self, item: &Item, kind: OutcomeKind, reason: impl Into<String>, execution: Option<String>) {
        let outcome = item.outcome(&self.case.compiled.facts.name, kind, reason, now());
        let judged_by = owed::may_be_judged_anew(item.accepted(), kind).then(|| self.text.clone());
        self.outcomes.push((item.batch.clone(), EventOutcome { execution, judged_by, ..outcome }));
    }

    fn note_all(&mut self, over: Vec<(Item, OutcomeKind, impl Into<String>)>) {
        for (item, kind, reason) in over {
            self.note(&item, kind, reason, None);
        }
    }

    /// The target of an event. What does not match, or leads nowhere, has its outcome by that.
    fn lead(&mut self, item: &Item) -> Option<ObjectReference> {
        match lead::lead(self.case.compiled, item.accepted(), self.namespaced, now()) {
            Lead::To(target) => {
                if let Some(turns) = self.turns(item) {
                    self.round.wake_at(turns);
                }
                Some(target)
            }
            otherwise => {
                self.leads_nowhere(item, otherwise);
                None
            }
        }
    }

    fn leads_nowhere(&mut self, item: &Item, lead: Lead) {
        let facts = &self.case.compiled.facts;
        match lead {
            Lead::Nowhere(why) => {
                if let Some(turns) = self.turns(item) {
                    return self.round.wake_at(turns);
                }
                self.context.metrics.evaluated(&facts.namespace, &facts.name, "not_matched");
                self.note(item, OutcomeKind::NotMatched, why, None);
            }
            Lead::Unknown(why) => {
                self.context.metrics.evaluated(&facts.namespace, &facts.name, "error");
                self.note(item, OutcomeKind::Failed, why, None);
                // What the text cannot decide is said on the rule, also of an event.
                if let Some((_, outcome)) = self.outcomes.last_mut() {
                    outcome.judged_by = Some(self.text.clone());
                }
                self.is_unjudged(item);
            }
            Lead::To(_) => {}
        }
    }

    /// Takes in an alert that cannot be judged: its target may match, and is not clear. Those that mean something only
    /// together keep open what was made of them.
    fn is_unjudged(&mut self, item: &Item) {
        let compiled = self.case.compiled;
        if compiled.spec.trigger.is_state() && compiled.correlation.is_none() {
            self.unjudged.extend(heard::aimed(compiled, item, self.namespaced, now()));
        }
    }

    /// When time alone can change what the rule says of an alert: it is a state. Of an event it is said once.
    fn turns(&self, item: &Item) -> Option<Timestamp> {
        let accepted = item.accepted();
        accepted.alert.as_ref().filter(|alert| alert.ends_at.is_none())?;
        self.case.compiled.received_turns(&accepted.event, now())
    }

    /// What stands for what matched.
    fn matched(&self) -> MatchedObject {
        let webhook = self.case.compiled.spec.trigger.webhook_name().unwrap_or_default();
        let object = ObjectReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "Webhook".to_owned(),
            namespace: Some(self.case.compiled.facts.namespace.clone()),
            name: webhook.to_owned(),
            uid: None,
        };
        MatchedObject { object, resource_version: String::new() }
    }
}

/// The Executions of a rule for a target.
fn known<'e>(executions: &'e Executions, target: &TargetKey) -> &'e [Arc<Execution>] {
    executions.get(target).map_or(&[], Vec::as_slice)
}
