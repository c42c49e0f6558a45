//! How an Execution ends: by itself, by a person, or because there is nothing to do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rung::{self, OldObject};
use super::{Again, Context, EXECUTION_FINALIZER, Effect, Next, Notice, Phase};
use crate::api::{
    AttemptState, ConditionStatus, ConditionType, Duration, Execution, ExecutionStatus, ObjectReference,
    Reason, set_condition,
};
use crate::decide::job;
use crate::decide::outcome::LeftJob;

pub(super) fn has_finalizer(execution: &Execution) -> bool {
    execution.metadata.finalizers.iter().flatten().any(|f| f == EXECUTION_FINALIZER)
}

/// After the end: let go of the Jobs, then of the Execution. One that may still run was not seen by whoever ended it.
pub(super) fn release(context: Context<'_>) -> Next {
    if !has_finalizer(context.execution) {
        return Next::wait(Again::OnChange);
    }
    let left = &context.seen.left_jobs;
    // Stopped first: that another cannot be let go keeps none of them running.
    let live = left.iter().filter(|job| job.is_live);
    let mut effects: Vec<_> =
        live.map(|LeftJob { name, uid, .. }| Effect::DeleteJob(name.clone(), uid.clone())).collect();
    effects
        .extend(left.iter().map(|LeftJob { name, uid, .. }| Effect::ReleaseJob(name.clone(), uid.clone())));
    effects.push(Effect::RemoveFinalizer);
    Next::of(effects, Again::OnChange)
}

/// The end of a Rule that only observes: what it would have done.
pub(super) fn observed(context: Context<'_>) -> Next {
    let rungs: Vec<_> = context.definition.ladder.iter().map(|rung| rung.run.as_str()).collect();
    let target = context.execution.spec.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = format!("would have run {} on {target}", rungs.join(", then "));
    finish(context, context.status(), Reason::Observed, &message)
}

/// The end of a ladder that was climbed without success, or that never asked for proof.
pub(super) fn exhausted(context: Context<'_>) -> Next {
    let status = context.status();
    let asked = context.definition.ladder.iter().any(|rung| rung.verify.is_some());
    let last = status.rungs.last();
    let last_failed = last.is_some_and(|rung| rung.state != AttemptState::Succeeded);
    let missing = missing(context);
    let told = status.rungs.iter().find(|rung| rung.message.starts_with(&missing));
    let said = told
        .or(last)
        .map(|rung| rung.verify.as_ref().map_or(&rung.message, |v| &v.message).clone())
        .unwrap_or_default();
    let (reason, message) = match (asked, context.execution.spec.decision.is_some()) {
        (true, true) => {
            (Reason::Quarantined, format!("no rung of the ladder helped; left alone until it clears: {said}"))
        }
        (true, false) if !last_failed => (Reason::StillUnhealthy, said),
        (false, _) if !last_failed => (Reason::Completed, "all rungs were done".to_owned()),
        _ => (last.map_or(Reason::ActionFailed, |rung| failure(rung.state)), said),
    };
    finish(context, status, reason, &message)
}

/// The reason of an Execution whose last rung ended badly.
fn failure(state: AttemptState) -> Reason {
    match state {
        AttemptState::Lost => Reason::Lost,
        AttemptState::DeadlineExceeded => Reason::DeadlineExceeded,
        _ => Reason::ActionFailed,
    }
}

/// How the message of a rung begins that has deleted the target and could not create it again.
pub(super) fn missing(context: Context<'_>) -> String {
    let target = context.execution.spec.target.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{target} IS DELETED")
}

/// A rung has nothing to do any more.
pub(super) fn superseded(context: Context<'_>, rung: usize, why: &str) -> Next {
    let mut next = finish(context, context.status(), Reason::Superseded, why);
    take_name(context, rung, &mut next);
    next
}

/// A person wants it to stop.
pub(super) fn cancel(context: Context<'_>, phase: &Phase<'_>) -> Next {
    match phase {
        Phase::Begin(rung) if context.job_exists(*rung) => super::rung::adopt(context, *rung),
        Phase::Begin(rung) => {
            let mut next = finish(context, context.status(), Reason::Canceled, "canceled");
            take_name(context, *rung, &mut next);
            next
        }
        Phase::Running(index, _) => stop_job(context, *index),
        // It is deleted, or about to be: nobody else would create what is missing then.
        Phase::Launching(index, rung) => match rung::old_object(context, rung) {
            OldObject::There => finish(context, context.status(), Reason::Canceled, "canceled"),
            OldObject::Going if rung::is_late(context, rung) => {
                let kept = format!("its manifest is in status.rungs[{index}].replacement");
                let target =
                    context.execution.spec.target.as_ref().map(ToString::to_string).unwrap_or_default();
                let message = format!(
                    "canceled; {target} is being deleted, and will be missing when its finalizers are gone: {kept}"
                );
                finish(context, context.status(), Reason::Canceled, &message)
            }
            OldObject::Going | OldObject::Gone => rung::launching(context, *index, rung),
        },
        _ => finish(context, context.status(), Reason::Canceled, "canceled"),
    }
}

/// Deletes the Job, and ends when its Pods are gone; or when it would have ended without being canceled, as the Pods of a node
/// that does not answer are never gone.
fn stop_job(context: Context<'_>, index: usize) -> Next {
    let mut status = context.status();
    let Some(rung) = status.rungs.get_mut(index) else { return Next::wait(Again::OnChange) };
    let ObjectReference { name, uid, .. } = rung.job.clone().unwrap_or_default();
    let uid = uid.unwrap_or_default();
    let job = context.seen.job.as_ref().filter(|job| job.uid == uid);
    // The Job may be deleted already and its Pods not: whoever stopped it died or was refused in between.
    let may_run = job
        .map_or(context.seen.stray_pods > 0, |job| job.live_pods > 0 || (!job.deleting && job.end.is_none()));
    let stop = may_run.then(|| Effect::DeleteJob(name.clone(), uid.clone()));
    if may_run && context.now < context.deadline(rung) {
        return Next::of(stop.into_iter().collect(), Again::At(soon(context)));
    }
    rung.state = AttemptState::Failed;
    rung.finished_at = Some(Time(context.now));
    "canceled".clone_into(&mut rung.message);
    let message = match may_run {
        true => "canceled; its Job was told to stop, but its Pods may run still",
        false => "canceled; its Job was stopped",
    };
    let mut next = finish(context, status, Reason::Canceled, message);
    next.effects.extend(stop);
    next.effects.extend(job.map(|_| Effect::ReleaseJob(name, uid)));
    next
}

fn soon(context: Context<'_>) -> k8s_openapi::jiff::Timestamp {
    context.now.saturating_add(super::LOOK_EVERY).unwrap_or(context.now)
}

/// A create of the rung's Job may still be on its way from a process that believes it leads. Whoever ends the rung or
/// the Execution first takes the Job's name with a Job that starts no Pod.
pub(super) fn take_name(context: Context<'_>, rung: usize, next: &mut Next) {
    let action = context.action(rung).filter(|_| context.seen.job.is_none());
    let job = action.and_then(|action| job::placeholder(context.execution, rung, action, context.seen.pods));
    if let Some(job) = job {
        next.effects.insert(0, Effect::TakeName(Box::new(job)));
    }
}

/// Ends the Execution.
pub(super) fn finish(
    context: Context<'_>,
    mut status: ExecutionStatus,
    reason: Reason,
    message: &str,
) -> Next {
    let now = context.now;
    let generation = context.execution.metadata.generation;
    let succeeded = match reason {
        Reason::TargetRecovered | Reason::Completed | Reason::Observed | Reason::Superseded => {
            ConditionStatus::True
        }
        _ => ConditionStatus::False,
    };
    let (verified, seen) = verified(&status, reason, message);
    let mut set = |condition, (status_of, why), text: &str| {
        set_condition(&mut status.conditions, (condition, status_of, why), text, generation, now);
    };
    set(ConditionType::Succeeded, (succeeded, reason), message);
    set(ConditionType::Verified, verified, &seen);
    set(ConditionType::Finished, (ConditionStatus::True, reason), message);
    status.finished_at = Some(Time(now));
    status.duration = Some(lasted(context, &status));
    // The episode is over if this very look showed it, or if the trigger was an event, which is over at once.
    let decided = context.execution.spec.decision.is_some();
    let proven = context.seen.look.matches == Some(false) && context.has_state();
    if decided && reason != Reason::Observed && (proven || context.was_event()) {
        status.episode_closed_at = Some(Time(now));
    }
    let mut effects = vec![Effect::Status(Box::new(status))];
    effects.extend(notice(reason, message).map(Effect::Event));
    Next::of(effects, Again::Now)
}

/// What is said of the verification, and in which words. One that did not hold stays said, however it ends afterwards.
fn verified(status: &ExecutionStatus, reason: Reason, message: &str) -> ((ConditionStatus, Reason), String) {
    let not_held = status.rungs.iter().rev().find_map(|rung| {
        let verify = rung.verify.as_ref().filter(|verify| verify.held == Some(false))?;
        Some(format!("{} was not verified: {}", rung.run, verify.message))
    });
    let unhealthy = (ConditionStatus::False, Reason::StillUnhealthy);
    match (reason, not_held) {
        (Reason::TargetRecovered, _) => ((ConditionStatus::True, reason), message.to_owned()),
        (Reason::Quarantined | Reason::StillUnhealthy, _) => (unhealthy, message.to_owned()),
        (_, Some(not_held)) => (unhealthy, not_held),
        (_, None) => ((ConditionStatus::False, Reason::NotConfigured), message.to_owned()),
    }
}

fn lasted(context: Context<'_>, status: &ExecutionStatus) -> String {
    let started = status.started_at.as_ref().map_or(context.now, |t| t.0);
    let seconds = context.now.duration_since(started).as_secs();
    Duration::from_secs(u32::try_from(seconds).unwrap_or(0)).to_string()
}

fn notice(reason: Reason, message: &str) -> Option<Notice> {
    let (event, warning) = match reason {
        Reason::TargetRecovered => ("RemediationVerified", false),
        Reason::Completed => ("RemediationCompleted", false),
        Reason::Quarantined | Reason::StillUnhealthy => ("RemediationIneffective", true),
        Reason::Canceled => ("ExecutionCanceled", false),
        Reason::Superseded => ("ExecutionSuperseded", false),
        _ => return None,
    };
    Some(Notice { reason: event, warning, note: message.to_owned(), rung: None, target_uid: None })
}
