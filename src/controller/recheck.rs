//! Whether a target still matches, by what the API server says now: the look before every act.

use std::sync::Arc;

use serde_json::Value;

use super::context::Context;
use crate::api::{MatchedObject, ObjectReference};
use crate::cluster::account::Account;
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result, owners};
use crate::decide::identity::TargetKey;
use crate::decide::matching::CompiledRule;
use crate::source::watch::now;

/// The object that stands for a target's matches, if it still matches. A view may be a moment behind, and what was
/// mended in that moment needs no Execution.
pub async fn still(
    context: &Context,
    account: &Account,
    rule: &CompiledRule,
    matched: &MatchedObject,
) -> Result<Option<Arc<Value>>> {
    let objects = Objects::around(account.client(), &context.kinds, &matched.object).await?;
    let Some(object) = objects.listed(&matched.object.name).await? else { return Ok(None) };
    let object = Arc::new(object);
    let still = matches!(rule.matches_object(&object, now()), Ok(Some(_)));
    Ok(still.then_some(object))
}

/// An object that matches and leads to the target, if there is one. The one that was decided about is looked at first:
/// while it matches, there is no need to list all.
pub async fn matching(
    context: &Context,
    account: &Account,
    rule: &CompiledRule,
    target: &ObjectReference,
    decided: Option<&MatchedObject>,
) -> Result<Option<Arc<Value>>> {
    let Some(trigger) = &rule.spec.trigger.resource else { return Ok(None) };
    let served = context.kinds.find(&context.home, &trigger.api_version, &trigger.kind).await?;
    let objects = Objects::of(account.client(), &served, Some(&rule.facts.namespace));
    let wanted = TargetKey::from(target);
    if let Some(decided) = decided
        && let Some(object) = objects.listed(&decided.object.name).await?.map(Arc::new)
        && leads(context, account, rule, (&object, &wanted)).await.is_ok_and(|leads| leads)
    {
        return Ok(Some(object));
    }
    let mut unknown = None;
    for object in objects.list(None).await? {
        let object = Arc::new(object);
        match leads(context, account, rule, (&object, &wanted)).await {
            Ok(true) => return Ok(Some(object)),
            Ok(false) => {}
            Err(error) => drop(unknown.get_or_insert(error)),
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// Whether an object matches and leads to the target. Those whose owners are gone lead nowhere: they are on their way
/// out. One whose owners cannot be read leaves open only whether nothing matches.
async fn leads(
    context: &Context,
    account: &Account,
    rule: &CompiledRule,
    (object, wanted): (&Arc<Value>, &TargetKey),
) -> Result<bool> {
    if !matches!(rule.matches_object(object, now()), Ok(Some(_))) {
        return Ok(false);
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    match owners::resolve(&account.client(), &context.kinds, object, &rule.target(kind)).await {
        Ok(found) => Ok(TargetKey::from(&found) == *wanted),
        Err(Error::Unexpected(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
