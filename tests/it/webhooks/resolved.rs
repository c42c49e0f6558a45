//! Rules about alerts that are resolved: each end is acted on once, unless the alert fires again by then.

use fother::api::{EventBatch, Execution, Rule};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::stage::{Running, Scene, alert, at, count, notification, say, until_taken};
use crate::support::wait::{DEADLINE, eventually};

/// A Rule that marks disks whose alert is resolved.
async fn scene(mut changes: Value) -> Scene {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    changes["trigger"] = json!({"alert": {"webhook": "am", "names": ["DiskFull"], "state": "Resolved"}});
    scene.rule("undo", changes).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    scene
}

async fn start(scene: &Scene, identity: &str) -> Running {
    let running = scene.start(identity).await;
    scene.ready("Rule", "undo").await;
    scene.ready("Webhook", "am").await;
    scene.aged("undo").await;
    running
}

fn name(execution: &Execution) -> String {
    execution.metadata.name.clone().unwrap()
}

#[tokio::test]
async fn an_end_has_one_execution_whoever_tells_of_it_and_however_often() {
    let scene = scene(json!({})).await;
    let running = start(&scene, "one").await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    scene.came_to(&[&format!("f-sda/{starts}/firing undo Held it is not resolved yet")]).await;
    assert_eq!(scene.executions().await.len(), 0);
    let end = notification(&[alert("sda", &starts, Some(&at(0)))]);
    assert_eq!(running.post("am", &end).await.status, 202);
    let found = scene.ended(&["TargetRecovered"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("sda"));
    let (fired, over) =
        (format!("f-sda/{starts}/resolved undo Fired"), format!("f-sda/{starts}/firing undo Resolved"));
    scene.came_to(&[&over, &fired]).await;
    let event = found[0].spec.decision.as_ref().and_then(|decision| decision.event.clone()).unwrap();
    assert_eq!((event.event_type.as_str(), &event.data.0["status"]), ("alert.resolved", &json!("resolved")));
    // The other of a pair has another idea of when it was.
    let known = format!("duplicate of execution {}", name(&found[0]));
    for body in [&end, &notification(&[alert("sda", &starts, Some(&at(1)))])] {
        let answer = running.post("am", body).await;
        assert_eq!((answer.status, answer.text), (200, known.clone()));
    }
    running.stop().await;
    let next = start(&scene, "two").await;
    assert_eq!(next.post("am", &end).await.text, known);
    // What it was known by is gone: it is decided again, and is the same.
    let batches: Api<EventBatch> = scene.api();
    for batch in scene.batches().await {
        batches.delete(&batch.name_any(), &DeleteParams::default()).await.unwrap();
    }
    until_taken(&next, &end).await;
    scene.came_to(&[&fired]).await;
    assert_eq!(name(&count(&scene, 1).await[0]), name(&found[0]));
    // What fires anew and is resolved is another end.
    let again = at(2);
    say(&next, &[alert("sda", &again, None)]).await;
    say(&next, &[alert("sda", &again, Some(&at(3)))]).await;
    scene.ended(&["TargetRecovered", "TargetRecovered"]).await;
    next.stop().await;
}

#[tokio::test]
async fn an_end_counts_though_nobody_saw_the_alert_fire_but_not_from_before_the_rule() {
    let scene = scene(json!({})).await;
    let running = start(&scene, "one").await;
    let (starts, before) = (at(-5000), at(-3600));
    say(&running, &[alert("sda", &starts, Some(&at(0))), alert("sdb", &starts, Some(&before))]).await;
    scene
        .came_to(&[
            &format!("f-sda/{starts}/resolved undo Fired"),
            &format!("f-sdb/{starts}/resolved undo Suppressed BeforeRule"),
        ])
        .await;
    scene.ended(&["TargetRecovered"]).await;
    running.stop().await;
}

#[tokio::test]
async fn an_end_is_owed_until_nothing_is_in_its_way_or_the_alert_fires_again() {
    let busy = json!([{"if": "target.data.busy == 'yes'", "reason": "Busy"}]);
    let scene = scene(json!({"unless": busy})).await;
    let disk = |busy: &str| json!({"data": {"busy": busy}});
    for name in ["sda", "sdb"] {
        scene.own("v1", "ConfigMap", name, disk("yes")).await;
    }
    let running = start(&scene, "one").await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, Some(&at(0))), alert("sdb", &starts, Some(&at(0)))]).await;
    let held = |disk: &str| format!("f-{disk}/{starts}/resolved undo Held Unless Busy");
    scene.came_to(&[&held("sda"), &held("sdb")]).await;
    let again = at(1);
    say(&running, &[alert("sda", &again, None)]).await;
    let fires = format!("f-sda/{again}/firing undo Held it is not resolved yet");
    let dropped = format!("f-sda/{starts}/resolved undo Suppressed the alert fires again");
    let mut all = [fires, dropped.clone(), held("sdb")];
    all.sort();
    scene.came_to(&all.each_ref().map(String::as_str)).await;
    // Another process knows of what is owed.
    drop(running);
    scene.free_lease().await;
    let next = start(&scene, "two").await;
    for name in ["sda", "sdb"] {
        scene.own("v1", "ConfigMap", name, disk("no")).await;
    }
    let found = scene.ended(&["TargetRecovered"]).await;
    assert_eq!(found[0].spec.target.as_ref().map(|target| target.name.as_str()), Some("sdb"));
    say(&next, &[alert("sda", &again, Some(&at(2)))]).await;
    scene.ended(&["TargetRecovered", "TargetRecovered"]).await;
    next.stop().await;
}

#[tokio::test]
async fn an_end_waits_for_whatever_acts_on_its_target() {
    let scene = scene(json!({})).await;
    let trigger = json!({"alert": {"webhook": "am", "names": ["DiskFull"]}});
    let verified =
        json!([{"run": "mark", "with": {"by": "full"}, "verify": {"within": "5m", "stableFor": "3s"}}]);
    scene.rule("full", json!({"trigger": trigger, "ladder": verified})).await;
    let running = start(&scene, "one").await;
    scene.ready("Rule", "full").await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    count(&scene, 1).await;
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    eventually("it is held", DEADLINE, || async {
        let found = scene.outcomes().await;
        let held = format!("f-sda/{starts}/resolved undo Held TargetBusy");
        if found.contains(&held) { Ok(()) } else { Err(format!("{found:#?}")) }
    })
    .await;
    let found = scene.ended(&["TargetRecovered", "TargetRecovered"]).await;
    let rules: Vec<_> = found.iter().filter_map(|e| Some(&*e.spec.decision.as_ref()?.rule.name)).collect();
    assert_eq!(rules, ["full", "undo"]);
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("sda"));
    running.stop().await;
}

#[tokio::test]
async fn what_fires_again_stops_the_ladder_before_its_next_rung() {
    let first = json!({"run": "mark", "with": {"by": "first"},
        "verify": {"when": "has(target.data.mended)", "within": "5s", "stableFor": "0s"}});
    let scene = scene(json!({"ladder": [first, {"run": "mark", "with": {"by": "second"}}]})).await;
    let running = start(&scene, "one").await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    count(&scene, 1).await;
    say(&running, &[alert("sda", &at(1), None)]).await;
    let found = scene.ended(&["Superseded"]).await;
    let said = found[0].status.iter().flat_map(|status| &status.conditions);
    let said: Vec<_> = said.filter(|said| said.type_ == "Finished").map(|said| &*said.message).collect();
    assert_eq!(said, ["the alert fires again: nothing is to be done about its end"]);
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("first"));
    running.stop().await;
}

#[tokio::test]
async fn an_end_that_was_accepted_is_decided_by_whoever_leads_next() {
    let scene = scene(json!({})).await;
    // Once for the age of the Rule.
    start(&scene, "one").await.stop().await;
    scene.lease_to_nobody().await;
    let running = scene.start("two").await;
    let end = notification(&[alert("sda", &at(-5), Some(&at(0)))]);
    until_taken(&running, &end).await;
    assert_eq!((scene.batches().await.len(), scene.executions().await.len()), (1, 0));
    drop(running);
    scene.free_lease().await;
    let next = scene.start("three").await;
    scene.ended(&["TargetRecovered"]).await;
    assert_eq!(next.post("am", &end).await.status, 200, "and is known to it");
    next.stop().await;
}

/// Nothing shows that what is no state is clear, which closes the episodes of others.
#[tokio::test]
async fn a_rule_that_observes_ends_goes_on_after_a_hundred_records() {
    let by_name = json!({"ref": null, "key": "alert.fingerprint"});
    let scene = scene(json!({"mode": "Observe", "target": by_name, "ladder": [{"run": "look"}]})).await;
    scene.action("look", json!({"collect": {}})).await;
    let running = start(&scene, "one").await;
    let (starts, ends) = (at(-5), at(0));
    let all: Vec<_> = (0..104).map(|number| alert(&format!("d{number}"), &starts, Some(&ends))).collect();
    say(&running, &all).await;
    eventually("all are recorded", DEADLINE, || async {
        let recorded = scene.outcomes().await.iter().filter(|told| told.ends_with(" undo Fired")).count();
        if recorded == all.len() { Ok(()) } else { Err(recorded) }
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_rule_that_is_edited_to_be_about_what_fires_takes_no_end_for_its_remedy() {
    let scene = scene(json!({})).await;
    let running = start(&scene, "one").await;
    say(&running, &[alert("sda", &at(-9), Some(&at(0)))]).await;
    scene.ended(&["TargetRecovered"]).await;
    scene.patch::<Rule>("undo", json!({"spec": {"trigger": {"alert": {"state": null}}}})).await;
    // It has fired since before that end.
    let mut other = alert("sda", &at(-6), None);
    other["fingerprint"] = json!("f-other");
    say(&running, &[other]).await;
    count(&scene, 2).await;
    running.stop().await;
}
