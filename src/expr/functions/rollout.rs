//! Predicates over workloads: `rolloutComplete` and `rolledOutWithin`.

use super::condition::find;
use super::object::{Arguments, View, next};
use cel::common::types::{CelBool, DYN_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use jiff::Timestamp;

/// The annotation by which `kubectl rollout restart`, and everything that does as it does, restarts.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("rolloutComplete", "rolloutComplete", vec![DYN_TYPE], |args| {
        let args = Arguments::of("rolloutComplete", &args);
        Ok(CowVal::owned(CelBool::from(rollout_complete(&args)?)))
    })?;
    env.add_overload("rolledOutWithin", "rolledOutWithin", vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], |args| {
        let args = Arguments::of("rolledOutWithin", &args);
        let (object, within, now) = (args.object(0)?, args.duration(1)?, args.now(2)?);
        let recent = newest_rollout(object).is_some_and(|at| now.duration_since(at) <= within);
        Ok(CowVal::owned(CelBool::from(recent)))
    })?;
    env.add_overload(
        "@next_rolledOutWithin",
        "@next_rolledOutWithin",
        vec![DYN_TYPE, DYN_TYPE, DYN_TYPE],
        |args| {
            let args = Arguments::of("rolledOutWithin", &args);
            let within = args.duration(1)?;
            Ok(next(newest_rollout(args.object(0)?).and_then(|at| at.checked_add(within).ok())))
        },
    )
}

/// The controller has seen the newest spec, and all the pods that are wanted are of it and available.
fn rollout_complete(args: &Arguments<'_, '_, '_>) -> Result<bool, ExecutionError> {
    let object = args.object(0)?;
    let rolled_out = match object.kind() {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        _ => return Err(args.wrong_kind("a Deployment, StatefulSet or DaemonSet", object)),
    };
    let observed = object.count(&["status", "observedGeneration"]);
    Ok(rolled_out && observed >= object.count(&["metadata", "generation"]) && !object.is_being_deleted())
}

fn deployment(object: View<'_>) -> bool {
    let desired = replicas(object);
    let count = |field| object.count(&["status", field]);
    count("updatedReplicas") == desired
        && count("replicas") == desired
        && count("availableReplicas") == desired
        && count("unavailableReplicas") == 0
}

fn stateful_set(object: View<'_>) -> bool {
    let desired = replicas(object);
    let partition = object.count(&["spec", "updateStrategy", "rollingUpdate", "partition"]);
    let count = |field| object.count(&["status", field]);
    count("updatedReplicas") >= desired - partition
        && count("replicas") == desired
        && count("availableReplicas") == desired
}

fn daemon_set(object: View<'_>) -> bool {
    let count = |field| object.count(&["status", field]);
    let desired = count("desiredNumberScheduled");
    count("updatedNumberScheduled") == desired
        && count("numberAvailable") == desired
        && count("numberUnavailable") == 0
}

/// The API server defaults an absent `replicas` to 1.
fn replicas(object: View<'_>) -> i64 {
    object.at(&["spec", "replicas"]).and_then(View::int).unwrap_or(1)
}

/// When the workload's pods were last replaced on purpose: by its creation, by a restart, or, for a
/// Deployment, by the rollout that its `Progressing` condition tells of.
fn newest_rollout(object: View<'_>) -> Option<Timestamp> {
    let created = object.at(&["metadata", "creationTimestamp"]);
    let restarted = object.at(&["spec", "template", "metadata", "annotations", RESTARTED_AT]);
    // A rollout that has stalled turns the condition false, long after it began.
    let progressing =
        find(object, "Progressing").filter(|it| it.field("status").and_then(View::text) == Some("True"));
    let progressed = progressing.and_then(|condition| condition.field("lastUpdateTime"));
    [created, restarted, progressed].into_iter().flatten().filter_map(View::time).max()
}
