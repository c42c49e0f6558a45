//! Expressions as users write them, from source to value, with the texts of all errors.

mod clock;
mod docs;
mod errors;
mod fuzz;
mod language;
mod libraries;
mod limits;
mod objects;
mod predicates;
mod templates;
mod types;

use super::{Bindings, EvalError, ExprError, Expression, Scope};
use serde_json::{Value, json};

/// The time at which all tests evaluate.
const NOW: &str = "2026-03-01T12:00:00Z";

fn scope() -> Scope {
    Scope::of(["event", "object", "oldObject", "alert", "target", "inputs", "steps", "ladder", "now"])
}

fn bindings(object: &Value) -> Bindings {
    Bindings::at(NOW.parse().unwrap()).with("object", object.clone()).with("target", object.clone())
}

fn compile(source: &str) -> Expression {
    Expression::compile(source, &scope()).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

fn compile_errors(source: &str) -> Vec<ExprError> {
    Expression::compile(source, &scope()).err().unwrap_or_else(|| panic!("{source} compiles"))
}

fn evaluate(source: &str, object: &Value) -> Result<Value, EvalError> {
    compile(source).evaluate(&bindings(object))
}

/// An object with something of everything.
fn sample() -> Value {
    json!({
        "kind": "Deployment",
        "metadata": {"name": "web", "generation": 3, "labels": {"app": "web", "tier": "front"}},
        "spec": {"replicas": 3, "paused": null, "ratio": 0.5, "containers": [
            {"name": "app", "image": "web:1.2", "memory": "500Mi"},
            {"name": "proxy", "image": "envoy:9", "memory": "64Mi"},
        ]},
        "status": {"startTime": "2026-03-01T11:58:30Z"},
    })
}
