//! What is old and what nothing needs any more goes, and only that.

use std::collections::BTreeSet;

use fother::api::Execution;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::scenario::{PAINT, Scenario};
use crate::support::wait::{DEADLINE, eventually};

const OLD: SignedDuration = SignedDuration::from_hours(8 * 24);
const RECENT: SignedDuration = SignedDuration::from_hours(6 * 24);

/// An Execution that ended so long ago. A decided one is for the controller alone to create.
async fn ended(scenario: &Scenario, name: &str, spec: Value, age: SignedDuration, status: Value) {
    let (at, client) = ((Timestamp::now() - age).to_string(), scenario.controller_access().client().await);
    let labels = json!({"fother.dev/rule": spec.pointer("/decision/rule/name")});
    let labels = if spec["decision"].is_null() { Value::Null } else { labels };
    let execution = json!({
        "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": name, "labels": labels}, "spec": spec,
    });
    let execution: Execution = serde_json::from_value(execution).unwrap();
    let by_hand = execution.spec.decision.is_none();
    let creator = if by_hand { scenario.stage.client.clone() } else { client };
    let api = Api::<Execution>::namespaced(creator, &scenario.stage.namespace);
    api.create(&PostParams::default(), &execution).await.unwrap();
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": at});
    let mut fresh = json!({"finishedAt": at, "conditions": [condition("Finished", "Completed"), condition("Succeeded", "Completed")]});
    json_patch::merge(&mut fresh, &status);
    let patch = Patch::Merge(json!({"status": fresh}));
    scenario.stage.api::<Execution>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

fn by_hand() -> Value {
    json!({"serviceAccountName": "healer", "run": PAINT})
}

/// What a Rule that is gone decided about a boat; `nth` tells the decisions apart, in order.
fn decided(boat: &str, nth: u8) -> Value {
    let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "sea", "name": boat});
    let time = Timestamp::now() - OLD - SignedDuration::from_mins(60 - i64::from(nth));
    json!({"serviceAccountName": "healer", "target": target, "decision": {
        "id": format!("{nth:032x}"), "time": time.to_string(), "rule": {"name": "gone"}, "mode": "Enforce",
        "matched": {"object": target}, "definition": format!("gone-{nth}"),
    }})
}

/// A definition, of fother's own or somebody else's.
pub async fn definition(scenario: &Scenario, name: &str, manager: &str) {
    let labels = json!({"app.kubernetes.io/managed-by": manager});
    let metadata = json!({"name": name, "labels": labels});
    scenario
        .stage
        .create::<ControllerRevision>(json!({"metadata": metadata, "revision": 1, "data": {}}))
        .await;
}

/// The definitions that there are.
pub async fn definitions(scenario: &Scenario) -> BTreeSet<String> {
    let found = scenario.stage.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap().items;
    found.into_iter().filter_map(|revision| revision.metadata.name).collect()
}

async fn names(scenario: &Scenario) -> Vec<String> {
    let found = scenario.stage.api::<Execution>().list(&ListParams::default()).await.unwrap().items;
    let mut names: Vec<_> = found.into_iter().filter_map(|execution| execution.metadata.name).collect();
    names.retain(|name| !name.starts_with("canary"));
    names.sort();
    names
}

#[tokio::test]
async fn what_is_old_goes_and_nothing_else() {
    let Some(scenario) = Scenario::alone("sweep").await else { return };
    let closed = json!({"episodeClosedAt": Timestamp::now().to_string()});
    ended(&scenario, "by-hand-old", by_hand(), OLD, json!({})).await;
    ended(&scenario, "by-hand-recent", by_hand(), RECENT, json!({})).await;
    ended(&scenario, "first", decided("ark", 1), OLD, closed.clone()).await;
    // The Rule is gone: what it left open stays for a week.
    ended(&scenario, "second-open", decided("ark", 2), RECENT, json!({})).await;
    ended(&scenario, "third", decided("ark", 3), OLD, closed.clone()).await;
    definition(&scenario, "of-a-decision-to-come", "fother").await;
    let _controller = scenario.controller().await;
    eventually("what is old is gone", DEADLINE, || async {
        let left = names(&scenario).await;
        if left == ["by-hand-recent", "second-open"] { Ok(()) } else { Err(left.join(" ")) }
    })
    .await;
    scenario.controller_catches_up().await;
    assert_eq!(names(&scenario).await, ["by-hand-recent", "second-open"]);
    assert!(definitions(&scenario).await.contains("of-a-decision-to-come"), "it is young");
}

/// On an API server that dates everything an hour back.
pub async fn a_definition_that_nothing_names_goes_when_it_is_old(scenario: &Scenario) {
    for (name, manager) in [("needed", "fother"), ("unneeded", "fother"), ("of-a-daemon-set", "somebody")] {
        definition(scenario, name, manager).await;
    }
    ended(scenario, "by-hand", by_hand(), RECENT, json!({"definition": "needed"})).await;
    let _controller = scenario.controller().await;
    eventually("what nothing needs is gone", DEADLINE, || async {
        let left = definitions(scenario).await;
        if left.contains("unneeded") { Err(format!("{left:?}")) } else { Ok(()) }
    })
    .await;
    scenario.controller_catches_up().await;
    let left = definitions(scenario).await;
    assert!(left.contains("needed") && left.contains("of-a-daemon-set"), "{left:?}");
}
