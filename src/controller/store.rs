//! fother's own objects, as last seen: one watch per kind over the whole cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kube::api::ApiResource;
use kube::{Client, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::strange::{self, Strange};
use crate::source::watch::{self as source, Delivery, Scope};

/// Namespace and name.
pub type Key = (String, String);

/// What is kept beside the objects of a kind, so that some of them are found without looking at all.
pub trait Index<K>: Default + Send + Sync + 'static {
    /// Takes in what an object was and is now.
    fn change(&mut self, key: &Key, before: Option<&K>, after: Option<&K>);
}

/// None: they are found by their names.
impl<K> Index<K> for () {
    fn change(&mut self, _: &Key, _: Option<&K>, _: Option<&K>) {}
}

/// An object that is found by what it is about.
pub trait About {
    /// The names of what it is about, in its own namespace.
    fn about(&self) -> Vec<&String>;
}

/// Where objects are, by the namespace and name of what they are about.
#[derive(Default)]
pub struct BySubject(BTreeMap<Key, BTreeSet<Key>>);

impl<K: About> Index<K> for BySubject {
    fn change(&mut self, key: &Key, before: Option<&K>, after: Option<&K>) {
        let subject = |name: &String| (key.0.clone(), name.clone());
        for subject in before.map(About::about).unwrap_or_default().into_iter().map(subject) {
            if let Some(found) = self.0.get_mut(&subject) {
                found.remove(key);
                if found.is_empty() {
                    self.0.remove(&subject);
                }
            }
        }
        for subject in after.map(About::about).unwrap_or_default().into_iter().map(subject) {
            self.0.entry(subject).or_default().insert(key.clone());
        }
    }
}

/// Objects, and where some of them are.
pub struct Objects<K, I> {
    by_name: BTreeMap<Key, Arc<K>>,
    /// What is kept beside them.
    pub index: I,
}

impl<K, I: Index<K>> Objects<K, I> {
    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.by_name.get(key)
    }

    /// Takes one in, in place of what has its name.
    pub fn insert(&mut self, key: Key, object: Arc<K>) {
        self.index.change(&key, self.by_name.get(&key).map(AsRef::as_ref), Some(&object));
        self.by_name.insert(key, object);
    }

    /// Takes one out.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let known = self.by_name.remove(key)?;
        self.index.change(key, Some(&known), None);
        Some(known)
    }
}

/// The objects of one kind.
pub struct Store<K, I = ()> {
    objects: Arc<RwLock<Objects<K, I>>>,
    /// What of the objects this version does not understand.
    strange: Arc<RwLock<BTreeMap<Key, Strange>>>,
    /// The newest version that the watch has brought.
    newest: Arc<AtomicU64>,
    synced: watch::Sender<bool>,
}

impl<K, I> Clone for Store<K, I> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            strange: self.strange.clone(),
            newest: self.newest.clone(),
            synced: self.synced.clone(),
        }
    }
}

impl<K, I> Store<K, I>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
    I: Index<K>,
{
    /// An empty store.
    pub fn new() -> Self {
        let objects = Objects { by_name: BTreeMap::new(), index: I::default() };
        Self {
            objects: Arc::new(RwLock::new(objects)),
            strange: Arc::default(),
            newest: Arc::default(),
            synced: watch::Sender::new(false),
        }
    }

    /// Watches for ever; `changed` hears of every object that came, changed or went, with what was known of it, and
    /// `unreadable` of the name of each that cannot be read.
    pub async fn follow(
        self,
        client: Client,
        changed: impl Fn(Option<&K>, &K) + Send,
        unreadable: impl Fn(&str, &str) + Send,
    ) {
        let scope = Scope { resource: ApiResource::erase::<K>(&()), namespace: None, selector: None };
        let mut read = Vec::new();
        source::run(client, scope, &Notify::new(), |delivery| match delivery {
            Delivery::Page(page) => {
                if page.first {
                    read.clear();
                }
                read.extend(page.items.iter().map(|item| (key_in(item), self.read(item))));
            }
            Delivery::Synced(synced) => {
                let listed = synced.version.parse().unwrap_or_default();
                self.list(&std::mem::take(&mut read), listed, (&changed, &unreadable));
                self.synced.send_replace(true);
            }
            Delivery::Added(item) | Delivery::Changed(item) => {
                if let Some(object) = self.read(&item) {
                    let before = self.objects.read().get(&key_of(&*object)).cloned();
                    self.put(object.clone());
                    changed(before.as_deref(), &object);
                } else {
                    self.lose(&item, &changed);
                    let (namespace, name) = key_in(&item);
                    unreadable(&namespace, &name);
                }
            }
            Delivery::Left(item) | Delivery::Deleted(item) => {
                self.strange.write().remove(&key_in(&item));
                self.lose(&item, &changed);
            }
            Delivery::Alive | Delivery::Missed => {}
            Delivery::Broken(error) => tracing::warn!(kind = %K::kind(&()), error, "watch is broken"),
        })
        .await;
    }

    /// Waits until the first complete list.
    pub async fn synced(&self) {
        // The sender lives as long as the store.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Whether there was a complete list.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The first field of an object's spec that this version does not know: nothing may be done as if it were not there.
    pub fn unknown_field(&self, namespace: &str, name: &str) -> Option<String> {
        match self.strange.read().get(&(namespace.to_owned(), name.to_owned())) {
            Some(Strange::Field(field)) => Some(field.clone()),
            _ => None,
        }
    }

    /// An object that cannot be read, and why.
    pub fn unreadable(&self, namespace: &str, name: &str) -> Option<(Arc<Value>, String)> {
        match self.strange.read().get(&(namespace.to_owned(), name.to_owned())) {
            Some(Strange::Unreadable(object, error)) => Some((object.clone(), error.clone())),
            _ => None,
        }
    }

    /// Looks at the objects and what is kept beside them, in one moment.
    pub fn with<T>(&self, look: impl FnOnce(&Objects<K, I>) -> T) -> T {
        look(&self.objects.read())
    }

    /// Changes them as a test says.
    #[cfg(test)]
    pub fn with_mut<T>(&self, change: impl FnOnce(&mut Objects<K, I>) -> T) -> T {
        change(&mut self.objects.write())
    }

    /// All objects for which something holds.
    pub fn filter(&self, holds: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.objects.read().by_name.values().filter(|object| holds(object)).cloned().collect()
    }

    /// Whether something holds for any object.
    pub fn is_any(&self, holds: impl Fn(&K) -> bool) -> bool {
        self.objects.read().by_name.values().any(|object| holds(object))
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

    /// An object is gone, or cannot be read any more: what it was before does not count either.
    fn lose(&self, item: &Value, changed: &impl Fn(Option<&K>, &K)) {
        let version = item.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        if let Some(known) = self.remove(&key_in(item), version.parse().unwrap_or_default()) {
            changed(None, &known);
        }
    }

    /// Takes in that an object is gone; one that was created since under the same name stays.
    fn remove(&self, key: &Key, version: u64) -> Option<Arc<K>> {
        let mut objects = self.objects.write();
        self.newest.fetch_max(version, Ordering::Relaxed);
        if objects.get(key).is_some_and(|known| version_of(&**known) <= version) {
            return objects.remove(key);
        }
        None
    }

    fn read(&self, item: &Arc<Value>) -> Option<Arc<K>> {
        let (object, strange) = strange::read(item);
        let mut known = self.strange.write();
        match strange {
            Some(strange) => known.insert(key_in(item), strange),
            None => known.remove(&key_in(item)),
        };
        object.map(Arc::new)
    }

    /// Takes in what was read of a complete list that was taken at a version.
    fn list(
        &self,
        read: &[(Key, Option<Arc<K>>)],
        listed: u64,
        (changed, unreadable): (&impl Fn(Option<&K>, &K), &impl Fn(&str, &str)),
    ) {
        let names: BTreeSet<_> = read.iter().map(|(key, _)| key).collect();
        self.strange.write().retain(|key, _| names.contains(key));
        self.replace(read.iter().filter_map(|(_, object)| object.clone()), listed, changed);
        for ((namespace, name), _) in read.iter().filter(|(_, object)| object.is_none()) {
            unreadable(namespace, name);
        }
    }

    /// Takes in a complete list that was taken at a version. What is known to be newer, from writes of our own, stays.
    fn replace(&self, items: impl Iterator<Item = Arc<K>>, listed: u64, changed: &impl Fn(Option<&K>, &K)) {
        let mut fresh: BTreeMap<Key, Arc<K>> = items.map(|object| (key_of(&*object), object)).collect();
        let mut gone = Vec::new();
        {
            let mut objects = self.objects.write();
            self.newest.fetch_max(listed, Ordering::Relaxed);
            for (key, known) in objects.by_name.clone() {
                let newer =
                    fresh.get(&key).map_or(listed, |found| version_of(&**found)) < version_of(&*known);
                match newer {
                    true => drop(fresh.insert(key, known)),
                    false if !fresh.contains_key(&key) => gone.extend(objects.remove(&key)),
                    false => {}
                }
            }
            for (key, object) in &fresh {
                objects.insert(key.clone(), object.clone());
            }
        }
        gone.iter().chain(fresh.values()).for_each(|object| changed(None, object));
    }
}

impl<K> Store<K, BySubject>
where
    K: About + Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
{
    /// Those that are about something, by name.
    pub fn about(&self, namespace: &str, subject: &str) -> Vec<Arc<K>> {
        self.with(|objects| {
            let keys = objects.index.0.get(&(namespace.to_owned(), subject.to_owned()));
            keys.into_iter().flatten().filter_map(|key| objects.get(key)).cloned().collect()
        })
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

fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn key_in(item: &Value) -> Key {
    let text = |path| item.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

/// Versions of one kind are comparable numbers (Kubernetes 1.35 made this a promise).
fn version_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EventBatch, EventBatchSpec, Execution, ExecutionSpec};

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
        let store = Store::<Execution>::new();
        store.insert(execution("a", 5));
        store.put(execution("a", 4));
        assert_eq!(versions(&store), [5]);
        store.put(execution("a", 6));
        assert_eq!(versions(&store), [6]);
    }

    #[test]
    fn what_cannot_be_read_is_not_what_it_was() {
        let store = Store::<Execution>::new();
        let item = |name: &str, spec: Value| {
            let metadata = serde_json::json!({"name": name, "namespace": "n", "resourceVersion": "5"});
            Arc::new(serde_json::json!({"metadata": metadata, "spec": spec}))
        };
        let later = item("later", serde_json::json!({"serviceAccountName": "h", "pace": 1}));
        let known = item("other", serde_json::json!({"serviceAccountName": "h"}));
        let other = item("other", serde_json::json!({"serviceAccountName": {"name": "h"}}));
        let list = |items: &[&Arc<Value>]| -> Vec<_> {
            items.iter().map(|item| (key_in(item), store.read(item))).collect()
        };
        store.list(&list(&[&later, &known]), 5, (&|_, _| (), &|_, name| panic!("{name} can be read")));
        assert_eq!(store.unknown_field("n", "later").as_deref(), Some("spec.pace"));
        assert!(store.unreadable("n", "other").is_none() && store.get("n", "other").is_some());

        let (heard, unreadable) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
        let hear = |_: Option<&Execution>, object: &Execution| heard.borrow_mut().push(object.name_any());
        store.list(
            &list(&[&later, &other]),
            6,
            (&hear, &|_, name| unreadable.borrow_mut().push(name.to_owned())),
        );
        assert_eq!(
            (heard.into_inner(), unreadable.into_inner()),
            (vec!["other".into(), "later".into()], vec!["other".into()])
        );
        assert!(store.unreadable("n", "other").is_some() && store.get("n", "other").is_none());
        store.list(&[], 7, (&|_, _| (), &|_, _| ()));
        assert!(store.unreadable("n", "other").is_none() && store.unknown_field("n", "later").is_none());
    }

    #[test]
    fn a_list_takes_away_nothing_that_is_newer() {
        let store = Store::<Execution>::new();
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
        let store = Store::<Execution>::new();
        store.put(execution("a", 5));
        store.insert(execution("a", 8));
        store.remove(&key_of(&*execution("a", 5)), 7);
        assert_eq!(versions(&store), [8]);
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
        let store = Store::<Execution>::new();
        store.put(execution("a", 5));
        store.remove(&key_of(&*execution("a", 5)), 7);
        store.insert(execution("a", 6));
        assert_eq!(versions(&store), [] as [u64; 0]);
        store.insert(execution("a", 8));
        assert_eq!(versions(&store), [8], "created anew");
    }

    #[test]
    fn what_is_about_something_is_found_by_that_alone() {
        let store = Store::<EventBatch, BySubject>::new();
        let put = |namespace: &str, name: &str, webhook: &str| {
            let spec = EventBatchSpec { webhook: webhook.to_owned(), ..EventBatchSpec::default() };
            let mut batch = EventBatch::new(name, spec);
            batch.metadata.namespace = Some(namespace.to_owned());
            store.put(Arc::new(batch));
        };
        let about = |namespace: &str, webhook: &str| {
            store.about(namespace, webhook).iter().map(|batch| batch.name_any()).collect::<Vec<_>>()
        };
        for (namespace, name, webhook) in [("a", "1", "w"), ("a", "2", "w"), ("a", "3", "v"), ("b", "1", "w")]
        {
            put(namespace, name, webhook);
        }
        assert_eq!((about("a", "w"), about("a", "v")), (vec!["1".into(), "2".into()], vec!["3".into()]));
        put("a", "2", "v");
        store.remove(&("a".into(), "3".into()), 0);
        assert_eq!((about("a", "w"), about("a", "v")), (vec!["1".into()], vec!["2".into()]));
        for (namespace, name) in [("a", "1"), ("a", "2"), ("b", "1")] {
            store.remove(&(namespace.into(), name.into()), 0);
        }
        assert!(store.with(|objects| objects.index.0.is_empty()), "nothing is left of what is gone");
    }
}
