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
        let help = match (version_meant == version, kind_meant == kind) {
            (true, _) => format!("did you mean {kind_meant:?}?"),
            (false, true) => format!("did you mean apiVersion {version_meant:?}?"),
            (false, false) => format!("did you mean {kind_meant:?} of apiVersion {version_meant:?}?"),
        };
        Some(Problem::warning(path, message).help(help))
    };
    named.filter_map(problem).chain(regarding(spec, schemas)).collect()
}

/// The kind that Events are to regard, of which they say the name as it is written in manifests.
fn regarding(spec: &RuleSpec, schemas: &Schemas) -> Option<Problem> {
    let kind = spec.trigger.event.as_ref()?.regarding_kind.as_deref()?;
    let meant = schemas.meant_by_name(kind)?;
    let problem = Problem::warning("spec.trigger.event.regardingKind", format!("no kind {kind:?} is known"));
    Some(problem.help(format!("did you mean {meant:?}?")))
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
            ("apps/v1", "Deploy", Some("did you mean \"Deployment\"?")),
            ("apps/v1beta1", "Deployment", Some("did you mean apiVersion \"apps/v1\"?")),
            ("apps/v1beta1", "Deploy", Some("did you mean \"Deployment\" of apiVersion \"apps/v1\"?")),
            ("v1beta1", "Pod", Some("did you mean apiVersion \"v1\"?")),
            ("storage.k8s.io/v1beta1", "VolumeAttributesClass", None),
            ("v1", "Re", None),
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

    #[test]
    fn a_kind_that_events_regard_is_written_as_in_manifests() {
        for (kind, help) in [
            ("pod", Some("did you mean \"Pod\"?")),
            ("Pods", Some("did you mean \"Pod\"?")),
            ("deployment", Some("did you mean \"Deployment\"?")),
            ("Pod", None),
            ("Rollout", None),
        ] {
            let spec: RuleSpec = serde_json::from_value(json!({
                "serviceAccountName": "healer", "ladder": [],
                "trigger": {"event": {"regardingKind": kind}},
            }))
            .expect("a Rule");
            let found = check(&spec, &Schemas::built_in());
            let found: Vec<_> = found.iter().filter_map(|problem| problem.help.as_deref()).collect();
            assert_eq!(found, help.into_iter().collect::<Vec<_>>(), "{kind}");
        }
    }
}
