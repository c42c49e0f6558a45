//! Carries out what was decided, in order. What the account may not do fails the rung; what the network lost is tried
//! again.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::trouble::Of;
use crate::api::{self, CollectRunner, Execution, FreeForm, ObjectReference};
use crate::cluster::account::Account;
use crate::cluster::error::optional;
use crate::cluster::events::{Telling, framed};
use crate::cluster::evidence::{self, Bounds, Subject};
use crate::cluster::jobs::Jobs;
use crate::cluster::objects::{MANAGER, Objects};
use crate::cluster::{Error, Result, owners};
use crate::controller::context::Context;
use crate::controller::{definitions, reference_to};
use crate::decide::execution::{
    Done, EXECUTION_FINALIZER, Effect, Need, Notice, PATIENCE, Seen, is_canceled,
};
use crate::decide::job;
use crate::decide::lifecycle::is_lost;
use crate::decide::operation::{self, Operation, PatchFormat, RECREATED_BY};
use crate::decide::outcome::{JOB_FINALIZER, JobSeen};
use crate::source::watch::now;
use crate::text::without_secrets;

/// What effects came to, for the next step.
#[derive(Default)]
pub struct Came {
    /// What an operation gave, or why it failed.
    pub done: Option<std::result::Result<Done, String>>,
    /// The Job that was created just now, by its name.
    pub job: Option<(String, JobSeen)>,
}

impl Came {
    /// The Job that is needed, if it was created just now.
    pub fn created(&self, need: &Need) -> Option<JobSeen> {
        let (name, job) = self.job.as_ref()?;
        let is_it = match need {
            Need::Begin { job: Some(wanted), .. } => wanted == name,
            Need::Job(wanted, uid) => wanted == name && *uid == job.uid,
            _ => false,
        };
        is_it.then(|| job.clone())
    }

    /// With what of an earlier step this one has not.
    pub fn or(self, earlier: Self) -> Self {
        Self { done: self.done.or(earlier.done), job: self.job.or(earlier.job) }
    }
}

impl From<std::result::Result<Done, String>> for Came {
    fn from(done: std::result::Result<Done, String>) -> Self {
        Self { done: Some(done), job: None }
    }
}

/// Carries out effects. Stops at the first that fails.
pub async fn all(
    context: &Context,
    execution: &Arc<Execution>,
    account: &Account,
    seen: &Seen,
    effects: Vec<Effect>,
) -> Result<Came> {
    let mut came = Came::default();
    for effect in effects {
        came = one(context, execution, account, seen, effect).await?.or(came);
    }
    Ok(came)
}

async fn one(
    context: &Context,
    execution: &Arc<Execution>,
    account: &Account,
    seen: &Seen,
    effect: Effect,
) -> Result<Came> {
    let jobs = Jobs::of(&account.client(), &execution.namespace().unwrap_or_default());
    match effect {
        Effect::CreateJob(job) => return created(jobs.create(&job).await),
        Effect::TakeName(job) => {
            if let Err(error) = jobs.take_name(&job).await {
                let now = now();
                let lasted = || now.duration_since(context.troubles.since(Of::Names, execution, now));
                without_placeholder(error, matches!(seen.done, Some(Err(_))), lasted)?;
            }
            let namespace = execution.namespace().unwrap_or_default();
            context.troubles.over(Of::Names, &namespace, &execution.name_any());
        }
        Effect::DeleteJob(name, uid) => jobs.stop(&name, &uid).await?,
        Effect::UnholdJob(name, uid) => jobs.unhold(&name, &uid, JOB_FINALIZER).await?,
        Effect::ReleaseJob(name, uid) => jobs.release(&name, &uid, JOB_FINALIZER).await?,
        Effect::Operate(operation) => return came(operate(context, account, *operation).await),
        Effect::Collect(runner, rung) => {
            return came(collect(context, execution, account, (&runner, rung, seen)).await.map(Some));
        }
        Effect::Status(status) => super::write(context, execution, &status).await?,
        Effect::Event(notice) => announce(context, execution, &notice).await,
        Effect::RemoveFinalizer => {
            if let Some(blind) = &seen.blind {
                tracing::warn!(execution = %execution.name_any(), why = blind.why, "let go without its Jobs");
            }
            remove_finalizer(context, execution).await?;
        }
    }
    Ok(Came::default())
}

/// Whether it goes on without a placeholder, or is tried again. Whoever may create no Job at all has none on its way. What
/// is refused for another reason, such as a quota, may be admitted in a moment, and so may the Job that is late: that is
/// tried for a while, unless the Job itself was refused just now.
fn without_placeholder(
    error: Error,
    is_refused_too: bool,
    lasted: impl FnOnce() -> SignedDuration,
) -> Result<()> {
    if !error.is_lasting() {
        return Err(error);
    }
    if error.lacks_a_right() || error.loses_its_namespace() || error.is_not_found() {
        tracing::debug!(%error, "no placeholder, and no Job either");
        return Ok(());
    }
    if !is_refused_too && lasted() < PATIENCE {
        return Err(Error::Busy(error.to_string()));
    }
    tracing::warn!(%error, "no placeholder: a Job that is on its way still could start");
    Ok(())
}

/// What will not change by trying again is the rung's result; the rest is an error that is tried again.
fn came(result: Result<Option<Done>>) -> Result<Came> {
    match result {
        Ok(done) => Ok(done.map(|done| Ok(done).into()).unwrap_or_default()),
        Err(error) if error.is_lasting() || error.is_conflict() => Ok(Err(error.to_string()).into()),
        Err(error) => Err(error),
    }
}

/// A Job that the API server refuses fails its rung: quota, policy or rights will not change by trying again.
fn created(result: Result<Option<Job>>) -> Result<Came> {
    match result {
        Err(error) if error.is_lasting() => Ok(Err(error.to_string()).into()),
        other => Ok(Came { done: None, job: other?.map(|job| (job.name_any(), JobSeen::of(&job, &[]))) }),
    }
}

/// Does an operation; none if it takes more than one step and the last is still to come.
async fn operate(context: &Context, account: &Account, operation: Operation) -> Result<Option<Done>> {
    match operation {
        Operation::Patch { target, format, body } => {
            let objects = Objects::around(account.client(), &context.kinds, &target).await?;
            patch(&objects, &target, format, &body).await?;
            Ok(Some(Done { message: format!("{target} patched"), ..Done::default() }))
        }
        Operation::Delete { target, grace_period_seconds } => {
            let objects = Objects::around(account.client(), &context.kinds, &target).await?;
            let grace = grace_period_seconds.and_then(|seconds| u32::try_from(seconds).ok());
            objects.delete(&target.name, target.uid.as_deref(), grace).await?;
            Ok(Some(Done { message: format!("{target} deleted"), ..Done::default() }))
        }
        Operation::Recreate { target, manifest } => recreate(context, account, &target, &manifest).await,
    }
}

async fn patch(
    objects: &Objects,
    target: &ObjectReference,
    format: PatchFormat,
    body: &Value,
) -> Result<Value> {
    let parsed;
    let patch = match format {
        PatchFormat::Merge => Patch::Merge(body),
        PatchFormat::Strategic => Patch::Strategic(body),
        PatchFormat::Json => {
            parsed = serde_json::from_value(body.clone())
                .map_err(|error| Error::Unexpected(format!("json patch: {error}")))?;
            Patch::Json(parsed)
        }
    };
    objects.patch(&target.name, &patch).await
}

/// One step from the old object to the saved one: deletes the old, or creates the other once it is gone. None while it
/// has still to go. Each part may have happened already. What would be refused is refused while the old one is still there.
async fn recreate(
    context: &Context,
    account: &Account,
    target: &ObjectReference,
    manifest: &Value,
) -> Result<Option<Done>> {
    let objects = Objects::around(account.client(), &context.kinds, target).await?;
    let mark = |object: &Value| object.pointer("/metadata/annotations").map(|a| a[RECREATED_BY].clone());
    let Some(found) = objects.get(&target.name).await? else {
        let created = objects.create(manifest).await?;
        return Ok(Some(recreated(target, owners::reference(&created).uid)));
    };
    let uid = owners::reference(&found).uid;
    if uid != target.uid && mark(&found).is_some() && mark(&found) == mark(manifest) {
        return Ok(Some(recreated(target, uid)));
    }
    if uid != target.uid {
        return Err(Error::Unexpected(format!("another {target} has taken its place")));
    }
    if found.pointer("/metadata/deletionTimestamp").is_none() {
        objects.rehearse(&operation::rehearsal(manifest)).await?;
        objects.delete(&target.name, uid.as_deref(), None).await?;
    }
    Ok(None)
}

fn recreated(target: &ObjectReference, uid: Option<String>) -> Done {
    Done { message: format!("{target} recreated"), replaced_by: uid, ..Done::default() }
}

async fn collect(
    context: &Context,
    execution: &Execution,
    account: &Account,
    (runner, rung, seen): (&CollectRunner, usize, &Seen),
) -> Result<Done> {
    let client = account.client();
    let (namespace, name) = (execution.namespace().unwrap_or_default(), job::name(execution, rung));
    let uid = execution.uid().unwrap_or_default();
    if evidence::is_saved(&client, (&namespace, &name), &uid).await? {
        return Ok(collected(name));
    }
    let target = execution.spec.target.as_ref();
    let target = target.ok_or_else(|| Error::Unexpected("evidence needs a target".to_owned()))?;
    let live = seen.look.target.as_deref();
    let is_lost = execution.spec.decision.as_ref().is_some_and(|decision| is_lost(decision, target));
    let pods = match is_lost {
        true => Vec::new(),
        false => evidence::pods_of(&client, target, live).await?,
    };
    let is_wanted = || {
        let newest = context.executions.get(&namespace, &execution.name_any());
        newest.is_none_or(|newest| !is_canceled(&newest))
    };
    let until = Instant::now() + time_left(context, execution, rung).await?;
    let bounds = Bounds { until, is_wanted: &is_wanted, clean: without_secrets };
    let found = evidence::collect(&client, runner, &Subject { target, live, pods: &pods }, bounds).await;
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "namespace": execution.namespace(),
            "labels": job::labels(execution),
            "ownerReferences": [job::owner(execution)],
        },
        "data": found,
        "immutable": true,
    }))
    .map_err(|error| Error::Unexpected(error.to_string()))?;
    evidence::save(&client, &map, &uid).await?;
    Ok(collected(name))
}

/// How much is left of the time that the Action of a rung has.
async fn time_left(context: &Context, execution: &Execution, rung: usize) -> Result<Duration> {
    let missing = || Error::Unexpected("evidence needs a rung that has begun".to_owned());
    let begun = execution.status.as_ref().and_then(|status| status.rungs.get(rung)).ok_or_else(missing)?;
    let name = execution.definition().ok_or_else(missing)?;
    let definition = definitions::read(context, &execution.namespace().unwrap_or_default(), name).await?;
    let timeout = definition.actions.get(&begun.run).map(|action| action.timeout).unwrap_or_default();
    Ok(left(timeout, begun.started_at.0, now()))
}

fn left(timeout: api::Duration, began: Timestamp, now: Timestamp) -> Duration {
    let left = timeout.signed() - now.duration_since(began);
    // A clock that was set back gives no more than there was.
    Duration::try_from(left).unwrap_or_default().min(timeout.std())
}

fn collected(name: String) -> Done {
    let message = format!("evidence saved in ConfigMap {name}");
    let outputs = FreeForm([("configMap".to_owned(), Value::String(name))].into_iter().collect());
    Done { outputs, message, replaced_by: None }
}

async fn announce(context: &Context, execution: &Execution, notice: &Notice) {
    let Some(target) = execution.spec.target.as_ref().filter(|target| may_tell(execution, target)) else {
        return;
    };
    // Who describes an object sees what is about its UID: after a replacement, about that of the new one.
    let uid = notice.target_uid.clone().or_else(|| target.uid.clone());
    let regarding = ObjectReference { uid, ..target.clone() };
    let related = reference_to(execution);
    let telling = Telling {
        name: notice.name(&execution.name_any()),
        reason: notice.reason,
        warning: notice.warning,
        note: signed(execution, &notice.note),
        regarding: &regarding,
        related: Some(&related),
    };
    context.teller.tell(&telling, now()).await;
}

/// What is told with whose doing it is: `kubectl describe` does not show what an Event is related to.
fn signed(execution: &Execution, note: &str) -> String {
    let by = execution.rule().unwrap_or("run by hand");
    let named = format!("Execution {}", execution.name_any());
    let after = if note.contains(&named) { String::new() } else { format!(" ({named})") };
    framed(&format!("{by}: "), note, &after)
}

/// Whether an Event may be written about a target, as the controller does by its own rights, wherever the target is. A
/// Rule has seen its target; a run by hand may name any, so it has to be here, or, without a namespace, to have been seen.
fn may_tell(execution: &Execution, target: &ObjectReference) -> bool {
    execution.spec.decision.is_some()
        || target.namespace.as_ref().map_or(execution.has_begun(), |namespace| {
            execution.metadata.namespace.as_ref() == Some(namespace)
        })
}

/// Puts our finalizer on.
pub async fn add_finalizer(context: &Context, execution: &Execution) -> Result<()> {
    let mut finalizers = execution.finalizers().to_vec();
    finalizers.push(EXECUTION_FINALIZER.to_owned());
    set_finalizers(context, execution, &finalizers).await
}

/// Takes our finalizer off.
pub async fn remove_finalizer(context: &Context, execution: &Execution) -> Result<()> {
    let rest: Vec<_> = execution.finalizers().iter().filter(|f| *f != EXECUTION_FINALIZER).cloned().collect();
    if rest.len() == execution.finalizers().len() {
        return Ok(());
    }
    // The status was written a moment ago; the version to compare with is the newest that we know.
    let namespace = execution.namespace().unwrap_or_default();
    let newest = context.executions.get(&namespace, &execution.name_any());
    set_finalizers(context, newest.as_deref().unwrap_or(execution), &rest).await
}

async fn set_finalizers(context: &Context, execution: &Execution, finalizers: &[String]) -> Result<()> {
    let api: Api<Execution> =
        Api::namespaced(context.home.clone(), &execution.namespace().unwrap_or_default());
    let patch = json!({"metadata": {
        "uid": execution.metadata.uid,
        "resourceVersion": execution.metadata.resource_version,
        "finalizers": finalizers,
    }});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let name = execution.name_any();
    let patched = optional(api.patch(&name, &params, &Patch::Merge(&patch)).await);
    if let Some(patched) =
        patched.map_err(Error::request(format!("set the finalizers of Execution {name}")))?
    {
        context.executions.insert(Arc::new(patched));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_who_may_create_no_job_goes_on_without_a_placeholder_at_once() {
        let job = "jobs.batch \"j\" is forbidden";
        let right = format!("{job}: User \"h\" cannot create resource \"jobs\" in API group \"batch\"");
        let going =
            format!("{job}: unable to create new content in namespace a because it is being terminated");
        let quota = format!("{job}: exceeded quota: few, requested: count/jobs.batch=1");
        let denied = "admission webhook \"site\" denied the request: no".to_owned();
        for (code, message, is_refused_too, (at_first, in_the_end)) in [
            (403, &right, false, (true, true)),
            (403, &going, false, (true, true)),
            (403, &quota, false, (false, true)),
            (403, &quota, true, (true, true)),
            (400, &denied, false, (false, true)),
            (401, &denied, false, (false, false)),
            (409, &denied, true, (false, false)),
        ] {
            let goes_on = |lasted: SignedDuration| {
                let status = Status::failure(message, "").with_code(code);
                let error = Error::request("take the name of Job j")(kube::Error::Api(status.boxed()));
                let decided = without_placeholder(error, is_refused_too, || lasted);
                decided.inspect_err(|error| assert!(!error.is_lasting(), "tried again soon: {error}")).is_ok()
            };
            let told = (goes_on(SignedDuration::ZERO), goes_on(PATIENCE));
            assert_eq!(told, (at_first, in_the_end), "{code} {message} {is_refused_too}");
        }
    }

    #[test]
    fn evidence_is_collected_in_what_is_left_of_the_timeout() {
        let (timeout, began) = (api::Duration::from_mins(5), Timestamp::UNIX_EPOCH);
        for (passed, expected) in [(0, 300), (290, 10), (300, 0), (400, 0), (-60, 300)] {
            let now = began + SignedDuration::from_secs(passed);
            assert_eq!(left(timeout, began, now), Duration::from_secs(expected), "after {passed} s");
        }
    }

    #[test]
    fn what_is_told_of_a_target_says_whose_doing_it_is() {
        let mut execution = Execution::new("leak-1", api::ExecutionSpec::default());
        assert_eq!(signed(&execution, "canceled"), "run by hand: canceled (Execution leak-1)");
        let decision = json!({"id": "0", "time": "2026-01-01T00:00:00Z", "rule": {"name": "leak"}, "mode": "Enforce",
            "definition": "d", "matched": {"object": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}});
        execution.spec.decision = Some(serde_json::from_value(decision).expect("a decision"));
        assert_eq!(signed(&execution, "canceled"), "leak: canceled (Execution leak-1)");
        let known = "its manifest is in the Execution leak-1: no room";
        assert_eq!(signed(&execution, known), format!("leak: {known}"), "named once");
    }

    #[test]
    fn what_is_run_by_hand_has_nothing_said_about_what_it_may_not_have_seen() {
        let tells = |namespace: Option<&str>, decided: bool, begun: bool| {
            let target = json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "p"});
            let decision = json!({"id": "0", "time": "2026-01-01T00:00:00Z", "rule": {"name": "r"}, "mode": "Enforce",
                "definition": "d", "matched": {"object": target}});
            let rung = json!({"run": "x", "state": "Running", "startedAt": "2026-01-01T00:00:00Z"});
            let execution: Execution = serde_json::from_value(json!({
                "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
                "metadata": {"name": "x", "namespace": "own"},
                "spec": {"serviceAccountName": "h", "target": target,
                    "decision": if decided { decision } else { Value::Null }},
                "status": {"rungs": if begun { vec![rung] } else { Vec::new() }},
            }))
            .expect("an Execution");
            execution.spec.target.as_ref().map(|target| may_tell(&execution, target))
        };
        for (namespace, decided, begun, expected) in [
            (Some("own"), false, false, true),
            (Some("other"), false, true, false),
            (None, false, false, false),
            (None, false, true, true),
            (None, true, false, true),
            (Some("other"), true, false, true),
        ] {
            let said = tells(namespace, decided, begun);
            assert_eq!(said, Some(expected), "{namespace:?} decided: {decided} begun: {begun}");
        }
    }
}
