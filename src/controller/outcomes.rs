//! What became of events, written into the status of their batch: by each rule for itself, beside the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::{Api, ResourceExt};

use super::context::Context;
use crate::api::{EventBatch, EventOutcome};
use crate::cluster::{Error, Result, status};
use crate::decide::owed::recorded;

/// How often it is tried to write what others write beside.
const WRITES: usize = 5;
/// Batches that are written at a time.
const AT_A_TIME: usize = 8;

/// Writes outcomes into the statuses of their batches; rules write beside each other.
pub async fn record(context: &Context, outcomes: Vec<(Arc<EventBatch>, EventOutcome)>) -> Result<()> {
    let mut of_batches = BTreeMap::<String, (Arc<EventBatch>, Vec<EventOutcome>)>::new();
    for (batch, outcome) in outcomes {
        of_batches.entry(batch.name_any()).or_insert_with(|| (batch, Vec::new())).1.push(outcome);
    }
    let writes = of_batches
        .into_values()
        .map(|(batch, outcomes)| async move { record_in(context, batch, &outcomes).await })
        .collect::<Vec<_>>();
    let written: Vec<_> = stream::iter(writes).buffer_unordered(AT_A_TIME).collect().await;
    written.into_iter().collect()
}

/// Writes outcomes into the status of one batch.
pub async fn record_in(
    context: &Context,
    mut batch: Arc<EventBatch>,
    outcomes: &[EventOutcome],
) -> Result<()> {
    let namespace = batch.namespace().unwrap_or_default();
    let api: Api<EventBatch> = Api::namespaced(context.home.clone(), &namespace);
    for attempt in 1.. {
        let before = batch.status.clone().unwrap_or_default();
        let fresh = recorded(&batch, outcomes);
        if fresh == before {
            return Ok(());
        }
        match status::write(&context.home, &*batch, batch.status.as_ref(), &fresh).await {
            Ok(written) => {
                context.journal.received(&batch, &before.outcomes, &fresh.outcomes);
                if let Some(written) = written {
                    context.batches.insert(Arc::new(written));
                }
                return Ok(());
            }
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) if error.is_conflict() && attempt < WRITES => {
                let name = batch.name_any();
                match api.get_opt(&name).await.map_err(Error::request(format!("read EventBatch {name}")))? {
                    Some(newer) => batch = Arc::new(newer),
                    None => return Ok(()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
