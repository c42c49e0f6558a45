//! A Rule for what no other Rule takes of what a Webhook receives.

use fother::api::Rule;
use serde_json::{Value, json};

use super::stage::{Running, Scene, UNMATCHED, alert, at, notification};
use crate::support::wait::{DEADLINE, eventually};

async fn start(scene: &Scene, identity: &str, rules: &[&str]) -> Running {
    let running = scene.start(identity).await;
    for rule in rules {
        scene.ready("Rule", rule).await;
    }
    scene.ready("Webhook", "ops").await;
    running
}

fn of_size(id: &str, size: u32) -> Value {
    json!({"id": id, "kind": "report", "size": size, "disk": format!("disk-{id}")})
}

async fn report(running: &Running, id: &str, size: u32) {
    assert_eq!(running.post("ops", &of_size(id, size)).await.status, 202);
}

/// A Rule over events about disks.
async fn about_events(scene: &Scene, name: &str, changes: Value) {
    let mut rule = json!({"trigger": {"webhook": {"name": "ops"}}, "target": {"ref": {"name": "${{ event.data.disk }}"}},
        "ladder": [{"run": "mark", "with": {"by": name}}]});
    json_patch::merge(&mut rule, &changes);
    scene.rule(name, rule).await;
}

#[tokio::test]
async fn an_event_that_no_other_rule_matches_is_for_the_rule_for_such() {
    let scene = Scene::new().await;
    scene.webhook("ops", json!({"generic": {"id": "body.id", "type": "body.kind"}})).await;
    for id in 1..=4 {
        scene.disk(&format!("disk-{id}")).await;
    }
    about_events(&scene, "large", json!({"when": "event.data.size > 5"})).await;
    about_events(&scene, "watch", json!({"when": "event.data.size == 3", "mode": "Observe"})).await;
    about_events(&scene, "broken", json!({"when": "event.data.size =="})).await;
    about_events(&scene, "rest", json!({"trigger": {"webhook": {"unmatched": true}}})).await;
    let rules = ["large", "watch", "rest"];
    let running = start(&scene, "one", &rules).await;
    scene.aged("rest").await;
    report(&running, "1", 9).await;
    report(&running, "2", 1).await;
    report(&running, "3", 3).await;
    let first =
        ["1 large Fired", "2 large NotMatched", "2 rest Fired", "3 large NotMatched", "3 watch Fired"];
    scene.came_to(&first).await;
    running.stop().await;

    // Whoever decides about it next, and who wants it by then, changes nothing of an event that was received.
    scene.delete_rule("large").await;
    let running = start(&scene, "two", &rules[1..]).await;
    for (id, size) in [("1", 9), ("2", 1), ("3", 3)] {
        let again = running.post("ops", &of_size(id, size)).await;
        assert_eq!(again.status, 200, "{id}: {again:?}");
    }
    report(&running, "4", 9).await;
    scene.came_to(&[&first[..], &["4 rest Fired"]].concat()).await;
    running.stop().await;
}

async fn say(running: &Running, alerts: &[Value]) {
    let answer = running.post("ops", &notification(alerts)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

fn of_disks(disks: &str) -> Value {
    let trigger = json!({"alert": {"webhook": "ops"}});
    json!({"trigger": trigger, "mode": "Observe", "when": format!("alert.labels.disk in [{disks}]")})
}

fn rest() -> Value {
    json!({"trigger": {"alert": {"webhook": "ops", "unmatched": true}}})
}

#[tokio::test]
async fn an_alert_that_no_other_rule_matches_stays_with_the_rule_for_such() {
    let scene = Scene::new().await;
    scene.webhook("ops", json!({"alertmanager": {}})).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    scene.rule("known", of_disks("'sda'")).await;
    scene.rule("rest", rest()).await;
    let running = start(&scene, "one", &["known", "rest"]).await;
    let starts = at(-5);
    let fires = [alert("sda", &starts, None), alert("sdb", &starts, None)];
    say(&running, &fires).await;
    let is = |disk: &str, what: &str| format!("f-{disk}/{starts}/firing {what}");
    let first = [is("sda", "known Fired"), is("sdb", "rest Fired")];
    scene.came_to(&[&first[0], &first[1]]).await;
    running.stop().await;

    let running = start(&scene, "two", &["known", "rest"]).await;
    assert_eq!(running.post("ops", &notification(&fires)).await.status, 200, "it is known");
    scene.patch::<Rule>("known", json!({"spec": {"when": of_disks("'sda', 'sdb'")["when"]}})).await;
    let taken_up = is("sdb", "known Fired");
    scene.came_to(&[&first[0], &taken_up, &first[1]]).await;
    let again = running.post("ops", &notification(&fires)).await;
    assert!(again.status < 300, "whoever wants it by now: {again:?}");
    let open = |rule: &'static str| {
        let scene = &scene;
        async move {
            let found = scene.executions().await;
            let of_rule = found.iter().filter(|execution| execution.rule() == Some(rule));
            of_rule.filter(|execution| !execution.is_finished()).count()
        }
    };
    assert_eq!(open("rest").await, 1, "what it was given is its own");
    say(&running, &[alert("sdb", &starts, Some(&at(1)))]).await;
    eventually("it has ended with the alert", DEADLINE, || async {
        if open("rest").await == 0 { Ok(()) } else { Err("not yet") }
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_rule_for_what_no_other_takes_takes_up_what_fires_and_is_nobodys() {
    let scene = Scene::new().await;
    scene.webhook("ops", json!({"alertmanager": {}})).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    scene.rule("known", of_disks("'sdb', 'sdx'")).await;
    let running = start(&scene, "one", &["known"]).await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None), alert("sdb", &starts, None)]).await;
    let is = |disk: &str, what: &str| format!("f-{disk}/{starts}/firing {what}");
    let first = [is("sda", &format!(" NotMatched {UNMATCHED}")), is("sdb", "known Fired")];
    scene.came_to(&[&first[0], &first[1]]).await;
    scene.rule("rest", rest()).await;
    scene.came_to(&[&first[0], &is("sda", "rest Fired"), &first[1]]).await;
    running.stop().await;
}
