//! A kubelet that plays one node.
//!
//! An ordinary client of any Kubernetes API: of the in-memory one and of a real one that has no
//! real node. It registers a Node, binds pods to itself and runs them: the pods of Jobs, and those
//! that ask for it (`sandbox.local/run: process`), as local processes; all others as
//! make-believe, which annotations can break ([`pretend`]).
//!
//! ```text
//! watch of pods ──▶ pods ──▶ worker (one a pod) ──▶ instance (one a run) ──▶ process | pretend
//!                              │  ▲ signals ◀──────────┘
//!                              ▼
//!                        record ──▶ status ──▶ API        events, logs on the side
//! ```
//!
//! Not modelled: images, networks, users and capabilities, cgroups (memory limits are sampled),
//! mount namespaces (paths are rewritten: [`paths`]), updates of mounted ConfigMaps and Secrets,
//! lifecycle hooks, sidecar and ephemeral containers, probes other than commands.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

use self::host::Host;
use self::logstore::LogStore;
use self::node::Registration;
use self::pods::Pods;
use self::process::Watchdog;
use self::server::Server;
use crate::sandbox::clock::Clock;
use crate::sandbox::logs::LogSource;
use crate::sandbox::recorder::Recorder;

mod downward;
mod env;
mod host;
mod instance;
mod logfile;
mod logstore;
mod memory;
mod node;
mod paths;
mod pods;
pub mod pretend;
mod probe;
mod process;
mod quantity;
mod record;
mod server;
mod sources;
mod start;
mod status;
mod stop;
mod volumes;
mod worker;

/// Where the node is, and where its logs are served.
const ADDRESS: &str = "127.0.0.1";

/// What becomes of containers that would really run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// They run, as local processes.
    Process,
    /// They do not; what would run is logged, and the pod stays Pending.
    Print,
}

/// How a node is played.
#[derive(Clone)]
pub struct KubeletOptions {
    /// The node's name.
    pub node_name: String,
    /// The only namespace whose pods it takes; all if none.
    pub namespace: Option<String>,
    /// Where volumes, scratch space and logs are kept.
    pub root: PathBuf,
    /// What becomes of containers that would really run.
    pub runner: Runner,
    /// The first wait before a container that crashed again is restarted; a real node's is ten seconds.
    pub backoff_base: Duration,
    /// How long a make-believe container takes to become ready.
    pub pretend_startup: Duration,
    /// Whether logs are served over HTTPS, for a real API server.
    pub serve_logs: bool,
    /// The API server's host and port, as processes may reach it.
    pub api_address: Option<(String, u16)>,
    /// The time.
    pub clock: Clock,
}

impl KubeletOptions {
    /// A node that runs processes, keeps everything below `root` and is quicker than a real one.
    pub fn new(node_name: &str, root: PathBuf) -> Self {
        Self {
            node_name: node_name.to_owned(),
            namespace: None,
            root,
            runner: Runner::Process,
            backoff_base: Duration::from_millis(500),
            pretend_startup: Duration::from_millis(300),
            serve_logs: false,
            api_address: None,
            clock: Clock::system(),
        }
    }
}

/// A kubelet.
pub struct Kubelet {
    client: Client,
    options: KubeletOptions,
    logs: Arc<LogStore>,
}

impl Kubelet {
    /// A kubelet that works through `client`.
    pub fn new(client: Client, options: KubeletOptions) -> Self {
        let logs = Arc::new(LogStore::new(options.root.join("logs"), options.clock.clone()));
        Self { client, options, logs }
    }

    /// The logs of its containers.
    pub fn logs(&self) -> Arc<dyn LogSource> {
        self.logs.clone()
    }

    /// Plays the node until `stop`; no process survives it, however it ends.
    ///
    /// # Errors
    /// When it cannot begin: the root cannot be written, there is no shell or no port.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Self { client, options, logs } = self;
        std::fs::create_dir_all(&options.root)?;
        let (name, clock) = (options.node_name.clone(), options.clock.clone());
        let server = if options.serve_logs {
            Some(Server::bind(ADDRESS, logs.clone(), clock.clone()).await?)
        } else {
            None
        };
        let port = server.as_ref().map(Server::port).transpose()?;
        let (recorder, writer) = Recorder::new(client.clone(), name.clone(), clock.clone());
        let registration = Registration::new(client.clone(), name, port, clock);
        let watchdog = Watchdog::start()?;
        let addresses = AtomicU32::default();
        let pods = Pods::new(Arc::new(Host { client, options, recorder, logs, watchdog, stop, addresses }));
        let serve = async {
            match server {
                Some(server) => server.run().await,
                None => std::future::pending().await,
            }
        };
        let background = async { tokio::join!(writer, registration.run(), serve) };
        tokio::select! {
            () = pods.run() => {}
            _ = background => {}
        }
        Ok(())
    }
}
