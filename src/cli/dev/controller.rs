//! The controller, as a process of its own: it can really be killed.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{ChildStdin, Command};

use super::cluster::{Cluster, SYSTEM};

/// The controller's process.
pub struct Child {
    arguments: Vec<OsString>,
    log: PathBuf,
    webhooks: SocketAddr,
    process: tokio::process::Child,
    /// Ends with this process, however that ends, and the controller with it.
    input: Option<ChildStdin>,
}

impl Child {
    /// Starts it.
    pub fn start(cluster: &Cluster, webhook_port: u16, require_image_digests: bool) -> anyhow::Result<Self> {
        let webhooks = free(webhook_port)?;
        let arguments = arguments(cluster, webhooks, require_image_digests);
        let log = cluster.data().join("controller.log");
        let (process, input) = spawn(&arguments, &log)?;
        Ok(Self { arguments, log, webhooks, process, input })
    }

    /// Where it receives Webhooks, in all its lives.
    pub fn webhooks(&self) -> SocketAddr {
        self.webhooks
    }

    /// Its process id, if it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Kills it, so that it has no moment to tidy up.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("failed to kill the controller")
    }

    /// Starts it again.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        (self.process, self.input) = spawn(&self.arguments, &self.log)?;
        Ok(())
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) {
        match self.process.wait().await {
            Ok(status) => tracing::warn!(%status, "the controller ended; its log is {}", self.log.display()),
            Err(error) => tracing::warn!(%error, "the controller is lost"),
        }
    }

    /// Asks it to stop, and waits.
    pub async fn stop(&mut self) {
        drop(self.input.take());
        if tokio::time::timeout(std::time::Duration::from_secs(5), self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
}

/// An address of loopback that nobody listens at.
fn free(port: u16) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port));
    let listener = listener.with_context(|| format!("failed to listen on port {port} of loopback"))?;
    Ok(listener.local_addr()?)
}

fn arguments(cluster: &Cluster, webhooks: SocketAddr, require_image_digests: bool) -> Vec<OsString> {
    let data = cluster.data();
    let (kubeconfig, git_cache) = (data.join("controller.kubeconfig"), data.join("git"));
    let journal = data.join("journal.db");
    let mut arguments: Vec<OsString> =
        ["controller", "--stop-with-input", "--listen", "127.0.0.1:0", "--allow-local-git"]
            .map(Into::into)
            .into();
    arguments.extend(["--kubeconfig".into(), kubeconfig.into(), "--git-cache".into(), git_cache.into()]);
    arguments.extend(["--journal".into(), journal.into()]);
    // One identity for all its lives: a restarted controller need not wait for its own lease to end.
    arguments.extend(["--namespace", SYSTEM, "--identity", "dev"].map(Into::into));
    arguments.extend(["--webhook-address".into(), webhooks.to_string().into()]);
    arguments.extend(require_image_digests.then(|| "--require-image-digests".into()));
    arguments
}

/// The process, and its input, which to wait for the process would close.
fn spawn(arguments: &[OsString], log: &Path) -> anyhow::Result<(tokio::process::Child, Option<ChildStdin>)> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let output = std::fs::File::options().create(true).append(true).open(log);
    let output = output.with_context(|| format!("failed to open {}", log.display()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
    let mut process = command.spawn().context("failed to start the controller")?;
    let input = process.stdin.take();
    Ok((process, input))
}
