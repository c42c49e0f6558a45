//! Rules about changes: what is told of by `oldObject` is answered once, if it is seen to happen.

use fother::api::Execution;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::scenario::Scenario;
use crate::support::proxy::Order;
use crate::support::wait::{DEADLINE, eventually};

/// A rule that writes down how many of a boat's crew have left, and a boat with three.
async fn crewed(scenario: &Scenario) {
    let values = json!({"example.com/was": "${{ inputs.was }}", "example.com/is": "${{ inputs.is }}"});
    let note = json!({
        "parameters": [{"name": "was"}, {"name": "is"}],
        "kubernetes": {"annotate": {"values": values}},
    });
    scenario.action("note", note).await;
    let with = json!({"was": "${{ oldObject.data.crew }}", "is": "${{ object.data.crew }}"});
    let when = "int(object.data.crew) < int(oldObject.data.crew)";
    let unless = json!([{"if": "oldObject.metadata.labels.kind == 'raft'", "reason": "Raft"}]);
    let changes = json!({"when": when, "unless": unless, "ladder": [{"run": "note", "with": with}]});
    scenario.rule("shrinks", changes).await;
    let boat = json!({"metadata": {"name": "ark"}, "data": {"hull": "tight", "crew": "3"}});
    scenario.stage.create::<ConfigMap>(boat).await;
}

async fn set_crew(scenario: &Scenario, crew: &str) {
    let patch = Patch::Merge(json!({"data": {"crew": crew}}));
    scenario.stage.api::<ConfigMap>().patch("ark", &PatchParams::default(), &patch).await.unwrap();
}

async fn have_ended(scenario: &Scenario, count: usize) -> Vec<Execution> {
    eventually(&format!("{count} Executions have ended"), DEADLINE, || async {
        let found = scenario.executions("shrinks").await;
        let ended = found.iter().filter(|execution| execution.is_finished()).count();
        if (ended, found.len()) == (count, count) { Ok(found) } else { Err(format!("{found:#?}")) }
    })
    .await
}

/// Waits for the next second: times are kept in whole ones, and what happens in that of an end may have come before it.
async fn is_long_over(end: Timestamp) {
    eventually("a second has passed", DEADLINE, || async {
        let since = Timestamp::now().duration_since(end);
        if since > SignedDuration::from_secs(1) { Ok(()) } else { Err(format!("{since:#}")) }
    })
    .await;
}

/// What the rule has written down.
async fn noted(scenario: &Scenario) -> [String; 2] {
    let boat = scenario.stage.api::<ConfigMap>().get("ark").await.unwrap();
    let annotations = boat.metadata.annotations.unwrap_or_default();
    ["was", "is"].map(|name| annotations.get(&format!("example.com/{name}")).cloned().unwrap_or_default())
}

pub async fn a_change_is_answered_once_and_with_what_was(scenario: &Scenario) {
    crewed(scenario).await;
    scenario.watching("shrinks").await;
    // Whoever has seen this boat, has seen the other.
    scenario.controller_catches_up().await;
    set_crew(scenario, "2").await;
    let execution = have_ended(scenario, 1).await.remove(0);
    assert_eq!(execution.reason(), Some("Completed"));
    assert_eq!(noted(scenario).await, ["3", "2"]);
    let event = execution
        .spec
        .decision
        .and_then(|decision| decision.event)
        .expect("what nobody keeps is in the decision");
    assert_eq!((event.source.as_str(), event.event_type.as_str()), ("v1/ConfigMap", "Changed"));

    is_long_over(execution.status.unwrap().finished_at.unwrap().0).await;
    // More crew, and the note itself, are changes that do not match.
    set_crew(scenario, "5").await;
    set_crew(scenario, "4").await;
    have_ended(scenario, 2).await;
    assert_eq!(noted(scenario).await, ["5", "4"]);
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("shrinks").await.len(), 2);
}

#[tokio::test]
async fn a_change_that_nobody_saw_is_not_guessed() {
    let Some(scenario) = Scenario::alone("unseen").await else { return };
    crewed(&scenario).await;
    let mut controller = scenario.controller().await;
    scenario.watching("shrinks").await;
    scenario.controller_catches_up().await;
    controller.kill();
    set_crew(&scenario, "2").await;
    controller.start_again();
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("shrinks").await.len(), 0);
    set_crew(&scenario, "1").await;
    have_ended(&scenario, 1).await;
    assert_eq!(noted(&scenario).await, ["2", "1"]);
}

/// The same while the controller goes on: what it knew of the boat is from before the gap in its watch.
#[tokio::test]
async fn a_change_in_a_gap_of_the_watch_is_not_guessed() {
    let Some(scenario) = Scenario::alone("gap").await else { return };
    crewed(&scenario).await;
    let proxy = scenario.proxy().await;
    let _controller = scenario.controller_through(&proxy).await;
    scenario.watching("shrinks").await;
    scenario.controller_catches_up().await;
    let boats = format!("/namespaces/{}/configmaps.*watch=", scenario.stage.namespace);
    assert_eq!(proxy.order_watches(&boats, Order::Freeze), 1);
    set_crew(&scenario, "2").await;
    assert_eq!(proxy.order_watches(&boats, Order::Expire), 1);
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("shrinks").await.len(), 0);
    set_crew(&scenario, "1").await;
    have_ended(&scenario, 1).await;
    assert_eq!(noted(&scenario).await, ["2", "1"]);
}
