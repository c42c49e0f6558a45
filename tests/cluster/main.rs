//! A whole Kubernetes on this machine: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet,
//! containerd and runc. `make cluster`, `make cluster-down`, and the tests of the real node.
//!
//! ```text
//! up ──starts──▶ hold ──starts, ends, cleans up after──▶ node, in PID and mount namespaces of its own
//!                  ▲                                       └─▶ etcd, kube-apiserver, …, containers
//! down ──asks──────┘
//! ```
//!
//! In a PID namespace all processes end with the first one, containers too, and in a mount namespace no mount is
//! seen outside nor survives. What has to be cleaned up is a bridge, control groups and one directory. The kernel's settings
//! and its packet filter are the whole machine's: nothing here changes them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is test equipment: a panic is how it reports")]

mod cgroups;
mod hold;
mod image;
mod instance;
mod network;
mod node;
mod runtime;
mod settings;
#[path = "../it/support"]
#[expect(dead_code, reason = "most of it is for tests")]
mod support {
    pub mod access;
    pub mod audit;
    pub mod control_plane;
    pub mod kubectl;
    pub mod pki;
    pub mod process;
    pub mod wait;
}
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use instance::Instance;

/// A whole Kubernetes on this machine, for tests and for trying things. Needs root.
#[derive(Parser)]
#[command(name = "cluster")]
struct Cli {
    /// What the cluster keeps; it must not be below /run, /var/lib or /var/log, and goes with the cluster.
    #[arg(long, global = true, env = "FOTHER_CLUSTER", default_value_os_t = default_directory())]
    directory: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start it, wait until its node is ready, and print the path of its kubeconfig.
    Up {
        /// End it when the standard input is closed, which happens however its owner ends.
        #[arg(long)]
        while_stdin_is_open: bool,
    },
    /// End it and leave nothing behind.
    Down,
    /// Give it fother's image, as the Containerfile makes it.
    Load {
        /// The name that pods call it by.
        image: String,
        /// The built program.
        program: PathBuf,
    },
    /// Keep it and clean up after it (`up` starts this).
    #[command(hide = true)]
    Hold {
        #[arg(long)]
        while_stdin_is_open: bool,
    },
    /// Be it (`hold` starts this, as the first process of a PID namespace).
    #[command(hide = true)]
    Node,
}

fn default_directory() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    state.unwrap_or_else(std::env::temp_dir).join("fother/cluster")
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let instance = Instance::at(&cli.directory)?;
    match cli.verb {
        Verb::Up { while_stdin_is_open } => up::up(&instance, while_stdin_is_open).await,
        Verb::Down => up::down(&instance).await,
        Verb::Load { image, program } => runtime::load(&instance, &image, &program),
        Verb::Hold { while_stdin_is_open } => hold::hold(&instance, while_stdin_is_open).await,
        Verb::Node => node::run(&instance).await,
    }
}
