//! Structural validation of custom resources against their schema, in the real server's words. Every
//! complaint is collected, so that a person mends an object in one go.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::Cause;
use super::schema::{Schema, Shape};

/// Checks a value and everything below it, and then whether the items of lists are distinct.
pub fn validate(schema: Schema<'_>, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    check(schema, value, path, causes);
    check_distinct(schema, value, path, causes);
}

fn check(schema: Schema<'_>, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && (schema.flag("nullable") || schema.kind().is_empty()) {
        return;
    }
    let fits = check_type(schema, value, path, causes);
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        causes.push(Cause::unsupported(&shown(path), value, allowed));
    }
    if !fits {
        return;
    }
    check_combinations(schema, value, path, causes);
    match value {
        Value::String(text) => check_string(schema, text, path, causes),
        Value::Number(_) => check_number(schema, value, path, causes),
        Value::Array(items) => check_list(schema, items, path, causes),
        Value::Object(map) => {
            check_properties_count(schema, map.len(), path, causes);
            for (name, child) in map {
                let is_metadata = path.is_empty() && name == "metadata";
                if let Some(field) = schema.field(name).filter(|_| !is_metadata) {
                    check(field, child, &join(path, name), causes);
                }
            }
            for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                let name = required.as_str().unwrap_or_default();
                if !map.contains_key(name) {
                    causes.push(Cause::required(&join(path, name), ""));
                }
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn check_type(schema: Schema<'_>, value: &Value, path: &str, causes: &mut Vec<Cause>) -> bool {
    let is_whole =
        |value: &Value| value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0);
    let fits = match schema.kind() {
        _ if schema.is_int_or_string() => value.is_string() || value.is_i64(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_whole(value),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        let kind = if schema.is_int_or_string() { "integer,string" } else { schema.kind() };
        let given = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let path = shown(path);
        let detail = format!("{path} in body must be of type {kind}: \"{given}\"");
        causes.push(Cause::wrong_type(&path, value, &detail));
    }
    fits
}

/// `allOf`, `anyOf`, `oneOf` and `not`, which in a structural schema only narrow values.
fn check_combinations(schema: Schema<'_>, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let passes = |node: &Value| {
        let mut found = Vec::new();
        check(Schema::plain(node), value, path, &mut found);
        found.is_empty()
    };
    let branches = |keyword: &str| schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice);
    let path = shown(path);
    // The real server says only in words where it is.
    let complain = |detail: &str| Cause::invalid("<nil>", &"".into(), &format!("{path:?} {detail}"));
    if branches("allOf").is_some_and(|all| !all.iter().all(passes)) {
        causes.push(complain("must validate all the schemas (allOf)"));
    }
    if branches("anyOf").is_some_and(|any| !any.iter().any(passes)) {
        causes.push(complain("must validate at least one schema (anyOf)"));
    }
    let one_of = branches("oneOf").map(|one| one.iter().filter(|node| passes(node)).count());
    if let Some(count) = one_of.filter(|count| *count != 1) {
        let found = match count {
            0 => "none valid".to_owned(),
            several => format!("{several} valid alternatives"),
        };
        causes.push(complain(&format!("must validate one and only one schema (oneOf). Found {found}")));
    }
    if schema.get("not").is_some_and(passes) {
        causes.push(complain("must not validate the schema (not)"));
    }
}

fn bound(schema: Schema<'_>, keyword: &str) -> Option<u64> {
    schema.get(keyword).and_then(Value::as_u64)
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn check_string(schema: Schema<'_>, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let (path, value) = (shown(path), Value::from(text));
    let count = length(text.chars().count());
    if let Some(max) = bound(schema, "maxLength").filter(|max| count > *max) {
        causes.push(Cause::too_long(&path, max));
    }
    if let Some(min) = bound(schema, "minLength").filter(|min| count < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        causes.push(Cause::invalid(&path, &value, &detail));
        // One complaint about a text is enough.
        return;
    }
    if let Some(pattern) = schema.text("pattern")
        && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        let detail = format!("{path} in body should match '{pattern}'");
        causes.push(Cause::invalid(&path, &value, &detail));
    }
    let valid = match schema.text("format") {
        Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
        Some("date") => text.parse::<jiff::civil::Date>().is_ok(),
        _ => true,
    };
    if !valid {
        let format = schema.text("format").unwrap_or_default();
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        causes.push(Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(&path, &value, &detail) });
    }
}

fn check_number(schema: Schema<'_>, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path = shown(path);
    let number = value.as_f64().unwrap_or_default();
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let mut complain = |detail: String| {
        causes.push(Cause::invalid(&path, value, &format!("{path} in body should be {detail}")));
    };
    if let Some(factor) = limit("multipleOf").filter(|factor| number % factor != 0.0) {
        complain(format!("a multiple of {factor}"));
    }
    if let Some(minimum) = limit("minimum") {
        if schema.flag("exclusiveMinimum") && number <= minimum {
            complain(format!("greater than {minimum}"));
        } else if number < minimum {
            complain(format!("greater than or equal to {minimum}"));
        }
    }
    if let Some(maximum) = limit("maximum") {
        if schema.flag("exclusiveMaximum") && number >= maximum {
            complain(format!("less than {maximum}"));
        } else if number > maximum {
            complain(format!("less than or equal to {maximum}"));
        }
    }
}

fn check_list(schema: Schema<'_>, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let here = shown(path);
    let count = length(items.len());
    if let Some(max) = bound(schema, "maxItems").filter(|max| count > *max) {
        causes.push(Cause::too_many(&here, items.len(), max));
    }
    if let Some(min) = bound(schema, "minItems").filter(|min| count < *min) {
        let detail = format!("{here} in body should have at least {min} items");
        causes.push(Cause::invalid(&here, &count.into(), &detail));
    }
    if let Some(schema) = schema.items() {
        for (index, item) in items.iter().enumerate() {
            check(schema, item, &format!("{path}[{index}]"), causes);
        }
    }
}

fn check_distinct(schema: Schema<'_>, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                if let Some(field) = schema.field(name) {
                    check_distinct(field, child, &join(path, name), causes);
                }
            }
        }
        Value::Array(items) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let place = format!("{path}[{index}]");
                if let Some(identity) = identity(schema, item)
                    && !seen.insert(identity.to_string())
                {
                    causes.push(Cause::duplicate(&place, &identity));
                }
                if let Some(schema) = schema.items() {
                    check_distinct(schema, item, &place, causes);
                }
            }
        }
        _ => {}
    }
}

/// What makes an item of a list distinct, where the list's type says so.
fn identity(schema: Schema<'_>, item: &Value) -> Option<Value> {
    match schema.shape() {
        Shape::Keyed => {
            let keys = schema.list_keys();
            Some(Value::Object(keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect()))
        }
        Shape::Set => Some(item.clone()),
        _ => None,
    }
}

fn check_properties_count(schema: Schema<'_>, count: usize, path: &str, causes: &mut Vec<Cause>) {
    let here = shown(path);
    if let Some(max) = bound(schema, "maxProperties").filter(|max| length(count) > *max) {
        causes.push(Cause::too_many(&here, count, max));
    }
    if let Some(min) = bound(schema, "minProperties").filter(|min| length(count) < *min) {
        let detail = format!("{here} in body should have at least {min} properties");
        causes.push(Cause::invalid(&here, &count.into(), &detail));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_keyword_complains() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {
        "type": "object", "required": ["must"], "properties": {
            "must": {"type": "string"},
            "n": {"type": "integer", "minimum": 1, "maximum": 3},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "text": {"type": "string", "maxLength": 3, "pattern": "^a"},
            "port": {"x-kubernetes-int-or-string": true},
            "list": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "one": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                "x-kubernetes-preserve-unknown-fields": true},
        }}}});
        let cases = [
            (json!({"must": "x", "n": 2, "mode": "A", "text": "abc", "port": "http"}), vec![]),
            (json!({}), vec!["spec.must: Required value"]),
            (
                json!({"must": 1}),
                vec![
                    "spec.must: Invalid value: \"integer\": spec.must in body must be of type string: \"integer\"",
                ],
            ),
            (
                json!({"must": "x", "n": 4}),
                vec!["spec.n: Invalid value: 4: spec.n in body should be less than or equal to 3"],
            ),
            (
                json!({"must": "x", "mode": "C"}),
                vec!["spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\""],
            ),
            (
                json!({"must": "x", "text": "long"}),
                vec![
                    "spec.text: Too long: may not be more than 3 bytes",
                    "spec.text: Invalid value: \"long\": spec.text in body should match '^a'",
                ],
            ),
            (
                json!({"must": "x", "list": [{"name": "a"}, {"name": "a"}]}),
                vec!["spec.list[1]: Duplicate value: {\"name\":\"a\"}"],
            ),
            (
                json!({"must": "x", "one": {"a": 1, "b": 1}}),
                vec![
                    "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
                ],
            ),
        ];
        for (spec, expected) in cases {
            let mut found = Vec::new();
            validate(Schema::custom(&schema), &json!({"metadata": {}, "spec": spec}), "", &mut found);
            let complaints: Vec<String> =
                found.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
            assert_eq!(complaints, expected);
        }
    }
}
