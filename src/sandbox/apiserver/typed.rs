//! Whether an applied configuration is of its kind, before anything is made of it: the checks that the real server
//! makes when it reads one, in its words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fieldset::{Step, item_step, show_step};
use super::schema::{Schema, Shape};

/// Everything that is wrong with a configuration.
pub fn problems(schema: Option<Schema<'_>>, config: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(schema) = schema {
        check(schema, config, "", &mut problems);
    }
    problems
}

fn check(schema: Schema<'_>, value: &Value, path: &str, problems: &mut Vec<String>) {
    if value.is_null() || schema.is_int_or_string() {
        return;
    }
    let (fits, wanted) = match schema.kind() {
        "object" => (value.is_object(), "map"),
        "array" => (value.is_array(), "list"),
        "string" => (value.is_string(), "string"),
        "boolean" => (value.is_boolean(), "boolean"),
        "integer" | "number" => (value.is_number(), "numeric (int or float)"),
        _ => (true, ""),
    };
    if !fits {
        problems.push(format!("{path}: expected {wanted}, got {value}"));
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                let here = format!("{path}.{name}");
                match schema.field(name) {
                    Some(field) => check(field, child, &here, problems),
                    None if schema.keeps_unknown() => {}
                    None => problems.push(format!("{here}: field not declared in schema")),
                }
            }
        }
        Value::Array(items) => check_list(schema, items, path, problems),
        _ => {}
    }
}

fn check_list(schema: Schema<'_>, list: &[Value], path: &str, problems: &mut Vec<String>) {
    let Some(item_schema) = schema.items() else { return };
    let shape = schema.shape();
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let mut here = format!("{path}[{index}]");
        if matches!(shape, Shape::Keyed | Shape::Set) {
            let step = item_step(schema, shape, item);
            if step == Step::Key("{}".into()) {
                problems.push(format!(
                    "{path}: element {index}: associative list with keys has an element that omits all key fields {} \
                     (and doesn't have default values for any key fields)",
                    Value::from(schema.list_keys())
                ));
                continue;
            }
            here = format!("{path}{}", show_step(&step));
            if !seen.insert(step.clone()) {
                problems.push(format!("{path}: duplicate entries for key {}", show_step(&step)));
                continue;
            }
        }
        check(item_schema, item, &here, problems);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema;
    use super::*;

    #[test]
    fn what_is_not_of_the_kind_is_named() {
        let schema = schema::of_kind("", "v1", "Pod");
        let cases = [
            (json!({"spec": {"zzz": 1}}), ".spec.zzz: field not declared in schema"),
            (json!({"spec": {"hostname": 1}}), ".spec.hostname: expected string, got 1"),
            (
                json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
                ".spec.containers: duplicate entries for key [name=\"a\"]",
            ),
        ];
        for (config, problem) in cases {
            assert_eq!(problems(schema, &config), [problem]);
        }
        assert_eq!(
            problems(schema, &json!({"spec": {"hostname": null, "nodeSelector": {"a": "b"}}})),
            [""; 0]
        );
    }
}
