//! Whether a remedy worked, by one look at the target.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::Verify;
use crate::expr::{Bindings, Expression, Scope};

/// The variables of a `verify` expression.
pub const VARIABLES: [&str; 2] = ["target", "now"];

/// What one look showed.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The live target; none if it does not exist.
    pub target: Option<Arc<Value>>,
    /// The target's Pods that are not being deleted.
    pub pods: Vec<Pod>,
    /// Whether any object that leads to the target still matches the rule; none for a run by hand.
    pub matches: Option<bool>,
    /// Whether the Rule names a target that is nothing that has Pods, so that what matches says all there is to know.
    pub podless: bool,
}

/// The verdict of one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Whether the verification holds at this moment.
    pub holds: bool,
    /// What was seen, in a sentence.
    pub message: String,
}

impl Check {
    fn new(holds: bool, message: impl Into<String>) -> Self {
        Self { holds, message: message.into() }
    }
}

/// Looks once.
pub fn check(verify: &Verify, look: &Look, now: Timestamp) -> Check {
    match &verify.when {
        Some(source) => by_expression(source, look, now),
        None => by_default(look),
    }
}

fn by_expression(source: &str, look: &Look, now: Timestamp) -> Check {
    let Some(target) = &look.target else { return Check::new(false, "the target does not exist") };
    let expression = match Expression::compile(source, &Scope::of(VARIABLES)) {
        Ok(expression) => expression,
        Err(errors) => return Check::new(false, errors.first().map(ToString::to_string).unwrap_or_default()),
    };
    match expression.matches(&Bindings::at(now).with("target", target.clone())) {
        Ok(true) => Check::new(true, format!("{source} holds")),
        Ok(false) => Check::new(false, format!("{source} is false")),
        Err(error) => Check::new(false, error.to_string()),
    }
}

/// Nothing matches any more, and the target's Pods are Ready. No Pods is no proof.
fn by_default(look: &Look) -> Check {
    if look.matches == Some(true) {
        return Check::new(false, "the target still matches the rule");
    }
    if look.podless && look.matches == Some(false) {
        return Check::new(true, "nothing matches any more");
    }
    let ready = look.pods.iter().filter(|pod| is_ready(pod)).count();
    match look.pods.len() {
        0 => Check::new(false, "the target has no Pods"),
        all if ready < all => Check::new(false, format!("{ready} of {all} Pods are Ready")),
        all => Check::new(true, format!("nothing matches and {all} of {all} Pods are Ready")),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(ready: &str) -> Pod {
        serde_json::from_value(json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .expect("a Pod")
    }

    #[test]
    fn by_default_nothing_matches_and_all_pods_are_ready() {
        for (matches, pods, holds, message) in [
            (Some(true), vec![pod("True")], false, "the target still matches the rule"),
            (Some(false), vec![], false, "the target has no Pods"),
            (Some(false), vec![pod("True"), pod("False")], false, "1 of 2 Pods are Ready"),
            (Some(false), vec![pod("True")], true, "nothing matches and 1 of 1 Pods are Ready"),
            (None, vec![pod("True")], true, "nothing matches and 1 of 1 Pods are Ready"),
        ] {
            let look = Look { pods, matches, ..Look::default() };
            assert_eq!(check(&Verify::default(), &look, Timestamp::UNIX_EPOCH), Check::new(holds, message));
        }
    }

    #[test]
    fn where_there_are_no_pods_the_alerts_are_the_proof() {
        for (matches, holds) in [(Some(false), true), (Some(true), false), (None, false)] {
            let look = Look { matches, podless: true, ..Look::default() };
            assert_eq!(check(&Verify::default(), &look, Timestamp::UNIX_EPOCH).holds, holds, "{matches:?}");
        }
    }

    #[test]
    fn an_expression_speaks_of_the_target() {
        let verify = Verify { when: Some("target.spec.replicas == 0".into()), ..Verify::default() };
        let look = |replicas: i64| Look {
            target: Some(Arc::new(json!({"spec": {"replicas": replicas}}))),
            ..Look::default()
        };
        assert!(check(&verify, &look(0), Timestamp::UNIX_EPOCH).holds);
        assert_eq!(
            check(&verify, &look(1), Timestamp::UNIX_EPOCH),
            Check::new(false, "target.spec.replicas == 0 is false")
        );
        let gone = check(&verify, &Look::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(gone, Check::new(false, "the target does not exist"));
    }
}
