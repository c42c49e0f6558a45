//! Events: each is decided once.

use serde_json::json;

use super::stage::{Scene, at};

#[tokio::test]
async fn an_event_is_decided_once() {
    let scene = Scene::new().await;
    scene
        .webhook(
            "disks",
            json!({"generic": {"id": "body.id", "type": "body.kind", "time": "timestamp(body.at)"}}),
        )
        .await;
    let rule = json!({"trigger": {"webhook": {"name": "disks", "types": ["full"]}}, "when": "event.data.percent > 90",
        "target": {"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "${{ event.data.disk }}"}},
        "ladder": [{"run": "mark", "with": {"by": "${{ event.id }}"}, "verify": null}]});
    scene.rule("full", rule).await;
    scene.disk("sda").await;
    let running = scene.start("one").await;
    scene.ready("Rule", "full").await;
    scene.ready("Webhook", "disks").await;
    let event = |id: &str, kind: &str, percent: i64| json!({"id": id, "kind": kind, "at": at(5), "disk": "sda", "percent": percent});
    assert_eq!(running.post("disks", &event("1", "full", 95)).await.status, 202);
    scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("1"));
    let again = running.post("disks", &event("1", "full", 95)).await;
    assert!(again.status == 200 && again.text.starts_with("duplicate of execution full-"), "{again:?}");
    let other = running.post("disks", &event("2", "empty", 95)).await;
    assert_eq!((other.status, other.text.as_str()), (200, "no Rule wants any of it"));
    assert_eq!(running.post("disks", &event("3", "full", 50)).await.status, 202);
    scene.came_to(&["1 full Fired", "3 full NotMatched"]).await;
    running.stop().await;
}
