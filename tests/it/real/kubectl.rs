//! The kubectl helper: answers, exit codes, other identities; and the oldest kubectl that has to work, which is built as the
//! control plane is, against the sandbox.

use serde_json::{Value, json};

use super::healing::scenario::{Scenario, rule_spec};
use crate::support::control_plane::{ControlPlane, built};
use crate::support::kubectl::Kubectl;
use crate::support::wait::{DEADLINE, eventually};

#[tokio::test]
async fn kubectl_applies_reads_and_is_refused() {
    let Some(plane) = ControlPlane::shared().await else { return };
    let namespace = plane.namespace("kubectl").await;
    let kubectl = plane.kubectl();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: leak}\ndata: {depth: shallow}\n";
    let said = kubectl.apply(manifest, &["-n", &namespace, "--server-side"]).await;
    assert_eq!(said, "configmap/leak serverside-applied\n");
    let read =
        kubectl.run(&["get", "configmap", "leak", "-n", &namespace, "-o", "jsonpath={.data.depth}"]).await;
    assert_eq!(read, "shallow");

    let nobody = kubectl.with(&plane.service_account(&namespace, "nobody").await);
    let refused = nobody.try_run(&["get", "configmap", "leak", "-n", &namespace], "").await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("Forbidden"), "{}", refused.stderr);
}

/// Everything that a person types to have something healed, in order, and how what they read begins.
async fn types(kubectl: &Kubectl, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        let said = kubectl.run(&line.split(' ').collect::<Vec<_>>()).await;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.starts_with(expected), "{line}: {said}");
    }
}

fn manifest(kind: &str, name: &str, spec: Value) -> String {
    let metadata = json!({"name": name});
    json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}).to_string()
}

/// An Action and a Rule, applied in both ways, looked at and marked.
async fn writes_a_rule(kubectl: &Kubectl) {
    let greet = manifest("Action", "greet", json!({"script": {"image": "debian", "inline": "echo ahoy"}}));
    let applied = kubectl.apply(&greet, &["--server-side"]).await;
    assert_eq!(applied, "action.fother.dev/greet serverside-applied\n");
    let rule = |mode: &str| {
        let spec = rule_spec(json!({"mode": mode, "ladder": [{"run": "greet", "verify": null}]}));
        manifest("Rule", "leak", spec)
    };
    for said in ["created", "unchanged"] {
        assert_eq!(kubectl.apply(&rule("Observe"), &[]).await, format!("rule.fother.dev/leak {said}\n"));
    }
    let differs = kubectl.try_run(&["diff", "-f", "-"], &rule("Enforce")).await;
    let modes: Vec<_> = differs.stdout.lines().filter(|line| line.contains(" mode: ")).collect();
    assert_eq!(modes, ["-  mode: Observe", "+  mode: Enforce"], "{differs:#?}");
    assert_eq!(differs.code, 1, "something differs");
    assert_eq!(kubectl.apply(&rule("Enforce"), &[]).await, "rule.fother.dev/leak configured\n");
    let edited = kubectl.edit("sed -i s/canary/gull/", &["rule", "leak"]).await;
    assert_eq!((edited.code, edited.stdout.as_str()), (0, "rule.fother.dev/leak edited\n"), "{edited:#?}");
    let when = "object.data.hull == 'leaking' && !object.metadata.name.startsWith('gull')";
    let columns = "NAME MODE READY REASON LAST-FIRED AGE TRIGGER HELD REVISION MESSAGE";
    let lines = [
        ("get rule leak -o jsonpath={.spec.when}", when),
        ("wait rule/leak --for=condition=Ready --timeout=60s", "rule.fother.dev/leak condition met"),
        ("get rules -o wide", &format!("{columns} leak Enforce True")),
        ("describe rule leak", "Name: leak Namespace: default"),
        ("explain rule.spec.when", "GROUP: fother.dev KIND: Rule VERSION: v1alpha1 FIELD: when <string>"),
        ("label rule leak crew=night", "rule.fother.dev/leak labeled"),
        ("annotate rule leak why=water", "rule.fother.dev/leak annotated"),
        ("get fr -l crew=night -o name", "rule.fother.dev/leak"),
    ];
    types(kubectl, &lines).await;
}

/// Which kinds there are, and who may do what with them.
async fn asks_what_there_is(kubectl: &Kubectl) {
    let kinds = [
        "actions fa fother.dev/v1alpha1 true Action",
        "eventbatches feb fother.dev/v1alpha1 true EventBatch",
        "executions fx fother.dev/v1alpha1 true Execution",
        "packs fpk fother.dev/v1alpha1 true Pack",
        "rules fr fother.dev/v1alpha1 true Rule",
        "webhooks fwh fother.dev/v1alpha1 true Webhook",
    ];
    let table = format!("NAME SHORTNAMES APIVERSION NAMESPACED KIND {}", kinds.join(" "));
    let lines = [
        ("api-resources --api-group=fother.dev", table.as_str()),
        ("auth can-i create rules.fother.dev", "yes"),
        ("auth can-i list configmaps --as=system:serviceaccount:default:healer", "yes"),
    ];
    types(kubectl, &lines).await;
    let healer = "--as=system:serviceaccount:default:healer";
    let refused = kubectl.try_run(&["auth", "can-i", "create", "rules.fother.dev", healer], "").await;
    assert!(refused.code == 1 && refused.stdout.starts_with("no"), "{refused:#?}");
}

/// A Pack, whose table says that its server cannot be reached.
async fn reads_the_table_of_a_pack(kubectl: &Kubectl) {
    let url = "https://127.0.0.1:1/stores.git";
    let stores = manifest("Pack", "stores", json!({"url": url, "serviceAccountName": "healer"}));
    assert_eq!(kubectl.apply(&stores, &[]).await, "pack.fother.dev/stores created\n");
    let (columns, row) = ("NAME URL REVISION READY REASON AGE", format!("stores {url} False FetchFailed"));
    let (narrow, wide) = (format!("{columns} {row}"), format!("{columns} PATH MESSAGE {row}"));
    let lines = [
        (
            "wait pack/stores --for=condition=Ready=False --timeout=60s",
            "pack.fother.dev/stores condition met",
        ),
        ("get packs", narrow.as_str()),
        ("get fpk -o wide", wide.as_str()),
    ];
    types(kubectl, &lines).await;
}

/// A table that goes on shows what is changed meanwhile.
async fn follows_a_change(kubectl: &Kubectl) {
    let folder = tempfile::tempdir().unwrap();
    let table = kubectl.start(&["get", "rules", "-w"], &folder.path().join("table"));
    let shows = async |mode: &str| {
        eventually(&format!("a row with {mode}"), DEADLINE, async || {
            let rows = table.output();
            let is_shown = rows.lines().any(|row| row.split_whitespace().take(2).eq(["leak", mode]));
            if is_shown { Ok(()) } else { Err(rows) }
        })
        .await;
    };
    shows("Enforce").await;
    assert!(!table.output().contains(" Observe "), "{}", table.output());
    let patch = r#"patch rule leak --type=merge -p {"spec":{"mode":"Observe"}}"#;
    types(kubectl, &[(patch, "rule.fother.dev/leak patched")]).await;
    shows("Observe").await;
}

/// Something breaks, and is followed until its Execution has finished.
async fn follows_an_execution(kubectl: &Kubectl, scenario: &Scenario) {
    let broken = ("create configmap ark --from-literal=hull=leaking", "configmap/ark created");
    types(kubectl, &[broken]).await;
    let job = "{.items[0].status.rungs[0].job.name}";
    let job = ["get", "fx", "-l", "fother.dev/rule=leak", "-o", &format!("jsonpath={job}")];
    let job = eventually("a Job", DEADLINE, || async {
        let answer = kubectl.try_run(&job, "").await;
        let known = answer.code == 0 && !answer.stdout.is_empty();
        if known { Ok(answer.stdout) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let finished = "wait fx -l fother.dev/rule=leak --for=condition=Finished --timeout=60s";
    let lines = [
        (finished, "execution.fother.dev/leak-"),
        ("get executions", "NAME RULE TARGET SUCCEEDED REASON STEP DURATION AGE leak-"),
        (&format!("logs job/{job}"), "ahoy"),
    ];
    types(kubectl, &lines).await;
    let story = ["ExecutionJobCreated", "RemediationCompleted", "RuleFired"];
    scenario.is_told("ConfigMap", "ark", &story).await;
    assert!(kubectl.run(&["events", "--for", "configmap/ark"]).await.contains("RuleFired"));
    assert!(kubectl.run(&["get", "events"]).await.contains("configmap/ark"));
}

#[tokio::test]
async fn the_oldest_kubectl_is_at_home_in_the_sandbox() {
    const OLDEST: &str = "kubectl-1.30";
    let Some(folder) = built(&[OLDEST]) else { return };
    let Some(scenario) = Scenario::memory(OLDEST).await else { return };
    let kubectl = Kubectl::of(folder.join(OLDEST), scenario.stage.admin());
    types(&kubectl, &[("version --client", "Client Version: v1.30.")]).await;
    asks_what_there_is(&kubectl).await;
    writes_a_rule(&kubectl).await;
    follows_an_execution(&kubectl, &scenario).await;
    follows_a_change(&kubectl).await;
    reads_the_table_of_a_pack(&kubectl).await;
    let lines = [
        ("get rule leak -o jsonpath={.spec.mode},{.metadata.annotations.why}", "Observe,water"),
        ("delete rule leak", r#"rule.fother.dev "leak" deleted"#),
        ("wait rule/leak --for=delete --timeout=5s", ""),
        ("get rules", ""),
    ];
    types(&kubectl, &lines).await;
}
