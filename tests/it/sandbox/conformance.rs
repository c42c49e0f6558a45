//! The same requests to the in-memory API and to a real kube-apiserver: the answers must not differ beyond
//! what differs from run to run.

use fother::sandbox::apiserver::{ApiServer, User};
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Method, path, media type, body.
type Call = (&'static str, &'static str, &'static str, Value);

fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 0, "paused": true, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "a", "image": "nginx:1", "env": [{"name": "E", "value": "v"}], "ports": [{"containerPort": 80}]}]}}}})
}

/// Requests about one ConfigMap, in an order in which each changes something.
fn map_calls() -> Vec<Call> {
    const MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";
    const ONE: &str = "/api/v1/namespaces/{ns}/configmaps/one";
    let none = || Value::Null;
    vec![
        ("POST", MAPS, JSON, map("one", &json!({"a": "1"}))),
        ("POST", MAPS, JSON, map("one", &json!({}))),
        ("POST", MAPS, JSON, map("A_b", &json!({}))),
        ("POST", MAPS, JSON, json!({"metadata": {}})),
        ("POST", MAPS, JSON, json!({"metadata": {"name": "x"}, "data": {"a": 1}})),
        ("POST", MAPS, JSON, json!({"metadata": {"name": "x", "namespace": "other"}})),
        (
            "POST",
            "/api/v1/namespaces/{ns}/configmaps?fieldValidation=Strict",
            JSON,
            json!({"metadata": {"name": "x"}, "zzz": 1}),
        ),
        ("POST", "/api/v1/namespaces/{ns}/configmaps?dryRun=All", JSON, map("dry", &json!({}))),
        ("POST", "/api/v1/namespaces/nonesuch/configmaps", JSON, map("x", &json!({}))),
        ("GET", ONE, JSON, none()),
        ("GET", "/api/v1/namespaces/{ns}/configmaps/nope", JSON, none()),
        ("PATCH", ONE, MERGE, json!({"data": {"b": "2"}, "metadata": {"labels": {"l": "m"}}})),
        ("PATCH", ONE, MERGE, json!({"data": {"b": "2"}})),
        ("PATCH", ONE, JSON_PATCH, json!([{"op": "test", "path": "/data/a", "value": "9"}])),
        ("PATCH", ONE, JSON_PATCH, json!([{"op": "remove", "path": "/data/b"}])),
        (
            "PATCH",
            ONE,
            JSON_PATCH,
            json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}]),
        ),
        ("PATCH", ONE, STRATEGIC, json!({"metadata": {"finalizers": ["x.dev/hold"]}})),
        (
            "PATCH",
            "/api/v1/namespaces/{ns}/configmaps/one?fieldManager=alice",
            APPLY,
            map("one", &json!({"a": "9"})),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/{ns}/configmaps/one?fieldManager=alice&force=true",
            APPLY,
            map("one", &json!({"a": "9", "c": "3"})),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/{ns}/configmaps/one?fieldManager=bob",
            APPLY,
            map("one", &json!({"c": "3", "d": "4"})),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/{ns}/configmaps/one?fieldManager=alice",
            APPLY,
            map("one", &json!({"a": "9"})),
        ),
        ("PATCH", ONE, APPLY, map("one", &json!({}))),
        ("PUT", ONE, JSON, json!({"metadata": {"name": "one", "resourceVersion": "1"}, "data": {}})),
        ("PUT", ONE, JSON, map("two", &json!({}))),
        ("DELETE", ONE, JSON, json!({"preconditions": {"uid": "other"}})),
        ("DELETE", ONE, JSON, none()),
        ("PATCH", ONE, MERGE, json!({"metadata": {"finalizers": ["x.dev/hold", "x.dev/more"]}})),
        ("PATCH", ONE, MERGE, json!({"metadata": {"finalizers": null}})),
        ("GET", ONE, JSON, none()),
    ]
}

/// Requests about a workload, and requests that cannot be answered.
fn other_calls() -> Vec<Call> {
    const WEB: &str = "/apis/apps/v1/namespaces/{ns}/deployments/web";
    let none = || Value::Null;
    vec![
        ("POST", "/apis/apps/v1/namespaces/{ns}/deployments", JSON, deployment()),
        (
            "PATCH",
            WEB,
            STRATEGIC,
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "env": [{"name": "F", "value": "w"}]}]}}}}),
        ),
        (
            "PATCH",
            WEB,
            STRATEGIC,
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "env": [{"name": "E", "$patch": "delete"}]}]}}}}),
        ),
        ("PATCH", WEB, MERGE, json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}})),
        ("GET", "/apis/apps/v1/namespaces/{ns}/deployments/web/scale", JSON, none()),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/{ns}/deployments/web/scale",
            MERGE,
            json!({"spec": {"replicas": -1}}),
        ),
        ("DELETE", WEB, JSON, none()),
        ("GET", "/api/v1/nodes?limit=x", JSON, none()),
        ("GET", "/api/v1/nodes?resourceVersion=x", JSON, none()),
        ("GET", "/api/v1/nodes?fieldSelector=spec.foo=x", JSON, none()),
        ("GET", "/api/v1/nodes?labelSelector=a+b", JSON, none()),
        ("GET", "/api/v1/nodes?resourceVersionMatch=Exact", JSON, none()),
        ("GET", "/api/v1/nodes?watch=1&sendInitialEvents=true", JSON, none()),
        ("POST", "/api/v1/nodes/x", JSON, json!({})),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            JSON,
            json!({"spec": {"user": "bob",
            "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}),
        ),
    ]
}

async fn answer(client: &Client, namespace: &str, (method, path, media, body): &Call) -> (u16, Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder()
        .method(*method)
        .uri(path.replace("{ns}", namespace))
        .header("content-type", *media)
        .header("user-agent", "conformance")
        .body(kube::client::Body::from(body))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap().replace(namespace, "NAMESPACE");
    (code, normalized(serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Without what differs from run to run.
fn normalized(mut value: Value) -> Value {
    const VARYING: &[&str] = &[
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "time",
        "lastTransitionTime",
        "lastUpdateTime",
    ];
    match &mut value {
        Value::Object(map) => {
            // A create that claims no resources leaves a null behind in the real server's answers.
            map.retain(|name, child| !VARYING.contains(&name.as_str()) && !child.is_null());
            map.values_mut().for_each(|child| *child = normalized(child.take()));
            settle(map);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = normalized(item.take())),
        Value::String(text) if text.contains("UID in") => {
            *text = text.split("UID in").next().unwrap_or_default().to_owned();
        }
        _ => {}
    }
    value
}

/// Without what controllers added meanwhile, what a review owns of itself, and a cause that is said twice.
fn settle(map: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(entries)) = map.get_mut("managedFields") {
        entries.retain(|entry| entry["manager"] != "kube-controller-manager");
    }
    if let Some(Value::Array(causes)) = map.get_mut("causes") {
        causes.dedup();
    }
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind == "Deployment" {
        map.remove("status");
    }
    if kind.ends_with("Review")
        && let Some(Value::Object(metadata)) = map.get_mut("metadata")
    {
        metadata.remove("managedFields");
    }
}

#[tokio::test]
async fn answers_are_those_of_a_real_api_server() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let namespace = plane.namespace("conformance").await;
    let real = plane.admin().client().await;
    let server = ApiServer::new();
    let sandbox = server.client(&User::admin());
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let (code, _) = answer(&sandbox, &namespace, &("POST", "/api/v1/namespaces", JSON, space)).await;
    assert_eq!(code, 201);
    let mut differences = Vec::new();
    for call in [map_calls(), other_calls()].concat() {
        let (expected, seen) =
            (answer(&real, &namespace, &call).await, answer(&sandbox, &namespace, &call).await);
        if expected != seen {
            differences.push(format!(
                "{} {}\n  real    {} {}\n  sandbox {} {}",
                call.0, call.1, expected.0, expected.1, seen.0, seen.1
            ));
        }
    }
    assert!(differences.is_empty(), "{} calls differ:\n{}", differences.len(), differences.join("\n"));
}
