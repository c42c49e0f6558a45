//! Objects as a cluster reports them, for the tests of predicates.

use serde_json::{Value, json};

/// Changes fields of an object: `("status.replicas", json!(2))`; null removes the field.
pub(super) fn changed(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let mut at = &mut object;
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            at = match name.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[name],
            };
        }
        if value.is_null() {
            at.as_object_mut().and_then(|fields| fields.remove(last));
        } else {
            at[last] = value.clone();
        }
    }
    object
}

/// A pod in `CrashLoopBackOff`: its container last ended at 11:57:00, for the fifth time.
pub(super) fn crashing_pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-6d5f7c9b8-x2k4p", "namespace": "payments", "generateName": "web-6d5f7c9b8-",
            "uid": "0a1c3f52-7f0e-4a0e-9df1-93c5f3ad3a10", "resourceVersion": "48211",
            "creationTimestamp": "2026-03-01T11:50:02Z",
            "labels": {"app": "web", "pod-template-hash": "6d5f7c9b8"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d5f7c9b8",
                "uid": "2b7f", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "restartPolicy": "Always", "nodeName": "node-1",
            "containers": [{
                "name": "app", "image": "web:1.2",
                "resources": {"limits": {"memory": "500Mi"}, "requests": {"memory": "500Mi"}},
            }],
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable", "podIP": "10.0.0.7",
            "startTime": "2026-03-01T11:50:02Z",
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2026-03-01T11:50:04Z"},
                {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-03-01T11:50:02Z"},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady",
                 "message": "containers with unready status: [app]", "lastTransitionTime": "2026-03-01T11:57:01Z"},
                {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady",
                 "lastTransitionTime": "2026-03-01T11:57:01Z"},
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-01T11:50:02Z"},
            ],
            "containerStatuses": [{
                "name": "app", "image": "docker.io/library/web:1.2", "ready": false, "started": false,
                "restartCount": 5,
                "state": {"waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": "back-off 2m40s restarting failed container=app pod=web-6d5f7c9b8-x2k4p_payments",
                }},
                "lastState": {"terminated": {
                    "exitCode": 1, "reason": "Error", "containerID": "containerd://8e",
                    "startedAt": "2026-03-01T11:56:58Z", "finishedAt": "2026-03-01T11:57:00Z",
                }},
            }],
        },
    })
}

/// A Job's pod whose container the kernel has ended for want of memory.
pub(super) fn oom_killed_pod() -> Value {
    let ended = json!({"terminated": {
        "exitCode": 137, "reason": "OOMKilled",
        "startedAt": "2026-03-01T11:59:01Z", "finishedAt": "2026-03-01T11:59:31Z",
    }});
    changed(
        crashing_pod(),
        &[
            ("status.phase", json!("Failed")),
            ("spec.restartPolicy", json!("Never")),
            ("status.containerStatuses.0.restartCount", json!(0)),
            ("status.containerStatuses.0.state", ended),
            ("status.containerStatuses.0.lastState", json!({})),
        ],
    )
}

/// A Deployment whose rollout was complete at 11:40:30.
pub(super) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "payments", "generation": 4,
            "creationTimestamp": "2026-02-01T08:00:00Z",
            "annotations": {"deployment.kubernetes.io/revision": "3"},
        },
        "spec": {
            "replicas": 3, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": "web:1.2"}]},
            },
        },
        "status": {
            "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                 "lastUpdateTime": "2026-02-01T08:00:20Z", "lastTransitionTime": "2026-02-01T08:00:20Z"},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                 "message": "ReplicaSet \"web-6d5f7c9b8\" has successfully progressed.",
                 "lastUpdateTime": "2026-03-01T11:40:30Z", "lastTransitionTime": "2026-02-01T08:00:00Z"},
            ],
        },
    })
}

/// A `StatefulSet` at rest.
pub(super) fn stateful_set() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "payments", "generation": 2, "creationTimestamp": "2026-02-01T08:00:00Z"},
        "spec": {
            "replicas": 3, "serviceName": "db", "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": "db:9"}]}},
        },
        "status": {
            "observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "updatedReplicas": 3,
            "currentReplicas": 3, "currentRevision": "db-7c", "updateRevision": "db-7c", "collisionCount": 0,
        },
    })
}

/// A `DaemonSet` at rest.
pub(super) fn daemon_set() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "kube-agents", "generation": 1, "creationTimestamp": "2026-02-01T08:00:00Z"},
        "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "agent", "image": "agent:1"}]}},
        },
        "status": {
            "observedGeneration": 1, "currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberAvailable": 2,
            "numberMisscheduled": 0, "numberReady": 2, "updatedNumberScheduled": 2,
        },
    })
}

/// A Job that has failed.
pub(super) fn failed_job() -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "report", "namespace": "payments", "generation": 1, "creationTimestamp": "2026-03-01T11:59:00Z"},
        "spec": {"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": {"spec": {"restartPolicy": "Never"}}},
        "status": {
            "failed": 1, "ready": 0, "terminating": 0, "startTime": "2026-03-01T11:59:00Z",
            "conditions": [
                {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"},
                {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
                 "message": "Job has reached the specified backoff limit", "lastTransitionTime": "2026-03-01T11:59:33Z"},
            ],
        },
    })
}

/// A node that has run short of memory.
pub(super) fn pressed_node() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8147060Ki", "pods": "110"},
            "conditions": [
                {"type": "MemoryPressure", "status": "True", "reason": "KubeletHasInsufficientMemory"},
                {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure"},
                {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"},
            ],
        },
    })
}
