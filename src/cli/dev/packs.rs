//! The namespace `default`, whose accounts may do everything there, and packs given on the command line, which are synced into it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cluster::{Cluster, SYSTEM};
use crate::api::{ConditionType, MAX_NAME, Pack, condition};
use crate::cli::{Exit, apply};

const NAMESPACE: &str = "default";
const ACCOUNT: &str = "packs";
/// How often Packs are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Whether a pack comes from elsewhere, so that its scripts are not run here unasked.
pub fn is_remote(pack: &str) -> bool {
    pack.contains("://") && !pack.starts_with("file://")
}

/// Enrolls the accounts that Packs and Rules may name.
pub async fn enroll(cluster: &Cluster) -> anyhow::Result<()> {
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
    let controller = binding("fother", crate::cluster::rights::ENROLMENT_ROLE, ("fother", SYSTEM));
    apply::object(client, &controller).await?;
    Ok(())
}

/// A pack of the command line.
pub struct Given {
    /// What its Pack is called.
    name: String,
    place: Place,
}

/// The packs of the command line, each with a name of its own: one whose name is taken gets a number. What is given twice is
/// one pack.
pub fn given(packs: &[String]) -> anyhow::Result<Vec<Given>> {
    let mut given: Vec<Given> = Vec::new();
    for (index, pack) in packs.iter().enumerate() {
        let place = place(pack)?;
        if given.iter().any(|known| known.place == place) {
            continue;
        }
        let base = name(place.path.as_deref().unwrap_or(&place.url), index);
        let (mut name, mut number) = (base.clone(), 1);
        while given.iter().any(|known| known.name == name) {
            number += 1;
            name = numbered(&base, number);
        }
        given.push(Given { name, place });
    }
    Ok(given)
}

/// `rules-2`, no longer than a name may be.
fn numbered(base: &str, number: usize) -> String {
    let end = format!("-{number}");
    let room = MAX_NAME.saturating_sub(end.len());
    let begin: String = base.chars().take(room).collect();
    format!("{}{end}", begin.trim_end_matches('-'))
}

/// Adds the packs.
pub async fn add(cluster: &Cluster, packs: &[Given]) -> anyhow::Result<()> {
    let client = cluster.client();
    for Given { name, place: Place { url, path } } in packs {
        let mut manifest = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Pack",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"url": url, "interval": "10s", "serviceAccountName": ACCOUNT},
        });
        if let Some(path) = path {
            manifest["spec"]["path"] = json!(path);
        }
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

/// Where a pack is.
#[derive(Debug, Eq, PartialEq)]
struct Place {
    /// The repository.
    url: String,
    /// The pack's folder in it; none for its root.
    path: Option<String>,
}

fn place(pack: &str) -> anyhow::Result<Place> {
    if is_remote(pack) || pack.starts_with("file://") {
        return Ok(Place { url: pack.to_owned(), path: None });
    }
    let folder = Path::new(pack).canonicalize().with_context(|| format!("no pack at {pack}"))?;
    anyhow::ensure!(folder.is_dir(), "{pack} is not a folder");
    let is_bare = folder.join("HEAD").exists() && folder.join("objects").exists();
    let root = if is_bare { Some(&*folder) } else { folder.ancestors().find(|at| at.join(".git").exists()) };
    let root = root.with_context(|| {
        format!(
            "{pack} is in no git repository; to make it one: \
             git init {pack} && git -C {pack} add . && git -C {pack} commit -m start"
        )
    })?;
    let below = folder.strip_prefix(root).map(|below| below.display().to_string()).unwrap_or_default();
    Ok(Place { url: root.display().to_string(), path: Some(below).filter(|below| !below.is_empty()) })
}

/// Says how each Pack is, whenever that changes, for ever. That they cannot be listed, as when somebody deletes their kind, passes.
pub async fn tell(cluster: &Cluster) -> Infallible {
    let api: Api<Pack> = Api::all(cluster.client().clone());
    let mut told = BTreeMap::new();
    loop {
        for pack in api.list(&ListParams::default()).await.into_iter().flatten() {
            let conditions = pack.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
            let Some(line) = condition(&conditions, ConditionType::Ready).map(|ready| line(&pack, ready))
            else {
                continue;
            };
            let key = (pack.namespace(), pack.name_any());
            if told.get(&key) != Some(&line) {
                anstream::println!("{line}");
                told.insert(key, line);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn line(pack: &Pack, ready: &Condition) -> String {
    format!("Pack {}: {} {}: {}", pack.name_any(), ready.status, ready.reason, ready.message)
}

/// Waits for the first sync of each pack, and says how it went.
pub async fn wait(cluster: &Cluster, packs: &[Given], within: Duration) -> anyhow::Result<Exit> {
    let api: Api<Pack> = Api::namespaced(cluster.client().clone(), NAMESPACE);
    let deadline = tokio::time::Instant::now() + within;
    let mut exit = Exit::Yes;
    for pack in packs {
        loop {
            let found = api.get(&pack.name).await?;
            let conditions = found.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
            if let Some(ready) = condition(&conditions, ConditionType::Ready) {
                anstream::println!("{}", line(&found, ready));
                exit = if ready.status == "True" { exit } else { Exit::No };
                break;
            }
            if tokio::time::Instant::now() > deadline {
                anstream::eprintln!("Pack {}: not synced after {within:?}", found.name_any());
                return Ok(Exit::TimedOut);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_a_repository_or_a_folder_of_one() {
        let data = tempfile::tempdir().unwrap();
        let root = data.path().canonicalize().unwrap();
        let at = |path: &str| root.join(path).display().to_string();
        for folder in ["shop/.git", "shop/packs/web", "bare.git/objects", "loose"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("bare.git/HEAD"), "ref: refs/heads/main").unwrap();
        let found = |path: &str| place(&at(path)).unwrap();
        assert_eq!(found("shop"), Place { url: at("shop"), path: None });
        assert_eq!(found("shop/packs/web"), Place { url: at("shop"), path: Some("packs/web".to_owned()) });
        assert_eq!(found("bare.git"), Place { url: at("bare.git"), path: None });
        let remote = "https://example.com/packs.git";
        assert_eq!(place(remote).unwrap(), Place { url: remote.to_owned(), path: None });
        let refused = place(&at("loose")).unwrap_err().to_string();
        assert!(refused.contains("is in no git repository; to make it one: git init"), "{refused}");
        assert!(place(&at("nowhere")).unwrap_err().to_string().starts_with("no pack at"));
    }

    #[test]
    fn each_pack_has_a_name_of_its_own() {
        let data = tempfile::tempdir().unwrap();
        let at = |path: &str| data.path().join(path).display().to_string();
        let rules = ["one/rules", "one/rules-2", "two/rules", "three/Rules"];
        for folder in rules.into_iter().chain(["one/.git", "two/.git", "three/.git"]) {
            std::fs::create_dir_all(data.path().join(folder)).unwrap();
        }
        let packs = ["one/rules", "one/rules-2", "two/rules", "one/rules", "three/Rules"].map(at);
        let names: Vec<_> = given(&packs).unwrap().into_iter().map(|pack| pack.name).collect();
        assert_eq!(names, ["rules", "rules-2", "rules-3", "rules-4"]);
        for base in ["x".repeat(MAX_NAME), format!("{}-end", "x".repeat(MAX_NAME - 4))] {
            let name = numbered(&base, 10);
            assert!(crate::api::is_valid_name(&name) && name.ends_with("x-10"), "{name}");
        }
    }
}
