//! The whole way, with nothing played: a commit, a Pod that crash-loops, a script of the pack in a Job, and the proof.

use std::time::Duration;

use serde_json::{Value, json};

use super::harbor::{Harbor, restricted};
use crate::support::git_server::GitServer;

const NAMESPACE: &str = "main-path";
const IMAGE: &str = "docker.io/library/debian:12-slim";
/// Two restarts, the Job, and the kubelet's wait before the third.
const HEALED: Duration = Duration::from_mins(3);

const REPAIR: &str = r#"
printf good >"$FOTHER_PARAM_CACHE/index"
echo '{"repaired": true, "bytes": 4}' >"$FOTHER_OUTPUT"
"#;

/// A Pod that crash-loops until the index on its claim is good.
fn reader() -> Value {
    let command = "grep -q good /cache/index || { echo index is corrupted; exit 1; }; exec sleep infinity";
    let pod = restricted(json!({
        "containers": [{
            "name": "main", "image": IMAGE, "command": ["sh", "-c", command],
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        }],
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
    }));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "reader", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": "reader"}},
            "template": {"metadata": {"labels": {"app": "reader"}}, "spec": pod},
        },
    })
}

fn claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cache", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

fn file(kind: &str, name: &str, spec: Value) -> String {
    json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// Rule, Actions and script.
async fn push(git: &GitServer) -> String {
    let rule = json!({
        "serviceAccountName": "healer", "mode": "Enforce",
        "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "labelSelector": {"matchLabels": {"app": "reader"}}}},
        "when": "crashLooping(object, 2, duration('30s'))", "for": "1s",
        "ladder": [{"run": "evidence"}, {"run": "repair-index", "verify": {"within": "2m", "stableFor": "2s"}}],
    });
    let repair = json!({
        "script": {"image": IMAGE, "file": "scripts/repair.sh", "volumes": [{"claimName": "cache", "mountPath": "/cache"}]},
        "parameters": [{"name": "cache", "default": "/cache"}],
        "outputs": [{"name": "repaired", "type": "boolean"}, {"name": "bytes", "type": "integer"}],
    });
    let files = [
        ("rules/crashloop.yaml", file("Rule", "crashloop", rule)),
        ("actions/repair-index.yaml", file("Action", "repair-index", repair)),
        ("actions/evidence.yaml", file("Action", "evidence", json!({"collect": {}}))),
        ("scripts/repair.sh", REPAIR.to_owned()),
    ];
    let files: Vec<_> = files.iter().map(|(path, content)| (*path, content.as_str())).collect();
    git.create("ops").await.push(&files).await
}

/// Has a Pack follow the repository, and waits until it is synced.
async fn follow(harbor: &Harbor, git: &GitServer) {
    let rights = json!([
        {"apiGroups": ["fother.dev"], "resources": ["rules", "actions"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        // Its Rule names that account.
        {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["healer"], "verbs": ["impersonate"]},
    ]);
    harbor.account(NAMESPACE, "packs", &rights).await;
    let authority = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git", "namespace": NAMESPACE},
        "stringData": {"ca.crt": git.ca_pem()},
    });
    harbor.kubectl.apply(&authority.to_string(), &[]).await;
    let spec = json!({"url": git.url("ops"), "serviceAccountName": "packs", "secretRef": {"name": "git"}});
    harbor.kubectl.apply(&file("Pack", "ops", spec), &["-n", NAMESPACE]).await;
    let ready = ["-n", NAMESPACE, "wait", "--for=condition=Ready", "pack/ops", "--timeout=60s"];
    harbor.kubectl.run(&ready).await;
}

#[tokio::test]
async fn a_commit_mends_a_crash_loop_and_proves_it() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace(NAMESPACE).await;
    let host = harbor.node.host().await;
    let git = GitServer::start_at(host, &host.to_string()).await;
    let commit = push(&git).await;
    follow(harbor, &git).await;
    harbor.kubectl.apply(&claim().to_string(), &[]).await;
    harbor.kubectl.apply(&reader().to_string(), &[]).await;

    let execution = harbor.ended(NAMESPACE, HEALED).await;
    assert_eq!(execution.reason(), Some("TargetRecovered"), "{:#?}", execution.status);
    let decision = execution.spec.decision.unwrap();
    assert!(
        decision.rule.revision.as_ref().is_some_and(|revision| revision.ends_with(&commit)),
        "{decision:?}"
    );
    let rungs = execution.status.unwrap().rungs;
    assert_eq!(rungs[1].outputs.to_value(), json!({"repaired": true, "bytes": 4}));
    let evidence = rungs[0].outputs.to_value()["configMap"].as_str().unwrap().to_owned();
    let logs = harbor.kubectl.run(&["-n", NAMESPACE, "get", "configmap", &evidence, "-o", "yaml"]).await;
    assert!(logs.contains("index is corrupted"), "{logs}");
    let jobs = harbor.kubectl.run(&["-n", NAMESPACE, "get", "jobs", "-o", "name"]).await;
    assert_eq!(jobs.lines().count(), 1, "{jobs}");
    let available =
        ["-n", NAMESPACE, "wait", "--for=condition=Available", "deployment/reader", "--timeout=10s"];
    harbor.kubectl.run(&available).await;
}
