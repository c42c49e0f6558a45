//! What the admission policies refuse and admit, asked as people with limited rights.

use serde_json::{Value, json};

use super::stage::{Stage, admitted, refused};
use crate::support::kubectl::Kubectl;

/// May write fother's kinds, and nothing else that matters.
fn writes() -> Value {
    let verbs = ["get", "list", "create", "update", "patch", "delete"];
    json!({"apiGroups": ["fother.dev"], "resources": ["packs", "rules", "actions", "executions", "webhooks", "eventbatches"],
        "verbs": verbs})
}

fn may_be(account: &str) -> Value {
    json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [account], "verbs": ["impersonate"]})
}

fn may_run(actions: &[&str]) -> Value {
    json!({"apiGroups": ["fother.dev"], "resources": ["actions"], "resourceNames": actions, "verbs": ["run"]})
}

fn rule(account: &str, actions: &[&str]) -> Value {
    let ladder: Vec<_> = actions.iter().map(|run| json!({"run": run})).collect();
    let trigger = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
    json!({"serviceAccountName": account, "trigger": trigger, "when": "false", "ladder": ladder})
}

fn pack(account: &str) -> Value {
    json!({"url": "https://git.example.com/a", "serviceAccountName": account})
}

fn webhook(account: &str) -> Value {
    let authentication = json!({"bearer": {"secretRef": {"name": "s", "key": "k"}}});
    json!({"serviceAccountName": account, "alertmanager": {}, "authentication": authentication})
}

fn by_hand(account: &str, action: &str) -> Value {
    json!({"serviceAccountName": account, "run": action})
}

fn batch() -> Value {
    let event = json!({"id": "1", "source": "s", "type": "t", "time": "2026-01-01T00:00:00.000000Z"});
    json!({"webhook": "w", "events": [{"event": event, "rules": ["r"]}]})
}

fn decided(account: &str) -> Value {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "name": "p"});
    let decision = json!({
        "id": "0123456789abcdef0123456789abcdef", "time": "2026-01-01T00:00:00Z", "rule": {"name": "r"},
        "mode": "Enforce", "definition": "d", "matched": {"object": object},
    });
    json!({"serviceAccountName": account, "target": object, "decision": decision})
}

const NOT_AS: &str = "may not name ServiceAccount healer: that needs the verb impersonate on it";

#[tokio::test]
async fn naming_an_account_needs_the_right_to_be_it() {
    let Some(stage) = Stage::new("naming").await else { return };
    let author = stage.person("author", json!([writes(), may_run(&["a"]), may_be("other")])).await;
    let healer = stage.person("trusted", json!([writes(), may_run(&["a"]), may_be("healer")])).await;
    for (kind, spec) in [
        ("Rule", rule("healer", &["a"])),
        ("Pack", pack("healer")),
        ("Webhook", webhook("healer")),
        ("Execution", by_hand("healer", "a")),
    ] {
        refused(&stage.create(&author, kind, "x", spec.clone()).await, NOT_AS);
        admitted(&stage.create(&healer, kind, "x", spec).await);
    }
}

#[tokio::test]
async fn only_the_controller_writes_what_was_received() {
    let Some(stage) = Stage::new("received").await else { return };
    let author = stage.person("author", json!([writes()])).await;
    let said = "EventBatches are for the controller alone";
    refused(&stage.create(&author, "EventBatch", "x", batch()).await, said);

    stage.account("healer").await;
    stage.plane.admin().enroll(&stage.namespace, "healer").await;
    let controller = stage.controller().await;
    admitted(&stage.create(&controller, "EventBatch", "x", batch()).await);
    let outcome = |outcome: &str| {
        let time = "2026-01-01T00:00:00Z";
        json!({"status": {"outcomes": [{"event": 0, "rule": "r", "outcome": outcome, "time": time}]}})
    };
    let home = ["-n", &stage.namespace];
    // It has no status yet, and then another one.
    for told in ["Fired", "NotMatched"] {
        let status = outcome(told).to_string();
        let says = ["patch", "eventbatch/x", "--subresource=status", "--type=merge", "-p", &status];
        refused(&stage.admin.try_run(&[&home[..], &says].concat(), "").await, said);
        admitted(&stage.controller_says("eventbatches", "x", outcome("Failed")).await);
    }
    for who in [&author, &stage.admin] {
        refused(&patch(&stage, who, "eventbatch/x", json!({"spec": {"webhook": "other"}})).await, said);
        // What says the same as before is anybody's who may write it: so a migration of the storage does it.
        let same = stage.admin.run(&[&home[..], &["get", "eventbatch/x", "-o", "json"]].concat()).await;
        admitted(&who.try_run(&["replace", "-f", "-"], &same).await);
        let note = json!({"metadata": {"annotations": {"example.com/note": "seen"}}});
        admitted(&patch(&stage, who, "eventbatch/x", note).await);
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "none"});
        for metadata in [
            json!({"labels": {"fother.dev/webhook": "other"}}),
            json!({"finalizers": ["example.com/keeps"]}),
            json!({"ownerReferences": [owner]}),
        ] {
            refused(&patch(&stage, who, "eventbatch/x", json!({"metadata": metadata})).await, said);
        }
    }
    // The garbage collector takes its finalizer off, or this would wait for ever.
    let delete = ["delete", "eventbatch/x", "--cascade=foreground", "--timeout=2m"];
    admitted(&stage.admin.try_run(&[&home[..], &delete].concat(), "").await);
}

async fn patch(stage: &Stage, who: &Kubectl, what: &str, patch: Value) -> crate::support::kubectl::Answer {
    let patch = patch.to_string();
    who.try_run(&["-n", &stage.namespace, "patch", what, "--type=merge", "-p", &patch], "").await
}

#[tokio::test]
async fn changing_what_is_done_as_an_account_needs_the_right_to_be_it() {
    let Some(stage) = Stage::new("changing").await else { return };
    admitted(&stage.create(&stage.admin, "Rule", "x", rule("healer", &["a"])).await);
    admitted(&stage.create(&stage.admin, "Pack", "x", pack("healer")).await);
    admitted(&stage.create(&stage.admin, "Execution", "x", by_hand("healer", "a")).await);
    let author = stage.person("author", json!([writes(), may_run(&["a"]), may_be("other")])).await;
    for (what, change) in [
        ("rule/x", json!({"when": "true"})),
        ("rule/x", json!({"mode": "Enforce"})),
        ("pack/x", json!({"url": "https://git.example.com/b"})),
    ] {
        refused(&patch(&stage, &author, what, json!({"spec": change})).await, NOT_AS);
    }
    // What changes nothing of it is everybody's who may write it; to stop something above all.
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    admitted(&patch(&stage, &author, "rule/x", label.clone()).await);
    admitted(&patch(&stage, &author, "pack/x", label).await);
    admitted(&patch(&stage, &author, "execution/x", json!({"spec": {"cancel": true}})).await);
    // Who takes it over for an account that is his may do that.
    admitted(&patch(&stage, &author, "rule/x", json!({"spec": {"serviceAccountName": "other"}})).await);
}

#[tokio::test]
async fn what_a_rule_or_an_execution_runs_needs_the_verb_run() {
    let Some(stage) = Stage::new("running").await else { return };
    let names: Vec<_> = (0..16).map(|n| format!("a{n}")).collect();
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    let some = stage.person("some", json!([writes(), may_be("healer"), may_run(&all[..15])])).await;
    let every = stage.person("every", json!([writes(), may_be("healer"), may_run(&all)])).await;

    let last = "may not run Action a15: that needs the verb run on it";
    refused(&stage.create(&some, "Rule", "long", rule("healer", &all)).await, last);
    refused(&stage.create(&some, "Rule", "short", rule("healer", &["a15", "a0"])).await, last);
    refused(&stage.create(&some, "Execution", "hand", by_hand("healer", "a15")).await, last);
    admitted(&stage.create(&some, "Rule", "good", rule("healer", &all[..15])).await);
    admitted(&stage.create(&some, "Execution", "good", by_hand("healer", "a0")).await);
    // The longest ladder that there is costs less than a policy may.
    admitted(&stage.create(&every, "Rule", "long", rule("healer", &all)).await);
    let ladder = json!({"spec": {"ladder": [{"run": "a15"}]}});
    refused(&patch(&stage, &some, "rule/good", ladder).await, last);
}

#[tokio::test]
async fn what_is_run_by_hand_acts_in_its_own_namespace_or_on_what_has_none() {
    let Some(stage) = Stage::new("acting").await else { return };
    let on = |kind: &str, namespace: Option<&str>| {
        let mut spec = by_hand("healer", "a");
        spec["target"] = json!({"apiVersion": "v1", "kind": kind, "name": "x"});
        if let Some(namespace) = namespace {
            spec["target"]["namespace"] = json!(namespace);
        }
        spec
    };
    let elsewhere = stage.create(&stage.admin, "Execution", "x", on("ConfigMap", Some("default"))).await;
    refused(&elsewhere, "the target is in namespace default");
    let here = on("ConfigMap", Some(&stage.namespace));
    admitted(&stage.create(&stage.admin, "Execution", "here", here).await);
    admitted(&stage.create(&stage.admin, "Execution", "nowhere", on("Node", None)).await);
}

#[tokio::test]
async fn only_the_controller_decides() {
    let Some(stage) = Stage::new("deciding").await else { return };
    let said = "spec.decision is for the controller alone";
    let author = stage.person("author", json!([writes(), may_be("healer")])).await;
    refused(&stage.create(&author, "Execution", "x", decided("healer")).await, said);
    refused(&stage.create(&stage.admin, "Execution", "x", decided("healer")).await, said);
    stage.account("healer").await;
    stage.plane.admin().enroll(&stage.namespace, "healer").await;
    let controller = stage.controller().await;
    admitted(&stage.create(&controller, "Execution", "x", decided("healer")).await);
}

#[tokio::test]
async fn kubernetes_own_roles_have_their_share_of_fothers_kinds() {
    let Some(stage) = Stage::new("roles").await else { return };
    let (view, edit, admin) =
        (stage.holder("view").await, stage.holder("edit").await, stage.holder("admin").await);
    let all = ["-n", &stage.namespace, "get", "packs,rules,actions,executions,webhooks,eventbatches"];
    for who in [&view, &edit, &admin] {
        // Kubernetes' roles take in what is labeled for them a moment after it was installed.
        crate::support::wait::eventually("the role is complete", crate::support::wait::DEADLINE, || async {
            let answer = who.try_run(&all, "").await;
            if answer.code == 0 { Ok(()) } else { Err(answer.stderr) }
        })
        .await;
    }
    let action = json!({"kubernetes": {"restart": {}}});
    refused(&stage.create(&view, "Action", "a", action.clone()).await, "cannot create resource");
    admitted(&stage.create(&edit, "Action", "a", action).await);
    admitted(&stage.create(&edit, "Rule", "r", rule("healer", &["a"])).await);
    admitted(&stage.create(&edit, "Execution", "x", by_hand("healer", "a")).await);
    admitted(&stage.create(&edit, "Webhook", "w", webhook("healer")).await);
    refused(&stage.create(&edit, "Pack", "p", pack("healer")).await, "cannot create resource");
    admitted(&stage.create(&admin, "Pack", "p", pack("healer")).await);
    for (who, kind, name, spec) in [
        (&view, "Rule", "v", rule("healer", &["a"])),
        (&view, "Execution", "v", by_hand("healer", "a")),
        (&view, "Webhook", "v", webhook("healer")),
        (&view, "Pack", "v", pack("healer")),
        (&view, "EventBatch", "v", batch()),
        (&edit, "EventBatch", "e", batch()),
        (&admin, "EventBatch", "a", batch()),
    ] {
        refused(&stage.create(who, kind, name, spec).await, "cannot create resource");
    }
    for (who, what, allowed) in [
        (&view, "webhook/w", false),
        (&edit, "webhook/w", true),
        (&edit, "pack/p", false),
        (&admin, "pack/p", true),
    ] {
        let answer = who.try_run(&["-n", &stage.namespace, "delete", what], "").await;
        if allowed { admitted(&answer) } else { refused(&answer, "cannot delete resource") }
    }
}

/// The account of each example's Pack may apply what is in the pack, and its namespace is enrolled.
#[tokio::test]
async fn the_examples_grant_what_their_packs_need() {
    let Some(stage) = Stage::new("examples").await else { return };
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (pack, namespace) in [("corrupted-cache", "shop"), ("crash-loop", "web"), ("oom-job", "reports")] {
        let setup = examples.join("setup").join(pack).join("rbac.yaml");
        stage.admin.run(&["apply", "-f", setup.to_str().unwrap()]).await;
        let packs = stage.admin.with(&stage.plane.service_account(namespace, "packs").await);
        for part in ["actions", "rules"] {
            let folder = examples.join(pack).join(part);
            let server_side = ["-n", namespace, "apply", "--server-side", "-f", folder.to_str().unwrap()];
            packs.run(&server_side).await;
        }
        let controller = stage.controller().await;
        for (account, allowed) in [("healer", "yes"), ("packs", "yes"), ("default", "no")] {
            let what = format!("serviceaccounts/{account}");
            let asked =
                controller.try_run(&["-n", namespace, "auth", "can-i", "impersonate", &what], "").await;
            assert_eq!(asked.stdout.trim(), allowed, "{namespace}/{account}");
        }
    }
}
