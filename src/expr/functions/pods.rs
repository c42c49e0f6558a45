//! Predicates over Pods: `crashLooping`, `oomKilled`, `imagePullFailing` and `unschedulable`.

use super::condition::find;
use super::object::{Arguments, View, next};
use cel::common::types::{CelBool, DYN_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use jiff::{SignedDuration, Timestamp};

/// Why a container waits whose image cannot be had, in the kubelet's words.
const PULL_FAILURES: [&str; 7] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("crashLooping", "crashLooping", vec![DYN_TYPE, DYN_TYPE, DYN_TYPE, DYN_TYPE], |args| {
        let args = Arguments::of("crashLooping", &args);
        let pod = pod(&args)?;
        let (restarts, within, now) = (args.int(1)?, args.duration(2)?, args.now(3)?);
        Ok(CowVal::owned(CelBool::from(crash_looping(pod, restarts, within, now))))
    })?;
    env.add_overload(
        "@next_crashLooping",
        "@next_crashLooping",
        vec![DYN_TYPE, DYN_TYPE, DYN_TYPE, DYN_TYPE],
        |args| {
            let args = Arguments::of("crashLooping", &args);
            let pod = pod(&args)?;
            let (restarts, within, now) = (args.int(1)?, args.duration(2)?, args.now(3)?);
            let ends = suspects(pod, restarts).filter_map(last_termination);
            Ok(next(ends.filter_map(|ended| ended.checked_add(within).ok()).filter(|at| *at >= now).max()))
        },
    )?;
    env.add_overload("oomKilled", "oomKilled", vec![DYN_TYPE], |args| {
        let args = Arguments::of("oomKilled", &args);
        Ok(CowVal::owned(CelBool::from(oom_killed(pod(&args)?))))
    })?;
    env.add_overload("imagePullFailing", "imagePullFailing", vec![DYN_TYPE], |args| {
        let args = Arguments::of("imagePullFailing", &args);
        Ok(CowVal::owned(CelBool::from(image_pull_failing(pod(&args)?))))
    })?;
    env.add_overload("unschedulable", "unschedulable", vec![DYN_TYPE], |args| {
        let args = Arguments::of("unschedulable", &args);
        Ok(CowVal::owned(CelBool::from(unschedulable(pod(&args)?))))
    })
}

/// Some container waits for an image that the kubelet could not get.
fn image_pull_failing(pod: View<'_>) -> bool {
    let fails = |reason: &str| PULL_FAILURES.contains(&reason);
    !pod.is_being_deleted()
        && containers(pod).any(|container| {
            container.at(&["state", "waiting", "reason"]).and_then(View::text).is_some_and(fails)
        })
}

/// The scheduler has found no node for it. A pod that waits for its gates has not been tried.
fn unschedulable(pod: View<'_>) -> bool {
    let is = |condition: View<'_>, field, wanted| condition.field(field).and_then(View::text) == Some(wanted);
    !pod.is_being_deleted()
        && find(pod, "PodScheduled").is_some_and(|condition| {
            is(condition, "status", "False") && is(condition, "reason", "Unschedulable")
        })
}

fn pod<'a>(args: &'a Arguments<'_, '_, '_>) -> Result<View<'a>, ExecutionError> {
    let object = args.object(0)?;
    if object.kind() == "Pod" { Ok(object) } else { Err(args.wrong_kind("a Pod", object)) }
}

/// Some container has restarted at least `restarts` times and its last termination is at most
/// `within` ago. A pod that is being deleted is on its way out and never crash-looping.
fn crash_looping(pod: View<'_>, restarts: i64, within: SignedDuration, now: Timestamp) -> bool {
    !pod.is_being_deleted()
        && suspects(pod, restarts)
            .filter_map(last_termination)
            .any(|ended| now.duration_since(ended) <= within)
}

/// The containers that have restarted at least so often.
fn suspects(pod: View<'_>, restarts: i64) -> impl Iterator<Item = View<'_>> {
    containers(pod).filter(move |container| container.count(&["restartCount"]) >= restarts)
}

/// Some container was last ended by the kernel for want of memory. The state stays in the Pod's
/// status until the container ends again, so a container that has long recovered still shows it.
fn oom_killed(pod: View<'_>) -> bool {
    !pod.is_being_deleted()
        && containers(pod).any(|container| {
            [&["state", "terminated", "reason"], &["lastState", "terminated", "reason"]]
                .into_iter()
                .any(|path| container.at(path).and_then(View::text) == Some("OOMKilled"))
        })
}

/// The statuses of a pod's containers; sidecars are among the init containers.
fn containers(pod: View<'_>) -> impl Iterator<Item = View<'_>> {
    ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .filter_map(move |list| pod.at(&["status", list]))
        .flat_map(View::items)
}

/// When a container last ended: now, if it stands terminated, or before its present run.
fn last_termination(container: View<'_>) -> Option<Timestamp> {
    [["state", "terminated", "finishedAt"], ["lastState", "terminated", "finishedAt"]]
        .iter()
        .filter_map(|path| container.at(path).and_then(View::time))
        .max()
}
