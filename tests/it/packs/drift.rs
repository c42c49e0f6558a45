//! What people change by hand of what git says.

use fother::api::Rule;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{ACTION, NAMESPACE, Scene, rule};
use crate::support::wait::{DEADLINE, eventually};

#[tokio::test]
async fn what_is_changed_or_added_by_hand_goes_with_the_next_sync() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &*rule("a", "1m"))];
    let commit = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &commit).await;
    let said = spec(&scene).await;

    let rules: Api<Rule> = Api::namespaced(scene.admin.clone(), NAMESPACE);
    let by_hand = json!({"spec": {
        "for": "1h",
        "unless": [{"if": "true", "reason": "Never"}],
        "limits": {"cooldown": "0s", "perTarget": "1000/1m"},
    }});
    rules.patch("a", &PatchParams::default(), &Patch::Merge(by_hand)).await.unwrap();
    assert_ne!(spec(&scene).await, said);
    eventually("the Rule is as git says", DEADLINE, async || match spec(&scene).await {
        spec if spec == said => Ok(()),
        other => Err(other),
    })
    .await;
    scene.ready("Synced", &commit).await;
}

async fn spec(scene: &Scene) -> Value {
    json!(scene.rules().await[0].spec)
}
