//! The cluster that all tests share, and fother in it.

use std::path::Path;

use fother::cluster::rights;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::kubectl::Kubectl;
use crate::support::node::Node;
use crate::support::wait::{DEADLINE, eventually};

/// Where fother is installed.
const HOME: &str = "fother";
/// As the chart calls it.
const IMAGE: &str = "ghcr.io/fother/fother:under-test";

/// A real node with fother on it.
pub struct Harbor {
    pub node: Node,
    pub kubectl: Kubectl,
}

impl Harbor {
    /// The one that all tests share. None where it cannot be had, which is an error under `CI=true`.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Harbor>> = OnceCell::const_new();
        SHARED.get_or_init(Self::open).await.as_ref()
    }

    async fn open() -> Option<Self> {
        let node = Node::start()?;
        node.load(IMAGE, Path::new(env!("CARGO_BIN_EXE_fother")));
        let harbor = Self { kubectl: node.kubectl(), node };
        harbor.install().await;
        Some(harbor)
    }

    pub async fn client(&self) -> Client {
        self.node.admin().client().await
    }

    /// CRDs, rights, and two replicas; ready when one leads.
    async fn install(&self) {
        for crd in fother::api::crds() {
            self.kubectl.apply(&json!(crd).to_string(), &["--server-side"]).await;
        }
        self.kubectl.run(&["wait", "crd", "--all", "--for=condition=Established"]).await;
        self.kubectl.apply(&restricted_namespace(HOME).to_string(), &[]).await;
        for object in rights::installation(HOME, "fother").unwrap() {
            self.kubectl.apply(&object.to_string(), &[]).await;
        }
        self.kubectl.apply(&deployment().to_string(), &[]).await;
        let leases = Api::<Lease>::namespaced(self.client().await, HOME);
        eventually("a replica leads", DEADLINE, || async {
            let found =
                leases.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let holders = found.items.into_iter().filter_map(|lease| lease.spec?.holder_identity);
            match holders.filter(|holder| !holder.is_empty()).count() {
                0 => Err(self.kubectl.run(&["-n", HOME, "get", "pods", "-o", "wide"]).await),
                _ => Ok(()),
            }
        })
        .await;
    }
}

/// A namespace that admits no Pod but a restricted one.
pub fn restricted_namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })
}

fn deployment() -> Value {
    let labels = json!({"app.kubernetes.io/name": "fother"});
    let pod = json!({
        "serviceAccountName": "fother",
        "securityContext": {
            "runAsNonRoot": true, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "controller", "image": IMAGE, "imagePullPolicy": "Never",
            "args": ["controller", "--namespace", HOME, "--listen", "0.0.0.0:8080", "--git-cache", "/var/cache/fother"],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "git-cache", "mountPath": "/var/cache/fother"}, {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": [{"name": "git-cache", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "fother", "namespace": HOME},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}
