//! The worker process: reads one request from stdin, fetches, writes one answer to stdout.
//!
//! It lives no longer than it is wanted: it ends at its deadline, and when its parent closes stdin, which the kernel does for a
//! parent that was killed. Secrets come by stdin, never by arguments or environment, which other processes can read.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::history::Lineage;
use super::reference::Revision;
use super::source::{Source, Transports};
use super::tree::{File, Limits};

/// The hidden subcommand that is a worker.
pub const COMMAND: &str = "git-worker";

/// Room for a transfer's pack, mapped, and libgit2's own caches; not enough to trouble the node.
const MEMORY_BYTES: u64 = 2 << 30;
/// A little over the largest pack that [`Limits`] let through, with its index.
const FILE_BYTES: u64 = 768 << 20;

/// What a fetch brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit the reference stood for.
    pub revision: Revision,
    /// The files below the source's path, sorted by path.
    pub files: Vec<File>,
    /// Who signed it, of those who may; none if nobody had to.
    pub signer: Option<String>,
    /// How it stands to the ancestor that was asked about.
    pub lineage: Lineage,
}

/// One request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub cache: PathBuf,
    pub source: Source,
    pub transports: Transports,
    pub limits: Limits,
    pub timeout: Duration,
}

/// One answer; contents are base64, since JSON has no bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done { revision: Revision, files: Vec<(String, String)>, signer: Option<String>, lineage: Lineage },
    Failed(Error),
}

impl From<Result<Snapshot, Error>> for Answer {
    fn from(result: Result<Snapshot, Error>) -> Self {
        match result {
            Err(error) => Self::Failed(error),
            Ok(snapshot) => {
                let encode = |file: File| (file.path, STANDARD.encode(file.content));
                Self::Done {
                    revision: snapshot.revision,
                    files: snapshot.files.into_iter().map(encode).collect(),
                    signer: snapshot.signer,
                    lineage: snapshot.lineage,
                }
            }
        }
    }
}

impl Answer {
    pub(super) fn into_result(self) -> Result<Snapshot, Error> {
        let (revision, encoded, signer, lineage) = match self {
            Self::Failed(error) => return Err(error),
            Self::Done { revision, files, signer, lineage } => (revision, files, signer, lineage),
        };
        let decode = |(path, text): (String, String)| {
            let content =
                STANDARD.decode(text).map_err(|error| Error::WorkerFailed { cause: error.to_string() })?;
            Ok(File { path, content })
        };
        let files = encoded.into_iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Snapshot { revision, files, signer, lineage })
    }
}

/// Runs as the worker: `fother git-worker` calls this and nothing else.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> io::Result<()> {
    limit(Resource::As, MEMORY_BYTES)?;
    limit(Resource::Fsize, FILE_BYTES)?;
    // A core dump would hold the credentials.
    limit(Resource::Core, 0)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    limit(Resource::Data, request.limits.memory_bytes)?;
    end_in_time(request.timeout);
    let result =
        super::repository::sync(&request.cache, &request.source, request.transports, &request.limits);
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &Answer::from(result))?;
    stdout.flush()
}

fn limit(resource: Resource, bytes: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) })?)
}

/// Ends the process at its deadline or when its parent is gone, whichever comes first.
fn end_in_time(timeout: Duration) {
    let (alive, parent) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        drop(alive);
    });
    thread::spawn(move || {
        let _ = parent.recv_timeout(timeout);
        std::process::exit(3);
    });
}
