//! Whom a run by hand stands in the way of, and what stands in its way: anybody may write one who may write Executions.

use fother::api::{ConditionType, Execution, condition};
use fother::cluster::rights;
use fother::decide::job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::bay::{Bay, MEND, NAMESPACE, PAINT};
use crate::support::wait::{DEADLINE, eventually};

/// Another namespace that is enrolled, for an account that may do nothing at all.
const HARBOR: &str = "harbor";

fn ark() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": "ark"})
}

fn said(execution: &Execution) -> String {
    let conditions = execution.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    condition(conditions, ConditionType::Succeeded).map(|said| said.message.clone()).unwrap_or_default()
}

async fn own(bay: &Bay, kind: &str, name: &str, spec: Value) {
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": HARBOR}, "spec": spec}))
        .await;
}

/// With a run by hand in the harbor on a target.
async fn and_in_the_harbor(bay: &Bay, target: Value) {
    bay.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HARBOR}})).await;
    for object in rights::enroll(HARBOR, &["thief".to_owned()], ("fother", "fother")).unwrap() {
        bay.apply(object).await;
    }
    own(bay, "Action", PAINT, json!({"kubernetes": {"annotate": {"values": {"example.com/paint": "red"}}}}))
        .await;
    own(bay, "Execution", "hand", json!({"serviceAccountName": "thief", "run": PAINT, "target": target}))
        .await;
}

async fn until_in_the_harbor(bay: &Bay, what: &str, holds: impl Fn(&Execution) -> bool) -> Execution {
    let api: Api<Execution> = Api::namespaced(bay.admin.clone(), HARBOR);
    eventually(what, DEADLINE, async || {
        let found = api.get("hand").await.map_err(|error| error.to_string())?;
        if holds(&found) { Ok(found) } else { Err(format!("{:#?}", found.status)) }
    })
    .await
}

#[tokio::test]
async fn a_target_in_another_namespace_is_refused_whatever_the_account_may_do() {
    let bay = Bay::new().await;
    bay.apply(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "thief"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "thief", "namespace": HARBOR}]}))
        .await;
    bay.boat("ark", "leaking").await;
    and_in_the_harbor(&bay, ark()).await;
    let ended = until_in_the_harbor(&bay, "it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Forbidden"));
    assert_eq!(said(&ended), "ConfigMap/ark is in another namespace than the Execution");
}

/// By its name alone it would be another target than the same Node without a namespace, on which others act.
#[tokio::test]
async fn a_target_of_the_cluster_is_in_no_namespace() {
    let bay = Bay::new().await;
    bay.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pier"}})).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "name": "pier", "namespace": HARBOR});
    and_in_the_harbor(&bay, node).await;
    let ended = until_in_the_harbor(&bay, "it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Forbidden"));
    assert_eq!(said(&ended), "Node has no namespace; leave out target.namespace");
}

/// A piece of an address would be another target to others, and the same object to the API server.
#[tokio::test]
async fn a_target_has_the_name_and_the_namespace_of_an_object() {
    for (change, expected) in [
        (json!({"namespace": null}), "ConfigMap has a namespace; say target.namespace: harbor"),
        (json!({"name": "ark#x"}), "\"ark#x\" is no name of an object"),
        (json!({"name": "../../sea/configmaps/ark"}), "\"../../sea/configmaps/ark\" is no name of an object"),
    ] {
        let bay = Bay::new().await;
        let mut target = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "ark", "namespace": HARBOR});
        json_patch::merge(&mut target, &change);
        and_in_the_harbor(&bay, target).await;
        let ended = until_in_the_harbor(&bay, "it ends", Execution::is_finished).await;
        assert_eq!((ended.reason(), &*said(&ended)), (Some("Forbidden"), expected));
    }
}

#[tokio::test]
async fn a_run_whose_account_may_not_see_the_target_stands_in_no_rules_way() {
    let bay = Bay::new().await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "name": "pier"});
    bay.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pier"}})).await;
    and_in_the_harbor(&bay, node).await;
    let stands = |hand: &Execution| hand.reason() == Some("MissingPermissions");
    until_in_the_harbor(&bay, "it stands still", stands).await;
    bay.rule(
        "piers",
        json!({"trigger": {"resource": {"kind": "Node"}}, "when": "true", "target": "object",
        "ladder": [{"run": PAINT, "verify": null}]}),
    )
    .await;
    let ended = bay.only("the rule acts", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
    let hand = until_in_the_harbor(&bay, "it is still there", |_| true).await;
    assert!(!hand.is_finished(), "it stood there all the time: {:#?}", hand.status);
}

#[tokio::test]
async fn as_many_run_in_a_namespace_as_may_and_the_others_wait() {
    let bay = Bay::new().await;
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "watch", "namespace": NAMESPACE},
        "spec": {"script": {"image": "busybox:1", "inline": "sleep 600"}}}))
        .await;
    for n in 1..=7 {
        bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": format!("hand-{n}"), "namespace": NAMESPACE},
            "spec": {"serviceAccountName": "healer", "run": "watch"}}))
            .await;
    }
    let count = |all: &[Execution], reason: &str| all.iter().filter(|e| e.reason() == Some(reason)).count();
    let all = bay.all("five run", |all| count(all, "Running") + count(all, "Pending") == 7).await;
    assert_eq!((count(&all, "Running"), count(&all, "Pending")), (5, 2));
    let waiting = all.iter().find(|e| e.reason() == Some("Pending")).unwrap();
    assert_eq!(said(waiting), "waits: as many Executions run in the namespace as may");
    let running = all.iter().find(|e| e.reason() == Some("Running")).unwrap();
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    let executions: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    executions.patch(&running.name_any(), &PatchParams::default(), &cancel).await.unwrap();
    bay.all("the next runs", |all| count(all, "Running") == 5 && count(all, "Pending") == 1).await;
}

#[tokio::test]
async fn an_execution_is_its_rules_whatever_its_labels_say() {
    let bay = Bay::new().await;
    bay.rule("ark", json!({"limits": {"cooldown": "0s"}, "ladder": [{"run": MEND, "verify": null}]})).await;
    bay.boat("ark", "leaking").await;
    let closed = |e: &Execution| e.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    let first = bay.only("it is mended", closed).await;
    let executions: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let bare = Patch::Merge(json!({"metadata": {"labels": null}}));
    executions.patch(&first.name_any(), &PatchParams::default(), &bare).await.unwrap();
    bay.later().await;
    bay.boat("ark", "leaking").await;
    bay.all("it is mended again", |all| all.len() == 2 && all.iter().all(Execution::is_finished)).await;
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_no_evidence() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "look", "namespace": NAMESPACE}, "spec": {"collect": {}}}))
        .await;
    for (name, before) in [
        ("asked", "GET /api/v1/namespaces/default/configmaps/look-"),
        ("written", "POST /api/v1/namespaces/default/configmaps"),
    ] {
        bay.hold(before);
        bay.run(name, "look", ark()).await;
        bay.until_struck(before, 1).await;
        let executions: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
        let taken = job::name(&executions.get(name).await.unwrap(), 0);
        bay.boat(&taken, "forged").await;
        bay.lift(before);
        let ended = |all: &[Execution]| all.iter().any(|e| e.name_any() == name && e.is_finished());
        let all = bay.all("it ends", ended).await;
        let ended = all.iter().find(|e| e.name_any() == name).unwrap();
        assert_eq!(ended.reason(), Some("ActionFailed"), "{name}");
        let message = &ended.status.as_ref().unwrap().rungs[0].message;
        assert_eq!(*message, format!("a ConfigMap {taken} exists that belongs to someone else"));
    }
}

#[tokio::test]
async fn a_pod_gets_the_time_to_stop_that_the_action_gives_it() {
    let bay = Bay::new().await;
    bay.action("stop", json!({"delete": {"gracePeriodSeconds": 7}})).await;
    // It is on a node that has still to stop it.
    bay.apply(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ark", "namespace": NAMESPACE},
        "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i"}]}}))
        .await;
    bay.run(
        "hand",
        "stop",
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": NAMESPACE, "name": "ark"}),
    )
    .await;
    let pods: Api<Pod> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let stopping = eventually("the Pod is told to stop", DEADLINE, async || {
        let pod = pods.get("ark").await.map_err(|error| error.to_string())?.metadata;
        if pod.deletion_timestamp.is_some() { Ok(pod) } else { Err(format!("{pod:?}")) }
    })
    .await;
    assert_eq!(stopping.deletion_grace_period_seconds, Some(7));
}
