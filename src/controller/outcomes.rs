//! What became of events, written into the status of their batch: by each rule for itself, beside the others. Of the rules
//! that have something to say of one batch at the same moment one writes for all: an alert may concern a thousand.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;

use super::context::Context;
use super::store::Key;
use crate::api::{EventBatch, EventOutcome};
use crate::cluster::{Error, Result, status};
use crate::decide::owed::recorded;

/// How often it is tried to write what others write beside.
const WRITES: usize = 5;
/// Batches that are written at a time.
const AT_A_TIME: usize = 8;

/// Outcomes that wait to be written.
#[derive(Default)]
pub struct Pending {
    batches: Mutex<BTreeMap<Key, Arc<Waiting>>>,
}

/// What is said of a batch, by the number of who says it.
type Said = BTreeMap<u64, Vec<EventOutcome>>;

/// The outcomes of one batch.
#[derive(Default)]
struct Waiting {
    /// Whose turn it is to write.
    turn: tokio::sync::Mutex<()>,
    /// The last number, and what waits.
    said: Mutex<(u64, Said)>,
}

impl Waiting {
    fn add(&self, outcomes: &[EventOutcome]) -> u64 {
        let (last, said) = &mut *self.said.lock();
        *last += 1;
        said.insert(*last, outcomes.to_vec());
        *last
    }

    /// Takes all that waits, unless somebody has written already what this one said.
    fn take(&self, whose: u64) -> Option<Said> {
        let (_, said) = &mut *self.said.lock();
        said.contains_key(&whose).then(|| std::mem::take(said))
    }

    /// What was not written waits on, except for what this one said: he hears of it.
    fn give_back(&self, taken: Said, whose: u64) {
        let (_, said) = &mut *self.said.lock();
        said.extend(taken.into_iter().filter(|(number, _)| *number != whose));
    }
}

impl Pending {
    fn of(&self, key: &Key) -> Arc<Waiting> {
        self.batches.lock().entry(key.clone()).or_default().clone()
    }

    /// Forgets a batch for which nobody waits any more.
    fn leave(&self, key: &Key, waiting: Arc<Waiting>) {
        let mut batches = self.batches.lock();
        drop(waiting);
        if batches.get(key).is_some_and(|waiting| Arc::strong_count(waiting) == 1) {
            batches.remove(key);
        }
    }
}

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
pub async fn record_in(context: &Context, batch: Arc<EventBatch>, outcomes: &[EventOutcome]) -> Result<()> {
    if recorded(&batch, outcomes) == batch.status.clone().unwrap_or_default() {
        return Ok(());
    }
    let key = (batch.namespace().unwrap_or_default(), batch.name_any());
    let waiting = context.pending.of(&key);
    let whose = waiting.add(outcomes);
    let turn = waiting.turn.lock().await;
    let written = match waiting.take(whose) {
        None => Ok(()),
        Some(all) => {
            let newest = context.batches.get(&key.0, &key.1).unwrap_or(batch);
            let outcomes: Vec<_> = all.values().flatten().cloned().collect();
            let written = write(context, newest, &outcomes).await;
            if written.is_err() {
                waiting.give_back(all, whose);
            }
            written
        }
    };
    drop(turn);
    context.pending.leave(&key, waiting);
    written
}

async fn write(context: &Context, mut batch: Arc<EventBatch>, outcomes: &[EventOutcome]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rule: &str) -> EventOutcome {
        let outcome =
            serde_json::json!({"event": 0, "rule": rule, "outcome": "Held", "time": "2026-01-01T00:00:00Z"});
        serde_json::from_value(outcome).expect("an outcome")
    }

    #[test]
    fn one_writes_for_all_and_each_hears_of_what_was_not_written() {
        let (pending, key) = (Pending::default(), ("a".to_owned(), "b".to_owned()));
        let waiting = pending.of(&key);
        let [one, two] = ["one", "two"].map(|rule| waiting.add(&[outcome(rule)]));
        let taken = waiting.take(one).expect("it waits");
        assert_eq!(
            taken.values().flatten().map(|said| said.rule.as_str()).collect::<Vec<_>>(),
            ["one", "two"]
        );
        assert!(waiting.take(two).is_none(), "it is written");
        waiting.give_back(taken, one);
        assert!(waiting.take(one).is_none(), "who has heard of it says it again");
        assert_eq!(waiting.take(two).map(|taken| taken.len()), Some(1));
        let other = pending.of(&key);
        pending.leave(&key, waiting);
        assert_eq!(pending.batches.lock().len(), 1);
        pending.leave(&key, other);
        assert_eq!(pending.batches.lock().len(), 0);
    }
}
