//! Whether a rung that is about to begin has nothing to do any more.
//!
//! Before anything was done it is enough that nothing matches. After a rung has acted it proves little: what it has put in
//! place of the old Pods may not have failed often enough yet, or there is nothing left that could match. Then what the
//! rung's verification asks for has to hold. Of alerts it is their sender who says that they are resolved, maybe because there is
//! an outage in which nobody is to do any more: that is the last word. So it is where they fire again, for a Rule about their
//! end.

use super::Context;
use crate::api::{AttemptState, RungStatus, Verify};
use crate::decide::inbox::FIRES_AGAIN;
use crate::decide::verify;

/// Why the rung has nothing to do; none if it has.
pub(super) fn why(context: Context<'_>, index: usize) -> Option<String> {
    let look = &context.seen.look;
    if is_about_ends(context) {
        let is_missing = look.target.is_none() && earlier(context, index).iter().any(was_replacing);
        return (look.matches == Some(true) && !is_missing)
            .then(|| format!("{FIRES_AGAIN}: nothing is to be done about its end"));
    }
    if !context.has_state() || look.matches != Some(false) {
        return None;
    }
    if look.target.is_none() && earlier(context, index).iter().any(was_replacing) {
        return None;
    }
    let Some(asked) = unproven(context, index) else {
        return Some("nothing of the target matches any more: nothing left to do".to_owned());
    };
    let check = verify::check(asked, look, context.now);
    let run = &context.definition.ladder.get(index)?.run;
    check.holds.then(|| format!("by now {}: {run} has nothing left to do", check.message))
}

fn is_about_ends(context: Context<'_>) -> bool {
    context.definition.rule.as_ref().is_some_and(|rule| rule.trigger.is_about_ends())
}

/// What the last rung that acted was to prove, and did not; none for alerts.
pub(super) fn unproven(context: Context<'_>, index: usize) -> Option<&Verify> {
    if context.definition.rule.as_ref().is_some_and(|rule| rule.trigger.alert.is_some()) {
        return None;
    }
    let ladder = context.definition.ladder.iter().zip(earlier(context, index));
    let mut acted = ladder.filter(|(rung, status)| rung.verify.is_some() && has_acted(status));
    acted.next_back()?.0.verify.as_ref()
}

fn earlier(context: Context<'_>, index: usize) -> &[RungStatus] {
    let rungs = context.execution.status.as_ref().map_or(&[][..], |status| status.rungs.as_slice());
    &rungs[..index.min(rungs.len())]
}

/// Whether it may have changed anything. What was refused has not.
fn has_acted(rung: &RungStatus) -> bool {
    rung.state != AttemptState::Failed || rung.job.is_some() || rung.replacement.is_some()
}

/// Whether it may have deleted the target without creating the other.
fn was_replacing(rung: &RungStatus) -> bool {
    rung.replacement.is_some() && rung.state != AttemptState::Succeeded
}
