//! Where a Rule leads: from an object that matches, or from what an event names, to the target with its UID.

use std::sync::Arc;

use kube::Client;
use serde_json::{Value, json};

use crate::api::{MatchedObject, ObjectReference, TriggerEvent};
use crate::cluster::discovery::Kinds;
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result, owners};
use crate::decide::matching::{CompiledRule, received};
use crate::expr::Bindings;
use crate::source::watch::now;

/// An object as a decision names it.
pub fn matched(object: &Value) -> MatchedObject {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    MatchedObject { object: owners::reference(object), resource_version: version.to_owned() }
}

/// The target of an object that matches: an owner, or what the Rule says by itself.
///
/// # Errors
/// [`Error::Unexpected`] if it leads nowhere; any other, if that cannot be said now.
pub async fn from_object(
    client: &Client,
    kinds: &Kinds,
    rule: &CompiledRule,
    object: &Arc<Value>,
) -> Result<ObjectReference> {
    from(client, kinds, rule, object, || Bindings::at(now()).with("object", object.clone())).await
}

/// The target of what has happened to an object.
///
/// # Errors
/// As for [`from_object`].
pub async fn from_happening(
    client: &Client,
    kinds: &Kinds,
    rule: &CompiledRule,
    (object, event): (&Arc<Value>, &TriggerEvent),
) -> Result<ObjectReference> {
    let trigger = &rule.spec.trigger;
    let bindings = || received(&json!(event), trigger, now()).with("object", object.clone());
    from(client, kinds, rule, object, bindings).await
}

async fn from(
    client: &Client,
    kinds: &Kinds,
    rule: &CompiledRule,
    object: &Value,
    bindings: impl FnOnce() -> Bindings,
) -> Result<ObjectReference> {
    let Some(aim) = &rule.aim else {
        let kind = object["kind"].as_str().unwrap_or_default();
        return owners::resolve(client, kinds, object, &rule.target(kind)).await;
    };
    let target = aim.at(&bindings(), &rule.facts.namespace).map_err(Error::Unexpected)?;
    named(client, kinds, &rule.facts.namespace, target).await
}

/// An object that a Rule of a namespace names, with its UID; a name needs no object.
///
/// # Errors
/// As for [`from_object`]: there has to be one, and not in another namespace.
pub async fn named(
    client: &Client,
    kinds: &Kinds,
    own: &str,
    target: ObjectReference,
) -> Result<ObjectReference> {
    if target.is_key() {
        return Ok(target);
    }
    if target.namespace.as_ref().is_some_and(|namespace| namespace != own) {
        return Err(Error::Unexpected(format!("{target} is in another namespace than the Rule")));
    }
    let served = kinds.find(client, &target.api_version, &target.kind).await?;
    let objects = Objects::of(client.clone(), &served, Some(own));
    let found = objects.get(&target.name).await?;
    let found = found.ok_or_else(|| Error::Unexpected(format!("{target} does not exist")))?;
    let namespace = served.namespaced.then(|| own.to_owned());
    Ok(ObjectReference { namespace, uid: owners::reference(&found).uid, ..target })
}
