//! The patches that are computed from the present object: JSON patch, merge patch and strategic merge
//! patch with its directives.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};
use super::schema::Schema;

/// A patch as it was sent.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, along the schema of a built-in kind.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// The object after a patch that is not an apply.
pub fn patched(schema: Option<Schema<'_>>, object: &Value, patch: &Patch) -> ApiResult<Value> {
    let mut result = object.clone();
    match patch {
        Patch::Json(operations) => {
            let Value::Array(operations) = operations else {
                return Err(ApiError::bad_request("error decoding patch: it is no list"));
            };
            for operation in operations {
                operate(&mut result, operation)?;
            }
        }
        Patch::Merge(patch) if patch.is_object() => json_patch::merge(&mut result, patch),
        Patch::Strategic(patch) if patch.is_object() => {
            result = strategic(schema, Some(&result), patch)?.unwrap_or(Value::Object(Map::new()));
        }
        _ => return Err(ApiError::bad_request("error decoding patch: the patch is not an object")),
    }
    Ok(result)
}

/// One operation of a JSON patch. As in the real server, a field that is not there can be replaced.
fn operate(object: &mut Value, operation: &Value) -> ApiResult<()> {
    // The real server says no more either.
    let refused =
        || ApiError::unprocessable("the server rejected our request due to an error in our request");
    let mut operation = operation.clone();
    let path = operation["path"].as_str().unwrap_or_default();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    let is_missing = parent.is_some_and(Value::is_object) && object.pointer(path).is_none();
    if is_missing && operation["op"] == "replace" {
        operation["op"] = "add".into();
    }
    let operation: json_patch::PatchOperation = serde_json::from_value(operation).map_err(|_| refused())?;
    json_patch::patch(object, &[operation]).map_err(|_| refused())
}

/// Merges along the schema; nothing where the patch deletes the value.
fn strategic(schema: Option<Schema<'_>>, old: Option<&Value>, patch: &Value) -> ApiResult<Option<Value>> {
    let Value::Object(patch) = patch else { return Ok(Some(patch.clone())) };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("delete") => return Ok(None),
        Some("replace") => {
            let fields = patch.iter().filter(|(name, _)| *name != "$patch");
            return Ok(Some(Value::Object(
                fields.map(|(name, value)| (name.clone(), value.clone())).collect(),
            )));
        }
        Some("merge") | None => {}
        Some(other) => {
            let map = Value::Object(patch.clone());
            return Err(ApiError::unexplained(format!("unknown patch type: {other} in map: {map}")));
        }
    }
    let mut result = old.and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Array(retained)) = patch.get("$retainKeys") {
        result.retain(|name, _| retained.iter().any(|key| key == name));
    }
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let field = schema.and_then(|schema| schema.field(name));
        match value {
            Value::Null => {
                result.remove(name);
            }
            Value::Object(_) => match strategic(field, result.get(name), value)? {
                Some(merged) => {
                    result.insert(name.clone(), merged);
                }
                None => {
                    result.remove(name);
                }
            },
            Value::Array(items) => {
                let mut merged = merge_list(field, result.get(name), items)?;
                let declared = patch.get(&format!("$setElementOrder/{name}")).and_then(Value::as_array);
                if let (Some(Value::Array(before)), true) = (result.get(name), merges(field)) {
                    order(&mut merged, declared.unwrap_or(items), before, merge_key(field).as_deref());
                }
                result.insert(name.clone(), Value::Array(merged));
            }
            scalar => {
                result.insert(name.clone(), scalar.clone());
            }
        }
    }
    apply_list_directives(schema, &mut result, patch)?;
    Ok(Some(Value::Object(result)))
}

fn merges(schema: Option<Schema<'_>>) -> bool {
    let strategy = schema.and_then(|schema| schema.text("x-kubernetes-patch-strategy"));
    strategy.is_some_and(|strategy| strategy.split(',').any(|part| part == "merge"))
}

fn merge_key(schema: Option<Schema<'_>>) -> Option<String> {
    schema.and_then(|schema| schema.text("x-kubernetes-patch-merge-key")).map(str::to_owned)
}

fn merge_list(schema: Option<Schema<'_>>, old: Option<&Value>, patch: &[Value]) -> ApiResult<Vec<Value>> {
    let replaces = patch.iter().any(|item| item["$patch"] == "replace");
    let items = patch.iter().filter(|item| item["$patch"] != "replace");
    if replaces || !merges(schema) {
        return Ok(items.cloned().collect());
    }
    let mut result = old.and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(key) = merge_key(schema) else {
        for item in items.filter(|item| !item.is_object()) {
            if !result.contains(item) {
                result.push(item.clone());
            }
        }
        return Ok(result);
    };
    for item in items {
        let Some(identity) = item.get(&key) else {
            let message = format!("map: {item} does not contain declared merge key: {key}");
            return Err(ApiError::unexplained(message));
        };
        let position = result.iter().position(|old| old.get(&key) == Some(identity));
        let schema = schema.and_then(|schema| schema.items());
        match (strategic(schema, position.map(|index| &result[index]), item)?, position) {
            (Some(merged), Some(index)) => result[index] = merged,
            (Some(merged), None) => result.push(merged),
            (None, Some(index)) => {
                result.remove(index);
            }
            (None, None) => {}
        }
    }
    Ok(result)
}

/// `$deleteFromPrimitiveList/x` and `$setElementOrder/x`.
fn apply_list_directives(
    schema: Option<Schema<'_>>,
    result: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> ApiResult<()> {
    for (name, value) in patch.iter().filter(|(name, _)| name.starts_with('$')) {
        let Value::Array(given) = value else { continue };
        match name.split_once('/') {
            Some(("$deleteFromPrimitiveList", list)) => {
                if let Some(Value::Array(items)) = result.get_mut(list) {
                    items.retain(|item| !given.contains(item));
                }
            }
            Some(("$setElementOrder", list)) => {
                let key = merge_key(schema.and_then(|schema| schema.field(list)));
                if let (Some(Value::Array(items)), false) = (result.get_mut(list), patch.contains_key(list)) {
                    let before = items.clone();
                    order(items, given, &before, key.as_deref());
                }
            }
            None if name == "$retainKeys" => {}
            _ => {
                return Err(ApiError::bad_request(format!(
                    "unknown directive {name:?} in strategic merge patch"
                )));
            }
        }
    }
    Ok(())
}

/// Brings the named items into the wanted order; the others keep their places among those that were there
/// before, and come after those that were not.
fn order(items: &mut Vec<Value>, wanted: &[Value], before: &[Value], key: Option<&str>) {
    let same = |a: &Value, b: &Value| match key {
        Some(key) => a.get(key) == b.get(key),
        None => a == b,
    };
    let rank = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        items.drain(..).partition(|item| rank(wanted, item).is_some());
    named.sort_by_key(|item| rank(wanted, item));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (named.peek(), others.peek()) {
        let is_later = rank(before, left).zip(rank(before, right)).is_some_and(|(left, right)| right < left);
        items.extend(if is_later { others.next() } else { named.next() });
    }
    items.extend(named);
    items.extend(others);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema;
    use super::*;

    #[test]
    fn each_kind_of_patch_does_its_work() {
        let pod = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x", "y"]}, "spec": {
            "containers": [{"name": "a", "image": "1", "env": [{"name": "E", "value": "v"}]}, {"name": "b"}]}});
        let cases = [
            (
                Patch::Json(json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "2"}])),
                "/spec/containers/0/image",
                json!("2"),
            ),
            (
                Patch::Merge(json!({"metadata": {"labels": {"a": null, "b": "2"}}})),
                "/metadata/labels",
                json!({"b": "2"}),
            ),
            (Patch::Merge(json!({"spec": {"containers": []}})), "/spec/containers", json!([])),
            (
                Patch::Strategic(json!({"spec": {"containers": [{"name": "a", "image": "2"}]}})),
                "/spec/containers",
                json!([{"name": "a", "image": "2", "env": [{"name": "E", "value": "v"}]}, {"name": "b"}]),
            ),
            (
                Patch::Strategic(
                    json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "c"}],
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}}),
                ),
                "/spec/containers",
                json!([{"name": "c"}, {"name": "a", "image": "1", "env": [{"name": "E", "value": "v"}]}]),
            ),
            (
                Patch::Strategic(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}})),
                "/metadata/finalizers",
                json!(["y"]),
            ),
            (
                Patch::Strategic(json!({"metadata": {"finalizers": ["z"]}})),
                "/metadata/finalizers",
                json!(["z", "x", "y"]),
            ),
            (
                Patch::Strategic(json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}})),
                "/metadata/labels",
                json!({"c": "3"}),
            ),
        ];
        for (patch, pointer, expected) in cases {
            let result = patched(schema::of_kind("", "v1", "Pod"), &pod, &patch).unwrap();
            assert_eq!(result.pointer(pointer), Some(&expected), "{patch:?}");
        }
        let refused = Patch::Json(json!([{"op": "test", "path": "/spec/x", "value": 1}]));
        assert_eq!(patched(None, &pod, &refused).unwrap_err().code, 422);
    }
}
