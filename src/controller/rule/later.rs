//! Objects of which a rule may say something else although they do not change, each until its moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::decide::view::ObjectKey;

/// Objects that are kept, at the most: a kilobyte or so each. Beyond that it is remembered when the first of the others
/// has to be looked at, and everything is listed then.
const MOST: usize = 10_000;
/// The least time between two such lists.
const LIST_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Objects that wait for their moment.
#[derive(Default)]
pub struct Later {
    objects: BTreeMap<ObjectKey, (Timestamp, Arc<Value>)>,
    moments: BTreeSet<(Timestamp, ObjectKey)>,
    /// When the first of those that are not kept has its moment.
    beyond: Option<Timestamp>,
    listed: Option<Timestamp>,
}

impl Later {
    /// Keeps an object until a moment, instead of what was kept of it.
    pub fn keep(&mut self, key: ObjectKey, moment: Timestamp, object: Arc<Value>) {
        self.forget(&key);
        if self.objects.len() >= MOST {
            self.beyond = Some(self.beyond.map_or(moment, |known| known.min(moment)));
            return;
        }
        self.moments.insert((moment, key.clone()));
        self.objects.insert(key, (moment, object));
    }

    /// Forgets an object that has no moment any more.
    pub fn forget(&mut self, key: &ObjectKey) {
        if let Some((moment, _)) = self.objects.remove(key) {
            self.moments.remove(&(moment, key.clone()));
        }
    }

    /// Forgets all: they are about to be seen again.
    pub fn clear(&mut self, now: Timestamp) {
        *self = Self { listed: Some(now), ..Self::default() };
    }

    /// When the first that is kept has its moment.
    pub fn next(&self) -> Option<Timestamp> {
        self.moments.first().map(|(moment, _)| *moment)
    }

    /// Takes out those whose moment has come.
    pub fn due(&mut self, now: Timestamp) -> Vec<Arc<Value>> {
        let mut due = Vec::new();
        while self.next().is_some_and(|moment| moment <= now)
            && let Some((_, key)) = self.moments.pop_first()
        {
            due.extend(self.objects.remove(&key).map(|(_, object)| object));
        }
        due
    }

    /// Whether there are some that are not kept.
    pub fn has_more(&self) -> bool {
        self.beyond.is_some()
    }

    /// Whether everything has to be listed, because one that is not kept has its moment.
    pub fn needs_list(&self, now: Timestamp) -> bool {
        let rested = self.listed.is_none_or(|listed| now.duration_since(listed) >= LIST_EVERY);
        rested && self.beyond.is_some_and(|moment| moment <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn key(name: &str) -> ObjectKey {
        ("a".to_owned(), name.to_owned())
    }

    #[test]
    fn each_is_looked_at_at_its_moment_and_nothing_else_is_asked_for() {
        let mut later = Later::default();
        for (name, moment) in [("late", 9), ("early", 5), ("moved", 3), ("gone", 1)] {
            later.keep(key(name), at(moment), Arc::new(json!(name)));
        }
        later.keep(key("moved"), at(7), Arc::new(json!("moved")));
        later.forget(&key("gone"));
        assert_eq!(later.next(), Some(at(5)));
        assert!(later.due(at(4)).is_empty());
        assert_eq!(later.due(at(7)), [Arc::new(json!("early")), Arc::new(json!("moved"))]);
        assert_eq!((later.next(), later.needs_list(at(1000))), (Some(at(9)), false));
        later.clear(at(8));
        assert_eq!((later.next(), later.objects.len()), (None, 0));
    }

    #[test]
    fn beyond_the_most_everything_is_listed_once_in_a_while() {
        let mut later = Later::default();
        later.clear(at(0));
        for number in 0..MOST + 2 {
            let moment = at(100 - i64::from(number == MOST));
            later.keep(key(&number.to_string()), moment, Arc::new(Value::Null));
        }
        assert_eq!((later.objects.len(), later.next()), (MOST, Some(at(100))));
        assert!(!later.needs_list(at(98)) && later.needs_list(at(99)));
        later.clear(at(99));
        for number in 0..=MOST {
            later.keep(key(&number.to_string()), at(100), Arc::new(Value::Null));
        }
        assert!(!later.needs_list(at(158)) && later.needs_list(at(159)), "it rests");
    }
}
