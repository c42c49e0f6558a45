//! Puts objects into the cluster, as `kubectl apply --server-side` would.

use anyhow::Context;
use kube::Client;
use serde_json::{Value, json};

use crate::cluster::discovery::Kinds;
use crate::cluster::objects::Objects;

/// Applies one object.
pub async fn object(client: &Client, object: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let served = Kinds::default().find(client, text("/apiVersion"), kind).await?;
    let objects =
        Objects::of(client.clone(), &served, object.pointer("/metadata/namespace").and_then(Value::as_str));
    objects.apply(name, object).await.with_context(|| format!("failed to apply {kind} {name}"))?;
    Ok(())
}

/// Applies a namespace.
pub async fn namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    object(client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await
}

/// Applies all documents of a YAML text.
pub async fn documents(client: &Client, yaml: &str) -> anyhow::Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("failed to read a manifest")?;
    for document in documents {
        object(client, &document).await?;
    }
    Ok(())
}
