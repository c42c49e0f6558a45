//! What happens when what has to be looked at cannot be: a right was taken away, a kind is gone, a server does not answer.
//! Nothing is guessed, and what may come back in a moment is waited for; but every wait has an end, and a person can still
//! cancel.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Again, Blind, Context, Effect, Next, PATIENCE, Phase, ending, is_canceled, rung};
use crate::api::Reason;

/// How often it is tried again.
const TRY_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Decides without having seen.
pub(super) fn next(context: Context<'_>, phase: &Phase<'_>, blind: &Blind) -> Next {
    let patience = after(blind.since, PATIENCE);
    match phase {
        Phase::Ended | Phase::Unknown => ended(context, patience),
        Phase::Launching(_, rung) if rung.replacement.is_some() => replacing(context, patience, blind),
        _ if is_canceled(context.execution) => canceled(context, phase, (patience, blind)),
        Phase::Begin(index) | Phase::Launching(index, _) => given_up(context, *index, (patience, blind)),
        Phase::Running(index, rung) => {
            given_up(context, *index, (context.deadline(rung).max(patience), blind))
        }
        Phase::Verifying(index, rung) => {
            let asked = context.definition.ladder.get(*index).and_then(|rung| rung.verify.as_ref());
            let within = asked.map(|verify| verify.within).unwrap_or_default();
            let began = rung.verify.as_ref().map_or(context.now, |verify| verify.started_at.0);
            let deadline = after(began, within.signed()).max(patience);
            wait_until(context, deadline).unwrap_or_else(|| rung::unproven(context, *index, &said(blind)))
        }
    }
}

/// The rung has failed when the deadline passes.
fn given_up(context: Context<'_>, index: usize, (deadline, blind): (Timestamp, &Blind)) -> Next {
    wait_until(context, deadline).unwrap_or_else(|| rung::failed(context, index, &said(blind)))
}

/// Ends at once where nothing is left that could run. A Job that runs, or may have been created, is to be stopped, which
/// needs a look; so only what cannot be looked at for long is left to itself.
fn canceled(context: Context<'_>, phase: &Phase<'_>, (patience, blind): (Timestamp, &Blind)) -> Next {
    let is_safe = match phase {
        Phase::Begin(index) => !context.runs_in_job(*index),
        Phase::Verifying(..) => true,
        _ => false,
    };
    let wait = wait_until(context, patience).filter(|_| !is_safe);
    wait.unwrap_or_else(|| {
        let message = format!("canceled; what it left could not be looked at: {}", blind.why);
        ending::finish(context, context.status(), Reason::Canceled, &message)
    })
}

/// A replacement has begun: the old object may be gone, and nobody else would create the new one. Only with its namespace,
/// or by a person who deletes it, does it end.
fn replacing(context: Context<'_>, patience: Timestamp, blind: &Blind) -> Next {
    let is_deleted = context.execution.metadata.deletion_timestamp.is_some();
    wait_until(context, if is_deleted { patience } else { Timestamp::MAX }).unwrap_or_else(|| {
        let message = format!("canceled; its replacement could not be completed: {}", blind.why);
        ending::finish(context, context.status(), Reason::Canceled, &message)
    })
}

/// An Execution that is to be deleted is let go in the end, whoever holds its Jobs; else the right may come back.
fn ended(context: Context<'_>, patience: Timestamp) -> Next {
    if context.execution.metadata.deletion_timestamp.is_none() {
        return Next::wait(Again::At(after(context.now, PATIENCE)));
    }
    let let_go = || Next::of(vec![Effect::RemoveFinalizer], Again::OnChange);
    wait_until(context, patience).unwrap_or_else(let_go)
}

fn wait_until(context: Context<'_>, deadline: Timestamp) -> Option<Next> {
    let soon = after(context.now, TRY_EVERY);
    (context.now < deadline).then(|| Next::wait(Again::At(soon.min(deadline))))
}

fn said(blind: &Blind) -> String {
    format!("could not look: {}", blind.why)
}

fn after(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.saturating_add(span).unwrap_or(Timestamp::MAX)
}
