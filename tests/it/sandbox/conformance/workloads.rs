//! Built-in kinds with something of their own: scale, eviction, generations, defaults, Events.

use serde_json::{Value, json};

use super::exchange::Exchange;
use super::patches::deployment;

fn pod(name: &str, spec: &Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "nginx:1"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

pub async fn a_deployment_and_its_scale(x: &mut Exchange) {
    let web = "apps/v1/deployments/web";
    x.post("apps/v1/deployments", &deployment("web")).await;
    x.get(&format!("{web}/scale")).await;
    x.merge(&format!("{web}/scale"), &json!({"spec": {"replicas": -1}})).await;
    x.merge(&format!("{web}/scale"), &json!({"spec": {"replicas": 3}})).await;
    x.merge(web, &json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}})).await;
    x.merge(web, &json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}})).await;
    x.merge(web, &json!({"metadata": {"annotations": {"a": "b"}}})).await;
    x.merge(web, &json!({"spec": {"replicas": "many"}})).await;
    x.merge(web, &json!({"spec": {"replicas": -1}})).await;
    x.merge(web, &json!({"spec": {"template": {"spec": {"containers": []}}}})).await;
    x.merge(web, &json!({"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}})).await;
    x.merge(&format!("{web}/status"), &json!({"spec": {"replicas": 5}, "metadata": {"labels": {"l": "m"}}}))
        .await;
    x.get("apps/v1/deployments/nope/scale").await;
    x.delete(web, &json!({"propagationPolicy": "Background"})).await;
}

pub async fn pods(x: &mut Exchange) {
    x.post("pods", &pod("one", &json!({}))).await;
    x.post("pods", &pod("two", &json!({"serviceAccountName": "nobody"}))).await;
    x.post("pods", &pod("three", &json!({"containers": []}))).await;
    x.post(
        "pods",
        &pod("four", &json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]})),
    )
    .await;
    x.post("pods", &pod("five", &json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}))).await;
    x.post("pods", &pod("six", &json!({"restartPolicy": "Sometimes"}))).await;
    x.merge("pods/one", &json!({"spec": {"containers": [{"name": "a", "image": "nginx:2"}]}})).await;
    x.merge("pods/one/status", &json!({"status": {"phase": "Running"}})).await;
    x.get("pods?fieldSelector=status.phase=Failed").await;
    x.post(
        "pods/one/binding",
        &json!({"metadata": {"name": "one"}, "target": {"kind": "Node", "name": "n"}}),
    )
    .await;
    x.post(
        "pods/one/binding",
        &json!({"metadata": {"name": "one"}, "target": {"kind": "Node", "name": "m"}}),
    )
    .await;
    x.get("pods/one").await;
    x.delete("pods/one", &Value::Null).await;
    x.delete("pods/one", &json!({"gracePeriodSeconds": 0})).await;
    x.get("pods/one").await;
}

pub async fn evictions(x: &mut Exchange) {
    x.prepare("POST", "pods", &pod("one", &json!({}))).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "one"}});
    x.post("pods/one/eviction?dryRun=All", &eviction).await;
    x.post("pods/one/eviction", &eviction).await;
    x.post("pods/one/eviction", &eviction).await;
}

pub async fn jobs(x: &mut Exchange) {
    let job = |spec: Value| json!({"metadata": {"name": "j"}, "spec": spec});
    let template = |policy: &str| json!({"spec": {"restartPolicy": policy, "containers": [{"name": "m", "image": "busybox:1"}]}});
    x.post("batch/v1/jobs", &job(json!({"suspend": true, "template": template("Always")}))).await;
    x.post("batch/v1/jobs", &job(json!({"suspend": true, "template": template("Never"), "backoffLimit": 0, "podReplacementPolicy": "Failed"}))).await;
    x.merge("batch/v1/jobs/j", &json!({"spec": {"completions": 5}})).await;
    x.merge(
        "batch/v1/jobs/j",
        &json!({"spec": {"template": {"spec": {"containers": [{"name": "m", "image": "busybox:2"}]}}}}),
    )
    .await;
    x.merge("batch/v1/jobs/j", &json!({"spec": {"ttlSecondsAfterFinished": 600}})).await;
    x.merge("batch/v1/jobs/j", &json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}})).await;
    x.delete("batch/v1/jobs/j", &json!({"propagationPolicy": "Background"})).await;
}

pub async fn generations(x: &mut Exchange) {
    x.post("policy/v1/poddisruptionbudgets", &json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}})).await;
    x.post(
        "networking.k8s.io/v1/networkpolicies",
        &json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"c": "d"}}}}),
    )
    .await;
    x.merge(
        "networking.k8s.io/v1/networkpolicies/p",
        &json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
    )
    .await;
    x.merge("networking.k8s.io/v1/networkpolicies/p", &json!({"metadata": {"labels": {"a": "b"}}})).await;
    x.post("coordination.k8s.io/v1/leases", &json!({"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 5, "renewTime": "2026-01-01T00:00:00.123456Z"}})).await;
    x.merge("coordination.k8s.io/v1/leases/l", &json!({"spec": {"leaseDurationSeconds": -5}})).await;
    x.post("serviceaccounts", &json!({"metadata": {"name": "healer", "annotations": {"a": "b"}}})).await;
}

pub async fn events_in_both_groups(x: &mut Exchange) {
    let modern = json!({"metadata": {"name": "modern"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "x.dev/c",
        "reportingInstance": "c-1", "action": "Did", "reason": "Boom", "note": "it broke", "type": "Warning",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "{ns}"}, "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    x.post("events.k8s.io/v1/events", &modern).await;
    x.get("events/modern").await;
    let old = json!({"metadata": {"name": "old"}, "reason": "Boom", "message": "it broke", "type": "Warning", "count": 2,
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "{ns}"}, "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z"});
    x.post("events", &old).await;
    x.get("events.k8s.io/v1/events/old").await;
    x.get("events.k8s.io/v1/events").await;
    x.merge("events/old", &json!({"count": 3})).await;
    x.get("events?fieldSelector=involvedObject.name=p,reason=Boom").await;
    x.post("events", &json!({"metadata": {"name": "bad"}, "involvedObject": {"namespace": "other", "kind": "Pod", "name": "p"}})).await;
}
