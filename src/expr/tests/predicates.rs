//! The predicates over objects as a cluster reports them, at 12:00:00.

use super::evaluate;
use super::objects::{
    changed, complete_job, completed, condition, crash_ended, crash_looping, daemon_set, daemon_set_rolling,
    failed_job, gated, image_pull, image_pull_back_off, lost_node, node, not_ready, oom_killed,
    oom_restarted, restarted, restarted_once, rolled_out, rolling, seconds_since, stalled, stateful_set,
    stateful_set_rolling, unschedulable, with_condition,
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
    let pod = crash_looping();
    let status = &pod["status"]["containerStatuses"][0];
    let restarts = status["restartCount"].as_i64().unwrap();
    let ended = seconds_since(&status["lastState"]["terminated"]["finishedAt"]);
    let source =
        |restarts: i64, ended: i64| format!("crashLooping(object, {restarts}, duration('{ended}s'))");
    check(&source(restarts, ended), &pod, true);
    check(&source(restarts + 1, ended), &pod, false);
    check(&source(restarts, ended - 1), &pod, false);
    check(&source(2, 3600), &crash_ended(), true);
    check(&source(1, 3600), &restarted_once(), true);
    check(&source(2, 3600), &restarted_once(), false);
    check(&source(0, 3600), &not_ready(), false);
    check(&source(1, 3600), &completed(), false);

    let source = "crashLooping(object, 2, duration('1h'))";
    let (ended, state) =
        ("status.containerStatuses.0.lastState.terminated.finishedAt", "status.containerStatuses.0.state");
    let old = || (ended, json!("2026-03-01T09:00:00Z"));
    let runs = json!({"running": {"startedAt": "2026-03-01T11:59:58Z"}});
    let just_ended = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-03-01T11:59:59Z"}});
    let cases: &[(&str, Changes, bool)] = &[
        ("no status yet", &[("status", json!({"phase": "Pending"}))], false),
        ("being deleted", &[("metadata.deletionTimestamp", json!("2026-03-01T11:59:00Z"))], false),
        ("ran once and never ended", &[("status.containerStatuses.0.lastState", json!({}))], false),
        ("up again for a moment", &[(state, runs)], true),
        ("recovered long ago", &[old()], false),
        ("ended just now, while the last but one end is old", &[old(), (state, just_ended)], true),
        ("the node's clock is ahead", &[(ended, json!("2026-03-01T12:00:05Z"))], true),
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
    check("oomKilled(object)", &oom_killed(), true);
    check("oomKilled(object)", &oom_restarted(), true);
    check("oomKilled(object)", &crash_looping(), false);
    check("oomKilled(object)", &restarted_once(), false);
    check("oomKilled(object)", &completed(), false);
    check("oomKilled(object)", &deleted(oom_killed()), false);
    let refused = evaluate("oomKilled(object)", &failed_job()).unwrap_err();
    assert_eq!(refused.to_string(), "oomKilled: takes a Pod, not a Job");
}

#[test]
fn a_rollout_is_complete_when_all_is_new_and_available() {
    let partition = "spec.updateStrategy.rollingUpdate.partition";
    let cases: &[(&str, Value, Changes, bool)] = &[
        ("at rest", rolled_out(), &[], true),
        ("restarted", restarted(), &[], true),
        ("begun", rolling(), &[], false),
        ("stalled", stalled(), &[], false),
        ("spec not seen", rolled_out(), &[("metadata.generation", json!(9))], false),
        ("old pods left", rolled_out(), &[("status.replicas", json!(2))], false),
        ("not all new", rolled_out(), &[("status.updatedReplicas", Value::Null)], false),
        ("not all available", rolled_out(), &[("status.availableReplicas", Value::Null)], false),
        ("some unavailable", rolled_out(), &[("status.unavailableReplicas", json!(1))], false),
        ("no status", rolled_out(), &[("status", json!({}))], false),
        ("being deleted", deleted(rolled_out()), &[], false),
        ("replicas left to the default, 1", rolled_out(), &[("spec.replicas", Value::Null)], true),
        ("scaled up", rolled_out(), &[("spec.replicas", json!(3))], false),
        (
            "scaled to none",
            rolled_out(),
            &[("spec.replicas", json!(0)), ("status", json!({"observedGeneration": 1}))],
            true,
        ),
        ("at rest", stateful_set(), &[], true),
        ("begun", stateful_set_rolling(), &[], false),
        ("spec not seen", stateful_set(), &[("status.observedGeneration", json!(0))], false),
        ("not all new", stateful_set(), &[("status.updatedReplicas", json!(0))], false),
        (
            "all new down to the partition",
            stateful_set(),
            &[("status.updatedReplicas", json!(0)), (partition, json!(1))],
            true,
        ),
        ("not all available", stateful_set(), &[("status.availableReplicas", json!(0))], false),
        ("a pod is missing", stateful_set(), &[("status.replicas", json!(0))], false),
        ("at rest", daemon_set(), &[], true),
        ("begun", daemon_set_rolling(), &[], false),
        ("not all new", daemon_set(), &[("status.updatedNumberScheduled", Value::Null)], false),
        ("not all available", daemon_set(), &[("status.numberAvailable", Value::Null)], false),
        ("some unavailable", daemon_set(), &[("status.numberUnavailable", json!(1))], false),
        ("a new node", daemon_set(), &[("status.desiredNumberScheduled", json!(2))], false),
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

/// The newest sign of a rollout of the object is this time, to the second.
#[track_caller]
fn check_dated(object: &Value, time: &Value) {
    let seconds = seconds_since(time);
    check(&format!("rolledOutWithin(target, duration('{seconds}s'))"), object, true);
    check(&format!("rolledOutWithin(target, duration('{}s'))", seconds - 1), object, false);
}

#[test]
fn a_rollout_is_dated_by_the_newest_sign_of_it() {
    let created = |object: &Value| object["metadata"]["creationTimestamp"].clone();
    for object in [rolled_out(), restarted(), rolling()] {
        check_dated(&object, &condition(&object, "Progressing")["lastUpdateTime"]);
    }
    // What it began at, where the controller has not said more.
    let restart = restarted();
    let restarted_at = "kubectl.kubernetes.io/restartedAt";
    let silent = changed(restart.clone(), &[("status.conditions", json!([]))]);
    check_dated(&silent, &restart["spec"]["template"]["metadata"]["annotations"][restarted_at]);
    for object in [
        stalled(),
        stateful_set(),
        stateful_set_rolling(),
        daemon_set(),
        daemon_set_rolling(),
        crash_looping(),
    ] {
        check_dated(&object, &created(&object));
    }
    let later = json!({restarted_at: "2026-03-01T12:55:00+01:00"});
    for object in [rolled_out(), stateful_set(), daemon_set()] {
        let restarted = changed(object, &[("spec.template.metadata.annotations", later.clone())]);
        check_dated(&restarted, &json!("2026-03-01T11:55:00Z"));
    }
    check("rolledOutWithin(target, duration('5m'))", &json!({"kind": "Widget"}), false);
}

#[test]
fn conditions_are_read_by_type() {
    check("condition(object, 'Ready')", &crash_looping(), "False");
    check("condition(object, 'Ready')", &restarted_once(), "True");
    check("condition(object, 'PodScheduled') == 'True'", &crash_looping(), true);
    check("condition(object, 'PodScheduled')", &gated(), "False");
    let pressed = with_condition(node(), "MemoryPressure", "status", json!("True"));
    check("condition(object, 'MemoryPressure')", &node(), "False");
    check("condition(object, 'MemoryPressure')", &pressed, "True");
    check("condition(object, 'Ready')", &node(), "True");
    check("condition(object, 'Ready')", &lost_node(), "Unknown");
    check("condition(object, 'Progressing')", &rolled_out(), "True");
    check("condition(object, 'Progressing')", &stalled(), "False");
    check("condition(object, 'Progressing')", &stateful_set(), "");
    check("condition(object, 'Failed') == 'True'", &failed_job(), true);
    check("condition(object, 'Complete')", &failed_job(), "");
    check("condition(object, 'Complete') == 'True'", &complete_job(), true);
    check("condition(object, 'Ready')", &json!({"kind": "ConfigMap"}), "");
}

#[test]
fn memory_can_be_raised_up_to_a_cap() {
    let source = "quantity(object.spec.containers[0].resources.limits.memory)";
    let doubled = format!("{source} + {source}");
    let capped = format!("({doubled}).isGreaterThan(quantity('1Gi')) ? '1Gi' : string({doubled})");
    check(&doubled, &oom_killed(), "64Mi");
    check(&capped, &oom_killed(), "64Mi");
    let larger = changed(oom_killed(), &[("spec.containers.0.resources.limits.memory", json!("768Mi"))]);
    check(&capped, &larger, "1Gi");
}

const DELETED: (&str, &str) = ("metadata.deletionTimestamp", "2026-03-01T11:59:40Z");

fn deleted(object: Value) -> Value {
    changed(object, &[(DELETED.0, json!(DELETED.1))])
}

#[test]
fn images_that_cannot_be_pulled_are_known_by_why_the_container_waits() {
    let source = "imagePullFailing(object)";
    check(source, &image_pull(), true);
    check(source, &image_pull_back_off(), true);
    for other in
        [crash_looping(), crash_ended(), oom_killed(), unschedulable(), gated(), not_ready(), completed()]
    {
        check(source, &other, false);
    }
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
    check(source, &gated(), false);
    check(source, &image_pull(), false);
    check(source, &completed(), false);
    check(source, &deleted(unschedulable()), false);
    check(source, &changed(unschedulable(), &[("status", json!({"phase": "Pending"}))]), false);
}

#[test]
fn not_ready_for_counts_from_when_the_condition_turned() {
    let seconds = |seconds: i64| format!("notReadyFor(object, duration('{seconds}s'))");
    let check_since = |object: &Value, time: &Value| {
        check(&seconds(seconds_since(time)), object, true);
        check(&seconds(seconds_since(time) + 1), object, false);
    };
    // Unknown, as that of the node, is not ready either.
    for object in
        [crash_looping(), crash_ended(), image_pull(), image_pull_back_off(), not_ready(), lost_node()]
    {
        check_since(&object, &condition(&object, "Ready")["lastTransitionTime"]);
    }
    // No kubelet has it: it counts from its creation.
    for object in [unschedulable(), gated()] {
        check_since(&object, &object["metadata"]["creationTimestamp"]);
    }
    for object in [completed(), oom_killed(), deleted(crash_looping()), restarted_once(), node()] {
        check(&seconds(0), &object, false);
    }
    // Nothing is known of a custom resource that nobody has looked at.
    check(
        &seconds(0),
        &json!({"kind": "Certificate", "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}),
        false,
    );
    let refused = evaluate(&seconds(1), &rolled_out()).unwrap_err();
    assert_eq!(refused.to_string(), "notReadyFor: takes an object with a condition Ready, not a Deployment");
}
