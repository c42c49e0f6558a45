//! One view of a kind's schema, whether recorded from the real server or given by a
//! CustomResourceDefinition: what decoding, patching, server-side apply and validation walk along.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::{Map, Value};

use super::registry::Resource;
use crate::sandbox::openapi;

/// Named schemas that others refer to, and the kinds among them.
#[derive(Debug, Default)]
struct Definitions {
    schemas: Map<String, Value>,
    kinds: BTreeMap<String, String>,
}

static DEFINITIONS: LazyLock<BTreeMap<&'static str, OnceLock<Definitions>>> =
    LazyLock::new(|| openapi::paths().map(|path| (path, OnceLock::new())).collect());

static OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A recorded document, parsed when a kind of it is first used.
fn definitions(path: &str) -> Option<&'static Definitions> {
    let slot = DEFINITIONS.get(path)?;
    Some(slot.get_or_init(|| {
        let text = openapi::document(path).expect("every listed path has a document");
        let mut document: Value =
            serde_json::from_slice(&text).expect("the recorded OpenAPI documents are well-formed");
        let Value::Object(schemas) = document["components"]["schemas"].take() else {
            return Definitions::default();
        };
        let mut kinds = BTreeMap::new();
        for (name, schema) in &schemas {
            for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                kinds.insert(kind["kind"].as_str().unwrap_or_default().to_owned(), name.clone());
            }
        }
        Definitions { schemas, kinds }
    }))
}

/// A node of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a> {
    node: &'a Value,
    definitions: Option<&'static Definitions>,
    /// The root of a custom resource (or an embedded one), whose metadata is what all objects have.
    is_object_root: bool,
}

/// What a node holds, as merging sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A map or struct whose fields are owned one by one.
    Map,
    /// A list whose items are identified by key fields.
    Keyed,
    /// A list of scalars without repetition.
    Set,
    /// A value that is replaced as a whole.
    Atomic,
}

impl<'a> Schema<'a> {
    /// The root schema of a custom resource's version.
    pub fn custom(node: &'a Value) -> Self {
        Self { node, definitions: None, is_object_root: true }
    }

    /// A schema that stands alone.
    pub fn plain(node: &'a Value) -> Self {
        Self { node, definitions: None, is_object_root: false }
    }

    /// What the node itself or the schema it refers to says.
    pub fn get(&self, keyword: &str) -> Option<&'a Value> {
        if let Some(value) = self.node.get(keyword) {
            return Some(value);
        }
        self.target().and_then(|target| target.get(keyword))
    }

    fn target(&self) -> Option<&'a Value> {
        let definitions = self.definitions?;
        let reference = self.node.get("$ref").or_else(|| self.node.get("allOf")?.get(0)?.get("$ref"))?;
        definitions.schemas.get(reference.as_str()?.rsplit('/').next()?)
    }

    /// The Go type that a reference names, such as `DeploymentSpec`.
    pub fn type_name(&self) -> Option<&'a str> {
        let reference = self.node.get("$ref").or_else(|| self.node.get("allOf")?.get(0)?.get("$ref"))?;
        reference.as_str()?.rsplit('.').next()
    }

    fn child(&self, node: &'a Value) -> Self {
        let is_object_root = node.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        Self { node, definitions: self.definitions, is_object_root }
    }

    /// The schema of a named property.
    pub fn property(&self, name: &str) -> Option<Self> {
        if self.is_object_root && name == "metadata" {
            return object_meta();
        }
        let declared = self.get("properties").and_then(|properties| properties.get(name));
        match declared {
            Some(node) => Some(self.child(node)),
            None if self.is_object_root && matches!(name, "apiVersion" | "kind") => {
                static TEXT: LazyLock<Value> = LazyLock::new(|| serde_json::json!({"type": "string"}));
                Some(Schema { node: &TEXT, definitions: None, is_object_root: false })
            }
            None => None,
        }
    }

    /// The schema of the values of a map without declared properties.
    pub fn additional(&self) -> Option<Self> {
        self.get("additionalProperties").filter(|node| node.is_object()).map(|node| self.child(node))
    }

    /// The schema of a field, declared or additional.
    pub fn field(&self, name: &str) -> Option<Self> {
        self.property(name).or_else(|| self.additional())
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<Self> {
        self.get("items").map(|node| self.child(node))
    }

    /// A keyword's text.
    pub fn text(&self, keyword: &str) -> Option<&'a str> {
        self.get(keyword).and_then(Value::as_str)
    }

    /// Whether a boolean keyword is set.
    pub fn flag(&self, keyword: &str) -> bool {
        self.get(keyword) == Some(&Value::Bool(true))
    }

    /// The declared type; empty where anything is allowed.
    pub fn kind(&self) -> &'a str {
        self.text("type").unwrap_or_default()
    }

    /// Whether undeclared fields are kept.
    pub fn keeps_unknown(&self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
            || self.get("additionalProperties") == Some(&Value::Bool(true))
            || (self.definitions.is_some()
                && self.get("properties").is_none()
                && self.get("additionalProperties").is_none())
    }

    /// Whether integers and strings are both allowed.
    pub fn is_int_or_string(&self) -> bool {
        self.flag("x-kubernetes-int-or-string") || self.text("format") == Some("int-or-string")
    }

    /// Declared properties.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, Self)> {
        let this = *self;
        let map = self.get("properties").and_then(Value::as_object);
        map.into_iter().flatten().map(move |(name, node)| (name.as_str(), this.child(node)))
    }

    /// Whether a field of a built-in kind is there even when nothing was set in it: in Go it is a struct, not
    /// a pointer to one, or is written even when empty.
    pub fn implies(&self, name: &str) -> bool {
        let is_required = || {
            self.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|r| r == name))
        };
        let is_struct = || {
            self.property(name).is_some_and(|field| field.node.get("default").is_some_and(Value::is_object))
        };
        let is_metadata = self.is_object_root && name == "metadata";
        is_metadata || (self.definitions.is_some() && (is_struct() || is_required()))
    }

    /// The fields that identify an item of a keyed list.
    pub fn list_keys(&self) -> Vec<&'a str> {
        let keys = self.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        keys.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// How the node's value is merged and owned.
    pub fn shape(&self) -> Shape {
        match (self.text("x-kubernetes-list-type"), self.text("x-kubernetes-map-type"), self.kind()) {
            (Some("map"), _, _) => Shape::Keyed,
            (Some("set"), _, _) => Shape::Set,
            (_, Some("atomic"), _) => Shape::Atomic,
            // In a built-in kind, what is not declared is read and written as a whole.
            (_, _, "object") if self.definitions.is_some() && self.keeps_unknown() => Shape::Atomic,
            (_, _, "object") => Shape::Map,
            (_, _, "") if self.is_object_root || self.get("properties").is_some() => Shape::Map,
            _ => Shape::Atomic,
        }
    }
}

/// The schema of the metadata that every object has.
pub fn object_meta() -> Option<Schema<'static>> {
    let definitions = definitions("api/v1")?;
    let node = definitions.schemas.get(OBJECT_META)?;
    Some(Schema { node, definitions: Some(definitions), is_object_root: false })
}

/// The schema of what all objects share.
pub fn any_object() -> Schema<'static> {
    static ANY: LazyLock<Value> = LazyLock::new(|| serde_json::json!({"type": "object"}));
    Schema::custom(&ANY)
}

/// The schema of a resource's objects.
pub fn of(resource: &Resource) -> Option<Schema<'_>> {
    if let Some(custom) = &resource.custom {
        return custom.schema.as_ref().map(Schema::custom);
    }
    of_kind(&resource.group, &resource.version, &resource.kind)
}

/// The schema of a built-in kind.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Schema<'static>> {
    let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
    let definitions = definitions(&path)?;
    let node = definitions.schemas.get(definitions.kinds.get(kind)?)?;
    Some(Schema { node, definitions: Some(definitions), is_object_root: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_schemas_are_walked() {
        let deployment = of_kind("apps", "v1", "Deployment").unwrap();
        let spec = deployment.property("spec").unwrap();
        let pod = spec.property("template").unwrap().property("spec").unwrap();
        let containers = pod.property("containers").unwrap();
        assert_eq!((containers.shape(), containers.list_keys()), (Shape::Keyed, vec!["name"]));
        assert_eq!(containers.text("x-kubernetes-patch-merge-key"), Some("name"));
        let image = containers.items().unwrap().property("image").unwrap();
        assert_eq!((image.kind(), image.shape()), ("string", Shape::Atomic));
        assert_eq!(spec.property("selector").unwrap().shape(), Shape::Atomic);
        let labels = deployment.property("metadata").unwrap().property("labels").unwrap();
        assert_eq!((labels.shape(), labels.additional().unwrap().kind()), (Shape::Map, "string"));
        assert!(spec.property("foo").is_none());
    }
}
