//! The controller, as a process of its own: it can really be killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use rustix::process::Signal;
use tokio::process::Command;

use super::cluster::{Cluster, SYSTEM};

/// The controller's process.
pub struct Child {
    arguments: Vec<OsString>,
    log: PathBuf,
    process: tokio::process::Child,
}

impl Child {
    /// Starts it.
    pub fn start(cluster: &Cluster, require_image_digests: bool) -> anyhow::Result<Self> {
        let arguments = arguments(cluster, require_image_digests);
        let log = cluster.data().join("controller.log");
        let process = spawn(&arguments, &log)?;
        Ok(Self { arguments, log, process })
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
        self.process = spawn(&self.arguments, &self.log)?;
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
        let pid =
            self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself in this moment.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(std::time::Duration::from_secs(5), self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
}

fn arguments(cluster: &Cluster, require_image_digests: bool) -> Vec<OsString> {
    let data = cluster.data();
    let (kubeconfig, git_cache) = (data.join("controller.kubeconfig"), data.join("git"));
    let mut arguments: Vec<OsString> =
        ["controller", "--listen", "127.0.0.1:0", "--allow-local-git"].map(Into::into).into();
    arguments.extend(["--kubeconfig".into(), kubeconfig.into(), "--git-cache".into(), git_cache.into()]);
    // One identity for all its lives: a restarted controller need not wait for its own lease to end.
    arguments.extend(["--namespace", SYSTEM, "--identity", "dev"].map(Into::into));
    arguments.extend(require_image_digests.then(|| "--require-image-digests".into()));
    arguments
}

fn spawn(arguments: &[OsString], log: &Path) -> anyhow::Result<tokio::process::Child> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let output = std::fs::File::options().create(true).append(true).open(log);
    let output = output.with_context(|| format!("failed to open {}", log.display()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
    command.spawn().context("failed to start the controller")
}
