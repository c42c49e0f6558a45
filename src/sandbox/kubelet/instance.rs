//! One instance of a container, from its start to its end.
//!
//! An instance is a task of its own; what it does reaches the pod's worker as [`Signal`]s.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::logfile::LogFile;
use super::memory;
use super::probe::Probes;
use super::process::{Command, Process, Watchdog};
use super::stop::Stop;

/// Kubernetes keeps so much of a termination message.
const LONGEST_MESSAGE: u64 = 4096;
/// How long output is awaited from processes that left the group and keep the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What an instance tells its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Its startup probe succeeded, or it has none.
    Started,
    /// Whether it is ready.
    Ready(bool),
    /// A probe failed, and what it said.
    ProbeFailed {
        /// `Startup`, `Readiness` or `Liveness`.
        probe: &'static str,
        /// What it said.
        output: String,
    },
    /// A probe failed so often that the container is to be restarted.
    Unhealthy(&'static str),
    /// It ended.
    Ended(Outcome),
}

/// How an instance ended, as far as it knows itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The reason, where it is not the usual one.
    pub reason: Option<String>,
    /// Its termination message.
    pub message: Option<String>,
}

impl Outcome {
    /// It ended well.
    pub fn completed() -> Self {
        Self::default()
    }

    fn unstarted(message: String) -> Self {
        Self { code: 128, signal: None, reason: Some("StartError".to_owned()), message: Some(message) }
    }
}

/// Where an instance's signals go.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// Which container this is.
    pub index: usize,
    /// Which of its instances.
    pub serial: u64,
    /// The worker.
    pub worker: mpsc::Sender<(usize, u64, Signal)>,
}

impl Reporter {
    /// Sends `signal`; a worker that is gone does not miss it.
    pub async fn send(&self, signal: Signal) {
        let _ = self.worker.send((self.index, self.serial, signal)).await;
    }
}

/// Everything that a process needs.
pub struct Launch {
    /// What to run.
    pub command: Command,
    /// Where its output goes.
    pub log: Arc<LogFile>,
    /// How much memory it may hold.
    pub memory: Option<u64>,
    /// The file of its termination message.
    pub message: PathBuf,
    /// Whether the log's end stands in for a message when it fails.
    pub log_is_message: bool,
    /// Its probes.
    pub probes: Probes,
}

/// Runs a process to its end.
pub async fn run(launch: Launch, stop: Stop, watchdog: Arc<Watchdog>, reporter: &Reporter) -> Outcome {
    let mut process = match Process::start(&launch.command, &watchdog).await {
        Ok(process) => process,
        Err(error) => {
            launch.log.close();
            return Outcome::unstarted(error.to_string());
        }
    };
    let (output, errors) = process.output();
    let pumps = [pump(launch.log.clone(), output), pump(launch.log.clone(), errors)];
    let mut outcome = tokio::select! {
        outcome = supervise(&mut process, stop, launch.memory) => outcome,
        never = launch.probes.run(&watchdog, reporter) => match never {},
    };
    for pump in pumps {
        // The file system's refusal of a line is no reason to fail the container.
        let _ = tokio::time::timeout(LAST_WORDS, pump).await;
    }
    launch.log.close();
    outcome.message = message(&launch, outcome.code).await;
    outcome
}

fn pump(
    log: Arc<LogFile>,
    output: Option<impl AsyncRead + Send + Unpin + 'static>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Some(output) = output {
            let _ = log.pump(output).await;
        }
    })
}

async fn supervise(process: &mut Process, stop: Stop, memory: Option<u64>) -> Outcome {
    let group = process.group();
    let mut asked = stop.clone();
    let mut overdue = stop;
    let (mut polite, mut final_, mut killed_for_memory) = (false, false, false);
    loop {
        tokio::select! {
            ended = process.wait() => {
                let Ok(ended) = ended else { return Outcome { code: 137, ..Outcome::default() } };
                let reason = killed_for_memory.then(|| "OOMKilled".to_owned());
                return Outcome { code: ended.code, signal: ended.signal, reason, message: None };
            }
            () = asked.asked(), if !polite => {
                polite = true;
                process.terminate();
            }
            () = overdue.overdue(), if !final_ => {
                final_ = true;
                process.kill();
            }
            () = memory::exceeds(group, memory), if !killed_for_memory => {
                killed_for_memory = true;
                process.kill();
            }
        }
    }
}

async fn message(launch: &Launch, code: i32) -> Option<String> {
    let mut bytes = Vec::new();
    if let Ok(file) = tokio::fs::File::open(&launch.message).await {
        // A message that cannot be read is no message.
        let _ = file.take(LONGEST_MESSAGE).read_to_end(&mut bytes).await;
    }
    if bytes.is_empty() && launch.log_is_message && code != 0 {
        bytes = launch.log.tail().into_bytes();
    }
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}
