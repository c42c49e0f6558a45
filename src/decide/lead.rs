//! Where an event that a Webhook received leads with a rule: to a target, nowhere, or that cannot be said.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::interest::wants;
use super::matching::{CompiledRule, received};
use crate::api::{AcceptedEvent, ObjectReference};
use crate::expr::EvalErrorKind;

/// Where an event leads with a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Lead {
    /// To a target.
    To(ObjectReference),
    /// Nowhere: it does not match.
    Nowhere(String),
    /// That cannot be said.
    Unknown(String),
}

/// Whether an event matches a rule.
///
/// # Errors
/// Where it leads if it does not, or if that cannot be said.
pub fn matches(rule: &CompiledRule, event: &AcceptedEvent, now: Timestamp) -> Result<(), Lead> {
    if !wants(&rule.spec.trigger, &event.event, event.alert.as_ref()) {
        return Err(Lead::Nowhere("the Rule names others by now".to_owned()));
    }
    match rule.matches_received(&event.event, now) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Lead::Nowhere(String::new())),
        Err(error) if error.kind == EvalErrorKind::Absent => Err(Lead::Nowhere(error.to_string())),
        Err(error) => Err(Lead::Unknown(error.to_string())),
    }
}

/// Where an event leads with a rule; `namespaced` says whether the kind of the rule's targets has namespaces.
pub fn lead(rule: &CompiledRule, event: &AcceptedEvent, namespaced: bool, now: Timestamp) -> Lead {
    if let Err(otherwise) = matches(rule, event, now) {
        return otherwise;
    }
    let Some(aim) = &rule.aim else { return Lead::Unknown("the Rule has no target".to_owned()) };
    let own = &rule.facts.namespace;
    match aim.at(&received(&json!(event.event), &rule.spec.trigger, now), own) {
        Err(problem) => Lead::Unknown(problem),
        Ok(target) if !namespaced => Lead::To(ObjectReference { namespace: None, ..target }),
        Ok(target) => match &target.namespace {
            Some(other) if other != own => Lead::Nowhere(format!("its target is in namespace {other}")),
            _ => Lead::To(ObjectReference { namespace: Some(own.clone()), ..target }),
        },
    }
}
