//! The controllers that an API server alone does not have: Deployments, ReplicaSets, StatefulSets, Jobs.
//!
//! Ordinary clients, level-based: each reconcile reads what there is from the API server and moves it
//! one step towards what is asked for. Garbage collection is the API server's.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::common::{Context, Error};
use crate::sandbox::clock::Clock;
use crate::sandbox::recorder::Recorder;

mod common;
mod deployment;
mod deployment_status;
mod job;
mod job_plan;
mod replicaset;
mod rollout;
mod statefulset;

/// How the controllers work.
#[derive(Clone)]
pub struct WorldOptions {
    /// The only namespace in which they work; all if none.
    pub namespace: Option<String>,
    /// The first wait before a Job's failed pod is replaced; a real cluster's is ten seconds.
    pub backoff_base: Duration,
    /// The time.
    pub clock: Clock,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { namespace: None, backoff_base: Duration::from_millis(500), clock: Clock::system() }
    }
}

/// The controllers.
pub struct World {
    client: Client,
    options: WorldOptions,
}

impl World {
    /// Controllers that work through `client`.
    pub fn new(client: Client, options: WorldOptions) -> Self {
        Self { client, options }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let (recorder, writer) =
            Recorder::new(self.client.clone(), "sandbox".to_owned(), self.options.clock.clone());
        let context = Arc::new(Context {
            client: self.client.clone(),
            recorder,
            clock: self.options.clock.clone(),
            backoff_base: self.options.backoff_base,
        });
        let deployments = self.control::<Deployment, ReplicaSet, _, _>(deployment::reconcile, &context);
        let replica_sets = self.control::<ReplicaSet, Pod, _, _>(replicaset::reconcile, &context);
        let stateful_sets = self.control::<StatefulSet, Pod, _, _>(statefulset::reconcile, &context);
        let jobs = self.control::<Job, Pod, _, _>(job::reconcile, &context);
        let of_jobs = watcher::Config::default().labels(job::JOB_NAME);
        let job_pods =
            drive(Controller::new(self.api::<Pod>(), of_jobs).run(job::reconcile_pod, retry, context));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = async { tokio::join!(writer, deployments, replica_sets, stateful_sets, jobs, job_pods) } => {}
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.options.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn control<K, Owned, F, R>(
        &self,
        reconcile: F,
        context: &Arc<Context>,
    ) -> impl Future<Output = ()> + use<K, Owned, F, R>
    where
        K: Kind,
        Owned: Kind,
        F: Fn(Arc<K>, Arc<Context>) -> R + Copy + Send + 'static,
        R: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let fresh = move |seen: Arc<K>, context: Arc<Context>| async move {
            // What the watch has may be older than what the last pass wrote, and a Job would miscount by it.
            let namespace = seen.meta().namespace.clone().unwrap_or_default();
            let live = context.api::<K>(&namespace).get_opt(&seen.name_any()).await?;
            match live.filter(|live| live.meta().uid == seen.meta().uid) {
                Some(live) => reconcile(Arc::new(live), context).await,
                None => Ok(Action::await_change()),
            }
        };
        let controller = Controller::new(self.api::<K>(), watcher::Config::default());
        let controller = controller.owns(self.api::<Owned>(), watcher::Config::default());
        drive(controller.run(fresh, retry, context.clone()))
    }
}

async fn drive<T, E: std::fmt::Display>(outcomes: impl Stream<Item = Result<T, E>>) {
    outcomes
        .for_each(|outcome| async {
            if let Err(error) = outcome {
                debug!(%error, "reconcile failed");
            }
        })
        .await;
}

/// What every reconciled kind can do.
trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Conflicts and failures of the API server pass; what is refused for good is refused once a second.
fn retry<K>(_: Arc<K>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(Duration::from_secs(1))
}
