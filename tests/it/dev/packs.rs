//! `fother dev --pack … --once`, as a script uses it: the exit code says how the first sync went. And what of a cluster is there
//! when it starts again.

use std::fmt::Debug;

use fother::api::{Action, Pack, Rule};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, Resource};
use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{client, dev, repository};
use crate::support::git_server::{Behavior, GitServer};
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

const ACTION: &str = "apiVersion: fother.dev/v1alpha1\nkind: Action\nmetadata: {name: restart}\nspec: {kubernetes: {restart: {}}}\n";

/// Syncs one pack once, and gives the exit code and what was said.
async fn once(data: &TempDir, arguments: &[&str], trusted: Option<&str>) -> (Option<i32>, String) {
    let folder = data.path().join("data").display().to_string();
    let trust: Vec<_> = trusted.iter().map(|file| ("SSL_CERT_FILE", *file)).collect();
    let arguments = [&["dev", "--data", &folder, "--once"], arguments].concat();
    let mut run = Process::fother(&arguments, &trust, &data.path().join("output"));
    (run.wait(DEADLINE).await.code(), run.output())
}

/// Waits until a cluster that stays says what there is to do with it.
async fn is_up(cluster: &Process) {
    eventually("the banner", DEADLINE, async || match cluster.output() {
        output if output.contains("Ctrl-C ends it") => Ok(()),
        output => Err(output),
    })
    .await;
}

#[tokio::test]
async fn a_good_pack_is_0_and_a_bad_one_1_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let (good, bad) = (data.path().join("good"), data.path().join("bad"));
    repository(&good, "restart.yaml", "restart");
    repository(&bad, "restart.yaml", "'No-Name'");
    let (code, output) = once(&data, &["--pack", good.to_str().unwrap()], None).await;
    assert!(code == Some(0) && output.contains("Pack good: True Synced: "), "{code:?} {output}");
    let (code, output) = once(&data, &["--pack", bad.to_str().unwrap()], None).await;
    assert!(code == Some(1) && output.contains("Pack bad: False InvalidRevision: "), "{code:?} {output}");
    assert!(output.contains("restart.yaml:3:"), "{output}");
}

/// Neither takes the place of the other: what is wrong with one of them is not lost.
#[tokio::test]
async fn two_packs_in_folders_of_one_name_are_two_packs() {
    let data = tempfile::tempdir().unwrap();
    let [bad, good] = ["bad", "good"].map(|name| data.path().join(name));
    repository(&bad, "rules/restart.yaml", "'No-Name'");
    repository(&good, "rules/restart.yaml", "restart");
    let [bad, good] = [bad, good].map(|repository| repository.join("rules").display().to_string());
    let (code, output) = once(&data, &["--pack", &bad, "--pack", &good], None).await;
    assert!(code == Some(1) && output.contains("Pack rules: False InvalidRevision: "), "{code:?} {output}");
    assert!(output.contains("Pack rules-2: True Synced: "), "{output}");
}

/// Over https, from a server whose authority is trusted as other programs are told to.
#[tokio::test]
async fn a_pack_from_elsewhere_is_0_and_a_server_that_hangs_3() {
    let (data, server) = (tempfile::tempdir().unwrap(), GitServer::start().await);
    server.create("ops").await.push(&[("restart.yaml", ACTION)]).await;
    let authority = data.path().join("ca.pem");
    std::fs::write(&authority, server.ca_pem()).unwrap();
    let (url, trusted) = (server.url("ops"), authority.to_str());
    let (code, output) = once(&data, &["--pack", &url], trusted).await;
    assert!(code == Some(0) && output.contains("Pack ops: True Synced: "), "{code:?} {output}");
    let (code, output) = once(&data, &["--pack", &url], None).await;
    assert!(code == Some(1) && output.contains("Pack ops: False FetchFailed: "), "{code:?} {output}");
    server.behave(Behavior::Hang);
    let (code, output) = once(&data, &["--pack", &url, "--timeout", "1s"], trusted).await;
    assert!(code == Some(3) && output.contains("Pack ops: not synced after 1s"), "{code:?} {output}");

    let folder = data.path().join("stopped").display().to_string();
    let arguments = ["dev", "--data", &folder, "--once", "--pack", &url];
    let mut stopped =
        Process::fother(&arguments, &[("SSL_CERT_FILE", trusted.unwrap())], &data.path().join("told"));
    is_up(&stopped).await;
    assert!(
        stopped.output().contains("Jobs do not run, as a pack comes from elsewhere"),
        "{}",
        stopped.output()
    );
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.wait(DEADLINE).await.code(), Some(1), "{}", stopped.output());
    assert!(stopped.output().contains("stopped before the packs were synced"), "{}", stopped.output());
}

/// What the banner promises is there: a Rule and its Action are applied by hand, and heal.
#[tokio::test]
async fn a_rule_that_is_applied_by_hand_heals() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = dev(&data, &["--runner", "print"]);
    is_up(&cluster).await;
    assert!(cluster.output().contains("Rules may name the account healer"), "{}", cluster.output());
    assert!(cluster.output().contains("Jobs do not run: "), "{}", cluster.output());
    assert!(!cluster.output().contains("local processes"), "{}", cluster.output());
    let reached = client(&data.path().join("data/kubeconfig")).await;
    let mend = json!({"metadata": {"name": "mend"}, "spec": {"kubernetes": {"patch": {"merge": {"data": {"hull": "tight"}}}}}});
    let leak = json!({"metadata": {"name": "leak"}, "spec": {
        "serviceAccountName": "healer", "mode": "Enforce", "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}},
        "when": "object.data.hull == 'leaking'", "ladder": [{"run": "mend"}],
    }});
    let boat = json!({"metadata": {"name": "ark"}, "data": {"hull": "leaking"}});
    create::<Action>(&reached, mend).await;
    create::<Rule>(&reached, leak).await;
    create::<ConfigMap>(&reached, boat).await;
    let boats: Api<ConfigMap> = Api::namespaced(reached, "default");
    eventually("the boat is tight", DEADLINE, async || {
        let boat = boats.get("ark").await.map_err(|error| error.to_string())?;
        if boat.data.as_ref().is_some_and(|data| data["hull"] == "tight") {
            Ok(())
        } else {
            Err(format!("{boat:?}"))
        }
    })
    .await;
    cluster.signal(Signal::TERM);
    assert_eq!(cluster.wait(DEADLINE).await.code(), Some(0), "{}", cluster.output());
}

async fn create<K>(client: &Client, object: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::namespaced(client.clone(), "default").create(&PostParams::default(), &object).await.unwrap();
}

/// Whoever cleans up, as the tutorial does, finds the cluster still there.
#[tokio::test]
async fn a_cluster_outlives_its_kinds() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = dev(&data, &["--runner", "print"]);
    is_up(&cluster).await;
    let reached = client(&data.path().join("data/kubeconfig")).await;
    let kinds: Api<CustomResourceDefinition> = Api::all(reached.clone());
    let mut kind = kinds.get("packs.fother.dev").await.unwrap();
    kinds.delete("packs.fother.dev", &DeleteParams::default()).await.unwrap();
    let packs: Api<Pack> = Api::namespaced(reached, "default");
    eventually("Packs are gone", DEADLINE, async || match packs.list(&ListParams::default()).await {
        Ok(_) => Err("not yet"),
        Err(_) => Ok(()),
    })
    .await;
    kind.metadata = ObjectMeta { name: kind.metadata.name, ..ObjectMeta::default() };
    kind.status = None;
    eventually("they are back", DEADLINE, async || {
        kinds.create(&PostParams::default(), &kind).await.map(drop)
    })
    .await;
    let late = json!({"metadata": {"name": "late"}, "spec": {"url": "https://git.example.com/ops",
        "ref": {"branch": "main"}, "serviceAccountName": "healer", "suspend": true}});
    let late: Pack = serde_json::from_value(late).unwrap();
    eventually("one is there", DEADLINE, async || {
        packs.create(&PostParams::default(), &late).await.map(drop)
    })
    .await;
    eventually("it is told of", DEADLINE, async || match cluster.output() {
        output if output.contains("Pack late: False Suspended: ") => Ok(()),
        output => Err(output),
    })
    .await;
    cluster.signal(Signal::TERM);
    assert_eq!(cluster.wait(DEADLINE).await.code(), Some(0), "{}", cluster.output());
}

#[tokio::test]
async fn a_cluster_that_starts_again_in_its_folder_has_no_objects() {
    let data = tempfile::tempdir().unwrap();
    let pack = data.path().join("my-pack");
    repository(&pack, "restart.yaml", "restart");
    let kubeconfig = data.path().join("data/kubeconfig");
    let mut first = dev(&data, &["--pack", pack.to_str().unwrap()]);
    eventually("a kubeconfig", DEADLINE, async || kubeconfig.metadata()).await;
    let reached = client(&kubeconfig).await;
    let actions: Api<Action> = Api::namespaced(reached.clone(), "default");
    eventually("the Action", DEADLINE, async || actions.get("restart").await.map(drop)).await;
    let boat: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "ark"}})).unwrap();
    let boats: Api<ConfigMap> = Api::namespaced(reached, "default");
    boats.create(&PostParams::default(), &boat).await.unwrap();
    first.signal(Signal::INT);
    assert_eq!(first.wait(DEADLINE).await.code(), Some(0), "{}", first.output());

    let second = dev(&data, &[]);
    eventually("the second one is up", DEADLINE, async || {
        // Both write to the same file.
        let output = second.output();
        if output.matches("Ctrl-C ends it").count() == 2 { Ok(()) } else { Err(output) }
    })
    .await;
    let reached = client(&kubeconfig).await;
    let packs: Api<Pack> = Api::namespaced(reached.clone(), "default");
    assert_eq!(packs.list(&ListParams::default()).await.unwrap().items.len(), 0);
    let actions: Api<Action> = Api::namespaced(reached.clone(), "default");
    assert_eq!(actions.list(&ListParams::default()).await.unwrap().items.len(), 0);
    let boats: Api<ConfigMap> = Api::namespaced(reached, "default");
    assert!(boats.get_opt("ark").await.unwrap().is_none(), "objects end with the process");
}
