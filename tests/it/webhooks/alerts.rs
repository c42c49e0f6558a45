//! Alerts: each is a state, from its start until it is resolved.

use serde_json::json;

use super::stage::{Scene, alert, at, notification};
use crate::support::wait::{DEADLINE, eventually};

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    scene.rule("full", json!({"trigger": {"alert": {"webhook": "am", "names": ["DiskFull"]}}})).await;
    scene.disk("sda").await;
    scene
}

#[tokio::test]
async fn an_alert_that_fires_is_remedied_and_closed_when_it_is_resolved() {
    let scene = scene().await;
    let running = scene.start("one").await;
    scene.ready("Rule", "full").await;
    scene.ready("Webhook", "am").await;
    let starts = at(-5);
    let firing = notification(&[alert("sda", &starts, None)]);
    assert_eq!(running.post("am", &firing).await.status, 202);
    let marked =
        eventually("the disk is cleaned", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") });
    assert_eq!(marked.await, "sda", "the parameter comes from the alert");
    let found = scene.executions().await;
    let decision = found[0].spec.decision.clone().unwrap();
    assert_eq!(decision.event.unwrap().data.0["labels"]["disk"], "sda");
    assert_eq!(
        decision.since.unwrap().0.as_second(),
        starts.parse::<k8s_openapi::jiff::Timestamp>().unwrap().as_second()
    );
    assert_eq!(
        found[0].reason(),
        Some("Verifying").or(found[0].reason()),
        "it waits until the alert is resolved"
    );
    let again = running.post("am", &firing).await;
    assert_eq!(
        (again.status, again.text.as_str()),
        (200, format!("duplicate of execution {}", found[0].metadata.name.as_deref().unwrap()).as_str())
    );
    running.post("am", &notification(&[alert("sda", &starts, Some(&at(0)))])).await;
    let ended = scene.ended(&["TargetRecovered"]).await;
    eventually("the episode is closed", DEADLINE, || async {
        let status = scene.executions().await[0].status.clone().unwrap();
        status.episode_closed_at.ok_or("open")
    })
    .await;
    running.post("am", &firing).await;
    let newer = alert("sda", &at(2), None);
    assert_eq!(running.post("am", &notification(&[newer])).await.status, 202, "the next episode");
    eventually("the second Execution", DEADLINE, || async {
        let found = scene.executions().await;
        (found.len() == 2).then_some(()).ok_or(found.len())
    })
    .await;
    assert_eq!(ended.len(), 1);
    running.stop().await;
}
