//! Running kubectl as a person would, and judging its exit code and output.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::NamedTempFile;

use super::access::Access;
use super::control_plane::built;
use super::process::Process;

/// Names the kubectl that is used instead of the built one or that of PATH.
const CHOSEN: &str = "FOTHER_TEST_KUBECTL";

/// kubectl with a kubeconfig of its own and nothing else of the machine's configuration.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: NamedTempFile,
}

/// What one call came to.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Kubectl {
    /// The one that tests use.
    pub fn new(access: &Access) -> Self {
        Self::of(program(), access)
    }

    /// This one and no other.
    pub fn of(program: PathBuf, access: &Access) -> Self {
        let kubeconfig = NamedTempFile::new().unwrap();
        access.write(kubeconfig.path());
        Self { program, kubeconfig }
    }

    /// The same program with other access.
    pub fn with(&self, access: &Access) -> Self {
        Self::of(self.program.clone(), access)
    }

    /// Runs it with `input` on its standard input and returns whatever comes of it.
    pub async fn try_run(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(self.kubeconfig.path()).args(arguments);
        run(command, input).await
    }

    /// `kubectl edit` with a program that changes the file it is given.
    pub async fn edit(&self, editor: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new(&self.program);
        command
            .env("KUBE_EDITOR", editor)
            .arg("--kubeconfig")
            .arg(self.kubeconfig.path())
            .arg("edit")
            .args(arguments);
        run(command, "").await
    }

    /// Starts one that goes on, such as `get -w`; what it says goes to `log`.
    pub fn start(&self, arguments: &[&str], log: &Path) -> Process {
        let kubeconfig = self.kubeconfig.path().to_str().unwrap();
        let arguments = [&["--kubeconfig", kubeconfig], arguments].concat();
        Process::start(&self.program, arguments, &[], log)
    }

    /// Runs it, expects exit code 0 and returns its standard output.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let answer = self.try_run(arguments, "").await;
        assert!(answer.code == 0, "kubectl {arguments:?}: {answer:#?}");
        answer.stdout
    }

    /// `kubectl apply -f -` of `manifest`, with further `arguments`.
    pub async fn apply(&self, manifest: &str, arguments: &[&str]) -> String {
        let arguments = [&["apply", "-f", "-"], arguments].concat();
        let answer = self.try_run(&arguments, manifest).await;
        assert!(answer.code == 0, "kubectl {arguments:?}: {answer:#?}\n{manifest}");
        answer.stdout
    }
}

/// The one that is chosen for this run, or the one that was built, which is done once per machine where PATH has none that
/// is new enough; else that of PATH.
pub fn program() -> PathBuf {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let own =
            || built(&["kubectl"]).map(|folder| folder.join("kubectl")).filter(|program| program.exists());
        std::env::var_os(CHOSEN).map(PathBuf::from).or_else(own).unwrap_or_else(|| "kubectl".into())
    });
    PROGRAM.clone()
}

/// Runs a program with `input` on its standard input and returns whatever comes of it.
pub async fn run(mut command: Command, input: &str) -> Answer {
    use tokio::io::AsyncWriteExt as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_owned();
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program may fail without reading its input.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
