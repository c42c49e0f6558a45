//! Alerts that mean something only together, through restarts.

use fother::api::{Execution, Rule};
use fother::controller::Standing;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::stage::{Running, Scene, alert, at, notification, say};
use crate::support::wait::{DEADLINE, eventually};

/// A Rule over the alerts of disks that fire together.
async fn scene(changes: Value) -> (Scene, Running) {
    heard_again(changes, SignedDuration::ZERO).await
}

/// The same, where whoever nobody heard has so long to come again.
async fn heard_again(changes: Value, comes_again: SignedDuration) -> (Scene, Running) {
    let mut scene = Scene::new().await;
    scene.comes_again = comes_again;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    let mut rule = json!({"trigger": {"alert": {"webhook": "am"}},
        "ladder": [{"with": {"by": "${{ events.map(e, e.data.labels.alertname).join('+') }}"}, "run": "mark",
            "verify": {"within": "5m", "stableFor": "0s"}}]});
    json_patch::merge(&mut rule, &changes);
    scene.rule("full", rule).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    let running = scene.start_listening("one").await;
    (scene, running)
}

/// An alert of a name about a disk, which fires, or is resolved.
struct Told {
    name: &'static str,
    disk: &'static str,
    starts: String,
}

fn told(name: &'static str, disk: &'static str, seconds: i64) -> Told {
    Told { name, disk, starts: at(seconds) }
}

impl Told {
    fn alert(&self, ends: Option<&str>) -> Value {
        let mut alert = alert(self.disk, &self.starts, ends);
        alert["fingerprint"] = format!("{}-{}", self.name, self.disk).into();
        alert["labels"]["alertname"] = self.name.into();
        alert
    }

    async fn fires(&self, running: &Running) {
        say(running, &[self.alert(None)]).await;
    }

    async fn is_resolved(&self, running: &Running) {
        say(running, &[self.alert(Some(&at(0)))]).await;
    }

    fn came_to(&self, what: &str) -> String {
        format!("{}-{}/{}/firing full {what}", self.name, self.disk, self.starts)
    }

    /// That it waits for others.
    fn waits(&self, within: i64) -> String {
        let ends = self.starts.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(within);
        self.came_to(&format!(
            "Held waits for others until {}",
            Timestamp::from_second(ends.as_second()).unwrap()
        ))
    }

    /// That it was resolved, and what became of it by that.
    fn over(&self, what: &str) -> [String; 2] {
        let resolved = format!("{}-{}/{}/resolved full Resolved", self.name, self.disk, self.starts);
        [self.came_to(what), resolved]
    }
}

async fn came_to(scene: &Scene, expected: impl IntoIterator<Item = String>) {
    let mut expected: Vec<_> = expected.into_iter().collect();
    expected.sort();
    scene.came_to(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

fn captured(execution: &Execution) -> Vec<&str> {
    let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
    captured.filter_map(|event| event.data.0["labels"]["alertname"].as_str()).collect()
}

async fn open(scene: &Scene, expected: usize) {
    eventually(&format!("{expected} episodes are open"), DEADLINE, || async {
        let found = scene.executions().await;
        let open = |e: &&Execution| e.status.as_ref().is_none_or(|status| status.episode_closed_at.is_none());
        let count = found.iter().filter(open).count();
        if count == expected { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
}

/// Waits until what is decided from now on is later than the end of an Execution: times are kept in whole seconds.
async fn in_another_second(execution: &Execution) {
    let ended = execution.status.as_ref().unwrap().finished_at.as_ref().unwrap().0;
    eventually("it ended more than a second ago", DEADLINE, || async {
        let age = Timestamp::now().duration_since(ended);
        if age.as_secs() >= 3 { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
}

fn three() -> Value {
    json!({"correlate": {"groupBy": "alert.labels.disk", "within": "10m", "count": 3}})
}

#[tokio::test]
async fn enough_alerts_of_a_group_act_once_whoever_leads_and_until_all_are_resolved() {
    let (scene, running) = scene(three()).await;
    let (slow, full, other) = (told("Slow", "sda", -30), told("Full", "sda", -20), told("Full", "sdb", -15));
    for one in [&slow, &full, &other] {
        one.fires(&running).await;
    }
    let waits = [&slow, &full, &other].map(|one| one.waits(600));
    came_to(&scene, waits.clone()).await;
    running.stop().await;
    let running = scene.start_listening("two").await;
    assert_eq!(running.post("am", &notification(&[full.alert(None)])).await.status, 200, "it is known");
    let errors = told("Errors", "sda", -10);
    errors.fires(&running).await;
    let fired = [&slow, &full, &errors].map(|one| one.came_to("Fired"));
    came_to(&scene, fired.iter().chain([&waits[2]]).cloned()).await;
    let mark =
        eventually("the disk is cleaned", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") });
    assert_eq!(mark.await, "Slow+Full+Errors");
    running.stop().await;
    let running = scene.start_listening("three").await;
    slow.is_resolved(&running).await;
    errors.is_resolved(&running).await;
    let over = [slow.over("Resolved"), errors.over("Resolved")].concat();
    came_to(&scene, over.iter().chain([&fired[1], &waits[2]]).cloned()).await;
    let found = scene.executions().await;
    assert_eq!((found.len(), found[0].is_finished()), (1, false), "one of the three still fires");
    assert_eq!(captured(&found[0]), ["Slow", "Full", "Errors"]);
    full.is_resolved(&running).await;
    scene.ended(&["TargetRecovered"]).await;
    open(&scene, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn an_alert_that_is_resolved_counts_no_more() {
    let (scene, running) = scene(three()).await;
    let all = [told("Slow", "sda", -30), told("Full", "sda", -20), told("Errors", "sda", -10)];
    all[0].fires(&running).await;
    all[1].fires(&running).await;
    came_to(&scene, [all[0].waits(600), all[1].waits(600)]).await;
    all[0].is_resolved(&running).await;
    all[2].fires(&running).await;
    let over = all[0].over("Resolved before its window was over");
    came_to(&scene, over.into_iter().chain([all[1].waits(600), all[2].waits(600)])).await;
    assert_eq!(scene.executions().await.len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_window_that_ends_lets_go_of_the_alerts_that_waited() {
    let mut changes = three();
    changes["correlate"]["within"] = "1s".into();
    let (scene, running) = scene(changes).await;
    let (long_ago, now) = (told("Slow", "sda", -700), told("Full", "sda", 0));
    long_ago.fires(&running).await;
    now.fires(&running).await;
    came_to(&scene, [long_ago.came_to("Suppressed its window ended without the others"), now.waits(1)]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_set_that_something_speaks_against_waits_as_long_as_all_of_it_fires() {
    let named = |name: &str| json!({"name": name.to_lowercase(), "when": format!("alert.labels.alertname == '{name}'")});
    let paused = json!([{"if": "captured.full.data.labels.disk == 'sda' && target.metadata.annotations['example.com/paused'] == 'true'",
        "reason": "Paused"}]);
    let (scene, running) = scene(json!({"unless": paused,
        "correlate": {"groupBy": "alert.labels.disk", "within": "10m", "all": [named("Full"), named("Slow")]}}))
    .await;
    scene
        .own("v1", "ConfigMap", "sda", json!({"metadata": {"annotations": {"example.com/paused": "true"}}}))
        .await;
    let (slow, full, other) =
        (told("Slow", "sda", -30), told("Full", "sda", -20), told("Errors", "sda", -10));
    for one in [&slow, &full, &other] {
        one.fires(&running).await;
    }
    let other = other.came_to("NotMatched no member of the pattern");
    let held = [&slow, &full].map(|one| one.came_to("Held Unless Paused"));
    came_to(&scene, held.iter().chain([&other]).cloned()).await;
    slow.is_resolved(&running).await;
    came_to(&scene, slow.over("Resolved").into_iter().chain([full.waits(600), other.clone()])).await;
    scene
        .own("v1", "ConfigMap", "sda", json!({"metadata": {"annotations": {"example.com/paused": "false"}}}))
        .await;
    let again = told("Slow", "sda", 0);
    again.fires(&running).await;
    let fired = [full.came_to("Fired"), again.came_to("Fired"), other];
    came_to(&scene, slow.over("Resolved").into_iter().chain(fired)).await;
    assert_eq!(captured(&scene.executions().await[0]), ["Full", "Slow"]);
    running.stop().await;
}

#[tokio::test]
async fn alerts_go_together_by_what_others_are() {
    let named = |name: &str| json!({"name": name.to_lowercase(), "when": format!("alert.labels.alertname == '{name}'")});
    let mut slow = named("Slow");
    slow["given"] = "alert.labels.rack == captured.full.data.labels.rack && alert.labels.disk != captured.full.data.labels.disk".into();
    let (scene, running) = scene(json!({"correlate": {"within": "10m", "all": [named("Full"), slow]}})).await;
    let of_rack = |one: &Told, rack: &str| {
        let mut alert = one.alert(None);
        alert["labels"]["rack"] = rack.into();
        alert
    };
    let (full, same, elsewhere, beside) = (
        told("Full", "sda", -30),
        told("Slow", "sda", -20),
        told("Slow", "sdc", -10),
        told("Slow", "sdb", -25),
    );
    let alerts = [of_rack(&full, "r1"), of_rack(&same, "r1"), of_rack(&elsewhere, "r2")];
    say(&running, &alerts).await;
    let waits = [&same, &elsewhere].map(|one| one.waits(600));
    came_to(&scene, waits.iter().chain([&full.waits(600)]).cloned()).await;
    running.stop().await;
    let running = scene.start_listening("two").await;
    say(&running, &[of_rack(&beside, "r1")]).await;
    let fired = [full.came_to("Fired"), beside.came_to("Fired")];
    came_to(&scene, waits.into_iter().chain(fired)).await;
    assert_eq!(captured(&scene.executions().await[0]), ["Full", "Slow"]);
    running.stop().await;
}

#[tokio::test]
async fn a_remedy_that_did_not_help_is_repeated_only_for_what_began_later() {
    let mut changes = three();
    changes["correlate"]["count"] = 2.into();
    changes["ladder"] =
        json!([{"run": "mark", "with": {"by": "x"}, "verify": {"within": "1s", "stableFor": "0s"}}]);
    let (scene, running) = scene(changes).await;
    let first = [told("Slow", "sda", -30), told("Full", "sda", -20)];
    for one in &first {
        one.fires(&running).await;
    }
    let found = scene.ended(&["Quarantined"]).await;
    let before = [told("Errors", "sda", -19), told("Busy", "sda", -18)];
    for one in &before {
        one.fires(&running).await;
    }
    let fired = first.iter().map(|one| one.came_to("Fired"));
    let name = found[0].metadata.name.clone().unwrap();
    let waits = before.iter().map(|one| one.came_to(&format!("Held the episode of {name} is open")));
    came_to(&scene, fired.chain(waits)).await;
    open(&scene, 1).await;
    in_another_second(&found[0]).await;
    let after = [told("Hot", "sda", 0), told("Loud", "sda", 0)];
    for one in &after {
        one.fires(&running).await;
    }
    let found = scene.ended(&["Quarantined", "Quarantined"]).await;
    assert_eq!(captured(&found[1]).len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn what_a_rule_only_observed_it_acts_on_when_it_may() {
    let mut changes = three();
    changes["mode"] = "Observe".into();
    let (scene, running) = scene(changes).await;
    let all = [told("Slow", "sda", -30), told("Full", "sda", -20), told("Errors", "sda", -10)];
    for one in &all {
        one.fires(&running).await;
    }
    let found = scene.ended(&["Observed"]).await;
    assert_eq!((captured(&found[0]).len(), scene.mark_of("sda").await), (3, None));
    came_to(&scene, all.iter().map(|one| one.came_to("Fired"))).await;
    open(&scene, 1).await;
    in_another_second(&found[0]).await;
    scene.patch::<Rule>("full", json!({"spec": {"mode": "Enforce"}})).await;
    eventually("it acts", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") }).await;
    for one in &all {
        one.is_resolved(&running).await;
    }
    scene.ended(&["Observed", "TargetRecovered"]).await;
    open(&scene, 0).await;
    running.stop().await;
}

/// A disk that is down, and not replaced for a while.
fn not_replaced(within: &str) -> Value {
    let named = |name: &str| json!({"name": name.to_lowercase(), "when": format!("alert.labels.alertname == '{name}'")});
    json!({"correlate": {"groupBy": "alert.labels.disk", "within": within,
        "absent": {"after": named("Down"), "expected": named("Replaced")}}})
}

#[tokio::test]
async fn what_stays_away_after_an_alert_is_noticed() {
    let (scene, running) = scene(not_replaced("3s")).await;
    let (missed, followed, replaced) =
        (told("Down", "sda", -2), told("Down", "sdb", -2), told("Replaced", "sdb", -1));
    say(&running, &[missed.alert(None), followed.alert(None), replaced.alert(None)]).await;
    came_to(
        &scene,
        [
            missed.came_to("Fired"),
            followed.came_to("Suppressed what is expected after it has come"),
            replaced.came_to("Held has come, and counts while it fires"),
        ],
    )
    .await;
    let found = scene.executions().await;
    assert_eq!((found.len(), captured(&found[0])), (1, vec!["Down"]));
    missed.is_resolved(&running).await;
    scene.ended(&["TargetRecovered"]).await;
    running.stop().await;
}

#[tokio::test]
async fn an_alert_that_is_taken_in_again_says_when_each_rule_heard_of_it_first() {
    let (scene, running) = scene(three()).await;
    let slow = told("Slow", "sda", -30);
    slow.fires(&running).await;
    came_to(&scene, [slow.waits(600)]).await;
    let first = scene.batches().await[0].spec.received_at.clone();
    // Of an absence nothing is taken up: nobody knows what came meanwhile.
    let mut later = not_replaced("1h");
    later["trigger"] = json!({"alert": {"webhook": "am"}});
    scene.rule("later", later).await;
    eventually("the new Rule hears of it", DEADLINE, || async {
        let answer = running.post("am", &notification(&[slow.alert(None)])).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let batches = scene.batches().await;
    let heard: Vec<_> = batches.iter().filter_map(|batch| batch.spec.events[0].alert.clone()).collect();
    let heard: Vec<_> = heard.iter().flat_map(|alert| &alert.heard).collect();
    assert_eq!(heard, [(&"full".to_owned(), &first.unwrap())], "{batches:#?}");
    running.stop().await;
}

#[tokio::test]
async fn what_came_while_nobody_received_has_time_to_come_again() {
    let (scene, running) = heard_again(not_replaced("1s"), SignedDuration::from_mins(5)).await;
    let (down, replaced) = (told("Down", "sda", -2), told("Replaced", "sda", -1));
    down.fires(&running).await;
    running.stop().await;
    let stopped = Timestamp::now();
    eventually("the window is over", DEADLINE, || async {
        let since = Timestamp::now().duration_since(stopped);
        if since.as_secs() >= 2 { Ok(()) } else { Err(format!("{since:?}")) }
    })
    .await;
    let running = scene.start_listening("two").await;
    let waits = down.came_to("Held waits for what is expected until");
    eventually("it waits for who came in vain", DEADLINE, || async {
        let found = scene.outcomes().await;
        let is_waiting = found.iter().all(|text| text.starts_with(&waits)) && found.len() == 1;
        let leads = *running.standing.lock() == Standing::Leading;
        if is_waiting && leads { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    replaced.fires(&running).await;
    let over = down.came_to("Suppressed what is expected after it has come");
    came_to(&scene, [over, replaced.came_to("Held has come, and counts while it fires")]).await;
    assert_eq!(scene.executions().await.len(), 0);
    running.stop().await;
}
