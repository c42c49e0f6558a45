//! What Rules make of time, for what Webhooks receive.

use fother::api::Rule;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::stage::{Running, Scene, alert, at, notification};
use crate::support::wait::{DEADLINE, eventually};

/// A Rule over events of disks, each of which happens at this moment.
async fn scene(changes: Value) -> (Scene, Running) {
    let scene = Scene::new().await;
    let mapping = json!({"id": "body.id", "type": "body.kind", "time": "timestamp(body.at)"});
    scene.webhook("disks", json!({"generic": mapping})).await;
    let mut rule = json!({"trigger": {"webhook": {"name": "disks"}},
        "target": {"ref": {"name": "${{ event.data.disk }}"}},
        "ladder": [{"run": "mark", "with": {"by": "${{ event.id }}"}}]});
    json_patch::merge(&mut rule, &changes);
    scene.rule("full", rule).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    let running = start(&scene, "one").await;
    scene.aged("full").await;
    (scene, running)
}

async fn start(scene: &Scene, identity: &str) -> Running {
    let running = scene.start(identity).await;
    scene.ready("Rule", "full").await;
    scene.ready("Webhook", "disks").await;
    running
}

async fn happens(running: &Running, id: &str, kind: &str, disk: &str) {
    let event = json!({"id": id, "kind": kind, "at": at(5), "disk": disk});
    assert_eq!(running.post("disks", &event).await.status, 202);
}

#[tokio::test]
async fn enough_events_of_a_group_act_once_whoever_leads_by_then() {
    let (scene, running) = scene(json!({
        "correlate": {"groupBy": "event.data.disk", "within": "10m", "count": 3},
        "ladder": [{"run": "mark", "with": {"by": "${{ events.map(e, e.data.disk).join('+') }}"}}]}))
    .await;
    for (id, disk) in [("1", "sda"), ("2", "sdb"), ("3", "sda")] {
        happens(&running, id, "error", disk).await;
    }
    let waits =
        ["1 full Held waits for others", "2 full Held waits for others", "3 full Held waits for others"];
    scene.came_to(&waits).await;
    running.stop().await;
    let running = start(&scene, "two").await;
    happens(&running, "4", "error", "sda").await;
    scene.came_to(&["1 full Fired", waits[1], "3 full Fired", "4 full Fired"]).await;
    let found = scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("sda+sda+sda"));
    let decision = found[0].spec.decision.as_ref().unwrap();
    assert_eq!(decision.captured.len(), 3, "{decision:#?}");
    running.stop().await;
    let running = start(&scene, "three").await;
    happens(&running, "5", "error", "sda").await;
    scene
        .came_to(&["1 full Fired", waits[1], "3 full Fired", "4 full Fired", "5 full Held waits for others"])
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_window_that_ends_lets_go_of_what_waited() {
    let members = json!([{"name": "down", "when": "event.type == 'down'"}, {"name": "up", "when": "event.type == 'up'"}]);
    let (scene, running) = scene(json!({
        "correlate": {"groupBy": "event.data.disk", "within": "1s", "sequence": members}}))
    .await;
    happens(&running, "1", "down", "sda").await;
    happens(&running, "2", "left", "sda").await;
    let ended = "1 full Suppressed its window ended without the others";
    scene.came_to(&[ended, "2 full NotMatched no member of the pattern"]).await;
    happens(&running, "3", "up", "sda").await;
    scene
        .came_to(&[
            ended,
            "2 full NotMatched no member of the pattern",
            "3 full Suppressed its window ended without the others",
        ])
        .await;
    assert_eq!(scene.executions().await.len(), 0);
    running.stop().await;
}

/// The members of a pattern: what goes down, and what comes up.
fn down_and_up() -> Value {
    json!([{"name": "down", "when": "event.type == 'down'"}, {"name": "up", "when": "event.type == 'up'"}])
}

#[tokio::test]
async fn an_event_of_any_member_acts_by_itself() {
    let (scene, running) = scene(json!({
        "correlate": {"groupBy": "event.data.disk", "within": "10m", "any": down_and_up()}}))
    .await;
    happens(&running, "1", "left", "sda").await;
    happens(&running, "2", "up", "sda").await;
    happens(&running, "3", "down", "sdb").await;
    scene.came_to(&["1 full NotMatched no member of the pattern", "2 full Fired", "3 full Fired"]).await;
    scene.ended(&["Completed", "Completed"]).await;
    assert_eq!(
        (scene.mark_of("sda").await.as_deref(), scene.mark_of("sdb").await.as_deref()),
        (Some("2"), Some("3"))
    );
    running.stop().await;
}

#[tokio::test]
async fn what_happens_in_order_acts_and_what_does_not_waits() {
    let (scene, running) = scene(json!({
        "correlate": {"groupBy": "event.data.disk", "within": "10m", "sequence": down_and_up()},
        "ladder": [{"run": "mark", "with": {"by": "${{ events.map(e, e.type).join('+') }}"}}]}))
    .await;
    happens(&running, "1", "up", "sda").await;
    happens(&running, "2", "down", "sda").await;
    happens(&running, "3", "up", "sdb").await;
    let waits = |id: &str| format!("{id} full Held waits for others");
    scene.came_to(&[&waits("1"), &waits("2"), &waits("3")]).await;
    happens(&running, "4", "up", "sda").await;
    scene.came_to(&[&waits("1"), "2 full Fired", &waits("3"), "4 full Fired"]).await;
    scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("down+up"));
    running.stop().await;
}

async fn of_a_job(running: &Running, id: &str, kind: &str, job: Value) {
    let event = json!({"id": id, "kind": kind, "at": at(5), "disk": "sda", "job": job});
    assert_eq!(running.post("disks", &event).await.status, 202);
}

#[tokio::test]
async fn events_go_together_by_what_an_earlier_one_was_whoever_leads_by_then() {
    let members = json!([{"name": "began", "when": "event.type == 'began'"},
        {"name": "failed", "when": "event.type == 'failed'", "given": "event.data.job == captured.began.data.job"}]);
    let (scene, running) = scene(json!({"correlate": {"within": "10m", "sequence": members},
        "ladder": [{"run": "mark", "with": {"by": "${{ captured.began.id }}"}}]}))
    .await;
    for (id, job) in [("1", "x"), ("2", "y"), ("3", "z")] {
        of_a_job(&running, id, "began", json!(job)).await;
    }
    of_a_job(&running, "4", "failed", json!("w")).await;
    let waits = |id: &str| format!("{id} full Held waits for others");
    scene.came_to(&[&waits("1"), &waits("2"), &waits("3"), &waits("4")]).await;
    running.stop().await;
    let running = start(&scene, "two").await;
    of_a_job(&running, "5", "failed", json!("y")).await;
    scene.came_to(&[&waits("1"), "2 full Fired", &waits("3"), &waits("4"), "5 full Fired"]).await;
    scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("disks 2"));
    running.stop().await;
    let running = start(&scene, "three").await;
    of_a_job(&running, "6", "failed", json!("y")).await;
    let all = [&waits("1"), "2 full Fired", &waits("3"), &waits("4"), "5 full Fired", &waits("6")];
    scene.came_to(&all).await;
    assert_eq!(scene.executions().await.len(), 1, "what was used is not used again");
    running.stop().await;
}

#[tokio::test]
async fn what_an_event_has_to_do_with_another_and_cannot_be_judged_is_said_on_the_rule() {
    let members = json!([{"name": "began", "when": "event.type == 'began'"},
        {"name": "failed", "when": "event.type == 'failed'", "given": "event.data.job > captured.began.data.job"}]);
    let (scene, running) = scene(json!({"correlate": {"within": "10m", "sequence": members}})).await;
    of_a_job(&running, "1", "began", json!(7)).await;
    of_a_job(&running, "2", "failed", json!("x")).await;
    let said = "watching; not decided: 2: given of \"failed\": ";
    eventually("it is said", DEADLINE, || async {
        let rule = scene.api::<Rule>().get("full").await.map_err(|error| error.to_string())?;
        let conditions = rule.status.map(|status| status.conditions).unwrap_or_default();
        let is_said = conditions.iter().any(|condition| condition.message.contains(said));
        if is_said { Ok(()) } else { Err(format!("{conditions:#?}")) }
    })
    .await;
    of_a_job(&running, "3", "failed", json!(8)).await;
    scene.came_to(&["1 full Fired", "2 full Held waits for others", "3 full Fired"]).await;
    running.stop().await;
}

/// Nobody tells of it a second time: the Rule looks at it again by itself.
#[tokio::test]
async fn an_alert_is_answered_at_the_moment_at_which_time_makes_it_match() {
    let scene = Scene::new().await;
    scene.webhook("disks", json!({"alertmanager": {}})).await;
    let when = "now > timestamp(alert.startsAt) + duration('4s')";
    scene.rule("full", json!({"trigger": {"alert": {"webhook": "disks"}}, "when": when})).await;
    scene.disk("sda").await;
    let running = start(&scene, "one").await;
    let starts = at(0);
    let answer = running.post("disks", &notification(&[alert("sda", &starts, None)])).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    scene.came_to(&[&format!("f-sda/{starts}/firing full Fired")]).await;
    let marked = scene.executions().await.remove(0).creation_timestamp().unwrap().0;
    let after = marked.duration_since(starts.parse().unwrap()).as_secs();
    assert!((3..15).contains(&after), "{after} s after it began");
    running.stop().await;
}

#[tokio::test]
async fn what_stays_away_is_noticed_when_the_window_ends() {
    let absent = json!({"after": {"name": "began", "when": "event.type == 'began'"},
        "expected": {"name": "ended", "when": "event.type == 'ended'"}});
    let (scene, running) = scene(json!({
        "correlate": {"groupBy": "event.data.disk", "within": "3s", "absent": absent}}))
    .await;
    happens(&running, "1", "began", "sda").await;
    happens(&running, "2", "began", "sdb").await;
    happens(&running, "3", "ended", "sdb").await;
    let found = scene.ended(&["Completed"]).await;
    assert_eq!(found[0].spec.target.as_ref().unwrap().name, "sda");
    let over = "its window ended without the others";
    scene
        .came_to(&[
            "1 full Fired",
            &format!("2 full Suppressed {over}"),
            &format!("3 full Suppressed {over}"),
        ])
        .await;
    running.stop().await;
}

#[tokio::test]
async fn of_many_events_the_last_is_acted_on() {
    let (scene, running) = scene(json!({"limits": {"once": {"take": "Last", "within": "3s"}}})).await;
    for id in ["1", "2", "3"] {
        happens(&running, id, "error", "sda").await;
    }
    scene.came_to(&["1 full Suppressed Superseded", "2 full Suppressed Superseded", "3 full Fired"]).await;
    scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("3"));
    running.stop().await;
}

fn paused() -> Value {
    json!([{"if": "target.metadata.annotations['example.com/paused'] == 'true'", "reason": "Paused"}])
}

fn pause(is_paused: bool) -> Value {
    json!({"metadata": {"annotations": {"example.com/paused": is_paused.to_string()}}})
}

#[tokio::test]
async fn an_event_that_something_speaks_against_is_dropped() {
    let (scene, running) = scene(json!({"unless": paused()})).await;
    scene.patch::<ConfigMap>("sda", pause(true)).await;
    happens(&running, "1", "error", "sda").await;
    happens(&running, "2", "error", "sdb").await;
    scene.came_to(&["1 full Suppressed Unless Paused", "2 full Fired"]).await;
    scene.patch::<ConfigMap>("sda", pause(false)).await;
    happens(&running, "3", "error", "sda").await;
    scene.came_to(&["1 full Suppressed Unless Paused", "2 full Fired", "3 full Fired"]).await;
    running.stop().await;
}

#[tokio::test]
async fn an_alert_that_something_speaks_against_waits() {
    let scene = Scene::new().await;
    scene.webhook("disks", json!({"alertmanager": {}})).await;
    scene
        .rule(
            "full",
            json!({"trigger": {"alert": {"webhook": "disks"}}, "unless": paused(),
            "limits": {"perRule": "2/1h"}}),
        )
        .await;
    for disk in ["sda", "sdb", "sdc"] {
        scene.disk(disk).await;
    }
    let running = start(&scene, "one").await;
    scene.patch::<ConfigMap>("sda", pause(true)).await;
    let starts = at(-5);
    let say = async |disk: &str| {
        let answer = running.post("disks", &notification(&[alert(disk, &starts, None)])).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    let is = |disk: &str, what: &str| format!("f-{disk}/{starts}/firing full {what}");
    say("sda").await;
    scene.came_to(&[&is("sda", "Held Unless Paused")]).await;
    say("sdb").await;
    scene.came_to(&[&is("sda", "Held Unless Paused"), &is("sdb", "Fired")]).await;
    scene.patch::<ConfigMap>("sda", pause(false)).await;
    scene.came_to(&[&is("sda", "Fired"), &is("sdb", "Fired")]).await;
    say("sdc").await;
    scene.came_to(&[&is("sda", "Fired"), &is("sdb", "Fired"), &is("sdc", "Held Rate")]).await;
    running.stop().await;
}

/// What is `expected` of a disk within a time.
fn ended_within(within: &str) -> Value {
    let absent = json!({"after": {"name": "began", "when": "event.type == 'began'"},
        "expected": {"name": "ended", "when": "event.type == 'ended'"}});
    json!({"correlate": {"groupBy": "event.data.disk", "within": within, "absent": absent}})
}

/// That a disk's work has ended, as another replica keeps it that received it at this moment.
async fn ended_elsewhere(scene: &Scene, received_at: Timestamp) {
    let event = json!({"id": "2", "source": "disks", "type": "ended", "time": received_at.to_string(), "data": {"disk": "sda"}});
    let batch = json!({"metadata": {"labels": {"fother.dev/webhook": "disks"}},
        "spec": {"webhook": "disks", "receivedAt": received_at.to_string(),
            "events": [{"rules": ["full"], "event": event}]}});
    scene.own("fother.dev/v1alpha1", "EventBatch", "elsewhere", batch).await;
}

async fn nothing_stayed_away(scene: &Scene) {
    let over = "full Suppressed its window ended without the others";
    scene.came_to(&[&format!("1 {over}"), &format!("2 {over}")]).await;
    assert_eq!(scene.executions().await.len(), 0);
}

/// Another replica has told the sender that it is accepted; the watch of this one does not know yet.
#[tokio::test]
async fn what_the_watch_has_not_brought_has_come_all_the_same() {
    let (scene, running) = scene(ended_within("4s")).await;
    running.stop().await;
    let running = scene.start_late("two", "eventbatches").await;
    eventually("it receives", DEADLINE, || async {
        let answer = running.post("disks", &json!({})).await;
        if answer.status == 400 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    happens(&running, "1", "began", "sda").await;
    // Without news the Rule is looked at when it changes itself.
    scene.patch::<Rule>("full", json!({"spec": {"description": "looked at"}})).await;
    scene.came_to(&["1 full Held waits for others"]).await;
    ended_elsewhere(&scene, Timestamp::now()).await;
    nothing_stayed_away(&scene).await;
    running.stop().await;
}

/// It was received in time, and the API server took a while to keep it.
#[tokio::test]
async fn what_is_under_way_when_a_window_ends_has_come_in_time() {
    let (mut scene, running) = scene(ended_within("1s")).await;
    running.stop().await;
    scene.under_way = SignedDuration::from_secs(8);
    let running = start(&scene, "two").await;
    eventually("it receives", DEADLINE, || async {
        let answer = running.post("disks", &json!({})).await;
        if answer.status == 400 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    happens(&running, "1", "began", "sda").await;
    scene.came_to(&["1 full Held waits for others"]).await;
    let began = scene.batches().await[0].spec.received_at.clone().unwrap().0;
    eventually("the window is over", DEADLINE, || async {
        let since = Timestamp::now().duration_since(began);
        if since.as_secs() >= 3 { Ok(()) } else { Err(format!("{since:?}")) }
    })
    .await;
    scene.came_to(&["1 full Held waits for others"]).await;
    ended_elsewhere(&scene, began + SignedDuration::from_millis(500)).await;
    nothing_stayed_away(&scene).await;
    running.stop().await;
}
