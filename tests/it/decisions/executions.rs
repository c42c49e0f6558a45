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
