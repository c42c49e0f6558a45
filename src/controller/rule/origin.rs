//! Where a rule's matches and events come from, unless a Webhook receives them.

use std::sync::Arc;
use std::time::Duration;

use super::evaluator::Evaluator;
use super::held::{Begun, Holds, Waiting};
use super::seen::Seen;
use super::unwatched::{self, Listener};
use super::{Case, Outcome, evaluator_for};
use crate::api::{Rule, ScheduleStatus};
use crate::cluster::Result;
use crate::cluster::account::Account;
use crate::controller::context::Context;
use crate::decide::matching::CompiledRule;
use crate::source::watch::now;

/// Where a rule's matches and events come from.
pub enum Origin {
    /// The watch of its account.
    Watch(Arc<Evaluator>),
    /// The clock; with how far its schedule has come.
    Clock(Box<Seen>, Option<ScheduleStatus>),
    /// The ends of Executions.
    Ends(Box<Seen>),
}

impl Origin {
    /// Where those of a rule come from, watched from now on.
    pub async fn of(
        context: &Context,
        (rule, compiled, account): (&Rule, &Arc<CompiledRule>, &Account),
    ) -> Result<Self> {
        let listener = Listener { rule, compiled, account };
        let facts = &compiled.facts;
        if !compiled.spec.trigger.names_target() {
            let evaluator = evaluator_for(context, rule, compiled.clone(), account.clone()).await?;
            return Ok(Self::Watch(evaluator));
        }
        context.evaluators.looks_elsewhere(&facts.namespace, &facts.name, now());
        if compiled.schedule.is_some() {
            let (seen, status) = unwatched::schedule(context, listener, now()).await?;
            return Ok(Self::Clock(Box::new(seen), status));
        }
        unwatched::ends(context, listener, now()).await.map(|seen| Self::Ends(Box::new(seen)))
    }

    /// What is seen there.
    pub fn seen(&self) -> Seen {
        match self {
            Self::Watch(evaluator) => evaluator.seen(),
            Self::Clock(seen, _) | Self::Ends(seen) => (**seen).clone(),
        }
    }

    /// In how long there is something to say of it, if its watch has only just been opened.
    pub fn settles_in(&self) -> Option<Duration> {
        match self {
            Self::Watch(evaluator) => evaluator.settles_in(),
            Self::Clock(..) | Self::Ends(_) => None,
        }
    }

    /// What holds targets that this process has not seen waiting before. Only what is watched can be held.
    pub fn begun(&self, holds: &Holds, rule: &Rule) -> Vec<Begun> {
        self.waiting().map(|waiting| waiting.take_in(holds, rule.status.as_ref(), now())).unwrap_or_default()
    }

    /// Where it keeps what waits.
    pub fn waiting(&self) -> Option<&Waiting> {
        match self {
            Self::Watch(evaluator) => Some(&evaluator.waiting),
            Self::Clock(..) | Self::Ends(_) => None,
        }
    }

    /// Takes in which events have been decided.
    pub async fn decided(&self, context: &Context, case: Case<'_>, outcome: &mut Outcome) {
        let facts = &case.compiled.facts;
        match self {
            Self::Watch(evaluator) => {
                outcome.decided.iter().for_each(|occurrence| evaluator.decided(occurrence));
            }
            Self::Clock(seen, status) if outcome.decided.len() == seen.edges.len() => {
                outcome.schedule.clone_from(status);
                if let Some(edge) = seen.edges.first() {
                    unwatched::tell_missed(context, case.rule, edge).await;
                }
            }
            Self::Clock(..) => {}
            Self::Ends(_) => context.evaluators.with_ends(&facts.namespace, &facts.name, |ends| {
                outcome.decided.iter().for_each(|occurrence| ends.decided(occurrence));
            }),
        }
        if let Some(next) = case.seen.next {
            outcome.wake_at(next);
        }
    }
}
