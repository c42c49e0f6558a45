//! ReplicaSets: as many pods as asked for.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::common::{Context, Error, active, count, phase, pod_of, ready_since, shown, until_available};

const COMPONENT: &str = "replicaset-controller";

/// Creates and deletes pods until there are as many as asked for.
pub async fn reconcile(set: Arc<ReplicaSet>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let mut pods: Vec<Pod> = context.owned(set.as_ref(), &spec.selector).await?;
    pods.retain(active);
    let missing = spec.replicas.unwrap_or(1) - count(&pods);
    for _ in 0..missing {
        let pod = pod_of(set.as_ref(), &spec.template.clone().unwrap_or_default());
        context.create_pod(set.as_ref(), &pod, COMPONENT).await?;
    }
    pods.sort_by_key(worth);
    let surplus = usize::try_from(-missing).unwrap_or_default();
    for pod in pods.drain(..surplus.min(pods.len())) {
        context.delete_pod(set.as_ref(), &pod, COMPONENT).await?;
    }
    let now = context.clock.now();
    context.write_status(set.as_ref(), set.status.as_ref(), &status(&set, spec, &pods, now)).await?;
    let waiting = pods.iter().filter_map(|pod| until_available(pod, spec.min_ready_seconds, now));
    let next = waiting.filter(|left| !left.is_zero()).min().and_then(|left| Duration::try_from(left).ok());
    Ok(next.map_or_else(Action::await_change, Action::requeue))
}

/// The pods worth least come first: not bound, not running, not ready, ready for the shortest time.
fn worth(pod: &Pod) -> (bool, bool, bool, Reverse<Option<Timestamp>>) {
    let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let ready = ready_since(pod);
    (bound, phase(pod) == "Running", ready.is_some(), Reverse(ready))
}

fn status(set: &ReplicaSet, spec: &ReplicaSetSpec, pods: &[Pod], now: Timestamp) -> ReplicaSetStatus {
    let available =
        |pod: &&Pod| until_available(pod, spec.min_ready_seconds, now).is_some_and(|left| left.is_zero());
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let labeled = |pod: &&Pod| labels.iter().all(|(name, value)| pod.labels().get(name) == Some(value));
    ReplicaSetStatus {
        replicas: count(pods),
        fully_labeled_replicas: shown(count(pods.iter().filter(labeled))),
        ready_replicas: shown(count(pods.iter().filter_map(ready_since))),
        available_replicas: shown(count(pods.iter().filter(available))),
        observed_generation: set.meta().generation,
        ..ReplicaSetStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: Option<&str>, phase: &str, ready: Option<&str>) -> Pod {
        let conditions: Vec<Value> = ready
            .iter()
            .map(|time| json!({"type": "Ready", "status": "True", "lastTransitionTime": time}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn the_pods_worth_least_go_first() {
        let old = Some("2026-01-01T00:00:00Z");
        let new = Some("2026-06-01T00:00:00Z");
        let mut pods = [
            pod("old", Some("n"), "Running", old),
            pod("new", Some("n"), "Running", new),
            pod("unready", Some("n"), "Running", None),
            pod("pending", Some("n"), "Pending", None),
            pod("unbound", None, "Pending", None),
        ];
        pods.sort_by_key(worth);
        let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["unbound", "pending", "unready", "new", "old"]);
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_long_enough() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"generation": 3},
            "spec": {"minReadySeconds": 10, "selector": {}},
        }))
        .unwrap();
        let pods = [pod("p", Some("n"), "Running", Some("2026-01-01T00:00:00Z"))];
        let seen = |now: &str| {
            let status = status(&set, set.spec.as_ref().unwrap(), &pods, now.parse().unwrap());
            (status.ready_replicas, status.available_replicas, status.observed_generation)
        };
        assert_eq!(seen("2026-01-01T00:00:09Z"), (Some(1), None, Some(3)));
        assert_eq!(seen("2026-01-01T00:00:10Z"), (Some(1), Some(1), Some(3)));
    }
}
