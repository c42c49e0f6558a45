//! `fother controller`: the controller itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::connection::Connection;
use crate::cluster::client;
use crate::controller::receiver::Receiver;
use crate::controller::{self, Settings, Standing};
use crate::decide::episode::Caps;
use crate::decide::pod::PodPolicy;
use crate::git::{FetcherOptions, Transports};
use crate::journal::{Keeping, Limits, Place, Size};
use crate::server::hooks::{self, Ending};
use crate::server::{self, Health};
use crate::telemetry::{self, Metrics};

/// No fetch takes longer, whatever a Pack says.
const LONGEST_FETCH: Duration = Duration::from_mins(10);

/// Run the controller.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fother controller                                   # in a cluster, as its Deployment does
  fother controller --kubeconfig ~/.kube/config       # from outside")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Controller {
    #[command(flatten)]
    connection: Connection,
    /// The namespace of the controller's Lease. Default: the one that the configuration names.
    #[arg(long, value_name = "NAMESPACE", env = "FOTHER_NAMESPACE")]
    namespace: Option<String>,
    /// This process's name among those that want to lead. Default: host name and process id.
    #[arg(long, value_name = "NAME", env = "FOTHER_IDENTITY")]
    identity: Option<String>,
    /// Where health, readiness and metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where Webhooks are served, by every replica. Left out: nowhere. Example: 0.0.0.0:9292.
    #[arg(long, value_name = "ADDRESS")]
    webhook_address: Option<SocketAddr>,
    /// How logs are written. `FOTHER_LOG` says what is logged, in the syntax of `RUST_LOG`.
    #[arg(long, value_enum, default_value_t)]
    log_format: telemetry::Format,
    /// Where git repositories are cached. Default: a folder for the life of the process.
    #[arg(long, value_name = "DIR")]
    git_cache: Option<PathBuf>,
    /// Whether Packs may name local paths. For development: whoever creates a Pack can then read repositories of
    /// the controller's machine.
    #[arg(long)]
    allow_local_git: bool,
    /// Whether Actions may lay anything over their restricted Pod (`pod.overlay`): host paths, privileges, whatever
    /// the Pod Security admission of their namespace lets pass. Whoever may write an Action then decides.
    #[arg(long)]
    allow_pod_overlays: bool,
    /// Whether every image that an Action runs has to be pinned by a sha256 digest. An Action without one is refused,
    /// in Packs too; without this flag it is warned of.
    #[arg(long)]
    require_image_digests: bool,
    /// File in which it remembers what happened and what it decided, for `fother journal`. Losing it loses explanation
    /// only. `:memory:` keeps it within the process. Left out: nothing is remembered.
    #[arg(long, value_name = "FILE")]
    journal: Option<Place>,
    /// The size that the journal never exceeds: its oldest entries go. Its volume needs room for twice as much, and for as
    /// much again where a damaged file was put aside.
    #[arg(long, value_name = "SIZE", default_value = "64Mi", requires = "journal")]
    journal_size: Size,
    /// How long the journal's entries are kept.
    #[arg(long, value_name = "DURATION", default_value = "168h", requires = "journal")]
    journal_age: crate::api::Duration,
    /// The most Executions of one rule that may run at a time, whatever the rules say.
    #[arg(long, value_name = "N", default_value_t = Caps::default().rule, value_parser = at_least_one)]
    max_per_rule: usize,
    /// The most Executions in one namespace that may run at a time.
    #[arg(long, value_name = "N", default_value_t = Caps::default().namespace, value_parser = at_least_one)]
    max_per_namespace: usize,
    /// The most Executions of rules that may run at a time.
    #[arg(long, value_name = "N", default_value_t = Caps::default().total, value_parser = at_least_one)]
    max_total: usize,
    /// Whether it stops when its standard input ends, which `fother dev` keeps open as long as it lives, and without waiting
    /// for senders to hear of it.
    #[arg(long, hide = true)]
    stop_with_input: bool,
}

impl Controller {
    /// Runs until it is told to stop.
    pub fn run(self) -> anyhow::Result<Exit> {
        telemetry::start(self.log_format);
        let runtime = tokio::runtime::Runtime::new().context("failed to start")?;
        runtime.block_on(self.serve())?;
        Ok(Exit::Yes)
    }

    async fn serve(self) -> anyhow::Result<()> {
        let config = self.connection.config().await?;
        let scratch = tempfile::tempdir().context("failed to make a folder for git caches")?;
        let settings = Settings {
            namespace: self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone()),
            identity: self.identity.clone().unwrap_or_else(identity),
            git: self.git(scratch.path())?,
            journal: self.journal.clone().map(|place| Keeping { place, limits: self.limits() }),
            receives: self.webhook_address.is_some(),
            pods: PodPolicy { overlays: self.allow_pod_overlays, digests: self.require_image_digests },
            caps: Caps { rule: self.max_per_rule, namespace: self.max_per_namespace, total: self.max_total },
        };
        let connected: Client = client::connect(config).context("failed to use the configuration")?;
        let (health, metrics, stop) =
            (Health::default(), Arc::new(Metrics::default()), CancellationToken::new());
        let serving = server::serve(self.listen, health.clone(), metrics.clone()).await?;
        let receiver = Receiver::new(connected.clone(), metrics.clone());
        let mut hooks = None;
        if let Some(address) = self.webhook_address {
            let (address, task) =
                hooks::serve(address, receiver.clone(), (stop.clone(), self.ending())).await?;
            tracing::info!(%address, "receiving Webhooks");
            hooks = Some(task);
        }
        let (told, follows_input, stopping) = (stop.clone(), self.stop_with_input, health.clone());
        // A replica that stands by is ready too, or no rollout and no budget of disruptions could count on it.
        let tell = move |standing: Standing| match standing {
            Standing::Starting => health.starts(),
            Standing::Lacking(what) => health.lacks(what),
            Standing::StandingBy => health.works_as("standing by"),
            Standing::Leading => health.works_as("leading"),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop_signal() => {}
                () = input_ended(), if follows_input => {}
            }
            stopping.stops();
            told.cancel();
        });
        let closed = async {
            if let Some(hooks) = &mut hooks {
                // It may have panicked: then nothing comes any more either.
                let _ = hooks.await;
            }
        };
        let work = controller::run_with(&receiver, connected, (settings, metrics), tell, (stop, closed));
        let ended = Box::pin(work).await;
        serving.abort();
        if let Some(hooks) = hooks {
            hooks.abort();
        }
        ended
    }

    /// How the listener for Webhooks ends. Beside `fother dev` nothing routes requests, and there is no other replica that
    /// senders could move to.
    fn ending(&self) -> Ending {
        let at_once = Ending { grace: Duration::ZERO, rest: Duration::from_secs(2) };
        if self.stop_with_input { at_once } else { Ending::default() }
    }

    fn limits(&self) -> Limits {
        Limits { age: self.journal_age.signed(), size: self.journal_size }
    }

    fn git(&self, scratch: &Path) -> anyhow::Result<FetcherOptions> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let cache = self.git_cache.clone().unwrap_or_else(|| scratch.to_owned());
        let transports = if self.allow_local_git { Transports::RemoteAndLocal } else { Transports::Remote };
        Ok(FetcherOptions { transports, timeout: LONGEST_FETCH, ..FetcherOptions::new(program, cache) })
    }
}

/// A cap under which something can run: none at all is not said with a cap.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number >= 1);
    number.ok_or_else(|| {
        "must be a whole number, at least 1; to let nothing run, stop the controller".to_owned()
    })
}

/// The host's name and the process id: a restarted process is another candidate.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

/// Waits for the end of standard input; on a thread of its own, for which nobody waits when all else has ended.
async fn input_ended() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // However it ends, it has ended; and who asked may be gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
}

/// Waits for SIGTERM, Ctrl-C, or the end of the terminal.
pub(super) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        // The terminal is gone.
        _ = hangup.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
