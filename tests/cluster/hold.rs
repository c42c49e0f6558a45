//! The process that outlives `up`: it holds the namespaces of the node and cleans up when the node has to go.

use std::io::Read as _;
use std::time::Duration;

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::instance::Instance;
use crate::support::process::Process;
use crate::support::wait::DEADLINE;
use crate::{cgroups, network};

/// Nobody waits longer for a node to end.
pub const FOREVER: Duration = Duration::from_hours(24 * 365);

/// Runs the node until it is told to end, and removes what is left of it. A node that ends by itself leaves its
/// logs to whoever waits for it.
pub async fn hold(instance: &Instance, while_stdin_is_open: bool) -> anyhow::Result<()> {
    instance.hold()?;
    let own = std::env::current_exe()?;
    // With the namespaces' first process everything in them ends, and `unshare` ends it if it ends itself.
    let namespaces = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"].map(Into::into);
    let node = ["node".into(), "--directory".into(), instance.directory().into()];
    let arguments = namespaces.into_iter().chain([own.into_os_string()]).chain(node);
    let mut node = Process::start("unshare".as_ref(), arguments, &[], &instance.path("log"));
    tokio::select! {
        asked = told_to_end(while_stdin_is_open) => asked?,
        status = node.wait(FOREVER) => bail!("the node ended by itself: {status}"),
    }
    end(&mut node).await;
    sweep(instance).await
}

async fn told_to_end(while_stdin_is_open: bool) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let owner_ends = async {
        if !while_stdin_is_open {
            std::future::pending::<()>().await;
        }
        let (sender, closed) = oneshot::channel();
        // A thread of its own: tokio would wait for its read when another signal comes first.
        std::thread::spawn(move || {
            // Nobody writes: this returns when the last writer is gone.
            let _ = std::io::stdin().read(&mut [0]);
            sender.send(())
        });
        let _ = closed.await;
    };
    tokio::select! {
        _ = terminate.recv() => {},
        _ = interrupt.recv() => {},
        () = owner_ends => {},
    }
    Ok(())
}

/// Kills the first process of the namespace; its parent, `unshare`, ends when the kernel has ended all others.
async fn end(unshare: &mut Process) {
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let first = std::fs::read_to_string(children).unwrap_or_default();
    if let Some(pid) =
        first.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw)
    {
        // It cannot be anybody else's number while its parent, which has not waited for it, lives.
        let _ = kill_process(pid, Signal::KILL);
    }
    unshare.wait(DEADLINE).await;
}

/// Removes what a cluster leaves that does not run any more.
pub async fn sweep(instance: &Instance) -> anyhow::Result<()> {
    for bridge in network::bridges_of(instance)? {
        cgroups::remove(&bridge).await;
        network::remove(&bridge)?;
    }
    instance.remove()
}
