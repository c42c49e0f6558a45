//! The user's reference tells the truth: its examples are evaluated, and it names every function.

use super::{bindings, compile};
use crate::expr::{EvalErrorKind, functions};
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

const OPERATORS: &str = include_str!("../../../docs/reference/operators.md");

/// The criteria operators of `StackStorm`, without the second names of some.
const STACKSTORM: [&str; 24] = [
    "equals",
    "nequals",
    "iequals",
    "contains",
    "icontains",
    "ncontains",
    "incontains",
    "startswith",
    "istartswith",
    "endswith",
    "iendswith",
    "lessthan",
    "greaterthan",
    "timediff_lt",
    "timediff_gt",
    "inside",
    "ninside",
    "exists",
    "nexists",
    "matchwildcard",
    "regex",
    "iregex",
    "matchregex",
    "search",
];

/// A row: the operator, an expression, an object for which it is true and one for which it is not,
/// and what it is where the field is absent.
fn operators() -> Vec<[String; 5]> {
    let rows = OPERATORS.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.replace("\\|", "\u{1}"));
    let cells = cells.map(|row| row.split(" | ").map(|cell| cell.replace('\u{1}', "|")).collect::<Vec<_>>());
    let is_header = |cells: &[String]| cells.get(1).is_some_and(|cell| cell == "Expression");
    let tables = cells.scan(false, |evaluated, cells| {
        // The tables after the header say what is a field of a Rule.
        *evaluated = match cells.get(1).map(String::as_str) {
            _ if is_header(&cells) => true,
            Some("Rule") => false,
            _ => *evaluated,
        };
        Some((*evaluated && !is_header(&cells)).then_some(cells))
    });
    tables.flatten().filter(|cells| !cells[0].starts_with('-')).map(five).collect()
}

/// A row of an evaluated table has all of its cells, or it would be left out without a word.
fn five(cells: Vec<String>) -> [String; 5] {
    let cells: [String; 5] = cells.try_into().unwrap_or_else(|cells| panic!("five cells: {cells:?}"));
    assert!(cells[1].starts_with('`'), "an expression: {cells:?}");
    cells
}

#[test]
fn every_operator_of_other_rule_languages_has_an_equivalent_that_holds() {
    let rows = operators();
    for name in STACKSTORM {
        assert!(rows.iter().any(|row| row[0].starts_with(&format!("`{name}`"))), "{name} has no row");
    }
    for [operator, source, holds, fails, absent] in &rows {
        let [source, holds, fails] = [source, holds, fails].map(|cell| cell.trim_matches('`'));
        let expression = compile(source);
        let answer =
            |object: &str| expression.matches(&bindings(&serde_json::from_str(object).expect(object)));
        assert_eq!(answer(holds), Ok(true), "{operator}: {source} of {holds}");
        assert_eq!(answer(fails), Ok(false), "{operator}: {source} of {fails}");
        let without = match answer("{}") {
            Ok(answer) => answer.to_string(),
            Err(error) if error.kind == EvalErrorKind::Absent => "error".to_owned(),
            Err(error) => panic!("{operator}: {source}: {error}"),
        };
        assert_eq!(&without, absent, "{operator}: {source} without the field");
    }
    assert!(rows.len() > 65, "{} rows", rows.len());
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
