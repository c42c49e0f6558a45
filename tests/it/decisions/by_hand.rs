//! What a run by hand stands in the way of, and what others may write about Executions.

use fother::api::Execution;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::bay::{Bay, MEND, NAMESPACE};

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
