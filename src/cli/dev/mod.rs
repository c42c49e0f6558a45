//! `fother dev`: a make-believe cluster in one process, with the real controller beside it.

mod cluster;
mod controller;
mod demo;
mod packs;

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use self::controller::Child;
use super::Exit;
use super::controller::stop_signal;
use crate::sandbox::kubelet::Runner;
use crate::telemetry;

/// Run a make-believe cluster for development, with the controller in it.
///
/// Everything listens on loopback only, and the cluster's objects end with the process. kubectl can talk to it with
/// the kubeconfig that is written into the data folder.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fother dev --demo                     # break something and watch it heal
  fother dev --pack ./my-pack           # try rules of your own
  kubectl --kubeconfig DIR/kubeconfig get executions")]
pub struct Dev {
    /// Folder for the kubeconfig, logs, the journal, volumes and git caches. Default: a new temporary one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of the Kubernetes API; 0 takes any that is free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Port at which Webhooks are received; 0 takes any that is free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    webhook_port: u16,
    /// A pack to sync: a git repository on this machine, a folder of one, or an https URL. Can be given more than once.
    #[arg(long = "pack", value_name = "PATH|URL", conflicts_with = "demo")]
    packs: Vec<String>,
    /// Break a workload, heal it, change the rule in git, and break what cannot be healed.
    #[arg(long)]
    demo: bool,
    /// End when the demo, or the first sync of the packs, is over.
    #[arg(long)]
    once: bool,
    /// What becomes of containers. Default: process, or print if a pack comes from a remote URL.
    #[arg(long, value_enum)]
    runner: Option<RunnerName>,
    /// Whether the controller requires a digest of every image (its flag of the same name).
    #[arg(long, conflicts_with = "demo")]
    require_image_digests: bool,
    /// How long the demo may take, or with `--once` the first sync of the packs. Example: 5m.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: crate::api::Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum RunnerName {
    /// They run as local processes.
    Process,
    /// They do not run; an Event of each Pod says what would.
    Print,
}

impl Dev {
    /// Runs until it is told to stop, or until the demo is over.
    pub fn run(self) -> anyhow::Result<Exit> {
        telemetry::start_with(telemetry::Format::Human, "warn");
        let runtime = tokio::runtime::Runtime::new().context("failed to start")?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<Exit> {
        let scratch;
        let data = if let Some(data) = &self.data {
            data.clone()
        } else {
            scratch = tempfile::tempdir().context("failed to make a data folder")?;
            scratch.path().to_owned()
        };
        std::fs::create_dir_all(&data).with_context(|| format!("failed to make {}", data.display()))?;
        let data = data.canonicalize().with_context(|| format!("failed to find {}", data.display()))?;
        let _mine = claimed(&data)?;
        let stop = CancellationToken::new();
        let cluster = Cluster::start(&data, self.port, self.runner(), &stop).await?;
        let mut controller = Child::start(&cluster, self.webhook_port, self.require_image_digests)?;
        let awaited = self.awaited();
        let ended = tokio::select! {
            ended = self.work(&cluster, &mut controller, &awaited) => ended,
            () = stop_signal() => Ok(awaited.interrupted()),
        };
        controller.stop().await;
        stop.cancel();
        cluster.ended().await;
        ended
    }

    async fn work(
        &self,
        cluster: &Cluster,
        controller: &mut Child,
        awaited: &Awaited,
    ) -> anyhow::Result<Exit> {
        if !self.demo {
            let packs = packs::given(&self.packs)?;
            packs::enroll(cluster).await?;
            packs::add(cluster, &packs).await?;
            self.banner(cluster, controller);
            if self.once {
                return packs::wait(cluster, &packs, self.timeout.std()).await;
            }
            return tokio::select! {
                ended = stay(controller) => ended,
                never = packs::tell(cluster) => match never {},
            };
        }
        let exit =
            match tokio::time::timeout(self.timeout.std(), demo::play(cluster, controller, awaited)).await {
                Ok(Ok(())) => Exit::Yes,
                Ok(Err(error)) => {
                    anstream::eprintln!("\nthe demo did not go as it should: {error:#}");
                    Exit::No
                }
                Err(_) => {
                    anstream::eprintln!("\nthe demo is not over after {}", self.timeout);
                    Exit::TimedOut
                }
            };
        if self.once || !std::io::stdout().is_terminal() || exit != Exit::Yes {
            return Ok(exit);
        }
        demo::hints(cluster);
        stay(controller).await
    }

    /// What was asked for, and is not done yet.
    fn awaited(&self) -> Awaited {
        Awaited(Mutex::new(match (self.demo, self.once && !self.packs.is_empty()) {
            (true, _) => Some(demo::FIRST),
            (false, true) => Some("the packs were synced"),
            (false, false) => None,
        }))
    }

    fn runner(&self) -> Runner {
        let remote = self.packs.iter().any(|pack| packs::is_remote(pack));
        match self.runner {
            Some(RunnerName::Print) => Runner::Print,
            None if remote => Runner::Print,
            Some(RunnerName::Process) | None => Runner::Process,
        }
    }
}

/// Keeps a data folder from another process: both would write the same files.
fn claimed(data: &Path) -> anyhow::Result<File> {
    let lock =
        File::create(data.join(".lock")).with_context(|| format!("failed to write to {}", data.display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        anyhow::anyhow!(
            "{} is in use by another `fother dev`; end it, or give another --data",
            data.display()
        )
    })?;
    Ok(lock)
}

impl Dev {
    fn banner(&self, cluster: &Cluster, controller: &Child) {
        anstream::println!("a make-believe cluster, for development only: {}", cluster.server());
        anstream::println!("  kubectl --kubeconfig {} get rules,executions", cluster.kubeconfig().display());
        anstream::println!(
            "  Webhooks are received at http://{}/hooks/NAMESPACE/NAME",
            controller.webhooks()
        );
        anstream::println!("  fother journal {}", cluster.data().join("journal.db").display());
        anstream::println!(
            "  In the namespace default, Rules may name the account healer, which may do everything there; Packs go there, too."
        );
        let runs = match cluster.runner() {
            Runner::Process => {
                "Jobs run as local processes, other Pods only with the annotation sandbox.local/run: process."
            }
            Runner::Print if self.runner.is_some() => PRINTED,
            Runner::Print => PRINTED_UNASKED,
        };
        anstream::println!("  {runs}");
        anstream::println!("Ctrl-C ends it, and with it all its objects.");
    }
}

const PRINTED: &str = "Jobs do not run: an Event of each Pod says what would.";
const PRINTED_UNASKED: &str = "Jobs do not run, as a pack comes from elsewhere: an Event of each Pod says what would. --runner process has them run here.";

/// What has still to happen before it is over; none if nothing has to.
struct Awaited(Mutex<Option<&'static str>>);

impl Awaited {
    fn now(&self, what: &'static str) {
        *self.0.lock() = Some(what);
    }

    fn over(&self) {
        *self.0.lock() = None;
    }

    /// How it ends when somebody ends it now.
    fn interrupted(&self) -> Exit {
        let Some(what) = *self.0.lock() else { return Exit::Yes };
        anstream::eprintln!("\nstopped before {what}");
        Exit::No
    }
}

/// Stays up; a controller that ends is started again.
async fn stay(controller: &mut Child) -> anyhow::Result<Exit> {
    loop {
        controller.ended().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        controller.restart()?;
    }
}
