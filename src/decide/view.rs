//! Which objects of a watch match a rule, and since when: all that is remembered of what was watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::identity::TargetKey;
use crate::api::{MatchedObject, ObjectReference};

/// An object that matches a rule, led to its target.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The object that matches.
    pub object: MatchedObject,
    /// What is to be remedied.
    pub target: ObjectReference,
    /// Since when it has been wrong, if the rule reads that from the object.
    pub since: Option<Timestamp>,
}

/// The matches of one rule. A change costs as much as its target has matches, however many targets there are.
#[derive(Debug, Default)]
pub struct View {
    matches: BTreeMap<ObjectKey, Match>,
    members: BTreeMap<TargetKey, Members>,
    /// Shared with those who look, and copied when it changes meanwhile.
    targets: Arc<Targets>,
}

/// What matches of one target.
#[derive(Debug)]
struct Members {
    /// Since when there has been one without a break, as seen by this process.
    seen_since: Timestamp,
    objects: BTreeSet<ObjectKey>,
}

/// The targets that match.
pub type Targets = BTreeMap<Arc<TargetKey>, Arc<TargetView>>;

/// How far what is seen can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sight {
    /// When the watch was last heard of; none if it is not in sync. It says that the watch works, and not how new the
    /// view is: what it tells may have happened long before.
    pub heard_at: Option<Timestamp>,
    /// When the latest complete list was asked for: the view shows the cluster as it was at this time or later.
    pub complete_at: Option<Timestamp>,
    /// Whether it is known of all objects that match where they lead. If not, a target without a match may be theirs.
    pub all_resolved: bool,
}

/// Namespace and name: what a watch knows an object by.
pub type ObjectKey = (String, String);

/// What is known of one target that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    /// The target, with its UID as last seen.
    pub target: ObjectReference,
    /// The object that stands for all that match.
    pub object: MatchedObject,
    /// Since when the target has matched: what the rule reads from the objects, else what this process has seen.
    pub since: Timestamp,
    /// The newest time that the rule reads from a matching object, if it reads one.
    pub began: Option<Timestamp>,
}

impl View {
    /// Takes in what an object has come to: a match, or none (also when it is gone).
    pub fn observe(&mut self, key: ObjectKey, found: Option<Match>, now: Timestamp) {
        let after = found.as_ref().map(|found| TargetKey::from(&found.target));
        let before = match found {
            Some(found) => self.matches.insert(key.clone(), found),
            None => self.matches.remove(&key),
        };
        let before = before.map(|before| TargetKey::from(&before.target));
        if let Some(target) = before.filter(|before| after.as_ref() != Some(before)) {
            self.leave(target, &key);
        }
        if let Some(target) = after {
            self.join(target, key, now);
        }
    }

    /// Takes in a complete list: what is not in it is gone. A target that matched before goes on as if without a break.
    pub fn replace(&mut self, found: BTreeMap<ObjectKey, Match>, now: Timestamp) {
        let before = std::mem::take(self).members;
        for (key, found) in found {
            let since = before.get(&TargetKey::from(&found.target)).map_or(now, |known| known.seen_since);
            self.observe(key, Some(found), since);
        }
    }

    /// What is known of an object that matches.
    pub fn get(&self, key: &ObjectKey) -> Option<&Match> {
        self.matches.get(key)
    }

    /// The targets that match now.
    pub fn targets(&self) -> Arc<Targets> {
        self.targets.clone()
    }

    /// A target's time starts with its first match.
    fn join(&mut self, target: TargetKey, key: ObjectKey, now: Timestamp) {
        let fresh = || Members { seen_since: now, objects: BTreeSet::new() };
        self.members.entry(target.clone()).or_insert_with(fresh).objects.insert(key);
        self.show(target);
    }

    /// It ends with its last.
    fn leave(&mut self, target: TargetKey, key: &ObjectKey) {
        if let Some(members) = self.members.get_mut(&target) {
            members.objects.remove(key);
        }
        self.show(target);
    }

    fn show(&mut self, target: TargetKey) {
        let targets = Arc::make_mut(&mut self.targets);
        let shown = self.members.get(&target).and_then(|members| view(members, &self.matches));
        if let Some(view) = shown {
            targets.insert(Arc::new(target), Arc::new(view));
        } else {
            targets.remove(&target);
            self.members.remove(&target);
        }
    }
}

/// What is known of a target by what matches; none without a match.
fn view(members: &Members, matches: &BTreeMap<ObjectKey, Match>) -> Option<TargetView> {
    let found = || members.objects.iter().filter_map(|key| matches.get(key));
    let first = found().next()?;
    Some(TargetView {
        target: first.target.clone(),
        object: first.object.clone(),
        since: found().map(|found| found.since.unwrap_or(members.seen_since)).min()?,
        began: found().filter_map(|found| found.since).max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::SignedDuration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn key(pod: &str) -> ObjectKey {
        ("a".into(), pod.into())
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a look finds is an option")]
    fn found(pod: &str, since: Option<Timestamp>) -> Option<Match> {
        let reference = |kind: &str, name: &str| ObjectReference {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: Some("a".into()),
            name: name.into(),
            uid: None,
        };
        Some(Match {
            object: MatchedObject { object: reference("Pod", pod), resource_version: "1".into() },
            target: reference("Deployment", "web"),
            since,
        })
    }

    fn only(view: &View) -> Option<(Timestamp, Option<Timestamp>)> {
        let targets = view.targets();
        assert!(targets.len() <= 1);
        targets.values().next().map(|t| (t.since, t.began))
    }

    #[test]
    fn of_three_matching_objects_one_goes_away_and_the_target_goes_on() {
        let mut view = View::default();
        for (second, pod) in [(1, "a"), (2, "b"), (3, "c")] {
            view.observe(key(pod), found(pod, None), at(second));
        }
        view.observe(key("a"), None, at(4));
        assert_eq!(only(&view), Some((at(1), None)));
        view.observe(key("b"), None, at(5));
        view.observe(key("c"), None, at(6));
        assert_eq!(only(&view), None);
        view.observe(key("d"), found("d", None), at(7));
        assert_eq!(only(&view), Some((at(7), None)), "a break starts the time again");
    }

    #[test]
    fn a_replacement_without_a_break_keeps_the_time() {
        let mut view = View::default();
        view.observe(key("a"), found("a", None), at(1));
        view.observe(key("b"), found("b", None), at(2));
        view.observe(key("a"), None, at(3));
        assert_eq!(only(&view), Some((at(1), None)));
    }

    #[test]
    fn a_relist_forgets_what_is_gone() {
        let mut view = View::default();
        view.observe(key("a"), found("a", None), at(1));
        view.replace(BTreeMap::new(), at(2));
        assert_eq!(only(&view), None);
    }

    #[test]
    fn a_time_read_from_the_object_outlives_this_process() {
        let mut view = View::default();
        view.replace([(key("a"), found("a", Some(at(10))).expect("a match"))].into(), at(100));
        assert_eq!(only(&view), Some((at(10), Some(at(10)))));
        view.observe(key("b"), found("b", Some(at(50))), at(101));
        assert_eq!(only(&view), Some((at(10), Some(at(50)))));
    }

    #[test]
    fn an_object_that_leads_elsewhere_leaves_its_target() {
        let mut view = View::default();
        view.observe(key("a"), found("a", None), at(1));
        let held = view.targets();
        let mut moved = found("a", None);
        if let Some(found) = &mut moved {
            found.target.name = "api".into();
        }
        view.observe(key("a"), moved, at(2));
        let names = |targets: &Targets| targets.keys().map(|target| target.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(&held), names(&view.targets())), (vec!["web".into()], vec!["api".into()]));
        view.observe(key("a"), None, at(3));
        assert!(view.targets().is_empty() && view.members.is_empty());
    }

    #[test]
    fn a_relist_is_no_break() {
        let mut view = View::default();
        view.observe(key("a"), found("a", None), at(1));
        view.replace([(key("b"), found("b", None).expect("a match"))].into(), at(9));
        assert_eq!(only(&view), Some((at(1), None)));
    }
}
