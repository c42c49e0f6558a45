//! OpenAPI v3: the recorded documents as they are, and documents made from the schemas of custom kinds.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::error::{ApiError, ApiResult};
use super::http::Answer;
use super::registry::{Registry, Resource};
use crate::sandbox::openapi;

/// The index of documents. The hash makes clients fetch a document again when it has changed.
pub fn index(registry: &Registry) -> Value {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut paths = Map::new();
    for path in openapi::paths() {
        paths.insert(
            path.to_owned(),
            json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=recorded")}),
        );
    }
    let custom = registry.all().filter(|resource| resource.custom.is_some());
    let of_custom: BTreeSet<_> = custom.map(|resource| path_of(resource)).collect();
    for path in of_custom {
        let mut hasher = DefaultHasher::new();
        custom_document(registry, &path).to_string().hash(&mut hasher);
        let url = format!("/openapi/v3/{path}?hash={:016X}", hasher.finish());
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// OpenAPI v2 without any kinds: kubectl asks for it only about a kind that v3 does not have.
pub fn v2(headers: &HeaderMap) -> Answer {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("protobuf") {
        // Field 1, `swagger`, is "2.0"; there is nothing else to say.
        return Answer::Raw(b"\x0a\x032.0".to_vec(), PROTOBUF, false);
    }
    Answer::Json(200, json!({"swagger": "2.0", "info": {"title": "Kubernetes"}, "paths": {}}))
}

/// One document.
pub fn document(registry: &Registry, path: &str, headers: &HeaderMap) -> ApiResult<Answer> {
    let accepts =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let (Some(packed), true) = (openapi::packed(path), accepts.contains("gzip")) {
        return Ok(Answer::Raw(packed.to_vec(), "application/json", true));
    }
    if let Some(text) = openapi::document(path) {
        return Ok(Answer::Raw(text, "application/json", false));
    }
    let document = custom_document(registry, path);
    if document["paths"].as_object().is_none_or(Map::is_empty) {
        return Err(ApiError::no_such_path());
    }
    Ok(Answer::Json(200, document))
}

fn custom_document(registry: &Registry, path: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let here = |resource: &&std::sync::Arc<Resource>| resource.custom.is_some() && path_of(resource) == path;
    for resource in registry.all().filter(here) {
        add_paths(resource, &mut paths);
        schemas.insert(schema_name(resource), schema(resource));
    }
    schemas.extend(OBJECT_META_SCHEMAS.clone());
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
           "paths": paths, "components": {"schemas": schemas}})
}

/// The path of the document that a custom kind is in.
fn path_of(resource: &Resource) -> String {
    format!("apis/{}/{}", resource.group, resource.version)
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `dev.example.v1.Foo`, as the real server names it.
fn schema_name(resource: &Resource) -> String {
    let mut labels: Vec<&str> = resource.group.split('.').collect();
    labels.reverse();
    format!("{}.{}.{}", labels.join("."), resource.version, resource.kind)
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn schema(resource: &Resource) -> Value {
    let custom = resource.custom.as_ref().and_then(|custom| custom.schema.clone());
    let mut schema = custom.unwrap_or_else(|| json!({"type": "object"}));
    let text = |about: &str| json!({"type": "string", "description": about});
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = text(
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert \
         recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
         https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
    );
    properties["kind"] = text(
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from \
         the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
         https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
    );
    properties["metadata"] = json!({
        "allOf": [{"$ref": format!("#/components/schemas/{OBJECT_META}")}],
        "description": "Standard object's metadata. More info: \
                        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
    });
    schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    schema
}

/// The metadata of all objects and what it refers to, as recorded.
static OBJECT_META_SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
    let text = openapi::document("api/v1").unwrap_or_default();
    let mut document: Value = serde_json::from_slice(&text).unwrap_or_default();
    let names = ["ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "FieldsV1", "Time"];
    let schemas = names.into_iter().map(|name| {
        let name = format!("{META}{name}");
        let schema = document["components"]["schemas"][&name].take();
        (name, schema)
    });
    schemas.collect()
});

/// The operations, with the parameters by which kubectl finds out what it may ask for.
fn add_paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let base = if resource.namespaced {
        format!("/apis/{}/{}/namespaces/{{namespace}}/{}", resource.group, resource.version, resource.plural)
    } else {
        format!("/apis/{}/{}/{}", resource.group, resource.version, resource.plural)
    };
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let write = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
    let operation = |action: &str, parameters: &[Value]| {
        json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(resource),
               "parameters": parameters, "responses": {"200": {"description": "OK"}}})
    };
    let one = json!({
        "get": operation("get", &[]),
        "put": operation("put", &write),
        "patch": operation("patch", &[&write[..], &[parameter("force")]].concat()),
        "delete": operation("delete", &write[..1]),
    });
    paths.insert(base.clone(), json!({"get": operation("list", &[]), "post": operation("post", &write)}));
    paths.insert(format!("{base}/{{name}}"), one);
}
