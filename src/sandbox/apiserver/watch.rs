//! Watches: the changes of a collection from a version on, as a stream of events that ends with its
//! timeout, or with an error when the version is no longer kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::error::{ApiError, ApiResult};
use super::list::Selection;
use super::query::ListOptions;
use super::registry::Resource;
use super::state::{State, present};
use super::store::{Change, Object};

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR`.
    pub kind: &'static str,
    /// The object, or a Status.
    pub object: Object,
}

/// How often a bookmark is sent; the real server does so about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch is sent its last one.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long a watch without a timeout lives; the real server ends it after 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

struct Watcher {
    state: Arc<Mutex<State>>,
    resource: Arc<Resource>,
    selection: Selection,
    pending: VecDeque<WatchEvent>,
    cursor: u64,
    news: Receiver<u64>,
    bookmarks: bool,
    next_bookmark: Option<Instant>,
    deadline: Instant,
    ended: bool,
}

/// Begins a watch.
pub fn watch(
    state: &Arc<Mutex<State>>,
    resource: &Arc<Resource>,
    selection: Selection,
    options: &ListOptions,
) -> ApiResult<impl Stream<Item = WatchEvent> + Send + use<>> {
    let mut guard = state.lock();
    let news = guard.store.subscribe(&resource.storage);
    let current = guard.store.version();
    let asked = options.resource_version.unwrap_or(0);
    let mut pending = VecDeque::new();
    let initial = match options.send_initial_events {
        Some(wanted) => wanted,
        None => asked == 0,
    };
    if options.send_initial_events == Some(true) && asked > current {
        return Err(ApiError::too_large_resource_version(asked, current));
    }
    if initial {
        let page = guard.list(resource, &selection, &ListOptions::default())?;
        pending.extend(page.items.into_iter().map(|object| WatchEvent { kind: "ADDED", object }));
        if options.send_initial_events == Some(true) && options.bookmarks {
            pending.push_back(bookmark(resource, current, true));
        }
    }
    drop(guard);
    let now = Instant::now();
    let timeout = options.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let watcher = Watcher {
        state: state.clone(),
        resource: resource.clone(),
        selection,
        pending,
        cursor: if initial || asked == 0 { current } else { asked },
        news,
        bookmarks: options.bookmarks,
        next_bookmark: next_bookmark(now, now + timeout),
        deadline: now + timeout,
        ended: false,
    };
    Ok(stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((event, watcher))
    }))
}

/// Regularly, and once before the end if that is not too near.
fn next_bookmark(now: Instant, deadline: Instant) -> Option<Instant> {
    let last = deadline.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now)?;
    Some(last.min(now + BOOKMARK_EVERY))
}

fn bookmark(resource: &Resource, version: u64, ends_initial: bool) -> WatchEvent {
    let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    if ends_initial {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
    WatchEvent { kind: "BOOKMARK", object: Arc::new(object) }
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            // Marked as seen before reading, so that a change in between wakes the wait below.
            self.news.borrow_and_update();
            self.read();
            if self.pending.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        let bookmark_at = self.next_bookmark.filter(|_| self.bookmarks);
        let until = bookmark_at.map_or(self.deadline, |at| at.min(self.deadline));
        tokio::select! {
            changed = self.news.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep_until(until) => {
                self.read();
                let now = Instant::now();
                if bookmark_at.is_some_and(|at| now >= at) {
                    self.next_bookmark = next_bookmark(now, self.deadline);
                    self.pending.push_back(bookmark(&self.resource, self.cursor, false));
                }
                self.ended = now >= self.deadline;
            }
        }
    }

    /// Takes over what happened since the cursor.
    fn read(&mut self) {
        let state = self.state.lock();
        let Some(changes) = state.store.changes_after(&self.resource.storage, self.cursor) else {
            let message = format!("too old resource version: {} ({})", self.cursor, state.store.version());
            let status = ApiError::expired(message).status();
            self.pending.push_back(WatchEvent { kind: "ERROR", object: Arc::new(status) });
            self.ended = true;
            return;
        };
        // Every change of this kind up to the store's version has been read, so a bookmark may name it.
        self.cursor = self.cursor.max(state.store.version());
        drop(state);
        let events = changes.iter().filter_map(|change| self.event(change));
        let events: Vec<WatchEvent> = events.collect();
        self.pending.extend(events);
    }

    /// What a change means to this watch: an object that leaves the selection is deleted to it.
    fn event(&self, change: &Change) -> Option<WatchEvent> {
        let select = |object: &Option<Object>| {
            let shown = present(&self.resource, object.as_ref()?);
            self.selection.matches(&change.name, &shown).then_some(shown)
        };
        match (select(&change.old), select(&change.new)) {
            (None, None) => None,
            (None, Some(object)) => Some(WatchEvent { kind: "ADDED", object }),
            (Some(_), Some(object)) => Some(WatchEvent { kind: "MODIFIED", object }),
            (Some(old), None) => {
                let mut last: Value = (*old).clone();
                last["metadata"]["resourceVersion"] = change.version.to_string().into();
                Some(WatchEvent { kind: "DELETED", object: Arc::new(last) })
            }
        }
    }
}
