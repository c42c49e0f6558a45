//! Server-side apply: several managers, conflicts, ownership given up.

use serde_json::{Value, json};

use super::custom::{FOOS, define};
use super::exchange::Exchange;
use super::objects::map;
use super::patches::deployment;

pub async fn on_a_map(x: &mut Exchange) {
    let one = "configmaps/one";
    x.apply(one, "alice", &map("one", &json!({"a": "1", "b": "2"}))).await;
    x.apply(one, "alice", &map("one", &json!({"a": "1", "b": "2"}))).await;
    x.apply(one, "bob", &map("one", &json!({"b": "2", "c": "3"}))).await;
    x.apply(one, "bob", &map("one", &json!({"a": "9", "b": "9"}))).await;
    x.apply(one, "carol", &map("one", &json!({"a": "9", "b": "9", "c": "9"}))).await;
    x.apply(one, "bob&force=true", &map("one", &json!({"a": "9"}))).await;
    x.apply(one, "alice", &map("one", &json!({}))).await;
    x.apply(one, "bob", &map("one", &json!({}))).await;
    x.merge(&format!("{one}?fieldManager=dave"), &json!({"data": {"d": "4"}})).await;
    x.apply(one, "alice", &map("one", &json!({"d": "5"}))).await;
    x.apply(one, "alice", &map("one", &json!({"d": "4"}))).await;
    x.merge(&format!("{one}?fieldManager=dave"), &json!({"data": {"d": "6"}})).await;
    x.apply(one, "alice", &map("one", &json!({"d": "4"}))).await;
    x.apply(one, "alice&force=true", &map("one", &json!({"d": "4"}))).await;
}

pub async fn what_it_asks_of_a_request(x: &mut Exchange) {
    let one = map("one", &json!({"a": "1"}));
    x.send("PATCH", "configmaps/one", "application/apply-patch+yaml", &one).await;
    x.apply("configmaps/one", "alice", &map("two", &json!({}))).await;
    x.apply("configmaps/one", "alice", &json!({"metadata": {"name": "one"}})).await;
    x.apply(
        "configmaps/one",
        "alice",
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}}),
    )
    .await;
    x.apply("configmaps/one", "alice", &json!({"apiVersion": "v1", "kind": "ConfigMap"})).await;
    x.apply("configmaps/two", "alice", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two", "managedFields": [{"manager": "x"}]}})).await;
    x.apply("configmaps/A_b", "alice", &map("A_b", &json!({}))).await;
    x.apply(
        "configmaps/three",
        "alice",
        &"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: three\ndata: {a: b}\n".into(),
    )
    .await;
    x.apply("configmaps/three", "alice", &"apiVersion: v1\nkind: ConfigMap\nmetadata: [\n".into()).await;
    x.apply(
        "configmaps/three",
        "alice",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "three"}, "data": {"a": 1}}),
    )
    .await;
    x.merge("configmaps/three?force=true", &json!({})).await;
    x.apply("configmaps/one", "alice", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "resourceVersion": "1"}})).await;
    x.apply("configmaps/one", "alice", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "uid": "11111111-2222-3333-4444-555555555555"}})).await;
}

pub async fn on_a_workload(x: &mut Exchange) {
    let web = "apps/v1/deployments/web";
    let containers = |items: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"template": {"spec": {"containers": items}}}})
    };
    x.apply(web, "alice", &deployment("web")).await;
    x.apply(web, "bob", &containers(json!([{"name": "a", "env": [{"name": "F", "value": "w"}]}]))).await;
    x.apply(web, "bob", &containers(json!([{"name": "a", "image": "nginx:2"}]))).await;
    x.apply(web, "bob", &containers(json!([{"name": "side", "image": "nginx:2", "ports": [{"containerPort": 81}, {"containerPort": 81, "protocol": "UDP"}]}]))).await;
    x.apply(
        web,
        "bob",
        &containers(json!([{"name": "side", "image": "nginx:2"}, {"name": "side", "image": "nginx:3"}])),
    )
    .await;
    x.apply(web, "bob", &containers(json!([{"image": "nginx:2"}]))).await;
    x.apply(web, "carol", &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "finalizers": ["x.dev/a"], "labels": {"l": "m"}}, "spec": {"replicas": 0}})).await;
    x.apply(web, "bob", &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "finalizers": ["x.dev/b"]}})).await;
    x.apply(
        web,
        "carol",
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
    )
    .await;
    let mut less = deployment("web");
    less["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().remove(1);
    x.apply(web, "alice", &less).await;
    x.apply(
        web,
        "alice",
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
    )
    .await;
    x.apply("apps/v1/deployments/web/scale", "erin&force=true", &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 0}})).await;
}

pub async fn on_a_custom_kind(x: &mut Exchange) {
    define(x, json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "mode": {"type": "string", "default": "Observe"},
            "steps": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items":
                {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "run": {"type": "string"}, "kind": {"type": "string", "default": "k"}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "atomic": {"type": "array", "items": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        "status": {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}}}})).await;
    let one = format!("{FOOS}/a");
    let foo = |spec: Value| json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": spec});
    for (manager, spec) in [
        (
            "alice",
            json!({"steps": [{"name": "one", "run": "x"}, {"name": "two", "run": "y"}], "set": ["a", "b"], "atomic": ["1"]}),
        ),
        ("bob", json!({"steps": [{"name": "three", "run": "z"}], "set": ["b", "c"]})),
        ("bob", json!({"steps": [{"name": "one", "run": "z"}]})),
        ("bob", json!({"atomic": ["1", "2"]})),
        ("bob", json!({"atomic": ["1"]})),
        ("bob&force=true", json!({"steps": [{"name": "one", "run": "z"}], "atomic": ["2"]})),
        ("alice", json!({"steps": [{"name": "two", "run": "y"}], "set": ["a"]})),
        ("alice", json!({"whole": {"a": "1"}, "free": {"a": {"b": 1}}})),
        ("bob", json!({"whole": {"b": "1"}})),
        ("bob", json!({"free": {"a": {"c": 1}}})),
        ("bob", json!({"free": {"a": {"b": 2}}})),
        ("bob", json!({"mode": "Observe"})),
        ("alice", json!({"mode": "Enforce"})),
        ("alice", json!({"set": ["a", "a"]})),
        ("alice", json!({"steps": [{"run": "z"}]})),
        ("alice", json!({"steps": [{"name": "one"}, {"name": "one"}]})),
        ("alice", json!({"mode": null})),
    ] {
        x.apply(&one, manager, &foo(spec)).await;
    }
    let status = |status: Value| json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "a"}, "status": status});
    x.apply(&format!("{one}/status"), "controller", &status(json!({"n": 1}))).await;
    x.apply(&format!("{one}/status"), "other", &status(json!({"n": 2}))).await;
    x.apply(&format!("{one}/status"), "controller", &status(json!({"m": 2}))).await;
    x.apply(&one, "controller", &status(json!({"n": 5}))).await;
    x.apply(&format!("{FOOS}/nope/status"), "controller", &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "nope"}, "status": {"n": 1}})).await;
}
