//! Names that are the same whoever computes them, and however often: a second attempt to create something meets
//! what the first one created.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::api::{ObjectReference, TriggerEvent};

/// What a target is known by: never its version or UID, so that a replaced object is the same target.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct TargetKey {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for kinds that have none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl From<&ObjectReference> for TargetKey {
    fn from(object: &ObjectReference) -> Self {
        Self {
            group: object.group().to_owned(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone().unwrap_or_default(),
            name: object.name.clone(),
        }
    }
}

impl TargetKey {
    /// The value of the label by which the Executions of a target are found.
    pub fn hash(&self) -> String {
        digest(&[&self.group, &self.kind, &self.namespace, &self.name])[..16].to_owned()
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Hexadecimal SHA-256 of the parts, each with its length in front, so that no two lists of parts read the same.
pub fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        use fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The identity of a decision, 128 bits. It depends neither on the rule's UID or text nor on any resource version:
/// re-syncing, restoring and relisting decide nothing again.
pub fn decision_id(rule_namespace: &str, rule_name: &str, target: &TargetKey, occurrence: &str) -> String {
    let TargetKey { group, kind, namespace, name } = target;
    digest(&["decision", rule_namespace, rule_name, group, kind, namespace, name, occurrence])[..32]
        .to_owned()
}

/// What tells an event that a Webhook received from all others. Its source has no spaces in it.
pub fn occurrence(event: &TriggerEvent) -> String {
    format!("{} {}", event.source, event.id)
}

/// The name of the Execution of a decision. It carries half of the identity; whoever meets an existing object of
/// this name compares the whole.
pub fn execution_name(rule_name: &str, decision_id: &str) -> String {
    readable(rule_name, &decision_id[..16.min(decision_id.len())])
}

/// The name of the Job of one rung of an Execution.
pub fn job_name(action: &str, execution_uid: &str, rung: usize) -> String {
    readable(action, &digest(&["job", execution_uid, &rung.to_string()])[..16])
}

/// Up to 30 characters that people recognize, and a hash.
pub fn readable(name: &str, hash: &str) -> String {
    let head: String = name.chars().take(30).collect();
    format!("{}-{hash}", head.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> TargetKey {
        TargetKey {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "a".into(),
            name: name.into(),
        }
    }

    #[test]
    fn parts_cannot_be_confused() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a", ""]), digest(&["a"]));
    }

    #[test]
    fn a_decision_depends_on_rule_target_and_occurrence() {
        let id = decision_id("a", "crashloop", &target("web"), "");
        assert_eq!(id, decision_id("a", "crashloop", &target("web"), ""));
        assert_eq!(id.len(), 32);
        for other in [
            decision_id("b", "crashloop", &target("web"), ""),
            decision_id("a", "oom", &target("web"), ""),
            decision_id("a", "crashloop", &target("api"), ""),
            decision_id("a", "crashloop", &target("web"), &id),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn the_version_and_uid_of_a_target_do_not_matter() {
        let one = ObjectReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "web".into(),
            ..Default::default()
        };
        let other =
            ObjectReference { api_version: "apps/v1beta1".into(), uid: Some("u".into()), ..one.clone() };
        assert_eq!(TargetKey::from(&one), TargetKey::from(&other));
    }

    /// Another version of fother has to come to the same names, or what one began the other would begin again.
    #[test]
    fn names_are_those_of_every_version() {
        let id = decision_id("a", "crashloop", &target("web"), "");
        assert_eq!(id, "54cb4caff47c072e54df9740440295c3");
        assert_eq!(execution_name("crashloop", &id), format!("crashloop-{}", &id[..16]));
        assert_eq!(target("web").hash(), "8a05e43e945537e3");
        assert_eq!(job_name("clean", "9c6e2f5e-0000-4000-8000-000000000000", 1), "clean-d416c93cfa231be7");
    }

    #[test]
    fn names_stay_short_and_well_formed() {
        let name = execution_name(&"x".repeat(52), "0123456789abcdef0123456789abcdef");
        assert_eq!(name, format!("{}-0123456789abcdef", "x".repeat(30)));
        assert_eq!(readable(&format!("{}-tail", "x".repeat(29)), "h"), format!("{}-h", "x".repeat(29)));
    }
}
