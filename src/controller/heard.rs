//! What Webhooks received, as one rule sees it: by the store, or by what the API server has at this moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::context::Context;
use crate::api::{EventBatch, Execution, LABEL, ObjectReference, Target};
use crate::cluster::{Error, Result};
use crate::decide::firing;
use crate::decide::identity::TargetKey;
use crate::decide::inbox::{self, Inbox, Item};
use crate::decide::lead::{self, Lead};
use crate::decide::matching::CompiledRule;
use crate::decide::owed::rules_of;
use crate::source::watch::now;

/// Batches that are read at a time.
const READING: usize = 8;

/// Where to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// What the watch has brought.
    Store,
    /// What the API server has at this moment.
    ApiServer,
}

/// What a rule has before it.
pub async fn inbox(context: &Context, rule: &CompiledRule, from: From) -> Result<Inbox> {
    let Some(webhook) = rule.spec.trigger.webhook_name() else { return Ok(Inbox::default()) };
    let batches = match from {
        From::Store => stored(context, rule),
        From::ApiServer => Box::pin(listed(context, &rule.facts.namespace, webhook)).await?,
    };
    Ok(inbox::of(rule, &batches, &beside(context, rule, &batches), now()))
}

/// The Rules that take nothing from one for what no other takes: others of its like, and those about the ends of alerts.
fn beside(context: &Context, rule: &CompiledRule, batches: &[Arc<EventBatch>]) -> BTreeSet<String> {
    if !rule.spec.trigger.is_unmatched() {
        return BTreeSet::new();
    }
    let places =
        batches.iter().flat_map(|batch| (0..batch.spec.events.len()).map(move |place| (batch, place)));
    let mut named: BTreeSet<&str> = places.flat_map(|(batch, place)| rules_of(batch, place)).collect();
    named.retain(|name| {
        let known = context.rules.get(&rule.facts.namespace, name);
        known.is_some_and(|one| one.spec.trigger.is_unmatched() || one.spec.trigger.is_about_ends())
    });
    named.into_iter().map(str::to_owned).collect()
}

/// What the watch has brought of a rule's Webhook.
fn stored(context: &Context, rule: &CompiledRule) -> Vec<Arc<EventBatch>> {
    let webhook = rule.spec.trigger.webhook_name();
    webhook.map(|webhook| context.batches.about(&rule.facts.namespace, webhook)).unwrap_or_default()
}

/// What a rule of this text could not decide about last, and why.
pub fn mistake(context: &Context, rule: &CompiledRule, text: &str) -> Option<String> {
    inbox::mistake((&rule.facts.name, text), &stored(context, rule))
}

/// Only what is not in the store as it is there is read: in a flood all of it is many megabytes, for each that fires.
async fn listed(context: &Context, namespace: &str, webhook: &str) -> Result<Vec<Arc<EventBatch>>> {
    let api: Api<EventBatch> = Api::namespaced(context.home.clone(), namespace);
    let mut params = ListParams::default().labels(&format!("{}={webhook}", LABEL.webhook)).limit(500);
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    loop {
        let page = api.list_metadata(&params).await.map_err(Error::request("list EventBatches"))?;
        for there in page.items {
            let known = context.batches.get(namespace, &there.name_any());
            match known.filter(|known| known.metadata.resource_version == there.metadata.resource_version) {
                Some(known) => found.push(known),
                None => unknown.push(there.name_any()),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    let reads: Vec<_> = unknown.iter().map(|name| api.get_opt(name)).collect();
    let mut read = stream::iter(reads).buffer_unordered(READING);
    while let Some(batch) = read.next().await {
        found.extend(batch.map_err(Error::request("read EventBatches"))?.map(Arc::new));
    }
    Ok(found)
}

/// Whether the kind of a rule's targets has namespaces.
pub async fn is_namespaced(context: &Context, rule: &CompiledRule) -> Result<bool> {
    match &rule.spec.target {
        Some(Target::Ref(object)) => {
            Ok(context.kinds.find(&context.home, &object.api_version, &object.kind).await?.namespaced)
        }
        _ => Ok(true),
    }
}

/// An alert that fires and leads to the target, if there is one.
pub async fn firing(
    context: &Context,
    rule: &CompiledRule,
    target: &ObjectReference,
    from: From,
) -> Result<Option<Item>> {
    let (namespaced, wanted) = (is_namespaced(context, rule).await?, TargetKey::from(target));
    let leads = |item: &Item, now: Timestamp| match lead::lead(rule, item.accepted(), namespaced, now) {
        Lead::To(found) => TargetKey::from(&found) == wanted,
        Lead::Nowhere(_) | Lead::Unknown(_) => false,
    };
    Ok(inbox(context, rule, from).await?.firing.into_iter().find(|item| leads(item, now())))
}

/// Whether that fires for which an Execution was decided: one of the alerts of which it was made, since whenever, or
/// any that leads to its target.
pub async fn fires(
    context: &Context,
    rule: &CompiledRule,
    (execution, target): (&Execution, &ObjectReference),
    from: From,
) -> Result<bool> {
    if fingerprints(execution).next().is_none() {
        return Ok(firing(context, rule, target, from).await?.is_some());
    }
    let is_one_of =
        |item: &Item| item.fingerprint().is_some_and(|own| fingerprints(execution).any(|one| one == own));
    let firing = inbox(context, rule, from).await?.firing;
    Ok(firing.iter().any(|item| is_one_of(item) && lead::matches(rule, item.accepted(), now()).is_ok()))
}

/// Whether an alert fires again, for whose end an Execution was decided.
pub async fn fires_again(
    context: &Context,
    rule: &CompiledRule,
    execution: &Execution,
    from: From,
) -> Result<bool> {
    let ended = execution.spec.decision.as_ref().and_then(|decision| decision.event.as_ref());
    let (Some(ended), Some(webhook)) = (ended, rule.spec.trigger.webhook_name()) else { return Ok(false) };
    let batches = match from {
        From::Store => stored(context, rule),
        From::ApiServer => Box::pin(listed(context, &rule.facts.namespace, webhook)).await?,
    };
    Ok(firing::fires_again(ended, &batches, now()))
}

/// The alerts of which an Execution was made.
pub fn fingerprints(execution: &Execution) -> impl Iterator<Item = &str> {
    let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
    captured.filter_map(|event| event.data.0["fingerprint"].as_str())
}
