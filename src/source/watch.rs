//! One list-and-watch of one kind, for ever.
//!
//! *Guarantees*: the first that is delivered is a complete list, and so is the first after any gap, so a subscriber that
//! compares it with what it knows misses no deletion. A list comes page by page, and the next page is asked for when all
//! have dropped the one before: as much as a page is in memory, however long the list. Any 410, as HTTP status or inside the stream, leads to a new list. At least
//! [`PAUSE`] lies between two requests, whatever the server does. When nothing is heard for [`SILENCE`], it lists again.
//! A list says when it was asked for, and so how new it is at least; nothing else that a watch says proves that.

use std::convert::Infallible;
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
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::slim::Slim;

/// Objects per page of a list: what bounds the memory of a large one.
const PAGE: u32 = 100;
/// How long a list waits in all for those who take in its pages: one that hangs must not stop the others, nor may the
/// list outlive its version, which the API server keeps for five minutes. Beyond that it costs memory.
const PATIENCE: Duration = Duration::from_secs(60);
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
    /// A part of a complete list. The first page begins it, anew if there was one under way.
    Page(Arc<Page>),
    /// The list is complete: what was on none of its pages did not exist, or does not concern the subscriber.
    Synced(Synced),
    /// An object was created; where labels are asked for, it may only have got them.
    Added(Arc<Value>),
    /// An object was changed.
    Changed(Arc<Value>),
    /// An object concerns the subscriber no more, as it has changed: it is not gone.
    Left(Arc<Value>),
    /// An object is gone; where labels are asked for, it may only have lost them.
    Deleted(Arc<Value>),
    /// The server speaks, and has nothing to tell.
    Alive,
    /// What has happened lately may not have been told, and will not be: a complete list follows.
    Missed,
    /// The watch is broken; a complete list follows when it works again.
    Broken(String),
}

/// A page of a list. The next one comes when all have dropped it, and what was made of it.
#[derive(Debug)]
pub struct Page {
    /// Whether a list begins with it.
    pub first: bool,
    /// The objects on it.
    pub items: Vec<Arc<Value>>,
    held: mpsc::Sender<Infallible>,
}

/// What is known of a list that is complete.
#[derive(Clone, Debug)]
pub struct Synced {
    /// When it was asked for: it shows the cluster as it was at this time or later.
    pub asked: Timestamp,
    /// The version at which it was taken.
    pub version: String,
}

impl Page {
    /// A page, and what hears when it and all its parts are dropped.
    pub fn new(first: bool, items: Vec<Arc<Value>>) -> (Self, mpsc::Receiver<Infallible>) {
        let (held, dropped) = mpsc::channel(1);
        (Self { first, items, held }, dropped)
    }

    /// Some of its objects.
    #[must_use]
    pub fn part(&self, items: Vec<Arc<Value>>) -> Self {
        Self { first: self.first, items, held: self.held.clone() }
    }
}

/// One page as the server gives it, items as they are.
#[derive(Deserialize)]
struct Given {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Slim>,
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
        let from = version.take();
        let was_watching = from.is_some();
        let end = match from {
            None => list(&client, &scope, &mut ear).await.map(End::Closed),
            Some(from) => watch(&client, &scope, from, relist, &mut ear).await,
        };
        match end {
            Ok(End::Closed(at)) => (version, failures) = (Some(at), 0),
            Ok(End::Relist) => failures = 0,
            Ok(End::Expired) => {
                failures = 0;
                (ear.deliver)(Delivery::Missed);
            }
            Err(error) if is_expired(&error) => {
                failures += 1;
                // Where it is a list that is forgotten before its last page, that begins anew, and nothing was watched.
                if was_watching {
                    (ear.deliver)(Delivery::Missed);
                }
            }
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

/// Delivers a complete list; gives the version at which it was taken.
async fn list(client: &Client, scope: &Scope, ear: &mut Ear<impl FnMut(Delivery)>) -> kube::Result<String> {
    let (request, asked) = (request(scope), now());
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector.clone_from(&scope.selector);
    let mut patience = PATIENCE;
    loop {
        let request = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let given: Given = client.request(request).await?;
        let items = given.items.into_iter().map(|item| Arc::new(item.of(&scope.resource))).collect();
        let (page, mut dropped) = Page::new(params.continue_token.is_none(), items);
        ear.hear(Delivery::Page(Arc::new(page)));
        let Some(token) = given.metadata.token.filter(|token| !token.is_empty()) else {
            let version = given.metadata.resource_version;
            ear.hear(Delivery::Synced(Synced { asked, version: version.clone() }));
            return Ok(version);
        };
        params.continue_token = Some(token);
        let waits = Instant::now();
        // Nothing is ever sent: it is over when nobody could.
        let _ = timeout(patience, dropped.recv()).await;
        patience = patience.saturating_sub(waits.elapsed());
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
    let opened = timeout_at(ear.heard + SILENCE, client.request_events::<Slim>(request)).await;
    let Ok(events) = opened else { return Ok(End::Expired) };
    let mut events = std::pin::pin!(events?);
    loop {
        let event = tokio::select! {
            event = timeout_at(ear.heard + SILENCE, events.try_next()) => event,
            () = relist.notified() => return Ok(End::Relist),
        };
        let Ok(event) = event else { return Ok(End::Expired) };
        match event? {
            Some(WatchEvent::Added(object)) => {
                version = version_of(&object.0).unwrap_or(version);
                ear.hear(Delivery::Added(Arc::new(object.of(&scope.resource))));
            }
            Some(WatchEvent::Modified(object)) => {
                version = version_of(&object.0).unwrap_or(version);
                ear.hear(Delivery::Changed(Arc::new(object.of(&scope.resource))));
            }
            Some(WatchEvent::Deleted(object)) => {
                version = version_of(&object.0).unwrap_or(version);
                ear.hear(Delivery::Deleted(Arc::new(object.of(&scope.resource))));
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

/// Now, by the wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
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

    /// Watches at a server whose lists have three pages of one object each. It forgets, so many times, where a list goes on
    /// before its last page, and counts what it is asked for.
    fn three_pages(forgets: u32) -> (mpsc::UnboundedReceiver<Delivery>, Arc<Mutex<u32>>) {
        let (asked, forgets) = (Arc::new(Mutex::new(0)), Mutex::new(forgets));
        let counter = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            *counter.lock() += 1;
            let page = match request.uri().query().unwrap_or_default() {
                query if query.contains("watch=true") => return std::future::pending().right_future(),
                query if query.contains("continue=after-2") => 3,
                query => 1 + u32::from(query.contains("continue=after-1")),
            };
            let mut left = forgets.lock();
            let forgotten = page == 3 && *left > 0;
            *left -= u32::from(forgotten);
            let token = if page < 3 { format!("after-{page}") } else { String::new() };
            let answer = if forgotten {
                json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "old"})
            } else {
                json!({"metadata": {"resourceVersion": "7", "continue": token},
                    "items": [{"metadata": {"name": page.to_string()}}]})
            };
            let answer = Response::builder()
                .status(if forgotten { 410 } else { 200 })
                .body(Body::from(answer.to_string().into_bytes()))
                .expect("a response");
            std::future::ready(Ok::<_, kube::Error>(answer)).left_future()
        });
        let (sender, heard) = mpsc::unbounded_channel();
        let client = Client::new(service, "a");
        tokio::spawn(async move {
            run(client, scope(), &Notify::new(), |delivery| drop(sender.send(delivery))).await;
        });
        (heard, asked)
    }

    fn shown(delivery: Option<&Delivery>) -> String {
        match delivery {
            Some(Delivery::Page(page)) => {
                let begins = if page.first { "first " } else { "" };
                format!("{begins}{}", page.items[0]["metadata"]["name"].as_str().expect("a name"))
            }
            Some(Delivery::Synced(synced)) => format!("all at {}", synced.version),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_page_is_asked_for_when_the_last_is_dropped() {
        let (mut heard, asked) = three_pages(0);
        let first = heard.recv().await;
        assert_eq!(shown(first.as_ref()), "first 1");
        assert!(timeout(PATIENCE / 3, heard.recv()).await.is_err() && *asked.lock() == 1, "it waits");
        drop(first);
        let held = heard.recv().await;
        assert_eq!((shown(held.as_ref()), *asked.lock()), ("2".to_owned(), 2));
        let hangs = Instant::now();
        for expected in ["3", "all at 7"] {
            assert_eq!(shown(heard.recv().await.as_ref()), expected, "nobody can hold it up for ever");
        }
        let left = PATIENCE * 2 / 3;
        assert!(hangs.elapsed().abs_diff(left) < Duration::from_secs(1), "{:?}", hangs.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_forgotten_begins_anew() {
        let (mut heard, _) = three_pages(2);
        for expected in ["first 1", "2", "first 1", "2", "first 1", "2", "3", "all at 7"] {
            assert_eq!(shown(heard.recv().await.as_ref()), expected);
        }
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
        for round in 0..2 {
            if round > 0 {
                let said = heard.recv().await;
                assert!(
                    matches!(said, Some(Delivery::Missed)),
                    "whoever waits for changes is told: {said:?}"
                );
            }
            let deliveries = (heard.recv().await, heard.recv().await);
            let is_list = matches!(&deliveries, (Some(Delivery::Page(_)), Some(Delivery::Synced(_))));
            assert!(is_list, "{deliveries:?}");
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
        let (client, scope, mut heard) = (Client::new(service, "a"), scope(), Vec::new());
        let mut ear = Ear { deliver: |delivery| heard.push(delivery), heard: Instant::now() };
        let listing = list(&client, &scope, &mut ear);
        let release = async {
            tokio::task::yield_now().await;
            release.send(now()).expect("somebody waits");
        };
        let (listed, ()) = tokio::join!(listing, release);
        assert_eq!(listed.expect("lists"), "7");
        let [Delivery::Page(page), Delivery::Synced(synced)] = &heard[..] else { panic!("{heard:?}") };
        let answered = page.items[0]["metadata"]["name"].as_str().expect("a name").parse::<Timestamp>();
        assert!(synced.asked <= answered.expect("a time"));
        assert_eq!(synced.version, "7");
    }
}
