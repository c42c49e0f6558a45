//! Forms of answers: tables, metadata only, and what the Accept header may ask.

use serde_json::{Value, json};

use super::custom::{FOOS, bare, definition, foo, register};
use super::exchange::Exchange;
use super::patches::deployment;

const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub async fn tables_of_built_in_kinds(x: &mut Exchange) {
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "s"}, "data": {"a": "MQ=="}})).await;
    x.prepare("POST", "apps/v1/deployments", &deployment("web")).await;
    x.prepare("POST", "pods", &pod("p")).await;
    x.prepare("POST", "rbac.authorization.k8s.io/v1/roles", &json!({"metadata": {"name": "r"}})).await;
    x.prepare(
        "POST",
        "coordination.k8s.io/v1/leases",
        &json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}),
    )
    .await;
    x.prepare("POST", "policy/v1/poddisruptionbudgets", &json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}})).await;
    x.with(&[("accept", TABLE)]);
    for resource in [
        "secrets",
        "secrets/s",
        "secrets?limit=1",
        "pods",
        "pods/p",
        "apps/v1/deployments/web?includeObject=None",
        "secrets?includeObject=None",
        "secrets?includeObject=Object",
        "secrets?includeObject=Nope",
        "secrets/nope",
        "rbac.authorization.k8s.io/v1/roles",
        "coordination.k8s.io/v1/leases",
        "policy/v1/poddisruptionbudgets",
        "batch/v1/cronjobs",
        "batch/v1/jobs",
        "apps/v1/statefulsets",
        "apps/v1/daemonsets",
        "apps/v1/replicasets",
        "services",
        "events?fieldSelector=reason=Nothing",
        "persistentvolumeclaims",
        "networking.k8s.io/v1/ingresses",
        "autoscaling/v2/horizontalpodautoscalers",
    ] {
        x.get(&resource.replace("autoscaling/v2/", "/apis/autoscaling/v2/namespaces/{ns}/")).await;
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "nginx:1"}]}})
}

pub async fn tables_of_custom_kinds(x: &mut Exchange) {
    let mut columned = definition(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    columned["spec"]["versions"][0]["additionalPrinterColumns"] = json!([
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "description": "How."},
        {"name": "N", "type": "integer", "format": "int32", "jsonPath": ".spec.n", "priority": 1},
        {"name": "Ratio", "type": "number", "jsonPath": ".spec.ratio"},
        {"name": "Flag", "type": "boolean", "jsonPath": ".spec.flag"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Names", "type": "string", "jsonPath": ".spec.list[*].name"},
        {"name": "First", "type": "string", "jsonPath": ".spec.list[0].name"},
        {"name": "Whole", "type": "string", "jsonPath": ".spec.whole"},
        {"name": "Label", "type": "string", "jsonPath": ".metadata.labels.x\\.dev/l"},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Odd", "type": "date", "jsonPath": ".spec.mode"}]);
    register(x, &columned).await;
    x.prepare("POST", FOOS, &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "full", "labels": {"x.dev/l": "m"}}, "spec": {"mode": "Observe", "n": 3, "ratio": 0.5,
        "flag": true, "list": [{"name": "a"}, {"name": "b"}], "whole": {"a": [1, "x"], "b": null}}})).await;
    x.merge_quietly(
        &format!("{FOOS}/full/status"),
        &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    )
    .await;
    x.prepare("POST", FOOS, &bare("empty")).await;
    x.prepare(
        "POST",
        FOOS,
        &foo("wrong", &json!({"mode": 5, "n": "x", "ratio": 1, "flag": "yes", "list": "x"})),
    )
    .await;
    x.with(&[("accept", TABLE)]);
    x.get(FOOS).await;
    x.get(&format!("{FOOS}/full")).await;
    x.get(&format!("{FOOS}?includeObject=None&limit=1")).await;
}

pub async fn metadata_only(x: &mut Exchange) {
    x.prepare(
        "POST",
        "secrets",
        &json!({"metadata": {"name": "s", "labels": {"l": "m"}}, "data": {"a": "MQ=="}}),
    )
    .await;
    x.with(&[("accept", METADATA)]);
    x.get("secrets/s").await;
    x.get("secrets").await;
    x.post("secrets", &json!({"metadata": {"name": "t"}})).await;
    x.merge("secrets/t", &json!({"metadata": {"labels": {"l": "m"}}})).await;
    x.delete("secrets/t", &Value::Null).await;
    x.get("secrets/nope").await;
    x.with(&[("accept", METADATA_LIST)]);
    x.get("secrets").await;
    x.get("secrets/s").await;
}

pub async fn what_may_be_accepted(x: &mut Exchange) {
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "s"}})).await;
    for accept in [
        "application/json",
        "*/*",
        "application/*",
        "text/html",
        "application/xml,application/json",
        "application/json;as=Nope;g=meta.k8s.io;v=v1",
        "application/json;as=Table;g=meta.k8s.io;v=v9,application/json",
        "application/json; charset=utf-8",
        "text/plain,*/*;q=0.8",
    ] {
        x.with(&[("accept", accept)]);
        x.get("secrets/s").await;
    }
}
