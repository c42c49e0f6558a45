//! Operations that can never work: of an Action by itself, and on what a Rule leads it to, as far as the Rule's text says so.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::has_template;
use crate::api::{ActionSpec, KubernetesRunner, RuleSpec, Target};
use crate::decide::operation::{as_replicas, refuses_restart, refuses_scale};
use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::{Schemas, Type};

/// Why an Action can do nothing about the target of a Rule: of a kind whose fields nobody knows, that is only a doubt.
pub(super) fn unsuited(
    spec: &RuleSpec,
    action: &ActionSpec,
    path: &Path,
    schemas: &Schemas,
) -> Option<Problem> {
    let operation = action.kubernetes.as_ref()?;
    // Of a kind that is probably another one, that is said already.
    let (version, kind) = target(spec).filter(|(version, kind)| schemas.meant(version, kind).is_none())?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let restart = operation.restart.as_ref().and_then(|_| refuses_restart(group, kind));
    let scale = operation.scale.as_ref().and_then(|_| refuses_scale(group, kind));
    let message = restart.or(scale)?;
    Some(match schemas.of(version, kind) {
        Type::Object(_) => Problem::error(path.to_string(), message),
        _ => Problem::warning(path.to_string(), message),
    })
}

/// The `apiVersion` and kind of a Rule's target, if its text says them. What owns an object may be anything.
fn target(spec: &RuleSpec) -> Option<(&str, &str)> {
    match &spec.target {
        Some(Target::Owner(owner)) => Some((owner.api_version.as_str(), owner.kind.as_str())),
        Some(Target::Ref(object)) => Some((object.api_version.as_str(), object.kind.as_str())),
        Some(Target::Workload | Target::Key(_)) => None,
        default => {
            let resource = spec.trigger.resource.as_ref()?;
            // Without a word, the target of a Pod is its workload.
            let is_itself = default.is_some() || resource.kind != "Pod";
            is_itself.then_some((resource.api_version.as_str(), resource.kind.as_str()))
        }
    }
}

/// A number of replicas that is none. What a template gives is not known before.
pub(super) fn replicas(operation: &KubernetesRunner, path: &Path) -> Option<Problem> {
    let written = match &operation.scale.as_ref()?.replicas {
        IntOrString::Int(number) => json!(number),
        IntOrString::String(text) if has_template(text) => return None,
        IntOrString::String(text) => json!(text),
    };
    let path = path.member("scale").member("replicas").to_string();
    as_replicas(&written).err().map(|message| Problem::error(path, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn told(operation: &Value, trigger: &Value, target: &Value) -> Option<String> {
        let spec = json!({"serviceAccountName": "h", "trigger": trigger, "target": target, "ladder": []});
        let (spec, action) = (
            serde_json::from_value(spec).expect("a Rule"),
            serde_json::from_value(json!({"kubernetes": operation})).expect("an Action"),
        );
        let path = Path::parse("spec.ladder[0].run");
        let found = unsuited(&spec, &action, &path, &Schemas::built_in())?;
        assert_eq!(found.path, "spec.ladder[0].run");
        Some(format!("{:?} {}", found.severity, found.message))
    }

    fn of(version: &str, kind: &str) -> Value {
        json!({"resource": {"apiVersion": version, "kind": kind}})
    }

    #[test]
    fn an_operation_suits_the_kind_of_the_target() {
        let (restart, scale) = (json!({"restart": {}}), json!({"scale": {"replicas": 3}}));
        let default = Value::Null;
        let restarted = "restart wants a Deployment, StatefulSet or DaemonSet; the target is a";
        let scaled = "scale wants a Deployment, ReplicaSet, StatefulSet or ReplicationController, or a custom kind with \
                      spec.replicas; the target is a";
        let owner = json!({"owner": {"apiVersion": "batch/v1", "kind": "CronJob"}});
        let named = json!({"ref": {"apiVersion": "v1", "kind": "Node", "name": "a"}});
        for (trigger, target, kind) in [
            (of("v1", "ConfigMap"), &default, "ConfigMap"),
            (of("batch/v1", "Job"), &default, "Job"),
            (of("v1", "Pod"), &json!("object"), "Pod"),
            (of("v1", "Pod"), &owner, "CronJob"),
            (json!({"event": {}}), &named, "Node"),
        ] {
            assert_eq!(told(&restart, &trigger, target), Some(format!("Error {restarted} {kind}")));
            assert_eq!(told(&scale, &trigger, target), Some(format!("Error {scaled} {kind}")));
        }
        let rollout = of("argoproj.io/v1alpha1", "Rollout");
        assert_eq!(told(&restart, &rollout, &default), Some(format!("Warning {restarted} Rollout")));
        for (operation, trigger, target) in [
            (&restart, of("v1", "Pod"), &default),
            (&restart, of("v1", "ConfigMap"), &json!("workload")),
            (&restart, json!({"event": {"regardingKind": "Node"}}), &default),
            (&restart, of("apps/v1", "DaemonSet"), &default),
            (&scale, of("apps/v1", "ReplicaSet"), &default),
            (&scale, rollout, &default),
            (&json!({"annotate": {"values": {"a": "b"}}}), of("v1", "Node"), &default),
        ] {
            assert_eq!(told(operation, &trigger, target), None, "{operation} {trigger} {target}");
        }
    }

    #[test]
    fn replicas_that_are_written_are_a_number() {
        let told = |written: Value| {
            let operation = serde_json::from_value(json!({"scale": {"replicas": written}})).expect("one");
            replicas(&operation, &Path::parse("spec.kubernetes")).map(|found| found.to_string())
        };
        for (written, expected) in [
            (json!(-1), "-1"),
            (json!("three"), "\"three\""),
            (json!("-1"), "\"-1\""),
            (json!(200_000), "200000"),
        ] {
            let path = "spec.kubernetes.scale.replicas";
            let expected = format!("{path}: replicas {expected}: want a whole number from 0 to 100000");
            assert_eq!(told(written), Some(expected));
        }
        for written in [json!(0), json!("3"), json!("${{ inputs.n }}"), json!("1${{ inputs.n }}")] {
            assert_eq!(told(written), None);
        }
    }
}
