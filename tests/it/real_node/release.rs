//! What becomes of Executions that run when fother is taken from under them: the leader's Pod is deleted, the release is
//! upgraded to other values, and it is uninstalled and installed again. On a cluster of its own, as nobody else's fother
//! should go.

use fother::api::Execution;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::harbor::{HOME, Harbor};
use crate::support::wait::{DEADLINE, eventually};

const NAMESPACE: &str = "release";
const IMAGE: &str = "docker.io/library/debian:12-slim";
/// Notes for which boat it runs, and ends when it is told to for that boat.
const TOW: &str = r#"
echo "$FOTHER_TARGET_NAME" >>/hold/log
while ! test -e "/hold/$FOTHER_TARGET_NAME"; do sleep 0.2; done
"#;

/// A cluster whose boats are towed, each by a Job that runs until the test lets it end.
struct Port {
    harbor: Harbor,
    client: Client,
    hold: std::path::PathBuf,
}

impl Port {
    async fn open() -> Option<Self> {
        let harbor = Harbor::open(NAMESPACE).await?;
        harbor.namespace(NAMESPACE).await;
        let rights = json!([
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "deletecollection"]},
            {"apiGroups": [""], "resources": ["pods/log", "events"], "verbs": ["get", "list"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "patch", "delete"]},
        ]);
        harbor.account(NAMESPACE, "tug", &rights).await;
        let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let script =
            json!({"image": IMAGE, "inline": TOW, "volumes": [{"claimName": "hold", "mountPath": "/hold"}]});
        let verify = json!({"when": "target.data.hull == 'tight'", "within": "2m", "stableFor": "1s"});
        let rule = |boat: &str| {
            json!({
                "serviceAccountName": "tug", "mode": "Enforce",
                "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}},
                "when": format!("object.metadata.name == '{boat}' && object.data.hull == 'leaking'"),
                "ladder": [{"run": "tow", "verify": verify}],
            })
        };
        for (api_version, kind, name, spec) in [
            ("v1", "PersistentVolumeClaim", "hold", claim),
            ("fother.dev/v1alpha1", "Action", "tow", json!({"script": script})),
            ("fother.dev/v1alpha1", "Rule", "ark", rule("ark")),
            ("fother.dev/v1alpha1", "Rule", "brig", rule("brig")),
        ] {
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
            harbor.kubectl.apply(&object.to_string(), &["-n", NAMESPACE]).await;
        }
        let ready = ["-n", NAMESPACE, "wait", "--for=condition=Ready", "rules", "--all", "--timeout=60s"];
        harbor.kubectl.run(&ready).await;
        let client = harbor.client().await;
        let hold = folder(&harbor, client.clone()).await;
        Some(Self { harbor, client, hold })
    }

    /// Breaks a boat and waits until its Job's script runs; gives the Job's UID.
    async fn breaks(&self, boat: &str) -> String {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": boat}, "data": {"hull": "leaking"},
        });
        let count = self.towed().len();
        self.harbor.kubectl.apply(&object.to_string(), &["-n", NAMESPACE]).await;
        eventually("the script runs", 2 * DEADLINE, || async {
            let towed = self.towed();
            if towed.len() == count + 1 { Ok(()) } else { Err(format!("{towed:?}")) }
        })
        .await;
        self.job(boat).await.uid().unwrap()
    }

    /// Mends a boat, and lets its script come to its end.
    async fn lets_go(&self, boat: &str) {
        let tight = r#"{"data":{"hull":"tight"}}"#;
        self.harbor.kubectl.run(&["-n", NAMESPACE, "patch", "configmap", boat, "-p", tight]).await;
        std::fs::write(self.hold.join(boat), "").unwrap();
    }

    /// For which boats the script ran, in order.
    fn towed(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.hold.join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The only Execution for a boat.
    async fn execution(&self, boat: &str) -> Execution {
        let all = Api::<Execution>::namespaced(self.client.clone(), NAMESPACE);
        let mut found = all.list(&ListParams::default()).await.unwrap().items;
        found.retain(|execution| execution.spec.target.as_ref().is_some_and(|target| target.name == boat));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    async fn recovers(&self, boat: &str) {
        eventually(&format!("{boat} recovers"), 2 * DEADLINE, || async {
            let execution = self.execution(boat).await;
            match execution.reason() {
                Some("TargetRecovered") if execution.is_finished() => Ok(()),
                _ => Err(format!("{:#?}", execution.status)),
            }
        })
        .await;
    }

    /// The Job of the only Execution for a boat.
    async fn job(&self, boat: &str) -> Job {
        let owner = self.execution(boat).await.uid();
        let all = Api::<Job>::namespaced(self.client.clone(), NAMESPACE);
        let mut found = all.list(&ListParams::default()).await.unwrap().items;
        found.retain(|job| {
            job.owner_references().iter().any(|reference| Some(&reference.uid) == owner.as_ref())
        });
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// Who leads, once that is another than `before`.
    async fn leader(&self, before: &str) -> String {
        let leases = Api::<Lease>::namespaced(self.client.clone(), HOME);
        eventually("another Pod leads", DEADLINE, || async {
            let lease = leases.get("fother").await.map_err(|error| error.to_string())?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            if holder.is_empty() || holder == before { Err(holder) } else { Ok(holder) }
        })
        .await
    }

    /// Uninstalls the release, and waits until none of its Pods is left.
    async fn uninstall(&self) {
        self.harbor.helm.run(&["uninstall", "fother", "-n", HOME]).await;
        eventually("no Pod of it is left", DEADLINE, || async {
            let left = self.harbor.kubectl.run(&["-n", HOME, "get", "pods", "-o", "name"]).await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

/// The folder of the claim, once it is bound.
async fn folder(harbor: &Harbor, client: Client) -> std::path::PathBuf {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client, NAMESPACE);
    let volume = eventually("the claim is bound", DEADLINE, || async {
        let claim = claims.get("hold").await.map_err(|error| error.to_string())?;
        claim.spec.and_then(|spec| spec.volume_name).ok_or("not yet".to_owned())
    })
    .await;
    harbor.node.volume(&volume)
}

fn succeeded(job: &Job) -> Value {
    json!(job.status.as_ref().and_then(|status| status.succeeded))
}

#[tokio::test]
async fn executions_outlive_a_leader_an_upgrade_and_a_release() {
    let Some(port) = Port::open().await else { return };
    let first = port.leader("").await;
    let ark = port.breaks("ark").await;

    // It calls itself after its Pod and its process.
    let (pod, _) = first.rsplit_once('-').unwrap();
    let delete = ["-n", HOME, "delete", "pod", pod, "--wait=false"];
    port.harbor.kubectl.run(&delete).await;
    let second = port.leader(&first).await;
    let brig = port.breaks("brig").await;

    port.harbor.install(&["--set", "controller.maxTotal=33"]).await;
    port.leader(&second).await;
    port.lets_go("ark").await;
    port.recovers("ark").await;
    assert_eq!(port.job("ark").await.uid().as_ref(), Some(&ark), "the Job that ran all along");

    port.uninstall().await;
    assert!(!port.execution("brig").await.is_finished());
    port.lets_go("brig").await;
    eventually("the Job comes to its end by itself", DEADLINE, || async {
        let job = port.job("brig").await;
        if succeeded(&job) == 1 { Ok(()) } else { Err(format!("{:#?}", job.status)) }
    })
    .await;
    let stands = port.execution("brig").await;
    assert!(!stands.is_finished() && !stands.finalizers().is_empty(), "it stands as it stood: {stands:#?}");

    port.harbor.install(&[]).await;
    port.recovers("brig").await;
    assert_eq!(port.job("brig").await.uid().as_ref(), Some(&brig));
    assert_eq!(port.towed(), ["ark", "brig"], "each was towed once");
}
