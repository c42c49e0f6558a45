//! Kinds of users: registration, validation, pruning, defaults.

use serde_json::{Value, json};

use super::exchange::Exchange;

pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const FOOS: &str = "{ns}.dev/v1/foos";

/// The definition of a kind `Foo` in a group of the namespace's own.
pub fn definition(schema: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.{ns}.dev"},
        "spec": {"group": "{ns}.dev", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"], "categories": ["things"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}})
}

/// Registers the kind and waits until it is served.
pub async fn define(x: &mut Exchange, schema: Value) {
    register(x, &definition(schema)).await;
}

pub async fn register(x: &mut Exchange, definition: &Value) {
    x.prepare("POST", CRDS, definition).await;
    served(x).await;
}

async fn served(x: &mut Exchange) {
    let established = |answer: &super::exchange::Answer| {
        let conditions = answer.body["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
    };
    x.reached(&format!("{CRDS}/foos.{{ns}}.dev"), established).await;
    // Its storage is built a little later than it is promised.
    x.reached(FOOS, |answer| answer.code == 200).await;
    let group = format!("{}.dev", x.namespace);
    x.reached("/openapi/v3", |answer| answer.body.to_string().contains(&group)).await;
}

/// An object of the kind.
pub fn foo(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

/// One without a spec.
pub fn bare(name: &str) -> Value {
    json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": name}})
}

pub async fn registration(x: &mut Exchange) {
    // What its controllers do a little later, the in-memory API does at once.
    define(x, json!({"type": "object"})).await;
    x.post(CRDS, &definition(json!({"type": "object"}))).await;
    x.get(&format!("{CRDS}/foos.{{ns}}.dev")).await;
    x.get("/apis/{ns}.dev").await;
    x.get("/apis/{ns}.dev/v1").await;
    x.get("/apis/{ns}.dev/v2").await;
    x.get(FOOS).await;
    x.post(FOOS, &bare("a")).await;
    x.prepare("DELETE", &format!("{CRDS}/foos.{{ns}}.dev"), &Value::Null).await;
    x.gone(&format!("{CRDS}/foos.{{ns}}.dev")).await;
    x.reached(FOOS, |answer| answer.code == 404).await;
    x.get(FOOS).await;
}

pub async fn definitions_are_checked(x: &mut Exchange) {
    let change = |pointer: &str, value: Value| {
        let mut definition = definition(json!({"type": "object"}));
        match value {
            Value::Null => {
                let (parent, last) = pointer.rsplit_once('/').unwrap();
                definition.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(last);
            }
            value => *definition.pointer_mut(pointer).unwrap() = value,
        }
        definition
    };
    for definition in [
        change("/metadata/name", json!("bars.{ns}.dev")),
        change("/spec/scope", json!("Galaxy")),
        change("/spec/versions/0/storage", json!(false)),
        change("/spec/versions/0/schema/openAPIV3Schema/type", json!("string")),
        change("/spec/versions/0/schema", Value::Null),
        change("/spec/names/kind", Value::Null),
        change("/spec/names/plural", json!("Foos")),
        change("/spec/versions", json!([])),
        change("/spec/group", json!("nodots")),
    ] {
        x.post(&format!("{CRDS}?dryRun=All"), &definition).await;
    }
}

pub async fn schemas_are_checked(x: &mut Exchange) {
    let spec = |schema: Value| definition(json!({"type": "object", "properties": {"spec": schema}}));
    for definition in [
        spec(json!({})),
        spec(json!({"type": "array"})),
        spec(json!({"type": "object", "properties": {"a": {"type": "nonesuch"}}})),
        spec(json!({"type": "string", "default": 1})),
        spec(json!({"type": "string", "pattern": "("})),
        spec(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"})),
        spec(json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]})),
        spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self."}]})),
        spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.nope == 1"}]})),
        spec(
            json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}}),
        ),
    ] {
        x.post(&format!("{CRDS}?dryRun=All"), &definition).await;
    }
}

fn checked() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["mode"], "minProperties": 1, "maxProperties": 12, "properties": {
            "mode": {"type": "string", "enum": ["Observe", "Enforce"]},
            "name": {"type": "string", "pattern": "^x", "minLength": 2, "maxLength": 5},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 2},
            "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
            "flag": {"type": "boolean"},
            "list": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "any": {"x-kubernetes-int-or-string": true},
            "when": {"type": "string", "format": "date-time"},
            "maybe": {"type": "string", "nullable": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "union": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}}},
        "status": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}}})
}

pub async fn validation(x: &mut Exchange) {
    define(x, checked()).await;
    let spec = |field: &str, value: Value| foo("a", &json!({"mode": "Observe", field: value}));
    for object in [
        bare("a"),
        json!({"metadata": {"name": "a"}, "spec": {"mode": "Observe"}}),
        json!({"apiVersion": "{ns}.dev/v2", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"mode": "Observe"}}),
        json!({"apiVersion": "{ns}.dev/v1", "kind": "Bar", "metadata": {"name": "a"}, "spec": {"mode": "Observe"}}),
        foo("a", &json!({})),
        foo("a", &json!([])),
        foo("a", &json!(null)),
        spec("mode", json!("Nope")),
        spec("mode", json!(1)),
        spec("name", json!("y")),
        spec("name", json!("xtoolong")),
        spec("count", json!(0)),
        spec("count", json!(11)),
        spec("count", json!(3)),
        spec("count", json!(2.5)),
        spec("count", json!(2.0)),
        spec("count", json!("2")),
        spec("ratio", json!(0)),
        spec("ratio", json!(1)),
        spec("flag", json!("true")),
        spec("list", json!([])),
        spec("list", json!(["a", "b", "c"])),
        spec("list", json!(["a", 1])),
        spec("list", json!({})),
        spec("set", json!(["a", "a"])),
        spec("keyed", json!([{"k": "a"}, {"k": "a"}])),
        spec("keyed", json!([{"v": 1}])),
        spec("map", json!({"a": "x"})),
        spec("any", json!(true)),
        spec("any", json!("1")),
        spec("when", json!("yesterday")),
        spec("maybe", json!(null)),
        spec("flag", json!(null)),
        spec("union", json!({})),
        spec("union", json!({"a": "x", "b": "y"})),
        foo("a", &json!({"mode": "Nope", "count": 0, "name": "y"})),
        foo("A_b", &json!({"mode": "Observe"})),
    ] {
        x.post(&format!("{FOOS}?dryRun=All"), &object).await;
    }
    x.post(FOOS, &foo("a", &json!({"mode": "Observe"}))).await;
    x.merge(&format!("{FOOS}/a"), &json!({"spec": {"mode": null}})).await;
    x.merge(&format!("{FOOS}/a"), &json!({"spec": null})).await;
    x.merge(&format!("{FOOS}/a/status"), &json!({"status": {"n": -1}})).await;
    x.merge(&format!("{FOOS}/a/status"), &json!({"status": {"n": 1}})).await;
}

pub async fn unknown_fields_are_pruned(x: &mut Exchange) {
    define(x, checked()).await;
    let odd = json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "odd", "zzz": 1}, "yyy": 1, "spec": {"mode": "Observe", "zzz": 1,
        "free": {"kept": true}, "keyed": [{"k": "a", "zzz": 1}]}});
    for mode in ["Strict", "Warn", "Ignore"] {
        x.post(&format!("{FOOS}?dryRun=All&fieldValidation={mode}"), &odd).await;
    }
    x.post(FOOS, &odd).await;
    x.merge(&format!("{FOOS}/odd?fieldValidation=Strict"), &json!({"spec": {"zzz": 1}})).await;
    x.merge(&format!("{FOOS}/odd"), &json!({"spec": {"zzz": 1}})).await;
    x.get(&format!("{FOOS}/odd")).await;
}

pub async fn defaults(x: &mut Exchange) {
    define(x, json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
        "mode": {"type": "string", "default": "Observe"},
        "deep": {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}},
        "made": {"type": "object", "default": {"n": 1}, "properties": {"n": {"type": "integer"}, "m": {"type": "integer", "default": 2}}},
        "nothing": {"type": "string", "nullable": true, "default": "x"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}}},
    }}}})).await;
    x.post(FOOS, &bare("a")).await;
    x.post(
        FOOS,
        &foo(
            "b",
            &json!({"mode": null, "deep": {}, "nothing": null, "list": [{}, {"k": "e"}], "map": {"a": {}}}),
        ),
    )
    .await;
    x.merge(&format!("{FOOS}/a"), &json!({"spec": {"mode": null}})).await;
    x.apply(
        &format!("{FOOS}/c"),
        "alice",
        &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "c"}, "spec": {"deep": {}}}),
    )
    .await;
    x.put(
        &format!("{FOOS}/b"),
        &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "b"}, "spec": {"list": []}}),
    )
    .await;
}

pub async fn status_is_kept_apart(x: &mut Exchange) {
    define(x, checked()).await;
    let one = json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"mode": "Observe"}, "status": {"n": 5}});
    x.post(FOOS, &one).await;
    x.merge(&format!("{FOOS}/a"), &json!({"status": {"n": 1}})).await;
    x.merge(
        &format!("{FOOS}/a/status"),
        &json!({"status": {"n": 1}, "spec": {"mode": "Enforce"},
        "metadata": {"labels": {"l": "m"}, "annotations": {"a": "b"}, "finalizers": ["x.dev/a"]}}),
    )
    .await;
    x.merge(&format!("{FOOS}/a"), &json!({"spec": {"mode": "Enforce"}})).await;
    x.merge(&format!("{FOOS}/a"), &json!({"metadata": {"labels": {"l": "m"}}})).await;
    x.get(&format!("{FOOS}/a/status")).await;
    let mut whole = x.get(&format!("{FOOS}/a")).await.body;
    whole["status"] = json!({"n": 2});
    whole["spec"]["flag"] = true.into();
    let replaced = x.put(&format!("{FOOS}/a/status"), &whole).await;
    let mut whole = replaced.body;
    whole["spec"]["flag"] = true.into();
    x.put(&format!("{FOOS}/a"), &whole).await;
    x.json_patch(&format!("{FOOS}/a/status"), &json!([{"op": "remove", "path": "/status"}])).await;
    x.delete(&format!("{FOOS}/a/status"), &Value::Null).await;
}

pub async fn without_a_status_subresource(x: &mut Exchange) {
    let mut plain = definition(checked());
    plain["spec"]["versions"][0].as_object_mut().unwrap().remove("subresources");
    register(x, &plain).await;
    x.post(FOOS, &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"mode": "Observe"}, "status": {"n": 5}})).await;
    x.merge(&format!("{FOOS}/a"), &json!({"status": {"n": 6}})).await;
    x.get(&format!("{FOOS}/a/status")).await;
    x.get(&format!("{FOOS}/a/scale")).await;
}

pub async fn scale(x: &mut Exchange) {
    let mut scaled = definition(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    scaled["spec"]["versions"][0]["subresources"]["scale"] = json!({"specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"});
    register(x, &scaled).await;
    let scale = format!("{FOOS}/a/scale");
    x.post(FOOS, &foo("a", &json!({"replicas": 2}))).await;
    x.merge(&format!("{FOOS}/a/status"), &json!({"status": {"replicas": 1, "selector": "a=b"}})).await;
    x.get(&scale).await;
    x.merge(&scale, &json!({"spec": {"replicas": 3}})).await;
    x.merge(&scale, &json!({"spec": {"replicas": -1}})).await;
    x.merge(&scale, &json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 4}})).await;
    x.get(&format!("{FOOS}/a")).await;
    x.get(&format!("{FOOS}/nope/scale")).await;
    x.post(FOOS, &foo("none", &json!({}))).await;
    x.get(&format!("{FOOS}/none/scale")).await;
}

pub async fn two_versions(x: &mut Exchange) {
    let mut two = definition(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let mut other = two["spec"]["versions"][0].clone();
    other["name"] = "v2".into();
    other["storage"] = false.into();
    other["deprecated"] = true.into();
    two["spec"]["versions"].as_array_mut().unwrap().push(other);
    register(x, &two).await;
    x.post(FOOS, &foo("a", &json!({"n": 1}))).await;
    x.get("/apis/{ns}.dev/v2/namespaces/{ns}/foos/a").await;
    x.get("/apis/{ns}.dev/v2/namespaces/{ns}/foos").await;
    x.get("/apis/{ns}.dev").await;
    x.merge("/apis/{ns}.dev/v2/namespaces/{ns}/foos/a", &json!({"spec": {"n": 2}})).await;
    x.get(&format!("{FOOS}/a")).await;
}

pub async fn at_cluster_scope(x: &mut Exchange) {
    let mut wide = definition(json!({"type": "object"}));
    wide["spec"]["scope"] = "Cluster".into();
    x.prepare("POST", CRDS, &wide).await;
    const WIDE: &str = "/apis/{ns}.dev/v1/foos";
    x.reached(WIDE, |answer| answer.code == 200).await;
    x.post(WIDE, &bare("a")).await;
    x.post(
        WIDE,
        &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "b", "namespace": "{ns}"}}),
    )
    .await;
    x.get(FOOS).await;
    x.post(FOOS, &bare("c")).await;
    x.get(WIDE).await;
    x.delete(WIDE, &Value::Null).await;
}
