//! The controller as a separate process with exactly the rights that it claims.

use std::path::Path;
use std::time::Duration;

use fother::cluster::rights;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::access::Access;
use crate::support::control_plane::{ControlPlane, free_port, lasting_directory};
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

/// Where the controller's account and its Lease live.
pub const HOME: &str = "fother";
/// The controller's account, as the API server sees it.
pub const USER: &str = "system:serviceaccount:fother:controller";

/// Everything that fother needs in a cluster, and the access of its account.
pub async fn install(plane: &ControlPlane) -> Access {
    let client = plane.admin().client().await;
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": HOME}})).unwrap();
    apply(&Api::all(client.clone()), &namespace).await;
    for crd in fother::api::crds() {
        apply(&Api::<CustomResourceDefinition>::all(client.clone()), &crd).await;
    }
    apply(&Api::<ClusterRole>::all(client.clone()), &rights::controller()).await;
    apply(&Api::<ClusterRole>::all(client.clone()), &rights::enrolment()).await;
    let bound: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "fother-controller"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": rights::CONTROLLER_ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": HOME}],
    }))
    .unwrap();
    apply(&Api::all(client.clone()), &bound).await;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), HOME);
    eventually("the namespace has its accounts", DEADLINE, || accounts.get("default")).await;
    established(client).await;
    plane.service_account(HOME, "controller").await
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

async fn apply<K>(api: &Api<K>, object: &K)
where
    K: kube::Resource<DynamicType = ()>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let name = object.meta().name.clone().unwrap();
    let mut body = serde_json::to_value(object).unwrap();
    body["apiVersion"] = json!(K::api_version(&()));
    body["kind"] = json!(K::kind(&()));
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(body)).await.unwrap();
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
        let port = self.port;
        eventually("the controller is ready", DEADLINE, || async move {
            let answer = get(port, "/readyz").await?;
            if answer.starts_with("HTTP/1.0 200") && answer.ends_with("leading") { Ok(()) } else { Err(std::io::Error::other(answer)) }
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
