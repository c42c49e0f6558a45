//! The patches that are computed from the present object.

use serde_json::{Value, json};

use super::exchange::Exchange;
use super::objects::map;

/// A Deployment that no controller makes anything of.
pub fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 2, "paused": true, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "a", "image": "nginx:1", "env": [{"name": "E", "value": "v"}], "ports": [{"containerPort": 80}]},
            {"name": "b", "image": "nginx:1", "args": ["x", "y"]}]}}}})
}

pub async fn merge_patches(x: &mut Exchange) {
    x.post("configmaps", &map("one", &json!({"a": "1", "b": "2"}))).await;
    x.merge("configmaps/one", &json!({"data": {"b": null, "c": "3"}, "metadata": {"labels": {"l": "m"}}}))
        .await;
    x.merge("configmaps/one", &json!({"data": {"c": "3"}})).await;
    x.merge("configmaps/one", &json!({"data": null})).await;
    x.merge("configmaps/one", &json!({"metadata": {"labels": null}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"resourceVersion": "1"}, "data": {"z": "1"}})).await;
    x.merge("configmaps/one", &json!({"data": {"a": 1}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"finalizers": ["x.dev/a", "x.dev/b"]}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"finalizers": ["x.dev/b"]}})).await;
    x.merge("configmaps/one", &json!([1])).await;
    x.merge("configmaps/one", &json!("{\"data\":")).await;
    x.merge("configmaps/one", &json!({"kind": "Secret"})).await;
    x.merge("configmaps/nope", &json!({})).await;
}

pub async fn json_patches(x: &mut Exchange) {
    x.post("configmaps", &map("one", &json!({"a": "1"}))).await;
    let op = |op: &str, path: &str| json!([{"op": op, "path": path}]);
    let with = |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
    for patch in [
        with("test", "/data/a", json!("9")),
        with("test", "/data/a", json!("1")),
        with("replace", "/data/a", json!("2")),
        with("replace", "/data/nope", json!("2")),
        with("add", "/data/b", json!("4")),
        with("add", "/nope/b", json!("4")),
        with("add", "/metadata/annotations", json!({"x.dev/y": "z"})),
        with("replace", "/metadata/annotations/x.dev~1y", json!("w")),
        op("remove", "/metadata/annotations/x.dev~1y"),
        op("remove", "/data/nope"),
        json!([{"op": "move", "from": "/data/a", "path": "/data/z"}]),
        json!([{"op": "copy", "from": "/data/z", "path": "/data/y"}]),
        with("add", "/metadata/labels", json!({"l": "m"})),
        with("add", "/metadata/finalizers", json!(["x.dev/a"])),
        with("add", "/metadata/finalizers/-", json!("x.dev/b")),
        with("add", "/metadata/finalizers/0", json!("x.dev/c")),
        op("remove", "/metadata/finalizers/1"),
        op("remove", "/metadata/finalizers/9"),
        with("replace", "/metadata/resourceVersion", json!("1")),
        with("replace", "/metadata/name", json!("two")),
        json!([{"op": "frobnicate", "path": "/data"}]),
        json!([{"op": "add", "path": "/data/b"}]),
        json!({"op": "add"}),
        json!([]),
    ] {
        x.json_patch("configmaps/one", &patch).await;
    }
    x.json_patch("configmaps/nope", &op("remove", "/data")).await;
}

pub async fn strategic_patches(x: &mut Exchange) {
    const WEB: &str = "apps/v1/deployments/web";
    x.post("apps/v1/deployments", &deployment("web")).await;
    let pod = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    for patch in [
        pod(json!({"containers": [{"name": "a", "env": [{"name": "F", "value": "w"}]}]})),
        pod(json!({"containers": [{"name": "a", "env": [{"name": "E", "$patch": "delete"}]}]})),
        pod(json!({"containers": [{"name": "c", "image": "nginx:3"}]})),
        pod(json!({"containers": [{"name": "b", "$patch": "delete"}]})),
        pod(json!({"containers": [{"name": "a", "args": ["1"]}]})),
        pod(json!({"containers": [{"name": "a", "ports": [{"containerPort": 81, "name": "x"}]}]})),
        pod(
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c", "tty": true}]}),
        ),
        pod(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        pod(
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "m"}}]}),
        ),
        pod(json!({"nodeSelector": {"a": "b"}})),
        pod(json!({"nodeSelector": {"$patch": "replace", "c": "d"}})),
        pod(json!({"tolerations": [{"key": "k"}]})),
        pod(json!({"imagePullSecrets": [{"name": "one"}, {"name": "two"}]})),
        pod(json!({"imagePullSecrets": [{"$patch": "delete", "name": "one"}]})),
        pod(json!({"imagePullSecrets": [{"$patch": "replace"}, {"name": "three"}]})),
        pod(json!({"containers": [{"image": "nginx:4"}]})),
        pod(json!({"containers": [{"name": "a", "$patch": "frobnicate"}]})),
        json!({"metadata": {"finalizers": ["x.dev/a", "x.dev/b"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.dev/a"]}}),
        json!({"metadata": {"labels": {"l": "m"}}}),
        json!({"metadata": {"labels": {"$patch": "delete"}}}),
        json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "RollingUpdate"}}}),
        json!({"spec": {"replicas": null}}),
        json!({"spec": {"replicas": 0}}),
        json!({"spec": "x"}),
    ] {
        x.strategic(WEB, &patch).await;
    }
    x.strategic("apps/v1/deployments/nope", &json!({})).await;
}

pub async fn a_custom_kind_takes_no_strategic_patch(x: &mut Exchange) {
    super::custom::define(x, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})).await;
    x.post("{ns}.dev/v1/foos", &super::custom::foo("a", &json!({"n": 1}))).await;
    x.strategic("{ns}.dev/v1/foos/a", &json!({"spec": {"n": 2}})).await;
    x.merge("{ns}.dev/v1/foos/a", &json!({"spec": {"n": 2}})).await;
    x.json_patch("{ns}.dev/v1/foos/a", &json!([{"op": "add", "path": "/spec/m", "value": [1]}])).await;
    x.send("PATCH", "{ns}.dev/v1/foos/a", "application/json", &json!({})).await;
    x.send("PATCH", "configmaps/a", "application/json", &json!({})).await;
}
