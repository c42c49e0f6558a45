//! Executions: observe, decide, act, round and round until there is nothing to do at the moment.

mod act;
mod observe;
mod trouble;
mod turns;
mod watched;

pub use trouble::Troubles;
pub use turns::Turns;
pub use watched::JobWatches;

use std::sync::Arc;
use std::time::Duration;

use futures::join;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::context::Context;
use super::definitions;
use super::published;
use super::queue::{Kind, Requeue};
use super::rights;
use super::strange::not_known;
use crate::api::{
    ConditionStatus, ConditionType, Execution, ExecutionStatus, Reason, Rung, condition, is_path_segment,
    set_condition,
};
use crate::cluster::account::Account;
use crate::cluster::{Error, Result, status};
use crate::decide::check;
use crate::decide::definition::Definition;
use crate::decide::execution::{
    Again, Blind, Deserted, EXECUTION_FINALIZER, Need, Next, PATIENCE, Seen, Trouble, deserted, is_canceled,
    needs, next, unknown_value,
};
use crate::source::watch::now;
use act::Came;
use trouble::Of;

/// Rounds of one reconcile, at the most: each ends in a wait or an end, so more would be a bug.
const ROUNDS: usize = 64;

/// How old the permission may be by which is looked. What is done is done by one that is read meanwhile.
const LOOKING: Duration = Duration::from_secs(10);

/// How long a run by hand waits for its Action: whoever applies one file applies both within it.
const COMING: SignedDuration = SignedDuration::from_secs(10);
/// And how often it is looked whether it has come.
const LOOK_FOR_IT: Duration = Duration::from_millis(500);

/// Reconciles one Execution.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let mut came = Came::default();
    for _ in 0..ROUNDS {
        let execution = context.executions.get(namespace, name);
        let execution = execution.filter(|found| !found.is_finished() || has_finalizer(found));
        let Some(execution) = execution else {
            context.troubles.forget(namespace, name);
            return Ok(Requeue::OnChange);
        };
        if let Some(field) = unknown(context, &execution) {
            stand_still(context, &execution, Reason::UnsupportedValue, &not_known(&field)).await?;
            return Ok(Requeue::OnChange);
        }
        let Some((definition, account)) = prepare(context, &execution).await? else {
            return Ok(Requeue::OnChange);
        };
        // Boxed, as what it asks for side by side is large; so is what may be done.
        let Some(seen) = Box::pin(look(context, &execution, (&definition, &account), &mut came)).await?
        else {
            return Ok(Requeue::OnChange);
        };
        let (acted, again) = Box::pin(step(context, &execution, (&definition, &account), &seen)).await?;
        came = acted.or(came);
        if came.done.is_some() {
            continue;
        }
        match again {
            Again::Now => {}
            Again::At(at) => {
                let pause = Duration::try_from(at.duration_since(now())).unwrap_or_default();
                return Ok(Requeue::After(pause + Duration::from_millis(5)));
            }
            Again::OnChange => return Ok(Requeue::OnChange),
        }
    }
    Ok(Requeue::Failed)
}

/// Does what comes next.
async fn step(
    context: &Context,
    execution: &Arc<Execution>,
    (definition, account): (&Definition, &Account),
    seen: &Seen,
) -> Result<(Came, Again)> {
    let Next { effects, again } = next(execution, definition, seen, now());
    match act::all(context, execution, account, seen, effects).await {
        Ok(came) => Ok((came, again)),
        Err(error) => {
            let unseen = unreleased(&context.troubles, (execution, seen), error, now())?;
            let Next { effects, again } = next(execution, definition, &unseen, now());
            Ok((act::all(context, execution, account, &unseen, effects).await?, again))
        }
    }
}

/// What is seen of an Execution that has ended and cannot let go of its Jobs: as little as if they could not be looked at.
fn unreleased(
    troubles: &Troubles,
    (execution, seen): (&Execution, &Seen),
    error: Error,
    now: Timestamp,
) -> Result<Seen> {
    if !execution.is_finished() || seen.blind.is_some() || error.is_conflict() {
        return Err(error);
    }
    tracing::warn!(execution = %execution.name_any(), %error, "its Jobs cannot be let go");
    let blind = blind(troubles, execution, error, now)?;
    Ok(Seen { blind: Some(blind), ..Seen::default() })
}

/// Looks at what is needed as the account, while its permission is read for what is done next; none if it is gone. A Job
/// that was created just now is as it was created, and an Execution that was begins with the look that led to it.
async fn look(
    context: &Context,
    execution: &Arc<Execution>,
    (definition, account): (&Definition, &Account),
    came: &mut Came,
) -> Result<Option<Seen>> {
    let need = needs(execution, definition);
    let begins = matches!(need, Need::Begin { .. });
    let earlier =
        context.looks.take(execution.metadata.uid.as_deref().unwrap_or_default()).filter(|_| begins);
    let hears = matches!(need, Need::Job(..)) && context.jobs.hear(context, account).await;
    let done = came.done.take();
    if let Some(job) = came.created(&need) {
        return Ok(Some(Seen { job: Some(job), hears, done, pods: context.pods, ..Seen::default() }));
    }
    let (namespace, name) = account.namespace_and_name();
    let allowed = async {
        match &earlier {
            Some(_) => Ok(()),
            None => context.accounts.live(&context.home, namespace, name).await.map(drop),
        }
    };
    let (looked, allowed) =
        join!(observe::observe(context, execution, (definition, account), need, earlier.as_ref()), allowed);
    match allowed {
        Err(error) if error.is_forbidden() => return without_account(context, execution, error).await,
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    // What an operation came to is known to nobody else: that is recorded first.
    if done.is_none() && says_otherwise(context, execution, &looked).await? {
        // What is decided goes by the status that was just written.
        context.queue.add(Kind::Execution, namespace, &execution.name_any());
        return Ok(None);
    }
    let seen = look_or_blind(context, execution, looked)?;
    Ok(Some(Seen { hears, done, ..seen }))
}

/// What of an Execution that goes on, or of the Action that one by hand is about to run, this version does not know.
fn unknown(context: &Context, execution: &Execution) -> Option<String> {
    if execution.is_finished() {
        return None;
    }
    let namespace = execution.namespace().unwrap_or_default();
    let own = context.executions.unknown_field(&namespace, &execution.name_any());
    own.or_else(|| unknown_value(execution)).or_else(|| {
        let run = execution.spec.run.as_ref().filter(|_| execution.definition().is_none())?;
        let field = context.actions.unknown_field(&namespace, run)?;
        Some(format!("Action {run:?}: {field}"))
    })
}

/// Says which right is missing, as a person can grant it long before the Execution is given up; and that it is there
/// again. Whether anything was written.
async fn says_otherwise(
    context: &Context,
    execution: &Arc<Execution>,
    looked: &Result<Seen>,
) -> Result<bool> {
    let stands_still = execution.reason() == Some(Reason::MissingPermissions.as_str());
    let said = |which| condition(&execution.status.as_ref()?.conditions, which);
    let begun = said(ConditionType::Finished);
    let is_said =
        |text: &str| said(ConditionType::Succeeded).is_some_and(|said| said.message.ends_with(text));
    match (looked, begun) {
        _ if execution.is_finished() || is_canceled(execution) => return Ok(false),
        (Err(error), _) if error.is_forbidden() && !(stands_still && is_said(&error.to_string())) => {
            stand_still(context, execution, Reason::MissingPermissions, &error.to_string()).await?;
        }
        (Ok(_), Some(begun)) if stands_still => {
            let mut fresh = execution.status.clone().unwrap_or_default();
            let running = (ConditionType::Succeeded, ConditionStatus::Unknown, Reason::Running);
            let (message, generation) = (begun.message.clone(), execution.metadata.generation);
            set_condition(&mut fresh.conditions, running, message, generation, now());
            write(context, execution, &fresh).await?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// What was seen, or that nothing could be. After the end a look is not all that has to go well.
fn look_or_blind(context: &Context, execution: &Execution, looked: Result<Seen>) -> Result<Seen> {
    if looked.is_ok() && !execution.is_finished() {
        let namespace = execution.namespace().unwrap_or_default();
        context.troubles.over(Of::Looks, &namespace, &execution.name_any());
    }
    match looked {
        Err(error) => {
            let blind = blind(&context.troubles, execution, error, now())?;
            Ok(Seen { blind: Some(blind), pods: context.pods, ..Seen::default() })
        }
        seen => seen,
    }
}

/// That nothing could be seen. A server that does not answer is asked again, but not for ever, as what it is asked about
/// may be broken alone; and a person who wants the Execution to end is not kept waiting by it.
fn blind(troubles: &Troubles, execution: &Execution, error: Error, now: Timestamp) -> Result<Blind> {
    let since = troubles.since(Of::Looks, execution, now);
    if error.is_lasting() || is_canceled(execution) || now.duration_since(since) >= PATIENCE {
        return Ok(Blind { why: error.to_string(), since });
    }
    Err(error)
}

fn has_finalizer(execution: &Execution) -> bool {
    execution.finalizers().iter().any(|f| f == EXECUTION_FINALIZER)
}

/// What it runs and as whom; none if it can never run, which its status then says.
async fn prepare(
    context: &Context,
    execution: &Arc<Execution>,
) -> Result<Option<(Arc<Definition>, Account)>> {
    match what_and_as_whom(context, execution).await {
        Err(error) if error.is_forbidden() => without_account(context, execution, error).await,
        other => other,
    }
}

/// Forbidden if the account is not allowed, or the namespace, where definitions are kept, is not enrolled.
async fn what_and_as_whom(
    context: &Context,
    execution: &Arc<Execution>,
) -> Result<Option<(Arc<Definition>, Account)>> {
    let namespace = execution.namespace().unwrap_or_default();
    let account = &execution.spec.service_account_name;
    let account = context.accounts.recent(&context.home, &namespace, account, LOOKING).await?;
    let Some(name) = execution.definition() else { return by_hand(context, execution, account).await };
    match definitions::read(context, &namespace, name).await {
        Ok(definition) => Ok(Some((definition, account))),
        Err(error) if error.is_lasting() && !error.is_forbidden() => {
            without_definition(context, execution, error, account).await
        }
        Err(error) => Err(error),
    }
}

/// Does what can be done without the definition: it needs none to end, or to be canceled.
async fn without_definition(
    context: &Context,
    execution: &Arc<Execution>,
    error: Error,
    account: Account,
) -> Result<Option<(Arc<Definition>, Account)>> {
    if execution.is_finished() || is_canceled(execution) {
        return Ok(Some((Arc::default(), account)));
    }
    if let Error::Unknown(message) = &error {
        stand_still(context, execution, Reason::UnsupportedValue, message).await?;
        return Err(error);
    }
    let now = now();
    let trouble = Trouble { since: context.troubles.since(Of::Looks, execution, now), is_meant: true };
    if deserted(execution, trouble, now) == Deserted::Refuse {
        return refuse(context, execution, Reason::ReferenceNotFound, &error.to_string()).await;
    }
    stand_still(context, execution, Reason::ReferenceNotFound, &error.to_string()).await?;
    Err(error)
}

/// Freezes what a run by hand runs, and holds it until no Job of it is live.
async fn by_hand(
    context: &Context,
    execution: &Arc<Execution>,
    account: Account,
) -> Result<Option<(Arc<Definition>, Account)>> {
    let namespace = execution.namespace().unwrap_or_default();
    if let Some(message) = misplaced(context, execution, &namespace).await? {
        return refuse(context, execution, Reason::Forbidden, &message).await;
    }
    let run = execution.spec.run.clone().unwrap_or_default();
    let Some(action) = context.actions.get(&namespace, &run) else {
        let message = format!("Action {run:?} not found in namespace {namespace:?}");
        if let Some(left) = left_to_come(execution).filter(|_| !is_canceled(execution)) {
            stand_still(context, execution, Reason::ActionNotFound, &message).await?;
            context.queue.add_in(Kind::Execution, (&namespace, &execution.name_any()), left.min(LOOK_FOR_IT));
            return Ok(None);
        }
        return refuse(context, execution, Reason::ActionNotFound, &message).await;
    };
    if !has_finalizer(execution) && execution.metadata.deletion_timestamp.is_none() {
        act::add_finalizer(context, execution).await?;
        context.queue.add(Kind::Execution, &namespace, &execution.name_any());
        return Ok(None);
    }
    if let Some(mistake) = mistake(context, execution).await {
        return refuse(context, execution, Reason::InvalidExpression, &mistake).await;
    }
    let rung =
        Rung { run: run.clone(), with: execution.spec.with.clone(), verify: execution.spec.verify.clone() };
    let definition =
        Definition { rule: None, ladder: vec![rung], actions: [(run.clone(), action.spec.clone())].into() };
    let name = definition.name(&run);
    let _kept = definitions::keep(context, &namespace, &name, &definition).await?;
    let mut fresh = execution.status.clone().unwrap_or_default();
    fresh.definition = Some(name);
    write(context, execution, &fresh).await?;
    Ok(Some((Arc::new(definition), account)))
}

/// Why a target is not where it is said to be, or can be nowhere. In another namespace than its Execution it would stand in the way
/// of others, and one of the cluster that is said to be in a namespace would not stand in the way of those who act on it by its
/// name alone.
async fn misplaced(context: &Context, execution: &Execution, own: &str) -> Result<Option<String>> {
    let Some(target) = &execution.spec.target else { return Ok(None) };
    let said = target.namespace.as_deref();
    if said.is_some_and(|said| said != own) {
        return Ok(Some(format!("{target} is in another namespace than the Execution")));
    }
    if target.is_key() {
        return Ok(None);
    }
    if !is_path_segment(&target.name) {
        return Ok(Some(format!("{:?} is no name of an object", target.name)));
    }
    let (kind, served) =
        (&target.kind, context.kinds.find(&context.home, &target.api_version, &target.kind).await);
    match served {
        Ok(served) if served.namespaced && said.is_none() => {
            Ok(Some(format!("{kind} has a namespace; say target.namespace: {own}")))
        }
        Ok(served) if !served.namespaced && said.is_some() => {
            Ok(Some(format!("{kind} has no namespace; leave out target.namespace")))
        }
        // It is told of where it is looked at.
        Ok(_) | Err(Error::UnknownKind { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a Rule would be told of its `verify`. Before it is refused it is looked whether its target's kind has changed.
async fn mistake(context: &Context, execution: &Execution) -> Option<String> {
    let version = execution.spec.target.as_ref().filter(|target| !target.is_key());
    let versions = version.iter().map(|target| target.api_version.as_str()).collect();
    let mut found = None;
    for age in [published::BELIEVED, published::DOUBTED] {
        let fields = context.published.of(&context.home, &versions, age).await;
        let problems = check::execution(&execution.spec, &fields.schemas);
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        found = (!texts.is_empty()).then(|| texts.join("; "));
        if found.is_none() {
            break;
        }
    }
    found
}

/// For how long what it names may be still to come: both may be in one file.
fn left_to_come(execution: &Execution) -> Option<Duration> {
    let ends = execution.creation_timestamp()?.0.checked_add(COMING).ok()?;
    Duration::try_from(ends.duration_since(now())).ok().filter(|left| !left.is_zero())
}

/// Does what can be done without the account.
async fn without_account<T>(
    context: &Context,
    execution: &Arc<Execution>,
    error: Error,
) -> Result<Option<T>> {
    let now = now();
    let is_meant = matches!(error, Error::NotAllowed(_));
    let account = (&*execution.namespace().unwrap_or_default(), &*execution.spec.service_account_name);
    let message = rights::refused(&error.to_string(), account);
    let trouble = Trouble { since: context.troubles.since(Of::Looks, execution, now), is_meant };
    match deserted(execution, trouble, now) {
        Deserted::LetGo => {
            tracing::warn!(execution = %execution.name_any(), %error, "let go without its account");
            act::remove_finalizer(context, execution).await?;
            Ok(None)
        }
        Deserted::Refuse => refuse(context, execution, Reason::MissingPermissions, &message).await,
        Deserted::StandStill => {
            stand_still(context, execution, Reason::MissingPermissions, &message).await?;
            Err(soon(trouble, now, error))
        }
        Deserted::Wait => Err(soon(trouble, now, error)),
    }
}

/// What may pass in a moment is tried again sooner than what a person has to mend.
fn soon(trouble: Trouble, now: Timestamp, error: Error) -> Error {
    let passes = !trouble.is_meant && now.duration_since(trouble.since) <= PATIENCE;
    if passes { Error::Busy(error.to_string()) } else { error }
}

/// Says that an Execution cannot go on: what runs cannot even be looked at without the account or the definition. It
/// goes on when they are back.
async fn stand_still(
    context: &Context,
    execution: &Arc<Execution>,
    reason: Reason,
    message: &str,
) -> Result<()> {
    let mut fresh = execution.status.clone().unwrap_or_default();
    let unknown = (ConditionType::Succeeded, ConditionStatus::Unknown, reason);
    let message = format!("stands still: {message}");
    set_condition(&mut fresh.conditions, unknown, message, execution.metadata.generation, now());
    write(context, execution, &fresh).await
}

/// Ends an Execution that cannot begin.
async fn refuse<T>(
    context: &Context,
    execution: &Arc<Execution>,
    reason: Reason,
    message: &str,
) -> Result<Option<T>> {
    let mut fresh = execution.status.clone().unwrap_or_default();
    let generation = execution.metadata.generation;
    for (condition, state) in
        [(ConditionType::Succeeded, ConditionStatus::False), (ConditionType::Finished, ConditionStatus::True)]
    {
        set_condition(&mut fresh.conditions, (condition, state, reason), message, generation, now());
    }
    fresh.finished_at.get_or_insert(Time(now()));
    write(context, execution, &fresh).await?;
    act::remove_finalizer(context, execution).await?;
    Ok(None)
}

/// Writes a status and takes the answer in.
async fn write(context: &Context, execution: &Arc<Execution>, fresh: &ExecutionStatus) -> Result<()> {
    if let Some(written) =
        status::write(&context.home, &**execution, execution.status.as_ref(), fresh).await?
    {
        let ended = !execution.is_finished() && written.is_finished();
        if ended {
            let rule = execution.rule().unwrap_or_default();
            let (namespace, reason) =
                (written.namespace().unwrap_or_default(), written.reason().unwrap_or_default());
            tracing::info!(execution = %written.name_any(), rule, reason, "finished");
            context.journal.ended(&written);
            context.metrics.ended((&namespace, rule), reason, lasted(&written), recovery(&written));
        }
        context.executions.insert(Arc::new(written));
    }
    Ok(())
}

/// How long it took, in seconds.
fn lasted(execution: &Execution) -> f64 {
    let status = execution.status.as_ref();
    let (started, finished) =
        (status.and_then(|s| s.started_at.as_ref()), status.and_then(|s| s.finished_at.as_ref()));
    match (started, finished) {
        (Some(started), Some(finished)) => finished.0.duration_since(started.0).as_secs_f64(),
        _ => 0.0,
    }
}

/// From the first match to the verified recovery, in seconds.
fn recovery(execution: &Execution) -> Option<f64> {
    let since = execution.spec.decision.as_ref()?.since.as_ref()?;
    let finished = execution.status.as_ref()?.finished_at.as_ref()?;
    (execution.reason() == Some(Reason::TargetRecovered.as_str()))
        .then(|| finished.0.duration_since(since.0).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::decide::execution::Effect;

    #[test]
    fn what_cannot_let_go_of_its_jobs_is_let_go_itself_in_the_end() {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let execution = |status: serde_json::Value| -> Execution {
            let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
                "metadata": {"name": "x", "namespace": "a", "uid": "u", "finalizers": [EXECUTION_FINALIZER],
                    "deletionTimestamp": "1970-01-01T00:00:00Z"},
                "spec": {"serviceAccountName": "h"}, "status": status});
            serde_json::from_value(execution).expect("an Execution")
        };
        let ended = execution(json!({"rungs": [], "finishedAt": "1970-01-01T00:00:00Z"}));
        let refused = |code| {
            let status =
                Status::failure("admission webhook \"site\" denied the request: no", "").with_code(code);
            Error::request("release Job j")(kube::Error::Api(status.boxed()))
        };
        for code in [403, 500] {
            let troubles = Troubles::default();
            let effects = |seconds| {
                let seen = unreleased(&troubles, (&ended, &Seen::default()), refused(code), at(seconds));
                let seen = seen.expect("it is decided without them");
                next(&ended, &Definition::default(), &seen, at(seconds)).effects
            };
            assert!(effects(1).is_empty() && effects(60).is_empty(), "{code}: it may be admitted yet");
            assert_eq!(effects(61), [Effect::RemoveFinalizer], "{code}");
        }
        let goes_on = execution(json!({"rungs": []}));
        for (execution, code) in [(&goes_on, 403), (&ended, 409)] {
            let seen = unreleased(&Troubles::default(), (execution, &Seen::default()), refused(code), at(90));
            assert!(seen.is_err(), "{code}: it is told and tried again");
        }
    }
}
