//! The controller as a separate process with exactly the rights that the chart gives it.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::Api;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::access::Access;
use crate::support::control_plane::{ControlPlane, free_port, lasting_directory};
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

/// A running controller.
pub struct Controller {
    process: Process,
    access: Access,
    port: u16,
    directory: tempfile::TempDir,
}

impl Controller {
    /// Starts one and waits until it leads and has seen everything.
    pub async fn start(access: &Access) -> Self {
        let mut controller = Self::candidate(access, "one");
        controller.ready().await;
        controller
    }

    /// Starts one that may have to wait for its turn. A restarted one of the same name need not wait for its Lease.
    pub fn candidate(access: &Access, name: &str) -> Self {
        let (directory, port) = (lasting_directory(), free_port());
        let process = launch(access, name, port, &directory.path().join("log"));
        Self { process, access: access.clone(), port, directory }
    }

    /// Waits until it leads and has seen everything.
    pub async fn ready(&mut self) {
        self.says("leading").await;
    }

    /// Waits until it is ready, and works as `what`.
    pub async fn says(&mut self, what: &str) {
        let port = self.port;
        eventually(&format!("the controller is {what}"), DEADLINE, || async move {
            let answer = get(port, "/readyz").await?;
            let ready = answer.starts_with("HTTP/1.0 200") && answer.ends_with(what);
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

    /// Freezes and thaws it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it ends by itself.
    pub async fn ends(&mut self) {
        self.process.wait(DEADLINE).await;
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
        let log = self.directory.path().join("log");
        self.process = launch(&self.access, "one", self.port, &log);
    }
}

fn launch(access: &Access, name: &str, port: u16, log: &Path) -> Process {
    let kubeconfig = access.write(&log.with_file_name("kubeconfig"));
    let listen = format!("127.0.0.1:{port}");
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
        "--max-total",
        "100",
    ];
    Process::fother(&arguments, &[("FOTHER_LOG", "info")], log)
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let answer = async {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await?
}
