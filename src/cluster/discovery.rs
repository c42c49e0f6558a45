//! Which kinds the cluster serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use kube::api::ApiResource;
use kube::core::{GroupVersion, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};
use parking_lot::Mutex;

use super::error::{Error, Result};
use crate::api::is_path_segment;

/// A kind that the cluster serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// How it is called in requests.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// What was asked before. Kinds do not change their name; one that is missing is asked for again.
#[derive(Clone, Default)]
pub struct Kinds {
    known: Arc<Mutex<BTreeMap<(String, String), Served>>>,
}

impl Kinds {
    /// Looks a kind up.
    pub async fn find(&self, client: &Client, api_version: &str, kind: &str) -> Result<Served> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(served) = self.known.lock().get(&key) {
            return Ok(served.clone());
        }
        let unknown = || Error::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
        // What is no part of an address would make another one of it.
        if !api_version.split('/').all(is_path_segment) {
            return Err(unknown());
        }
        let version: GroupVersion = api_version.parse().map_err(|_| unknown())?;
        let gvk = GroupVersionKind { group: version.group, version: version.version, kind: kind.to_owned() };
        let (resource, capabilities) = pinned_kind(client, &gvk).await.map_err(|error| match error {
            kube::Error::Discovery(_) => unknown(),
            kube::Error::Api(status) if status.code == 404 => unknown(),
            source => Error::Request { action: format!("look up kind {kind} of {api_version}"), source },
        })?;
        let served = Served { resource, namespaced: capabilities.scope == Scope::Namespaced };
        self.known.lock().insert(key, served.clone());
        Ok(served)
    }
}
