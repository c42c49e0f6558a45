//! Secrets, read as the account that may.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::error::{Error, Result, optional};

/// The texts of a Secret, by key. Values that are no text are left out: none that fother reads is binary.
pub async fn read(client: &Client, namespace: &str, name: &str) -> Result<BTreeMap<String, String>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found =
        optional(api.get(name).await).map_err(Error::request(format!("read Secret {namespace}/{name}")))?;
    let secret =
        found.ok_or_else(|| Error::Unexpected(format!("Secret {namespace}/{name} does not exist")))?;
    let texts = secret.data.unwrap_or_default().into_iter();
    Ok(texts.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect())
}
