//! The store: every object, one counter of versions, and per kind a bounded log of changes from which
//! watches are served and older states are reconstructed. Knows keys and versions, no semantics.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

/// A stored object.
pub type Object = Arc<Value>;

/// Namespace (empty at cluster scope) and name.
pub type Name = (String, String);

/// Changes kept per kind: far more than a watch that is alive falls behind, at a few KiB each.
const LOG_CHANGES: usize = 4096;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its collection, such as `deployments.apps`.
    pub storage: String,
    /// Its namespace and name.
    pub name: Name,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version it made.
    pub version: u64,
    /// The object's key in its collection.
    pub name: Name,
    /// The object before, with the version it had.
    pub old: Option<Object>,
    /// The object after; nothing when it was deleted.
    pub new: Option<Object>,
}

struct Collection {
    objects: BTreeMap<Name, Object>,
    log: VecDeque<Change>,
    // Invariant: every change with a version above the floor is in the log.
    floor: u64,
    version: watch::Sender<u64>,
}

/// All objects.
#[derive(Default)]
pub struct Store {
    version: u64,
    collections: BTreeMap<String, Collection>,
    uids: BTreeMap<String, Key>,
    dependents: BTreeMap<String, BTreeSet<Key>>,
}

impl Store {
    /// The version of the newest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn collection(&mut self, storage: &str) -> &mut Collection {
        self.collections.entry(storage.to_owned()).or_insert_with(|| Collection {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            floor: 0,
            version: watch::Sender::new(0),
        })
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.collections.get(&key.storage)?.objects.get(&key.name)
    }

    /// Where the object with this UID is.
    pub fn find_uid(&self, uid: &str) -> Option<&Key> {
        self.uids.get(uid)
    }

    /// The objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Key> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The objects of a collection, in one namespace or all.
    pub fn list<'a>(
        &'a self,
        storage: &str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Name, &'a Object)> + use<'a> {
        let objects = self.collections.get(storage).map(|collection| &collection.objects);
        objects.into_iter().flatten().filter(move |(name, _)| namespace.is_none_or(|wanted| name.0 == wanted))
    }

    /// The keys of everything in a namespace.
    pub fn keys_in_namespace(&self, namespace: &str) -> Vec<Key> {
        let mut keys = Vec::new();
        for (storage, collection) in &self.collections {
            let names = collection.objects.keys().filter(|name| name.0 == namespace);
            keys.extend(names.map(|name| Key { storage: storage.clone(), name: name.clone() }));
        }
        keys
    }

    /// A collection as it was at a version, or nothing where the log no longer reaches.
    pub fn list_at(&self, storage: &str, version: u64) -> Option<BTreeMap<Name, Object>> {
        let Some(collection) = self.collections.get(storage) else { return Some(BTreeMap::new()) };
        if version < collection.floor {
            return None;
        }
        let mut objects = collection.objects.clone();
        for change in collection.log.iter().rev().take_while(|change| change.version > version) {
            match &change.old {
                None => objects.remove(&change.name),
                Some(old) => objects.insert(change.name.clone(), old.clone()),
            };
        }
        Some(objects)
    }

    /// Stores an object and returns it with its new version.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Object {
        self.version += 1;
        let version = self.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let object = Arc::new(object);
        let old = self.collection(&key.storage).objects.insert(key.name.clone(), object.clone());
        self.index(key, old.as_deref(), Some(&object));
        self.record(key, old, Some(object.clone()));
        object
    }

    /// Removes an object and returns its last state with the deletion's version.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let old = self.collection(&key.storage).objects.remove(&key.name)?;
        self.version += 1;
        self.index(key, Some(&old), None);
        let mut last = (*old).clone();
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.record(key, Some(old), None);
        Some(Arc::new(last))
    }

    fn record(&mut self, key: &Key, old: Option<Object>, new: Option<Object>) {
        let version = self.version;
        let collection = self.collection(&key.storage);
        collection.log.push_back(Change { version, name: key.name.clone(), old, new });
        if collection.log.len() > LOG_CHANGES
            && let Some(dropped) = collection.log.pop_front()
        {
            collection.floor = dropped.version;
        }
        collection.version.send_replace(version);
    }

    fn index(&mut self, key: &Key, old: Option<&Value>, new: Option<&Value>) {
        for owner in old.into_iter().flat_map(owner_uids) {
            if let Some(keys) = self.dependents.get_mut(&owner) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
        for owner in new.into_iter().flat_map(owner_uids) {
            self.dependents.entry(owner).or_default().insert(key.clone());
        }
        let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if let Some(old) = old {
            self.uids.remove(&uid(old));
        }
        if let Some(new) = new {
            self.uids.insert(uid(new), key.clone());
        }
    }

    /// Changes of a collection after a version, or nothing where the log no longer reaches.
    pub fn changes_after(&self, storage: &str, version: u64) -> Option<Vec<Change>> {
        let Some(collection) = self.collections.get(storage) else { return Some(Vec::new()) };
        if version < collection.floor {
            return None;
        }
        let start = collection.log.partition_point(|change| change.version <= version);
        Some(collection.log.range(start..).cloned().collect())
    }

    /// Tells of each new version of a collection.
    pub fn subscribe(&mut self, storage: &str) -> watch::Receiver<u64> {
        self.collection(storage).version.subscribe()
    }

    /// Forgets every change so far, as the real store's compaction does: older versions are gone.
    pub fn compact(&mut self) {
        let version = self.version;
        for collection in self.collections.values_mut() {
            collection.log.clear();
            collection.floor = version;
            collection.version.send_replace(version);
        }
    }
}

/// The UIDs of an object's owners.
pub fn owner_uids(object: &Value) -> Vec<String> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().filter_map(|owner| owner["uid"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        Key { storage: "things.".into(), name: ("ns".into(), name.into()) }
    }

    fn thing(value: u32) -> Value {
        json!({"metadata": {"uid": "u"}, "value": value})
    }

    #[test]
    fn older_states_are_reconstructed_until_compaction() {
        let mut store = Store::default();
        store.put(&key("a"), thing(1));
        store.put(&key("a"), thing(2));
        store.put(&key("b"), thing(3));
        store.remove(&key("a"));
        let at = |store: &Store, version| {
            store.list_at("things.", version).map(|objects| {
                objects.values().map(|object| object["value"].as_u64().unwrap()).collect::<Vec<_>>()
            })
        };
        assert_eq!(at(&store, 1), Some(vec![1]));
        assert_eq!(at(&store, 3), Some(vec![2, 3]));
        assert_eq!(at(&store, 4), Some(vec![3]));
        assert_eq!(store.changes_after("things.", 2).unwrap().len(), 2);
        store.compact();
        assert_eq!(at(&store, 3), None);
        assert!(store.changes_after("things.", 3).is_none());
        assert!(store.changes_after("things.", 4).unwrap().is_empty());
    }
}
