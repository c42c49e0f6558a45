//! Kubernetes Events about a Rule and about what it did not do. What goes on and on is one Event that counts.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::evaluator::Edge;
use crate::api::{
    ANNOTATION, Condition, ConditionType, GROUP, ObjectReference, Rule, RuleStatus, VERSION, condition,
};
use crate::cluster::events::{Telling, tell_again};
use crate::controller::context::Context;
use crate::decide::identity::{TargetKey, digest, readable};

/// Records on its target that an event leads to nothing, and why: one Event for each target and reason.
pub async fn suppressed(context: &Context, rule: &Rule, edge: &Edge, why: &str) {
    let (name, target) = (rule.name_any(), TargetKey::from(&edge.target).hash());
    let telling = Telling {
        name: readable(&name, &digest(&["suppressed", &uid(rule), &target, why])[..16]),
        reason: "RuleFireSuppressed",
        warning: false,
        note: format!("Rule {name} did not fire: {why}"),
        regarding: &edge.target,
        related: None,
    };
    say(context, &telling, edge.time).await;
}

/// Records on the Rule that it has become unusable, and why.
pub async fn trouble(context: &Context, rule: &Rule, fresh: &RuleStatus, now: Timestamp) {
    let before = rule.status.as_ref().and_then(ready);
    let Some(after) = ready(fresh) else { return };
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
    say(context, &telling, now).await;
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

async fn say(context: &Context, telling: &Telling<'_>, at: Timestamp) {
    if let Err(error) = tell_again(&context.home, telling, at).await {
        tracing::warn!(%error, "event not written");
    }
}
