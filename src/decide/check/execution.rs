//! Checks a run by hand: what a person writes into an Execution is asked before anything is changed.

use super::{expression, types};
use crate::api::ExecutionSpec;
use crate::decide::path::Path;
use crate::decide::problem::{Problem, Severity};
use crate::expr::{Schemas, Type};

/// What is wrong with its `verify`, by the fields that are known of its target.
pub fn check(spec: &ExecutionSpec, schemas: &Schemas) -> Vec<Problem> {
    let Some(when) = spec.verify.as_ref().and_then(|verify| verify.when.as_deref()) else {
        return Vec::new();
    };
    let path = Path::default().member("spec").member("verify").member("when");
    let found = expression(when, &path, &types::proof_of(spec.target.as_ref(), schemas), &Type::Bool);
    found.into_iter().filter(|problem| problem.severity == Severity::Error).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mistake_in_verify_is_found_in_the_words_of_a_rule() {
        let said = |when: &str| {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"});
            let spec = json!({"serviceAccountName": "healer", "target": target, "verify": {"when": when}});
            let found = check(&serde_json::from_value(spec).unwrap(), &Schemas::built_in());
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (when, expected) in [
            ("rolloutComplete(target)", None),
            ("has(target.status.brandNew) || rolloutComplete(target)", None),
            (
                "rolloutComplte(target)",
                Some(
                    "spec.verify.when: unknown function \"rolloutComplte\"; did you mean \"rolloutComplete\"?",
                ),
            ),
            (
                "target.spec.replics > 1",
                Some("spec.verify.when: DeploymentSpec has no field \"replics\"; did you mean \"replicas\"?"),
            ),
            ("target.spec.replicas", Some("spec.verify.when: target.spec.replicas is int, not bool")),
        ] {
            assert_eq!(said(when), expected.into_iter().collect::<Vec<_>>(), "{when}");
        }
    }
}
