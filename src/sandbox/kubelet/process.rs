//! Local processes that cannot outlive the kubelet.
//!
//! Every process leads a group of its own, which is killed with it. Against the kubelet's
//! own sudden death there is a watchdog: a shell that knows all groups and reads a pipe
//! whose other end only the kubelet holds; when that closes, it kills them. A process starts
//! behind a gate and passes it only once the watchdog knows its group. (A process that
//! makes a session of its own leaves its group, and with it this guarantee.)

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdout};

/// Waits for a line before it becomes the program, so that an orphan never starts.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// Keeps the living groups in `groups`, and kills them when its input ends.
const WATCH: &str = r#"
groups=" "
while read -r what group; do
  case $what in
    add) groups="$groups$group " ;;
    del) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// What kills every process when the kubelet is gone.
pub struct Watchdog {
    input: Mutex<std::process::ChildStdin>,
    shell: Mutex<std::process::Child>,
}

impl Watchdog {
    /// Starts the watchdog.
    ///
    /// # Errors
    /// When there is no shell to run it.
    pub fn start() -> io::Result<Arc<Self>> {
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", WATCH])
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = shell.stdin.take().ok_or_else(|| io::Error::other("the watchdog has no input"))?;
        Ok(Arc::new(Self { input: Mutex::new(input), shell: Mutex::new(shell) }))
    }

    fn tell(&self, what: &str, group: Pid) -> io::Result<()> {
        let line = format!("{what} {}\n", group.as_raw_nonzero());
        self.input.lock().write_all(line.as_bytes())
    }
}

/// Reaps the shell in the background, or else it would stay a zombie; it ends with its input.
impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.shell.lock().try_wait();
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub dir: PathBuf,
}

/// Why a command cannot be started. The messages are the container runtime's.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing to run.
    #[error("no command specified")]
    Empty,
    /// No such program.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotFound(String),
    /// The program may not be executed.
    #[error("exec: {0:?}: permission denied")]
    Denied(String),
    /// The machine refused.
    #[error("failed to start: {0}")]
    Spawn(#[source] io::Error),
}

impl Command {
    fn check(&self) -> Result<(), StartError> {
        let program = self.argv.first().ok_or(StartError::Empty)?;
        if program.contains('/') {
            return match executable(&self.dir.join(program)) {
                Some(true) => Ok(()),
                Some(false) => Err(StartError::Denied(program.clone())),
                None => Err(StartError::NotFound(program.clone())),
            };
        }
        let path = self.env.get("PATH").map(String::as_str).unwrap_or_default();
        let found =
            std::env::split_paths(OsStr::new(path)).any(|dir| executable(&dir.join(program)) == Some(true));
        found.then_some(()).ok_or_else(|| StartError::NotFound(program.clone()))
    }
}

fn executable(path: &Path) -> Option<bool> {
    let found = std::fs::metadata(path).ok()?;
    Some(found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// A running process and its group. Dropping it kills the group.
pub struct Process {
    child: Child,
    group: Pid,
    watchdog: Arc<Watchdog>,
}

impl Process {
    /// Starts `command`, watched by `watchdog`.
    pub async fn start(command: &Command, watchdog: &Arc<Watchdog>) -> Result<Self, StartError> {
        command.check()?;
        let mut child = tokio::process::Command::new("/bin/sh")
            .args(["-c", GATE, "sh"])
            .args(&command.argv)
            .env_clear()
            .envs(&command.env)
            .current_dir(&command.dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(StartError::Spawn)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = id.ok_or_else(|| StartError::Spawn(io::Error::other("the process has no id")))?;
        let gate = child.stdin.take();
        let process = Self { child, group, watchdog: watchdog.clone() };
        process.open(gate).await.map_err(StartError::Spawn)?;
        Ok(process)
    }

    async fn open(&self, gate: Option<tokio::process::ChildStdin>) -> io::Result<()> {
        self.watchdog.tell("add", self.group)?;
        let mut gate = gate.ok_or_else(|| io::Error::other("the gate has no input"))?;
        gate.write_all(b"go\n").await
    }

    /// What the process writes; once.
    pub fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// The process group.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// Asks the group to end.
    pub fn terminate(&self) {
        self.send(Signal::TERM);
    }

    /// Ends the group.
    pub fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        // The only failure is that nobody is left to receive it.
        let _ = kill_process_group(self.group, signal);
    }

    /// Waits until the process has ended, then kills what is left of its group.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        let status = self.child.wait().await?;
        self.kill();
        let signal = status.signal();
        let code = status.code().or_else(|| signal.map(|number| 128 + number)).unwrap_or(137);
        Ok(Ended { code, signal })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // A watchdog that is gone has nothing left to watch.
        let _ = self.watchdog.tell("del", self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process_group;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    fn command(argv: &[&str]) -> Command {
        Command {
            argv: argv.iter().map(|&part| part.to_owned()).collect(),
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("A".to_owned(), "b".to_owned()),
            ]),
            dir: std::env::temp_dir(),
        }
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let held = tokio::time::timeout(Duration::from_secs(10), async {
            while !holds() {
                looks.tick().await;
            }
        });
        assert!(held.await.is_ok(), "not in time: {what}");
    }

    #[tokio::test]
    async fn exit_codes_are_reported() {
        let watchdog = Watchdog::start().unwrap();
        for (script, code, signal) in [("exit 0", 0, None), ("exit 7", 7, None), ("kill -9 $$", 137, Some(9))]
        {
            let mut process = Process::start(&command(&["sh", "-c", script]), &watchdog).await.unwrap();
            assert_eq!(process.wait().await.unwrap(), Ended { code, signal }, "{script}");
        }
    }

    #[tokio::test]
    async fn the_environment_is_only_what_was_given() {
        let watchdog = Watchdog::start().unwrap();
        let mut process = Process::start(&command(&["env"]), &watchdog).await.unwrap();
        let mut text = String::new();
        process.output().0.unwrap().read_to_string(&mut text).await.unwrap();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        // The shell of the gate adds where it is.
        names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
        assert_eq!(names, ["A", "PATH"]);
    }

    #[tokio::test]
    async fn what_cannot_start_says_why() {
        let watchdog = Watchdog::start().unwrap();
        for (argv, expected) in [
            (&[][..], "no command specified"),
            (&["no-such-program"], r#"exec: "no-such-program": executable file not found in $PATH"#),
            (&["/no/such"], r#"exec: "/no/such": executable file not found in $PATH"#),
            (&["/etc/passwd"], r#"exec: "/etc/passwd": permission denied"#),
        ] {
            let error = Process::start(&command(argv), &watchdog).await.err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some(expected));
        }
    }

    #[tokio::test]
    async fn a_dropped_process_takes_its_group_along() {
        let watchdog = Watchdog::start().unwrap();
        let process =
            Process::start(&command(&["sh", "-c", "sleep 60 & sleep 60"]), &watchdog).await.unwrap();
        let group = process.group();
        drop(process);
        until("the group is gone", || test_kill_process_group(group).is_err()).await;
    }

    /// Set, it makes a run of this test the process that is killed.
    const VICTIM: &str = "FOTHER_TEST_VICTIM";

    #[tokio::test]
    async fn processes_do_not_outlive_a_killed_kubelet() {
        if let Some(file) = std::env::var_os(VICTIM) {
            return be_killed(Path::new(&file)).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("groups");
        let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::kubelet::process::tests::processes_do_not_outlive_a_killed_kubelet"])
            .env(VICTIM, &file)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("the victim has started its processes", || file.exists()).await;
        let groups = std::fs::read_to_string(&file).unwrap();
        let groups: Vec<_> = groups.lines().map(|id| Pid::from_raw(id.parse().unwrap()).unwrap()).collect();
        assert_eq!(groups.len(), 3);
        assert!(groups.iter().all(|group| test_kill_process_group(*group).is_ok()));
        victim.kill().await.unwrap();
        for group in groups {
            until("the group is gone", || test_kill_process_group(group).is_err()).await;
        }
    }

    /// Starts processes that ignore polite requests, and others of which one ended and one was dropped.
    async fn be_killed(file: &Path) {
        let watchdog = Watchdog::start().unwrap();
        let stubborn = command(&["sh", "-c", "trap '' TERM; sleep 60 & wait"]);
        let mut kept = Vec::new();
        for _ in 0..4 {
            kept.push(Process::start(&stubborn, &watchdog).await.unwrap());
        }
        drop(kept.remove(1));
        Process::start(&command(&["true"]), &watchdog).await.unwrap().wait().await.unwrap();
        let groups: String = kept.iter().map(|one| one.group().as_raw_nonzero().to_string() + "\n").collect();
        std::fs::write(file.with_extension("new"), groups).unwrap();
        std::fs::rename(file.with_extension("new"), file).unwrap();
        std::future::pending::<()>().await;
    }
}
