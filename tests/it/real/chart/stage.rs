//! A control plane where the chart is installed, without a running controller: it is the tests that speak as it.

use std::process::Command;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::access::Access;
use crate::support::control_plane::ControlPlane;
use crate::support::helm::Helm;
use crate::support::kubectl::{Answer, Kubectl, run};

/// What the controller is called.
pub const CONTROLLER: &str = "system:serviceaccount:fother:fother";

/// A namespace of a test's own, on a control plane that the tests of the chart share.
pub struct Stage {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    /// Who may do everything.
    pub admin: Kubectl,
}

impl Stage {
    /// None where there is no control plane or no helm.
    pub async fn new(test: &str) -> Option<Self> {
        static PLANE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        let open = || async {
            let plane = ControlPlane::private().await?;
            Helm::new(plane.admin())?.install(&["--set", "replicas=0"]).await;
            plane.kubectl().run(&["wait", "crd", "--all", "--for=condition=Established"]).await;
            Some(plane)
        };
        let plane = PLANE.get_or_init(open).await.as_ref()?;
        let (namespace, admin) = (plane.namespace(test).await, plane.kubectl());
        Some(Self { plane, namespace, admin })
    }

    /// kubectl as an account of the namespace that may do what `rules` say.
    pub async fn person(&self, name: &str, rules: Value) -> Kubectl {
        let access = self.account(name).await;
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": self.namespace}, "rules": rules,
        });
        self.admin.apply(&role.to_string(), &[]).await;
        let account = format!("--serviceaccount={}:{name}", self.namespace);
        self.admin
            .run(&["-n", &self.namespace, "create", "rolebinding", name, "--role", name, &account])
            .await;
        let first = |what: &str| rules[0][what][0].clone();
        let asked = json!({"namespace": self.namespace, "verb": first("verbs"), "group": first("apiGroups"),
            "resource": first("resources"), "name": first("resourceNames")});
        self.plane.admin().knows_that((&self.namespace, name), asked).await;
        self.admin.with(&access)
    }

    /// kubectl as an account of the namespace that has one of the cluster's roles there.
    pub async fn holder(&self, role: &str) -> Kubectl {
        let access = self.account(role).await;
        let account = format!("--serviceaccount={}:{role}", self.namespace);
        let binding = ["-n", &self.namespace, "create", "rolebinding", role, "--clusterrole", role, &account];
        self.admin.run(&binding).await;
        let asked = json!({"namespace": self.namespace, "verb": "get", "resource": "configmaps"});
        self.plane.admin().knows_that((&self.namespace, role), asked).await;
        self.admin.with(&access)
    }

    /// The access of an account of the namespace.
    pub async fn account(&self, name: &str) -> Access {
        self.plane.service_account(&self.namespace, name).await
    }

    /// kubectl with the controller's own token.
    pub async fn controller(&self) -> Kubectl {
        self.admin.with(&self.plane.service_account("fother", "fother").await)
    }

    /// A merge patch with the controller's own token, as the controller sends it: kubectl would read first, for which it
    /// has no right.
    pub async fn controller_patches(&self, path: &str, patch: &Value) -> Answer {
        let client = self.plane.service_account("fother", "fother").await.client().await;
        let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
        match client.request_text(request.body(patch.to_string().into_bytes()).unwrap()).await {
            Ok(stdout) => Answer { code: 0, stdout, stderr: String::new() },
            Err(error) => Answer { code: 1, stdout: String::new(), stderr: error.to_string() },
        }
    }

    /// The same of the status of an object of fother's in the namespace.
    pub async fn controller_says(&self, plural: &str, name: &str, patch: Value) -> Answer {
        let home = format!("/apis/fother.dev/v1alpha1/namespaces/{}", self.namespace);
        self.controller_patches(&format!("{home}/{plural}/{name}/status"), &patch).await
    }

    /// Creates an object of fother's in the namespace, as somebody.
    pub async fn create(&self, who: &Kubectl, kind: &str, name: &str, spec: Value) -> Answer {
        let manifest = self.manifest(kind, name, spec);
        who.try_run(&["create", "-f", "-"], &manifest.to_string()).await
    }

    pub fn manifest(&self, kind: &str, name: &str, spec: Value) -> Value {
        let metadata = json!({"name": name, "namespace": self.namespace});
        json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
    }

    /// Runs fother as the administrator.
    pub async fn fother(&self, arguments: &[&str]) -> Answer {
        fother(self.plane.admin(), arguments).await
    }
}

/// Runs `fother` against a cluster.
pub async fn fother(access: &Access, arguments: &[&str]) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = access.write(&folder.path().join("kubeconfig"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig);
    run(command, "").await
}

/// The API server said no, and `why`.
pub fn refused(answer: &Answer, why: &str) {
    assert!(answer.code != 0 && answer.stderr.contains(why), "not refused with {why:?}: {answer:#?}");
}

/// The API server said yes.
pub fn admitted(answer: &Answer) {
    assert!(answer.code == 0, "{answer:#?}");
}
