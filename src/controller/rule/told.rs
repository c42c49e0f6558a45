//! Kubernetes Events about a Rule and about what it did not do. What goes on and on is one Event that counts.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::held::{Begun, Hold, whole};
use super::seen::Edge;
use super::{Case, fire};
use crate::api::{
    ANNOTATION, Condition, ConditionType, GROUP, ObjectReference, Rate, Rule, RuleStatus, VERSION, condition,
};
use crate::cluster::events::Telling;
use crate::controller::context::Context;
use crate::decide::episode::{Held, RuleFacts};
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
    count(context, case, (telling, &edge.target), (edge.time, &edge.occurrence), many).await;
}

/// Counts what holds targets, for each process anew, and records what has begun to; of what a limit holds a person is told,
/// on the target.
pub async fn held(context: &Context, case: Case<'_>, begun: Vec<Begun>) {
    let facts = &case.compiled.facts;
    for Begun { hold: Hold { target, held, until }, since, is_shown } in begun {
        context.metrics.suppressed(held, &facts.namespace, &facts.name);
        if is_shown {
            continue;
        }
        context.journal.held(case.rule, &target, held, until);
        if let Some(limit) = limit_of(facts, held) {
            let until = until.map(|until| format!(" until {}", whole(until))).unwrap_or_default();
            limited(context, case, &target, (&format!("{limit}{until}"), since)).await;
        }
    }
}

/// The limits that may hold a target for a reason, in the words of the Rule; none if it is no limit.
fn limit_of(facts: &RuleFacts, held: Held) -> Option<String> {
    match held {
        Held::Cooldown => Some(format!("limits.cooldown {}", facts.cooldown)),
        Held::Rate => {
            let rate = |name: &str, rate: Option<Rate>| rate.map(|rate| format!("limits.{name} {rate}"));
            let rates = [rate("perTarget", facts.per_target), rate("perRule", facts.per_rule)];
            Some(rates.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        _ => None,
    }
}

/// Records on a target that matches that a limit holds it. In a flood one Event on the Rule counts.
async fn limited(context: &Context, case: Case<'_>, target: &ObjectReference, (why, at): (&str, Timestamp)) {
    let rule = case.rule;
    let (name, hash) = (rule.name_any(), TargetKey::from(target).hash());
    let telling = Telling {
        name: readable(&name, &digest(&["held", &uid(rule), &hash, why])[..16]),
        reason: "RuleFireHeld",
        warning: true,
        note: format!("Rule {name} does nothing about it, held by {why}"),
        regarding: target,
        related: None,
    };
    let regarding = reference(rule);
    let many = Telling {
        name: readable(&name, &digest(&["held", &uid(rule)])[..16]),
        note: format!(
            "Rule {name} does nothing about more targets than are told of one by one, held by limits"
        ),
        regarding: &regarding,
        ..telling.clone()
    };
    count(context, case, (telling, target), (at, &hash), many).await;
}

/// Counts an occasion about a target. `kubectl describe` finds an Event by the UID of its object; in a flood that is asked
/// for only so often.
async fn count(
    context: &Context,
    case: Case<'_>,
    (telling, target): (Telling<'_>, &ObjectReference),
    occasion: (Timestamp, &str),
    many: Telling<'_>,
) {
    let found = match context.teller.is_news(&telling) {
        true => fire::live(context, case.account, target).await.ok().flatten(),
        false => None,
    };
    let telling = Telling { regarding: found.as_ref().unwrap_or(target), ..telling };
    context.teller.count(&telling, occasion, &many);
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
    context.teller.count(&telling, (now, &after.message), &telling);
}

/// What a Rule that is not Ready for a reason is told of by; none for what passes or was asked for.
fn event_reason(ready: &str) -> Option<&'static str> {
    match ready {
        "InvalidExpression" => Some("RuleExpressionInvalid"),
        "ActionNotFound" | "WebhookNotFound" => Some("RuleReferenceMissing"),
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
