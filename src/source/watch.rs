//! One list-and-watch of one kind, for ever.
//!
//! *Guarantees*: the first delivery is a complete list, and so is the first after any gap, so a subscriber that compares
//! it with what it knows misses no deletion. Any 410, as HTTP status or inside the stream, leads to a new list. At least
//! [`PAUSE`] lies between two requests, whatever the server does. A watch without a sign of life is broken off.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::core::Resource;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// Objects per page of a list: what bounds the memory of a large one.
const PAGE: u32 = 500;
/// The least time between two requests of one watch.
const PAUSE: Duration = Duration::from_millis(800);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Seconds after which the server is to end a watch. kube's limit is 295.
const WATCH_SECONDS: u32 = 290;
/// Without an event or bookmark for so long the connection is taken for dead: bookmarks come every minute.
const SILENCE: Duration = Duration::from_secs(100);

/// What is watched: one kind, in one namespace or the whole cluster.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The kind.
    pub resource: ApiResource,
    /// The namespace; none for the whole cluster.
    pub namespace: Option<String>,
}

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The complete list: what is not in it does not exist.
    Synced(Arc<Vec<Arc<Value>>>),
    /// An object was created or changed.
    Changed(Arc<Value>),
    /// An object is gone.
    Deleted(Arc<Value>),
    /// Nothing changed up to now.
    Alive,
    /// The watch is broken; a complete list follows when it works again.
    Broken(String),
}

/// One page of a list, items as they are.
#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: Option<String>,
}

/// Why a watch ended.
enum End {
    /// The server closed it in good order: go on from this version.
    Closed(String),
    /// The version is too old: list again.
    Expired,
    /// Somebody wants a complete list.
    Relist,
}

/// Watches until the future is dropped. `relist` asks for a complete list; `deliver` gets everything, in order.
pub async fn run(
    client: Client,
    scope: Scope,
    relist: &tokio::sync::Notify,
    mut deliver: impl FnMut(Delivery),
) {
    let mut failures = 0u32;
    let mut version: Option<String> = None;
    loop {
        let started = Instant::now();
        let end = match version.take() {
            None => match list(&client, &scope).await {
                Ok((items, listed)) => {
                    deliver(Delivery::Synced(Arc::new(items)));
                    Ok(End::Closed(listed))
                }
                Err(error) => Err(error),
            },
            Some(from) => watch(&client, &scope, from, relist, &mut deliver).await,
        };
        match end {
            Ok(End::Closed(at)) => (version, failures) = (Some(at), 0),
            Ok(End::Expired | End::Relist) => failures = 0,
            Err(error) if is_expired(&error) => failures += 1,
            Err(error) => {
                failures += 1;
                deliver(Delivery::Broken(error.to_string()));
            }
        }
        let pause = PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE);
        // A first watch follows its list at once; everything else keeps its distance.
        if version.is_none() || started.elapsed() < PAUSE && failures > 0 {
            tokio::time::sleep_until(started + pause).await;
        }
    }
}

async fn list(client: &Client, scope: &Scope) -> kube::Result<(Vec<Arc<Value>>, String)> {
    let request = request(scope);
    let mut params = ListParams::default().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let request = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = client.request(request).await?;
        items.extend(page.items.into_iter().map(|item| Arc::new(slim(item, &scope.resource))));
        match page.metadata.token.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok((items, page.metadata.resource_version)),
        }
    }
}

async fn watch(
    client: &Client,
    scope: &Scope,
    mut version: String,
    relist: &tokio::sync::Notify,
    deliver: &mut impl FnMut(Delivery),
) -> kube::Result<End> {
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    let request = request(scope).watch(&params, &version).map_err(kube::Error::BuildRequest)?;
    let started = Instant::now();
    let events = client.request_events::<Value>(request).await?;
    let mut events = std::pin::pin!(events);
    deliver(Delivery::Alive);
    loop {
        let event = tokio::select! {
            event = tokio::time::timeout(SILENCE, events.try_next()) => event,
            () = relist.notified() => return Ok(End::Relist),
        };
        let Ok(event) = event else { return Ok(End::Closed(version)) };
        match event? {
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                version = version_of(&object).unwrap_or(version);
                deliver(Delivery::Changed(Arc::new(slim(object, &scope.resource))));
            }
            Some(WatchEvent::Deleted(object)) => {
                version = version_of(&object).unwrap_or(version);
                deliver(Delivery::Deleted(Arc::new(slim(object, &scope.resource))));
            }
            Some(WatchEvent::Bookmark(bookmark)) => {
                version = bookmark.metadata.resource_version;
                deliver(Delivery::Alive);
            }
            Some(WatchEvent::Error(status)) if status.code == 410 => return Ok(End::Expired),
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status)),
            None => {
                // A server that closes at once would be asked again at once.
                tokio::time::sleep_until(started + PAUSE).await;
                return Ok(End::Closed(version));
            }
        }
    }
}

fn request(scope: &Scope) -> Request {
    Request::new(DynamicObject::url_path(&scope.resource, scope.namespace.as_deref()))
}

fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

fn version_of(object: &Value) -> Option<String> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
}

/// An object as a rule sees it: with its kind, which items of lists lack, and without the record of who set which
/// field, which is half of its size and read by nobody.
fn slim(mut object: Value, resource: &ApiResource) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.entry("apiVersion").or_insert_with(|| resource.api_version.clone().into());
        members.entry("kind").or_insert_with(|| resource.kind.clone().into());
        if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    object
}

/// Now, by the wall clock: the time that a delivery is good for.
pub fn now() -> Timestamp {
    Timestamp::now()
}
