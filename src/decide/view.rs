//! Which objects of a watch match a rule, and since when: all that is remembered of what was watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::capture::Correlation;
use super::gathering::{Gathered, Part, Together};
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
    /// What it is among those that mean something only together, if the rule is about such.
    pub part: Option<Part>,
}

/// The matches of one rule. A change costs as much as its target has matches, however many targets there are.
#[derive(Debug, Default)]
pub struct View {
    /// What has to come together, if a match alone means nothing.
    correlation: Option<Correlation>,
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

/// The key of an object.
pub fn key(object: &ObjectReference) -> ObjectKey {
    (object.namespace.clone().unwrap_or_default(), object.name.clone())
}

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
    /// The objects that mean something only together, if the rule is about such.
    pub together: Vec<Gathered>,
}

impl View {
    /// An empty one, in which targets match by single objects, or by what comes together.
    pub fn of(correlation: Option<Correlation>) -> Self {
        Self { correlation, ..Self::default() }
    }

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
        let correlation = self.correlation.take();
        let before = std::mem::replace(self, Self::of(correlation)).members;
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
        let members = self.members.get(&target);
        let shown = members.and_then(|members| match &self.correlation {
            None => alone(members, &self.matches),
            Some(correlation) => together(members, &self.matches, correlation),
        });
        if members.is_some_and(|members| members.objects.is_empty()) {
            self.members.remove(&target);
        }
        match shown {
            Some(view) => drop(targets.insert(Arc::new(target), Arc::new(view))),
            None => drop(targets.remove(&target)),
        }
    }
}

/// What is known of a target by what matches; none without a match.
fn alone(members: &Members, matches: &BTreeMap<ObjectKey, Match>) -> Option<TargetView> {
    let found = || members.objects.iter().filter_map(|key| matches.get(key));
    let first = found().next()?;
    Some(TargetView {
        target: first.target.clone(),
        object: first.object.clone(),
        since: found().map(|found| found.since.unwrap_or(members.seen_since)).min()?,
        began: found().filter_map(|found| found.since).max(),
        together: Vec::new(),
    })
}

/// What is known of a target by what has come together; none as long as it has not.
fn together(
    members: &Members,
    matches: &BTreeMap<ObjectKey, Match>,
    correlation: &Correlation,
) -> Option<TargetView> {
    let found = || members.objects.iter().filter_map(|key| Some((key, matches.get(key)?)));
    let Together { since, objects } = correlation.together(found())?;
    Some(TargetView {
        target: found().next()?.1.target.clone(),
        object: objects.last()?.object.clone(),
        since,
        began: Some(since),
        together: objects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::SignedDuration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn named(pod: &str) -> ObjectKey {
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
            part: None,
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
            view.observe(named(pod), found(pod, None), at(second));
        }
        view.observe(named("a"), None, at(4));
        assert_eq!(only(&view), Some((at(1), None)));
        view.observe(named("b"), None, at(5));
        view.observe(named("c"), None, at(6));
        assert_eq!(only(&view), None);
        view.observe(named("d"), found("d", None), at(7));
        assert_eq!(only(&view), Some((at(7), None)), "a break starts the time again");
    }

    #[test]
    fn a_replacement_without_a_break_keeps_the_time() {
        let mut view = View::default();
        view.observe(named("a"), found("a", None), at(1));
        view.observe(named("b"), found("b", None), at(2));
        view.observe(named("a"), None, at(3));
        assert_eq!(only(&view), Some((at(1), None)));
    }

    #[test]
    fn a_relist_forgets_what_is_gone() {
        let mut view = View::default();
        view.observe(named("a"), found("a", None), at(1));
        view.replace(BTreeMap::new(), at(2));
        assert_eq!(only(&view), None);
    }

    #[test]
    fn a_time_read_from_the_object_outlives_this_process() {
        let mut view = View::default();
        view.replace([(named("a"), found("a", Some(at(10))).expect("a match"))].into(), at(100));
        assert_eq!(only(&view), Some((at(10), Some(at(10)))));
        view.observe(named("b"), found("b", Some(at(50))), at(101));
        assert_eq!(only(&view), Some((at(10), Some(at(50)))));
    }

    #[test]
    fn an_object_that_leads_elsewhere_leaves_its_target() {
        let mut view = View::default();
        view.observe(named("a"), found("a", None), at(1));
        let held = view.targets();
        let mut moved = found("a", None);
        if let Some(found) = &mut moved {
            found.target.name = "api".into();
        }
        view.observe(named("a"), moved, at(2));
        let names = |targets: &Targets| targets.keys().map(|target| target.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(&held), names(&view.targets())), (vec!["web".into()], vec!["api".into()]));
        view.observe(named("a"), None, at(3));
        assert!(view.targets().is_empty() && view.members.is_empty());
    }

    #[test]
    fn objects_that_mean_something_only_together_match_as_long_as_they_are() {
        let pattern = serde_json::from_value(serde_json::json!({"within": "10s", "count": 2}));
        let correlation =
            Correlation::compile(&pattern.expect("a pattern"), &crate::expr::Scope::of(["object"]));
        let mut view = View::of(Some(correlation.expect("compiles")));
        let part = Some(Part { group: String::new(), members: vec![] });
        let broke =
            |pod: &str, since| found(pod, Some(at(since))).map(|one| Match { part: part.clone(), ..one });
        view.observe(named("a"), broke("a", 1), at(1));
        assert_eq!(only(&view), None);
        view.observe(named("b"), broke("b", 2), at(2));
        assert_eq!(only(&view), Some((at(2), Some(at(2)))));
        view.observe(named("a"), None, at(3));
        assert_eq!(only(&view), None);
        view.observe(named("c"), broke("c", 4), at(4));
        assert_eq!(only(&view), Some((at(4), Some(at(4)))), "the one that was left still counts");
        view.replace([(named("c"), broke("c", 4).expect("a match"))].into(), at(5));
        assert_eq!(only(&view), None);
    }

    #[test]
    fn a_relist_is_no_break() {
        let mut view = View::default();
        view.observe(named("a"), found("a", None), at(1));
        view.replace([(named("b"), found("b", None).expect("a match"))].into(), at(9));
        assert_eq!(only(&view), Some((at(1), None)));
    }
}
