//! Kubernetes Events about a Rule and about what it did not do. What goes on and on is one Event that counts.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::seen::Edge;
use super::{Case, fire};
use crate::api::{
    ANNOTATION, Condition, ConditionType, GROUP, ObjectReference, Rule, RuleStatus, VERSION, condition,
};
use crate::cluster::events::Telling;
use crate::controller::context::Context;
use crate::decide::identity::{TargetKey, digest, readable};

/// Records on its target that an event leads to nothing, and why: one Event for each target and reason, or in a flood of
/// them one on the Rule.
pub async fn suppressed(context: &Context, case: Case<'_>, edge: &Edge, why: &str) {
    let rule = case.rule;
    let (name, target) = (rule.name_any(), TargetKey::from(&edge.target).hash());
    let telling = Telling {
        name: readable(&name, &digest(&["suppressed", &uid(rule), &target, why])[..16]),
        reason: "RuleFireSuppressed",
        warning: false,
        note: format!("Rule {name} did not fire: {why}"),
        regarding: &edge.target,
        related: None,
    };
    let regarding = reference(rule);
    let many = Telling {
        name: readable(&name, &digest(&["suppressed", &uid(rule)])[..16]),
        note: format!("Rule {name} did not fire, for more targets and reasons than are told of one by one"),
        regarding: &regarding,
        ..telling.clone()
    };
    // `kubectl describe` finds an Event by the UID of its object. In a flood that is asked for only so often.
    let found = match context.teller.is_news(&telling) {
        true => fire::live(context, case.account, &edge.target).await.ok().flatten(),
        false => None,
    };
    let telling = Telling { regarding: found.as_ref().unwrap_or(&edge.target), ..telling };
    context.teller.count(&telling, edge.time, &many);
}

/// Records on the Rule that it has become unusable, and why.
pub fn trouble(context: &Context, rule: &Rule, fresh: &RuleStatus, now: Timestamp) {
    let before = rule.status.as_ref().and_then(ready);
    let Some(after) = ready(fresh) else { return };
    if before.is_none_or(|before| (&before.status, &before.reason) != (&after.status, &after.reason)) {
        context.journal.ready(rule, after);
    }
    let Some(reason) = event_reason(&after.reason) else { return };
    if before.is_some_and(|before| (&before.reason, &before.message) == (&after.reason, &after.message)) {
        return;
    }
    let (name, regarding) = (rule.name_any(), reference(rule));
    let source = rule.annotations().get(ANNOTATION.source).map(|source| format!(" ({source})"));
    let telling = Telling {
        name: readable(&name, &digest(&["trouble", &uid(rule), reason, &after.message])[..16]),
        reason,
        warning: true,
        note: format!("{}{}", after.message, source.unwrap_or_default()),
        regarding: &regarding,
        related: None,
    };
    context.teller.count(&telling, now, &telling);
}

/// What a Rule that is not Ready for a reason is told of by; none for what passes or was asked for.
fn event_reason(ready: &str) -> Option<&'static str> {
    match ready {
        "InvalidExpression" => Some("RuleExpressionInvalid"),
        "ActionNotFound" => Some("RuleReferenceMissing"),
        "MissingPermissions" => Some("RulePermissionMissing"),
        "SourceUnavailable" => Some("SourceDisconnected"),
        _ => None,
    }
}

fn ready(status: &RuleStatus) -> Option<&Condition> {
    condition(&status.conditions, ConditionType::Ready)
}

fn uid(rule: &Rule) -> String {
    rule.metadata.uid.clone().unwrap_or_default()
}

fn reference(rule: &Rule) -> ObjectReference {
    ObjectReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "Rule".to_owned(),
        namespace: rule.namespace(),
        name: rule.name_any(),
        uid: rule.metadata.uid.clone(),
    }
}
