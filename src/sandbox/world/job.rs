//! Jobs: pods until enough of them have succeeded, or too many failed.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::common::{Context, Error, active, controller_uid, pod_of};
use super::job_plan::{self, Course, FINALIZER, Seen, Tally, tracked};
use crate::sandbox::recorder::Notice;

const COMPONENT: &str = "job-controller";
/// The label by which the pods of a Job are found.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Brings the pods of a Job, and what it says of them, in line with what it asks for.
pub async fn reconcile(job: Arc<Job>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(spec) = job.spec.as_ref().filter(|spec| spec.managed_by.is_none()) else {
        return Ok(Action::await_change());
    };
    let selector = LabelSelector {
        match_labels: Some([(JOB_NAME.to_owned(), job.name_any())].into()),
        ..LabelSelector::default()
    };
    let pods: Vec<Pod> = context.owned(job.as_ref(), &selector).await?;
    let mut status = job.status.clone().unwrap_or_default();
    if let Some(end) = job_plan::finished(&status) {
        let ended = end.last_transition_time.as_ref().map_or_else(|| context.clock.now(), |time| time.0);
        return expire(&job, spec, ended, &context).await;
    }
    if job.metadata.deletion_timestamp.is_some() {
        for pod in &pods {
            release(pod, &context).await?;
        }
        return Ok(Action::await_change());
    }
    if let Some(what) = unsupported(spec) {
        let notice =
            Notice::warning(COMPONENT, "Unsupported", format!("{what} is not supported by the sandbox"));
        context.recorder.record(job.object_ref(&()), notice);
        return Ok(Action::await_change());
    }
    let tally = tally(&job, spec, &mut status, &pods, &context).await?;
    let (now, backoff_base) = (context.clock.time(), context.backoff_base);
    let seen = Seen { spec, status: &status, pods: &pods, tally: &tally, now: &now, backoff_base };
    let (next, course) = job_plan::plan(&seen);
    let wait = act(&job, &pods, &course, &context).await?;
    context.write_status(job.as_ref(), Some(&status), &next).await?;
    announce(&job, &status, &next, &context);
    let deadline = job_plan::deadline(spec, &next).map(|deadline| deadline.duration_since(now.0));
    let deadline =
        deadline.filter(SignedDuration::is_positive).and_then(|left| Duration::try_from(left).ok());
    Ok(deadline.into_iter().chain(wait).min().map_or_else(Action::await_change, Action::requeue))
}

fn unsupported(spec: &JobSpec) -> Option<&'static str> {
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let cases = [
        (indexed, "completionMode Indexed"),
        (spec.pod_failure_policy.is_some(), "podFailurePolicy"),
        (spec.success_policy.is_some(), "successPolicy"),
    ];
    cases.into_iter().find(|(used, _)| *used).map(|(_, what)| what)
}

/// Counts the pods that have ended, and lets them go. `status` is what the API server has, before and after.
async fn tally(
    job: &Job,
    spec: &JobSpec,
    status: &mut JobStatus,
    pods: &[Pod],
    context: &Context,
) -> Result<Tally, Error> {
    let mut tally = Tally::read(status);
    if tally.note(pods, spec) {
        let mut noted = status.clone();
        tally.write(&mut noted);
        context.write_status(job, Some(&*status), &noted).await?;
        *status = noted;
    }
    for pod in pods.iter().filter(|pod| tally.noted(pod)) {
        release(pod, context).await?;
    }
    tally.settle();
    Ok(tally)
}

/// Says how long to wait before there is more to do.
async fn act(job: &Job, pods: &[Pod], course: &Course, context: &Context) -> Result<Option<Duration>, Error> {
    let alive = || pods.iter().filter(|pod| active(pod));
    match course {
        Course::Run(missing) => {
            for _ in 0..*missing {
                context.create_pod(job, &pod(job), COMPONENT).await?;
            }
            for surplus in alive().take(usize::try_from(-missing).unwrap_or_default()) {
                context.delete_pod(job, surplus, COMPONENT).await?;
            }
        }
        Course::Wait(wait) => return Ok(Some(*wait)),
        Course::EndPods => {
            for pod in alive() {
                context.delete_pod(job, pod, COMPONENT).await?;
            }
        }
    }
    Ok(None)
}

fn pod(job: &Job) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_of(job, &template);
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let labels = pod.metadata.labels.get_or_insert_default();
    for (label, value) in [
        (JOB_NAME, &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("controller-uid", &uid),
    ] {
        labels.insert(label.to_owned(), value.clone());
    }
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    pod
}

async fn release(pod: &Pod, context: &Context) -> Result<(), Error> {
    let Some(at) = pod.finalizers().iter().position(|finalizer| finalizer == FINALIZER) else {
        return Ok(());
    };
    let place = format!("/metadata/finalizers/{at}");
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": pod.uid()},
        {"op": "test", "path": place, "value": FINALIZER},
        {"op": "remove", "path": place},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    let api = context.api::<Pod>(&pod.namespace().unwrap_or_default());
    match api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Json::<()>(patch)).await {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(()),
        released => Ok(released.map(drop)?),
    }
}

fn announce(job: &Job, known: &JobStatus, status: &JobStatus, context: &Context) {
    for condition in status.conditions.iter().flatten().filter(|condition| condition.status == "True") {
        let before = job_plan::condition(known, &condition.type_);
        if before.is_some_and(|before| before.status == "True") {
            continue;
        }
        let message = condition.message.clone().unwrap_or_default();
        let notice = match condition.type_.as_str() {
            "Complete" => Notice::normal(COMPONENT, "Completed", "Job completed".to_owned()),
            "Suspended" => Notice::normal(COMPONENT, "Suspended", message),
            "Failed" if condition.reason.as_deref() == Some("DeadlineExceeded") => {
                Notice::warning(COMPONENT, "DeadlineExceeded", message)
            }
            "Failed" => Notice::warning(COMPONENT, "BackoffLimitExceeded", message),
            _ => continue,
        };
        context.recorder.record(job.object_ref(&()), notice);
    }
}

/// Deletes a Job whose time after its end is over.
async fn expire(
    job: &Job,
    spec: &JobSpec,
    ended: jiff::Timestamp,
    context: &Context,
) -> Result<Action, Error> {
    let Some(ttl) = spec.ttl_seconds_after_finished else { return Ok(Action::await_change()) };
    let left = SignedDuration::from_secs(ttl.into()) - context.clock.now().duration_since(ended);
    if let Some(left) =
        Some(left).filter(SignedDuration::is_positive).and_then(|left| Duration::try_from(left).ok())
    {
        return Ok(Action::requeue(left));
    }
    let preconditions = Some(Preconditions { uid: job.uid(), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::foreground() };
    let api = context.api::<Job>(&job.namespace().unwrap_or_default());
    match api.delete(&job.name_any(), &parameters).await {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => {}
        deleted => drop(deleted?),
    }
    Ok(Action::await_change())
}

/// Lets go the pods whose Job is gone: nobody will count them any more.
pub async fn reconcile_pod(pod: Arc<Pod>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(uid) = controller_uid(pod.as_ref()).filter(|_| tracked(&pod)) else {
        return Ok(Action::await_change());
    };
    let owners = pod.owner_references();
    let name =
        owners.iter().find(|owner| owner.uid == uid).map(|owner| owner.name.clone()).unwrap_or_default();
    let job = context.api::<Job>(&pod.namespace().unwrap_or_default()).get_opt(&name).await?;
    if job.is_none_or(|job| job.uid() != Some(uid) || job.metadata.deletion_timestamp.is_some()) {
        release(&pod, &context).await?;
    }
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_whose_it_is_and_waits_to_be_counted() {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "n", "uid": "u"},
            "spec": {"template": {"metadata": {"labels": {"app": "x"}}}},
        }))
        .unwrap();
        let pod = pod(&job);
        let labels = pod.labels();
        assert_eq!(
            (labels["app"].as_str(), labels[JOB_NAME].as_str(), labels["controller-uid"].as_str()),
            ("x", "j", "u")
        );
        assert_eq!((pod.metadata.generate_name.as_deref(), tracked(&pod)), (Some("j-"), true));
        assert_eq!(controller_uid(&pod).as_deref(), Some("u"));
    }
}
