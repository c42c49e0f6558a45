//! Checks where an event leads that is about no object: the expressions of `target` over what is known of the event.

use serde_json::Value;

use super::{Known, expression, templates, types};
use crate::api::{RuleSpec, Target};
use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::{Scope, Type};

/// The fields and types of a Rule's `target`.
pub(super) fn check(spec: &RuleSpec, known: &Known<'_>) -> Vec<Problem> {
    let (scope, path) =
        (types::condition(spec, &known.schemas), Path::default().member("spec").member("target"));
    match &spec.target {
        Some(Target::Key(source)) => expression(source, &path.member("key"), &scope, &Type::String),
        Some(Target::Ref(object)) => {
            let (path, mut problems) = (path.member("ref"), Vec::new());
            for (field, text) in [("namespace", object.namespace.as_deref()), ("name", Some(&*object.name))] {
                if let Some(text) = text {
                    problems.extend(meant_as_expression(text, &path.member(field), &scope));
                    templates(&Value::from(text), &path.member(field), &scope, &mut problems);
                }
            }
            problems
        }
        Some(Target::Object | Target::Workload | Target::Owner(_)) | None => Vec::new(),
    }
}

/// Whether the target is only a name, so that no object of it can be read.
pub(super) fn is_key(spec: &RuleSpec) -> bool {
    match &spec.target {
        Some(target) => matches!(target, Target::Key(_)),
        None => spec.trigger.schedule.is_some(),
    }
}

/// A name that reads like an expression: `key` is one, so that the braces are easily forgotten.
fn meant_as_expression(text: &str, path: &Path, scope: &Scope) -> Option<Problem> {
    let (first, _) = text.split_once(['.', '['])?;
    scope.variables().any(|variable| variable == first).then(|| {
        Problem::warning(path.to_string(), format!("{text:?} is taken as a name"))
            .help(format!("write ${{{{ {text} }}}} for what the expression gives"))
    })
}
