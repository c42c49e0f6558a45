//! The user's reference tells the truth: its examples are evaluated, and it names every function.

use super::{bindings, compile};
use crate::expr::functions;
use serde_json::Value;

const REFERENCE: &str = include_str!("../../../docs/reference/expressions.md");

/// The `object` of the reference.
fn object() -> Value {
    let (_, rest) = REFERENCE.split_once("```json\n").unwrap();
    let (object, _) = rest.split_once("```").unwrap();
    serde_json::from_str(object).unwrap()
}

/// The rows of its tables that are an expression and its value.
fn examples() -> Vec<(String, Value)> {
    let rows = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |")?.split_once("` | `"));
    let rows = rows.filter(|(source, _)| !source.contains('`'));
    rows.map(|(source, value)| (source.replace("\\|", "|"), serde_json::from_str(value).expect(value)))
        .collect()
}

#[test]
fn the_examples_of_the_reference_hold() {
    let values = bindings(&object());
    let examples = examples();
    assert!(examples.len() > 100, "{} examples", examples.len());
    for (source, expected) in examples {
        assert_eq!(compile(&source).evaluate(&values), Ok(expected), "{source}");
    }
}

#[test]
fn the_reference_names_every_function() {
    for name in functions::names() {
        assert!(
            REFERENCE.contains(&format!("{name}(")),
            "{name} is missing in docs/reference/expressions.md"
        );
    }
}
