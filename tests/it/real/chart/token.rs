//! How far somebody gets who has stolen the controller's token: enrolled namespaces, allowed accounts, nothing else.

use fother::decide::execution::EXECUTION_FINALIZER;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::stage::{CONTROLLER, Stage, admitted, refused};
use crate::support::kubectl::{Answer, Kubectl};
use crate::support::wait::{DEADLINE, eventually};

/// Held by who gives rights in fother's own namespace for a moment, and by who says that there are none.
pub static HOME_RIGHTS: Mutex<()> = Mutex::const_new(());

/// A namespace with two accounts that may do the same, of which one is enrolled.
async fn enrolled(test: &str) -> Option<(Stage, Kubectl)> {
    let stage = Stage::new(test).await?;
    let boats = json!([{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["*"]}]);
    stage.person("healer", boats.clone()).await;
    stage.person("root", boats).await;
    admitted(&stage.fother(&["enroll", &stage.namespace, "--service-account", "healer", "--apply"]).await);
    let thief = stage.controller().await;
    Some((stage, thief))
}

async fn get(thief: &Kubectl, namespace: &str, what: &str, account: &str) -> Answer {
    let user = format!("system:serviceaccount:{account}");
    thief.try_run(&["-n", namespace, "get", what, "--as", &user], "").await
}

#[tokio::test]
async fn a_stolen_token_acts_as_allowed_accounts_of_enrolled_namespaces_only() {
    let Some((stage, thief)) = enrolled("stolen").await else { return };
    let _alone = HOME_RIGHTS.lock().await;
    let (here, foreign) = (stage.namespace.as_str(), stage.plane.namespace("stolen-foreign").await);
    stage.plane.service_account(&foreign, "healer").await;
    admitted(&get(&thief, here, "configmaps", &format!("{here}:healer")).await);
    // As healer it reaches no further than healer.
    refused(&get(&thief, &foreign, "configmaps", &format!("{here}:healer")).await, "forbidden");
    refused(&get(&thief, here, "deployments", &format!("{here}:healer")).await, "forbidden");
    for account in [
        format!("{here}:root"),
        format!("{here}:default"),
        format!("{foreign}:healer"),
        "fother:fother".to_owned(),
        "kube-system:namespace-controller".to_owned(),
    ] {
        refused(&get(&thief, here, "configmaps", &account).await, "cannot impersonate resource");
    }
    for mask in [["--as", "admin"], ["--as-group", "system:masters"]] {
        let someone = ["get", "secrets", "-A", "--as", "x"];
        refused(
            &thief.try_run(&[&someone[..3], &mask[..], &someone[3..]].concat(), "").await,
            "cannot impersonate",
        );
    }
}

#[tokio::test]
async fn a_stolen_token_by_itself_sees_and_does_next_to_nothing() {
    let Some((stage, thief)) = enrolled("stolen-itself").await else { return };
    let _alone = HOME_RIGHTS.lock().await;
    let (here, foreign) = (stage.namespace.as_str(), stage.plane.namespace("stolen-other").await);
    let foreign = foreign.as_str();
    for (verb, what, namespace, allowed) in [
        ("list", "rules.fother.dev", foreign, true),
        ("create", "executions.fother.dev", here, true),
        ("create", "executions.fother.dev", foreign, false),
        ("create", "executions.fother.dev", "kube-system", false),
        ("create", "executions.fother.dev", "fother", false),
        ("list", "controllerrevisions.apps", here, true),
        ("list", "controllerrevisions.apps", foreign, false),
        ("list", "controllerrevisions.apps", "kube-system", false),
        ("update", "leases.coordination.k8s.io/fother", "fother", true),
        ("update", "leases.coordination.k8s.io/other", "fother", false),
        ("update", "leases.coordination.k8s.io/kube-controller-manager", "kube-system", false),
        ("create", "leases.coordination.k8s.io", "kube-node-lease", false),
        ("get", "secrets", "fother", false),
        ("create", "pods", "fother", false),
        ("create", "serviceaccounts/healer --subresource=token", here, false),
        ("patch", "serviceaccounts", here, false),
        ("create", "rolebindings.rbac.authorization.k8s.io", here, false),
        ("create", "rules.fother.dev", here, false),
        ("patch", "actions.fother.dev", here, false),
    ] {
        let question = format!("-n {namespace} auth can-i {verb} {what}");
        let question: Vec<_> = question.split(' ').collect();
        let answer = thief.try_run(&question, "").await;
        assert_eq!(answer.stdout.trim(), if allowed { "yes" } else { "no" }, "{question:?}: {answer:?}");
    }
}

fn decided(account: &str, name: &str) -> Value {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "name": name});
    let decision = json!({
        "id": "0123456789abcdef0123456789abcdef", "time": "2026-01-01T00:00:00Z", "rule": {"name": "r"},
        "mode": "Enforce", "definition": "d", "matched": {"object": object},
    });
    json!({"serviceAccountName": account, "target": object, "decision": decision})
}

#[tokio::test]
async fn a_stolen_token_undoes_nothing() {
    let Some((stage, thief)) = enrolled("stolen-undo").await else { return };
    let here = stage.namespace.as_str();
    // What it decides, it decides for the accounts that it may be.
    let named = stage.create(&thief, "Execution", "x", decided("root", "p")).await;
    refused(&named, &format!("{CONTROLLER} may not name ServiceAccount root"));
    admitted(&stage.create(&thief, "Execution", "x", decided("healer", "p")).await);
    let cancel = ["-n", here, "patch", "execution", "x", "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#];
    refused(&thief.try_run(&cancel, "").await, "the controller changes no Execution's spec");
    let delete = ["-n", here, "delete", "execution", "x", "--wait=false"];
    refused(&thief.try_run(&delete, "").await, "deletes no Execution that has not finished");
    admitted(&stage.controller_says("executions", "x", finished()).await);
    admitted(&thief.try_run(&delete, "").await);

    // The history of others' workloads is not its own.
    let revision = |name: &str, labels: Value| {
        let metadata = json!({"name": name, "namespace": here, "labels": labels});
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1, "data": {}})
    };
    stage.admin.apply(&revision("theirs", json!({})).to_string(), &[]).await;
    let delete = |name: &'static str| ["-n", here, "delete", "controllerrevision", name].map(str::to_owned);
    let theirs = delete("theirs");
    let theirs: Vec<_> = theirs.iter().map(String::as_str).collect();
    refused(&thief.try_run(&theirs, "").await, "only the ControllerRevisions that it has made");
    let ours = revision("ours", json!({"app.kubernetes.io/managed-by": "fother"})).to_string();
    admitted(&thief.try_run(&["create", "-f", "-"], &ours).await);
    let ours = delete("ours");
    admitted(&thief.try_run(&ours.iter().map(String::as_str).collect::<Vec<_>>(), "").await);
}

/// What the controller has to be able to say wherever there are Rules, a thief can say there too; he cannot undo what others have written, nor
/// take away what has been done.
#[tokio::test]
async fn where_nothing_is_enrolled_any_more_a_stolen_token_writes_statuses_and_deletes_no_history() {
    let Some((stage, thief)) = enrolled("stolen-withdrawn").await else { return };
    let here = stage.namespace.as_str();
    admitted(&stage.create(&thief, "Execution", "past", decided("healer", "p")).await);
    admitted(&stage.create(&thief, "EventBatch", "batch", received()).await);
    let ladder = json!([{"run": "a"}]);
    let trigger = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
    let rule = json!({"serviceAccountName": "healer", "trigger": trigger, "when": "false", "ladder": ladder});
    admitted(&stage.create(&stage.admin, "Rule", "r", rule).await);
    stage.admin.run(&["-n", here, "delete", "rolebinding", "fother-impersonate"]).await;
    let question = ["-n", here, "auth", "can-i", "create", "executions.fother.dev"];
    eventually("the enrolment is withdrawn", DEADLINE, || async {
        let answer = thief.try_run(&question, "").await.stdout;
        if answer.trim() == "no" { Ok(()) } else { Err(answer) }
    })
    .await;

    let patch = async |what: &str, patch: Value| {
        let patch = patch.to_string();
        thief.try_run(&["-n", here, "patch", what, "--type=merge", "-p", &patch], "").await
    };
    let delete = async |what: &str| thief.try_run(&["-n", here, "delete", what, "--wait=false"], "").await;
    refused(&delete("execution/past").await, "deletes no Execution that has not finished");
    // A run by hand ends where nothing is enrolled, too, and says why; so this can be said of any.
    admitted(&stage.controller_says("executions", "past", finished()).await);
    refused(
        &delete("execution/past").await,
        "is not enrolled: its Executions are not the controller's to delete",
    );
    let all = ["-n", here, "delete", "executions", "--all", "--wait=false"];
    refused(&thief.try_run(&all, "").await, "is not enrolled");
    let orphan = json!({"metadata": {"finalizers": null, "ownerReferences": [owner()]}});
    refused(&patch("execution/past", orphan).await, "changes no owners");
    let cancel = json!({"spec": {"cancel": true}});
    refused(&patch("execution/past", cancel).await, "changes no Execution's spec");
    admitted(&patch("execution/past", json!({"metadata": {"finalizers": null}})).await);
    admitted(&stage.controller_says("rules", "r", json!({"status": {"observedGeneration": 1}})).await);
    refused(&patch("rule/r", json!({"spec": {"mode": "Observe"}})).await, "cannot patch resource");
    refused(&delete("rule/r").await, "cannot delete resource");
    refused(
        &stage.create(&thief, "Execution", "more", decided("healer", "p")).await,
        "cannot create resource",
    );
    refused(&stage.create(&thief, "EventBatch", "more", received()).await, "cannot create resource");
    admitted(&delete("eventbatch/batch").await);
}

#[tokio::test]
async fn a_stolen_token_tells_stories_only_where_it_is_enrolled() {
    let Some((stage, thief)) = enrolled("stolen-events").await else { return };
    let foreign = stage.plane.namespace("stolen-silent").await;
    let create = async |event: Value| thief.try_run(&["create", "-f", "-"], &event.to_string()).await;
    admitted(&create(event(&stage.namespace, "e", OWN)).await);
    refused(&create(event(&foreign, "e", OWN)).await, "is not enrolled");
    // Where Events about Nodes go.
    let name = stage.namespace.as_str();
    admitted(&create(event("default", name, OWN)).await);

    // Rules look at the Events of others, and not at fother's.
    let told = "tells and counts only Events of fother.dev/controller";
    refused(&create(event(&stage.namespace, "k", "kubelet")).await, told);
    stage.admin.apply(&event("default", &format!("{name}-others"), "kubelet").to_string(), &[]).await;
    let change = async |name: &str, patch: Value| {
        let path = format!("/apis/events.k8s.io/v1/namespaces/default/events/{name}");
        stage.controller_patches(&path, &patch).await
    };
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}});
    admitted(&change(name, series.clone()).await);
    refused(&change(&format!("{name}-others"), series).await, told);
    for metadata in changes() {
        let answer = change(name, json!({"metadata": metadata})).await;
        refused(&answer, "changes no owners, labels or annotations");
    }
}

/// The name of the controller in its Events.
const OWN: &str = "fother.dev/controller";

fn event(namespace: &str, name: &str, controller: &str) -> Value {
    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": namespace});
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": controller, "reportingInstance": "i",
        "action": "a", "reason": "r", "type": "Normal", "regarding": regarding,
    })
}

/// One that does not exist: what it owns the garbage collector deletes.
fn owner() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-4000-8000-000000000000"})
}

/// What somebody may have said of an object beside what it is, and what becomes of it: one change each.
fn changes() -> [Value; 6] {
    [
        json!({"ownerReferences": [owner()]}),
        json!({"ownerReferences": [owner()], "finalizers": null}),
        json!({"labels": {"fother.dev/rule": "other"}}),
        json!({"annotations": {"a": "b"}}),
        json!({"finalizers": [EXECUTION_FINALIZER, "example.com/holds"]}),
        json!({"finalizers": ["example.com/holds"]}),
    ]
}

/// The garbage collector deletes what has an owner that is gone, under its own name; labels are what people find it by; a
/// finalizer that nobody takes off holds the namespace.
#[tokio::test]
async fn a_stolen_token_changes_nothing_of_an_execution_but_fothers_finalizer() {
    let Some((stage, thief)) = enrolled("stolen-metadata").await else { return };
    let foreign = stage.plane.namespace("stolen-metadata-foreign").await;
    for namespace in [stage.namespace.as_str(), &foreign] {
        let by_hand = json!({"serviceAccountName": "healer", "run": "a"});
        let mut execution = stage.manifest("Execution", "x", by_hand);
        execution["metadata"] = json!({
            "name": "x", "namespace": namespace, "labels": {"fother.dev/rule": "r"},
            "finalizers": ["example.com/theirs"],
        });
        stage.admin.apply(&execution.to_string(), &[]).await;
        let patch = async |metadata: Value| {
            let patch = json!({"metadata": metadata}).to_string();
            thief.try_run(&["-n", namespace, "patch", "execution/x", "--type=merge", "-p", &patch], "").await
        };
        let with = |ours: &[&str]| {
            let all = [&["example.com/theirs"], ours].concat();
            json!({"finalizers": all})
        };
        admitted(&patch(with(&[EXECUTION_FINALIZER])).await);
        for change in changes() {
            let answer = patch(change.clone()).await;
            assert!(
                answer.stderr.contains("changes no owners, labels or annotations"),
                "{change}: {answer:#?}"
            );
        }
        refused(&patch(json!({"labels": null})).await, "changes no owners, labels or annotations");
        admitted(&patch(with(&[])).await);
        let replace = thief.try_run(&["replace", "-f", "-"], &execution.to_string()).await;
        refused(&replace, "cannot update resource");
        stage
            .admin
            .run(&["-n", namespace, "patch", "execution/x", "--type=merge", "-p", NO_FINALIZERS])
            .await;
    }
}

const NO_FINALIZERS: &str = r#"{"metadata":{"finalizers":null}}"#;

/// Of what is written to a status the API server drops everything else, of all kinds.
#[tokio::test]
async fn a_stolen_token_writes_no_metadata_with_a_status() {
    let Some((stage, thief)) = enrolled("stolen-status").await else { return };
    let here = stage.namespace.as_str();
    let account = |more: Value| {
        let mut spec = json!({"serviceAccountName": "healer"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let trigger = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
    let secret = json!({"bearer": {"secretRef": {"name": "s", "key": "k"}}});
    for (kind, spec) in [
        ("Pack", account(json!({"url": "https://git.example.com/a"}))),
        ("Webhook", account(json!({"alertmanager": {}, "authentication": secret}))),
        ("Rule", account(json!({"trigger": trigger, "when": "false", "ladder": [{"run": "a"}]}))),
        ("Action", json!({"kubernetes": {"restart": {}}})),
        ("Execution", account(json!({"run": "a"}))),
    ] {
        admitted(&stage.create(&stage.admin, kind, "x", spec).await);
    }
    admitted(&stage.create(&thief, "EventBatch", "x", received()).await);
    let metadata = |object: &Value| {
        let part = |name: &str| object["metadata"][name].clone();
        ["ownerReferences", "labels", "annotations", "finalizers", "deletionTimestamp"].map(part)
    };
    for kind in ["packs", "webhooks", "rules", "actions", "executions", "eventbatches"] {
        for change in changes() {
            admitted(&stage.controller_says(kind, "x", json!({"metadata": change})).await);
        }
        let now: Value =
            serde_json::from_str(&stage.admin.run(&["-n", here, "get", kind, "x", "-o", "json"]).await)
                .unwrap();
        assert_eq!(metadata(&now), [const { Value::Null }; 5], "{kind}");
    }
}

fn finished() -> Value {
    json!({"status": {"finishedAt": "2026-01-01T00:00:00Z"}})
}

/// What it makes where it is enrolled holds no namespace, and is taken for nothing else.
#[tokio::test]
async fn a_stolen_token_makes_nothing_with_owners_or_finalizers_of_others() {
    let Some((stage, thief)) = enrolled("stolen-made").await else { return };
    let here = stage.namespace.as_str();
    let revision = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": {},
        "metadata": {"name": "d", "namespace": here, "labels": {"app.kubernetes.io/managed-by": "fother"}},
    });
    for made in [
        stage.manifest("Execution", "x", decided("healer", "p")),
        stage.manifest("EventBatch", "x", received()),
        event(here, "e", OWN),
        revision.clone(),
    ] {
        for more in [json!({"ownerReferences": [owner()]}), json!({"finalizers": ["example.com/holds"]})] {
            let mut made = made.clone();
            made["metadata"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = thief.try_run(&["create", "-f", "-"], &made.to_string()).await;
            refused(&answer, "what the controller makes has no owner");
        }
    }
    // A StatefulSet takes in what has the labels of its Pods.
    let mut history = revision.clone();
    history["metadata"]["labels"]["app"] = json!("web");
    refused(
        &thief.try_run(&["create", "-f", "-"], &history.to_string()).await,
        "labeled as fother's, and nothing else",
    );
    let mut held = stage.manifest("Execution", "x", decided("healer", "p"));
    held["metadata"]["finalizers"] = json!([EXECUTION_FINALIZER]);
    for made in [held, revision] {
        admitted(&thief.try_run(&["create", "-f", "-"], &made.to_string()).await);
    }
}

fn received() -> Value {
    let event =
        json!({"id": "1", "type": "x", "time": "2026-01-01T00:00:00.000000Z", "source": "hook", "data": {}});
    json!({"webhook": "hook", "receivedAt": "2026-01-01T00:00:00.000000Z", "events": [{"event": event, "rules": ["r"]}]})
}

/// Not even an administrator gives the controller what would make its token worth stealing, by mistake.
#[tokio::test]
async fn the_controller_is_given_no_more_than_single_namespaces() {
    let Some((stage, _)) = enrolled("stolen-bindings").await else { return };
    let account = "--serviceaccount=fother:fother";
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "fother"] {
        let bind =
            ["-n", namespace, "create", "rolebinding", "x", "--clusterrole=fother-impersonate", account];
        refused(&stage.admin.try_run(&bind, "").await, "cannot be enrolled");
    }
    for role in ["fother-impersonate", "cluster-admin"] {
        let bind = ["create", "clusterrolebinding", "x", "--clusterrole", role, account];
        refused(&stage.admin.try_run(&bind, "").await, "one namespace at a time");
    }
    let whole =
        ["-n", &stage.namespace, "create", "rolebinding", "x", "--clusterrole=fother-impersonate", account];
    admitted(&stage.admin.try_run(&whole, "").await);
    let others = ["create", "clusterrolebinding", "x", "--clusterrole=view", "--serviceaccount=fother:other"];
    admitted(&stage.admin.try_run(&others, "").await);
}

/// A binding that nobody looked at, as one to a group, does not make it decide where nothing is healed.
#[tokio::test]
async fn a_stolen_token_decides_nothing_where_the_cluster_or_fother_runs() {
    let Some((stage, thief)) = enrolled("stolen-group").await else { return };
    let _alone = HOME_RIGHTS.lock().await;
    for namespace in ["kube-public", "fother"] {
        let group = ["--clusterrole=fother-impersonate", "--group=system:serviceaccounts:fother"];
        stage.admin.run(&[&["-n", namespace, "create", "rolebinding", "group"][..], &group].concat()).await;
        let mut execution = stage.manifest("Execution", "x", decided("default", "p"));
        execution["metadata"]["namespace"] = json!(namespace);
        let answer = thief.try_run(&["create", "-f", "-"], &execution.to_string()).await;
        stage.admin.run(&["-n", namespace, "delete", "rolebinding", "group"]).await;
        refused(&answer, &format!("nothing is healed in {namespace}"));
    }
}
