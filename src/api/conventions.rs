//! What the conventions of Kubernetes' API ask of a schema and the Rust types do not say: how lists merge, and how much there may
//! be of what is typed by Kubernetes. The rest is said at the fields.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::condition::LONGEST_MESSAGE;

/// How many labels a selector may ask for, and how many values of one.
const SELECTED: i64 = 64;
/// The longest value of a label.
const LABEL_VALUE: i64 = 63;
/// The longest key of a label, with its prefix.
const LABEL_KEY: i64 = 253 + 1 + 63;
/// The longest value of a map of texts: all annotations of an object together have four times as much.
const TEXT: i64 = 64 * 1024;

/// The definition with what its schemas lack.
pub(super) fn kept(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for schema in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        keep("", schema);
    }
    crd
}

/// Goes through the value below a name.
fn keep(name: &str, schema: &mut JSONSchemaProps) {
    match name {
        "conditions" => conditions(schema),
        "labelSelector" => selector(schema),
        _ => {}
    }
    if schema.type_.as_deref() == Some("array") {
        // What is in a list is meant as a whole, unless it is said to be known by a key.
        schema.x_kubernetes_list_type.get_or_insert_with(|| "atomic".to_owned());
    }
    if let Some(item) = item(schema) {
        keep("", item);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        let longest = if name == "nodeSelector" { LABEL_VALUE } else { TEXT };
        if value.type_.as_deref() == Some("string") && value.format.is_none() {
            value.max_length.get_or_insert(longest);
        }
        keep("", value);
    }
    for (name, field) in schema.properties.iter_mut().flatten() {
        keep(name, field);
    }
}

/// Each type of condition is there once, so that whoever applies one leaves the others alone. The bounds are those that
/// Kubernetes documents.
fn conditions(schema: &mut JSONSchemaProps) {
    schema.x_kubernetes_list_type = Some("map".to_owned());
    schema.x_kubernetes_list_map_keys = Some(vec!["type".to_owned()]);
    let Some(condition) = item(schema) else { return };
    bound(condition, "type", 316);
    bound(condition, "reason", 1024);
    bound(condition, "message", i64::try_from(LONGEST_MESSAGE).unwrap_or(i64::MAX));
    choice(condition, "status", &["True", "False", "Unknown"]);
}

fn selector(schema: &mut JSONSchemaProps) {
    if let Some(labels) = field(schema, "matchLabels") {
        labels.max_properties = Some(SELECTED);
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut labels.additional_properties {
            value.max_length = Some(LABEL_VALUE);
        }
    }
    let Some(expressions) = field(schema, "matchExpressions") else { return };
    expressions.max_items = Some(SELECTED);
    let Some(expression) = item(expressions) else { return };
    bound(expression, "key", LABEL_KEY);
    choice(expression, "operator", &["In", "NotIn", "Exists", "DoesNotExist"]);
    if let Some(values) = field(expression, "values") {
        values.max_items = Some(SELECTED);
        if let Some(value) = item(values) {
            value.max_length = Some(LABEL_VALUE);
        }
    }
}

fn field<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}

fn item(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match schema.items.as_mut()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn bound(schema: &mut JSONSchemaProps, name: &str, longest: i64) {
    if let Some(field) = field(schema, name) {
        field.max_length = Some(longest);
    }
}

fn choice(schema: &mut JSONSchemaProps, name: &str, words: &[&str]) {
    if let Some(field) = field(schema, name) {
        field.enum_ = Some(words.iter().map(|word| JSON((*word).into())).collect());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    /// What has no shape of its own, and so no bound but that of the object: each with the reason.
    const FREE: [(&str, &str); 16] = [
        ("Action.spec.script.pod.overlay", "a Pod's spec, of whatever version the cluster has"),
        ("Action.spec.container.pod.overlay", "the same"),
        ("Action.spec.kubernetes.patch.json[].value", "a value of an object of any kind"),
        ("Action.spec.kubernetes.patch.merge", "a part of an object of any kind"),
        ("Action.spec.kubernetes.patch.strategic", "the same"),
        ("Action.spec.kubernetes.recreate.json[].value", "a value of an object of any kind"),
        ("Action.spec.kubernetes.recreate.merge", "a part of an object of any kind"),
        ("EventBatch.spec.events[].event.data", "what a sender sent, bounded when it is received"),
        ("Execution.spec.decision.event.data", "the same"),
        ("Execution.spec.decision.captured[].data", "the same"),
        ("Execution.spec.with", "values of parameters of several types; at most 64"),
        ("Execution.status.rungs[].change", "a patch of an object of any kind, as it is sent"),
        ("Execution.status.rungs[].outputs", "values of outputs of several types; 4096 bytes of them in all"),
        ("Execution.status.rungs[].replacement", "an object of any kind, as it is created anew"),
        ("Rule.spec.ladder[].with", "values of parameters of several types; at most 64"),
        ("Rule.spec.target", "a word or an object, whose shape its anyOf and its rules say"),
    ];

    /// What is missing below `path`, and what has no shape.
    fn walk(path: &str, schema: &Value, lacks: &mut Vec<String>, free: &mut Vec<String>) {
        let has = |key: &str| !schema[key].is_null();
        let mut need = |what: &str, is_there: bool| {
            if !is_there {
                lacks.push(format!("{path}: {what}"));
            }
        };
        if has("x-kubernetes-preserve-unknown-fields") {
            free.push(path.to_owned());
            return;
        }
        match schema["type"].as_str() {
            Some("array") => {
                need("maxItems", has("maxItems"));
                need("a list type", has("x-kubernetes-list-type"));
                walk(&format!("{path}[]"), &schema["items"], lacks, free);
            }
            Some("string") => {
                need("maxLength, enum or format", has("maxLength") || has("enum") || has("format"));
            }
            Some("object") if has("additionalProperties") => {
                need("maxProperties", has("maxProperties"));
                walk(&format!("{path}{{}}"), &schema["additionalProperties"], lacks, free);
            }
            Some("object") => {
                for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                    walk(&format!("{path}.{name}"), field, lacks, free);
                }
            }
            Some(_) => {}
            None => need("a type", has("x-kubernetes-int-or-string")),
        }
    }

    #[test]
    fn everything_is_bounded_and_lists_say_how_they_merge() {
        let (mut lacks, mut free) = (Vec::new(), Vec::new());
        for crd in super::super::crds() {
            let schema = json!(crd.spec.versions[0].schema)["openAPIV3Schema"]["properties"].clone();
            for part in ["spec", "status"] {
                walk(&format!("{}.{part}", crd.spec.names.kind), &schema[part], &mut lacks, &mut free);
            }
            let conditions = &schema["status"]["properties"]["conditions"];
            if conditions.is_object() {
                let seen = (&conditions["x-kubernetes-list-type"], &conditions["x-kubernetes-list-map-keys"]);
                assert_eq!(seen, (&json!("map"), &json!(["type"])), "{}", crd.spec.names.kind);
            }
        }
        assert_eq!(lacks, [""; 0], "{lacks:#?}");
        free.sort();
        let mut explained: Vec<_> = FREE.iter().map(|(path, _)| (*path).to_owned()).collect();
        explained.sort();
        assert_eq!(free, explained);
    }
}
