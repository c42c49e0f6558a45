//! CustomResourceDefinitions: what a stored definition makes the API serve, its own defaults, conditions
//! and checks.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::crd_schema;
use super::error::Cause;
use super::meta;
use super::registry::{Registry, Resource, Subresource};
use super::rules::Rules;

/// The collection that keeps definitions.
pub const STORAGE: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// One served version of a custom resource.
#[derive(Debug)]
pub struct CustomVersion {
    /// The structural schema of its objects.
    pub schema: Option<Value>,
    /// Additional printer columns.
    pub columns: Vec<Value>,
    /// Fields that field selectors may name, without the leading dot.
    pub selectable: Vec<String>,
    /// The scale subresource's paths.
    pub scale: Option<Value>,
    /// The schema's CEL rules, compiled.
    pub rules: Rules,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn verbs(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// The resources that a definition serves.
pub fn resources(definition: &Value) -> Vec<Arc<Resource>> {
    let spec = &definition["spec"];
    let (group, names) = (spec["group"].as_str().unwrap_or_default(), &spec["names"]);
    let plural = names["plural"].as_str().unwrap_or_default();
    let versions = spec["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    served
        .map(|version| {
            let name = version["name"].as_str().unwrap_or_default().to_owned();
            let kind = names["kind"].as_str().unwrap_or_default().to_owned();
            Arc::new(Resource {
                group: group.to_owned(),
                subresources: subresources(version, group, &name, &kind),
                version: name,
                kind,
                plural: plural.to_owned(),
                singular: names["singular"].as_str().unwrap_or_default().to_owned(),
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                verbs: verbs(&[
                    "delete",
                    "deletecollection",
                    "get",
                    "list",
                    "patch",
                    "create",
                    "update",
                    "watch",
                ]),
                storage: format!("{plural}.{group}"),
                custom: Some(Arc::new(custom_version(version))),
            })
        })
        .collect()
}

fn subresources(version: &Value, group: &str, name: &str, kind: &str) -> Vec<Subresource> {
    let mut found = Vec::new();
    let verbs = verbs(&["get", "patch", "update"]);
    if version["subresources"]["status"].is_object() {
        let kind = (group.to_owned(), name.to_owned(), kind.to_owned());
        found.push(Subresource { name: "status".into(), kind, verbs: verbs.clone() });
    }
    if version["subresources"]["scale"].is_object() {
        let kind = ("autoscaling".to_owned(), "v1".to_owned(), "Scale".to_owned());
        found.push(Subresource { name: "scale".into(), kind, verbs });
    }
    found
}

fn custom_version(version: &Value) -> CustomVersion {
    let schema = version["schema"]["openAPIV3Schema"].clone();
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let scale = version["subresources"]["scale"].clone();
    CustomVersion {
        rules: Rules::compile(&schema),
        schema: schema.is_object().then_some(schema),
        columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        selectable: selectable
            .filter_map(|field| field["jsonPath"].as_str())
            .map(|path| path.trim_start_matches('.').to_owned())
            .collect(),
        scale: scale.is_object().then_some(scale),
    }
}

/// Fills in what the real server would: singular, list kind, conversion.
pub fn apply_defaults(definition: &mut Value) {
    let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let names = &mut definition["spec"]["names"];
    if names["singular"].as_str().unwrap_or_default().is_empty() {
        names["singular"] = kind.to_lowercase().into();
    }
    if names["listKind"].as_str().unwrap_or_default().is_empty() {
        names["listKind"] = format!("{kind}List").into();
    }
    if !definition["spec"]["conversion"].is_object() {
        definition["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// Checks what the sandbox relies on: names, one storage version, a schema per version, rules that compile.
pub fn validate(definition: &Value, registry: &Registry) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (plural, group) = (text(&spec["names"]["plural"]), text(&spec["group"]));
    let expected = format!("{plural}.{group}");
    if meta::text(definition, "name") != expected {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &definition["metadata"]["name"], detail));
    }
    if !matches!(spec["scope"].as_str(), Some("Namespaced" | "Cluster")) {
        causes.push(Cause::unsupported(
            "spec.scope",
            &spec["scope"],
            &["Cluster".into(), "Namespaced".into()],
        ));
    }
    if spec["conversion"]["strategy"] != "None" {
        let detail = "the sandbox converts between versions by apiVersion only (strategy None)";
        causes.push(Cause::invalid("spec.conversion.strategy", &spec["conversion"]["strategy"], detail));
    }
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &spec["versions"], detail));
    }
    for (index, version) in versions.iter().enumerate() {
        // One schema alone is moved up by the real server before it looks at it.
        let path = match versions.len() {
            1 => "spec.validation.openAPIV3Schema".to_owned(),
            _ => format!("spec.versions[{index}].schema.openAPIV3Schema"),
        };
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            causes.push(Cause::required(&path, "schemas are required"));
        } else if schema["type"] != "object" {
            causes.push(Cause::invalid(
                &format!("{path}.type"),
                &schema["type"],
                "must be object at the root",
            ));
        }
        if schema.is_object() {
            crd_schema::check(schema, &path, &mut causes);
        }
    }
    let taken = registry.all().any(|other| {
        other.group == group && other.kind == text(&spec["names"]["kind"]) && other.storage != expected
    });
    if taken {
        let kind = &spec["names"]["kind"];
        causes.push(Cause::invalid("spec.names.kind", kind, "is already in use in this group"));
    }
    causes
}

/// Marks a definition as accepted and established, as the real controllers soon do.
pub fn establish(definition: &mut Value, now: Timestamp) {
    let since = |kind: &str, old: &Value| {
        let conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let same = conditions.into_iter().find(|condition| condition["type"] == kind);
        same.map_or_else(|| meta::time(now).into(), |condition| condition["lastTransitionTime"].clone())
    };
    let condition = |kind: &str, reason: &str, message: &str, old: &Value| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message,
               "lastTransitionTime": since(kind, old)})
    };
    let accepted = condition("NamesAccepted", "NoConflicts", "no conflicts found", definition);
    let established =
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted", definition);
    let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let stored = versions.iter().filter(|version| version["storage"] == true);
    definition["status"] = json!({
        "acceptedNames": definition["spec"]["names"],
        "conditions": [accepted, established],
        "storedVersions": stored.map(|version| version["name"].clone()).collect::<Vec<_>>(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_serves_its_versions() {
        let mut definition = json!({
            "metadata": {"name": "foos.x.dev"},
            "spec": {
                "group": "x.dev", "scope": "Namespaced",
                "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"]},
                "versions": [
                    {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                     "selectableFields": [{"jsonPath": ".spec.color"}],
                     "schema": {"openAPIV3Schema": {"type": "object"}}},
                    {"name": "v0", "served": false, "storage": false,
                     "schema": {"openAPIV3Schema": {"type": "object"}}},
                ],
            },
        });
        apply_defaults(&mut definition);
        assert_eq!(validate(&definition, &Registry::default()), []);
        let served = resources(&definition);
        assert_eq!(served.len(), 1);
        assert_eq!((served[0].singular.as_str(), served[0].storage.as_str()), ("foo", "foos.x.dev"));
        assert!(served[0].has_subresource("status"));
        assert_eq!(served[0].custom.as_ref().unwrap().selectable, ["spec.color"]);
        definition["metadata"]["name"] = "bars.x.dev".into();
        assert_eq!(validate(&definition, &Registry::default()).len(), 1);
    }
}
