//! Rules about alerts that can never match: one is about those that fire, or about those that are resolved.

use serde_json::Value;

use crate::api::{AlertPhase, RuleSpec};
use crate::decide::matching::ALERT_VARIABLES;
use crate::decide::problem::Problem;
use crate::expr::{Conjunct, Expression, Scope};

/// That a Rule's condition asks for the state in which it is not asked.
pub(super) fn check(spec: &RuleSpec) -> Option<Problem> {
    let (status, other) = match spec.trigger.alert.as_ref()?.state {
        AlertPhase::Firing => ("firing", "Resolved"),
        AlertPhase::Resolved => ("resolved", "Firing"),
        AlertPhase::Unknown => return None,
    };
    let when = Expression::compile(spec.when.as_deref()?, &Scope::of(ALERT_VARIABLES)).ok()?;
    let is_never = |conjunct: &Conjunct| {
        let path: Vec<&str> = conjunct.path.iter().map(String::as_str).collect();
        let value = match path.as_slice() {
            ["alert", "status"] | ["event", "data", "status"] => status.to_owned(),
            ["event", "type"] => format!("alert.{status}"),
            _ => return false,
        };
        !conjunct.allows(&Value::String(value))
    };
    let message = format!("it never matches: where this Rule acts, the status of an alert is {status:?}");
    let problem = || Problem::warning("spec.when", message).help(format!("use trigger.alert.state: {other}"));
    when.conjuncts().iter().any(is_never).then(problem)
}
