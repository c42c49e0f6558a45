//! The demo: a commit becomes rules, a broken workload heals although the controller is killed on the way, a new
//! commit takes effect, and what cannot be healed climbs the ladder to its end.
//!
//! The story only breaks things and waits; what is told of them comes from watching the API ([`timeline`]).

mod repository;
mod timeline;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use self::repository::{Demo, PACK};
use self::timeline::Timeline;
use super::Awaited;
use super::cluster::{Cluster, SYSTEM};
use super::controller::Child;
use crate::api::{ANNOTATION, AttemptState, Execution, LABEL, Pack, Reason};
use crate::cli::apply;
use crate::sandbox::kubelet::Runner;

/// Where the demo takes place.
const NAMESPACE: &str = "shop";
/// The workload that breaks.
const WORKLOAD: &str = "shop";
/// The claim with the cache.
const CLAIM: &str = "cache";
/// How often the story looks whether something has happened.
const LOOK: Duration = Duration::from_millis(100);

/// What the story waits for first.
pub const FIRST: &str = "the first commit was synced";

/// Plays the demo, and says what it waits for; an error says what did not go as it should.
pub async fn play(cluster: &Cluster, controller: &mut Child, awaited: &Awaited) -> anyhow::Result<()> {
    let story = Story::begin(cluster).await?;
    story.first_commit().await?;
    if cluster.runner() == Runner::Print {
        bail!("--runner print runs nothing, so nothing can break or heal; use --runner process");
    }
    story.timeline.chapter("A cache is corrupted, and the controller is killed while it cleans");
    awaited.now("the first incident was verified as healed");
    story.heal(Some(controller)).await?;
    story.timeline.chapter("A commit changes the rule; the next incident goes by it");
    awaited.now("the second commit was synced");
    let revision = story.second_commit().await?;
    awaited.now("the second incident was verified as healed");
    let execution = story.heal(None).await?;
    let by = execution.spec.decision.as_ref().and_then(|d| d.rule.revision.clone()).unwrap_or_default();
    ensure!(by.ends_with(&revision), "the Execution names {by}, not the new commit {revision}");
    story.timeline.chapter("Something that no rung can mend: the ladder is climbed to its end");
    awaited.now("the ladder was climbed to its end");
    story.climb().await?;
    story.timeline.end();
    awaited.over();
    Ok(())
}

/// What to try when it is over.
pub fn hints(cluster: &Cluster) {
    let kubeconfig = cluster.kubeconfig();
    anstream::println!("\nThe cluster stays up until Ctrl-C. To look around:");
    anstream::println!("  export KUBECONFIG={}", kubeconfig.display());
    for line in [
        "kubectl config set-context --current --namespace shop",
        "kubectl get packs,rules,actions,executions",
        "kubectl describe deployment shop         # its Events tell the story",
        "kubectl get executions -o wide           # which commit each was decided by",
        "kubectl get configmaps -l fother.dev/execution    # the evidence",
        "kubectl logs -l fother.dev/execution --prefix     # what the Jobs wrote",
    ] {
        anstream::println!("  {line}");
    }
}

struct Story {
    client: Client,
    claim: PathBuf,
    demo: Demo,
    timeline: Timeline,
}

impl Story {
    async fn begin(cluster: &Cluster) -> anyhow::Result<Self> {
        let client = cluster.client().clone();
        let timeline = Timeline::start(&client, NAMESPACE, SYSTEM, cluster.server());
        let demo = Demo::create(&cluster.data().join("demo.git"))?;
        let claim = cluster.claim(NAMESPACE, CLAIM);
        clear(&claim)?;
        for file in ["rbac.yaml", "workload.yaml"] {
            apply::documents(&client, &repository::text(&format!("setup/{PACK}/{file}"))?).await?;
        }
        Ok(Self { client, claim, demo, timeline })
    }

    /// Commits the pack and syncs it.
    async fn first_commit(&self) -> anyhow::Result<()> {
        let commit = self.demo.commit("Clean corrupted caches")?;
        let pack = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Pack",
            "metadata": {"name": PACK, "namespace": NAMESPACE},
            "spec": {
                "url": self.demo.path().display().to_string(), "path": PACK, "interval": "1m",
                "serviceAccountName": "packs",
            },
        });
        apply::object(&self.client, &pack).await?;
        self.synced(&commit).await
    }

    /// Commits a changed rule and asks for a sync, as `kubectl annotate` would.
    async fn second_commit(&self) -> anyhow::Result<String> {
        self.demo.edit(&format!("{PACK}/rules/{PACK}.yaml"), |rule| rule.replace("for: 3s", "for: 1s"))?;
        let commit = self.demo.commit("Act after one second instead of three")?;
        let asked = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Pack",
            "metadata": {"name": PACK, "namespace": NAMESPACE, "annotations": {ANNOTATION.reconcile_requested_at: commit}},
        });
        let api: Api<Pack> = Api::namespaced(self.client.clone(), NAMESPACE);
        let params = kube::api::PatchParams::default();
        api.patch(PACK, &params, &kube::api::Patch::Merge(&asked)).await?;
        self.synced(&commit).await?;
        Ok(commit)
    }

    async fn synced(&self, commit: &str) -> anyhow::Result<()> {
        let api: Api<Pack> = Api::namespaced(self.client.clone(), NAMESPACE);
        until(async || {
            let status = api.get(PACK).await?.status.unwrap_or_default();
            let applied = status.applied_revision.is_some_and(|revision| revision.ends_with(commit));
            Ok(applied.then_some(()))
        })
        .await
        .context("the Pack was not synced")
    }

    /// Breaks the cache, and waits until the workload is healed.
    async fn heal(&self, kill: Option<&mut Child>) -> anyhow::Result<Execution> {
        self.healthy().await?;
        self.timeline.incident();
        let before = self.executions().await?.len();
        std::fs::write(self.index(), "#garbage#\n").context("failed to corrupt the cache")?;
        let execution = self.decided(before).await?;
        if let Some(controller) = kill {
            self.kill_while_the_job_runs(&execution, controller).await?;
        }
        let ended = self.ended(&execution).await?;
        ended_as(&ended, Reason::TargetRecovered)?;
        evidence_is_kept(&ended)?;
        let jobs = self.jobs(&ended).await?;
        ensure!(jobs.len() == 1, "{} Jobs were created instead of one", jobs.len());
        self.healthy().await?;
        self.closed(&ended).await?;
        Ok(ended)
    }

    /// Waits until the episode is over: until then the same trouble is the same episode.
    async fn closed(&self, execution: &Execution) -> anyhow::Result<()> {
        until(async || {
            let status = self.get(execution).await?.status.unwrap_or_default();
            Ok(status.episode_closed_at.map(drop))
        })
        .await
        .context("the episode was not closed")
    }

    /// Breaks the cache in a way that the script cannot mend, and waits for the ladder's end.
    async fn climb(&self) -> anyhow::Result<()> {
        self.healthy().await?;
        self.timeline.incident();
        let before = self.executions().await?.len();
        std::fs::remove_file(self.index())?;
        std::fs::create_dir(self.index())?;
        let ended = self.ended(&self.decided(before).await?).await?;
        ended_as(&ended, Reason::Quarantined)?;
        let rungs = ended.status.as_ref().map_or(0, |status| status.rungs.len());
        ensure!(rungs == 3, "{rungs} rungs were climbed instead of three");
        Ok(())
    }

    /// Kills the controller with SIGKILL while the Job runs, and starts it again.
    async fn kill_while_the_job_runs(
        &self,
        execution: &Execution,
        controller: &mut Child,
    ) -> anyhow::Result<()> {
        until(async || {
            let running = self.jobs(execution).await?.iter().any(|job| {
                job.status
                    .as_ref()
                    .is_some_and(|status| status.active.unwrap_or(0) > 0 && status.ready == Some(1))
            });
            let now = self.get(execution).await?;
            ensure!(!now.is_finished(), "it ended as {} first", now.reason().unwrap_or("nothing"));
            let recorded = now.status.unwrap_or_default();
            let recorded = recorded.rungs.last().is_some_and(|rung| rung.state == AttemptState::Running);
            Ok((running && recorded).then_some(()))
        })
        .await
        .context("no Job ran")?;
        let killed = controller.id().unwrap_or_default();
        controller.kill().await?;
        self.timeline.killed(killed);
        for job in self.jobs(execution).await? {
            self.timeline.without_controller(&job);
        }
        controller.restart()?;
        self.timeline.restarted(controller.id().unwrap_or_default());
        Ok(())
    }

    fn index(&self) -> PathBuf {
        self.claim.join("index")
    }

    async fn executions(&self) -> anyhow::Result<Vec<Execution>> {
        let api: Api<Execution> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api.list(&ListParams::default()).await?.items)
    }

    async fn get(&self, execution: &Execution) -> anyhow::Result<Execution> {
        let api: Api<Execution> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api.get(&execution.name_any()).await?)
    }

    async fn jobs(&self, execution: &Execution) -> anyhow::Result<Vec<Job>> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), NAMESPACE);
        let selector = format!("{}={}", LABEL.execution, execution.name_any());
        Ok(api.list(&ListParams::default().labels(&selector)).await?.items)
    }

    /// Waits for the next Execution.
    async fn decided(&self, before: usize) -> anyhow::Result<Execution> {
        until(async || {
            let mut executions = self.executions().await?;
            executions.sort_by_key(|e| e.spec.decision.as_ref().map(|d| d.time.0));
            Ok(if executions.len() > before { executions.pop() } else { None })
        })
        .await
        .context("no Execution was decided")
    }

    /// Waits for an Execution's end, and until the timeline has told of it: nothing of the story may be missing when it ends.
    async fn ended(&self, execution: &Execution) -> anyhow::Result<Execution> {
        until(async || {
            let now = self.get(execution).await?;
            Ok(Some(now).filter(|now| now.is_finished() && self.timeline.has_told_the_end_of(now)))
        })
        .await
        .context("the Execution did not end")
    }

    /// Waits until the workload is available.
    async fn healthy(&self) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        until(async || {
            let status = api.get(WORKLOAD).await?.status.unwrap_or_default();
            let available =
                status.available_replicas.unwrap_or(0) > 0 && status.unavailable_replicas.unwrap_or(0) == 0;
            Ok(available.then_some(()))
        })
        .await
        .context("the workload did not become available")
    }
}

/// Takes away what an earlier demo left in the data folder: a cache that nothing mends, in which the workload never starts.
fn clear(claim: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(claim) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        cleared => cleared.with_context(|| format!("failed to clear {}", claim.display())),
    }
}

fn ended_as(execution: &Execution, wanted: Reason) -> anyhow::Result<()> {
    let reason = execution.reason().unwrap_or_default();
    ensure!(
        reason == wanted.as_str(),
        "Execution {} ended as {reason} instead of {}",
        execution.name_any(),
        wanted.as_str()
    );
    Ok(())
}

/// What was wrong is kept by the first rung, before anything is changed.
fn evidence_is_kept(execution: &Execution) -> anyhow::Result<()> {
    let first = execution.status.as_ref().and_then(|status| status.rungs.first());
    let is_kept = first.is_some_and(|rung| rung.state == AttemptState::Succeeded);
    ensure!(is_kept, "the evidence of Execution {} was not kept: {first:?}", execution.name_any());
    Ok(())
}

/// Looks until there is something to see; the demo's `--timeout` ends it.
async fn until<T>(look: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK).await;
    }
}
