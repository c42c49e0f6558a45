//! An API server with a namespace and a node of the scenario's own.

use std::fmt::Debug;
use std::path::PathBuf;

use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Kubectl;
use crate::support::wait::{DEADLINE, eventually};

/// Where a scenario plays.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    kubectl: Kubectl,
    root: TempDir,
    stop: DropGuard,
    kubelet: JoinHandle<std::io::Result<()>>,
}

impl Stage {
    /// On the real control plane, with a node that sees only this scenario's namespace.
    pub async fn real(name: &str) -> Option<Self> {
        let plane = ControlPlane::shared().await?;
        Some(Self::on(plane, name).await)
    }

    /// The same on any control plane.
    pub async fn on(plane: &ControlPlane, name: &str) -> Self {
        let namespace = plane.namespace(&name.replace('_', "-")).await;
        let options = |root| KubeletOptions { serve_logs: true, ..KubeletOptions::new(&namespace, root) };
        Self::start(plane.admin().client().await, plane.kubectl(), namespace.clone(), options)
    }

    fn start(
        client: Client,
        kubectl: Kubectl,
        namespace: String,
        options: impl FnOnce(PathBuf) -> KubeletOptions,
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        let options =
            KubeletOptions { namespace: Some(namespace.clone()), ..options(root.path().to_owned()) };
        let stop = CancellationToken::new();
        let kubelet = tokio::spawn(Kubelet::new(client.clone(), options).run(stop.clone()));
        Self { client, namespace, kubectl, root, stop: stop.drop_guard(), kubelet }
    }

    /// Stops the node and waits for it.
    pub async fn stop(self) {
        drop(self.stop);
        self.kubelet.await.unwrap().unwrap();
    }

    /// Where the node keeps the claim `name`.
    pub fn claim(&self, name: &str) -> PathBuf {
        self.root.path().join("volumes").join(&self.namespace).join(name)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates what `object` says.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        self.api().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Waits until `holds` of the object `name`, and returns it.
    pub async fn until<K>(&self, what: &str, name: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>();
        eventually(what, DEADLINE, || async {
            let object = api.get(name).await.map_err(|error| error.to_string())?;
            if holds(&object) { Ok(object) } else { Err(format!("{object:#?}")) }
        })
        .await
    }

    /// Waits until `holds` of the only pod that `labels` select, and returns it.
    pub async fn one_pod(&self, labels: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let (api, selected) = (self.api::<Pod>(), ListParams::default().labels(labels));
        eventually(what, DEADLINE, || async {
            let mut pods = api.list(&selected).await.map_err(|error| error.to_string())?.items;
            match pods.pop().filter(|pod| pods.is_empty() && holds(pod)) {
                Some(pod) => Ok(pod),
                None => Err(format!("{pods:#?}")),
            }
        })
        .await
    }

    /// kubectl in the scenario's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl.run(&[arguments, &["-n", &self.namespace]].concat()).await
    }
}
