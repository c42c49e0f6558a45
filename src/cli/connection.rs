//! Which cluster a verb talks to, and as whom.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::cluster::client;

/// The cluster to talk to.
#[derive(Args, Debug)]
pub struct Connection {
    /// The kubeconfig to use. Default: what kubectl would use, else in a cluster its own account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use. Default: the one that it says is current.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Connection {
    /// The configuration that the flags, or the surroundings, name.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                std::fs::metadata(path).with_context(|| format!("failed to read {}", path.display()))?;
                // Its text has the cause; as a chain that would be said twice.
                let of_file = |error: KubeconfigError| anyhow!("kubeconfig {}: {error}", path.display());
                let kubeconfig = Kubeconfig::read_from(path).map_err(of_file)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(of_file)
            }
            (None, Some(context)) => {
                let of_context = |error: KubeconfigError| anyhow!("failed to use context {context}: {error}");
                Config::from_kubeconfig(&options).await.map_err(of_context)
            }
            // Its text says all that was tried; as a chain the last would be said once more.
            (None, None) => Config::infer()
                .await
                .map_err(|error| anyhow!("no cluster; give --kubeconfig, or run in one: {error}")),
        }
    }

    /// A client for it.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client::connect(self.config().await?).context("failed to use the configuration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_said_once_and_with_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("kubeconfig");
        let authority = r#"{"kind": "Config", "current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1", "certificate-authority-data": "?"}}],
            "users": [{"name": "a", "user": {}}]}"#;
        for (text, expected) in [
            ("clusters: 5", "failed to parse kubeconfig YAML"),
            ("current-context: x", "failed to load current context: x"),
            (authority, "failed to load certificate authority"),
        ] {
            std::fs::write(&file, text).expect("a file");
            let connection = Connection { kubeconfig: Some(file.clone()), context: None };
            let Err(error) = connection.client().await.map(drop) else { panic!("{text}") };
            let (said, name) = (format!("{error:#}"), file.display().to_string());
            assert!(said.starts_with(&format!("kubeconfig {name}: ")), "{said}");
            assert_eq!((said.matches(&name).count(), said.matches(expected).count()), (1, 1), "{said}");
        }
    }
}
