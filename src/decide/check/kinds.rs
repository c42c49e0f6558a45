//! Kinds that are not there, as far as can be said: not all kinds are known, but those that differ in little from one.

use crate::api::{RuleSpec, Target};
use crate::decide::problem::Problem;
use crate::expr::Schemas;

/// The kinds of a Rule that probably mean others.
pub(super) fn check(spec: &RuleSpec, schemas: &Schemas) -> Vec<Problem> {
    let trigger = spec.trigger.resource.as_ref();
    let trigger =
        trigger.map(|resource| ("spec.trigger.resource.kind", &resource.api_version, &resource.kind));
    let target = match &spec.target {
        Some(Target::Owner(owner)) => Some(("spec.target.owner.kind", &owner.api_version, &owner.kind)),
        Some(Target::Ref(object)) => Some(("spec.target.ref.kind", &object.api_version, &object.kind)),
        _ => None,
    };
    let named = trigger.into_iter().chain(target);
    let problem = |(path, version, kind): (&str, &String, &String)| {
        let (version_meant, kind_meant) = schemas.meant(version, kind)?;
        let message = format!("no kind {kind:?} of {version} is known");
        let help = match version_meant == version {
            true => format!("did you mean {kind_meant:?}?"),
            false => format!("did you mean apiVersion {version_meant:?}?"),
        };
        Some(Problem::warning(path, message).help(help))
    };
    named.filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_that_differs_in_little_is_asked_about() {
        for (version, kind, help) in [
            ("v1", "Pod", None),
            ("v1", "pod", Some("did you mean \"Pod\"?")),
            ("v1", "Pods", Some("did you mean \"Pod\"?")),
            ("apps/v1", "Deploymnet", Some("did you mean \"Deployment\"?")),
            ("v1", "Deployment", Some("did you mean apiVersion \"apps/v1\"?")),
            ("v1", "ReplicationController", None),
            ("example.com/v1", "Pods", None),
            ("example.com/v1", "Deployment", None),
        ] {
            let spec: RuleSpec = serde_json::from_value(json!({
                "serviceAccountName": "healer", "ladder": [],
                "trigger": {"resource": {"apiVersion": version, "kind": kind}},
                "target": {"ref": {"apiVersion": version, "kind": kind, "name": "web"}},
            }))
            .expect("a Rule");
            let found: Vec<_> =
                check(&spec, &Schemas::built_in()).into_iter().filter_map(|p| p.help).collect();
            let expected: Vec<_> = help.into_iter().flat_map(|help| [help, help]).collect();
            assert_eq!(found, expected, "{version} {kind}");
        }
    }
}
