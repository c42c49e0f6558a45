//! What objects were, for rules about changes: a change is known as such only if what was before has been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::seen::key_of;
use crate::decide::matching::CompiledRule;
use crate::decide::view::ObjectKey;

/// Objects of which is kept what they were, at the most.
pub const KNOWN: usize = 10_000;
/// An object, and what is kept of what it was.
pub type Change = (Arc<Value>, Arc<Value>);

/// What was seen last of each object, as far as the rule reads it.
#[derive(Default)]
pub struct Before {
    known: BTreeMap<ObjectKey, Arc<Value>>,
    /// Whether there are objects of which nothing is kept, because there are too many.
    is_narrow: bool,
}

/// What an object was.
#[derive(Debug, PartialEq)]
pub enum Was {
    /// The same, or not known, as it is seen for the first time.
    Unknown,
    /// Not known, and it will not be: there are too many objects.
    Passed,
    /// Another version.
    Other(Change),
}

impl Before {
    /// What an object was before it was seen like this, if that is known and another version.
    ///
    /// Of more objects than can be kept the first are known; the others never change.
    pub fn change(&mut self, rule: &CompiledRule, object: &Arc<Value>) -> Was {
        let key = key_of(object);
        if self.known.len() >= KNOWN && !self.known.contains_key(&key) {
            self.is_narrow = true;
            return Was::Passed;
        }
        let Some(old) = self.known.insert(key, Arc::new(rule.before(object))) else { return Was::Unknown };
        let is = |pointer: &str| old.pointer(pointer) == object.pointer(pointer);
        if is("/metadata/uid") && !is("/metadata/resourceVersion") {
            Was::Other((object.clone(), old))
        } else {
            Was::Unknown
        }
    }

    /// What is not looked at, in a sentence.
    pub fn narrow(&self) -> Option<String> {
        self.is_narrow.then(|| format!("of more than {KNOWN} objects the changes of the others are not seen"))
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.known.remove(key);
    }

    /// Forgets the objects that a complete list does not have.
    pub fn retain(&mut self, listed: &BTreeSet<ObjectKey>) {
        self.known.retain(|key, _| listed.contains(key));
        self.is_narrow &= listed.len() > KNOWN;
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

    fn rule() -> CompiledRule {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": "oldObject.x == object.x",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}});
        let rule = CompiledRule::of(&serde_json::from_value(spec).unwrap(), "a", "r", Timestamp::UNIX_EPOCH);
        rule.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn a_change_is_another_version_of_an_object_that_was_seen() {
        let rule = rule();
        let mut before = Before::default();
        let mut versions = |uid: &str, version: &str| {
            let Was::Other((_, old)) = before.change(&rule, &object(uid, version)) else { return None };
            Some(old["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
        };
        assert_eq!(versions("1", "7"), None, "seen for the first time");
        assert_eq!(versions("1", "7"), None, "the same, in a list");
        assert_eq!(versions("1", "9").as_deref(), Some("7"));
        assert_eq!(versions("2", "11"), None, "another object of this name");
        before.retain(&BTreeSet::new());
        assert_eq!(before.change(&rule, &object("2", "12")), Was::Unknown, "a list did not have it");
        before.clear();
        assert_eq!(before.change(&rule, &object("2", "13")), Was::Unknown, "the watch was interrupted");
    }

    #[test]
    fn what_there_is_no_room_for_is_told() {
        let rule = rule();
        let numbered = |number: usize, version: &str| {
            let mut object = (*object("1", version)).clone();
            object["metadata"]["name"] = json!(number.to_string());
            Arc::new(object)
        };
        let mut before = Before::default();
        for number in 0..KNOWN {
            assert_eq!(before.change(&rule, &numbered(number, "1")), Was::Unknown);
        }
        assert_eq!(before.narrow(), None, "there is room for all");
        assert_eq!(before.change(&rule, &numbered(KNOWN, "1")), Was::Passed);
        let told = before.narrow().expect("it is told");
        assert_eq!(told, "of more than 10000 objects the changes of the others are not seen");
        assert!(
            matches!(before.change(&rule, &numbered(0, "2")), Was::Other(_)),
            "those that are known change"
        );
        let of = |count: usize| (0..count).map(|number| key_of(&numbered(number, "1"))).collect();
        before.retain(&of(KNOWN + 1));
        assert!(before.narrow().is_some());
        before.retain(&of(KNOWN));
        assert_eq!(before.narrow(), None, "they are fewer now");
    }
}
