//! Boats that begin to leak, and when each got its Job: both as seen in watches of one process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fother::api::Execution;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PartialObjectMeta, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::AbortHandle;

use crate::harbor::{Berth, WAYS};
use crate::stats::Samples;
use crate::support::wait::eventually;

type Times = Arc<Mutex<HashMap<String, Instant>>>;

/// Watches a namespace.
pub struct Lookout {
    berth: Berth,
    boats: Times,
    /// By the name of the Job's owner.
    jobs: Times,
    tasks: [AbortHandle; 2],
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Lookout {
    pub fn start(berth: &Berth) -> Self {
        let (boats, jobs) = (Times::default(), Times::default());
        let boat = |meta: &PartialObjectMeta<ConfigMap>| meta.name_any();
        let owner = |meta: &PartialObjectMeta<Job>| meta.owner_references()[0].name.clone();
        let tasks = [note(berth, boats.clone(), boat), note(berth, jobs.clone(), owner)];
        Self { berth: berth.clone(), boats, jobs, tasks }
    }

    /// Waits until there are so many Jobs.
    pub async fn jobs(&self, count: usize) {
        eventually("every boat has its Job", Duration::from_mins(3), || async {
            let seen = self.jobs.lock().len();
            if seen >= count { Ok(()) } else { Err(format!("{seen} of {count}")) }
        })
        .await;
    }

    /// From each boat's leak to its Job, in milliseconds, and how long it took from the first leak to the last Job.
    pub async fn times(&self, boats: &[String]) -> (Samples, Duration) {
        let owners = self.owners().await;
        let (seen, jobs) = (self.boats.lock(), self.jobs.lock());
        let pairs: Vec<_> =
            boats.iter().map(|boat| (seen[boat], jobs[owners.get(boat).unwrap_or(boat)])).collect();
        let first = pairs.iter().map(|(leak, _)| *leak).min().unwrap();
        let last = pairs.iter().map(|(_, job)| *job).max().unwrap();
        let latencies =
            pairs.iter().map(|(leak, job)| job.saturating_duration_since(*leak).as_secs_f64() * 1000.0);
        (latencies.collect(), last - first)
    }

    /// The Executions, by boat. The bare loop has none: there the Job's owner has the boat's name.
    async fn owners(&self) -> HashMap<String, String> {
        let found = self.berth.api::<Execution>().list(&ListParams::default()).await.unwrap().items;
        let target = |execution: &Execution| execution.spec.target.as_ref().map(|target| target.name.clone());
        found.iter().filter_map(|execution| Some((target(execution)?, execution.name_any()))).collect()
    }
}

/// Notes when objects of a kind are first seen.
fn note<K>(
    berth: &Berth,
    times: Times,
    name: impl Fn(&PartialObjectMeta<K>) -> String + Send + 'static,
) -> AbortHandle
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api = berth.api::<K>();
    tokio::spawn(async move {
        let mut events = api.watch_metadata(&WatchParams::default(), "0").await.unwrap().boxed();
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Added(meta) = event
                && meta.name_any() != "kube-root-ca.crt"
            {
                times.lock().entry(name(&meta)).or_insert_with(Instant::now);
            }
        }
    })
    .abort_handle()
}

/// Has boats leak: so many a second, or as fast as they can be made. Gives their names.
pub async fn leaks(berth: &Berth, prefix: &str, count: usize, rate: Option<u32>) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    let boat = |name: String| async move {
        berth.create::<ConfigMap>(json!({"metadata": {"name": name}, "data": {"hull": "leaking"}})).await;
    };
    let Some(rate) = rate else {
        stream::iter(names.clone()).for_each_concurrent(WAYS, boat).await;
        return names;
    };
    let ticks = stream::unfold(tokio::time::interval(Duration::from_secs(1) / rate), |mut tick| async {
        tick.tick().await;
        Some(((), tick))
    });
    stream::iter(names.clone()).zip(ticks).for_each_concurrent(None, |(name, ())| boat(name)).await;
    names
}
