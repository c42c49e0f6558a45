//! Objects come, change and are read.

use serde_json::{Value, json};

use super::exchange::{Exchange, JSON};

pub fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub async fn create_and_read(x: &mut Exchange) {
    x.post("configmaps", &map("one", &json!({"a": "1"}))).await;
    x.post("configmaps", &map("one", &json!({}))).await;
    x.get("configmaps/one").await;
    x.get("configmaps/nope").await;
    x.post("secrets", &json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}})).await;
    x.get("secrets/s").await;
}

pub async fn names_are_checked(x: &mut Exchange) {
    for name in ["A_b", "", "a..b", "-a", "a/b", &"a".repeat(254)] {
        x.post("configmaps", &map(name, &json!({}))).await;
    }
    x.post("configmaps", &json!({"metadata": {}})).await;
    x.post("serviceaccounts", &json!({"metadata": {"name": "a.b"}})).await;
    x.post("services", &json!({"metadata": {"name": "a.b"}, "spec": {"ports": [{"port": 80}]}})).await;
    x.post("rbac.authorization.k8s.io/v1/roles", &json!({"metadata": {"name": "a:B"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})).await;
}

pub async fn metadata_is_checked(x: &mut Exchange) {
    let with = |field: &str, value: Value| json!({"metadata": {"name": "x", field: value}});
    for object in [
        with("labels", json!({"a b": "c"})),
        with("labels", json!({"a": "b c"})),
        with("labels", json!({"a": "x".repeat(64)})),
        with("labels", json!({"A.x/B_c": "D"})),
        with("annotations", json!({"a/b/c": "d"})),
        with("finalizers", json!(["nodomain"])),
        with("finalizers", json!(["x.dev/a b"])),
        with("ownerReferences", json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "", "uid": "u"}])),
        with(
            "ownerReferences",
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u", "controller": true},
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "v", "controller": true}]),
        ),
        with("uid", json!("mine")),
        with("creationTimestamp", json!("2020-01-01T00:00:00Z")),
        with("selfLink", json!("/x")),
        with("labels", json!({"a": 1})),
        with("labels", json!(["a"])),
        with("generation", json!(7)),
    ] {
        x.post("configmaps?dryRun=All", &object).await;
    }
}

pub async fn bodies_that_do_not_fit(x: &mut Exchange) {
    x.post("configmaps", &json!({"metadata": {"name": "x"}, "data": {"a": 1}})).await;
    x.post("configmaps", &json!({"metadata": {"name": "x"}, "data": []})).await;
    x.post("configmaps", &json!({"metadata": {"name": "x"}, "immutable": "yes"})).await;
    x.post("configmaps", &json!({"metadata": {"name": "x", "namespace": "other"}})).await;
    x.post("configmaps", &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}})).await;
    x.post("configmaps", &json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}})).await;
    x.post("configmaps", &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}))
        .await;
    x.send("POST", "configmaps", JSON, &Value::Null).await;
    x.send("POST", "configmaps", "application/yaml", &"metadata: {name: yaml}\ndata: {a: b}\n".into()).await;
    x.send("POST", "configmaps", "application/xml", &"<a/>".into()).await;
    x.post("configmaps", &json!([])).await;
}

pub async fn generated_names(x: &mut Exchange) {
    let made = x.post("configmaps", &json!({"metadata": {"generateName": "made-"}})).await;
    let name = made.body["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name.len(), "made-".len() + 5);
    x.post("configmaps", &json!({"metadata": {"generateName": "Made_"}})).await;
    x.post("configmaps", &json!({"metadata": {"name": "both", "generateName": "made-"}})).await;
    x.delete(&format!("configmaps/{name}"), &Value::Null).await;
}

pub async fn replaces(x: &mut Exchange) {
    let one = x.post("configmaps", &map("one", &json!({"a": "1"}))).await;
    let mut next = one.body.clone();
    next["data"]["a"] = "2".into();
    let two = x.put("configmaps/one", &next).await;
    assert_ne!(one.version(), two.version());
    x.put("configmaps/one", &next).await;
    x.put("configmaps/one", &two.body).await;
    x.put("configmaps/one", &map("one", &json!({"b": "3"}))).await;
    x.put("configmaps/one", &map("two", &json!({}))).await;
    x.put("configmaps/nope", &map("nope", &json!({}))).await;
    let mut other = map("one", &json!({}));
    other["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    x.put("configmaps/one", &other).await;
    other = map("one", &json!({}));
    other["metadata"]["namespace"] = "other".into();
    x.put("configmaps/one", &other).await;
}

pub async fn what_an_update_cannot_touch(x: &mut Exchange) {
    let one = x.post("configmaps", &map("one", &json!({}))).await;
    for (field, value) in [
        ("creationTimestamp", json!("2020-01-01T00:00:00Z")),
        ("generation", json!(9)),
        ("deletionTimestamp", json!("2020-01-01T00:00:00Z")),
        ("deletionGracePeriodSeconds", json!(5)),
        ("generateName", json!("x-")),
        ("uid", json!("other")),
        ("name", json!("other")),
        ("namespace", json!("other")),
        ("resourceVersion", json!("1")),
        ("selfLink", json!("/x")),
    ] {
        x.merge("configmaps/one", &json!({"metadata": {field: value}})).await;
    }
    let now = x.get("configmaps/one").await;
    assert_eq!(one.uid(), now.uid());
}

pub async fn immutable_content(x: &mut Exchange) {
    x.post("configmaps", &json!({"metadata": {"name": "c"}, "data": {"a": "1"}, "immutable": true})).await;
    x.merge("configmaps/c", &json!({"data": {"a": "2"}})).await;
    x.merge("configmaps/c", &json!({"immutable": false})).await;
    x.merge("configmaps/c", &json!({"metadata": {"labels": {"l": "m"}}})).await;
    x.post("secrets", &json!({"metadata": {"name": "s"}, "type": "x.dev/t", "data": {"a": "MQ=="}})).await;
    x.merge("secrets/s", &json!({"type": "x.dev/u"})).await;
    x.merge("secrets/s", &json!({"data": {"a": "no base64!"}})).await;
    x.post(
        "apps/v1/controllerrevisions",
        &json!({"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1}}),
    )
    .await;
    x.merge("apps/v1/controllerrevisions/r", &json!({"data": {"a": 2}})).await;
    x.merge("apps/v1/controllerrevisions/r", &json!({"revision": 2})).await;
}

pub async fn dry_runs(x: &mut Exchange) {
    x.post("configmaps?dryRun=All", &map("dry", &json!({}))).await;
    x.get("configmaps/dry").await;
    x.post("configmaps", &map("wet", &json!({"a": "1"}))).await;
    x.merge("configmaps/wet?dryRun=All", &json!({"data": {"a": "2"}})).await;
    x.apply("configmaps/wet", "alice&dryRun=All&force=true", &map("wet", &json!({"a": "3"}))).await;
    x.apply("configmaps/new", "alice&dryRun=All", &map("new", &json!({"a": "3"}))).await;
    x.delete("configmaps/wet?dryRun=All", &Value::Null).await;
    x.delete("configmaps/wet", &json!({"dryRun": ["All"]})).await;
    x.get("configmaps/wet").await;
    x.post("configmaps?dryRun=Some", &map("dry", &json!({}))).await;
    x.merge("configmaps/wet?dryRun=Some", &json!({})).await;
    x.delete("configmaps/wet?dryRun=Some", &Value::Null).await;
}

pub async fn unknown_fields(x: &mut Exchange) {
    let odd = json!({"metadata": {"name": "odd", "zzz": 1}, "data": {}, "yyy": {"a": 1}});
    for mode in ["Strict", "Warn", "Ignore", "Nope"] {
        x.post(&format!("configmaps?dryRun=All&fieldValidation={mode}"), &odd).await;
    }
    x.post("configmaps?dryRun=All", &odd).await;
    x.post("configmaps", &map("one", &json!({}))).await;
    x.merge("configmaps/one?fieldValidation=Strict", &json!({"zzz": 1})).await;
    x.merge("configmaps/one", &json!({"zzz": 1})).await;
    x.strategic("configmaps/one?fieldValidation=Strict", &json!({"zzz": 1})).await;
    x.json_patch(
        "configmaps/one?fieldValidation=Strict",
        &json!([{"op": "add", "path": "/zzz", "value": 1}]),
    )
    .await;
    x.apply(
        "configmaps/one",
        "alice&fieldValidation=Strict",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "zzz": 1}),
    )
    .await;
    x.apply(
        "configmaps/one",
        "alice",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "zzz": 1}),
    )
    .await;
}

pub async fn field_managers(x: &mut Exchange) {
    x.post("configmaps?fieldManager=alice", &map("one", &json!({"a": "1"}))).await;
    x.merge("configmaps/one?fieldManager=bob", &json!({"data": {"b": "2"}})).await;
    x.merge("configmaps/one?fieldManager=bob", &json!({"data": {"a": "2"}})).await;
    x.merge(
        "configmaps/one?fieldManager=carol",
        &json!({"data": {"b": null}, "metadata": {"labels": {"l": "m"}}}),
    )
    .await;
    x.merge(&format!("configmaps/one?fieldManager={}", "m".repeat(129)), &json!({"data": {"c": "3"}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"managedFields": []}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"managedFields": [{}]}})).await;
    x.merge("configmaps/one?fieldManager=dave", &json!({"data": {"d": "4"}})).await;
}
