//! Deployments: one ReplicaSet for each template, and a rollout from the old ones to the newest.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::common::{Context, Error, template_hash, terminal};
use super::deployment_status::{self, Seen};
use super::rollout::{self, Bounds, Sized};
use crate::sandbox::recorder::Notice;

const COMPONENT: &str = "deployment-controller";
const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DEFAULT_HISTORY: i32 = 10;

/// Brings the ReplicaSets of a Deployment one step nearer to what it asks for.
pub async fn reconcile(deployment: Arc<Deployment>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(spec) = deployment.spec.as_ref().filter(|_| deployment.metadata.deletion_timestamp.is_none())
    else {
        return Ok(Action::await_change());
    };
    let mut sets: Vec<ReplicaSet> = context.owned(deployment.as_ref(), &spec.selector).await?;
    sets.sort_by_key(revision);
    let hash = template_hash(&spec.template);
    let rollout = Rollout { deployment: &deployment, spec, context: &context };
    let newest = sets.iter().position(|set| set.labels().get(HASH) == Some(&hash)).map(|at| sets.remove(at));
    let new = match newest {
        Some(set) => Some(rollout.adopt_revision(set, &sets).await?),
        None if spec.paused == Some(true) => None,
        None => Some(rollout.create(&hash, &sets).await?),
    };
    if let Some(new) = &new {
        rollout.step(new, &sets).await?;
        rollout.trim(&sets).await?;
    }
    let seen =
        Seen { deployment: &deployment, spec, new: new.as_ref(), old: &sets, now: context.clock.time() };
    let status = deployment_status::build(&seen);
    context.write_status(deployment.as_ref(), deployment.status.as_ref(), &status).await?;
    let due = deployment_status::deadline(spec, &status).map(|time| time.duration_since(context.clock.now()));
    let due =
        due.map(|left| Duration::try_from(left.max(SignedDuration::from_millis(100))).unwrap_or_default());
    Ok(due.map_or_else(Action::await_change, Action::requeue))
}

/// One Deployment being rolled out.
struct Rollout<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    context: &'a Context,
}

impl Rollout<'_> {
    fn namespace(&self) -> String {
        self.deployment.namespace().unwrap_or_default()
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn recreates(&self) -> bool {
        let kind = self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        kind == Some("Recreate")
    }

    async fn create(&self, hash: &str, old: &[ReplicaSet]) -> Result<ReplicaSet, Error> {
        let next = old.iter().map(revision).max().unwrap_or_default() + 1;
        let set = replica_set(self.deployment, self.spec, hash, next);
        let created =
            self.context.api::<ReplicaSet>(&self.namespace()).create(&PostParams::default(), &set).await?;
        self.note_revision(next).await?;
        Ok(created)
    }

    /// A template that was in use before is the newest again.
    async fn adopt_revision(&self, set: ReplicaSet, old: &[ReplicaSet]) -> Result<ReplicaSet, Error> {
        let highest = old.iter().map(revision).max().unwrap_or_default();
        let mut own = revision(&set);
        let mut set = set;
        if own <= highest {
            own = highest + 1;
            let patch = json!({"metadata": {"annotations": {REVISION: own.to_string()}}});
            let api = self.context.api::<ReplicaSet>(&self.namespace());
            set = api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        self.note_revision(own).await?;
        Ok(set)
    }

    async fn note_revision(&self, revision: i64) -> Result<(), Error> {
        let revision = revision.to_string();
        if self.deployment.annotations().get(REVISION) == Some(&revision) {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        let api = self.context.api::<Deployment>(&self.namespace());
        api.patch(&self.deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn step(&self, new: &ReplicaSet, old: &[ReplicaSet]) -> Result<(), Error> {
        if self.spec.paused == Some(true) {
            return Ok(());
        }
        let (grown, shrunk) = if self.recreates() {
            let gone = old.iter().all(|set| wanted(set) == 0) && self.pods_ended(old).await?;
            (if gone { self.replicas() } else { wanted(new) }, vec![0; old.len()])
        } else {
            let strategy = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
            let surge = strategy.and_then(|update| update.max_surge.as_ref());
            let unavailable = strategy.and_then(|update| update.max_unavailable.as_ref());
            let bounds = Bounds::new(surge, unavailable, self.replicas());
            let old: Vec<_> = old.iter().map(sized).collect();
            rollout::next(self.replicas(), bounds, sized(new), &old)
        };
        self.scale(new, grown).await?;
        for (set, size) in old.iter().zip(shrunk) {
            self.scale(set, size).await?;
        }
        Ok(())
    }

    /// Whether no pod of the old ReplicaSets is left that still runs.
    async fn pods_ended(&self, old: &[ReplicaSet]) -> Result<bool, Error> {
        for set in old {
            let selector = set.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
            let pods: Vec<Pod> = self.context.owned(set, &selector).await?;
            if !pods.iter().all(terminal) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn scale(&self, set: &ReplicaSet, size: i32) -> Result<(), Error> {
        let before = wanted(set);
        if before == size {
            return Ok(());
        }
        let api = self.context.api::<ReplicaSet>(&self.namespace());
        let patch = Patch::Merge(json!({"spec": {"replicas": size}}));
        api.patch(&set.name_any(), &PatchParams::default(), &patch).await?;
        let direction = if size > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {size}", set.name_any());
        let notice = Notice::normal(COMPONENT, "ScalingReplicaSet", message);
        self.context.recorder.record(self.deployment.object_ref(&()), notice);
        Ok(())
    }

    /// Deletes the oldest ReplicaSets beyond the history that is to be kept.
    async fn trim(&self, old: &[ReplicaSet]) -> Result<(), Error> {
        let keep =
            usize::try_from(self.spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY)).unwrap_or_default();
        let empty = |set: &&ReplicaSet| {
            wanted(set) == 0 && set.status.as_ref().is_none_or(|status| status.replicas == 0)
        };
        for set in old.iter().take(old.len().saturating_sub(keep)).filter(empty) {
            let api = self.context.api::<ReplicaSet>(&self.namespace());
            api.delete(&set.name_any(), &DeleteParams::background()).await?;
        }
        Ok(())
    }
}

fn replica_set(deployment: &Deployment, spec: &DeploymentSpec, hash: &str, revision: i64) -> ReplicaSet {
    let with_hash = |labels: Option<std::collections::BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(HASH.to_owned(), hash.to_owned());
        Some(labels)
    };
    let mut template = spec.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels = with_hash(metadata.labels.take());
    let selector = LabelSelector {
        match_labels: with_hash(spec.selector.match_labels.clone()),
        ..spec.selector.clone()
    };
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: metadata.labels.clone(),
            annotations: Some([(REVISION.to_owned(), revision.to_string())].into()),
            owner_references: Some(deployment.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn sized(set: &ReplicaSet) -> Sized {
    let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    Sized { wanted: wanted(set), available }
}

fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_set_selects_only_its_own_template() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}},
        }))
        .unwrap();
        let set = replica_set(&deployment, deployment.spec.as_ref().unwrap(), "abc", 4);
        assert_eq!((set.name_any().as_str(), revision(&set)), ("web-abc", 4));
        let spec = set.spec.unwrap();
        let expected =
            [("app", "web"), (HASH, "abc")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(spec.selector.match_labels, Some(expected.clone().into()));
        assert_eq!(spec.template.unwrap().metadata.unwrap().labels, Some(expected.into()));
    }
}
