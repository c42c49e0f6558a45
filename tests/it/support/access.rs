//! How a test reaches an API server: a kubeconfig, and clients made from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use fother::cluster::reviews::account_may;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::kubectl::run;
use super::process;
use super::wait::{DEADLINE, eventually};

/// Server, authority and identity. A client belongs to the runtime of the test that makes it.
#[derive(Clone)]
pub struct Access {
    kubeconfig: Kubeconfig,
}

impl Access {
    pub fn new(server: &str, authority_pem: &str, token: &str) -> Self {
        let authority = base64_of(authority_pem);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        Self { kubeconfig: serde_json::from_value(kubeconfig).unwrap() }
    }

    /// What the kubeconfig file at `path` says.
    pub fn from_file(path: &Path) -> Self {
        Self { kubeconfig: Kubeconfig::read_from(path).unwrap() }
    }

    /// The same identity acting as somebody else; the audit log names both.
    pub fn impersonating(&self, user: &str, groups: &[&str]) -> Self {
        let mut other = self.clone();
        for named in &mut other.kubeconfig.auth_infos {
            let auth = named.auth_info.get_or_insert_default();
            auth.impersonate = Some(user.to_owned());
            auth.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
        }
        other
    }

    /// The same server, somebody else's token.
    pub fn with_token(&self, token: &str) -> Self {
        let mut other = self.clone();
        for named in &mut other.kubeconfig.auth_infos {
            named.auth_info = Some(serde_json::from_value(json!({"token": token})).unwrap());
        }
        other
    }

    /// The same identity at another server.
    pub fn through(&self, server: &str, authority_pem: &str) -> Self {
        let mut other = self.clone();
        for named in &mut other.kubeconfig.clusters {
            let cluster = json!({"server": server, "certificate-authority-data": base64_of(authority_pem)});
            named.cluster = Some(serde_json::from_value(cluster).unwrap());
        }
        other
    }

    /// Has the controller act as an account of a namespace, by what `fother enroll` writes.
    pub async fn enroll(&self, namespace: &str, account: &str) {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = self.write(&directory.path().join("kubeconfig"));
        let mut fother = Command::new(process::fother());
        fother.args(["enroll", namespace, "--service-account", account, "--apply", "--kubeconfig"]);
        fother.arg(kubeconfig);
        let answer = run(fother, "").await;
        assert!(answer.code == 0, "{answer:#?}");
        let asked = json!({"verb": "impersonate", "resource": "serviceaccounts", "namespace": namespace, "name": account});
        self.knows_that(("fother", "fother"), asked).await;
    }

    /// Waits until an account may do what is `asked`: of rights that are written the API server learns a moment later.
    pub async fn knows_that(&self, account: (&str, &str), asked: Value) {
        let asked: ResourceAttributes = serde_json::from_value(asked).unwrap();
        let client = self.client().await;
        eventually(&format!("{account:?} may {asked:?}"), DEADLINE, || async {
            let may = account_may(&client, account, asked.clone()).await;
            if may.as_ref().is_ok_and(|may| *may) { Ok(()) } else { Err(format!("{may:?}")) }
        })
        .await;
    }

    pub async fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config().await).unwrap()
    }

    /// A client that says nothing of itself, for what others say through it.
    pub async fn anonymous_client(&self) -> kube::Client {
        let mut config = self.config().await;
        config.auth_info = kube::config::AuthInfo::default();
        config.disable_compression = true;
        kube::Client::try_from(config).unwrap()
    }

    async fn config(&self) -> kube::Config {
        let options = KubeConfigOptions::default();
        let mut config =
            kube::Config::from_custom_kubeconfig(self.kubeconfig.clone(), &options).await.unwrap();
        // A test that provokes a 503 wants to see it.
        config.default_retry = false;
        config
    }

    /// Writes the kubeconfig for other processes.
    pub fn write(&self, path: &Path) -> PathBuf {
        std::fs::write(path, serde_json::to_string_pretty(&self.kubeconfig).unwrap()).unwrap();
        path.to_owned()
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
