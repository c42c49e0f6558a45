//! What both tests that replace fother look at: boats that leak, each towed by a Job that runs until the test lets it end.

use std::path::PathBuf;

use fother::api::Execution;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::harbor::{HOME, Harbor};
use crate::support::wait::{DEADLINE, eventually};

pub const NAMESPACE: &str = "port";
const IMAGE: &str = "docker.io/library/debian:12-slim";
/// Notes for which boat it runs, and ends when it is told to for that boat.
const TOW: &str = r#"
echo "$FOTHER_TARGET_NAME" >>/hold/log
while ! test -e "/hold/$FOTHER_TARGET_NAME"; do sleep 0.2; done
echo fathoms=4 >"$FOTHER_OUTPUT"
"#;

/// A cluster with fother, and a Rule for each boat.
pub struct Port {
    pub harbor: Harbor,
    client: Client,
    hold: PathBuf,
}

impl Port {
    pub async fn over(harbor: Harbor, boats: &[&str]) -> Self {
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
        // The earlier build takes a script for failed that gives nothing back.
        let action = json!({"script": script, "outputs": [{"name": "fathoms", "type": "integer"}]});
        let begins = [
            ("v1", "PersistentVolumeClaim", "hold", claim),
            ("fother.dev/v1alpha1", "Action", "tow", action),
        ];
        let rules = boats.iter().map(|boat| ("fother.dev/v1alpha1", "Rule", *boat, rule(boat)));
        for (api_version, kind, name, spec) in begins.into_iter().chain(rules) {
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
            harbor.kubectl.apply(&object.to_string(), &["-n", NAMESPACE]).await;
        }
        let ready = ["-n", NAMESPACE, "wait", "--for=condition=Ready", "rules", "--all", "--timeout=60s"];
        harbor.kubectl.run(&ready).await;
        let client = harbor.client().await;
        let hold = folder(&harbor, client.clone()).await;
        Self { harbor, client, hold }
    }

    /// Breaks a boat and waits until its Job's script runs; gives the Job's UID.
    pub async fn breaks(&self, boat: &str) -> String {
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
    pub async fn lets_go(&self, boat: &str) {
        let tight = r#"{"data":{"hull":"tight"}}"#;
        self.harbor.kubectl.run(&["-n", NAMESPACE, "patch", "configmap", boat, "-p", tight]).await;
        std::fs::write(self.hold.join(boat), "").unwrap();
    }

    /// For which boats the script ran, in order.
    pub fn towed(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.hold.join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The only Execution for a boat.
    pub async fn execution(&self, boat: &str) -> Execution {
        let all = Api::<Execution>::namespaced(self.client.clone(), NAMESPACE);
        let mut found = all.list(&ListParams::default()).await.unwrap().items;
        found.retain(|execution| execution.spec.target.as_ref().is_some_and(|target| target.name == boat));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    pub async fn recovers(&self, boat: &str) {
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
    pub async fn job(&self, boat: &str) -> Job {
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
    pub async fn leader(&self, before: &str) -> String {
        eventually("another Pod leads", DEADLINE, || async {
            let holder = self.holder().await?;
            if holder.is_empty() || holder == before { Err(holder) } else { Ok(holder) }
        })
        .await
    }

    /// Waits until a Pod of an image leads.
    pub async fn is_led_by(&self, image: &str) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), HOME);
        eventually(&format!("{image} leads"), DEADLINE, || async {
            let holder = self.holder().await?;
            let pod = pods.get(pod_of(&holder)).await.map_err(|error| error.to_string())?;
            let found = pod.spec.unwrap().containers.remove(0).image;
            if found.as_deref() == Some(image) { Ok(()) } else { Err(format!("{holder}: {found:?}")) }
        })
        .await;
    }

    async fn holder(&self) -> Result<String, String> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), HOME);
        let lease = leases.get("fother").await.map_err(|error| error.to_string())?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
    }
}

/// A leader calls itself after its Pod and its process.
pub fn pod_of(leader: &str) -> &str {
    leader.rsplit_once('-').map_or(leader, |(pod, _)| pod)
}

/// The folder of the claim, once it is bound.
async fn folder(harbor: &Harbor, client: Client) -> PathBuf {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client, NAMESPACE);
    let volume = eventually("the claim is bound", DEADLINE, || async {
        let claim = claims.get("hold").await.map_err(|error| error.to_string())?;
        claim.spec.and_then(|spec| spec.volume_name).ok_or("not yet".to_owned())
    })
    .await;
    harbor.node.volume(&volume)
}
