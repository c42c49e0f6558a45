//! fother's own objects, as last seen: one watch per kind over the whole cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    synced: watch::Sender<bool>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), synced: self.synced.clone() }
    }
}

impl<K> Store<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
{
    /// An empty store.
    pub fn new() -> Self {
        Self { objects: Arc::default(), synced: watch::Sender::new(false) }
    }

    /// Watches for ever; `changed` hears of every object that came, changed or went, with what was known of it.
    pub async fn follow(self, client: Client, changed: impl Fn(Option<&K>, &K) + Send) {
        let scope = Scope { resource: ApiResource::erase::<K>(&()), namespace: None };
        source::run(client, scope, &Notify::new(), |delivery| match delivery {
            Delivery::Synced(items) => {
                self.replace(items.iter().filter_map(|item| decode::<K>(item)), &changed);
                self.synced.send_replace(true);
            }
            Delivery::Changed(item) => {
                if let Some(object) = decode::<K>(&item) {
                    let before = self.objects.read().get(&key_of(&*object)).cloned();
                    self.insert(object.clone());
                    changed(before.as_deref(), &object);
                }
            }
            Delivery::Deleted(item) => {
                if let Some(object) = decode::<K>(&item) {
                    self.objects.write().remove(&key_of(&*object));
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

    /// Takes in what a write of our own gave, so that the next decision sees it before the watch brings it.
    pub fn insert(&self, object: Arc<K>) {
        let mut objects = self.objects.write();
        let known = objects.get(&key_of(&*object)).map(|known| version_of(&**known));
        if known.is_none_or(|known| known <= version_of(&*object)) {
            objects.insert(key_of(&*object), object);
        }
    }

    fn replace(&self, items: impl Iterator<Item = Arc<K>>, changed: &impl Fn(Option<&K>, &K)) {
        let fresh: Objects<K> = items.map(|object| (key_of(&*object), object)).collect();
        let before = std::mem::replace(&mut *self.objects.write(), fresh.clone());
        let gone = before.into_iter().filter(|(key, _)| !fresh.contains_key(key)).map(|(_, object)| object);
        gone.chain(fresh.values().cloned()).for_each(|object| changed(None, &object));
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
fn version_of<K: Resource>(object: &K) -> u128 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u128::MAX)
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
