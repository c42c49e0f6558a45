//! Rules about creation and deletion: each is answered once, by what the API server tells of it.

use fother::api::Execution;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::scenario::{CAULK, Scenario};
use crate::support::proxy::Order;
use crate::support::wait::{DEADLINE, eventually};

/// What a rule has answered: what happened, and to which object.
async fn answered(scenario: &Scenario, expected: &[&str]) -> Vec<Execution> {
    eventually(&format!("{expected:?} is answered"), DEADLINE, || async {
        let all = scenario.executions("rafts").await;
        let of = |execution: &Execution| {
            let decision = execution.spec.decision.clone()?;
            Some(format!("{} {}", decision.event?.event_type, decision.matched.object.name))
        };
        let mut names: Vec<_> = all.iter().filter_map(of).collect();
        names.sort();
        let is_over = all.iter().all(Execution::is_finished);
        if names == expected && is_over { Ok(all) } else { Err(format!("{all:#?}")) }
    })
    .await
}

async fn raft(scenario: &Scenario, name: &str) {
    let labels = json!({"kind": "raft"});
    let finalizers = json!(["example.com/anchor"]);
    let raft = json!({"metadata": {"name": name, "labels": labels, "finalizers": finalizers}});
    scenario.stage.create::<ConfigMap>(raft).await;
}

async fn change(scenario: &Scenario, name: &str, metadata: serde_json::Value) {
    let (api, patch) = (scenario.stage.api::<ConfigMap>(), json!({"metadata": metadata}));
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// A rule about rafts that come and go, where one is there already. Each moment is a target of its own, so that none waits for
/// another.
async fn early(scenario: &Scenario) {
    raft(scenario, "early").await;
    let resource = json!({"apiVersion": "v1", "kind": "ConfigMap", "lifecycle": ["Created", "Deleted"],
        "labelSelector": {"matchLabels": {"kind": "raft"}}});
    let changes = json!({"mode": "Observe", "trigger": {"resource": resource}, "when": null,
        "target": {"key": "event.type + '-' + object.metadata.name"}, "ladder": [{"run": CAULK}]});
    scenario.rule("rafts", changes).await;
}

async fn mark(scenario: &Scenario, name: &str) {
    scenario.stage.api::<ConfigMap>().delete(name, &DeleteParams::default()).await.unwrap();
}

pub async fn what_comes_and_goes_is_answered_once(scenario: &Scenario) {
    early(scenario).await;
    scenario.watching("rafts").await;
    raft(scenario, "ark").await;
    answered(scenario, &["Created ark"]).await;
    mark(scenario, "early").await;
    change(scenario, "ark", json!({"labels": {"kind": "ship"}})).await;
    scenario.controller_catches_up().await;
    answered(scenario, &["Created ark"]).await;
    change(scenario, "early", json!({"finalizers": null})).await;
    change(scenario, "ark", json!({"labels": {"kind": "raft"}})).await;
    answered(scenario, &["Created ark", "Deleted early"]).await;
    scenario.controller_catches_up().await;
    answered(scenario, &["Created ark", "Deleted early"]).await;
}

/// What nobody told is known by the list that follows, and what was created while nobody watched by its time.
#[tokio::test]
async fn what_comes_and_goes_in_a_gap_is_answered_as_far_as_it_can_be_known() {
    let Some(scenario) = Scenario::alone("comes-and-goes").await else { return };
    early(&scenario).await;
    let proxy = scenario.proxy().await;
    let mut controller = scenario.controller_through(&proxy).await;
    scenario.watching("rafts").await;
    scenario.controller_catches_up().await;
    let boats = format!("/namespaces/{}/configmaps.*watch=", scenario.stage.namespace);
    assert_eq!(proxy.order_watches(&boats, Order::Freeze), 1);
    raft(&scenario, "ark").await;
    mark(&scenario, "early").await;
    change(&scenario, "early", json!({"finalizers": null})).await;
    assert_eq!(proxy.order_watches(&boats, Order::Expire), 1);
    let mut all = vec!["Created ark", "Deleted early"];
    answered(&scenario, &all).await;
    controller.kill();
    raft(&scenario, "brig").await;
    mark(&scenario, "ark").await;
    change(&scenario, "ark", json!({"finalizers": null})).await;
    controller.start_again();
    all.insert(1, "Created brig");
    answered(&scenario, &all).await;
    eventually("it says what it cannot know", DEADLINE, || async {
        let said = scenario.condition("rafts", "Ready", "True").await.message;
        if said.ends_with("nobody knows what was deleted meanwhile") { Ok(()) } else { Err(said) }
    })
    .await;
    scenario.controller_catches_up().await;
    answered(&scenario, &all).await;
}
