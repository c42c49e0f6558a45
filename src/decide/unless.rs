//! What speaks against acting now: a Rule's `unless`.

use super::keeping::unread;
use super::matching::expression_problem;
use super::problem::Problem;
use crate::api::{CapturedEvent, Unless};
use crate::expr::{Bindings, EvalErrorKind, Expression, Scope, Type};

/// A Rule's `unless`, compiled.
#[derive(Clone, Debug, Default)]
pub struct Objections(Vec<(Expression, String)>);

/// Something that speaks against acting now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Objection {
    /// What the Rule calls it.
    pub reason: String,
    /// Why that cannot be told: what is not known to be false is taken to be true.
    pub mistake: Option<String>,
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.mistake {
            None => f.write_str(&self.reason),
            Some(mistake) => write!(f, "{} ({mistake})", self.reason),
        }
    }
}

impl Objections {
    /// Compiles them; all that is wrong at once.
    pub fn compile(unless: &[Unless], scope: &Scope, problems: &mut Vec<Problem>) -> Self {
        let mut compiled = Vec::new();
        for (place, Unless { condition, reason }) in unless.iter().enumerate() {
            let found = Expression::compile(condition, scope);
            match found.and_then(|expression| expression.expect(&Type::Bool)) {
                Ok(expression) => compiled.push((expression, reason.clone())),
                Err(errors) => {
                    let path = format!("spec.unless[{place}].if");
                    problems.extend(errors.iter().map(|error| expression_problem(&path, error)));
                }
            }
        }
        Self(compiled)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter().map(|(expression, _)| expression)
    }

    /// Whether any reads a variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.0.iter().any(|(expression, _)| expression.variables().any(|read| read == variable))
    }

    /// The first that is raised, given what was recorded of the events that led to this together, if any. What reads a
    /// field that is not there is not: fields come and go. What reads one that was left out cannot be told.
    pub fn raised(&self, bindings: &Bindings, captured: &[CapturedEvent]) -> Option<Objection> {
        self.0.iter().find_map(|(expression, reason)| {
            if let Some(mistake) = unread(expression, captured) {
                return Some(Objection { reason: reason.clone(), mistake: Some(mistake) });
            }
            let mistake = match expression.matches(bindings) {
                Ok(false) => return None,
                Err(error) if error.kind == EvalErrorKind::Absent => return None,
                Ok(true) => None,
                Err(error) => Some(error.to_string()),
            };
            Some(Objection { reason: reason.clone(), mistake })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::capture::with_captured;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn compile(unless: &[(&str, &str)]) -> Result<Objections, Vec<Problem>> {
        let unless = unless.iter().map(|(condition, reason)| Unless {
            condition: (*condition).to_owned(),
            reason: (*reason).to_owned(),
        });
        let mut problems = Vec::new();
        let scope = Scope::of(["object", "target", "now"]);
        let compiled = Objections::compile(&unless.collect::<Vec<_>>(), &scope, &mut problems);
        if problems.is_empty() { Ok(compiled) } else { Err(problems) }
    }

    #[test]
    fn the_first_that_is_true_or_unknown_is_raised() {
        let unless = compile(&[
            ("target.metadata.labels.hold == 'yes'", "Held"),
            ("target.spec.replicas / 0 > 1", "Odd"),
            ("target.spec.paused", "Paused"),
        ]);
        let unless = unless.expect("compiles");
        assert!(unless.reads("target") && !unless.reads("object"));
        for (target, raised) in [
            (None, None),
            (Some(json!({"spec": {}})), None),
            (Some(json!({"spec": {"paused": true}})), Some("Paused")),
            (Some(json!({"spec": {"paused": true}, "metadata": {"labels": {"hold": "yes"}}})), Some("Held")),
            (Some(json!({"spec": {"replicas": 1}})), Some("Odd (")),
            (Some(json!({"spec": {"paused": 3}})), Some("Paused (")),
        ] {
            let bindings = Bindings::at(Timestamp::UNIX_EPOCH);
            let bindings = match &target {
                Some(target) => bindings.with("target", target.clone()),
                None => bindings,
            };
            let told = unless.raised(&bindings, &[]).map(|objection| objection.to_string());
            let fits = match (&told, raised) {
                (Some(told), Some(raised)) => told.starts_with(raised),
                (told, raised) => told.is_none() && raised.is_none(),
            };
            assert!(fits, "{target:?}: {told:?}");
        }
    }

    #[test]
    fn what_was_left_out_is_not_taken_for_absent() {
        let unless =
            [Unless { condition: "has(captured.push.data.draft)".to_owned(), reason: "Draft".to_owned() }];
        let unless = Objections::compile(&unless, &Scope::of(["captured"]), &mut Vec::new());
        let event = |left_out: &[&str]| -> CapturedEvent {
            let event = json!({"id": "1", "member": "push", "time": "2026-01-01T00:00:00Z", "data": {}, "leftOut": left_out});
            serde_json::from_value(event).expect("an event")
        };
        let raised = |captured: &[CapturedEvent]| {
            let bindings = with_captured(Bindings::at(Timestamp::UNIX_EPOCH), captured);
            unless.raised(&bindings, captured).map(|objection| objection.to_string())
        };
        assert_eq!(raised(&[event(&[])]), None);
        assert_eq!(raised(&[event(&["data.diff"])]), None, "it does not read that");
        let told = raised(&[event(&["data.draft"])]).expect("holds");
        assert!(told.starts_with("Draft (data.draft of the captured event \"push\" was left out"), "{told}");
    }

    #[test]
    fn mistakes_have_their_place() {
        let problems = compile(&[("true", "A"), ("targt.x", "B")]).expect_err("refused");
        assert_eq!(
            problems[0].to_string(),
            "spec.unless[1].if: unknown variable \"targt\"; did you mean \"target\"?"
        );
    }
}
