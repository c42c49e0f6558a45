//! Which cluster a verb talks to, and as whom.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
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
                let read = || format!("failed to read {}", path.display());
                std::fs::metadata(path).with_context(read)?;
                // Its text names the file and the cause; as a chain both would be said twice.
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| anyhow!("{error}"))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(read)
            }
            (None, Some(context)) => {
                let read = || format!("failed to use context {context}");
                Config::from_kubeconfig(&options).await.with_context(read)
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
