//! The controller's side of the worker: starts it, hands it a request, waits no longer than the deadline.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::error::Error;
use super::source::{Source, Transports};
use super::tree::Limits;
use super::worker::{Answer, COMMAND, Request, Snapshot};

/// Where administrators say which certificates to trust, if not in the system's own places.
const TRUST: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Of a worker's complaint, as much as a condition's message can use.
const MAX_COMPLAINT: u64 = 1024;

/// How a [`Fetcher`] works.
#[derive(Clone, Debug)]
pub struct FetcherOptions {
    /// The `fother` program, usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// Where repositories are cached; made when missing.
    pub cache: PathBuf,
    /// Which transports are allowed.
    pub transports: Transports,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// How many fetches run at once.
    pub parallel: usize,
    /// What a repository may weigh.
    pub limits: Limits,
}

impl FetcherOptions {
    /// The defaults: https and ssh only, a minute, four at once.
    pub fn new(program: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            cache: cache.into(),
            transports: Transports::Remote,
            timeout: Duration::from_mins(1),
            parallel: 4,
            limits: Limits::default(),
        }
    }
}

/// Fetches sources.
///
/// Guarantees: a call ends within the deadline once it has one of the parallel places; when it is dropped its worker is killed;
/// errors hold no secret; nothing of libgit2 is loaded into this process's memory map or environment.
#[derive(Debug)]
pub struct Fetcher {
    options: FetcherOptions,
    places: Semaphore,
}

impl Fetcher {
    /// Makes a fetcher; nothing is started or written yet.
    pub fn new(options: FetcherOptions) -> Self {
        let places = Semaphore::new(options.parallel.max(1));
        Self { options, places }
    }

    /// Resolves the source's reference and reads the files of that commit. Asks the server for its references each time, except for a
    /// commit that is cached, and downloads only what the cache lacks.
    pub async fn fetch(&self, source: &Source) -> Result<Snapshot, Error> {
        let _place = self.places.acquire().await.map_err(|error| failed(error.to_string()))?;
        match tokio::time::timeout(self.options.timeout, self.ask(source)).await {
            Ok(result) => result,
            // Dropping the question killed the worker.
            Err(_) => Err(Error::TimedOut { seconds: self.options.timeout.as_secs() }),
        }
    }

    async fn ask(&self, source: &Source) -> Result<Snapshot, Error> {
        let mut worker = self.start()?;
        let request = Request {
            cache: self.options.cache.clone(),
            source: source.clone(),
            transports: self.options.transports,
            limits: self.options.limits,
            // The worker's own deadline is for the case that nobody is left to kill it.
            timeout: self.options.timeout + Duration::from_secs(5),
        };
        let mut line = serde_json::to_vec(&request).map_err(|error| failed(error.to_string()))?;
        line.push(b'\n');
        let mut stdin = worker.stdin.take().ok_or_else(|| failed("no stdin"))?;
        stdin.write_all(&line).await.map_err(|error| failed(error.to_string()))?;
        // `stdin` stays open until the answer is here: its end tells the worker that nobody waits any more.
        let (answer, complaint, status) = self.listen(&mut worker).await?;
        drop(stdin);
        if !status.success() {
            return Err(failed(describe(status, &complaint)));
        }
        if !complaint.is_empty() {
            tracing::warn!(complaint, "a git worker has something to say");
        }
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| failed(error.to_string()))?;
        answer.into_result()
    }

    fn start(&self) -> Result<Child, Error> {
        let mut command = Command::new(&self.options.program);
        // An empty environment: no proxy, no configuration, no agent, no secret of the controller.
        command.arg(COMMAND).env_clear().env("HOME", "/nonexistent").current_dir("/");
        command.envs(TRUST.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| failed(format!("{}: {error}", self.options.program.display())))
    }

    async fn listen(&self, worker: &mut Child) -> Result<(Vec<u8>, String, ExitStatus), Error> {
        let stdout = worker.stdout.take().ok_or_else(|| failed("no stdout"))?;
        let stderr = worker.stderr.take().ok_or_else(|| failed("no stderr"))?;
        // Base64 takes four bytes for three; paths are bounded by the number of files.
        let at_most = self.options.limits.total_bytes * 2 + self.options.limits.files as u64 * 1024;
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(at_most), stderr.take(MAX_COMPLAINT));
        let both = tokio::try_join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut complaint));
        both.map_err(|error| failed(error.to_string()))?;
        let status = worker.wait().await.map_err(|error| failed(error.to_string()))?;
        Ok((answer, String::from_utf8_lossy(&complaint).trim().to_owned(), status))
    }
}

fn describe(status: ExitStatus, complaint: &str) -> String {
    if complaint.is_empty() { status.to_string() } else { format!("{status}: {complaint}") }
}

fn failed(cause: impl Into<String>) -> Error {
    Error::WorkerFailed { cause: cause.into() }
}
