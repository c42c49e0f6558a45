//! CEL rules of custom kinds.

use serde_json::{Value, json};

use super::custom::{FOOS, define};
use super::exchange::Exchange;

fn schema() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [
            {"rule": "has(self.a) != has(self.b)", "message": "exactly one of a and b"},
            {"rule": "!has(self.n) || self.n <= 3", "messageExpression": "'n is ' + (self.n > 9 ? 'far ' : '') + 'too big'"},
            {"rule": "!has(oldSelf.mode) || has(self.mode)", "message": "mode cannot be dropped", "reason": "FieldValueForbidden", "fieldPath": ".mode"},
        ],
        "properties": {
            "a": {"type": "string"}, "b": {"type": "string"}, "n": {"type": "integer"},
            "mode": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "mode is immutable", "reason": "FieldValueForbidden"}]},
            "namespace": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'kube-system'"}]},
            "wait": {"type": "string", "format": "duration", "x-kubernetes-validations": [
                {"rule": "self >= duration('1m')", "message": "at least a minute"}]},
            "grow": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "cannot shrink"}]},
            "list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 9},
                "x-kubernetes-validations": [{"rule": "self.all(x, x.startsWith('k'))", "message": "all begin with k"},
                    {"rule": "self.exists_one(x, x == 'kk')", "message": "one kk"}]},
            "keyed": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "maxLength": 9},
                    "v": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "v is immutable"}]}}}},
            "map": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "string", "maxLength": 9},
                "x-kubernetes-validations": [{"rule": "self.all(key, size(key) < 3)", "message": "short keys"}]},
            "text": {"type": "string", "maxLength": 40, "x-kubernetes-validations": [
                {"rule": "self.matches('^[a-z ]*$')", "message": "lower case"},
                {"rule": "self.size() < 30", "message": "short"},
                {"rule": "!self.contains('bad')"}]}}}}})
}

fn foo(spec: &Value) -> Value {
    super::custom::foo("a", spec)
}

pub async fn on_create(x: &mut Exchange) {
    define(x, schema()).await;
    for spec in [
        json!({"a": "x"}),
        json!({}),
        json!({"a": "x", "b": "y"}),
        json!({"a": "x", "n": 4}),
        json!({"a": "x", "n": "4"}),
        json!({"n": 4}),
        json!({"a": "x", "namespace": "kube-system"}),
        json!({"a": "x", "wait": "30s"}),
        json!({"a": "x", "wait": "2m"}),
        json!({"a": "x", "list": ["kk", "x"]}),
        json!({"a": "x", "list": ["kk", "kk"]}),
        json!({"a": "x", "list": ["kk", "k"]}),
        json!({"a": "x", "map": {"long": "v"}}),
        json!({"a": "x", "text": "Bad"}),
        json!({"a": "x", "text": "a bad text that is long, too"}),
        json!({"a": "x", "mode": "one", "grow": 1}),
    ] {
        x.post(&format!("{FOOS}?dryRun=All"), &foo(&spec)).await;
    }
}

pub async fn on_update(x: &mut Exchange) {
    define(x, schema()).await;
    let one = format!("{FOOS}/a");
    let spec = json!({"a": "x", "mode": "one", "grow": 3, "keyed": [{"k": "a", "v": "1"}, {"k": "b"}]});
    x.post(FOOS, &foo(&spec)).await;
    for spec in [
        json!({"mode": "two"}),
        json!({"mode": null}),
        json!({"grow": 2}),
        json!({"grow": 4}),
        json!({"keyed": [{"k": "a", "v": "2"}]}),
        json!({"keyed": [{"k": "b", "v": "2"}, {"k": "a", "v": "1"}]}),
        json!({"b": "y"}),
        json!({"a": null, "b": "y"}),
    ] {
        x.merge(&one, &json!({"spec": spec})).await;
    }
    x.merge(&one, &json!({"metadata": {"labels": {"l": "m"}}})).await;
    x.apply(&one, "alice&force=true", &json!({"apiVersion": "{ns}.dev/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"mode": "two"}})).await;
}

pub async fn what_was_wrong_before_may_stay(x: &mut Exchange) {
    define(
        x,
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "n": {"type": "integer"}, "m": {"type": "integer"}}}}}),
    )
    .await;
    x.post(FOOS, &foo(&json!({"n": 9, "m": 1}))).await;
    let stricter = json!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
        {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "n": {"type": "integer", "maximum": 5}, "m": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 1", "message": "more than one"}]}}}}}}}]}});
    x.merge_quietly(&format!("{}/foos.{{ns}}.dev", super::custom::CRDS), &stricter).await;
    let probe = super::custom::foo("probe", &json!({"n": 9}));
    x.until(&format!("{FOOS}?dryRun=All"), &probe, |answer| answer.code == 422).await;
    let one = format!("{FOOS}/a");
    x.merge(&one, &json!({"metadata": {"labels": {"l": "m"}}})).await;
    x.merge(&one, &json!({"spec": {"n": 8}})).await;
    x.merge(&one, &json!({"spec": {"m": 0}})).await;
    x.merge(&one, &json!({"spec": {"n": 5}})).await;
}
