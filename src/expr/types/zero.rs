//! Counts that Kubernetes leaves out of a status while they are zero. A comparison that a zero should fulfil finds
//! nothing there, so that it fails just when it was meant to hold.

use super::super::schema::ObjectType;
use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};

/// Such counts, by the definition of the status. The schema alone does not say which they are; a test looks at what
/// else was recorded of them.
const LEFT_OUT: [(&str, &[&str]); 6] = [
    ("DaemonSetStatus:apps.v1", &["numberAvailable", "numberUnavailable", "updatedNumberScheduled"]),
    (
        "DeploymentStatus:apps.v1",
        &["availableReplicas", "readyReplicas", "replicas", "unavailableReplicas", "updatedReplicas"],
    ),
    ("HorizontalPodAutoscalerStatus:autoscaling.v2", &["currentReplicas"]),
    ("JobStatus:batch.v1", &["active", "failed", "succeeded"]),
    ("ReplicaSetStatus:apps.v1", &["availableReplicas", "fullyLabeledReplicas", "readyReplicas"]),
    ("StatefulSetStatus:apps.v1", &["currentReplicas", "readyReplicas", "updatedReplicas"]),
];

/// Whether a field of something is left out while it is zero.
pub(super) fn is_left_out(object: &ObjectType, field: &str) -> bool {
    LEFT_OUT.iter().any(|(definition, fields)| fields.contains(&field) && object.is(definition))
}

/// What a comparison compares with a whole number, and whether it is true of a zero.
pub(super) fn compared<'a>(operator: &str, [left, right]: [&'a IdedExpr; 2]) -> Option<(&'a IdedExpr, bool)> {
    let (read, one, other) = match (number(left), number(right)) {
        (None, Some(number)) => (left, 0, number),
        (Some(number), None) => (right, number, 0),
        _ => return None,
    };
    let holds = match operator {
        operators::EQUALS => one == other,
        operators::NOT_EQUALS => one != other,
        operators::LESS => one < other,
        operators::LESS_EQUALS => one <= other,
        operators::GREATER => one > other,
        operators::GREATER_EQUALS => one >= other,
        _ => return None,
    };
    Some((read, holds))
}

fn number(node: &IdedExpr) -> Option<i64> {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(*number.inner()),
        Expr::Literal(LiteralValue::UInt(number)) => i64::try_from(*number.inner()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{ExprError, Expression, Schemas, Scope};
    use crate::sandbox::openapi;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn read(text: &[u8]) -> Value {
        serde_json::from_slice(text).expect("JSON")
    }

    /// Of a count that is always written the schema has a default, and a pointer in Go may be to a zero. The generation
    /// that was observed counts from one on.
    #[test]
    fn the_counts_that_are_left_out_are_those_that_were_recorded_so() {
        let messages = read(&openapi::messages());
        let is_pointer = |message: &str, field: &str| {
            let fields = messages[message].as_array().expect("a message");
            fields.iter().any(|known| known[1] == field && known[4] == true)
        };
        let mut recorded = BTreeSet::new();
        for path in openapi::paths() {
            let document = read(&openapi::document(path).expect("recorded"));
            let schemas = document["components"]["schemas"].as_object().expect("schemas");
            let of_kubernetes =
                schemas.iter().filter_map(|(name, schema)| Some((name.strip_prefix("io.k8s.api.")?, schema)));
            for (name, schema) in of_kubernetes.filter(|(name, _)| name.ends_with("Status")) {
                let (version, object) = name.rsplit_once('.').expect("a version");
                let fields = schema["properties"].as_object().into_iter().flatten();
                let counts = fields.filter(|(_, of)| of["type"] == "integer" && of["default"].is_null());
                let counts = counts.filter(|(field, _)| *field != "observedGeneration");
                let left_out =
                    counts.filter(|(field, _)| !is_pointer(&format!("k8s.io.api.{name}"), field.as_str()));
                recorded.extend(left_out.map(|(field, _)| format!("{object}:{version} {field}")));
            }
        }
        let listed: BTreeSet<String> = LEFT_OUT
            .iter()
            .flat_map(|(definition, fields)| fields.iter().map(move |field| format!("{definition} {field}")))
            .collect();
        assert_eq!(listed, recorded);
    }

    /// What is doubted of an expression over a target of a kind, each with what to write instead.
    fn doubted(kind: &str, source: &str) -> Vec<(String, String)> {
        let version = if ["Job", "CronJob"].contains(&kind) { "batch/v1" } else { "apps/v1" };
        let scope = Scope::of(["target"]).with_type("target", Schemas::built_in().of(version, kind));
        let compiled = Expression::compile(source, &scope).expect(source);
        let read = |doubt: &ExprError| source[doubt.span.clone()].to_owned();
        let remedy = |doubt: &ExprError| doubt.suggestion.clone().expect("a remedy");
        compiled.doubts().iter().map(|doubt| (read(doubt), remedy(doubt))).collect()
    }

    #[test]
    fn a_comparison_of_which_a_zero_should_be_true_is_doubted() {
        for (kind, source) in [
            ("Deployment", "target.status.availableReplicas == 0"),
            ("Deployment", "0 == target.status.readyReplicas"),
            ("Deployment", "target.spec.replicas > 0 && target.status.updatedReplicas < 3"),
            ("StatefulSet", "target.status.readyReplicas <= 0 || target.spec.replicas == 0"),
            ("ReplicaSet", "1 > target.status.readyReplicas"),
            ("DaemonSet", "0 >= target.status.numberAvailable"),
            ("Job", "target.status.active == 0"),
            ("Job", "has(target.status) && target.status.succeeded < 1u"),
            ("Deployment", "!(target.status.availableReplicas > 0)"),
            ("Job", "target.status.active != 3"),
            // Of another field it says nothing.
            ("Job", "has(target.status.active) && target.status.failed == 0"),
        ] {
            let found = doubted(kind, source);
            let [(read, remedy)] = found.as_slice() else { panic!("{source}: {found:?}") };
            let field = read.strip_prefix("target.status.").expect(source);
            assert_eq!(*remedy, format!("target.status.?{field}.orValue(0)"), "{source}");
            let mended = doubted(kind, &source.replace(read.as_str(), remedy));
            assert!(mended.is_empty(), "{source}: {mended:?}");
        }
    }

    #[test]
    fn what_is_asked_for_or_written_is_not_doubted() {
        for (kind, source) in [
            ("Deployment", "target.status.availableReplicas == 1"),
            ("Deployment", "target.status.availableReplicas > 0 && target.status.unavailableReplicas != 0"),
            ("Deployment", "target.status.availableReplicas < 0"),
            ("Deployment", "target.status.availableReplicas < 3 && target.status.availableReplicas > 0"),
            ("Deployment", "target.status.availableReplicas < target.spec.replicas"),
            ("Deployment", "!(target.status.availableReplicas == 0)"),
            ("Deployment", "!has(target.status.availableReplicas) || target.status.availableReplicas == 0"),
            ("Deployment", "'replicas' in target.status && target.status.replicas == 0"),
            ("Deployment", "target.status.?availableReplicas.orValue(0) == 0"),
            ("Deployment", "dyn(target).status.availableReplicas == 0"),
            ("Deployment", "target.spec.replicas == 0"),
            ("StatefulSet", "target.status.availableReplicas == 0 && target.status.replicas == 0"),
            ("DaemonSet", "target.status.numberReady == 0"),
            ("Job", "target.status.ready == 0 && target.status.terminating == 0"),
            ("CronJob", "target.status.active.size() == 0"),
        ] {
            let found = doubted(kind, source);
            assert!(found.is_empty(), "{source} of {kind}: {found:?}");
        }
    }
}
