//! How a container is started: as a local process, or as a make-believe one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::env;
use super::instance::{self, Launch, Reporter, Signal};
use super::logfile::LogFile;
use super::paths::Mounts;
use super::pretend::{self, Script};
use super::probe::Probes;
use super::process::Command;
use super::quantity;
use super::sources::{SourceError, Sources};
use super::stop;
use super::volumes;
use super::worker::{RETRY, Running, Worker};
use super::{KubeletOptions, Runner};
use crate::sandbox::recorder::hex;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MESSAGE_PATH: &str = "/dev/termination-log";

/// What becomes of a pod's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They run as local processes.
    Process,
    /// They would, but the node only says how.
    Print,
    /// They are make-believe.
    Pretend,
}

impl Mode {
    /// Pods of Jobs really run, others only if they ask for it.
    pub fn of(pod: &Pod, runner: Runner) -> Self {
        let of_job =
            pod.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.kind == "Job");
        let asked = pod.annotations().get(pretend::RUN).is_some_and(|how| how == "process");
        match runner {
            _ if !of_job && !asked => Self::Pretend,
            Runner::Process => Self::Process,
            Runner::Print => Self::Print,
        }
    }
}

impl Worker {
    /// Starts the container at `index`, or makes it wait and sets when to try again.
    pub(super) async fn start(&mut self, index: usize) {
        let Some(container) = self.container(index) else { return };
        match self.mode {
            Mode::Print => {}
            Mode::Pretend => self.pretend(index, &container),
            Mode::Process => match self.prepare(&container).await {
                Ok(launch) => self.launch(index, launch),
                Err(error) => self.postpone(index, error.reason(), &error.to_string()),
            },
        }
    }

    fn postpone(&mut self, index: usize, reason: &str, message: &str) {
        let record = &mut self.records[index];
        record.wait(reason, Some(message.to_owned()));
        let about = Some((record.name.as_str(), record.init));
        self.host.warn(&self.pod, about, "Failed", format!("Error: {message}"));
        self.slots[index].due = Some(Instant::now() + RETRY);
    }

    fn launch(&mut self, index: usize, launch: Launch) {
        let watchdog = self.host.watchdog.clone();
        self.begin(index, |stop, reporter| async move {
            let outcome = instance::run(launch, stop, watchdog, &reporter).await;
            reporter.send(Signal::Ended(outcome)).await;
        });
    }

    fn pretend(&mut self, index: usize, container: &Container) {
        let script = self.slots[index].script.subscribe();
        let told = script.borrow().clone();
        if let Err(error) = Script::read(self.pod.annotations(), &container.name) {
            return self.postpone(index, "CreateContainerConfigError", &error.to_string());
        }
        if told.unpullable {
            return self.fail_pull(index);
        }
        let init = self.records[index].init;
        let startup = self.host.options.pretend_startup;
        let log = self.host.logs.begin(&self.key(), &self.uid(), &container.name);
        if let (Ok(log), Some(text)) = (&log, &told.log) {
            // A make-believe log that cannot be written is as good as an empty one.
            let _ = log.write(text.as_bytes(), true);
        }
        self.begin(index, move |stop, reporter| async move {
            let outcome = if init && told.exit.is_none() {
                instance::Outcome::completed()
            } else {
                pretend::run(script, stop, startup, &reporter).await
            };
            if let Ok(log) = log {
                log.close();
            }
            reporter.send(Signal::Ended(outcome)).await;
        });
    }

    fn fail_pull(&mut self, index: usize) {
        let failed = self.slots[index].failed_pulls;
        self.slots[index].failed_pulls = failed + 1;
        let (image, base) = (self.records[index].image.clone(), self.host.options.backoff_base);
        if failed.is_multiple_of(2) {
            let cause = format!("failed to pull image {image:?}: the pod's annotation says so");
            let name = self.records[index].name.clone();
            let about = Some((name.as_str(), self.records[index].init));
            self.host.warn(&self.pod, about, "Failed", format!("Failed to pull image {image:?}: {cause}"));
            self.postpone(index, "ErrImagePull", &cause);
        } else {
            self.postpone(index, "ImagePullBackOff", &format!("Back-off pulling image {image:?}"));
        }
        self.slots[index].due = Some(Instant::now() + base);
    }

    fn begin<F>(&mut self, index: usize, run: impl FnOnce(stop::Stop, Reporter) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.serial += 1;
        let (stopper, stop) = stop::pair();
        let reporter = Reporter { index, serial: self.serial, worker: self.signals.clone() };
        let task = AbortOnDropHandle::new(tokio::spawn(run(stop, reporter)));
        self.slots[index].running = Some(Running { serial: self.serial, stopper, _task: task });
        let id = identity(&self.uid(), &self.records[index].name, self.serial);
        let record = &mut self.records[index];
        record.begin(self.host.options.clock.time(), id);
        for (reason, message) in [
            ("Pulled", format!("Container image {:?} already present on machine", record.image)),
            ("Created", format!("Created container: {}", record.name)),
            ("Started", format!("Started container {}", record.name)),
        ] {
            self.host.tell(&self.pod, Some((&record.name, record.init)), reason, message);
        }
    }

    /// Tells make-believe containers what the pod's annotations say now.
    pub(super) fn tell(&mut self) {
        for (slot, record) in self.slots.iter().zip(&self.records) {
            // What cannot be understood is reported when the container starts.
            if let Ok(script) = Script::read(self.pod.annotations(), &record.name) {
                slot.script.send_if_modified(|known| {
                    let script = script.after(known);
                    let changed = *known != script;
                    *known = script;
                    changed
                });
            }
        }
    }

    async fn prepare(&self, container: &Container) -> Result<Launch, PrepareError> {
        let sources = Sources::new(self.host.client.clone(), self.namespace());
        let dir = self.dir().join("containers").join(&container.name);
        let message = dir.join("termination-log");
        let mut mounts = volumes::mounts(container, self.places.as_ref().unwrap_or(&BTreeMap::new()))?;
        mounts.add(container.termination_message_path.as_deref().unwrap_or(MESSAGE_PATH), message.clone());
        let base = base_env(&self.pod, &dir, &self.host.options);
        let env = env::resolve(&self.pod, container, &sources, base).await?;
        let command = command(container, &mounts, &env, &dir)?;
        fresh(&dir, &command.dir, &message)?;
        let probes = Probes::new(container, |run| Command {
            argv: run.iter().map(|part| mounts.rewrite(&env::expand(part, &env))).collect(),
            ..command.clone()
        })?;
        Ok(Launch {
            command,
            log: self.log(container)?,
            memory: memory_limit(container),
            message,
            log_is_message: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
            probes,
        })
    }

    fn log(&self, container: &Container) -> Result<std::sync::Arc<LogFile>, SourceError> {
        let log = self.host.logs.begin(&self.key(), &self.uid(), &container.name);
        log.map_err(|source| SourceError::Write { path: format!("log of {}", container.name), source })
    }

    /// Says what would be run.
    pub(super) fn print(&self) {
        for container in self.pod.spec.iter().flat_map(|spec| &spec.containers) {
            let argv: Vec<_> = container.command.iter().chain(&container.args).flatten().collect();
            let what = format!("This node runs nothing; it would run: {argv:?}");
            info!(pod = %self.pod.name_any(), container = %container.name, ?argv, "would run");
            self.host.tell(&self.pod, Some((&container.name, false)), "PrintOnly", what);
        }
    }
}

/// Why a container cannot be started yet.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    /// Something that it refers to is missing.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It leaves its command to its image, of which nothing is known here.
    #[error("no command specified, and the image's own is not known to this node")]
    NoCommand,
}

impl PrepareError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Source(_) => "CreateContainerConfigError",
            Self::NoCommand => "CreateContainerError",
        }
    }
}

fn base_env(pod: &Pod, dir: &Path, options: &KubeletOptions) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), pod.name_any()),
        ("HOME".to_owned(), dir.join("home").to_string_lossy().into_owned()),
    ]);
    if let Some((host, port)) = &options.api_address {
        env.insert("KUBERNETES_SERVICE_HOST".to_owned(), host.clone());
        env.insert("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string());
    }
    env
}

fn command(
    container: &Container,
    mounts: &Mounts,
    env: &BTreeMap<String, String>,
    dir: &Path,
) -> Result<Command, PrepareError> {
    let program = container.command.as_deref().filter(|program| !program.is_empty());
    let program = program.ok_or(PrepareError::NoCommand)?;
    let argv = program.iter().chain(container.args.iter().flatten());
    let working_dir = container.working_dir.as_deref().filter(|path| !path.is_empty());
    let home = dir.join("home");
    let dir = working_dir.map_or_else(
        || home.clone(),
        |path| mounts.place(path).unwrap_or_else(|| home.join(path.trim_start_matches('/'))),
    );
    Ok(Command {
        argv: argv.map(|part| mounts.rewrite(&env::expand(part, env))).collect(),
        env: env.iter().map(|(name, value)| (name.clone(), mounts.rewrite(value))).collect(),
        dir,
    })
}

/// Makes the directories of an instance, and takes away what the one before left as its message.
fn fresh(dir: &Path, working_dir: &Path, message: &Path) -> Result<(), SourceError> {
    let made = fs::create_dir_all(dir.join("home"))
        .and_then(|()| fs::create_dir_all(working_dir))
        .and_then(|()| fs::write(message, b""));
    made.map_err(|source| SourceError::Write { path: dir.display().to_string(), source })
}

fn memory_limit(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    let bytes = quantity::parse(limits.get("memory")?)?;
    // Limits are whole bytes, far below where floating point loses them.
    format!("{bytes:.0}").parse().ok()
}

fn identity(uid: &str, container: &str, serial: u64) -> String {
    let digest = Sha256::digest(format!("{uid}/{container}/{serial}"));
    format!("sandbox://{}", hex(&digest))
}
