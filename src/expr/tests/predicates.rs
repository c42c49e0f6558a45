//! The predicates over objects as a cluster reports them, at 12:00:00.

use super::evaluate;
use super::objects::{
    changed, crashing_pod, daemon_set, deployment, failed_job, oom_killed_pod, pressed_node, stateful_set,
};
use serde_json::{Value, json};

/// The fields of an object that differ from its fixture.
type Changes<'a> = &'a [(&'a str, Value)];

#[track_caller]
fn check(source: &str, object: &Value, expected: impl Into<Value>) {
    assert_eq!(evaluate(source, object), Ok(expected.into()), "{source} of {object:#}");
}

#[test]
fn crash_looping_needs_restarts_and_a_recent_end() {
    let pod = crashing_pod();
    check("crashLooping(object, 3, duration('10m'))", &pod, true);
    check("crashLooping(object, 5, duration('3m'))", &pod, true);
    check("crashLooping(object, 6, duration('10m'))", &pod, false);
    check("crashLooping(object, 3, duration('2m59s'))", &pod, false);

    let source = "crashLooping(object, 3, duration('10m'))";
    let cases: &[(&str, Changes, bool)] = &[
        ("no status yet", &[("status", json!({"phase": "Pending"}))], false),
        ("being deleted", &[("metadata.deletionTimestamp", json!("2026-03-01T11:59:00Z"))], false),
        ("ran once and never ended", &[("status.containerStatuses.0.lastState", json!({}))], false),
        (
            "up again for a moment",
            &[(
                "status.containerStatuses.0.state",
                json!({"running": {"startedAt": "2026-03-01T11:59:58Z"}}),
            )],
            true,
        ),
        (
            "recovered long ago",
            &[("status.containerStatuses.0.lastState.terminated.finishedAt", json!("2026-03-01T09:00:00Z"))],
            false,
        ),
        (
            "ended just now, while the last but one end is old",
            &[
                ("status.containerStatuses.0.lastState.terminated.finishedAt", json!("2026-03-01T09:00:00Z")),
                (
                    "status.containerStatuses.0.state",
                    json!({"terminated": {"exitCode": 1, "finishedAt": "2026-03-01T11:59:59Z"}}),
                ),
            ],
            true,
        ),
        (
            "the node's clock is ahead",
            &[("status.containerStatuses.0.lastState.terminated.finishedAt", json!("2026-03-01T12:00:05Z"))],
            true,
        ),
    ];
    for (what, changes, expected) in cases {
        assert_eq!(evaluate(source, &changed(pod.clone(), changes)), Ok(json!(expected)), "{what}");
    }
    let statuses = pod["status"]["containerStatuses"].clone();
    let sidecar = &[("status.containerStatuses", json!([])), ("status.initContainerStatuses", statuses)];
    check(source, &changed(pod, sidecar), true);
}

#[test]
fn oom_killed_reads_both_states_of_a_pod() {
    check("oomKilled(object)", &oom_killed_pod(), true);
    check("oomKilled(object)", &crashing_pod(), false);
    let restarted = changed(
        crashing_pod(),
        &[("status.containerStatuses.0.lastState.terminated.reason", json!("OOMKilled"))],
    );
    check("oomKilled(object)", &restarted, true);
    let deleted = changed(oom_killed_pod(), &[("metadata.deletionTimestamp", json!("2026-03-01T11:59:40Z"))]);
    check("oomKilled(object)", &deleted, false);
    let refused = evaluate("oomKilled(object)", &failed_job()).unwrap_err();
    assert_eq!(refused.to_string(), "oomKilled: takes a Pod, not a Job");
}

#[test]
fn a_rollout_is_complete_when_all_is_new_and_available() {
    let cases: &[(&str, Value, Changes, bool)] = &[
        ("at rest", deployment(), &[], true),
        ("spec not seen", deployment(), &[("metadata.generation", json!(5))], false),
        ("old pods left", deployment(), &[("status.replicas", json!(4))], false),
        ("not all new", deployment(), &[("status.updatedReplicas", json!(2))], false),
        ("not all available", deployment(), &[("status.availableReplicas", json!(2))], false),
        ("some unavailable", deployment(), &[("status.unavailableReplicas", json!(1))], false),
        ("no status", deployment(), &[("status", json!({}))], false),
        (
            "being deleted",
            deployment(),
            &[("metadata.deletionTimestamp", json!("2026-03-01T11:59:00Z"))],
            false,
        ),
        ("replicas left to the default", deployment(), &[("spec.replicas", Value::Null)], false),
        (
            "scaled to none",
            deployment(),
            &[("spec.replicas", json!(0)), ("status", json!({"observedGeneration": 4}))],
            true,
        ),
        ("at rest", stateful_set(), &[], true),
        ("spec not seen", stateful_set(), &[("status.observedGeneration", json!(1))], false),
        ("not all new", stateful_set(), &[("status.updatedReplicas", json!(1))], false),
        (
            "all new down to the partition",
            stateful_set(),
            &[
                ("status.updatedReplicas", json!(1)),
                ("spec.updateStrategy.rollingUpdate.partition", json!(2)),
            ],
            true,
        ),
        ("not all available", stateful_set(), &[("status.availableReplicas", json!(2))], false),
        ("a pod is missing", stateful_set(), &[("status.replicas", json!(2))], false),
        ("at rest", daemon_set(), &[], true),
        ("not all new", daemon_set(), &[("status.updatedNumberScheduled", Value::Null)], false),
        ("not all available", daemon_set(), &[("status.numberAvailable", json!(1))], false),
        ("some unavailable", daemon_set(), &[("status.numberUnavailable", json!(1))], false),
        ("a new node", daemon_set(), &[("status.desiredNumberScheduled", json!(3))], false),
    ];
    for (what, object, changes, expected) in cases {
        let object = changed(object.clone(), changes);
        assert_eq!(evaluate("rolloutComplete(target)", &object), Ok(json!(expected)), "{what}: {object:#}");
    }
    let refused = evaluate("rolloutComplete(target)", &failed_job()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rolloutComplete: takes a Deployment, StatefulSet or DaemonSet, not a Job"
    );
}

#[test]
fn a_rollout_is_dated_by_the_newest_sign_of_it() {
    let within = |minutes: u32| format!("rolledOutWithin(target, duration('{minutes}m'))");
    check(&within(20), &deployment(), true);
    check(&within(19), &deployment(), false);
    check("rolloutComplete(target)", &rolled_out(), true);
    check(&within(10), &rolled_out(), true);
    check(&within(9), &rolled_out(), false);
    let restarted = |object| {
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": "2026-03-01T12:55:00+01:00"});
        changed(object, &[("spec.template.metadata.annotations", annotations)])
    };
    check(&within(5), &restarted(deployment()), true);
    check(&within(4), &restarted(deployment()), false);
    let stalled = changed(deployment(), &[("status.conditions.1.status", json!("False"))]);
    check(&within(60), &stalled, false);
    check(&within(60), &stateful_set(), false);
    check(&within(5), &restarted(stateful_set()), true);
    check(&within(5), &restarted(daemon_set()), true);
    check(&within(10), &crashing_pod(), true);
    check(&within(9), &crashing_pod(), false);
    check(&within(5), &json!({"kind": "Widget"}), false);
}

#[test]
fn conditions_are_read_by_type() {
    check("condition(object, 'Ready')", &crashing_pod(), "False");
    check("condition(object, 'PodScheduled') == 'True'", &crashing_pod(), true);
    check("condition(object, 'MemoryPressure')", &pressed_node(), "True");
    check("condition(object, 'Ready')", &pressed_node(), "Unknown");
    check("condition(object, 'Progressing')", &deployment(), "True");
    check("condition(object, 'Failed') == 'True'", &failed_job(), true);
    check("condition(object, 'Complete')", &failed_job(), "");
    check("condition(object, 'Ready')", &json!({"kind": "ConfigMap"}), "");
}

#[test]
fn memory_can_be_raised_up_to_a_cap() {
    let source = "quantity(object.spec.containers[0].resources.limits.memory)";
    let doubled = format!("{source} + {source}");
    let capped = format!("({doubled}).isGreaterThan(quantity('1Gi')) ? '1Gi' : string({doubled})");
    check(&doubled, &oom_killed_pod(), "1000Mi");
    check(&capped, &oom_killed_pod(), "1000Mi");
    let larger = changed(oom_killed_pod(), &[("spec.containers.0.resources.limits.memory", json!("768Mi"))]);
    check(&capped, &larger, "1Gi");
}

/// An object as the kubelet, the scheduler or the node controller wrote it.
fn recorded(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

fn image_pull() -> Value {
    recorded(include_str!("statuses/image-pull.yaml"))
}

fn unschedulable() -> Value {
    recorded(include_str!("statuses/unschedulable.yaml"))
}

fn not_ready() -> Value {
    recorded(include_str!("statuses/not-ready.yaml"))
}

fn rolled_out() -> Value {
    recorded(include_str!("statuses/rolled-out.yaml"))
}

fn completed() -> Value {
    recorded(include_str!("statuses/completed.yaml"))
}

fn lost_node() -> Value {
    recorded(include_str!("statuses/lost-node.yaml"))
}

const DELETED: (&str, &str) = ("metadata.deletionTimestamp", "2026-03-01T11:59:40Z");

fn deleted(object: Value) -> Value {
    changed(object, &[(DELETED.0, json!(DELETED.1))])
}

#[test]
fn images_that_cannot_be_pulled_are_known_by_why_the_container_waits() {
    let source = "imagePullFailing(object)";
    check(source, &image_pull(), true);
    check(source, &crashing_pod(), false);
    check(source, &unschedulable(), false);
    check(source, &completed(), false);
    check(source, &deleted(image_pull()), false);
    for (reason, expected) in [
        ("ErrImagePull", true),
        ("ErrImageNeverPull", true),
        ("InvalidImageName", true),
        ("ContainerCreating", false),
        ("CreateContainerConfigError", false),
    ] {
        let reason = [("status.containerStatuses.0.state.waiting.reason", json!(reason))];
        check(source, &changed(image_pull(), &reason), expected);
    }
    let statuses = image_pull()["status"]["containerStatuses"].clone();
    let init = [("status.containerStatuses", Value::Null), ("status.initContainerStatuses", statuses)];
    check(source, &changed(image_pull(), &init), true);
    let refused = evaluate(source, &failed_job()).unwrap_err();
    assert_eq!(refused.to_string(), "imagePullFailing: takes a Pod, not a Job");
}

#[test]
fn a_pod_is_unschedulable_when_the_scheduler_has_tried() {
    let source = "unschedulable(object)";
    check(source, &unschedulable(), true);
    check(source, &recorded(include_str!("statuses/gated.yaml")), false);
    check(source, &image_pull(), false);
    check(source, &completed(), false);
    check(source, &deleted(unschedulable()), false);
    check(source, &changed(unschedulable(), &[("status", json!({"phase": "Pending"}))]), false);
}

#[test]
fn not_ready_for_counts_from_when_the_condition_turned() {
    let minutes = |minutes: u32| format!("notReadyFor(object, duration('{minutes}m'))");
    check(&minutes(2), &crashing_pod(), true);
    check(&minutes(3), &crashing_pod(), false);
    check(&minutes(7), &image_pull(), true);
    check(&minutes(8), &image_pull(), false);
    check(&minutes(10), &not_ready(), true);
    check(&minutes(11), &not_ready(), false);
    // No kubelet has it: it counts from its creation.
    check(&minutes(12), &unschedulable(), true);
    check(&minutes(13), &unschedulable(), false);
    check(&minutes(0), &completed(), false);
    check(&minutes(0), &deleted(crashing_pod()), false);
    let ready = [("status.conditions.2.status", json!("True"))];
    check(&minutes(0), &changed(crashing_pod(), &ready), false);
    // Unknown is not ready either.
    check(&minutes(5), &lost_node(), true);
    check(&minutes(6), &lost_node(), false);
    // Nothing is known of a custom resource that nobody has looked at.
    check(
        &minutes(0),
        &json!({"kind": "Certificate", "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}),
        false,
    );
    let refused = evaluate(&minutes(1), &deployment()).unwrap_err();
    assert_eq!(refused.to_string(), "notReadyFor: takes an object with a condition Ready, not a Deployment");
}
