//! Bookmarks: a watch that lives long enough is told before its end how far it has come. Of what happened before it began it is told nothing
//! more, so each case writes while it watches.

use serde_json::{Value, json};

use super::exchange::Exchange;

/// Its end is near enough, and not too near for a bookmark, which comes two seconds before it: what is written meanwhile is to
/// be there by then.
const LIVES: &str = "secrets?watch=true&timeoutSeconds=6";

fn secret(name: &str, tier: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"tier": tier}}})
}

/// The version of the secrets now.
async fn now(x: &mut Exchange) -> String {
    x.with_bookmarks();
    x.get("secrets").await.version().to_owned()
}

/// Another goes on where it was told that it is, and misses nothing and hears nothing twice.
pub async fn of_a_watch_that_lives(x: &mut Exchange) {
    let from = now(x).await;
    let asks = format!("{LIVES}&allowWatchBookmarks=true&resourceVersion={from}");
    let told = x.watch_while(&asks, ("secrets", &secret("a", "web"))).await.body;
    let bookmark = told.as_array().and_then(|events| events.last()).cloned().unwrap_or_default();
    assert_eq!(bookmark["type"], "BOOKMARK", "{told}");
    let at = bookmark["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    x.prepare("POST", "secrets", &secret("b", "web")).await;
    x.get(&format!("secrets?watch=true&timeoutSeconds=1&resourceVersion={at}")).await;
    // Of what was selected it need not have seen anything.
    let nothing = format!("{asks}&labelSelector=tier=none");
    x.watch_while(&nothing, ("secrets", &secret("c", "web"))).await;
}

pub async fn only_for_who_asks_and_stays(x: &mut Exchange) {
    let from = now(x).await;
    x.watch_while(&format!("{LIVES}&resourceVersion={from}"), ("secrets", &secret("a", "web"))).await;
    let short = "secrets?watch=true&timeoutSeconds=2&allowWatchBookmarks=true";
    x.watch_while(&format!("{short}&resourceVersion={from}"), ("secrets", &secret("b", "web"))).await;
}

/// One that says that the list is complete, and one at the end.
pub async fn of_a_streaming_list(x: &mut Exchange) {
    now(x).await;
    x.prepare("POST", "secrets", &secret("a", "web")).await;
    let asks =
        format!("{LIVES}&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    x.watch_while(&asks, ("secrets", &secret("b", "web"))).await;
}

pub async fn in_other_forms(x: &mut Exchange) {
    let asks = format!("{LIVES}&allowWatchBookmarks=true&resourceVersion={}", now(x).await);
    x.with(&[("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")]);
    x.watch_while(&asks, ("secrets", &secret("a", "web"))).await;
    x.with(&[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")]);
    x.watch_while(&asks, ("secrets", &secret("b", "web"))).await;
}
