//! `up` and `down`: what a person and the tests call.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::hold::sweep;
use crate::instance::Instance;

/// Long enough on a busy machine; a ready node takes half a minute.
const READY: Duration = Duration::from_mins(4);
/// A holder kills, waits and removes: seconds.
const GONE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const SHOWN_LOG_LINES: usize = 200;

/// Starts the cluster unless it is up, and prints the path of its kubeconfig once its node is ready.
pub async fn up(instance: &Instance, while_stdin_is_open: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut own = None;
    if instance.holder().is_none() {
        sweep(instance).await?;
        instance.create()?;
        own = Some(start_holder(instance, while_stdin_is_open)?);
    }
    while !instance.kubeconfig().exists() {
        let ended = match &mut own {
            Some(child) => child.try_wait()?.is_some(),
            None => instance.holder().is_none(),
        };
        if ended || started.elapsed() > READY {
            return fail(instance).await;
        }
        sleep(POLL_INTERVAL).await;
    }
    match own {
        Some(_) => eprintln!("the node is ready after {} s; its kubeconfig:", started.elapsed().as_secs()),
        None => eprintln!("the cluster is up already; its kubeconfig:"),
    }
    println!("{}", instance.kubeconfig().display());
    Ok(())
}

/// In a session of its own, so that it stays when the terminal goes.
fn start_holder(instance: &Instance, while_stdin_is_open: bool) -> anyhow::Result<Child> {
    let log = std::fs::File::create(instance.path("log"))?;
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).arg("hold").arg("--directory").arg(instance.directory());
    if while_stdin_is_open {
        command.arg("--while-stdin-is-open").stdin(Stdio::inherit());
    } else {
        command.stdin(Stdio::null());
    }
    // What is shown of the log when it fails should be what failed.
    command.env("RUST_BACKTRACE", "0").current_dir("/").stdout(log.try_clone()?).stderr(log);
    command.spawn().context("failed to start setsid")
}

/// Shows why it did not start and removes what there is of it.
async fn fail(instance: &Instance) -> anyhow::Result<()> {
    let log = std::fs::read(instance.path("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let lines: Vec<_> = log.lines().collect();
    eprintln!("{}", lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n"));
    down(instance).await?;
    bail!("the cluster did not start")
}

/// Ends the cluster, if there is one, and removes everything that is left of it.
pub async fn down(instance: &Instance) -> anyhow::Result<()> {
    let asked = Instant::now();
    let holder = instance.holder();
    while let Some(holder) = holder.as_ref().filter(|holder| holder.runs()) {
        let is_late = asked.elapsed() > GONE / 2;
        holder.signal(if is_late { Signal::KILL } else { Signal::TERM })?;
        if asked.elapsed() > GONE {
            bail!("the process that holds {} does not end", instance.directory().display());
        }
        sleep(POLL_INTERVAL).await;
    }
    sweep(instance).await
}
