//! What is wrong with a Rule or an Action beyond its schema: expressions, references, parameters.
//!
//! The same checks serve `fother validate`, a Pack's revision and the conditions of a Rule in the cluster; they
//! differ only in what is known of the Actions around it.

mod action;
mod aim;
mod alerts;
mod changes;
mod execution;
mod follows;
mod foreign;
mod growing;
mod kinds;
mod lifecycle;
mod limits;
mod operations;
mod rule;
mod types;
mod webhook;

use std::collections::BTreeMap;

use serde_json::Value;

use super::matching::expression_problem;
use super::path::Path;
use super::problem::{Problem, Severity};
use crate::api::{ActionSpec, WebhookSpec};
use crate::expr::{Expression, Schemas, Scope, TemplateTree, TreeError, Type, closest};

pub use action::check as action;
pub use execution::check as execution;
pub use follows::check as follows;
pub use rule::check as rule;
pub use types::api_versions;
pub use webhook::check as webhook;

/// What is known of the Actions that a Rule may name.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// The namespace, if it is known.
    pub namespace: Option<&'a str>,
    /// By name; none for one that exists but cannot be read here.
    pub actions: BTreeMap<&'a str, Option<&'a ActionSpec>>,
    /// Webhooks by name; none for one that exists but cannot be read here.
    pub webhooks: BTreeMap<&'a str, Option<&'a WebhookSpec>>,
    /// Whether there may be others: a missing one then is only a warning.
    pub partial: bool,
    /// The fields of objects. None at all means that nothing is said about them.
    pub schemas: Schemas,
}

impl Known<'_> {
    /// Why a rung cannot run `name`, if it cannot.
    fn missing(&self, path: &Path, name: &str) -> Option<Problem> {
        if name.contains('/') {
            let namespace =
                self.namespace.map_or("their own namespace".to_owned(), |name| format!("{name:?}"));
            return Some(Problem::error(
                path.to_string(),
                format!("{name:?}: refs must stay in {namespace}"),
            ));
        }
        if self.actions.contains_key(name) {
            return None;
        }
        let place =
            self.namespace.map(|namespace| format!(" in namespace {namespace:?}")).unwrap_or_default();
        let severity = if self.partial { Severity::Warning } else { Severity::Error };
        let help = closest(name, self.actions.keys().copied()).map(|name| format!("did you mean {name:?}?"));
        let problem = Problem::error(path.to_string(), format!("Action {name:?} not found{place}"));
        Some(Problem { severity, help, ..problem })
    }
}

/// What is wrong with one expression that should be of a type; each mistake has its place in it.
fn expression(source: &str, path: &Path, scope: &Scope, wanted: &Type) -> Vec<Problem> {
    match Expression::compile(source, scope).and_then(|expression| expression.expect(wanted)) {
        Ok(expression) => expression
            .doubts()
            .iter()
            .map(|doubt| doubtful(expression_problem(&path.to_string(), doubt)))
            .collect(),
        Err(errors) => errors.iter().map(|error| expression_problem(&path.to_string(), error)).collect(),
    }
}

/// What may well work: a field that is asked for before it is read may be one of another version of the kind.
fn doubtful(problem: Problem) -> Problem {
    Problem { severity: Severity::Warning, ..problem }
}

/// Compiles all templates of a value.
fn templates(value: &Value, path: &Path, scope: &Scope, problems: &mut Vec<Problem>) -> Option<TemplateTree> {
    let at = |error: &TreeError| {
        expression_problem(&path.join_pointer(value, &error.path).to_string(), &error.error)
    };
    match TemplateTree::compile(value, scope) {
        Ok(tree) => {
            problems.extend(tree.doubts().iter().map(|doubt| doubtful(at(doubt))));
            problems.extend(foreign::problems(value, path, scope));
            Some(tree)
        }
        Err(errors) => {
            problems.extend(errors.iter().map(at));
            None
        }
    }
}

/// Whether a string has a template in it.
fn has_template(text: &str) -> bool {
    text.contains("${{")
}
