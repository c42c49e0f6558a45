//! What happens when what has to be looked at cannot be: a right was taken away, a kind is gone. Nothing is guessed,
//! but every wait has an end, and a person can still cancel.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Again, Context, DEADLINE_GRACE, Effect, Next, Phase, ending, is_canceled, rung};
use crate::api::Reason;

/// How long a rung waits for its look before it fails: a right that was granted a moment ago takes effect.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);
/// How often it is tried again.
const TRY_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Decides without having seen.
pub(super) fn next(context: Context<'_>, phase: &Phase<'_>, why: &str) -> Next {
    if let Phase::Ended = phase {
        return ended(context);
    }
    if is_canceled(context.execution) {
        let message = format!("canceled; what it left could not be looked at: {why}");
        return ending::finish(context, context.status(), Reason::Canceled, &message);
    }
    let (index, deadline) = match phase {
        Phase::Begin(index) | Phase::Launching(index, _) => (*index, after(last_step(context), PATIENCE)),
        Phase::Running(index, rung) => {
            let timeout = context.definition.actions.get(&rung.run).map(|a| a.timeout).unwrap_or_default();
            (*index, after(rung.started_at.0, timeout.signed() + DEADLINE_GRACE))
        }
        Phase::Verifying(index, rung) => {
            let asked = context.definition.ladder.get(*index).and_then(|rung| rung.verify.as_ref());
            let within = asked.map(|verify| verify.within).unwrap_or_default();
            let began = rung.verify.as_ref().map_or(context.now, |verify| verify.started_at.0);
            (*index, after(began, within.signed()))
        }
        Phase::Ended | Phase::Unknown => return ended(context),
    };
    if context.now < deadline {
        return Next::wait(Again::At(after(context.now, TRY_EVERY).min(deadline)));
    }
    let message = format!("could not look: {why}");
    match phase {
        Phase::Verifying(..) => rung::unproven(context, index, &message),
        _ => rung::failed(context, index, &message),
    }
}

/// An Execution that is to be deleted is let go, whoever holds its Jobs; else the right may come back.
fn ended(context: Context<'_>) -> Next {
    if context.execution.metadata.deletion_timestamp.is_some() {
        return Next::of(vec![Effect::RemoveFinalizer], Again::OnChange);
    }
    Next::wait(Again::At(after(context.now, PATIENCE)))
}

/// When the Execution last got anywhere.
fn last_step(context: Context<'_>) -> Timestamp {
    let status = context.execution.status.as_ref();
    let last = status.and_then(|status| status.rungs.last());
    let last = last.map(|rung| rung.finished_at.as_ref().unwrap_or(&rung.started_at).0);
    last.or_else(|| context.execution.metadata.creation_timestamp.as_ref().map(|t| t.0))
        .unwrap_or(context.now)
}

fn after(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.saturating_add(span).unwrap_or(time)
}
