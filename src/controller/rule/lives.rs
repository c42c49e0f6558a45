//! Which objects there are, for rules about their creation and deletion: what is new and what is gone after a gap in the watch
//! is known by what was there before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::before::KNOWN;
use super::seen::key_of;
use crate::api::Moment;
use crate::decide::lifecycle::{created, created_by};
use crate::decide::matching::CompiledRule;
use crate::decide::view::ObjectKey;

/// The objects that there are, each with its UID; and what they were seen to be, if it matters that they are gone.
pub struct Lives {
    known: BTreeMap<ObjectKey, Life>,
    keeps: bool,
    /// What was created before is known to whoever looked before. Objects that there is no room for are judged by it, and
    /// all of them as long as there was no complete list.
    horizon: Timestamp,
    is_complete: bool,
    /// When something was last told to be gone. What comes in its place comes after it, whatever the clocks say.
    gone_at: Timestamp,
    /// Whether there are objects of which nothing is kept, because there are too many.
    is_narrow: bool,
}

/// An object.
struct Life {
    uid: Box<str>,
    last: Option<Arc<Value>>,
}

/// How an object was shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// As one that was just created.
    Added,
    /// As one that has changed.
    Changed,
    /// In a list.
    Listed,
}

/// What is new of an object.
#[derive(Debug, PartialEq)]
struct News {
    /// Whether it was created since it was looked last.
    is_new: bool,
    /// Whether that is known because it was not there before, and not only by its time.
    is_certain: bool,
    /// What had its name before, and is gone.
    replaced: Option<Arc<Value>>,
}

/// A moment of an object's life that was seen, or is known by what is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The object, as it is, or was seen last.
    pub object: Arc<Value>,
    /// What has happened.
    pub moment: Moment,
    /// By when.
    pub time: Timestamp,
}

impl Lives {
    /// None that are known yet, where somebody has looked until so long ago.
    pub fn since(rule: &CompiledRule, horizon: Timestamp) -> Self {
        let keeps = rule.is_about(Moment::Deleted);
        Self {
            known: BTreeMap::new(),
            keeps,
            horizon,
            is_complete: false,
            gone_at: Timestamp::MIN,
            is_narrow: false,
        }
    }

    /// Takes in an object that is there, and gives what has happened by that, in its order.
    pub fn take(
        &mut self,
        rule: &CompiledRule,
        object: &Arc<Value>,
        shown: Shown,
        now: Timestamp,
    ) -> Vec<Turn> {
        let News { is_new, is_certain, replaced } = self.show(rule, object, shown);
        let gone = replaced.and_then(|gone| self.lose(rule, &gone, now));
        let came = is_new.then(|| self.came(rule, object, is_certain, now)).flatten();
        gone.into_iter().chain(came).collect()
    }

    /// Takes in that an object is gone, as it was seen last.
    pub fn lose(&mut self, rule: &CompiledRule, object: &Arc<Value>, now: Timestamp) -> Option<Turn> {
        if !rule.is_about(Moment::Deleted) {
            return None;
        }
        let time = now.max(rule.created_at);
        self.gone_at = self.gone_at.max(time);
        Some(Turn { object: object.clone(), moment: Moment::Deleted, time })
    }

    /// Takes in which objects a complete list has, whose others are gone. What was created before `horizon` is known with it.
    pub fn compare(
        &mut self,
        rule: &CompiledRule,
        listed: &BTreeSet<ObjectKey>,
        (horizon, now): (Timestamp, Timestamp),
    ) -> Vec<Turn> {
        let gone = self.retain(listed, horizon);
        gone.iter().filter_map(|object| self.lose(rule, object, now)).collect()
    }

    /// That an object was created, if that has happened since the rule was.
    fn came(
        &self,
        rule: &CompiledRule,
        object: &Arc<Value>,
        is_certain: bool,
        now: Timestamp,
    ) -> Option<Turn> {
        if !rule.is_about(Moment::Created) {
            return None;
        }
        let by = created_by(object, now);
        let time = if is_certain {
            // It was not there when the rule was, whose creation is known to the second.
            by.max(rule.created_at).max(self.gone_at)
        } else {
            // What was there before the rule is nothing that happened.
            created(object).filter(|created| *created >= rule.created_at)?;
            by
        };
        Some(Turn { object: object.clone(), moment: Moment::Created, time })
    }

    /// What is new of an object that is there.
    fn show(&mut self, rule: &CompiledRule, object: &Arc<Value>, shown: Shown) -> News {
        let (key, uid) = (key_of(object), uid_of(object));
        let before = self.known.get(&key);
        let is_known = before.is_some_and(|life| *life.uid == *uid);
        let is_certain = match shown {
            Shown::Added => true,
            Shown::Changed => false,
            Shown::Listed => self.is_complete && !self.is_narrow,
        };
        let is_recent = || created(object).is_some_and(|created| created >= self.horizon);
        let is_new = !is_known && (is_certain || shown == Shown::Listed && is_recent());
        if before.is_none() && self.known.len() >= KNOWN {
            self.is_narrow = true;
            return News { is_new, is_certain, replaced: None };
        }
        let last = self.keeps.then(|| Arc::new(rule.last(object)));
        let before = self.known.insert(key, Life { uid: uid.into(), last });
        News { is_new, is_certain, replaced: before.filter(|_| !is_known).and_then(|life| life.last) }
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.known.remove(key);
    }

    /// Forgets the objects that a complete list does not have, and gives them back as they were seen last.
    fn retain(&mut self, listed: &BTreeSet<ObjectKey>, horizon: Timestamp) -> Vec<Arc<Value>> {
        let gone =
            self.known.extract_if(.., |key, _| !listed.contains(key)).filter_map(|(_, life)| life.last);
        let gone = gone.collect();
        self.is_narrow = self.known.len() < listed.len();
        (self.is_complete, self.horizon) = (true, self.horizon.max(horizon));
        gone
    }

    /// What is not looked at, in a sentence. That something is created is known of all by their time.
    pub fn narrow(&self) -> Option<String> {
        let text = format!(
            "of more than {KNOWN} objects it is not seen of the others if they are deleted while the watch is interrupted"
        );
        (self.is_narrow && self.keeps).then_some(text)
    }
}

fn uid_of(object: &Value) -> &str {
    object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::SignedDuration;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn object(name: &str, uid: &str, created: i64) -> Arc<Value> {
        Arc::new(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"secret": "x"}, "metadata": {"namespace": "a",
            "name": name, "uid": uid, "creationTimestamp": at(created).to_string()}}),
        )
    }

    fn rule(lifecycle: &[&str]) -> CompiledRule {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}],
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "lifecycle": lifecycle}}});
        let rule = CompiledRule::of(&serde_json::from_value(spec).unwrap(), "a", "r", Timestamp::UNIX_EPOCH);
        rule.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// The names of objects.
    fn keys(names: &[&str]) -> BTreeSet<ObjectKey> {
        names.iter().map(|name| key_of(&object(name, "", 0))).collect()
    }

    fn uids(gone: &[Arc<Value>]) -> Vec<&str> {
        gone.iter().map(|object| uid_of(object)).collect()
    }

    #[test]
    fn in_the_first_list_that_is_new_which_was_created_since_somebody_looked() {
        let rule = rule(&["Created", "Deleted"]);
        let mut lives = Lives::since(&rule, at(100));
        let mut is_new = |object: &Arc<Value>, shown| lives.show(&rule, object, shown).is_new;
        assert!(!is_new(&object("old", "1", 99), Shown::Listed));
        assert!(is_new(&object("new", "2", 100), Shown::Listed));
        assert!(!is_new(&object("new", "2", 100), Shown::Listed), "in a list that begins anew");
    }

    #[test]
    fn after_a_gap_that_is_new_or_gone_which_was_not_there_or_was() {
        let rule = rule(&["Created", "Deleted"]);
        let mut lives = Lives::since(&rule, at(100));
        for name in ["stays", "goes", "returns"] {
            assert!(!lives.show(&rule, &object(name, name, 1), Shown::Listed).is_new);
        }
        assert_eq!(uids(&lives.retain(&keys(&["stays", "goes", "returns"]), at(200))), [""; 0]);
        assert_eq!(
            lives.show(&rule, &object("stays", "stays", 1), Shown::Changed),
            News { is_new: false, is_certain: false, replaced: None }
        );
        let stays = lives.show(&rule, &object("stays", "stays", 1), Shown::Listed);
        assert!(!stays.is_new && stays.replaced.is_none());
        // Whatever the clocks say.
        let comes = lives.show(&rule, &object("comes", "comes", 2), Shown::Listed);
        assert_eq!(comes, News { is_new: true, is_certain: true, replaced: None });
        let again = lives.show(&rule, &object("returns", "another", 250), Shown::Listed);
        assert!(again.is_new);
        assert_eq!(again.replaced.as_deref().map(uid_of), Some("returns"));
        let gone = lives.retain(&keys(&["stays", "comes", "returns"]), at(300));
        assert_eq!(uids(&gone), ["goes"]);
        assert_eq!(gone[0]["spec"], Value::Null, "what nobody reads is not kept");
        assert!(lives.retain(&keys(&["stays", "comes", "returns"]), at(400)).is_empty(), "each once");
    }

    #[test]
    fn live_that_is_new_of_which_the_server_says_so() {
        let rule = rule(&["Created"]);
        let mut lives = Lives::since(&rule, at(0));
        assert!(!lives.show(&rule, &object("labelled", "1", 50), Shown::Changed).is_new);
        assert!(lives.show(&rule, &object("created", "2", 50), Shown::Added).is_new);
        assert!(!lives.show(&rule, &object("created", "2", 50), Shown::Added).is_new, "told again");
        lives.forget(&key_of(&object("created", "2", 50)));
        assert!(lives.show(&rule, &object("created", "3", 50), Shown::Added).is_new);
        assert!(lives.retain(&keys(&[]), at(0)).is_empty(), "whether they are gone does not matter");
    }

    #[test]
    fn what_there_is_no_room_for_is_told() {
        let rule = rule(&["Created", "Deleted"]);
        let mut lives = Lives::since(&rule, at(100));
        let numbered =
            |number: usize, created: i64| object(&number.to_string(), &number.to_string(), created);
        let listed =
            |count: usize| -> BTreeSet<_> { (0..count).map(|number| key_of(&numbered(number, 0))).collect() };
        for number in 0..=KNOWN {
            lives.show(&rule, &numbered(number, 1), Shown::Listed);
        }
        assert!(lives.retain(&listed(KNOWN + 1), at(200)).is_empty());
        let told = lives.narrow().expect("it is told");
        assert!(told.starts_with("of more than 10000 objects"), "{told}");
        assert!(!lives.show(&rule, &numbered(KNOWN, 199), Shown::Listed).is_new, "as it was there by then");
        assert!(lives.show(&rule, &numbered(KNOWN + 1, 200), Shown::Listed).is_new);
        assert!(lives.show(&rule, &numbered(KNOWN + 2, 1), Shown::Added).is_new, "which is certain");
        lives.show(&rule, &numbered(0, 1), Shown::Listed);
        assert_eq!(lives.retain(&listed(1), at(300)).len(), KNOWN - 1);
        assert_eq!(lives.narrow(), None, "they are fewer now");
    }
}
