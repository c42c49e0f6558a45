//! What people change by hand of what git says.

use fother::api::Rule;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, ResourceExt};
use serde_json::{Value, json};

use super::{NAMESPACE, Scene, serving};
use crate::support::wait::{DEADLINE, eventually};

#[tokio::test]
async fn what_is_changed_or_added_by_hand_goes_with_the_next_sync() {
    let (scene, commit) = serving().await;
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

/// Whoever may delete and create ConfigMaps can put another in the place of a script, which nobody can change back.
#[tokio::test]
async fn a_script_that_somebody_replaced_is_put_right() {
    let (scene, commit) = serving().await;
    let scripts: Api<ConfigMap> = Api::namespaced(scene.admin.clone(), NAMESPACE);
    let all = scripts.list(&ListParams::default().labels("fother.dev/pack")).await.unwrap();
    let script = all.items.into_iter().next().unwrap();
    let name = script.name_any();
    let held = Some(vec!["example.com/mine".to_owned()]);
    for (labels, finalizers) in [(script.metadata.labels.clone(), held), (None, None)] {
        let data = script.data.clone().unwrap().into_keys().map(|key| (key, "false\n".to_owned()));
        let usurper = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), labels, finalizers, ..ObjectMeta::default() },
            data: Some(data.collect()),
            immutable: Some(true),
            ..ConfigMap::default()
        };
        // A sync may come in between.
        eventually("the script is replaced", DEADLINE, async || {
            scripts.delete(&name, &DeleteParams::default()).await.map_err(|error| error.to_string())?;
            scripts.create(&PostParams::default(), &usurper).await.map_err(|error| error.to_string())
        })
        .await;
        eventually("the script is what its name says", DEADLINE, async || match scripts.get(&name).await {
            Ok(there) if (&there.data, there.labels()) == (&script.data, script.labels()) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        scene.ready("Synced", &commit).await;
    }
}

async fn spec(scene: &Scene) -> Value {
    json!(scene.rules().await[0].spec)
}
