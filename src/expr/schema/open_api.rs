//! From the JSON schemas of OpenAPI v3 documents and CustomResourceDefinitions to the lines of
//! [`super::Definitions`]: types and field names, without all that validation needs beside.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What all objects have as their metadata, in the snapshot.
const OBJECT_META: &str = "ObjectMeta:meta.v1";

/// The lines for the kinds of a document and all they refer to.
pub(super) fn of_document(document: &Value) -> Vec<String> {
    let Some(schemas) = document["components"]["schemas"].as_object() else { return Vec::new() };
    let mut lines = Vec::new();
    let mut writer = Writer::default();
    let mut open: Vec<&str> = Vec::new();
    for (name, schema) in schemas {
        if let Some(kind) = kind_of(schema) {
            lines.push(format!("kind {kind} {}", short(name)));
            open.push(name);
        }
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(schema) = schemas.get(name).filter(|_| seen.insert(name)) {
            let short = short(name);
            let (object, version) = short.split_at(short.find(':').unwrap_or(short.len()));
            version.clone_into(&mut writer.version);
            writer.object(object, schema);
            references(schema, &mut open);
        }
    }
    lines.extend(writer.lines());
    lines
}

/// The lines for every served version of a CustomResourceDefinition.
pub(super) fn of_crd(crd: &Value) -> Vec<String> {
    let spec = &crd["spec"];
    let (Some(group), Some(kind)) = (spec["group"].as_str(), spec["names"]["kind"].as_str()) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for version in spec["versions"].as_array().into_iter().flatten() {
        let (Some(name), schema) = (version["name"].as_str(), &version["schema"]["openAPIV3Schema"]) else {
            continue;
        };
        // Without properties nothing is known of it.
        if !schema["properties"].is_object() {
            continue;
        }
        let mut root = schema.clone();
        for (field, value) in [("apiVersion", "string"), ("kind", "string")] {
            root["properties"][field] = serde_json::json!({"type": value});
        }
        root["properties"]["metadata"] = serde_json::json!({"$ref": OBJECT_META});
        let mut writer = Writer { version: format!(":{name}"), ..Writer::default() };
        writer.object(kind, &root);
        lines.push(format!("kind {group}/{name}/{kind} {kind}:{name}"));
        lines.extend(writer.lines());
    }
    lines
}

/// `apps/v1/Deployment`, for a schema of whole objects that can be watched.
fn kind_of(schema: &Value) -> Option<String> {
    let [kind] = schema["x-kubernetes-group-version-kind"].as_array()?.as_slice() else { return None };
    let metadata = schema["properties"].get("metadata")?;
    if metadata.to_string().contains("ListMeta") {
        return None;
    }
    let part = |name: &str| kind[name].as_str().unwrap_or_default();
    let group = if part("group").is_empty() { String::new() } else { format!("{}/", part("group")) };
    Some(format!("{group}{}/{}", part("version"), part("kind")))
}

/// `io.k8s.api.core.v1.Pod` is `Pod:core.v1`.
fn short(name: &str) -> String {
    let parts: Vec<&str> = name.rsplitn(4, '.').collect();
    match parts.as_slice() {
        [object, version, group, ..] => format!("{object}:{group}.{version}"),
        _ => name.to_owned(),
    }
}

/// The definitions that a schema refers to.
fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    match schema {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).and_then(|to| to.rsplit('/').next()));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Writes objects; those without a name of their own get that of where they stand.
#[derive(Default)]
struct Writer {
    objects: BTreeMap<String, String>,
    /// What is put after the names of objects without a name of their own: part of it, but not of what people see.
    version: String,
}

impl Writer {
    fn lines(self) -> impl Iterator<Item = String> {
        self.objects.into_iter().map(|(name, fields)| format!("{name} {fields}"))
    }

    fn object(&mut self, name: &str, schema: &Value) {
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let mut is_open = schema["x-kubernetes-preserve-unknown-fields"] == true
            || !matches!(schema["additionalProperties"], Value::Null | Value::Bool(false));
        let mut fields = Vec::new();
        for (field, schema) in properties {
            if field.contains([' ', ':']) {
                is_open = true;
            } else {
                let text = self.type_of(&format!("{name}.{field}"), schema);
                fields.push(format!("{field}:{text}"));
            }
        }
        if is_open || properties.is_empty() {
            fields.push("...".to_owned());
        }
        self.objects.insert(format!("{name}{}", self.version), fields.join(" "));
    }

    /// The type of what a schema describes, whose own objects are called `name`.
    fn type_of(&mut self, name: &str, schema: &Value) -> String {
        if let Some(known) = referred(schema) {
            return known;
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return "int|string".to_owned();
        }
        if schema["x-kubernetes-embedded-resource"] == true {
            return "any".to_owned();
        }
        match schema["type"].as_str() {
            Some("string") => "string".to_owned(),
            Some("boolean") => "bool".to_owned(),
            Some("integer") => "int".to_owned(),
            // A number without a fraction is an int in an expression.
            Some("number") => "int|double".to_owned(),
            Some("array") => format!("list<{}>", self.type_of(&format!("{name}[]"), &schema["items"])),
            Some("object") => self.map_or_object(name, schema),
            _ => "any".to_owned(),
        }
    }

    fn map_or_object(&mut self, name: &str, schema: &Value) -> String {
        if schema["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
            self.object(name, schema);
            return format!("{name}{}", self.version);
        }
        match &schema["additionalProperties"] {
            Value::Object(_) => {
                format!("map<string,{}>", self.type_of(&format!("{name}[]"), &schema["additionalProperties"]))
            }
            Value::Bool(true) => "map<string,any>".to_owned(),
            _ => "any".to_owned(),
        }
    }
}

/// What a reference leads to: a definition, or one of the few whose JSON is no object.
fn referred(schema: &Value) -> Option<String> {
    let reference = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?.as_str()?;
    let name = reference.rsplit('/').next()?;
    let object = name.rsplit('.').next()?;
    Some(match object {
        "Time" | "MicroTime" => "string".to_owned(),
        "IntOrString" => "int|string".to_owned(),
        "Quantity" => "string|int|double".to_owned(),
        "JSON"
        | "RawExtension"
        | "FieldsV1"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => "any".to_owned(),
        _ if name.contains(':') => name.to_owned(),
        _ => short(name),
    })
}
