//! Paths, methods and parameters; discovery.

use serde_json::{Value, json};

use super::exchange::{Exchange, JSON};
use super::objects::map;

pub async fn that_lead_nowhere(x: &mut Exchange) {
    for path in [
        "/nope",
        "/api/v2",
        "/api/v1/nope",
        "/apis/nope.dev",
        "/apis/nope.dev/v1",
        "/apis/apps/v9",
        "/apis/apps/v1/nope",
        "/apis/apps/v1/namespaces/{ns}/nope",
        "/apis/apps/v1/namespaces/{ns}/nope/x",
        "/api/v1/namespaces/{ns}/nodes",
        "/api/v1/namespaces/{ns}/configmaps/a/status",
        "/api/v1/namespaces/{ns}/configmaps/a/b/c",
        "/api/v1/namespaces/{ns}/secrets/",
    ] {
        x.get(path).await;
    }
}

pub async fn methods_that_are_not_known(x: &mut Exchange) {
    x.prepare("POST", "configmaps", &map("a", &json!({}))).await;
    for (method, path) in [
        ("POST", "configmaps/a"),
        ("PUT", "configmaps"),
        ("PATCH", "configmaps"),
        ("POST", "/api/v1/configmaps"),
        ("DELETE", "/api/v1/configmaps"),
        ("POST", "/api/v1/nodes/x"),
        ("PUT", "/api/v1/namespaces"),
        ("POST", "/version"),
        ("POST", "/api"),
        ("DELETE", "/apis/apps/v1"),
        ("GET", "pods/a/binding"),
        ("GET", "pods/a/eviction"),
        ("PUT", "pods/a/log"),
        ("GET", "serviceaccounts/default/token"),
    ] {
        x.send(method, path, JSON, &json!({})).await;
    }
}

pub async fn ways_to_a_namespaced_kind(x: &mut Exchange) {
    x.prepare(
        "POST",
        "coordination.k8s.io/v1/leases",
        &json!({"metadata": {"name": "lease-of-conformance", "labels": {"in": "{ns}"}}}),
    )
    .await;
    x.get("/apis/coordination.k8s.io/v1/leases?labelSelector=in={ns}").await;
    x.get("/apis/coordination.k8s.io/v1/leases/lease-of-conformance").await;
    x.get("/apis/coordination.k8s.io/v1/namespaces/nonesuch/leases").await;
    x.get("/apis/coordination.k8s.io/v1/namespaces/nonesuch/leases/a").await;
    x.post("/apis/coordination.k8s.io/v1/namespaces/nonesuch/leases", &json!({"metadata": {"name": "a"}}))
        .await;
    x.apply(
        "/apis/coordination.k8s.io/v1/namespaces/nonesuch/leases/a",
        "alice",
        &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}}),
    )
    .await;
    x.delete("/apis/coordination.k8s.io/v1/namespaces/nonesuch/leases/a", &Value::Null).await;
    x.delete("/apis/coordination.k8s.io/v1/namespaces/nonesuch/leases", &Value::Null).await;
}

pub async fn parameters(x: &mut Exchange) {
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "a"}})).await;
    for path in [
        "secrets?pretty=true",
        "secrets/a?pretty=false",
        "secrets?watch=false",
        "secrets?watch=0&timeoutSeconds=1",
        "secrets?timeoutSeconds=x",
        "secrets?timeout=5s",
    ] {
        x.get(path).await;
    }
}

pub async fn discovery(x: &mut Exchange) {
    for path in ["/healthz", "/readyz", "/livez"] {
        x.get(path).await;
    }
}
