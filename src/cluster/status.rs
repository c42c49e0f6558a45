//! Statuses of fother's own objects.

use std::collections::BTreeSet;
use std::fmt::Debug;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, ReplaceOperation};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use super::objects::MANAGER;
use crate::api::Condition;

/// Changes within one member of a status that are still made one by one. The API server takes 10 000 in one patch, and
/// a long list that moved by one place is better written anew.
const FEW: usize = 200;

/// Writes what of a status is not what the object has: what a later version of fother has put there beside it stays. The
/// write fits only the version that was read: a process that
/// is behind fails with a conflict instead of overwriting. (A `test` that fails would be 422, which reads like an
/// invalid status; a version that is not the current one is 409.)
pub async fn write<K, S>(home: &Client, object: &K, before: Option<&S>, status: &S) -> Result<Option<K>>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
    S: Serialize + PartialEq,
{
    if before == Some(status) {
        return Ok(None);
    }
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let action = format!("write the status of {} {namespace}/{name}", K::kind(&()));
    let value = |status: &S| serde_json::to_value(status).map_err(|e| Error::Unexpected(e.to_string()));
    let before = before.map(value).transpose()?;
    let patch = patch(object.meta().resource_version.as_deref(), before.as_ref(), &value(status)?);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api: Api<K> = Api::namespaced(home.clone(), &namespace);
    let written = api.patch_status(&name, &params, &Patch::<()>::Json(patch)).await;
    written.map(Some).map_err(Error::request(action))
}

/// Writes the conditions of an object of which nothing else is understood.
pub async fn write_conditions(
    home: &Client,
    resource: &ApiResource,
    object: &Value,
    conditions: &[Condition],
) -> Result<()> {
    let text = |path| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let before = object.get("status").map(|status| match status.get("conditions") {
        Some(conditions) => json!({"conditions": conditions}),
        None => json!({}),
    });
    let fresh = json!({"conditions": conditions});
    let patch = patch(Some(text("/metadata/resourceVersion")), before.as_ref(), &fresh);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api: Api<DynamicObject> = Api::namespaced_with(home.clone(), namespace, resource);
    let written = api.patch_status(name, &params, &Patch::<()>::Json(patch)).await;
    let action = format!("write the status of {} {namespace}/{name}", resource.kind);
    written.map(drop).map_err(Error::request(action))
}

fn patch(version: Option<&str>, before: Option<&Value>, fresh: &Value) -> json_patch::Patch {
    let path = PointerBuf::from_tokens(["metadata", "resourceVersion"]);
    let same = PatchOperation::Replace(ReplaceOperation { path, value: version.into() });
    let changes = match before {
        Some(before) => changes(before, fresh),
        None => vec![add(["status"], fresh.clone())],
    };
    json_patch::Patch([vec![same], changes].concat())
}

/// What leads from one status to the other, member by member.
fn changes(before: &Value, fresh: &Value) -> Vec<PatchOperation> {
    let none = Map::new();
    let members =
        |status: &Value| status.as_object().unwrap_or(&none).keys().cloned().collect::<BTreeSet<_>>();
    let names = members(before).union(&members(fresh)).cloned().collect::<Vec<_>>();
    names.into_iter().flat_map(|name| changes_within(&name, before.get(&name), fresh.get(&name))).collect()
}

fn changes_within(name: &str, before: Option<&Value>, fresh: Option<&Value>) -> Vec<PatchOperation> {
    let alone = |value: Option<&Value>| match value {
        Some(value) => json!({"status": {name: value}}),
        None => json!({"status": {}}),
    };
    let few = json_patch::diff(&alone(before), &alone(fresh)).0;
    match fresh {
        Some(fresh) if few.len() > FEW => vec![add(["status", name], fresh.clone())],
        _ => few,
    }
}

/// Adds a member, or replaces the one that is there.
fn add<'a>(path: impl IntoIterator<Item = &'a str>, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a stored object when a status that was read from it is changed.
    fn written(stored: &Value, before: Option<&Value>, fresh: &Value) -> Value {
        let mut object = json!({"metadata": {"resourceVersion": "7"}});
        if before.is_some() {
            object["status"] = stored.clone();
        }
        json_patch::patch(&mut object, &patch(Some("7"), before, fresh)).expect("a patch that fits");
        assert_eq!(object["metadata"]["resourceVersion"], "7");
        object["status"].take()
    }

    #[test]
    fn what_a_later_version_wrote_stays() {
        let stored = json!({
            "pace": "slow", "step": "one (1/2)",
            "rungs": [{"run": "one", "state": "Running", "pace": {"of": "work"}}],
        });
        let before = json!({"step": "one (1/2)", "rungs": [{"run": "one", "state": "Running"}]});
        let fresh =
            json!({"rungs": [{"run": "one", "state": "Succeeded", "outputs": {"a": 1}}, {"run": "two"}]});
        assert_eq!(
            written(&stored, Some(&before), &fresh),
            json!({"pace": "slow", "rungs": [
                {"run": "one", "state": "Succeeded", "outputs": {"a": 1}, "pace": {"of": "work"}}, {"run": "two"},
            ]})
        );
    }

    #[test]
    fn the_first_status_and_a_long_list_are_written_whole() {
        assert_eq!(written(&Value::Null, None, &json!({"step": "one"})), json!({"step": "one"}));
        let list = |from: usize| json!({"inventory": (from..from + 5000).collect::<Vec<_>>()});
        assert_eq!(written(&list(0), Some(&list(0)), &list(1)), list(1));
        assert_eq!(patch(Some("7"), Some(&list(0)), &list(1)).0.len(), 2);
    }
}
