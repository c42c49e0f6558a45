//! The make-believe cluster: API, controllers, node, and the rights that fother has in it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::apply;
use crate::cluster::rights;
use crate::sandbox::apiserver::{ApiServer, User};
use crate::sandbox::kubelet::{Kubelet, KubeletOptions, Runner};
use crate::sandbox::pki::Pki;
use crate::sandbox::world::{World, WorldOptions};

/// The namespace that fother lives in.
pub const SYSTEM: &str = "fother";
/// The account that the controller is.
const CONTROLLER: &str = "fother";

/// A running cluster.
pub struct Cluster {
    client: Client,
    server: String,
    data: PathBuf,
    runner: Runner,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Cluster {
    /// Starts one that keeps its files in `data`.
    pub async fn start(
        data: &Path,
        port: u16,
        runner: Runner,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.with_context(|| format!("failed to listen on port {port} of loopback"))?;
        let address = listener.local_addr()?;
        let server = format!("https://127.0.0.1:{}", address.port());
        let (api, pki) = (ApiServer::new(), Pki::generate()?);
        for (file, user, namespace) in [
            ("kubeconfig", User::admin(), "default"),
            ("controller.kubeconfig", User::service_account(SYSTEM, CONTROLLER), SYSTEM),
        ] {
            let token = token()?;
            api.add_token(&token, user);
            pki.write_kubeconfig(&data.join(file), &server, &token, namespace)?;
        }
        let client = api.client(&User::admin());
        let options = KubeletOptions {
            runner,
            api_address: Some(("127.0.0.1".to_owned(), address.port())),
            ..KubeletOptions::new("sandbox", data.join("node"))
        };
        let kubelet = Kubelet::new(client.clone(), options);
        api.set_log_source(kubelet.logs());
        let mut tasks = JoinSet::new();
        tasks.spawn(api.serve(listener, pki.tls.clone(), stop.clone()));
        tasks.spawn(World::new(client.clone(), WorldOptions::default()).run(stop.clone()));
        let stopped = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = Box::pin(kubelet.run(stopped)).await {
                tracing::error!(%error, "the node did not start");
            }
        });
        let cluster = Self { client, server, data: data.to_owned(), runner, tasks: tasks.into() };
        cluster.install().await?;
        Ok(cluster)
    }

    /// What an administrator would install: kinds, the controller's account and its rights.
    async fn install(&self) -> anyhow::Result<()> {
        for crd in crate::api::crds() {
            apply::object(&self.client, &serde_json::to_value(crd)?).await?;
        }
        apply::namespace(&self.client, SYSTEM).await?;
        for object in rights::installation(SYSTEM, CONTROLLER)? {
            apply::object(&self.client, &object).await?;
        }
        Ok(())
    }

    /// Who may do everything.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The URL of the API.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What becomes of containers.
    pub fn runner(&self) -> Runner {
        self.runner
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the node keeps a claim's files.
    pub fn claim(&self, namespace: &str, name: &str) -> PathBuf {
        self.data.join("node/volumes").join(namespace).join(name)
    }

    /// Waits until everything has stopped.
    pub async fn ended(&self) {
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}

/// A bearer token that nobody guesses.
fn token() -> anyhow::Result<String> {
    use std::io::Read;

    use base64::Engine;

    let mut bytes = [0u8; 24];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("no randomness")?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
