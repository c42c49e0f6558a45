//! `EventBatch`es: each goes when all is over with what is in it, and nobody is likely to send it again. An alert that fires
//! and that a Rule may come to match when it is mended is kept as long as there is room. Where there is none, those go first
//! with which all was over first. What could still be replayed is kept in any case, and what says that an alert is resolved
//! until that is recorded where it fires.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::context::Context;
use super::outcomes;
use super::queue::{Kind, Requeue};
use crate::api::{AcceptedEvent, EventBatch, EventOutcome, Rule};
use crate::cluster::Result;
use crate::cluster::error::{Error, optional};
use crate::decide::inbox::{REMEMBERED, SILENCE};
use crate::decide::owed::{orphaned, settled_at};
use crate::decide::unmatched::{ended_by, may_be_mended, noted};
use crate::source::watch::now;

/// How often a batch is looked at whose alerts fire: a rule may be gone, or an alert forgotten.
const LOOK: Duration = Duration::from_mins(10);
/// How often a batch that is only remembered is looked at: its room may be needed.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(30);

/// Rules that are asked for at a time.
const AT_A_TIME: usize = 8;

/// Reconciles one batch.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(batch) = context.batches.get(namespace, name) else { return Ok(Requeue::OnChange) };
    let has_to_go = context.known.has_to_go((namespace, name), now());
    if !has_to_go {
        make_room(context);
    }
    let listens = |rule: &str| {
        let rule = context.rules.get(namespace, rule);
        rule.is_some_and(|rule| rule.spec.trigger.webhook_name() == Some(&batch.spec.webhook))
    };
    let beside = beside(context, &batch);
    // What fires first: what ends it goes after it.
    outcomes::record(context, ended_by(&batch, &beside, true, now())).await?;
    let mut fresh = noted(&batch, &beside, now());
    fresh.extend(of_those_gone(context, namespace, orphaned(&batch, listens, now())).await?);
    if !fresh.is_empty() {
        outcomes::record_in(context, batch, &fresh).await?;
        return Ok(Requeue::After(Duration::ZERO));
    }
    let Some(settled_at) = settled_at(&batch) else { return Ok(Requeue::After(LOOK)) };
    let webhook = (namespace.to_owned(), batch.spec.webhook.clone());
    let about = |alert: &AcceptedEvent| context.listening.about(&webhook, &alert.event);
    let keep = if has_to_go {
        SignedDuration::ZERO
    } else if context.known.has_room_to_wait() && may_be_mended(&batch, &beside, (about, listens)) {
        // A Rule that is mended hears of what still fires.
        SILENCE
    } else {
        REMEMBERED
    };
    // Nothing makes room of what whoever has overheard it can send again: beyond the room there is, senders come again.
    let authentic_until = batch.spec.authentic_until.as_ref().map(|until| until.0);
    let left = (keep - now().duration_since(settled_at))
        .max(authentic_until.map_or(SignedDuration::ZERO, |until| until.duration_since(now())));
    if left.is_positive() {
        return Ok(Requeue::After(Duration::try_from(left).unwrap_or_default().min(LOOK_FOR_ROOM)));
    }
    outcomes::record(context, ended_by(&batch, &beside, false, now())).await?;
    delete(context, &batch).await?;
    Ok(Requeue::OnChange)
}

/// Has those looked at that have to go for others: what comes has to have room at once. Only what stays asks for it, or two
/// that cannot be deleted just now would wake each other for ever.
fn make_room(context: &Context) {
    for (namespace, name) in context.known.first_to_go(now()) {
        context.queue.add(Kind::EventBatch, &namespace, &name);
    }
}

/// Leaves out what is said of Rules of which this process has not heard yet: whoever accepted the batch may have been faster.
/// When they come they look at it themselves.
async fn of_those_gone(
    context: &Context,
    namespace: &str,
    orphaned: Vec<EventOutcome>,
) -> Result<Vec<EventOutcome>> {
    let api: Api<Rule> = Api::namespaced(context.home.clone(), namespace);
    let names: BTreeSet<String> = orphaned.iter().map(|outcome| outcome.rule.clone()).collect();
    let asked: Vec<_> = names.iter().map(|name| is_unheard(context, &api, namespace, name)).collect();
    let answers: Vec<bool> = stream::iter(asked).buffered(AT_A_TIME).try_collect().await?;
    let unheard: BTreeSet<_> =
        names.iter().zip(answers).filter(|(_, is_unheard)| *is_unheard).map(|(name, _)| name).collect();
    Ok(orphaned.into_iter().filter(|outcome| !unheard.contains(&outcome.rule)).collect())
}

/// Whether the API server has a Rule of which this process has not heard, or not as it reads now.
async fn is_unheard(context: &Context, api: &Api<Rule>, namespace: &str, name: &str) -> Result<bool> {
    // What cannot be read is known, and hears of nothing.
    if context.rules.unreadable(namespace, name).is_some() {
        return Ok(false);
    }
    let found = api.get_metadata_opt(name).await.map_err(Error::request(format!("read Rule {name}")))?;
    let Some(found) = found else { return Ok(false) };
    let known = context.rules.get(namespace, name);
    Ok(known.is_none_or(|known| {
        (known.uid(), known.metadata.generation) != (found.metadata.uid, found.metadata.generation)
    }))
}

/// The batches that have something of the same alerts, this one among them.
fn beside(context: &Context, batch: &Arc<EventBatch>) -> Vec<Arc<EventBatch>> {
    let (namespace, name) = (batch.namespace().unwrap_or_default(), batch.name_any());
    let webhook = (namespace.as_str(), batch.spec.webhook.as_str());
    let alerts = batch.spec.events.iter().filter_map(|event| event.alert.as_ref());
    let holding = alerts.flat_map(|alert| context.known.holding(webhook, &alert.fingerprint));
    let others: BTreeSet<_> = holding.filter(|(_, other)| *other != name).collect();
    let others = others.iter().filter_map(|(namespace, name)| context.batches.get(namespace, name));
    others.chain([batch.clone()]).collect()
}

async fn delete(context: &Context, batch: &EventBatch) -> Result<()> {
    let (namespace, name) = (batch.namespace().unwrap_or_default(), batch.name_any());
    let api: Api<EventBatch> = Api::namespaced(context.home.clone(), &namespace);
    let preconditions = Preconditions { uid: batch.uid(), resource_version: batch.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let deleted = optional(api.delete(&name, &params).await);
    deleted.map(drop).map_err(Error::request(format!("delete EventBatch {name}")))
}
