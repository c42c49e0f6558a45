//! Jobs, as the account: create, look at, stop, let go.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use super::error::{Error, Result, optional};
use super::objects::MANAGER;
use crate::api::LABEL;

/// How long a Job and its log stay after its outcome is recorded.
const KEEP_SECONDS: i32 = 3600;

/// The Jobs of one namespace.
pub struct Jobs {
    jobs: Api<Job>,
    pods: Api<Pod>,
}

impl Jobs {
    /// Those of a namespace.
    pub fn of(client: &Client, namespace: &str) -> Self {
        Self {
            jobs: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
        }
    }

    /// Creates one. One that exists is no error: whose it is, is looked at afterwards.
    pub async fn create(&self, job: &Job) -> Result<Option<Job>> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.jobs.create(&params, job).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            other => other.map(Some).map_err(Error::request(format!("create Job {}", name(job)))),
        }
    }

    /// Creates one that is suspended, to take its name. One of that name that is not suspended is a conflict.
    pub async fn take_name(&self, job: &Job) -> Result<()> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let action = format!("take the name of Job {}", name(job));
        let Err(error) = self.jobs.create(&params, job).await else { return Ok(()) };
        if !matches!(&error, kube::Error::Api(status) if status.code == 409) {
            return Err(Error::Request { action, source: error });
        }
        let found = optional(self.jobs.get(name(job)).await).map_err(Error::request(action.clone()))?;
        let suspended = found.and_then(|found| found.spec?.suspend) == Some(true);
        if suspended { Ok(()) } else { Err(Error::Request { action, source: error }) }
    }

    /// Reads one and, once it has ended or is being deleted, its Pods.
    pub async fn get(&self, name: &str) -> Result<Option<(Job, Vec<Pod>)>> {
        let found =
            optional(self.jobs.get(name).await).map_err(Error::request(format!("read Job {name}")))?;
        let Some(job) = found else { return Ok(None) };
        let ended = job.status.as_ref().and_then(|s| s.conditions.as_ref()).is_some_and(|c| !c.is_empty());
        let pods = if ended || job.metadata.deletion_timestamp.is_some() {
            self.pods(name, job.metadata.uid.as_deref().unwrap_or_default()).await?
        } else {
            Vec::new()
        };
        Ok(Some((job, pods)))
    }

    /// The Pods of a Job of this UID, which may be gone itself.
    pub async fn pods(&self, name: &str, uid: &str) -> Result<Vec<Pod>> {
        let params = ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={uid}"));
        let pods = self.pods.list(&params).await;
        Ok(pods.map_err(Error::request(format!("list the Pods of Job {name}")))?.items)
    }

    /// The Jobs of an Execution.
    pub async fn of_execution(&self, execution: &str) -> Result<Vec<Job>> {
        let params = ListParams::default().labels(&format!("{}={execution}", LABEL.execution));
        let jobs = self.jobs.list(&params).await.map_err(Error::request("list Jobs"))?;
        Ok(jobs.items)
    }

    /// Deletes one of this UID and its Pods.
    pub async fn stop(&self, name: &str, uid: &str) -> Result<()> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::background()
        };
        let deleted = optional(self.jobs.delete(name, &params).await);
        deleted.map(drop).map_err(Error::request(format!("delete Job {name}")))?;
        // A finalizer keeps the Job, and with it its Pods from the garbage collector: they are stopped here.
        let pods = ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={uid}"));
        let deleted = self.pods.delete_collection(&DeleteParams::default(), &pods).await;
        deleted.map(drop).map_err(Error::request(format!("stop the Pods of Job {name}")))
    }

    /// Drops our finalizer. It is the first, unless somebody has put another before it.
    pub async fn unhold(&self, name: &str, uid: &str, finalizer: &str) -> Result<()> {
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/finalizers/0", "value": finalizer},
            {"op": "remove", "path": "/metadata/finalizers/0"},
        ]);
        let patch = serde_json::from_value(patch).map_err(|error| Error::Unexpected(error.to_string()))?;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.jobs.patch(name, &params, &Patch::<()>::Json(patch)).await {
            // It is not as it was created.
            Err(kube::Error::Api(status)) if status.code == 422 => {
                self.let_go((name, uid), finalizer, false).await
            }
            other => optional(other).map(drop).map_err(Error::request(format!("release Job {name}"))),
        }
    }

    /// Drops our finalizer, if it is still there, and lets the Job expire.
    pub async fn release(&self, name: &str, uid: &str, finalizer: &str) -> Result<()> {
        self.let_go((name, uid), finalizer, true).await
    }

    /// One patch that fits only this UID, if there is anything to change.
    async fn let_go(&self, (name, uid): (&str, &str), finalizer: &str, expires: bool) -> Result<()> {
        let found =
            optional(self.jobs.get(name).await).map_err(Error::request(format!("read Job {name}")))?;
        let Some(job) = found.filter(|job| job.metadata.uid.as_deref() == Some(uid)) else { return Ok(()) };
        let before = job.metadata.finalizers.clone().unwrap_or_default();
        let finalizers: Vec<_> = before.iter().filter(|f| *f != finalizer).collect();
        let stays = job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_none());
        if finalizers.len() == before.len() && !(expires && stays) {
            return Ok(());
        }
        let mut patch = json!({
            "metadata": {"uid": uid, "resourceVersion": job.metadata.resource_version, "finalizers": finalizers},
        });
        if expires {
            patch["spec"] = json!({"ttlSecondsAfterFinished": KEEP_SECONDS});
        }
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let released = optional(self.jobs.patch(name, &params, &Patch::Merge(&patch)).await);
        released.map(drop).map_err(Error::request(format!("release Job {name}")))
    }
}

fn name(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}
