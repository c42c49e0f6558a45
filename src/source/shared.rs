//! Many subscribers of one watch: one per account, kind and scope, however many rules there are.
//!
//! A new subscriber gets a complete list, as does everybody else of that watch, each of what concerns it
//! ([`super::dispatch`]); the watch ends with its last subscriber.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::dispatch::{Interests, Subscribers};
use super::watch::{self, Delivery, Scope};

/// Deliveries that a subscriber may be behind before the watch waits for nobody: it is dropped and starts again with a
/// complete list. A minute of events of a busy cluster.
const BACKLOG: usize = 4096;

/// What one watch is known by.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WatchKey {
    /// Who watches: the user that is impersonated.
    pub user: String,
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; none for the whole cluster.
    pub namespace: Option<String>,
}

/// All watches.
pub struct Watches<I> {
    inner: Arc<Mutex<BTreeMap<WatchKey, Shared<I>>>>,
}

impl<I> Clone for Watches<I> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<I> Default for Watches<I> {
    fn default() -> Self {
        Self { inner: Arc::default() }
    }
}

struct Shared<I> {
    subscribers: Arc<Mutex<Subscribers<I>>>,
    relist: Arc<Notify>,
    task: AbortHandle,
}

/// One subscriber's end of a watch. Dropping it unsubscribes.
pub struct Subscription<I: Interests> {
    watches: Watches<I>,
    key: WatchKey,
    id: u64,
    receiver: mpsc::Receiver<Delivery>,
}

impl<I: Interests> Watches<I> {
    /// Subscribes to what is of interest in a watch, starting it if it is the first.
    pub fn subscribe(
        &self,
        key: WatchKey,
        client: Client,
        scope: Scope,
        interest: I::Interest,
    ) -> Subscription<I> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut watches = self.inner.lock();
        let shared = watches.entry(key.clone()).or_insert_with(|| Shared::start(client, scope));
        let id = shared.subscribers.lock().add(sender, interest);
        shared.relist.notify_one();
        Subscription { watches: self.clone(), key, id, receiver }
    }

    /// How many subscribers there are whom every object of their watch concerns.
    pub fn always(&self) -> usize {
        self.inner.lock().values().map(|shared| shared.subscribers.lock().always()).sum()
    }

    fn unsubscribe(&self, key: &WatchKey, id: u64) {
        let mut watches = self.inner.lock();
        let Some(shared) = watches.get(key) else { return };
        let mut subscribers = shared.subscribers.lock();
        subscribers.remove(id);
        if subscribers.is_empty() {
            shared.task.abort();
            drop(subscribers);
            watches.remove(key);
        }
    }
}

impl<I: Interests> Shared<I> {
    fn start(client: Client, scope: Scope) -> Self {
        let (subscribers, relist) = (Arc::new(Mutex::new(Subscribers::default())), Arc::new(Notify::new()));
        let (to, wanted) = (subscribers.clone(), relist.clone());
        let task = tokio::spawn(async move {
            watch::run(client, scope, &wanted, |delivery| to.lock().send(delivery)).await;
        });
        Self { subscribers, relist, task: task.abort_handle() }
    }
}

impl<I: Interests> Subscription<I> {
    /// Asks for a complete list, for all subscribers of the watch.
    pub fn relist(&self) {
        if let Some(shared) = self.watches.inner.lock().get(&self.key) {
            shared.relist.notify_one();
        }
    }

    /// The next delivery; none if this subscriber fell too far behind and has to subscribe anew.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }
}

impl<I: Interests> Drop for Subscription<I> {
    fn drop(&mut self) {
        self.watches.unsubscribe(&self.key, self.id);
    }
}
