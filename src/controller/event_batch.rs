//! `EventBatch`es: each goes when all is over with what is in it, and nobody is likely to send it again. An alert that fires
//! and that no Rule matches as they read now is kept as long as there is room: a Rule may be mended. What could still be
//! replayed is kept in any case.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::context::Context;
use super::outcomes;
use super::queue::Requeue;
use crate::api::EventBatch;
use crate::cluster::Result;
use crate::cluster::error::{Error, optional};
use crate::decide::inbox::{REMEMBERED, SILENCE, fires_unmatched, orphaned, settled_at};
use crate::source::watch::now;

/// How often a batch is looked at whose alerts fire: a rule may be gone, or an alert forgotten.
const LOOK: Duration = Duration::from_mins(10);
/// How often a batch that is only remembered is looked at: its room may be needed.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(30);

/// Reconciles one batch.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(batch) = context.batches.get(namespace, name) else { return Ok(Requeue::OnChange) };
    let listens = |rule: &str| {
        let rule = context.rules.get(namespace, rule);
        rule.is_some_and(|rule| rule.spec.trigger.webhook_name() == Some(&batch.spec.webhook))
    };
    let gone = orphaned(&batch, listens, now());
    if !gone.is_empty() {
        outcomes::record_in(context, batch, &gone).await?;
        return Ok(Requeue::After(Duration::ZERO));
    }
    let Some(settled_at) = settled_at(&batch) else { return Ok(Requeue::After(LOOK)) };
    let keep = if context.known.is_crowded() {
        SignedDuration::ZERO
    } else if context.known.has_room_to_wait() && fires_unmatched(&batch, listens) {
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
    delete(context, &batch).await?;
    Ok(Requeue::OnChange)
}

async fn delete(context: &Context, batch: &EventBatch) -> Result<()> {
    let (namespace, name) = (batch.namespace().unwrap_or_default(), batch.name_any());
    let api: Api<EventBatch> = Api::namespaced(context.home.clone(), &namespace);
    let preconditions = Preconditions { uid: batch.uid(), resource_version: batch.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let deleted = optional(api.delete(&name, &params).await);
    deleted.map(drop).map_err(Error::request(format!("delete EventBatch {name}")))
}
