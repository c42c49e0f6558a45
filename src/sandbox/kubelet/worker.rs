//! One pod's worker: brings what runs in line with the pod, and the pod's status with what runs.
//!
//! Level-based: whatever woke it, a step looks at the pod and at the containers as they are
//! now, starts what is due, ends what must end, and writes the status if it differs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::host::Host;
use super::instance::{Outcome, Signal};
use super::logstore::PodKey;
use super::pretend::Script;
use super::record::{Exit, Record, RestartPolicy, State};
use super::sources::Sources;
use super::start::Mode;
use super::status::{self, Facts, Verdict};
use super::stop::Stopper;
use super::volumes::{self, Layout, Places};

/// How long to wait before something that failed is tried again.
pub const RETRY: Duration = Duration::from_secs(1);
/// What is left to the processes of a pod that is gone already, or of a kubelet that stops.
const SHORT_GRACE: Duration = Duration::from_secs(1);
/// Kubernetes' own default.
const DEFAULT_GRACE: i64 = 30;

/// The newest state of the pod, or none once it is gone.
pub type Latest = Option<Arc<Pod>>;

/// The worker of one pod.
pub struct Worker {
    pub(super) host: Arc<Host>,
    latest: watch::Receiver<Latest>,
    pub(super) pod: Arc<Pod>,
    pub(super) mode: Mode,
    pub(super) places: Option<Places>,
    pub(super) records: Vec<Record>,
    pub(super) slots: Vec<Slot>,
    pub(super) signals: mpsc::Sender<(usize, u64, Signal)>,
    pub(super) serial: u64,
    heard: mpsc::Receiver<(usize, u64, Signal)>,
    policy: RestartPolicy,
    start: Time,
    ip: String,
    verdict: Option<Verdict>,
    gone: bool,
    /// A pod that has succeeded or failed stays so.
    finished: bool,
    kill_by: Option<Instant>,
    retry: Instant,
    written: Option<PodStatus>,
}

/// What runs of a container.
#[derive(Default)]
pub struct Slot {
    /// Not to be started before.
    pub due: Option<Instant>,
    /// The running instance.
    pub running: Option<Running>,
    /// What a make-believe container was told.
    pub script: watch::Sender<Script>,
    /// How often its image could not be pulled.
    pub failed_pulls: u32,
}

/// A running instance; dropping it ends it.
pub struct Running {
    /// Which instance it is.
    pub serial: u64,
    /// Asks it to end.
    pub stopper: Stopper,
    /// The task that runs it.
    pub _task: AbortOnDropHandle<()>,
}

impl Worker {
    /// A worker for the pod that `latest` holds now.
    pub fn new(host: Arc<Host>, pod: Arc<Pod>, latest: watch::Receiver<Latest>) -> Self {
        let (signals, heard) = mpsc::channel(64);
        let mode = Mode::of(&pod, host.options.runner);
        let status = pod.status.clone().unwrap_or_default();
        let now = host.options.clock.time();
        let spec = pod.spec.clone().unwrap_or_default();
        let policy = RestartPolicy::parse(spec.restart_policy.as_deref());
        let records = records(&spec, &status, policy, mode, &now);
        let slots = records.iter().map(|_| Slot::default()).collect();
        let ip = status.pod_ip.unwrap_or_else(|| host.next_ip());
        let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let start = status.start_time.unwrap_or(now);
        Self {
            host,
            latest,
            pod,
            mode,
            places: None,
            records,
            slots,
            signals,
            serial: 0,
            heard,
            policy,
            start,
            ip,
            verdict: None,
            gone: false,
            finished,
            kill_by: None,
            retry: Instant::now(),
            written: None,
        }
    }

    /// Works until the pod is gone or the node stops.
    pub async fn run(mut self) {
        let stop = self.host.stop.clone();
        loop {
            // Asked before the step, so that a stop during it is not missed.
            let stopping = stop.is_cancelled();
            let wake = match self.step().await {
                Ok(Next::Done) => break,
                Ok(Next::Wait(wake)) => wake,
                Err(error) => {
                    debug!(pod = %self.pod.name_any(), %error, "pod step failed");
                    Some(Instant::now() + RETRY)
                }
            };
            tokio::select! {
                changed = self.latest.changed() => if changed.is_err() { self.gone = true },
                Some((index, serial, signal)) = self.heard.recv() => self.hear(index, serial, signal),
                () = sleep_until(wake) => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
        if self.gone || self.pod.metadata.deletion_timestamp.is_some() {
            self.host.logs.forget(&self.key(), &self.uid());
            // Only scratch space; what is left of it is removed with the root.
            let _ = std::fs::remove_dir_all(self.dir());
        }
    }

    async fn step(&mut self) -> kube::Result<Next> {
        self.refresh();
        self.judge();
        let mut wake = self.deadline();
        if self.closing() {
            self.stop_all();
        } else {
            wake = wake.into_iter().chain(self.start_due().await).min();
        }
        let idle = self.slots.iter().all(|slot| slot.running.is_none());
        if self.gone || self.host.stop.is_cancelled() {
            return Ok(if idle { Next::Done } else { Next::Wait(None) });
        }
        self.write_status().await?;
        if self.pod.metadata.deletion_timestamp.is_some() && idle {
            self.delete().await?;
            return Ok(Next::Done);
        }
        Ok(Next::Wait(wake))
    }

    fn refresh(&mut self) {
        match self.latest.borrow_and_update().clone() {
            Some(pod) => self.pod = pod,
            None => self.gone = true,
        }
        self.tell();
    }

    /// Fails the pod when its time is over.
    fn judge(&mut self) {
        let over = self.remaining().is_some_and(|left| left.is_zero());
        if over && self.verdict.is_none() && !self.closing() {
            let message = "Pod was active on the node longer than the specified deadline";
            self.host.tell(&self.pod, None, "DeadlineExceeded", message.to_owned());
            self.verdict =
                Some(Verdict { reason: "DeadlineExceeded".to_owned(), message: message.to_owned() });
        }
    }

    /// How much of its active deadline is left.
    fn remaining(&self) -> Option<Duration> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let spent = self.host.options.clock.now().duration_since(self.start.0);
        let left = jiff::SignedDuration::from_secs(seconds) - spent;
        Some(Duration::try_from(left).unwrap_or_default())
    }

    fn deadline(&self) -> Option<Instant> {
        self.remaining().filter(|left| !left.is_zero() && !self.closing()).map(|left| Instant::now() + left)
    }

    /// Whether everything is to end and nothing to start.
    fn closing(&self) -> bool {
        self.gone
            || self.finished
            || self.verdict.is_some()
            || self.pod.metadata.deletion_timestamp.is_some()
            || self.host.stop.is_cancelled()
    }

    fn stop_all(&mut self) {
        let by = Instant::now() + self.grace();
        let by = self.kill_by.map_or(by, |known| known.min(by));
        self.kill_by = Some(by);
        for (slot, record) in self.slots.iter().zip(&self.records) {
            if let Some(running) = &slot.running
                && running.stopper.stop(by)
            {
                let message = format!("Stopping container {}", record.name);
                self.host.tell(&self.pod, Some((&record.name, record.init)), "Killing", message);
            }
        }
    }

    fn grace(&self) -> Duration {
        if self.gone || self.host.stop.is_cancelled() {
            return SHORT_GRACE;
        }
        if let Some(Time(at)) = self.pod.metadata.deletion_timestamp {
            // Times have whole seconds: the last one is not over yet.
            let left = at.duration_since(self.host.options.clock.now()) + jiff::SignedDuration::from_secs(1);
            return Duration::try_from(left).unwrap_or_default();
        }
        let spec = self.pod.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE);
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// Starts what is due; says when there will be more to start.
    async fn start_due(&mut self) -> Option<Instant> {
        if self.mode == Mode::Print {
            return None;
        }
        if self.places.is_none() && !self.mount().await {
            return Some(self.retry);
        }
        for index in 0..self.records.len() {
            if self.records[index].init && !self.records[index].succeeded() {
                return self.start_if_due(index).await;
            }
        }
        let mut wake: Option<Instant> = None;
        for index in 0..self.records.len() {
            if !self.records[index].init {
                wake = wake.into_iter().chain(self.start_if_due(index).await).min();
            }
        }
        wake
    }

    async fn start_if_due(&mut self, index: usize) -> Option<Instant> {
        if !self.records[index].startable() {
            return None;
        }
        let due = self.slots[index].due.unwrap_or_else(Instant::now);
        if due > Instant::now() {
            return Some(due);
        }
        self.slots[index].due = None;
        self.start(index).await;
        self.slots[index].due
    }

    async fn mount(&mut self) -> bool {
        if self.retry > Instant::now() {
            return false;
        }
        let sources = Sources::new(self.host.client.clone(), self.namespace());
        let dir = self.dir();
        let layout = Layout { root: &self.host.options.root, pod: &dir };
        match volumes::set_up(&self.pod, &sources, &layout).await {
            Ok(places) => {
                self.places = Some(places);
                true
            }
            Err(error) => {
                self.host.warn(&self.pod, None, "FailedMount", error.to_string());
                self.retry = Instant::now() + RETRY;
                false
            }
        }
    }

    fn hear(&mut self, index: usize, serial: u64, signal: Signal) {
        let Some(running) = self.slots[index].running.as_ref().filter(|running| running.serial == serial)
        else {
            return;
        };
        let about = Some((self.records[index].name.clone(), self.records[index].init));
        let about = about.as_ref().map(|(name, init)| (name.as_str(), *init));
        let record = &mut self.records[index];
        match signal {
            Signal::Started => record.set_started(),
            Signal::Ready(ready) => record.set_ready(ready),
            Signal::ProbeFailed { probe, output } => {
                self.host.warn(&self.pod, about, "Unhealthy", format!("{probe} probe failed: {output}"));
            }
            Signal::Unhealthy(probe) => {
                let what = format!(
                    "Container {} failed {} probe, will be restarted",
                    record.name,
                    probe.to_lowercase()
                );
                self.host.tell(&self.pod, about, "Killing", what);
                running.stopper.stop(Instant::now() + self.grace());
            }
            Signal::Ended(outcome) => self.ended(index, outcome),
        }
    }

    fn ended(&mut self, index: usize, outcome: Outcome) {
        self.slots[index].running = None;
        let policy = if self.closing() { RestartPolicy::Never } else { self.policy };
        let base = self.host.options.backoff_base;
        let exit = self.exit(index, outcome);
        let Some(delay) = self.records[index].end(exit, policy, base) else { return };
        self.slots[index].due = Some(Instant::now() + delay);
        if !delay.is_zero() {
            let name = self.records[index].name.clone();
            let pod = format!("{}_{}({})", self.pod.name_any(), self.namespace(), self.uid());
            let event = format!("Back-off restarting failed container {name} in pod {pod}");
            let about = Some((name.as_str(), self.records[index].init));
            self.host.warn(&self.pod, about, "BackOff", event);
            let message = format!("back-off {delay:?} restarting failed container={name} pod={pod}");
            self.records[index].wait("CrashLoopBackOff", Some(message));
        }
    }

    fn exit(&self, index: usize, outcome: Outcome) -> Exit {
        let usual = if outcome.code == 0 { "Completed" } else { "Error" };
        let (started, id) = match &self.records[index].state {
            State::Running { since, id, .. } => (Some(since.clone()), Some(id.clone())),
            _ => (None, None),
        };
        Exit {
            code: outcome.code,
            signal: outcome.signal,
            reason: outcome.reason.unwrap_or_else(|| usual.to_owned()),
            message: outcome.message,
            started,
            finished: self.host.options.clock.time(),
            id,
        }
    }

    async fn write_status(&mut self) -> kube::Result<()> {
        if self.finished {
            return Ok(());
        }
        let status = status::build(&Facts {
            pod: &self.pod,
            records: &self.records,
            mounted: self.places.is_some(),
            closing: self.closing(),
            verdict: self.verdict.as_ref(),
            start: &self.start,
            ip: &self.ip,
            host_ip: super::ADDRESS,
            now: &self.host.options.clock.time(),
        });
        if self.written.as_ref() == Some(&status) {
            return Ok(());
        }
        // The UID makes it a conflict to write to another pod of the same name.
        let patch = Patch::Strategic(json!({"metadata": {"uid": self.uid()}, "status": status}));
        match self.api().patch_status(&self.pod.name_any(), &PatchParams::default(), &patch).await {
            Ok(pod) => {
                self.finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
                self.written = Some(status);
                self.pod = Arc::new(Pod { metadata: self.pod.metadata.clone(), ..pod });
                Ok(())
            }
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self) -> kube::Result<()> {
        let preconditions = Some(Preconditions { uid: self.pod.uid(), resource_version: None });
        let now = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
        match self.api().delete(&self.pod.name_any(), &now).await {
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.host.client.clone(), &self.namespace())
    }

    pub(super) fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> String {
        self.pod.uid().unwrap_or_default()
    }

    pub(super) fn key(&self) -> PodKey {
        (self.namespace(), self.pod.name_any())
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.host.options.root.join("pods").join(self.uid())
    }

    /// The container at `index`, init containers first.
    pub(super) fn container(&self, index: usize) -> Option<Container> {
        containers(self.pod.spec.as_ref()?).nth(index).map(|(container, _)| container.clone())
    }
}

/// What comes after a step.
enum Next {
    Done,
    Wait(Option<Instant>),
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = (&Container, bool)> {
    let init = spec.init_containers.iter().flatten().map(|container| (container, true));
    init.chain(spec.containers.iter().map(|container| (container, false)))
}

fn records(spec: &PodSpec, status: &PodStatus, policy: RestartPolicy, mode: Mode, now: &Time) -> Vec<Record> {
    let has_init = spec.init_containers.as_ref().is_some_and(|init| !init.is_empty());
    let reason = match mode {
        Mode::Print => "PrintOnly",
        _ if has_init => "PodInitializing",
        _ => "ContainerCreating",
    };
    let known = || status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers(spec)
        .map(|(container, init)| {
            let mut record = Record::new(container, init, reason);
            if let Some(status) = known().find(|status| status.name == container.name) {
                record.recover(status, policy, now);
            }
            record
        })
        .collect()
}
