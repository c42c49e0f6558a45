//! Child processes that never outlive the test run: ended on drop, also when a test panics, and by the kernel
//! when the test binary itself is killed.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use super::wait::eventually;

/// How much of its log a process shows when the test that owns it fails.
const SHOWN_LOG_LINES: usize = 80;

/// A running program whose output goes to a file.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` and `environment` on top of this process' own.
    pub fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = owned(program, arguments);
        command.envs(environment.iter().copied());
        Self::with_output(command, output, log)
    }

    /// Starts the `fother` that this test run was built with.
    pub fn fother(arguments: &[&str], environment: &[(&str, &str)], log: &Path) -> Self {
        Self::start(fother(), arguments, environment, log)
    }

    /// Starts `fother` as a person does, at a terminal; what it shows there is its log.
    pub fn fother_at_a_terminal(arguments: &[&str], log: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).unwrap();
        let screen = ioctl_tiocgptpeer(&terminal, flags).unwrap();
        let mut shown = File::create(log).unwrap();
        // Ends with an error when nobody holds the other side any more.
        std::thread::spawn(move || std::io::copy(&mut File::from(terminal), &mut shown));
        Self::with_output(owned(fother(), arguments), screen.into(), log)
    }

    fn with_output(mut command: Command, output: File, log: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let shown = format!("{command:?}");
        let child = spawn(command).unwrap_or_else(|error| panic!("failed to start {shown}: {error}"));
        Self { child, log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `Signal::STOP` freezes, `Signal::CONT` thaws, `Signal::TERM` asks.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, or nothing while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until the process ends by itself.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let log = self.log.clone();
        let child = std::sync::Mutex::new(&mut self.child);
        eventually("the process ends", deadline, || async {
            child
                .lock()
                .unwrap()
                .try_wait()
                .unwrap()
                .ok_or_else(|| format!("it runs; its log is {}", log.display()))
        })
        .await
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // The folder of the log may have gone first; a panic here would hide the one that is being told.
            let output = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
            let lines: Vec<_> = output.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n");
            eprintln!("--- the end of {}:\n{shown}\n---", self.log.display());
        }
    }
}

/// The `fother` that this test run was built with; only tests are told which.
pub fn fother() -> &'static Path {
    Path::new(option_env!("CARGO_BIN_EXE_fother").unwrap_or("fother"))
}

/// `program`, as a process that ends with this one.
fn owned(program: &Path, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.args(arguments.into_iter().map(Into::into));
    command
}

/// Spawns from one thread that lives as long as the test binary: the kernel sends the parent-death signal when
/// the *thread* that spawned a child ends, and each test has its own.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, answered) = mpsc::channel();
    spawner.send((command, answer)).expect("the spawner runs as long as the process");
    answered.recv().expect("the spawner answers each request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::wait::DEADLINE;

    fn shell(script: &str, log: &Path) -> Process {
        Process::start(Path::new("sh"), ["-c", script], &[("GREETING", "ahoy")], log)
    }

    fn state(process: &Process) -> Result<char, String> {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", process.id())).map_err(|e| e.to_string())?;
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).ok_or(stat)
    }

    #[tokio::test]
    async fn keeps_output_and_exit_code() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell("echo $GREETING; echo below >&2; exit 3", &directory.path().join("log"));
        assert_eq!(process.wait(DEADLINE).await.code(), Some(3));
        assert_eq!(process.output(), "ahoy\nbelow\n");
    }

    #[tokio::test]
    async fn runs_the_binary_under_test() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::fother(&["version"], &[], &directory.path().join("log"));
        assert_eq!(process.wait(DEADLINE).await.code(), Some(0), "{}", process.output());
        assert!(process.output().contains(env!("CARGO_PKG_VERSION")), "{}", process.output());
    }

    #[tokio::test]
    async fn freezes_thaws_and_kills() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell("echo up; exec sleep 600", &directory.path().join("log"));
        process.signal(Signal::STOP);
        let becomes = async |process: &Process, wanted: &str| {
            eventually(wanted, DEADLINE, || async {
                let state = state(process)?;
                if wanted.contains(state) { Ok(()) } else { Err(state.to_string()) }
            })
            .await;
        };
        becomes(&process, "T").await;
        process.signal(Signal::CONT);
        becomes(&process, "SR").await;
        assert!(process.exit_status().is_none());
        process.kill();
        assert!(!Path::new("/proc").join(process.id().to_string()).exists());
    }

    #[test]
    fn outlives_its_thread_but_not_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let process = std::thread::spawn(move || shell("exec sleep 600", &log)).join().unwrap();
        let entry = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(entry.exists(), "it outlives the thread that asked for it");
        drop(process);
        assert!(!entry.exists());
    }
}
