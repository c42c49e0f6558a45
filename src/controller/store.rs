//! fother's own objects, as last seen: one watch per kind over the whole cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kube::api::ApiResource;
use kube::{Client, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::source::watch::{self as source, Delivery, Scope};

type Objects<K> = BTreeMap<(String, String), Arc<K>>;

/// The objects of one kind.
pub struct Store<K> {
    objects: Arc<RwLock<Objects<K>>>,
    /// The newest version that the watch has brought.
    newest: Arc<AtomicU64>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), newest: self.newest.clone(), synced: self.synced.clone() }
    }
}

impl<K> Store<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
{
    /// An empty store.
    pub fn new() -> Self {
        Self { objects: Arc::default(), newest: Arc::default(), synced: watch::Sender::new(false) }
    }

    /// Watches for ever; `changed` hears of every object that came, changed or went, with what was known of it.
    pub async fn follow(self, client: Client, changed: impl Fn(Option<&K>, &K) + Send) {
        let scope = Scope { resource: ApiResource::erase::<K>(&()), namespace: None };
        source::run(client, scope, &Notify::new(), |delivery| match delivery {
            Delivery::Synced(listing) => {
                let listed = listing.version.parse().unwrap_or_default();
                self.replace(listing.items.iter().filter_map(|item| decode::<K>(item)), listed, &changed);
                self.synced.send_replace(true);
            }
            Delivery::Changed(item) => {
                if let Some(object) = decode::<K>(&item) {
                    let before = self.objects.read().get(&key_of(&*object)).cloned();
                    self.put(object.clone());
                    changed(before.as_deref(), &object);
                }
            }
            Delivery::Deleted(item) => {
                if let Some(object) = decode::<K>(&item) {
                    self.remove(&object);
                    changed(None, &object);
                }
            }
            Delivery::Alive => {}
            Delivery::Broken(error) => tracing::warn!(kind = %K::kind(&()), error, "watch is broken"),
        })
        .await;
    }

    /// Waits until the first complete list.
    pub async fn synced(&self) {
        // The sender lives as long as the store.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects for which something holds.
    pub fn filter(&self, holds: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.objects.read().values().filter(|object| holds(object)).cloned().collect()
    }

    /// Looks at all objects.
    pub fn each(&self, look: impl FnMut(&K)) {
        self.objects.read().values().map(AsRef::as_ref).for_each(look);
    }

    /// Whether something holds for any object.
    pub fn is_any(&self, holds: impl Fn(&K) -> bool) -> bool {
        self.objects.read().values().any(|object| holds(object))
    }

    /// Takes in what a write of our own gave, so that the next decision sees it before the watch brings it. What the
    /// watch has passed already and does not have was deleted meanwhile, and stays so.
    pub fn insert(&self, object: Arc<K>) {
        let mut objects = self.objects.write();
        let (known, version) =
            (objects.get(&key_of(&*object)).map(|known| version_of(&**known)), version_of(&*object));
        let passed = self.newest.load(Ordering::Relaxed);
        if known.map_or(passed < version, |known| known <= version) {
            objects.insert(key_of(&*object), object);
        }
    }

    /// Takes in what the watch brought.
    fn put(&self, object: Arc<K>) {
        let mut objects = self.objects.write();
        self.newest.fetch_max(version_of(&*object), Ordering::Relaxed);
        let known = objects.get(&key_of(&*object)).map(|known| version_of(&**known));
        if known.is_none_or(|known| known <= version_of(&*object)) {
            objects.insert(key_of(&*object), object);
        }
    }

    /// Takes in that an object is gone; one that was created since under the same name stays.
    fn remove(&self, object: &K) {
        let mut objects = self.objects.write();
        self.newest.fetch_max(version_of(object), Ordering::Relaxed);
        let key = key_of(object);
        if objects.get(&key).is_some_and(|known| version_of(&**known) <= version_of(object)) {
            objects.remove(&key);
        }
    }

    /// Takes in a complete list that was taken at a version. What is known to be newer, from writes of our own, stays.
    fn replace(&self, items: impl Iterator<Item = Arc<K>>, listed: u64, changed: &impl Fn(Option<&K>, &K)) {
        let mut fresh: Objects<K> = items.map(|object| (key_of(&*object), object)).collect();
        let mut gone = Vec::new();
        {
            let mut objects = self.objects.write();
            self.newest.fetch_max(listed, Ordering::Relaxed);
            for (key, known) in std::mem::take(&mut *objects) {
                let newer =
                    fresh.get(&key).map_or(listed, |found| version_of(&**found)) < version_of(&*known);
                match newer {
                    true => drop(fresh.insert(key, known)),
                    false if !fresh.contains_key(&key) => gone.push(known),
                    false => {}
                }
            }
            objects.clone_from(&fresh);
        }
        gone.iter().chain(fresh.values()).for_each(|object| changed(None, object));
    }
}

/// Whether only the status differs, which our own writes do: nothing to reconcile.
pub fn is_status_only<K: Resource>(before: Option<&K>, after: &K) -> bool {
    let of = |object: &K| {
        let meta = object.meta();
        (
            meta.uid.clone(),
            meta.generation,
            meta.annotations.clone(),
            meta.labels.clone(),
            meta.deletion_timestamp.clone(),
        )
    };
    before.is_some_and(|before| of(before) == of(after))
}

fn key_of<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Versions of one kind are comparable numbers (Kubernetes 1.35 made this a promise).
fn version_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// An object that does not decode blocks only itself.
fn decode<K: Resource<DynamicType = ()> + DeserializeOwned>(item: &Value) -> Option<Arc<K>> {
    match K::deserialize(item) {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            let name = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            tracing::error!(kind = %K::kind(&()), name, %error, "object cannot be read and is left alone");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Execution, ExecutionSpec};

    fn execution(name: &str, version: u64) -> Arc<Execution> {
        let mut execution = Execution::new(name, ExecutionSpec::default());
        execution.metadata.resource_version = Some(version.to_string());
        Arc::new(execution)
    }

    fn versions(store: &Store<Execution>) -> Vec<u64> {
        store.filter(|_| true).iter().map(|object| version_of(&**object)).collect()
    }

    #[test]
    fn the_newest_version_of_an_object_stays() {
        let store = Store::new();
        store.insert(execution("a", 5));
        store.put(execution("a", 4));
        assert_eq!(versions(&store), [5]);
        store.put(execution("a", 6));
        assert_eq!(versions(&store), [6]);
    }

    #[test]
    fn a_list_takes_away_nothing_that_is_newer() {
        let store = Store::new();
        for (name, version) in [("a", 5), ("b", 12), ("c", 13), ("d", 3)] {
            store.insert(execution(name, version));
        }
        let told = std::cell::RefCell::new(Vec::new());
        let changed = |_: Option<&Execution>, object: &Execution| told.borrow_mut().push(object.name_any());
        store.replace([execution("a", 6), execution("b", 9)].into_iter(), 10, &changed);
        assert_eq!(versions(&store), [6, 12, 13], "b and c were written by us after the list was taken");
        assert_eq!(*told.borrow(), ["d", "a", "b", "c"]);
        store.insert(execution("d", 7));
        assert_eq!(versions(&store), [6, 12, 13], "the list has passed it");
    }

    #[test]
    fn what_was_created_anew_outlives_the_news_of_its_end() {
        let store = Store::new();
        store.put(execution("a", 5));
        store.insert(execution("a", 8));
        store.remove(&execution("a", 7));
        assert_eq!(versions(&store), [8]);
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
        let store = Store::new();
        store.put(execution("a", 5));
        store.remove(&execution("a", 7));
        store.insert(execution("a", 6));
        assert_eq!(versions(&store), [] as [u64; 0]);
        store.insert(execution("a", 8));
        assert_eq!(versions(&store), [8], "created anew");
    }
}
