//! The whole way: a workload breaks, a rule sees it, a script mends it, and what it did is proven. Each scenario is
//! written once, and runs on the real control plane and in the sandbox.

use fother::api::Pack;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use super::scenario::{Scenario, rule_spec};
use crate::support::git_server::GitServer;

/// A pod that crash-loops until the index on its claim is good. It says why at the end of a long log, which is not all text.
fn reader() -> Value {
    let long = r"head -c 200000 /dev/zero | tr '\0' x; printf '\377\n'";
    let command =
        format!("grep -q good $INDEX || {{ {long}; echo index is corrupted; exit 1; }}; exec sleep 600");
    let main = json!({
        "name": "main", "image": "debian", "command": ["sh", "-c", command],
        "env": [{"name": "INDEX", "value": "/cache/index"}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        // Otherwise each instance would be Ready for a moment before it ends.
        "readinessProbe": {"exec": {"command": ["grep", "-q", "good", "/cache/index"]}, "periodSeconds": 1},
    });
    json!({"metadata": {"name": "reader"}, "spec": {
        "selector": {"matchLabels": {"app": "reader"}},
        "template": {
            "metadata": {"labels": {"app": "reader"}, "annotations": {"sandbox.local/run": "process"}},
            "spec": {
                "containers": [main], "terminationGracePeriodSeconds": 1,
                "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
            },
        },
    }})
}

/// An Action that runs a script on the claim.
fn repair(script: &str) -> Value {
    let mut spec = json!({
        "script": {"image": "debian", "volumes": [{"claimName": "cache", "mountPath": "/cache"}]},
        "parameters": [{"name": "cache", "default": "/cache"}],
        "outputs": [{"name": "repaired", "type": "boolean"}, {"name": "bytes", "type": "integer"}],
    });
    let kind = if script.starts_with("scripts/") { "file" } else { "inline" };
    spec["script"][kind] = json!(script);
    spec
}

/// What the rule has of its own.
fn crashloop() -> Value {
    json!({
        "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod", "labelSelector": {"matchLabels": {"app": "reader"}}}},
        "when": "object.status.containerStatuses.exists(c, !c.ready && c.restartCount >= 1)",
        "for": "1s",
        "ladder": [{"run": "evidence"}, {"run": "repair-index", "verify": {"within": "20s", "stableFor": "1s"}}],
    })
}

/// Pushes rule, Actions and script to a git server and has a Pack follow it; gives the commit.
pub async fn commit(scenario: &Scenario) -> (GitServer, String) {
    let git = GitServer::start().await;
    let origin = git.create("ops").await;
    let file = |kind: &str, name: &str, spec: &Value| {
        json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
            .to_string()
    };
    let commit = origin
        .push(&[
            ("rules/crashloop.yaml", &file("Rule", "crashloop", &rule_spec(crashloop()))),
            ("actions/repair-index.yaml", &file("Action", "repair-index", &repair("scripts/repair.sh"))),
            ("actions/evidence.yaml", &file("Action", "evidence", &json!({"collect": {}}))),
            ("scripts/repair.sh", REPAIR),
        ])
        .await;
    follow(scenario, &git, json!({})).await;
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "pack/ops", "--timeout=60s"]).await;
    (git, commit)
}

/// Has a Pack follow the repository `ops`; `changes` are merged into its spec.
pub async fn follow(scenario: &Scenario, git: &GitServer, changes: Value) {
    let rights = json!([
        {"apiGroups": ["fother.dev"], "resources": ["rules", "actions"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        // Its Rules name healer and run the pack's Actions: the policies ask for both.
        {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["healer"], "verbs": ["impersonate"]},
        {"apiGroups": ["fother.dev"], "resources": ["actions"], "verbs": ["run"]},
    ]);
    scenario.account("packs", &rights).await;
    let secret = json!({"metadata": {"name": "git"}, "stringData": {"ca.crt": git.ca_pem()}});
    scenario.stage.create::<Secret>(secret).await;
    let mut spec =
        json!({"url": git.url("ops"), "serviceAccountName": "packs", "secretRef": {"name": "git"}});
    json_patch::merge(&mut spec, &changes);
    scenario.stage.create::<Pack>(json!({"metadata": {"name": "ops"}, "spec": spec})).await;
}

/// The evidence has what a person would have looked at, as it was before anything was changed.
async fn is_saved(scenario: &Scenario, name: &str) {
    let saved = scenario.stage.api::<ConfigMap>().get(name).await.unwrap().data.unwrap();
    for (begin, end, said) in [
        ("deployment-reader", ".yaml", "kind: Deployment"),
        ("pod-reader-", ".yaml", "restartCount: "),
        ("reader-", "-main-current.log", ""),
        ("reader-", "-main-previous.log", "index is corrupted"),
        ("events", ".txt", "ScalingReplicaSet Deployment/reader"),
        ("events", ".txt", "Started Pod/reader-"),
    ] {
        let is_it = |(file, text): (&String, &String)| {
            file.starts_with(begin) && file.ends_with(end) && text.contains(said)
        };
        assert!(saved.iter().any(is_it), "{begin}…{end} with {said:?}: {:#?}", saved.keys());
    }
}

async fn break_the_reader(scenario: &Scenario) {
    scenario.claim("cache").await;
    std::fs::write(scenario.stage.claim("cache").join("index"), "corrupted").unwrap();
    scenario.stage.create::<Deployment>(reader()).await;
}

const REPAIR: &str = r#"
printf good >"$FOTHER_PARAM_CACHE/index"
echo '{"repaired": true, "bytes": 4}' >"$FOTHER_OUTPUT"
"#;

pub async fn a_commit_mends_a_crash_loop_by_its_script_and_proves_it(scenario: &Scenario) {
    let (_git, commit) = commit(scenario).await;
    scenario.watching("crashloop").await;
    break_the_reader(scenario).await;

    let execution = scenario.only("crashloop", "an Execution", |_| true).await;
    let name = execution.metadata.name.unwrap();
    let wait = ["wait", "--for=condition=Finished", &format!("execution/{name}"), "--timeout=60s"];
    scenario.stage.kubectl(&wait).await;
    let execution = scenario.ends("crashloop", "TargetRecovered").await;

    let rule = execution.spec.decision.unwrap().rule;
    assert!(rule.revision.as_ref().is_some_and(|revision| revision.ends_with(&commit)), "{rule:?}");
    assert_eq!(rule.source.as_deref(), Some("rules/crashloop.yaml:1"));
    let target = execution.spec.target.unwrap();
    assert_eq!((target.kind.as_str(), target.name.as_str()), ("Deployment", "reader"));
    let status = execution.status.unwrap();
    assert_eq!(status.rungs[1].outputs.to_value(), json!({"repaired": true, "bytes": 4}));
    assert!(status.episode_closed_at.is_some(), "the verification proved that it is over");
    let jobs = scenario.jobs().await;
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    assert_eq!(jobs[0].metadata.uid, status.rungs[1].job.as_ref().unwrap().uid);
    assert!(jobs[0].metadata.finalizers.is_none(), "the Job is let go");
    is_saved(scenario, status.rungs[0].outputs.to_value()["configMap"].as_str().unwrap()).await;
    scenario
        .is_told("Deployment", "reader", &["ExecutionJobCreated", "RemediationVerified", "RuleFired"])
        .await;
    scenario
        .stage
        .kubectl(&["wait", "--for=condition=Available", "deployment/reader", "--timeout=10s"])
        .await;
}

pub async fn a_script_that_fails_leads_to_quarantine_and_ends_the_wait(scenario: &Scenario) {
    scenario.action("repair-index", repair("echo the disk is read-only >&2; exit 3")).await;
    scenario.action("evidence", json!({"collect": {}})).await;
    scenario.rule("crashloop", crashloop()).await;
    break_the_reader(scenario).await;

    let execution = scenario.only("crashloop", "an Execution", |_| true).await;
    let name = execution.metadata.name.unwrap();
    let wait = ["wait", "--for=condition=Finished", &format!("execution/{name}"), "--timeout=60s"];
    scenario.stage.kubectl(&wait).await;
    let execution = scenario.ends("crashloop", "Quarantined").await;
    let status = execution.status.unwrap();
    assert_eq!(status.rungs[1].message, "exit code 3: the disk is read-only");
    assert_eq!(status.episode_closed_at, None, "it is still broken: the episode goes on");
    scenario
        .is_told(
            "Deployment",
            "reader",
            &["ExecutionJobCreated", "ExecutionStepFailed", "RemediationIneffective", "RuleFired"],
        )
        .await;

    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("crashloop").await.len(), 1, "left alone while it stays broken");
}

pub async fn a_rung_that_replaces_the_pods_and_does_not_help_leads_to_the_next(scenario: &Scenario) {
    scenario.action("repair-index", repair(REPAIR)).await;
    scenario.action("restart", json!({"kubernetes": {"restart": {}}})).await;
    let verify = |within: &str| json!({"within": within, "stableFor": "1s"});
    let mut changes = crashloop();
    changes["ladder"] = json!([
        {"run": "restart", "verify": verify("4s")}, {"run": "repair-index", "verify": verify("20s")},
    ]);
    scenario.rule("crashloop", changes).await;
    break_the_reader(scenario).await;
    let execution = scenario.ends("crashloop", "TargetRecovered").await;
    let rungs = execution.status.unwrap().rungs;
    let held: Vec<_> = rungs.iter().map(|rung| rung.verify.as_ref().and_then(|verify| verify.held)).collect();
    assert_eq!(held, [Some(false), Some(true)], "{rungs:#?}");
    let story = [
        "ExecutionJobCreated",
        "RemediationEscalated",
        "RemediationIneffective",
        "RemediationVerified",
        "RuleFired",
    ];
    scenario.is_told("Deployment", "reader", &story).await;
    let matched = execution.spec.decision.unwrap().matched.object.name;
    let pods = scenario.stage.kubectl(&["get", "pods", "-l", "app=reader", "-o", "name"]).await;
    assert!(!pods.contains(&matched), "{pods}");
    assert_eq!(
        scenario.targets("crashloop").await,
        ["reader"],
        "new pods of the same target are the same episode"
    );
}
