//! What objects were, for rules about changes: a change is known as such only if what was before has been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::seen::key_of;
use crate::decide::matching::CompiledRule;
use crate::decide::view::ObjectKey;

/// Objects of which is kept what they were, at the most.
const KNOWN: usize = 10_000;
/// Changes that wait for their targets, at the most.
const UNLED: usize = 100;

/// An object, and what is kept of what it was.
pub type Change = (Arc<Value>, Arc<Value>);

/// What was seen last of each object, as far as the rule reads it.
#[derive(Default)]
pub struct Before {
    known: BTreeMap<ObjectKey, Arc<Value>>,
    /// Changes that match and whose targets could not be found yet.
    unled: Vec<Change>,
}

impl Before {
    /// What an object was before it was seen like this, if that is known and another version.
    ///
    /// Of more objects than can be kept the first are known; the others never change.
    pub fn change(&mut self, rule: &CompiledRule, object: &Arc<Value>) -> Option<Change> {
        let key = key_of(object);
        if self.known.len() >= KNOWN && !self.known.contains_key(&key) {
            return None;
        }
        let old = self.known.insert(key, Arc::new(rule.before(object)))?;
        let is = |pointer: &str| old.pointer(pointer) == object.pointer(pointer);
        (is("/metadata/uid") && !is("/metadata/resourceVersion")).then(|| (object.clone(), old))
    }

    /// Keeps a change whose target could not be found; the oldest goes if there are too many.
    pub fn keep(&mut self, change: Change) {
        if self.unled.len() >= UNLED {
            self.unled.remove(0);
        }
        self.unled.push(change);
    }

    /// Whether there are such.
    pub fn has_unled(&self) -> bool {
        !self.unled.is_empty()
    }

    /// Gives those back, to try again.
    pub fn take_unled(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.unled)
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.known.remove(key);
    }

    /// Forgets the objects that a complete list does not have.
    pub fn retain(&mut self, listed: &BTreeSet<ObjectKey>) {
        self.known.retain(|key, _| listed.contains(key));
    }

    /// Forgets what was: nothing is known of what happens until the next list.
    pub fn clear(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn object(uid: &str, version: &str) -> Arc<Value> {
        Arc::new(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "a", "name": "p", "uid": uid, "resourceVersion": version}}))
    }

    #[test]
    fn a_change_is_another_version_of_an_object_that_was_seen() {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": "oldObject.x == object.x",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}});
        let rule = CompiledRule::of(&serde_json::from_value(spec).unwrap(), "a", "r", Timestamp::UNIX_EPOCH);
        let rule = rule.unwrap_or_else(|problems| panic!("{problems:?}"));
        let mut before = Before::default();
        let mut versions = |uid: &str, version: &str| {
            let change = before.change(&rule, &object(uid, version));
            change.map(|(_, old)| old["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
        };
        assert_eq!(versions("1", "7"), None, "seen for the first time");
        assert_eq!(versions("1", "7"), None, "the same, in a list");
        assert_eq!(versions("1", "9").as_deref(), Some("7"));
        assert_eq!(versions("2", "11"), None, "another object of this name");
        before.retain(&BTreeSet::new());
        assert!(before.change(&rule, &object("2", "12")).is_none(), "a list did not have it");
        before.clear();
        assert!(before.change(&rule, &object("2", "13")).is_none(), "the watch was interrupted");
    }
}
