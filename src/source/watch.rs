//! One list-and-watch of one kind, for ever.
//!
//! *Guarantees*: the first delivery is a complete list, and so is the first after any gap, so a subscriber that compares
//! it with what it knows misses no deletion. Any 410, as HTTP status or inside the stream, leads to a new list. At least
//! [`PAUSE`] lies between two requests, whatever the server does. When nothing is heard for [`SILENCE`], it lists again.
//! A list says when it was asked for, and so how new it is at least; nothing else that a watch says proves that.

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
use tokio::time::{Instant, timeout_at};

/// Objects per page of a list: what bounds the memory of a large one.
const PAGE: u32 = 500;
/// The least time between two requests of one watch.
const PAUSE: Duration = Duration::from_millis(800);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Seconds after which the server is to end a watch. kube's limit is 295.
const WATCH_SECONDS: u32 = 290;
/// Without an event or bookmark for so long the connection is taken for dead, or the server for one that sends no
/// bookmarks, which else come every minute. That a watch could be opened is no sign: it may close before it says a word.
const SILENCE: Duration = Duration::from_secs(100);

/// What is watched: one kind, in one namespace or the whole cluster.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The kind.
    pub resource: ApiResource,
    /// The namespace; none for the whole cluster.
    pub namespace: Option<String>,
    /// The labels; none for whatever they are.
    pub selector: Option<String>,
}

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The complete list: what is not in it did not exist, or does not concern the subscriber.
    Synced(Arc<Listing>),
    /// An object was created or changed.
    Changed(Arc<Value>),
    /// An object is gone, or concerns the subscriber no more.
    Deleted(Arc<Value>),
    /// The server speaks, and has nothing to tell.
    Alive,
    /// The watch is broken; a complete list follows when it works again.
    Broken(String),
}

/// A complete list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// All objects.
    pub items: Vec<Arc<Value>>,
    /// When it was asked for: it shows the cluster as it was at this time or later.
    pub asked: Timestamp,
    /// The version at which it was taken.
    pub version: String,
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
    /// The version is too old, or nothing was heard for too long: list again.
    Expired,
    /// Somebody wants a complete list.
    Relist,
}

/// What is heard from the server, and when that was last.
struct Ear<F> {
    deliver: F,
    heard: Instant,
}

impl<F: FnMut(Delivery)> Ear<F> {
    fn hear(&mut self, delivery: Delivery) {
        self.heard = Instant::now();
        (self.deliver)(delivery);
    }
}

/// Watches until the future is dropped. `relist` asks for a complete list, newer than the request for it; `deliver` gets
/// everything, in order.
pub async fn run(client: Client, scope: Scope, relist: &tokio::sync::Notify, deliver: impl FnMut(Delivery)) {
    let mut ear = Ear { deliver, heard: Instant::now() };
    let mut failures = 0u32;
    let mut version: Option<String> = None;
    loop {
        let started = Instant::now();
        let end = match version.take() {
            None => list(&client, &scope).await.map(|listing| {
                let listed = listing.version.clone();
                ear.hear(Delivery::Synced(Arc::new(listing)));
                End::Closed(listed)
            }),
            Some(from) => watch(&client, &scope, from, relist, &mut ear).await,
        };
        match end {
            Ok(End::Closed(at)) => (version, failures) = (Some(at), 0),
            Ok(End::Expired | End::Relist) => failures = 0,
            Err(error) if is_expired(&error) => failures += 1,
            Err(error) => {
                failures += 1;
                (ear.deliver)(Delivery::Broken(said(&error)));
            }
        }
        let pause = PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE);
        // A first watch follows its list at once; everything else keeps its distance.
        if version.is_none() || started.elapsed() < PAUSE && failures > 0 {
            tokio::time::sleep_until(started + pause).await;
        }
    }
}

async fn list(client: &Client, scope: &Scope) -> kube::Result<Listing> {
    let (request, asked) = (request(scope), now());
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector.clone_from(&scope.selector);
    let mut items = Vec::new();
    loop {
        let request = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = client.request(request).await?;
        items.extend(page.items.into_iter().map(|item| Arc::new(slim(item, &scope.resource))));
        match page.metadata.token.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(Listing { items, asked, version: page.metadata.resource_version }),
        }
    }
}

async fn watch(
    client: &Client,
    scope: &Scope,
    mut version: String,
    relist: &tokio::sync::Notify,
    ear: &mut Ear<impl FnMut(Delivery)>,
) -> kube::Result<End> {
    let mut params = WatchParams::default().timeout(WATCH_SECONDS);
    params.label_selector.clone_from(&scope.selector);
    let request = request(scope).watch(&params, &version).map_err(kube::Error::BuildRequest)?;
    let started = Instant::now();
    let opened = timeout_at(ear.heard + SILENCE, client.request_events::<Value>(request)).await;
    let Ok(events) = opened else { return Ok(End::Expired) };
    let mut events = std::pin::pin!(events?);
    loop {
        let event = tokio::select! {
            event = timeout_at(ear.heard + SILENCE, events.try_next()) => event,
            () = relist.notified() => return Ok(End::Relist),
        };
        let Ok(event) = event else { return Ok(End::Expired) };
        match event? {
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                version = version_of(&object).unwrap_or(version);
                ear.hear(Delivery::Changed(Arc::new(slim(object, &scope.resource))));
            }
            Some(WatchEvent::Deleted(object)) => {
                version = version_of(&object).unwrap_or(version);
                ear.hear(Delivery::Deleted(Arc::new(slim(object, &scope.resource))));
            }
            Some(WatchEvent::Bookmark(bookmark)) => {
                version = bookmark.metadata.resource_version;
                ear.hear(Delivery::Alive);
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

/// The API server's own words, without the client's framing.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
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

/// Now, by the wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;
    use tokio::sync::{Notify, mpsc};

    /// A server that lists nothing, and ends every watch before it says a word.
    fn mute(asked: Arc<Mutex<Vec<String>>>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            asked.lock().push(if is_watch { "watch".to_owned() } else { "list".to_owned() });
            let list = json!({"metadata": {"resourceVersion": "7"}, "items": []}).to_string();
            let body = if is_watch { Vec::new() } else { list.into_bytes() };
            std::future::ready(Ok::<_, kube::Error>(Response::new(Body::from(body))))
        });
        Client::new(service, "a")
    }

    fn scope() -> Scope {
        let types = kube::core::GroupVersionKind::gvk("", "v1", "Pod");
        Scope { resource: ApiResource::from_gvk(&types), namespace: Some("a".into()), selector: None }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_refuses_is_told_in_its_words() {
        let service = tower::service_fn(|_: Request<Body>| {
            let refusal = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": "pods is forbidden: User \"x\" cannot list resource \"pods\""});
            let answer = Response::builder().status(403).body(Body::from(refusal.to_string().into_bytes()));
            std::future::ready(Ok::<_, kube::Error>(answer.expect("a response")))
        });
        let (sender, mut heard) = mpsc::unbounded_channel();
        let client = Client::new(service, "a");
        let running = tokio::spawn(async move {
            run(client, scope(), &Notify::new(), |delivery| drop(sender.send(delivery))).await;
        });
        let Some(Delivery::Broken(said)) = heard.recv().await else { panic!("it is broken") };
        running.abort();
        assert_eq!(said, "pods is forbidden: User \"x\" cannot list resource \"pods\"");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_opens_and_says_nothing_is_no_sign_of_life() {
        let (asked, started) = (Arc::default(), Instant::now());
        let (sender, mut heard) = mpsc::unbounded_channel();
        let client = mute(Arc::clone(&asked));
        let running = tokio::spawn(async move {
            run(client, scope(), &Notify::new(), |delivery| drop(sender.send(delivery))).await;
        });
        for _ in 0..2 {
            let delivery = heard.recv().await;
            assert!(matches!(&delivery, Some(Delivery::Synced(_))), "{delivery:?}");
        }
        running.abort();
        let waited = started.elapsed();
        assert!(waited >= SILENCE && waited < SILENCE + 2 * PAUSE, "{waited:?}");
        let lists = asked.lock().iter().filter(|kind| *kind == "list").count();
        assert!(lists == 2 && asked.lock().len() > 100, "it watched in between");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_as_old_as_the_request_for_it() {
        let (release, gate) = tokio::sync::oneshot::channel::<Timestamp>();
        let gate = Mutex::new(Some(gate));
        let service = tower::service_fn(move |_: Request<Body>| {
            let gate = gate.lock().take();
            async move {
                let answered = gate.expect("one request").await.expect("released");
                let items = [json!({"metadata": {"name": answered.to_string()}})];
                let list = json!({"metadata": {"resourceVersion": "7"}, "items": items}).to_string();
                Ok::<_, kube::Error>(Response::new(Body::from(list.into_bytes())))
            }
        });
        let (client, scope) = (Client::new(service, "a"), scope());
        let listing = list(&client, &scope);
        let release = async {
            tokio::task::yield_now().await;
            release.send(now()).expect("somebody waits");
        };
        let (listing, ()) = tokio::join!(listing, release);
        let listing = listing.expect("lists");
        let answered = listing.items[0]["metadata"]["name"].as_str().expect("a name").parse::<Timestamp>();
        assert!(listing.asked <= answered.expect("a time"));
        assert_eq!(listing.version, "7");
    }
}
