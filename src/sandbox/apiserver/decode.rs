//! From a request's body to an object of the kind: wrong types are refused, unknown fields reported and
//! dropped, nulls dropped and defaults of a custom resource's schema filled in.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};
use super::query::FieldValidation;
use super::registry::{Resource, split_api_version};
use super::schema::{self, Schema};

/// Brings an object into the form of its kind. Returns warnings for the caller's eyes.
pub fn decode(
    resource: &Resource,
    object: &mut Value,
    validation: FieldValidation,
) -> ApiResult<Vec<String>> {
    check_identity(resource, object)?;
    let schema = schema::of(resource);
    if let (Some(schema), None) = (schema, &resource.custom) {
        check_types(schema, object, "", &resource.kind)
            .map_err(|complaint| unhandled(resource, &resource.version, &complaint))?;
        drop_empty(schema, object);
    }
    drop_empty_metadata(&mut object["metadata"]);
    let Some(schema) = schema else { return Ok(Vec::new()) };
    let mut unknown = Vec::new();
    prune(schema, object, "", &mut unknown);
    if resource.custom.is_some() {
        apply_defaults(schema, object);
    }
    let complaints: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    match validation {
        FieldValidation::Strict if !complaints.is_empty() => {
            let text = format!("strict decoding error: {}", complaints.join(", "));
            Err(unhandled(resource, &resource.version, &text))
        }
        FieldValidation::Warn => Ok(complaints),
        _ => Ok(Vec::new()),
    }
}

/// A body of the kind that cannot be read as one.
fn unhandled(resource: &Resource, version: &str, complaint: &str) -> ApiError {
    let kind = &resource.kind;
    ApiError::bad_request(format!("{kind} in version {version:?}{HANDLED}{kind}: {complaint}"))
}

const HANDLED: &str = " cannot be handled as a ";

/// The complaint alone, for a patch, which is not said to be of a kind.
pub fn complaint(error: &ApiError) -> &str {
    let rest = error.message.split_once(HANDLED).map_or(error.message.as_str(), |(_, rest)| rest);
    rest.split_once(": ").map_or(rest, |(_, complaint)| complaint)
}

/// The object's own apiVersion and kind must be the resource's. Built-in kinds may leave them out.
fn check_identity(resource: &Resource, object: &mut Value) -> ApiResult<()> {
    let Some(map) = object.as_object_mut() else {
        let message = format!("the object provided is unrecognized (must be of type {})", resource.kind);
        return Err(ApiError::bad_request(message));
    };
    let text = |map: &Map<String, Value>, field: &str| {
        map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (api_version, kind) = (text(map, "apiVersion"), text(map, "kind"));
    if resource.custom.is_some() {
        check_custom_identity(resource, &api_version, &kind)?;
    } else {
        check_built_in_identity(resource, &api_version, &kind)?;
    }
    map.insert("apiVersion".into(), resource.api_version().into());
    map.insert("kind".into(), resource.kind.clone().into());
    if !map.get("metadata").is_some_and(Value::is_object) {
        map.insert("metadata".into(), Value::Object(Map::new()));
    }
    Ok(())
}

fn check_custom_identity(resource: &Resource, api_version: &str, kind: &str) -> ApiResult<()> {
    let expected = resource.api_version();
    let message = if kind.is_empty() {
        format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in it",
            resource.kind
        )
    } else if kind != resource.kind {
        format!("the kind in the data ({kind}) does not match the expected kind ({})", resource.kind)
    } else if api_version != expected {
        format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )
    } else {
        return Ok(());
    };
    Err(ApiError::bad_request(message))
}

fn check_built_in_identity(resource: &Resource, api_version: &str, kind: &str) -> ApiResult<()> {
    let expected = resource.api_version();
    let given = if api_version.is_empty() { &expected } else { api_version };
    let kind = if kind.is_empty() { &resource.kind } else { kind };
    if given == expected && kind == resource.kind {
        return Ok(());
    }
    let (group, version) = split_api_version(given);
    let complaint = if schema::of_kind(group, version, kind).is_some() {
        let internal = match resource.group.split('.').next() {
            None | Some("") => "core",
            Some(name) => name,
        };
        format!("converting ({version}.{kind}) to ({internal}.{}): unknown conversion", resource.kind)
    } else {
        format!("no kind {kind:?} is registered for version {given:?} in scheme")
    };
    let expected = &resource.kind;
    Err(ApiError::bad_request(format!("{kind} in version {version:?}{HANDLED}{expected}: {complaint}")))
}

/// Empty collections of the metadata are as good as absent, and shown so.
fn drop_empty_metadata(metadata: &mut Value) {
    if let Value::Object(map) = metadata {
        map.retain(|name, value| match value {
            Value::Null => false,
            Value::Object(map) => !map.is_empty(),
            // An emptied list of managed fields asks for a reset.
            Value::Array(items) => !items.is_empty() || name == "managedFields",
            _ => true,
        });
    }
}

/// In a built-in kind a null, an empty map and an empty list mean that the field is absent, except in
/// free-form content.
fn drop_empty(schema: Schema<'_>, value: &mut Value) {
    match value {
        Value::Object(_) if schema.keeps_unknown() => {}
        Value::Object(map) => {
            map.retain(|name, child| match child {
                Value::Null => false,
                Value::Object(entries) if entries.is_empty() => {
                    schema.field(name).is_none_or(|field| field.additional().is_none())
                }
                Value::Array(items) => !items.is_empty() || name == "managedFields",
                _ => true,
            });
            for (name, child) in map.iter_mut() {
                if let Some(field) = schema.field(name) {
                    drop_empty(field, child);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items() {
                for item in items {
                    drop_empty(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Refuses what Go could not read into the kind's struct, in Go's words.
fn check_types(schema: Schema<'_>, value: &Value, path: &str, parent: &str) -> Result<(), String> {
    let owner = schema.type_name().unwrap_or(parent);
    let fits = match (schema.kind(), value) {
        (_, Value::Null) => true,
        _ if schema.is_int_or_string() => value.is_string() || value.is_i64(),
        ("string", _) => value.is_string(),
        ("integer", _) => value.is_i64() || value.is_u64(),
        ("number", _) => value.is_number(),
        ("boolean", _) => value.is_boolean(),
        ("object", _) => value.is_object(),
        ("array", _) => value.is_array(),
        _ => true,
    };
    if !fits {
        let go = match (schema.kind(), schema.text("format")) {
            ("boolean", _) => "bool",
            ("integer", Some(format @ ("int32" | "int64"))) => format,
            ("integer", _) => "int64",
            ("array", _) => "[]",
            ("object", _) if schema.additional().is_some_and(|values| values.kind() == "string") => {
                "map[string]string"
            }
            ("object", _) => "map or struct",
            (kind, _) => kind,
        };
        let given = match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Array(_) => "array",
            _ => "object",
        };
        let field = format!("{parent}.{path}");
        return Err(format!("json: cannot unmarshal {given} into Go struct field {field} of type {go}"));
    }
    match value {
        Value::String(text) if schema.text("format") == Some("byte") => {
            let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
            if let Some(place) = text.find(|c| !is_base64(c)) {
                return Err(format!("illegal base64 data at input byte {place}"));
            }
        }
        Value::Object(map) => {
            for (name, child) in map {
                if let Some(field) = schema.property(name) {
                    check_types(field, child, &join(path, name), owner)?;
                } else if let Some(values) = schema.additional() {
                    // Go does not name the key of a map.
                    check_types(values, child, path, owner)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items() {
                for item in items {
                    check_types(schema, item, path, owner)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Drops fields that the schema does not know, and says which.
pub fn prune(schema: Schema<'_>, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                let here = join(path, &name);
                match schema.field(&name) {
                    Some(field) => prune(field, &mut map[&name], &here, unknown),
                    None if schema.keeps_unknown() => {}
                    None => {
                        map.remove(&name);
                        unknown.push(here);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items() {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(schema, item, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

/// Fills in the defaults that a custom resource's schema declares; a null that is not allowed counts as
/// absent where there is a default.
pub fn apply_defaults(schema: Schema<'_>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, field) in schema.properties() {
                let Some(default) = field.get("default") else { continue };
                let absent = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !field.flag("nullable"),
                    Some(_) => false,
                };
                if absent {
                    map.insert(name.to_owned(), default.clone());
                }
            }
            // Elsewhere, too, a null that is not allowed is as good as nothing.
            map.retain(|name, child| {
                let field = schema.property(name);
                !child.is_null()
                    || field.is_none_or(|field| field.flag("nullable") || field.kind().is_empty())
            });
            for (name, child) in map.iter_mut() {
                if name != "metadata"
                    && let Some(field) = schema.field(name)
                {
                    apply_defaults(field, child);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items() {
                for item in items {
                    apply_defaults(schema, item);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::registry::Registry;
    use super::*;

    #[test]
    fn built_in_kinds_are_checked_as_go_would() {
        let registry = Registry::default();
        let deployments = registry.find("apps", "v1", "deployments").unwrap();
        let cases = [
            (
                json!({"spec": {"replicas": "3"}}),
                "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string \
                 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"foo": 1}}),
                "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown \
                 field \"spec.foo\"",
            ),
            (
                json!({"kind": "Pod"}),
                "Pod in version \"v1\" cannot be handled as a Deployment: no kind \"Pod\" is registered for version \"apps/v1\" in \
                 scheme",
            ),
        ];
        for (mut object, message) in cases {
            let error = decode(deployments, &mut object, FieldValidation::Strict).unwrap_err();
            assert_eq!(error.message, message);
        }
        let mut object = json!({"spec": {"foo": 1, "replicas": null}});
        let warnings = decode(deployments, &mut object, FieldValidation::Warn).unwrap();
        assert_eq!(warnings, ["unknown field \"spec.foo\""]);
        assert_eq!(object["spec"], json!({}));
    }

    #[test]
    fn custom_schemas_prune_and_default() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "mode": {"type": "string", "default": "Observe"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }},
        }});
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"x": 1, "free": {"y": 2}}});
        let mut unknown = Vec::new();
        prune(Schema::custom(&schema), &mut object, "", &mut unknown);
        apply_defaults(Schema::custom(&schema), &mut object);
        assert_eq!(unknown, ["spec.x"]);
        assert_eq!(object["spec"], json!({"mode": "Observe", "free": {"y": 2}}));
    }
}
