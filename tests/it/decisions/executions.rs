//! What an Execution waits for, and for how long.

use fother::api::Execution;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::bay::{Bay, MEND, NAMESPACE};

fn ark() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": "ark"})
}

#[tokio::test]
async fn a_right_that_is_missing_for_a_moment_ends_nothing() {
    const ACCOUNT: &str = "GET /api/v1/namespaces/default/serviceaccounts/healer";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.refuse(ACCOUNT, 403);
    bay.run("hand", MEND, ark()).await;
    let stands = bay.only("it says what it waits for", |e| e.reason() == Some("MissingPermissions")).await;
    assert!(!stands.is_finished(), "{stands:#?}");
    bay.lift(ACCOUNT);
    let ended = bay.only("it goes on", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn an_account_that_is_not_allowed_ends_what_has_not_begun_at_once() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "healer", "namespace": NAMESPACE, "annotations": {"fother.dev/allow": "false"}}}))
        .await;
    bay.run("hand", MEND, ark()).await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("MissingPermissions"), "{ended:#?}");
}

/// All Executions are held in memory: what is too large for that is not.
#[tokio::test]
async fn a_run_that_is_too_large_is_left_alone_and_says_so() {
    let bay = Bay::new().await;
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
        "metadata": {"name": "hand", "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "healer", "run": MEND, "with": {"words": "x".repeat(300 * 1024)}}}))
        .await;
    let stands = bay.only("it says why", |e| e.reason() == Some("UnsupportedValue")).await;
    let message = &stands.status.unwrap().conditions[0].message;
    let why = "it has more than 256 KiB beside its status";
    assert_eq!(*message, format!("cannot be read by this version of fother, and is left alone: {why}"));
}

#[tokio::test]
async fn an_action_may_come_a_moment_after_the_run_of_it() {
    const ACCOUNT: &str = "GET /api/v1/namespaces/default/serviceaccounts/healer";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.count(ACCOUNT);
    bay.run("hand", "caulk", ark()).await;
    bay.until_struck(ACCOUNT, 1).await;
    bay.action("caulk", json!({"patch": {"merge": {"data": {"hull": "tight"}}}})).await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn a_run_of_an_action_that_does_not_come_says_so_and_ends_after_ten_seconds() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.run("hand", "nosuch", ark()).await;
    let waits = bay.only("it says what it waits for", |e| e.reason() == Some("ActionNotFound")).await;
    assert!(!waits.is_finished(), "{waits:#?}");
    let ended = bay.only("it ends", Execution::is_finished).await;
    let finished = ended.status.as_ref().and_then(|status| status.finished_at.as_ref()).unwrap().0;
    let lasted = finished.duration_since(ended.metadata.creation_timestamp.unwrap().0).as_secs();
    assert!((9..=12).contains(&lasted), "it took {lasted} s");
}

#[tokio::test]
async fn a_target_outside_the_rights_of_the_account_is_told_at_once() {
    const TARGET: &str = "GET /api/v1/namespaces/default/configmaps/ark";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.refuse(TARGET, 403);
    bay.run("hand", MEND, ark()).await;
    let stands = bay.only("it says what is missing", |e| e.reason() == Some("MissingPermissions")).await;
    assert!(!stands.is_finished(), "{stands:#?}");
    bay.lift(TARGET);
    let ended = bay.only("it goes on", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn a_run_that_could_not_be_proven_does_nothing() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let verify = json!({"when": "target.dat.hull == 'tight'"});
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
        "metadata": {"name": "hand", "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "healer", "run": MEND, "target": ark(), "verify": verify}}))
        .await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("InvalidExpression"), "{ended:#?}");
    let said = ended.status.as_ref().map(|status| status.conditions[0].message.clone()).unwrap_or_default();
    assert_eq!(said, "spec.verify.when: ConfigMap has no field \"dat\"; did you mean \"data\"?");
    assert!(ended.status.unwrap().rungs.is_empty());
}

#[tokio::test]
async fn an_api_that_answers_nothing_but_errors_keeps_nobody_from_canceling() {
    const TARGET: &str = "GET /api/v1/namespaces/default/configmaps/ark";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.refuse(TARGET, 500);
    bay.run("hand", MEND, ark()).await;
    bay.until_struck(TARGET, 2).await;
    assert!(!bay.only("it waits", |_| true).await.is_finished());
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    let executions: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    executions.patch("hand", &PatchParams::default(), &cancel).await.unwrap();
    let ended = bay.only("it ends", |e| e.is_finished() && e.metadata.finalizers.is_none()).await;
    assert_eq!(ended.reason(), Some("Canceled"), "{ended:#?}");
}
