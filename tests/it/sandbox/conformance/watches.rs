//! Watches, each of which ends by its timeout.

use serde_json::{Value, json};

use super::exchange::Exchange;

async fn secret(x: &mut Exchange, name: &str, tier: &str) {
    x.prepare("POST", "secrets", &json!({"metadata": {"name": name, "labels": {"tier": tier}}})).await;
}

async fn relabel(x: &mut Exchange, name: &str, tier: &str) {
    x.merge_quietly(&format!("secrets/{name}"), &json!({"metadata": {"labels": {"tier": tier}}})).await;
}

pub async fn from_a_version(x: &mut Exchange) {
    let from = x.get("secrets").await.version().to_owned();
    secret(x, "a", "web").await;
    relabel(x, "a", "api").await;
    relabel(x, "a", "api").await;
    secret(x, "b", "web").await;
    x.prepare("DELETE", "secrets/a", &Value::Null).await;
    let watch = format!("secrets?watch=true&resourceVersion={from}&timeoutSeconds=2");
    x.get(&watch).await;
    x.get(&format!("{watch}&fieldSelector=metadata.name=b")).await;
    x.get(&format!("{watch}&labelSelector=tier=web")).await;
    x.get(&format!("{watch}&labelSelector=tier=api")).await;
}

pub async fn finalizers_are_seen(x: &mut Exchange) {
    let from = x.get("secrets").await.version().to_owned();
    x.prepare("POST", "secrets", &json!({"metadata": {"name": "f", "finalizers": ["x.dev/a"]}})).await;
    x.prepare("DELETE", "secrets/f", &Value::Null).await;
    x.merge_quietly("secrets/f", &json!({"metadata": {"finalizers": null}})).await;
    x.get(&format!("secrets?watch=true&resourceVersion={from}&timeoutSeconds=2")).await;
}

pub async fn from_the_present_state(x: &mut Exchange) {
    secret(x, "a", "web").await;
    secret(x, "b", "api").await;
    x.get("secrets?watch=true&timeoutSeconds=2").await;
    x.get("secrets?watch=true&resourceVersion=0&timeoutSeconds=2").await;
    x.get("secrets?watch=true&timeoutSeconds=2&labelSelector=tier=api").await;
}

pub async fn streaming_lists(x: &mut Exchange) {
    secret(x, "a", "web").await;
    secret(x, "b", "api").await;
    let stream =
        "secrets?watch=true&timeoutSeconds=2&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    x.get(&format!("{stream}&allowWatchBookmarks=true")).await;
    x.get(&format!("{stream}&allowWatchBookmarks=true&labelSelector=tier=api")).await;
    x.get(&format!("{stream}&allowWatchBookmarks=true&resourceVersion=0")).await;
    x.get(stream).await;
    let at = x.get("secrets").await.version().to_owned();
    x.get(&format!("{stream}&allowWatchBookmarks=true&resourceVersion={at}")).await;
    x.get("secrets?watch=true&timeoutSeconds=2&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true").await;
    x.with(&[("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")]);
    x.get(&format!("{stream}&allowWatchBookmarks=true")).await;
    x.with(&[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")]);
    x.get(&format!("{stream}&allowWatchBookmarks=true")).await;
}

pub async fn what_is_refused(x: &mut Exchange) {
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=Exact&resourceVersion=1",
        "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
        "resourceVersion=x",
        "labelSelector=a+b",
        "fieldSelector=data=x",
        "limit=x",
        "continue=x",
    ] {
        x.get(&format!("secrets?watch=1&timeoutSeconds=2&{query}")).await;
    }
}

pub async fn in_other_forms(x: &mut Exchange) {
    secret(x, "a", "web").await;
    x.with(&[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")]);
    x.get("secrets?watch=1&timeoutSeconds=2").await;
    x.with(&[("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")]);
    x.get("secrets?watch=1&timeoutSeconds=2").await;
}
