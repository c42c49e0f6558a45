//! From an object that matches to the target: owners are followed upwards.

use kube::Client;
use serde_json::Value;

use super::discovery::Kinds;
use super::error::{Error, Result};
use super::objects::Objects;
use crate::api::{ObjectReference, OwnerKind, Target};

/// Owners that are followed at the most: Kubernetes' own chains are three long.
const LONGEST_CHAIN: usize = 8;

/// Leads an object to its target. A look-up that fails fails the whole: a lower owner is never taken instead.
pub async fn resolve(
    client: &Client,
    kinds: &Kinds,
    object: &Value,
    target: &Target,
) -> Result<ObjectReference> {
    match target {
        Target::Object => Ok(reference(object)),
        Target::Workload => topmost(client, kinds, object).await,
        Target::Owner(kind) => nearest(client, kinds, object, kind).await,
        Target::Ref(_) | Target::Key(_) => {
            Err(Error::Unexpected("ref and key do not lead by owners".to_owned()))
        }
    }
}

async fn topmost(client: &Client, kinds: &Kinds, object: &Value) -> Result<ObjectReference> {
    let mut top = reference(object);
    let mut owner = controller_of(client, kinds, object).await?;
    for _ in 0..LONGEST_CHAIN {
        let Some(next) = owner.take() else { break };
        let found = read(client, kinds, &next).await?;
        owner = controller_of(client, kinds, &found).await?;
        top = next;
    }
    Ok(top)
}

async fn nearest(
    client: &Client,
    kinds: &Kinds,
    object: &Value,
    kind: &OwnerKind,
) -> Result<ObjectReference> {
    let mut owner = controller_of(client, kinds, object).await?;
    for _ in 0..LONGEST_CHAIN {
        let Some(next) = owner.take() else { break };
        if next.kind == kind.kind && next.api_version == kind.api_version {
            return Ok(next);
        }
        let found = read(client, kinds, &next).await?;
        owner = controller_of(client, kinds, &found).await?;
    }
    let name = reference(object);
    Err(Error::Unexpected(format!("{name} has no owner of kind {} ({})", kind.kind, kind.api_version)))
}

/// Reads an owner. One of another UID has taken the name since, and is not the owner.
async fn read(client: &Client, kinds: &Kinds, owner: &ObjectReference) -> Result<Value> {
    let objects = Objects::around(client.clone(), kinds, owner).await?;
    let found = objects.get(&owner.name).await?.filter(|found| reference(found).uid == owner.uid);
    found
        .map(|found| (*found).clone())
        .ok_or_else(|| Error::Unexpected(format!("owner {owner} does not exist")))
}

/// The owner that controls an object.
async fn controller_of(client: &Client, kinds: &Kinds, object: &Value) -> Result<Option<ObjectReference>> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let Some(owner) = owners.and_then(|owners| owners.iter().find(|owner| owner["controller"] == true))
    else {
        return Ok(None);
    };
    let text = |key: &str| owner[key].as_str().unwrap_or_default().to_owned();
    let served = kinds.find(client, &text("apiVersion"), &text("kind")).await?;
    Ok(Some(ObjectReference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        namespace: reference(object).namespace.filter(|_| served.namespaced),
        name: text("name"),
        uid: Some(text("uid")),
    }))
}

/// What an object is referred to by.
pub fn reference(object: &Value) -> ObjectReference {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    ObjectReference {
        api_version: text("/apiVersion").unwrap_or_default(),
        kind: text("/kind").unwrap_or_default(),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name").unwrap_or_default(),
        uid: text("/metadata/uid"),
    }
}
