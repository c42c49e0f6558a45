//! The controller as a separate process with exactly the rights that the chart gives it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::Api;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::access::Access;
use crate::support::control_plane::{ControlPlane, free_port, lasting_directory, skip};
use crate::support::helm::Helm;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

/// Where the controller's account and its Lease live.
pub const HOME: &str = "fother";
/// The controller's account, as the API server sees it.
pub const USER: &str = "system:serviceaccount:fother:fother";

/// The chart, without a controller of its own, and the access of the controller's account. None without helm.
pub async fn install(plane: &ControlPlane) -> Option<Access> {
    let helm = Helm::new(plane.admin())?;
    helm.install(&["--set", "replicas=0"]).await;
    established(plane.admin().client().await).await;
    Some(plane.service_account(HOME, "fother").await)
}

async fn established(client: Client) {
    let crds = Api::<CustomResourceDefinition>::all(client);
    for crd in fother::api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        eventually("the kind is served", DEADLINE, || async {
            let status = crds.get(&name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let served =
                status.conditions.iter().flatten().any(|c| c.type_ == "Established" && c.status == "True");
            served.then_some(()).ok_or(name.clone())
        })
        .await;
    }
}

/// Which program it is.
#[derive(Clone, Debug)]
pub enum Build {
    /// The one that this test run was built with.
    This,
    /// Another: of an earlier commit, or what `FOTHER_TEST_OTHER_BUILD` names.
    Other(PathBuf),
}

impl Build {
    /// What takes turns with this build. None where it is not built, which is an error under `CI=true`.
    pub fn other() -> Option<Self> {
        if let Some(named) = std::env::var_os("FOTHER_TEST_OTHER_BUILD") {
            return Some(Self::Other(named.into()));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/earlier.sh");
        // Building it here would be in the way of whoever waits for cargo.
        let output = Command::new(script).arg("--built").output().unwrap();
        if !output.status.success() {
            skip("the program of an earlier commit is not built: scripts/earlier.sh does it");
            return None;
        }
        Some(Self::Other(String::from_utf8(output.stdout).unwrap().trim().into()))
    }

    /// Where its program is.
    pub fn program(&self) -> PathBuf {
        match self {
            // Only tests are told.
            Self::This => option_env!("CARGO_BIN_EXE_fother").unwrap_or("fother").into(),
            Self::Other(program) => program.clone(),
        }
    }
}

/// A running controller.
pub struct Controller {
    build: Build,
    name: String,
    process: Process,
    access: Access,
    /// What it is told beyond what every one is.
    flags: &'static [&'static str],
    port: u16,
    /// Where it receives Webhooks, in all its lives.
    pub hooks: u16,
    directory: tempfile::TempDir,
}

impl Controller {
    /// Starts one and waits until it leads and has seen everything.
    pub async fn start(access: &Access) -> Self {
        let mut controller = Self::candidate(access, "one");
        controller.ready().await;
        controller
    }

    /// The same, with flags of its own.
    pub async fn with_flags(access: &Access, flags: &'static [&'static str]) -> Self {
        let mut controller = Self::told(Build::This, access, "one", flags);
        controller.ready().await;
        controller
    }

    /// Starts one that may have to wait for its turn. A restarted one of the same name need not wait for its Lease.
    pub fn candidate(access: &Access, name: &str) -> Self {
        Self::of_build(Build::This, access, name)
    }

    /// The same of another build.
    pub fn of_build(build: Build, access: &Access, name: &str) -> Self {
        Self::told(build, access, name, &[])
    }

    fn told(build: Build, access: &Access, name: &str, flags: &'static [&'static str]) -> Self {
        let (directory, port, hooks) = (lasting_directory(), free_port(), free_port());
        let process = launch(&build, access, (name, flags), (port, hooks), &directory.path().join("log"));
        let (access, name) = (access.clone(), name.to_owned());
        Self { build, name, process, access, flags, port, hooks, directory }
    }

    /// Waits until it leads and has seen everything.
    pub async fn ready(&mut self) {
        self.says("leading").await;
    }

    /// Waits until it works as `what`, which is how its readiness ends.
    pub async fn says(&mut self, what: &str) {
        let port = self.port;
        eventually(&format!("the controller is {what}"), DEADLINE, || async move {
            let answer = get(port, "/readyz").await?;
            let ready = answer.ends_with(what);
            if ready { Ok(()) } else { Err(std::io::Error::other(answer)) }
        })
        .await;
    }

    /// Waits until it has looked at the only Pack, which takes as long as a fetch.
    pub async fn looks_at_the_pack(&self) {
        let port = self.port;
        eventually("the Pack is looked at", DEADLINE, || async move {
            let counted = get(port, "/metrics").await.map_err(|error| error.to_string())?;
            let mut lines =
                counted.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total"));
            let looked = lines.any(|line| line.contains("\"pack\"") && line.contains("\"success\""));
            if looked { Ok(()) } else { Err(counted) }
        })
        .await;
    }

    /// Ends it without a word, wherever it is.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether it has ended, and was not started again.
    pub fn is_killed(&mut self) -> bool {
        self.process.exit_status().is_some()
    }

    /// What the kernel knows it by.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Freezes and thaws it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it ends by itself, and says how.
    pub async fn ends(&mut self) -> ExitStatus {
        self.process.wait(DEADLINE).await
    }

    /// Starts it again if it has ended, as a Deployment would; says whether.
    pub fn is_replaced(&mut self) -> bool {
        let ended = self.is_killed();
        if ended {
            self.start_again();
        }
        ended
    }

    /// Where it logs.
    pub fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// What it counts.
    pub async fn metrics(&self) -> std::io::Result<String> {
        get(self.port, "/metrics").await
    }

    /// Kills it and starts it again.
    pub async fn restart(&mut self) {
        self.kill();
        self.start_again();
        self.ready().await;
    }

    /// Starts it again after it was killed.
    pub fn start_again(&mut self) {
        self.port = free_port();
        let log = self.log_file();
        let ports = (self.port, self.hooks);
        self.process = launch(&self.build, &self.access, (&self.name, self.flags), ports, &log);
    }
}

fn launch(
    build: &Build,
    access: &Access,
    (name, flags): (&str, &[&str]),
    (port, hooks): (u16, u16),
    log: &Path,
) -> Process {
    let kubeconfig = access.write(&log.with_file_name("kubeconfig"));
    let (listen, hooks) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{hooks}"));
    let kubeconfig = kubeconfig.to_str().unwrap();
    let arguments = [
        "controller",
        "--kubeconfig",
        kubeconfig,
        "--namespace",
        HOME,
        "--identity",
        name,
        "--listen",
        &listen,
        "--webhook-address",
        &hooks,
        "--max-total",
        "100",
    ];
    let arguments = arguments.iter().chain(flags).copied();
    Process::start(&build.program(), arguments, &[("FOTHER_LOG", "info")], log)
}

/// Asks the controller for a path, and gives head and body.
pub async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let answer = async {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await?
}
