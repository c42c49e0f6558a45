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
    let spec = rule_spec(json!({"ladder": [{"run": "greet", "verify": null}]}));
    let rule = manifest("Rule", "leak", spec);
    for said in ["created", "unchanged"] {
        assert_eq!(kubectl.apply(&rule, &[]).await, format!("rule.fother.dev/leak {said}\n"));
    }
    let columns = "NAME MODE READY REASON LAST-FIRED AGE TRIGGER HELD REVISION MESSAGE";
    let lines = [
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
    writes_a_rule(&kubectl).await;
    follows_an_execution(&kubectl, &scenario).await;
    let watched = kubectl.try_run(&["get", "rules", "-w", "--request-timeout=1s"], "").await.stdout;
    assert!(watched.lines().nth(1).is_some_and(|line| line.starts_with("leak ")), "{watched}");
    let lines = [
        (r#"patch rule leak --type=merge -p {"spec":{"mode":"Observe"}}"#, "rule.fother.dev/leak patched"),
        ("get rule leak -o jsonpath={.spec.mode},{.metadata.annotations.why}", "Observe,water"),
        ("delete rule leak", r#"rule.fother.dev "leak" deleted"#),
        ("wait rule/leak --for=delete --timeout=5s", ""),
        ("get rules", ""),
    ];
    types(&kubectl, &lines).await;
}
