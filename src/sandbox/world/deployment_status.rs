//! A Deployment's status: numbers, and whether it is available and progressing. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::common::shown;
use super::rollout::Bounds;

const DEFAULT_DEADLINE: i32 = 600;
const COMPLETE: &str = "NewReplicaSetAvailable";
const LATE: &str = "ProgressDeadlineExceeded";

/// What a status is computed from.
pub struct Seen<'a> {
    /// The Deployment; its status is what was last known.
    pub deployment: &'a Deployment,
    /// Its specification.
    pub spec: &'a DeploymentSpec,
    /// The ReplicaSet of the newest template.
    pub new: Option<&'a ReplicaSet>,
    /// The others.
    pub old: &'a [ReplicaSet],
    /// Now.
    pub now: Time,
}

/// The status that the Deployment should have.
pub fn build(seen: &Seen<'_>) -> DeploymentStatus {
    let sets = || seen.old.iter().chain(seen.new);
    let sum = |of: fn(&ReplicaSet) -> i32| sets().map(of).sum::<i32>();
    let available = sum(|set| status_of(set, |status| status.available_replicas));
    let wanted = sum(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1));
    let updated = seen.new.map_or(0, replicas);
    let mut status = DeploymentStatus {
        observed_generation: seen.deployment.metadata.generation,
        replicas: Some(sum(replicas)),
        updated_replicas: Some(updated),
        ready_replicas: Some(sum(|set| status_of(set, |status| status.ready_replicas))),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted - available).max(0)),
        ..DeploymentStatus::default()
    };
    let conditions = [Some(available_condition(seen, available)), progressing(seen, &status)];
    status.conditions = Some(conditions.into_iter().flatten().collect());
    for count in [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.unavailable_replicas,
    ] {
        *count = count.and_then(shown);
    }
    status
}

/// When the rollout is late, if it is under way.
pub fn deadline(spec: &DeploymentSpec, status: &DeploymentStatus) -> Option<Timestamp> {
    let progressing =
        status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing")?;
    let reason = progressing.reason.as_deref()?;
    if [COMPLETE, LATE, "DeploymentPaused"].contains(&reason) {
        return None;
    }
    let seconds = spec.progress_deadline_seconds.unwrap_or(DEFAULT_DEADLINE);
    Some(progressing.last_update_time.as_ref()?.0 + SignedDuration::from_secs(seconds.into()))
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn status_of(
    set: &ReplicaSet,
    field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>,
) -> i32 {
    set.status.as_ref().and_then(field).unwrap_or_default()
}

fn available_condition(seen: &Seen<'_>, available: i32) -> DeploymentCondition {
    let replicas = seen.spec.replicas.unwrap_or(1);
    let strategy = seen.spec.strategy.as_ref();
    let recreates = strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));
    let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = update.and_then(|update| update.max_surge.as_ref());
    let unavailable = update.and_then(|update| update.max_unavailable.as_ref());
    let tolerated = if recreates { 0 } else { Bounds::new(surge, unavailable, replicas).unavailable };
    let (status, reason, message) = if available >= replicas - tolerated {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    condition(seen, "Available", status, (reason, message.to_owned()), false)
}

fn progressing(seen: &Seen<'_>, status: &DeploymentStatus) -> Option<DeploymentCondition> {
    let before = known(seen, "Progressing");
    let reason_before = before.and_then(|before| before.reason.as_deref());
    if seen.spec.paused == Some(true) {
        let paused = ("DeploymentPaused", "Deployment is paused".to_owned());
        return Some(condition(seen, "Progressing", "Unknown", paused, false));
    }
    let name = seen.new.map(ResourceExt::name_any).unwrap_or_default();
    let wanted = Some(seen.spec.replicas.unwrap_or(1));
    let complete = status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && seen.new.is_some();
    // A rollout that once was complete is over, whatever happens to its pods.
    let over = reason_before == Some(COMPLETE)
        && status.updated_replicas == status.replicas
        && seen.new.is_some_and(|set| before_named(before, set));
    if complete || over {
        let done = (COMPLETE, format!("ReplicaSet {name:?} has successfully progressed."));
        return Some(condition(seen, "Progressing", "True", done, false));
    }
    let moved = moved(seen.deployment.status.as_ref(), status);
    let named = before.is_some_and(|_| seen.new.is_some_and(|set| before_named(before, set)));
    if before.is_none() || !named {
        let created = ("NewReplicaSetCreated", format!("Created new replica set {name:?}"));
        return Some(condition(seen, "Progressing", "True", created, true));
    }
    if moved {
        let updated = ("ReplicaSetUpdated", format!("ReplicaSet {name:?} is progressing."));
        return Some(condition(seen, "Progressing", "True", updated, true));
    }
    let late = before.zip(seen.deployment.status.as_ref()).is_some_and(|(_, known)| {
        reason_before == Some(LATE)
            || deadline(seen.spec, known).is_some_and(|deadline| deadline <= seen.now.0)
    });
    if late {
        let late = (LATE, format!("ReplicaSet {name:?} has timed out progressing."));
        return Some(condition(seen, "Progressing", "False", late, false));
    }
    before.cloned()
}

/// Whether the condition speaks of this ReplicaSet.
fn before_named(before: Option<&DeploymentCondition>, set: &ReplicaSet) -> bool {
    let message = before.and_then(|before| before.message.as_deref()).unwrap_or_default();
    message.contains(&format!("{:?}", set.name_any()))
}

/// Whether there is progress since the last status.
fn moved(known: Option<&DeploymentStatus>, status: &DeploymentStatus) -> bool {
    let Some(known) = known else { return true };
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default()
    };
    status.updated_replicas > known.updated_replicas.or(Some(0))
        || status.ready_replicas > known.ready_replicas.or(Some(0))
        || status.available_replicas > known.available_replicas.or(Some(0))
        || old(status) < old(known)
}

fn known<'a>(seen: &'a Seen<'_>, kind: &str) -> Option<&'a DeploymentCondition> {
    let status = seen.deployment.status.as_ref()?;
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn condition(
    seen: &Seen<'_>,
    kind: &str,
    status: &str,
    (reason, message): (&str, String),
    touch: bool,
) -> DeploymentCondition {
    let before = known(seen, kind);
    let same_status = before.filter(|before| before.status == status);
    let same = same_status.filter(|before| !touch && before.reason.as_deref() == Some(reason));
    let or_now = |time: Option<Time>| Some(time.unwrap_or_else(|| seen.now.clone()));
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_transition_time: or_now(same_status.and_then(|before| before.last_transition_time.clone())),
        last_update_time: or_now(same.and_then(|before| before.last_update_time.clone())),
        reason: Some(reason.to_owned()),
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str, wanted: i32, ready: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"replicas": wanted, "selector": {}},
            "status": {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready},
        }))
        .unwrap()
    }

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    /// The reasons of both conditions after each of `steps`: the time, the new set, the old sets.
    fn play(steps: &[(i64, ReplicaSet, Vec<ReplicaSet>)]) -> Vec<String> {
        let mut deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"generation": 1},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 30, "selector": {}, "template": {}},
        }))
        .unwrap();
        let mut shown = Vec::new();
        for (second, new, old) in steps {
            let spec = deployment.spec.clone().unwrap();
            let seen = Seen { deployment: &deployment, spec: &spec, new: Some(new), old, now: at(*second) };
            let status = build(&seen);
            let reasons = status.conditions.iter().flatten().filter_map(|condition| condition.reason.clone());
            shown.push(reasons.collect::<Vec<_>>().join(" "));
            deployment.status = Some(status);
        }
        shown
    }

    #[test]
    fn a_count_of_nothing_is_left_out() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {}, "spec": {"replicas": 2, "selector": {}, "template": {}},
        }))
        .unwrap();
        let spec = deployment.spec.clone().unwrap();
        let shown = |ready| {
            let new = set("web-a", 2, ready);
            let seen = Seen { deployment: &deployment, spec: &spec, new: Some(&new), old: &[], now: at(0) };
            let mut status = serde_json::to_value(build(&seen)).unwrap();
            status.as_object_mut().unwrap().remove("conditions");
            status
        };
        assert_eq!(shown(0), json!({"replicas": 2, "updatedReplicas": 2, "unavailableReplicas": 2}));
        let all = json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
        assert_eq!(shown(2), all);
    }

    #[test]
    fn a_rollout_progresses_and_completes() {
        let shown = play(&[
            (0, set("web-a", 0, 0), vec![]),
            (1, set("web-a", 2, 0), vec![]),
            (2, set("web-a", 2, 2), vec![]),
            (99, set("web-a", 2, 0), vec![]),
            (100, set("web-b", 1, 0), vec![set("web-a", 2, 2)]),
            (101, set("web-b", 2, 2), vec![set("web-a", 0, 0)]),
        ]);
        let expected = [
            "MinimumReplicasUnavailable NewReplicaSetCreated",
            "MinimumReplicasUnavailable ReplicaSetUpdated",
            "MinimumReplicasAvailable NewReplicaSetAvailable",
            "MinimumReplicasUnavailable NewReplicaSetAvailable",
            "MinimumReplicasAvailable NewReplicaSetCreated",
            "MinimumReplicasAvailable NewReplicaSetAvailable",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_rollout_that_stands_still_is_late_until_it_moves() {
        let shown = play(&[
            (0, set("web-a", 2, 0), vec![]),
            (29, set("web-a", 2, 0), vec![]),
            (30, set("web-a", 2, 0), vec![]),
            (90, set("web-a", 2, 0), vec![]),
            (91, set("web-a", 2, 1), vec![]),
        ]);
        let reasons: Vec<_> = shown.iter().filter_map(|shown| shown.split(' ').nth(1)).collect();
        let expected = [
            "NewReplicaSetCreated",
            "NewReplicaSetCreated",
            "ProgressDeadlineExceeded",
            "ProgressDeadlineExceeded",
            "ReplicaSetUpdated",
        ];
        assert_eq!(reasons, expected);
    }
}
