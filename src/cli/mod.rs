//! The command line: one file per verb. Each verb says with an exit code how it went.

mod apply;
mod check;
mod completion;
mod connection;
mod controller;
mod crds;
mod dev;
mod enroll;
mod exit;
mod installed;
mod journal;
mod names;
mod validate;
mod version;

use std::io::{ErrorKind, Write};

use anyhow::Context;
use clap::{Parser, Subcommand};

pub use exit::Exit;

/// Event-driven remediation for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "fother", version, propagate_version = false, max_term_width = 100)]
#[command(after_help = "Examples:
  fother dev --demo                   # needs no cluster
  fother validate packs/disk          # before a commit
  fother check -n payments            # when nothing happens

The rest is kubectl's:
  kubectl get packs,rules,executions -A
  kubectl describe execution NAME     # what was done, and why
  kubectl patch execution NAME --type merge -p '{\"spec\":{\"cancel\":true}}'
  kubectl patch rule NAME --type merge -p '{\"spec\":{\"mode\":\"Observe\"}}'   # acts no more")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Check),
    Completion(completion::Completion),
    Controller(controller::Controller),
    Crds(crds::Crds),
    Dev(dev::Dev),
    Enroll(enroll::Enroll),
    /// Fetches one git revision for a fother process that asks through stdin.
    #[command(name = crate::git::COMMAND, hide = true)]
    GitWorker,
    Journal(journal::Journal),
    Validate(validate::Validate),
    Version(version::Version),
}

/// Reads the command line, does what it says, and returns the exit code.
pub fn run() -> std::process::ExitCode {
    let exit = match Arguments::parse().verb {
        Verb::Check(verb) => verb.run(),
        Verb::Completion(verb) => verb.run(),
        Verb::Controller(verb) => verb.run(),
        Verb::Crds(verb) => verb.run(),
        Verb::Dev(verb) => verb.run(),
        Verb::Enroll(verb) => verb.run(),
        Verb::GitWorker => return crate::git::run_worker(),
        Verb::Journal(verb) => verb.run(),
        Verb::Validate(verb) => verb.run(),
        Verb::Version(verb) => verb.run(),
    };
    exit.unwrap_or_else(|error| {
        anstream::eprintln!("fother: {error:#}");
        Exit::CouldNotAnswer
    })
    .into()
}

/// Writes an answer to standard output, without colors where nobody sees them. Whoever closed it has read enough, as `head`
/// has: the answer is none the less what it is.
fn say(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut out = anstream::AutoStream::auto(std::io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("failed to write to standard output"),
    }
}

/// Waits for an answer that takes requests.
fn on_runtime(answer: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Runtime::new().context("failed to start")?.block_on(answer)
}
