//! Whether a remedy worked, by one look at the target.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::execution::rung;
use super::inbox::FIRES_AGAIN;
use crate::api::Verify;
use crate::expr::{Bindings, Expression, Scope};

/// The variables of a `verify` expression.
pub const VARIABLES: [&str; 2] = ["target", "now"];

/// The scope of such an expression, of whose variables no more is known.
pub fn scope() -> Scope {
    let others = rung::VARIABLES.into_iter().filter(|variable| !VARIABLES.contains(variable));
    Scope::of(VARIABLES)
        .elsewhere(others.map(|variable| (variable, "verify.when is over `target` and `now`")))
}

/// What one look showed.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The live target; none if it does not exist.
    pub target: Option<Arc<Value>>,
    /// The target's Pods that are not being deleted.
    pub pods: Vec<Pod>,
    /// Whether any object that leads to the target still matches the rule, or the alert fires again whose end it was about;
    /// none for a run by hand.
    pub matches: Option<bool>,
    /// Whether the Rule is about alerts that are resolved.
    pub ended: bool,
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
    /// When the cluster itself last noted that what it goes by turned good or bad: what breaks and heals between two
    /// looks is seen only so.
    pub turned_at: Option<Timestamp>,
}

impl Check {
    fn new(holds: bool, message: impl Into<String>) -> Self {
        Self { holds, message: message.into(), turned_at: None }
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
        Ok(true) => Check {
            turned_at: reads_status(&expression).then(|| turned_at(target)).flatten(),
            ..Check::new(true, format!("{source} holds"))
        },
        Ok(false) => Check::new(false, format!("{source} is false")),
        Err(error) => Check::new(false, error.to_string()),
    }
}

/// Nothing matches any more, and the target's Pods are Ready. No Pods is no proof.
fn by_default(look: &Look) -> Check {
    let (wrong, well) = match look.ended {
        true => (FIRES_AGAIN, "the alert does not fire again"),
        false => ("the target still matches the rule", "nothing matches any more"),
    };
    if look.matches == Some(true) {
        return Check::new(false, wrong);
    }
    if look.podless && look.matches == Some(false) {
        return Check::new(true, well);
    }
    let ready = look.pods.iter().filter(|pod| is_ready(pod)).count();
    match look.pods.len() {
        0 => Check::new(false, "the target has no Pods"),
        all if ready < all => Check::new(false, format!("{ready} of {all} Pods are Ready")),
        all => Check {
            turned_at: look
                .pods
                .iter()
                .filter_map(|pod| readiness(pod)?.last_transition_time.as_ref())
                .map(|t| t.0)
                .max(),
            ..Check::new(true, format!("nothing matches and {all} of {all} Pods are Ready"))
        },
    }
}

fn readiness(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

fn is_ready(pod: &Pod) -> bool {
    readiness(pod).is_some_and(|condition| condition.status == "True")
}

/// Whether an expression goes by how its target is, and not only by what is wanted of it.
fn reads_status(expression: &Expression) -> bool {
    expression.paths().any(|path| match path {
        [target] => target == "target",
        [target, part, ..] => target == "target" && part == "status",
        [] => false,
    })
}

/// When an object's own conditions last said otherwise.
fn turned_at(object: &Value) -> Option<Timestamp> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let told = conditions
        .filter(|condition| ["Available", "Ready"].contains(&condition["type"].as_str().unwrap_or_default()));
    told.filter_map(|condition| condition["lastTransitionTime"].as_str()?.parse().ok()).max()
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
    fn after_the_end_of_an_alert_it_must_not_fire_again() {
        for (matches, holds, message) in
            [(true, false, "the alert fires again"), (false, true, "the alert does not fire again")]
        {
            let look = Look { matches: Some(matches), ended: true, podless: true, ..Look::default() };
            assert_eq!(check(&Verify::default(), &look, Timestamp::UNIX_EPOCH), Check::new(holds, message));
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

    #[test]
    fn what_turned_between_two_looks_is_known_from_conditions() {
        let condition =
            |kind: &str, at: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
        let conditions = json!([
            condition("Available", "2026-03-01T12:00:07Z"),
            condition("Progressing", "2026-03-01T12:00:09Z"),
        ]);
        let target = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "generation": 1},
            "spec": {"replicas": 1},
            "status": {
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
                "conditions": conditions,
            },
        });
        let look = Look { target: Some(Arc::new(target)), ..Look::default() };
        for (when, turned) in [
            ("target.status.availableReplicas == 1", Some("2026-03-01T12:00:07Z")),
            ("rolloutComplete(target)", Some("2026-03-01T12:00:07Z")),
            ("target.spec.replicas == 1", None),
        ] {
            let verify = Verify { when: Some(when.into()), ..Verify::default() };
            let checked = check(&verify, &look, Timestamp::UNIX_EPOCH);
            assert_eq!(
                (checked.holds, checked.turned_at),
                (true, turned.and_then(|at| at.parse().ok())),
                "{when}"
            );
        }
        let pod = serde_json::from_value(
            json!({"status": {"conditions": [condition("Ready", "2026-03-01T12:00:08Z")]}}),
        );
        let look = Look { pods: vec![pod.expect("a Pod")], matches: Some(false), ..Look::default() };
        let checked = check(&Verify::default(), &look, Timestamp::UNIX_EPOCH);
        assert_eq!(checked.turned_at, "2026-03-01T12:00:08Z".parse().ok());
    }
}
