//! The ConfigMaps and Secrets that a pod refers to, read when they are needed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

/// A map's entries, or none if it is absent and may be.
pub type Entries = Option<BTreeMap<String, Vec<u8>>>;

/// Why something that a pod refers to cannot be had. The messages are the kubelet's.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such object.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field of the downward API that this node does not know.
    #[error("unsupported fieldPath: {0}")]
    UnsupportedField(String),
    /// Something that this node does not do.
    #[error("{0} is not supported by this node")]
    Unsupported(String),
    /// The API server did not answer as hoped.
    #[error("failed to read {what}: {source}")]
    Read {
        /// What was read.
        what: String,
        /// The cause.
        source: kube::Error,
    },
    /// The machine's file system refused.
    #[error("failed to write {path}: {source}")]
    Write {
        /// Where.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// Reads the objects of one namespace.
#[derive(Clone)]
pub struct Sources {
    client: Client,
    namespace: String,
}

impl Sources {
    /// Reads in `namespace` through `client`.
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// The namespace read.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client that reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Everything in a ConfigMap.
    pub async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Entries, SourceError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await.map_err(|source| read_error("configmap", name, source))?;
        let entries = found.map(|map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            text.chain(binary).collect()
        });
        present(entries, "configmap", name, optional)
    }

    /// Everything in a Secret.
    pub async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Entries, SourceError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await.map_err(|source| read_error("secret", name, source))?;
        let entries = found.map(|secret| {
            secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
        });
        present(entries, "secret", name, optional)
    }

    /// One entry of a ConfigMap as text.
    pub async fn config_map_key(
        &self,
        name: &str,
        key: &str,
        optional: Option<bool>,
    ) -> Result<Option<String>, SourceError> {
        let found = entry(self.config_map(name, optional).await?, key);
        self.present_key(found, ("ConfigMap", name, key), optional)
    }

    /// One entry of a Secret as text.
    pub async fn secret_key(
        &self,
        name: &str,
        key: &str,
        optional: Option<bool>,
    ) -> Result<Option<String>, SourceError> {
        let found = entry(self.secret(name, optional).await?, key);
        self.present_key(found, ("Secret", name, key), optional)
    }

    fn present_key(
        &self,
        value: Option<String>,
        (kind, name, key): (&'static str, &str, &str),
        optional: Option<bool>,
    ) -> Result<Option<String>, SourceError> {
        if value.is_none() && optional != Some(true) {
            let (name, key) = (name.to_owned(), key.to_owned());
            return Err(SourceError::MissingKey { kind, namespace: self.namespace.clone(), name, key });
        }
        Ok(value)
    }
}

fn entry(entries: Entries, key: &str) -> Option<String> {
    entries?.remove(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn present(
    entries: Entries,
    kind: &'static str,
    name: &str,
    optional: Option<bool>,
) -> Result<Entries, SourceError> {
    if entries.is_none() && optional != Some(true) {
        return Err(SourceError::Missing { kind, name: name.to_owned() });
    }
    Ok(entries)
}

fn read_error(kind: &str, name: &str, source: kube::Error) -> SourceError {
    SourceError::Read { what: format!("{kind} {name:?}"), source }
}
