//! Statuses of fother's own objects.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::{Error, Result};
use super::objects::MANAGER;

/// Writes a status, if it is not what the object has. The write fits only the version that was read: a process that
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
    let patch = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object.meta().resource_version},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|e| Error::Unexpected(e.to_string()))?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api: Api<K> = Api::namespaced(home.clone(), &namespace);
    let written = api.patch_status(&name, &params, &Patch::<()>::Json(patch)).await;
    written.map(Some).map_err(Error::request(action))
}
