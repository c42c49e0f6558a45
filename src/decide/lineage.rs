//! Whether a revision may follow the one that is in force: a branch goes on from it, a range of versions does not go back.
//!
//! Whoever may push to a branch can rewrite it, to an older commit that is signed too, or to one from elsewhere; so that is held
//! until a person with rights in the cluster agrees. What a tag or a commit says is meant, and so is a change of the Pack.

use semver::Version;

use crate::api::{ANNOTATION, GitReference, Pack};

/// What is known of how a revision stands to the one in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Descent {
    /// It goes on from there, or the question does not arise.
    Proven,
    /// It does not.
    Refuted,
    /// It was not found within the bound of the search.
    Unproven,
}

/// The commit that the next revision has to descend from, if it has to from any.
pub fn ancestor(pack: &Pack) -> Option<&str> {
    let follows_branch = pack.spec.reference.as_ref().is_none_or(|reference| reference.branch.is_some());
    let (_, commit) = applied(pack).filter(|_| follows_branch)?.rsplit_once("sha1:")?;
    Some(commit)
}

/// Why the revision is held, if it is; `revision` is whole, and its commit.
pub fn hold(pack: &Pack, (revision, commit): (&str, &str), descent: Descent) -> Option<String> {
    let agreed = pack.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION.allow_rewrite));
    if agreed.is_some_and(|agreed| agreed == revision || agreed == commit) {
        return None;
    }
    let problem = match descent {
        Descent::Refuted => "history rewritten".to_owned(),
        Descent::Unproven => "history perhaps rewritten: what is in force was not found in it".to_owned(),
        Descent::Proven => went_back(pack, revision)?,
    };
    Some(format!("{problem}; approve with annotation {}: {revision}", ANNOTATION.allow_rewrite))
}

/// What is in force, if it came from where the Pack looks now.
fn applied(pack: &Pack) -> Option<&str> {
    let status = pack.status.as_ref()?;
    let same = status
        .applied_from
        .as_ref()
        .is_none_or(|from| from.url == pack.spec.url && from.reference == pack.spec.reference);
    status.applied_revision.as_deref().filter(|_| same)
}

/// A range of versions that now means a lower one: somebody has removed a tag.
fn went_back(pack: &Pack, revision: &str) -> Option<String> {
    let follows_range =
        pack.spec.reference.as_ref().is_some_and(|GitReference { semver, .. }| semver.is_some());
    let before = applied(pack).filter(|_| follows_range)?;
    let (from, to) = (version(before)?, version(revision)?);
    (to < from).then(|| format!("version went back from {from} to {to}"))
}

fn version(revision: &str) -> Option<Version> {
    let (tag, _) = revision.rsplit_once("@sha1:")?;
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pack(reference: Value, applied: &str) -> Pack {
        let from = json!({"url": "https://h/p", "ref": reference});
        serde_json::from_value(json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Pack", "metadata": {"name": "p"},
            "spec": {"url": "https://h/p", "ref": reference, "serviceAccountName": "s"},
            "status": {"appliedRevision": applied, "appliedFrom": from},
        }))
        .expect("a Pack")
    }

    #[test]
    fn branches_go_on_and_nothing_else_has_to() {
        let revision = "main@sha1:abc";
        assert_eq!(ancestor(&pack(Value::Null, revision)), Some("abc"));
        assert_eq!(ancestor(&pack(json!({"branch": "main"}), revision)), Some("abc"));
        for reference in [json!({"tag": "v1"}), json!({"semver": "1"}), json!({"commit": "a".repeat(40)})] {
            assert_eq!(ancestor(&pack(reference, revision)), None);
        }
    }

    #[test]
    fn a_change_of_the_pack_is_meant() {
        let mut moved = pack(Value::Null, "main@sha1:abc");
        moved.spec.url = "https://elsewhere/p".into();
        assert_eq!(ancestor(&moved), None);
        let mut branch = pack(json!({"branch": "main"}), "main@sha1:abc");
        branch.spec.reference = Some(GitReference { branch: Some("next".into()), ..GitReference::default() });
        assert_eq!(ancestor(&branch), None);
        let mut older = pack(Value::Null, "main@sha1:abc");
        older.status.as_mut().expect("a status").applied_from = None;
        assert_eq!(ancestor(&older), Some("abc"), "what does not say where it is from is not let off");
    }

    #[test]
    fn what_is_not_proven_is_held_until_somebody_agrees() {
        let mut pack = pack(Value::Null, "main@sha1:abc");
        let new = ("main@sha1:def", "def");
        assert_eq!(hold(&pack, new, Descent::Proven), None);
        let held = hold(&pack, new, Descent::Refuted).expect("held");
        assert_eq!(
            held,
            "history rewritten; approve with annotation fother.dev/allow-rewrite: main@sha1:def"
        );
        assert!(hold(&pack, new, Descent::Unproven).expect("held").starts_with("history perhaps rewritten"));
        for (agreed, lets) in
            [("main@sha1:def", true), ("def", true), ("main@sha1:abc", false), ("true", false)]
        {
            let annotations = [(ANNOTATION.allow_rewrite.to_owned(), agreed.to_owned())];
            pack.metadata.annotations = Some(annotations.into());
            assert_eq!(hold(&pack, new, Descent::Refuted).is_none(), lets, "{agreed}");
        }
    }

    #[test]
    fn a_range_does_not_go_back() {
        let range = |before: &str| pack(json!({"semver": ">=1"}), before);
        let back = hold(&range("v1.10.0@sha1:abc"), ("v1.9.0@sha1:def", "def"), Descent::Proven);
        assert!(back.expect("held").starts_with("version went back from 1.10.0 to 1.9.0; approve with"));
        assert_eq!(hold(&range("v1.9.0@sha1:abc"), ("v1.10.0@sha1:def", "def"), Descent::Proven), None);
        assert_eq!(hold(&range("v1.9.0@sha1:abc"), ("v1.9.0@sha1:def", "def"), Descent::Proven), None);
        let mut narrowed = range("v1.10.0@sha1:abc");
        narrowed.spec.reference =
            Some(GitReference { semver: Some("~1.9".into()), ..GitReference::default() });
        assert_eq!(hold(&narrowed, ("v1.9.0@sha1:def", "def"), Descent::Proven), None);
    }
}
