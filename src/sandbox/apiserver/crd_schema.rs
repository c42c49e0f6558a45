//! Whether the schema of a CustomResourceDefinition is structural: what the real server asks of it before it serves
//! a kind, as far as this API relies on it.

use serde_json::Value;

use super::error::Cause;
use super::rules;
use super::schema::Schema;
use super::validate;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Checks a node and everything below it.
pub fn check(node: &Value, path: &str, causes: &mut Vec<Cause>) {
    check_type(node, path, causes);
    check_list(node, path, causes);
    check_default(node, path, causes);
    if let Some(pattern) = node["pattern"].as_str()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(&format!("{path}.pattern"), &pattern.into(), &detail));
    }
    for (index, rule) in node["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        if rule["optionalOldSelf"] == true {
            let place = format!("{path}.x-kubernetes-validations[{index}].optionalOldSelf");
            causes.push(Cause::forbidden(&place, "this API knows no rules with an optional oldSelf"));
        }
        for field in ["rule", "messageExpression"] {
            if let Some(problem) = rule[field].as_str().and_then(rules::problem) {
                let place = format!("{path}.x-kubernetes-validations[{index}].{field}");
                causes.push(Cause::invalid(&place, rule, &format!("compilation failed: {problem}")));
            }
        }
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        check(child, &format!("{path}.properties[{name}]"), causes);
    }
    for field in ["items", "additionalProperties"] {
        if node[field].is_object() {
            check(&node[field], &format!("{path}.{field}"), causes);
        }
    }
}

fn check_type(node: &Value, path: &str, causes: &mut Vec<Cause>) {
    let is_free =
        node["x-kubernetes-preserve-unknown-fields"] == true || node["x-kubernetes-int-or-string"] == true;
    match node["type"].as_str().unwrap_or_default() {
        "" if is_free => {}
        "" => {
            let part = if path.ends_with(".items") { "array items" } else { "object fields" };
            let detail = format!("must not be empty for specified {part}");
            causes.push(Cause::required(&format!("{path}.type"), &detail));
        }
        kind if !TYPES.contains(&kind) => {
            let allowed = TYPES.map(Value::from);
            causes.push(Cause::unsupported(&format!("{path}.type"), &kind.into(), &allowed));
        }
        _ => {}
    }
    if node["properties"].is_object() && node["additionalProperties"].is_object() {
        let detail = "additionalProperties and properties are mutual exclusive";
        causes.push(Cause::forbidden(&format!("{path}.additionalProperties"), detail));
    }
}

fn check_list(node: &Value, path: &str, causes: &mut Vec<Cause>) {
    if node["type"] == "array" && !node["items"].is_object() {
        causes.push(Cause::required(&format!("{path}.items"), "must be specified"));
    }
    if node["x-kubernetes-list-type"] != "map" {
        return;
    }
    let keys: Vec<&str> = node["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let items = &node["items"];
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        causes.push(Cause::required(&format!("{path}.x-kubernetes-list-map-keys"), detail));
    }
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(Cause::invalid(&format!("{path}.items.type"), &items["type"], detail));
    }
    for key in keys {
        let is_required = items["required"].as_array().is_some_and(|all| all.iter().any(|name| name == key));
        if !is_required && items["properties"][key].get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            causes.push(Cause::required(&format!("{path}.items.properties[{key}].default"), detail));
        }
    }
}

/// A default is an object's content like any other.
fn check_default(node: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(default) = node.get("default").filter(|default| !default.is_null()) else { return };
    let mut found = Vec::new();
    validate::validate(Schema::plain(node), default, "", &mut found);
    causes.extend(found.into_iter().map(|cause| {
        let below = if cause.field == "<nil>" { String::new() } else { format!(".{}", cause.field) };
        let message = cause.message.replace("<nil> in body", " in body");
        Cause { field: format!("{path}.default{below}"), message, ..cause }
    }));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_structural_is_refused() {
        let cases = [
            (json!({"type": "object", "properties": {"a": {"type": "string"}}}), None),
            (json!({"type": "object", "properties": {"a": {}}}), Some("s.properties[a].type")),
            (json!({"type": "array"}), Some("s.items")),
            (json!({"type": "string", "default": 1}), Some("s.default")),
            (json!({"type": "string", "pattern": "("}), Some("s.pattern")),
            (
                json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.nonesuch("}]}),
                Some("s.x-kubernetes-validations[0].rule"),
            ),
        ];
        for (schema, field) in cases {
            let mut causes = Vec::new();
            check(&schema, "s", &mut causes);
            assert_eq!(causes.first().map(|cause| cause.field.as_str()), field, "{schema}");
        }
    }
}
