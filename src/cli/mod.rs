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
mod validate;
mod version;

use anyhow::Context;
use clap::{Parser, Subcommand};

pub use exit::Exit;

/// Event-driven remediation for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "fother", version, propagate_version = false, max_term_width = 100)]
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
        Verb::Version(verb) => Ok(verb.run()),
    };
    exit.unwrap_or_else(|error| {
        // Whoever closed the output has read enough of it, as `head` has.
        if !is_broken_pipe(&error) {
            anstream::eprintln!("fother: {error:#}");
        }
        Exit::CouldNotAnswer
    })
    .into()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().map(std::io::Error::kind);
    error.chain().filter_map(of_io).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

/// Waits for an answer that takes requests.
fn on_runtime(answer: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Runtime::new().context("failed to start")?.block_on(answer)
}
