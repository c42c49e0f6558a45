//! Running helm as an administrator would, with the chart of this repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::access::Access;
use super::control_plane::built;
use super::kubectl::{Answer, run};

/// helm with a kubeconfig of its own and nothing else of the machine's configuration.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

/// The chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/fother")
}

impl Helm {
    /// The helm that is built from tests/cluster. None where it cannot be had, which is an error under `CI=true`.
    pub fn new(access: &Access) -> Option<Self> {
        let helm = Self::offline()?;
        access.write(&helm.home.path().join("kubeconfig"));
        Some(helm)
    }

    /// The same without a cluster.
    pub fn offline() -> Option<Self> {
        let program = built(&["helm"])?.join("helm");
        Some(Self { program, home: tempfile::tempdir().unwrap() })
    }

    /// Runs it and returns whatever comes of it.
    pub async fn try_run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", self.home.path().join("kubeconfig")).args(arguments);
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, self.home.path());
        }
        run(command, "").await
    }

    /// Runs it, expects exit code 0 and returns its standard output.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let answer = self.try_run(arguments).await;
        assert!(answer.code == 0, "helm {arguments:?}: {answer:#?}");
        answer.stdout
    }

    /// Installs or upgrades the chart under the names that the documents use.
    pub async fn install(&self, values: &[&str]) -> String {
        self.install_from(&chart(), values).await
    }

    /// The same of a chart that is not of this clone.
    pub async fn install_from(&self, chart: &Path, values: &[&str]) -> String {
        let what = ["upgrade", "--install", "fother", chart.to_str().unwrap()];
        self.run(&[&what[..], &["--namespace", "fother", "--create-namespace"], values].concat()).await
    }

    /// What the chart renders to.
    pub async fn template(&self, values: &[&str]) -> String {
        let chart = chart();
        let what = ["template", "fother", chart.to_str().unwrap(), "--namespace", "fother"];
        self.run(&[&what[..], values].concat()).await
    }
}
