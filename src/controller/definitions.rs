//! Definitions, kept as `ControllerRevision`s under names that say what is in them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;

use super::context::Context;
use crate::cluster::objects::MANAGER;
use crate::cluster::{Error, Result};
use crate::decide::definition::{Definition, DefinitionError};

/// Keeps a definition under its name. One that is there already says the same: the name says what is in it.
pub async fn keep(context: &Context, namespace: &str, name: &str, definition: &Definition) -> Result<()> {
    let known = (namespace.to_owned(), name.to_owned());
    if context.definitions.lock().contains_key(&known) {
        return Ok(());
    }
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(definition.data())),
        revision: 1,
    };
    let api: Api<ControllerRevision> = Api::namespaced(context.home.clone(), namespace);
    match api.create(&PostParams::default(), &revision).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(source) => return Err(Error::Request { action: format!("keep definition {name}"), source }),
    }
    context.definitions.lock().insert(known, Arc::new(definition.clone()));
    Ok(())
}

/// Reads a definition back and checks it against its name.
pub async fn read(context: &Context, namespace: &str, name: &str) -> Result<Arc<Definition>> {
    let known = (namespace.to_owned(), name.to_owned());
    if let Some(definition) = context.definitions.lock().get(&known) {
        return Ok(definition.clone());
    }
    let api: Api<ControllerRevision> = Api::namespaced(context.home.clone(), namespace);
    let found = api.get(name).await.map_err(Error::request(format!("read definition {name}")))?;
    let data: Value = found.data.map(|data| data.0).unwrap_or_default();
    let definition = Arc::new(Definition::read(name, &data).map_err(|error| match error {
        DefinitionError::Unknown { .. } => Error::Unknown(error.to_string()),
        _ => Error::Unexpected(error.to_string()),
    })?);
    context.definitions.lock().insert(known, definition.clone());
    Ok(definition)
}
