//! Definitions, kept as `ControllerRevision`s under names that say what is in them.
//!
//! One that was kept is needed before an Execution names it; until then only this process knows, so whoever tidies up asks
//! here first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::Value;

use super::context::Context;
use crate::api::Execution;
use crate::cluster::objects::MANAGER;
use crate::cluster::{Error, Result};
use crate::decide::definition::{Definition, DefinitionError};
use crate::decide::matching::CompiledRule;

/// Namespace and name.
type Key = (String, String);

/// The definitions that are known.
#[derive(Default)]
pub struct Definitions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// What was read or written: they never change under their name.
    known: BTreeMap<Key, Arc<Definition>>,
    /// Their Rules, compiled; none if one does not compile any more.
    compiled: BTreeMap<Key, Option<Arc<CompiledRule>>>,
    /// Those that are about to be named by an Execution, and by how many.
    needed: BTreeMap<Key, usize>,
    /// Those that are being deleted.
    going: BTreeSet<Key>,
}

/// A definition that is there and stays as long as this lives.
pub struct Kept<'a> {
    definitions: &'a Definitions,
    key: Key,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut inner = self.definitions.inner.lock();
        if let Some(needed) = inner.needed.get_mut(&self.key) {
            *needed -= 1;
            if *needed == 0 {
                inner.needed.remove(&self.key);
            }
        }
    }
}

/// A definition that is being deleted; nobody relies on it meanwhile.
pub struct Going<'a> {
    definitions: &'a Definitions,
    key: Key,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.definitions.inner.lock().going.remove(&self.key);
    }
}

impl Definitions {
    /// The namespaces in which definitions are known.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.inner.lock().known.keys().map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Marks one as needed; none if it is being deleted.
    fn need(&self, key: &Key) -> Option<Kept<'_>> {
        let mut inner = self.inner.lock();
        if inner.going.contains(key) {
            return None;
        }
        *inner.needed.entry(key.clone()).or_default() += 1;
        Some(Kept { definitions: self, key: key.clone() })
    }

    /// Forgets one that is to be deleted; none if somebody needs it.
    pub fn give_up(&self, namespace: &str, name: &str) -> Option<Going<'_>> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut inner = self.inner.lock();
        if inner.needed.contains_key(&key) {
            return None;
        }
        inner.known.remove(&key);
        inner.compiled.remove(&key);
        inner.going.insert(key.clone());
        Some(Going { definitions: self, key })
    }

    /// The Rule of an Execution as it was when that was decided, compiled once for all looks.
    pub fn rule_of(&self, execution: &Execution, definition: &Definition) -> Option<Arc<CompiledRule>> {
        let (spec, decision) = (definition.rule.as_ref()?, execution.spec.decision.as_ref()?);
        let namespace = execution.namespace().unwrap_or_default();
        let key = (namespace, decision.definition.clone());
        if let Some(compiled) = self.inner.lock().compiled.get(&key) {
            return compiled.clone();
        }
        let compiled = CompiledRule::of(spec, &key.0, &decision.rule.name, Timestamp::UNIX_EPOCH);
        let compiled = compiled.ok().map(Arc::new);
        let mut inner = self.inner.lock();
        if inner.known.contains_key(&key) {
            inner.compiled.insert(key, compiled.clone());
        }
        compiled
    }

    fn get(&self, key: &Key) -> Option<Arc<Definition>> {
        self.inner.lock().known.get(key).cloned()
    }

    fn put(&self, key: Key, definition: Arc<Definition>) {
        self.inner.lock().known.insert(key, definition);
    }
}

/// Keeps a definition under its name for as long as the answer lives. One that is there already says the same: the name
/// says what is in it.
pub async fn keep<'a>(
    context: &'a Context,
    namespace: &str,
    name: &str,
    definition: &Definition,
) -> Result<Kept<'a>> {
    let key = (namespace.to_owned(), name.to_owned());
    let busy = || Error::Busy(format!("definition {name} is being tidied up"));
    let kept = context.definitions.need(&key).ok_or_else(busy)?;
    if context.definitions.get(&key).is_some() {
        return Ok(kept);
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
    context.definitions.put(key, Arc::new(definition.clone()));
    Ok(kept)
}

/// Reads a definition back and checks it against its name.
pub async fn read(context: &Context, namespace: &str, name: &str) -> Result<Arc<Definition>> {
    let key = (namespace.to_owned(), name.to_owned());
    if let Some(definition) = context.definitions.get(&key) {
        return Ok(definition);
    }
    let api: Api<ControllerRevision> = Api::namespaced(context.home.clone(), namespace);
    let found = api.get(name).await.map_err(Error::request(format!("read definition {name}")))?;
    let data: Value = found.data.map(|data| data.0).unwrap_or_default();
    let definition = Arc::new(Definition::read(name, &data).map_err(|error| match error {
        DefinitionError::Unknown { .. } => Error::Unknown(error.to_string()),
        _ => Error::Unexpected(error.to_string()),
    })?);
    context.definitions.put(key, definition.clone());
    Ok(definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays_and_what_goes_is_not_relied_on() {
        let definitions = Definitions::default();
        let key = ("a".to_owned(), "d-1".to_owned());
        let (first, second) = (definitions.need(&key), definitions.need(&key));
        definitions.put(key.clone(), Arc::default());
        drop(first);
        assert!(definitions.give_up("a", "d-1").is_none(), "the second needs it");
        drop(second);
        let going = definitions.give_up("a", "d-1");
        assert!(going.is_some() && definitions.get(&key).is_none() && definitions.need(&key).is_none());
        drop(going);
        assert!(definitions.need(&key).is_some());
    }
}
