//! Packs given on the command line: synced into the namespace `default`, whose account may do everything there.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cluster::{Cluster, SYSTEM};
use crate::api::{ConditionType, Pack, condition};
use crate::cli::{Exit, apply};

const NAMESPACE: &str = "default";
const ACCOUNT: &str = "packs";

/// Whether a pack comes from elsewhere, so that its scripts are not run here unasked.
pub fn is_remote(pack: &str) -> bool {
    pack.contains("://") && !pack.starts_with("file://")
}

/// Adds the packs.
pub async fn add(cluster: &Cluster, packs: &[String]) -> anyhow::Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    let client = cluster.client();
    for account in [ACCOUNT, "healer"] {
        let annotations = json!({crate::api::ANNOTATION.allow: "true"});
        apply::object(
            client,
            &json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": NAMESPACE, "annotations": annotations},
            }),
        )
        .await?;
        apply::object(client, &binding(account, "cluster-admin", (account, NAMESPACE))).await?;
    }
    apply::object(client, &binding("fother", crate::cluster::rights::ENROLMENT_ROLE, ("fother", SYSTEM)))
        .await?;
    for (index, pack) in packs.iter().enumerate() {
        let url = url(pack)?;
        let manifest = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Pack",
            "metadata": {"name": name(&url, index), "namespace": NAMESPACE},
            "spec": {"url": url, "interval": "10s", "serviceAccountName": ACCOUNT},
        });
        apply::object(client, &manifest).await?;
    }
    Ok(())
}

fn binding(name: &str, role: &str, (account, namespace): (&str, &str)) -> serde_json::Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

fn name(pack: &str, index: usize) -> String {
    let last = pack.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_end_matches(".git");
    let name: String =
        last.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if crate::api::is_valid_name(name) { name.to_owned() } else { format!("pack-{index}") }
}

fn url(pack: &str) -> anyhow::Result<String> {
    if is_remote(pack) || pack.starts_with("file://") {
        return Ok(pack.to_owned());
    }
    let path = Path::new(pack).canonicalize().with_context(|| format!("no pack at {pack}"))?;
    let is_repository = path.join(".git").exists() || path.join("HEAD").exists();
    anyhow::ensure!(
        is_repository,
        "{pack} is not a git repository; to make it one: git init {pack} && git -C {pack} add . && git -C {pack} commit -m start"
    );
    Ok(path.display().to_string())
}

/// Waits for the first sync of each pack, and says how it went.
pub async fn wait(cluster: &Cluster, packs: &[String], within: Duration) -> anyhow::Result<Exit> {
    let api: Api<Pack> = Api::namespaced(cluster.client().clone(), NAMESPACE);
    let deadline = tokio::time::Instant::now() + within;
    let mut exit = Exit::Yes;
    for (index, pack) in packs.iter().enumerate() {
        loop {
            let found = api.get(&name(&url(pack)?, index)).await?;
            let conditions = found.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
            if let Some(ready) = condition(&conditions, ConditionType::Ready) {
                anstream::println!(
                    "Pack {}: {} {}: {}",
                    found.name_any(),
                    ready.status,
                    ready.reason,
                    ready.message
                );
                exit = if ready.status == "True" { exit } else { Exit::No };
                break;
            }
            if tokio::time::Instant::now() > deadline {
                return Ok(Exit::TimedOut);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(exit)
}
