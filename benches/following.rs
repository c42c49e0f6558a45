//! What becomes of what a Webhook accepted: a watch of the `EventBatches` of a namespace, which counts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, WatchEvent, WatchParams};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::AbortHandle;

use crate::harbor::Berth;
use crate::support::wait::eventually;

/// How it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Followed {
    /// Events that were kept.
    pub events: usize,
    /// Those of them that have no outcome yet.
    pub open: usize,
    /// Those that something may still become of: that are held, or fire.
    pub unsettled: usize,
}

/// One batch.
#[derive(Default)]
struct Batch {
    now: Followed,
    bytes: usize,
}

#[derive(Default)]
struct State {
    batches: HashMap<String, Batch>,
    bytes: usize,
    most_bytes: usize,
}

/// Follows until it is dropped.
pub struct Following {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Following {
    pub fn start(berth: &Berth) -> Self {
        let resource = ApiResource::erase::<fother::api::EventBatch>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(berth.client.clone(), &berth.namespace, &resource);
        let state = Arc::<Mutex<State>>::default();
        let seen = state.clone();
        let task = tokio::spawn(async move {
            let mut version = "0".to_owned();
            loop {
                let params = WatchParams::default().timeout(290);
                let mut events = api.watch(&params, &version).await.unwrap().boxed();
                while let Some(event) = events.next().await {
                    let (object, is_there) = match event.unwrap() {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, true),
                        WatchEvent::Deleted(object) => (object, false),
                        WatchEvent::Bookmark(_) => continue,
                        WatchEvent::Error(status) => panic!("{status:?}"),
                    };
                    version = object.metadata.resource_version.clone().unwrap();
                    seen.lock().take(object, is_there);
                }
            }
        })
        .abort_handle();
        Self { state, task }
    }

    /// Waits until something holds of it, and gives it; gives it as it is when that takes too long.
    pub async fn until(&self, what: &str, long: Duration, holds: impl Fn(Followed) -> bool) -> Followed {
        let begun = std::time::Instant::now();
        eventually(what, long * 2, || async {
            let now = self.now();
            if holds(now) || begun.elapsed() > long { Ok(now) } else { Err(format!("{now:?}")) }
        })
        .await
    }

    fn now(&self) -> Followed {
        self.state.lock().batches.values().fold(Followed::default(), |all, batch| Followed {
            events: all.events + batch.now.events,
            open: all.open + batch.now.open,
            unsettled: all.unsettled + batch.now.unsettled,
        })
    }

    /// The most that was kept at a time, in bytes.
    pub fn most_bytes(&self) -> usize {
        self.state.lock().most_bytes
    }
}

impl State {
    /// Takes in a batch as it is now, or as it was when it went.
    fn take(&mut self, object: DynamicObject, is_there: bool) {
        let bytes = if is_there { serde_json::to_vec(&object.data).unwrap().len() } else { 0 };
        let batch = self.batches.entry(object.metadata.name.unwrap()).or_default();
        self.bytes = self.bytes + bytes - batch.bytes;
        self.most_bytes = self.most_bytes.max(self.bytes);
        *batch = Batch { now: count(&object.data), bytes };
    }
}

fn count(data: &Value) -> Followed {
    let list = |path: &str| data.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let (events, outcomes) = (list("/spec/events"), list("/status/outcomes"));
    let decided: BTreeSet<_> = outcomes.iter().filter_map(|outcome| outcome["event"].as_u64()).collect();
    let fires = |place: u64| {
        let alert = &events[usize::try_from(place).unwrap()]["alert"];
        alert.is_object() && alert["endsAt"].is_null()
    };
    let goes_on = |outcome: &&Value| match outcome["outcome"].as_str() {
        Some("Held") => true,
        Some("Fired") => outcome["event"].as_u64().is_some_and(fires),
        _ => false,
    };
    let going_on = outcomes.iter().filter(goes_on).count();
    let open = events.len() - decided.len();
    Followed { events: events.len(), open, unsettled: open + going_on }
}
