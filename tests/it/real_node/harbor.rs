//! The cluster that all tests share, and fother in it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fother::api::Execution;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::helm::{Helm, chart};
use crate::support::http;
use crate::support::kubectl::Kubectl;
use crate::support::node::Node;
use crate::support::wait::{DEADLINE, eventually};

const RBAC: &str = "rbac.authorization.k8s.io";
/// Where fother is installed.
pub const HOME: &str = "fother";
/// As the chart calls it.
const REPOSITORY: &str = "ghcr.io/fother/fother";
const TAG: &str = "under-test";
/// Where each replica receives, and where it tells of itself, as the chart has it.
const HOOKS: u16 = 9292;
const HTTP: u16 = 8080;
/// Volumes for the claims whose folder a test looks into, by namespace and name; any other claim gets what is left. Their
/// mode is that of the claim, or one with fewer modes would be preferred to it.
const RESERVED: [(&str, &str, &str, &str); 3] = [
    ("volume-1", "shop", "cache", "ReadWriteOnce"),
    ("volume-2", "storage", "scratch", "ReadWriteMany"),
    ("volume-3", "spools", "spool", "ReadWriteMany"),
];

/// A real node with fother on it.
pub struct Harbor {
    pub node: Node,
    pub kubectl: Kubectl,
    pub helm: Helm,
}

impl Harbor {
    /// The one that all tests share. None where it cannot be had, which is an error under `CI=true`.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Harbor>> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::open("node")).await.as_ref()
    }

    /// One for a test that replaces fother itself.
    pub async fn open(name: &str) -> Option<Self> {
        let harbor = Self::empty(name).await?;
        harbor.install(&[]).await;
        Some(harbor)
    }

    /// One without fother, for a test that begins with another than this one.
    pub async fn empty(name: &str) -> Option<Self> {
        let node = Node::start(name)?;
        node.load(&image(), Path::new(env!("CARGO_BIN_EXE_fother")));
        let helm = Helm::new(node.admin())?;
        let harbor = Self { kubectl: node.kubectl(), node, helm };
        harbor.reserve().await;
        harbor.kubectl.apply(&restricted_namespace(HOME).to_string(), &[]).await;
        Some(harbor)
    }

    /// A namespace with an account `healer` that may do what the remedies here need.
    pub async fn namespace(&self, name: &str) {
        self.kubectl.apply(&restricted_namespace(name).to_string(), &[]).await;
        self.account(name, "healer", &healer_rights()).await;
    }

    /// An account that the controller may act as, with rights of its own.
    pub async fn account(&self, namespace: &str, name: &str, rules: &Value) {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        });
        let role = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "Role",
            "metadata": {"name": name, "namespace": namespace}, "rules": rules,
        });
        let binding = json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        });
        for object in [account, role, binding] {
            self.kubectl.apply(&object.to_string(), &[]).await;
        }
        self.node.admin().enroll(namespace, name).await;
    }

    /// Waits until the only Execution of a namespace has ended, and returns it.
    pub async fn ended(&self, namespace: &str, patience: Duration) -> Execution {
        let executions = Api::<Execution>::namespaced(self.client().await, namespace);
        eventually(&format!("the Execution in {namespace} ends"), patience, || async {
            let found =
                executions.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            match found.as_slice() {
                [execution] if execution.is_finished() => Ok(execution.clone()),
                other => Err(format!("{other:#?}")),
            }
        })
        .await
    }

    /// The folder of a claim that has a volume reserved.
    pub fn claim(&self, namespace: &str, name: &str) -> PathBuf {
        let (volume, ..) =
            RESERVED.iter().find(|(_, of, claim, _)| (*of, *claim) == (namespace, name)).unwrap();
        self.node.volume(volume)
    }

    /// Where the replicas receive what is posted to Webhooks.
    pub async fn hooks(&self) -> Vec<SocketAddr> {
        self.replicas().await.into_iter().map(|replica| (replica, HOOKS).into()).collect()
    }

    /// What the replicas count, one after the other.
    pub async fn metrics(&self) -> String {
        eventually("all replicas tell", DEADLINE, || async {
            let mut all = String::new();
            for replica in self.replicas().await {
                let told = http::get((replica, HTTP).into(), "/metrics").await;
                all += &told.map_err(|error| format!("{replica}: {error}"))?.text;
            }
            Ok::<_, String>(all)
        })
        .await
    }

    async fn replicas(&self) -> Vec<IpAddr> {
        let pods = Api::<Pod>::namespaced(self.client().await, HOME);
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        found.into_iter().filter_map(|pod| pod.status?.pod_ip?.parse().ok()).collect()
    }

    async fn reserve(&self) {
        let volumes = Api::<PersistentVolume>::all(self.client().await);
        for (volume, namespace, name, mode) in RESERVED {
            let spec = json!({
                "claimRef": {"namespace": namespace, "name": name},
                "capacity": {"storage": "10Gi"}, "accessModes": [mode],
            });
            let patch = Patch::Merge(json!({"spec": spec}));
            volumes.patch(volume, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    pub async fn client(&self) -> Client {
        self.node.admin().client().await
    }

    /// Installs or upgrades the chart with nothing but the image and `values` changed, and what receives and the journal
    /// switched on; ready when both replicas are.
    pub async fn install(&self, values: &[&str]) {
        let journal = ["--set", "journal.enabled=true"];
        self.install_from(&chart(), TAG, &[&journal[..], values].concat()).await;
    }

    /// The same of another chart, and another image that was loaded.
    pub async fn install_from(&self, chart: &Path, tag: &str, values: &[&str]) {
        let tag = format!("image.tag={tag}");
        let image = ["--set", &tag, "--set", "image.pullPolicy=Never", "--set", "receiver.enabled=true"];
        self.helm.install_from(chart, &[&image[..], values].concat()).await;
        self.rolled_out().await;
    }

    /// Waits until all replicas are those that were asked for last.
    pub async fn rolled_out(&self) {
        self.kubectl.run(&["-n", HOME, "rollout", "status", "deployment/fother", "--timeout=120s"]).await;
    }
}

/// fother's image, as it is loaded, of a tag.
pub fn image_of(tag: &str) -> String {
    format!("{REPOSITORY}:{tag}")
}

/// The image of the program that was built for the tests.
pub fn image() -> String {
    image_of(TAG)
}

fn healer_rights() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "deletecollection"]},
        {"apiGroups": [""], "resources": ["pods/log", "events"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "patch", "delete"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get"]},
    ])
}

/// What makes a container, and the Pod around it, restricted.
pub fn restricted(mut pod: Value) -> Value {
    pod["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": 65534, "fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"},
    });
    for container in pod["containers"].as_array_mut().unwrap() {
        container["securityContext"] =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    }
    pod
}

/// A namespace that admits no Pod but a restricted one.
pub fn restricted_namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })
}
