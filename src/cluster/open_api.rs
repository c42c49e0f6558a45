//! What the API server publishes of the fields of its kinds: an index of documents, one for each group and version. Whoever
//! may talk to the API server may read them.

use std::collections::BTreeMap;

use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use super::error::{Error, Result};

#[derive(Deserialize)]
struct Index {
    paths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "serverRelativeURL")]
    url: String,
}

/// Where the document of each `apiVersion` is. The address changes with what is in it.
pub async fn index(client: &Client) -> Result<BTreeMap<String, String>> {
    let index: Index = read(client, "/openapi/v3").await?;
    let version = |path: &str| {
        let path = path.strip_prefix("apis/").or_else(|| path.strip_prefix("api/"))?;
        Some(path.to_owned())
    };
    Ok(index.paths.into_iter().filter_map(|(path, entry)| Some((version(&path)?, entry.url))).collect())
}

/// A document of the index.
pub async fn document(client: &Client, url: &str) -> Result<Value> {
    read(client, url).await
}

async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T> {
    let failed = |error: http::Error| Error::Unexpected(format!("failed to read {path}: {error}"));
    let request = Request::get(path).body(Vec::new()).map_err(failed)?;
    client.request(request).await.map_err(Error::request(format!("read {path}")))
}
