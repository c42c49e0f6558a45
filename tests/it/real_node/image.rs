//! fother as it is installed: two replicas of an image with no shell, no root and nothing to write to.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::harbor::{HOME, Harbor, image, restricted_namespace};
use crate::support::kubectl::Answer;
use crate::support::wait::{DEADLINE, eventually};

/// The namespace of what is remembered.
const REMEMBERED: &str = "remembered";

async fn pods(harbor: &Harbor) -> Vec<Pod> {
    let pods = Api::<Pod>::namespaced(harbor.client().await, HOME);
    eventually("two replicas run", DEADLINE, || async {
        let found = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let runs =
            |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        match found.iter().filter(runs).count() {
            2 => Ok(found),
            _ => Err(format!("{found:#?}")),
        }
    })
    .await
}

/// The kernel's word: user and group (real, effective, saved, of the file system), capabilities, and no way to more.
const RESTRICTED: [&str; 5] = [
    "Uid: 65532 65532 65532 65532",
    "Gid: 65532 65532 65532 65532",
    "CapPrm: 0000000000000000",
    "CapEff: 0000000000000000",
    "NoNewPrivs: 1",
];

/// The processes of a container.
fn processes(container: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_in = |process: &PathBuf| {
        std::fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(container))
    };
    all.filter(is_in).collect()
}

/// What a process may, and how the file system at its root is mounted; none where it has ended meanwhile, as those do that
/// fetch from git.
fn rights(process: &Path) -> Option<(Vec<String>, String)> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let mounts = std::fs::read_to_string(process.join("mountinfo")).ok()?;
    let told = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_asked = |line: &String| {
        let name = |line: &str| line.split(':').next().unwrap().to_owned();
        RESTRICTED.iter().any(|wanted| name(wanted) == name(line))
    };
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = mounts.rfind(|fields| fields[4] == "/")?;
    let mode = root[5].split(',').next().unwrap().to_owned();
    Some((status.lines().map(told).filter(is_asked).collect(), mode))
}

#[tokio::test]
async fn two_replicas_run_restricted() {
    let Some(harbor) = Harbor::shared().await else { return };
    let found = pods(harbor).await;
    assert_eq!(found.len(), 2);
    for pod in found {
        let name = pod.metadata.name.unwrap();
        let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
        if status.restart_count > 0 {
            // What a busy machine does to the one that leads, and nothing else does.
            let said = harbor.kubectl.run(&["-n", HOME, "logs", "--previous", &name]).await;
            assert!(said.contains("the lease was lost"), "{said}\n{status:#?}");
        }
        let id = status.container_id.unwrap().replace("containerd://", "");
        let all: Vec<_> = processes(&id).iter().filter_map(|process| rights(process)).collect();
        assert!(!all.is_empty(), "no process is in {id}");
        for (rights, root) in all {
            assert_eq!((&rights[..], root.as_str()), (&RESTRICTED.map(str::to_owned)[..], "ro"));
        }
        for shell in ["sh", "/bin/sh", "/bin/bash"] {
            let refused =
                harbor.kubectl.try_run(&["-n", HOME, "exec", &name, "--", shell, "-c", "id"], "").await;
            let is_missing =
                ["no such file", "not found"].iter().any(|reason| refused.stderr.contains(reason));
            assert!(refused.code != 0 && is_missing, "{refused:?}");
        }
        let own = harbor.kubectl.run(&["-n", HOME, "exec", &name, "--", "fother", "version"]).await;
        assert!(own.contains(env!("CARGO_PKG_VERSION")), "{own}");
    }
}

/// `SQLite` has its file, and another beside it to undo from, on a volume: there is nothing else to write to. `fother journal` is
/// in the image, and reads it beside the controller that writes.
#[tokio::test]
async fn what_was_decided_is_remembered_in_the_pod_that_leads() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.kubectl.apply(&restricted_namespace(REMEMBERED).to_string(), &[]).await;
    let rights = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "delete"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]},
    ]);
    harbor.account(REMEMBERED, "healer", &rights).await;
    let object = |version: &str, kind: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": REMEMBERED});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}).to_string()
    };
    let own = "fother.dev/v1alpha1";
    let rule = json!({
        "serviceAccountName": "healer", "mode": "Observe", "when": "object.metadata.name == 'leak'",
        "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}}, "ladder": [{"run": "drop"}],
    });
    let leak = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leak", "namespace": REMEMBERED}});
    for manifest in [
        object(own, "Action", "drop", json!({"kubernetes": {"delete": {}}})),
        object(own, "Rule", "leaks", rule),
        leak.to_string(),
    ] {
        harbor.kubectl.apply(&manifest, &[]).await;
    }
    let read = ["--", "fother", "journal", "/var/lib/fother/journal.db", "-n", REMEMBERED];
    eventually("the replica that leads remembers it", DEADLINE, || async {
        let mut said = Vec::new();
        for pod in pods(harbor).await {
            let name = pod.metadata.name.unwrap();
            let exec = ["-n", HOME, "exec", &name];
            said.push(harbor.kubectl.try_run(&[&exec[..], &read[..]].concat(), "").await);
        }
        let is_told = |answer: &Answer| {
            answer.code == 0 && answer.stdout.contains("would have run drop on ConfigMap/leak")
        };
        if said.iter().any(is_told) { Ok(()) } else { Err(format!("{said:#?}")) }
    })
    .await;
    let failing = harbor.metrics().await.lines().filter(|line| *line == "fother_journal_failing 1").count();
    assert_eq!(failing, 0);
}

/// The chart says it, too; here nobody but the image does.
#[tokio::test]
async fn the_image_itself_names_a_user_that_is_not_root() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace("image").await;
    let container = json!({
        "name": "main", "image": image(), "imagePullPolicy": "Never", "args": ["version"],
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "version", "namespace": "image"},
        "spec": {
            "restartPolicy": "Never", "containers": [container],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    });
    harbor.kubectl.apply(&pod.to_string(), &[]).await;
    // A kubelet does not start what would be root, or a user of whom it knows but the name.
    let succeeds =
        ["-n", "image", "wait", "pod/version", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"];
    harbor.kubectl.run(&succeeds).await;
    let said = harbor.kubectl.run(&["-n", "image", "logs", "version"]).await;
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}
