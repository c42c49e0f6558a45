//! `condition(object, type)`, the status of one of an object's conditions, and `notReadyFor`.

use super::object::{Arguments, View, next};
use cel::common::types::{CelBool, CelString, DYN_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env};
use jiff::{SignedDuration, Timestamp};

/// Kinds that say otherwise whether they are ready.
pub(in super::super) const WITHOUT_READY: [&str; 6] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"];

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("condition", "condition", vec![DYN_TYPE, DYN_TYPE], |args| {
        let args = Arguments::of("condition", &args);
        let status = find(args.object(0)?, args.text(1)?).and_then(|found| found.field("status"));
        let status = status.and_then(View::text).unwrap_or_default().to_owned();
        Ok(CowVal::owned(CelString::from(status)))
    })?;
    env.add_overload("notReadyFor", "notReadyFor", vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], |args| {
        let args = Arguments::of("notReadyFor", &args);
        let (object, length, now) = (args.object(0)?, args.duration(1)?, args.now(2)?);
        if WITHOUT_READY.contains(&object.kind()) {
            return Err(args.wrong_kind("an object with a condition Ready", object));
        }
        Ok(CowVal::owned(CelBool::from(not_ready_for(object, length, now))))
    })?;
    env.add_overload("@next_notReadyFor", "@next_notReadyFor", vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], |args| {
        let args = Arguments::of("notReadyFor", &args);
        let length = args.duration(1)?;
        Ok(next(not_ready_since(args.object(0)?).and_then(|since| since.checked_add(length).ok())))
    })
}

/// Its condition `Ready` has not been true for at least that long.
fn not_ready_for(object: View<'_>, length: SignedDuration, now: Timestamp) -> bool {
    not_ready_since(object).is_some_and(|since| now.duration_since(since) >= length)
}

/// Since when it is not ready though it should be.
fn not_ready_since(object: View<'_>) -> Option<Timestamp> {
    let phase = object.at(&["status", "phase"]).and_then(View::text);
    let is_pod = object.kind() == "Pod";
    // A pod that has run to its end is not meant to be ready again.
    let is_over = is_pod && matches!(phase, Some("Succeeded" | "Failed"));
    if is_over || object.is_being_deleted() {
        return None;
    }
    let since = match find(object, "Ready") {
        Some(ready) if ready.field("status").and_then(View::text) == Some("True") => None,
        Some(ready) => ready.field("lastTransitionTime"),
        // Before a kubelet has taken it, a pod has no such condition. Of other kinds nothing is known then.
        None if is_pod => object.at(&["metadata", "creationTimestamp"]),
        None => None,
    };
    since.and_then(View::time)
}

/// The condition of that type in the object's status.
pub(super) fn find<'a>(object: View<'a>, kind: &str) -> Option<View<'a>> {
    let conditions = object.at(&["status", "conditions"])?;
    conditions.items().find(|condition| condition.field("type").and_then(View::text) == Some(kind))
}
