//! From a Pod to what controls it, while the API server does not answer on the way.

use fother::api::Execution;
use serde_json::{Value, json};

use super::bay::{Bay, NAMESPACE, PAINT};

const READ: &str = "GET /apis/apps/v1/namespaces/default/replicasets/web-1";

fn owned(api_version: &str, kind: &str, name: &str, owner: Value) -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = match kind {
        "Pod" => template["spec"].clone(),
        _ => json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}),
    };
    let owners: Vec<_> = Some(owner).filter(|owner| !owner.is_null()).into_iter().collect();
    json!({"apiVersion": api_version, "kind": kind, "spec": spec, "metadata": {
        "name": name, "namespace": NAMESPACE, "labels": {"app": "web"}, "ownerReferences": owners,
    }})
}

/// The reference by which an object names the one that controls it.
async fn controller(bay: &Bay, api_version: &str, kind: &str, name: &str) -> Value {
    let uid = bay.uid(api_version, kind, name).await;
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true})
}

#[tokio::test]
async fn an_owner_that_cannot_be_read_is_asked_for_again_and_nothing_below_it_is_taken() {
    let bay = Bay::new().await;
    bay.apply(owned("apps/v1", "Deployment", "web", Value::Null)).await;
    let deployment = controller(&bay, "apps/v1", "Deployment", "web").await;
    bay.apply(owned("apps/v1", "ReplicaSet", "web-1", deployment)).await;
    let set = controller(&bay, "apps/v1", "ReplicaSet", "web-1").await;
    let trigger = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
    let changes = json!({"trigger": trigger, "when": "object.metadata.name.startsWith('web')", "ladder": [{"run": PAINT}]});
    bay.rule("web", changes).await;
    bay.watching("web").await;
    bay.refuse(READ, 500);
    bay.apply(owned("v1", "Pod", "web-1-a", set)).await;
    bay.until_struck(READ, 3).await;
    assert_eq!(bay.executions().await.len(), 0, "the Pod and its ReplicaSet are not the target");
    bay.lift(READ);
    let ended = bay.only("it has ended", Execution::is_finished).await;
    let target = ended.spec.target.unwrap();
    assert_eq!((&*target.kind, &*target.name), ("Deployment", "web"));
}
