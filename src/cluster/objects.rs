//! Objects of any kind, as JSON.

use std::sync::Arc;

use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions, TypeMeta,
};
use serde_json::{Value, json};

use super::discovery::{Kinds, Served};
use super::error::{Error, Result, optional};
pub use crate::api::MANAGER;
use crate::api::{ObjectReference, is_path_segment};

/// Objects of one kind in one namespace, reached as one user.
pub struct Objects {
    api: Api<DynamicObject>,
    kind: String,
    types: TypeMeta,
}

impl Objects {
    /// Those of a kind that was looked up.
    pub fn of(client: Client, served: &Served, namespace: Option<&str>) -> Self {
        let api = match namespace.filter(|_| served.namespaced) {
            Some(namespace) => Api::namespaced_with(client, namespace, &served.resource),
            None => Api::all_with(client, &served.resource),
        };
        let resource = &served.resource;
        let types = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
        Self { api, kind: resource.kind.clone(), types }
    }

    /// Those among which an object is.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if it has a name that no object has: of that the address of another one could be made. And if it has
    /// no namespace although its kind has one: all namespaces would be asked.
    pub async fn around(client: Client, kinds: &Kinds, object: &ObjectReference) -> Result<Self> {
        if let Some(name) = object.namespace.iter().chain([&object.name]).find(|name| !is_path_segment(name))
        {
            return Err(Error::Unexpected(format!("{name:?} is no name of an object")));
        }
        let served = kinds.find(&client, &object.api_version, &object.kind).await?;
        if served.namespaced && object.namespace.is_none() {
            let text = format!("{} {} has no namespace, and its kind has one", object.kind, object.name);
            return Err(Error::Unexpected(text));
        }
        Ok(Self::of(client, &served, object.namespace.as_deref()))
    }

    /// Reads one, if it exists.
    pub async fn get(&self, name: &str) -> Result<Option<Arc<Value>>> {
        let found = optional(self.api.get(name).await)
            .map_err(Error::request(format!("read {} {name}", self.kind)))?;
        found.map(|object| json(&object).map(Arc::new)).transpose()
    }

    /// Reads one by whichever right there is: whoever watches may list, but not always get. A list waits until the API
    /// server's cache has caught up with its store, which takes it up to 100 ms, so it is the second choice.
    pub async fn listed(&self, name: &str) -> Result<Option<Value>> {
        match self.get(name).await {
            Err(error) if error.is_forbidden() => self.list_one(name).await,
            found => Ok(found?.map(Arc::unwrap_or_clone)),
        }
    }

    async fn list_one(&self, name: &str) -> Result<Option<Value>> {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = self.api.list(&params).await.map_err(Error::request(format!("list {}", self.kind)))?;
        found.items.into_iter().next().map(|object| self.typed(object)).transpose()
    }

    /// An item of a list, with its kind, which it may lack.
    fn typed(&self, mut object: DynamicObject) -> Result<Value> {
        object.types.get_or_insert_with(|| self.types.clone());
        json(&object)
    }

    /// Lists all, page by page, as they are in the store at this moment.
    pub async fn list(&self, selector: Option<&str>) -> Result<Vec<Value>> {
        let mut params = ListParams::default().limit(500);
        params.label_selector = selector.map(str::to_owned);
        let mut found = Vec::new();
        loop {
            let page = self.api.list(&params).await.map_err(Error::request(format!("list {}", self.kind)))?;
            for object in page.items {
                found.push(self.typed(object)?);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }

    /// Creates one.
    pub async fn create(&self, manifest: &Value) -> Result<Value> {
        let object: DynamicObject = serde_json::from_value(manifest.clone())
            .map_err(|error| Error::Unexpected(format!("the manifest is no object: {error}")))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let created = self.api.create(&params, &object).await;
        json(&created.map_err(Error::request(format!("create {} {name}", self.kind)))?)
    }

    /// Asks whether one could be created, if the one of its name were not there: rights, schema, admission and quotas are
    /// looked at before that.
    pub async fn rehearse(&self, manifest: &Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(manifest.clone())
            .map_err(|error| Error::Unexpected(format!("the manifest is no object: {error}")))?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), dry_run: true };
        match self.api.create(&params, &object).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
            other => {
                let name = object.metadata.name.unwrap_or_default();
                let action = format!("try the creation of {} {name}, so nothing was deleted", self.kind);
                other.map(drop).map_err(Error::request(action))
            }
        }
    }

    /// Patches one.
    pub async fn patch(&self, name: &str, patch: &Patch<&Value>) -> Result<Value> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api.patch(name, &params, patch).await;
        json(&patched.map_err(Error::request(format!("patch {} {name}", self.kind)))?)
    }

    /// Applies one server-side. The fields belong to us: whoever changed them by hand is overruled. What somebody added
    /// beside them is his, and stays; see [`Objects::overrule`].
    pub async fn apply(&self, name: &str, manifest: &Value) -> Result<Value> {
        let params = PatchParams::apply(MANAGER).force();
        let applied = self.api.patch(name, &params, &Patch::Apply(manifest)).await;
        json(&applied.map_err(Error::request(format!("apply {} {name}", self.kind)))?)
    }

    /// Puts a spec in the place of that of `seen`, whoever its fields belong to; a conflict if the object has changed since.
    pub async fn overrule(&self, name: &str, seen: &Value, spec: &Value) -> Result<()> {
        let patch = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": seen["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/spec", "value": spec},
        ]);
        let patch: json_patch::Patch =
            serde_json::from_value(patch).map_err(|error| Error::Unexpected(error.to_string()))?;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api.patch(name, &params, &Patch::Json::<Value>(patch)).await;
        patched.map(drop).map_err(Error::request(format!("patch {} {name}", self.kind)))
    }

    /// Asks whether one could be applied so: rights, schema and admission are looked at, and nothing is kept.
    pub async fn rehearse_apply(&self, name: &str, manifest: &Value) -> Result<()> {
        let params = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER).force() };
        let tried = self.api.patch(name, &params, &Patch::Apply(manifest)).await;
        tried.map(drop).map_err(Error::request(format!("try {} {name}, so nothing was written", self.kind)))
    }

    /// Takes the finalizers from one of this UID that is being deleted, whoever put them there.
    pub async fn release(&self, name: &str, uid: &str) -> Result<()> {
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "remove", "path": "/metadata/finalizers"},
        ]);
        let patch: json_patch::Patch =
            serde_json::from_value(patch).map_err(|error| Error::Unexpected(error.to_string()))?;
        match self.patch(name, &Patch::Json(patch)).await {
            // It is gone, or is another; or it has none.
            Err(error) if matches!(error.code(), Some(404 | 422)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Deletes one of this UID; gone already is as well.
    pub async fn delete(
        &self,
        name: &str,
        uid: Option<&str>,
        grace_period_seconds: Option<u32>,
    ) -> Result<()> {
        let mut params = DeleteParams::background();
        params.grace_period_seconds = grace_period_seconds;
        params.preconditions =
            uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let deleted = optional(self.api.delete(name, &params).await);
        deleted.map(drop).map_err(Error::request(format!("delete {} {name}", self.kind)))
    }
}

fn json(object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|error| Error::Unexpected(format!("the object is no JSON: {error}")))
}
