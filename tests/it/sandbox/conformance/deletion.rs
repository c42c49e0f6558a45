//! The end of objects: preconditions, finalizers, propagation, owners.

use serde_json::{Value, json};

use super::exchange::{Answer, Exchange};
use super::objects::map;

fn owned(name: &str, owner: &Answer, block: bool) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner.body["metadata"]["name"], "uid": owner.uid(), "controller": true, "blockOwnerDeletion": block}]}})
}

pub async fn with_preconditions(x: &mut Exchange) {
    let one = x.post("configmaps", &map("one", &json!({}))).await;
    x.delete("configmaps/one", &json!({"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}}))
        .await;
    x.delete("configmaps/one", &json!({"preconditions": {"resourceVersion": "1"}})).await;
    x.delete(
        "configmaps/one",
        &json!({"preconditions": {"uid": one.uid(), "resourceVersion": one.version()}}),
    )
    .await;
    x.delete("configmaps/one", &Value::Null).await;
}

pub async fn what_the_options_may_say(x: &mut Exchange) {
    x.post("configmaps", &map("one", &json!({}))).await;
    for options in [
        json!({"propagationPolicy": "Nope"}),
        json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
        json!({"gracePeriodSeconds": -1}),
        json!({"gracePeriodSeconds": "x"}),
        json!({"kind": "Status", "apiVersion": "v1"}),
        json!("{"),
        json!({"dryRun": ["All", "Some"]}),
    ] {
        x.delete("configmaps/one?dryRun=All", &options).await;
    }
    x.delete("configmaps/one?propagationPolicy=Nope", &Value::Null).await;
    x.delete("configmaps/one?gracePeriodSeconds=x", &Value::Null).await;
    x.delete(
        "configmaps/one",
        &json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}),
    )
    .await;
}

pub async fn answers_of_some_kinds(x: &mut Exchange) {
    x.prepare("POST", "serviceaccounts", &json!({"metadata": {"name": "a"}})).await;
    x.prepare(
        "POST",
        "services",
        &json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
    )
    .await;
    x.prepare("POST", "coordination.k8s.io/v1/leases", &json!({"metadata": {"name": "a"}})).await;
    x.prepare("POST", "rbac.authorization.k8s.io/v1/roles", &json!({"metadata": {"name": "a"}})).await;
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "a"}})).await;
    for resource in [
        "serviceaccounts/a",
        "coordination.k8s.io/v1/leases/a",
        "rbac.authorization.k8s.io/v1/roles/a",
        "secrets/a",
    ] {
        x.delete(resource, &Value::Null).await;
    }
}

pub async fn finalizers_hold(x: &mut Exchange) {
    x.post("configmaps", &json!({"metadata": {"name": "one", "finalizers": ["x.dev/a", "x.dev/b"]}})).await;
    x.delete("configmaps/one", &Value::Null).await;
    x.delete("configmaps/one", &Value::Null).await;
    x.post("configmaps", &map("one", &json!({}))).await;
    x.merge("configmaps/one", &json!({"metadata": {"finalizers": ["x.dev/a", "x.dev/b", "x.dev/c"]}})).await;
    x.merge("configmaps/one", &json!({"data": {"still": "writable"}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"finalizers": ["x.dev/b"]}})).await;
    x.merge("configmaps/one?dryRun=All", &json!({"metadata": {"finalizers": []}})).await;
    x.merge("configmaps/one", &json!({"metadata": {"finalizers": null}})).await;
    x.get("configmaps/one").await;
}

pub async fn of_a_custom_object(x: &mut Exchange) {
    super::custom::define(x, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})).await;
    x.post(
        super::custom::FOOS,
        &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "a", "finalizers": ["x.dev/a"]}, "spec": {"n": 1}}),
    )
    .await;
    let a = format!("{}/a", super::custom::FOOS);
    x.delete(&a, &Value::Null).await;
    x.merge(&a, &json!({"spec": {"n": 2}})).await;
    x.merge(&a, &json!({"metadata": {"finalizers": []}})).await;
    x.get(&a).await;
    x.post(super::custom::FOOS, &super::custom::bare("b")).await;
    x.delete(&format!("{}/b", super::custom::FOOS), &Value::Null).await;
}

pub async fn in_the_background(x: &mut Exchange) {
    let owner = x.post("configmaps", &map("owner", &json!({}))).await;
    x.post("configmaps", &owned("child", &owner, true)).await;
    x.delete("configmaps/owner", &json!({"propagationPolicy": "Background"})).await;
    x.gone("configmaps/child").await;
}

pub async fn in_the_foreground(x: &mut Exchange) {
    let owner = x.post("configmaps", &map("owner", &json!({}))).await;
    let mut held = owned("held", &owner, true);
    held["metadata"]["finalizers"] = json!(["x.dev/a"]);
    x.post("configmaps", &held).await;
    x.post("configmaps", &owned("loose", &owner, false)).await;
    x.delete("configmaps/owner", &json!({"propagationPolicy": "Foreground"})).await;
    x.gone("configmaps/loose").await;
    x.reached("configmaps/held", |answer| answer.body["metadata"]["deletionTimestamp"].is_string()).await;
    x.get("configmaps/held").await;
    x.get("configmaps/owner").await;
    x.merge("configmaps/held", &json!({"metadata": {"finalizers": null}})).await;
    x.gone("configmaps/owner").await;
}

pub async fn leaving_orphans(x: &mut Exchange) {
    let owner = x.post("configmaps", &map("owner", &json!({}))).await;
    x.post("configmaps", &owned("child", &owner, true)).await;
    x.prepare("DELETE", "configmaps/owner?propagationPolicy=Orphan", &Value::Null).await;
    x.gone("configmaps/owner").await;
    x.get("configmaps/child").await;
}

pub async fn two_owners(x: &mut Exchange) {
    let one = x.post("configmaps", &map("one", &json!({}))).await;
    let two = x.post("configmaps", &map("two", &json!({}))).await;
    let mut both = owned("both", &one, false);
    let mut second = owned("both", &two, false)["metadata"]["ownerReferences"][0].clone();
    second["controller"] = false.into();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(second);
    x.post("configmaps", &both).await;
    x.post("configmaps", &owned("single", &one, false)).await;
    x.delete("configmaps/one", &Value::Null).await;
    x.gone("configmaps/single").await;
    x.reached("configmaps/both", |answer| {
        answer.body["metadata"]["ownerReferences"].as_array().map(Vec::len) == Some(1)
    })
    .await;
    x.get("configmaps/both").await;
    x.delete("configmaps/two", &Value::Null).await;
    x.gone("configmaps/both").await;
}

pub async fn owners_that_never_were(x: &mut Exchange) {
    let ghost = json!({"metadata": {"name": "child", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "11111111-2222-3333-4444-555555555555"}]}});
    x.post("configmaps", &ghost).await;
    x.gone("configmaps/child").await;
}

pub async fn of_a_collection(x: &mut Exchange) {
    for (name, tier) in [("a", "web"), ("b", "web"), ("c", "api"), ("d", "api")] {
        x.prepare("POST", "secrets", &json!({"metadata": {"name": name, "labels": {"tier": tier}}})).await;
    }
    x.merge_quietly("secrets/b", &json!({"metadata": {"finalizers": ["x.dev/a"]}})).await;
    x.delete("secrets?labelSelector=tier=web&dryRun=All", &Value::Null).await;
    x.delete("secrets?labelSelector=tier=web", &Value::Null).await;
    x.get("secrets").await;
    x.delete("secrets?fieldSelector=metadata.name=c", &Value::Null).await;
    x.delete("secrets?labelSelector=a+b", &Value::Null).await;
    x.merge_quietly("secrets/b", &json!({"metadata": {"finalizers": null}})).await;
    x.delete("secrets", &json!({"propagationPolicy": "Background"})).await;
    x.get("secrets").await;
}

pub async fn of_a_namespace(x: &mut Exchange) {
    const SPACE: &str = "/api/v1/namespaces/{ns}-two";
    x.post("/api/v1/namespaces", &json!({"metadata": {"name": "{ns}-two", "labels": {"l": "m"}}})).await;
    x.reached(&format!("{SPACE}/serviceaccounts/default"), |answer| answer.code == 200).await;
    x.post(&format!("{SPACE}/configmaps"), &json!({"metadata": {"name": "held", "finalizers": ["x.dev/a"]}}))
        .await;
    x.post(&format!("{SPACE}/configmaps"), &map("plain", &json!({}))).await;
    x.delete(SPACE, &Value::Null).await;
    x.gone(&format!("{SPACE}/configmaps/plain")).await;
    x.post(&format!("{SPACE}/configmaps"), &map("late", &json!({}))).await;
    x.get(&format!("{SPACE}/configmaps/held")).await;
    x.merge_quietly(&format!("{SPACE}/configmaps/held"), &json!({"metadata": {"finalizers": null}})).await;
    x.gone(SPACE).await;
    x.post(&format!("{SPACE}/configmaps"), &map("none", &json!({}))).await;
    x.get(&format!("{SPACE}/configmaps")).await;
    x.get(&format!("{SPACE}/configmaps/none")).await;
    x.delete(SPACE, &Value::Null).await;
    x.delete("/api/v1/namespaces", &Value::Null).await;
}
