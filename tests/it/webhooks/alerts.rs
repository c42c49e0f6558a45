//! Alerts: each is a state, from its start until it is resolved.

use fother::api::{EventBatch, Execution, Guard, Rule};
use fother::controller::Standing;
use fother::journal::{File, Filter};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::stage::{Scene, UNMATCHED, alert, at, count, notification, say, until_taken};
use crate::support::wait::{DEADLINE, eventually};

async fn scene(mut changes: Value) -> Scene {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    changes["trigger"] = json!({"alert": {"webhook": "am", "names": ["DiskFull"]}});
    scene.rule("full", changes).await;
    scene.disk("sda").await;
    scene.disk("sdb").await;
    scene
}

async fn ready(scene: &Scene) {
    scene.ready("Rule", "full").await;
    scene.ready("Webhook", "am").await;
}

async fn closed(scene: &Scene) {
    eventually("all episodes are closed", DEADLINE, || async {
        let found = scene.executions().await;
        let open = |e: &&Execution| e.status.as_ref().is_none_or(|status| status.episode_closed_at.is_none());
        let count = found.iter().filter(open).count();
        if count == 0 { Ok(()) } else { Err(format!("{count} are open")) }
    })
    .await;
}

#[tokio::test]
async fn an_alert_that_fires_is_remedied_and_closed_when_it_is_resolved() {
    let scene = scene(json!({})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-5);
    let firing = notification(&[alert("sda", &starts, None)]);
    assert_eq!(running.post("am", &firing).await.status, 202);
    let marked =
        eventually("the disk is cleaned", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") });
    assert_eq!(marked.await, "sda", "the parameter comes from the alert");
    let found = scene.executions().await;
    let decision = found[0].spec.decision.clone().unwrap();
    assert_eq!(decision.event.unwrap().data.0["labels"]["disk"], "sda");
    assert_eq!(decision.since.unwrap().0.as_second(), starts.parse::<Timestamp>().unwrap().as_second());
    scene.came_to(&[&format!("f-sda/{starts}/firing full Fired")]).await;
    let again = running.post("am", &firing).await;
    let name = found[0].metadata.name.clone().unwrap();
    assert_eq!((again.status, again.text), (200, format!("duplicate of execution {name}")));
    assert!(!scene.executions().await[0].is_finished(), "it waits until the alert is resolved");
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    scene.ended(&["TargetRecovered"]).await;
    closed(&scene).await;
    assert_eq!(running.post("am", &firing).await.status, 200, "what is late is known");
    say(&running, &[alert("sda", &at(2), None)]).await;
    count(&scene, 2).await;
    running.stop().await;
}

#[tokio::test]
async fn any_replica_receives_and_twins_change_nothing() {
    let scene = scene(json!({})).await;
    let leader = scene.start("one").await;
    ready(&scene).await;
    let other = scene.start("two").await;
    eventually("the other stands by", DEADLINE, || async {
        let standing = other.standing.lock().clone();
        if standing == Standing::StandingBy { Ok(()) } else { Err(format!("{standing:?}")) }
    })
    .await;
    let starts = at(-5);
    let firing = notification(&[alert("sda", &starts, None)]);
    let twins = async |body: &Value| {
        let (one, two) = tokio::join!(leader.post("am", body), other.post("am", body));
        assert!(one.status < 300 && two.status < 300, "{one:?} {two:?}");
    };
    eventually("the other is in sync", DEADLINE, || async {
        let answer = other.post("am", &notification(&[])).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    // Only the one that does not lead hears of this one.
    say(&other, &[alert("sdb", &starts, None)]).await;
    for _ in 0..5 {
        twins(&firing).await;
    }
    let found = count(&scene, 2).await;
    let mut targets: Vec<_> = found.iter().filter_map(|e| Some(e.spec.target.clone()?.name)).collect();
    targets.sort();
    assert_eq!(targets, ["sda", "sdb"]);
    twins(&notification(&[alert("sda", &starts, Some(&at(0)))])).await;
    twins(&notification(&[alert("sdb", &starts, Some(&at(0)))])).await;
    scene.ended(&["TargetRecovered", "TargetRecovered"]).await;
    leader.stop().await;
}

#[tokio::test]
async fn what_was_accepted_is_decided_by_whoever_leads_next() {
    let scene = scene(json!({})).await;
    // Somebody else leads, and does nothing: the leader died between accepting and deciding.
    scene.lease_to_nobody().await;
    let running = scene.start("one").await;
    let firing = notification(&[alert("sda", &at(-5), None)]);
    until_taken(&running, &firing).await;
    assert_eq!((scene.batches().await.len(), scene.executions().await.len()), (1, 0));
    drop(running);
    scene.free_lease().await;
    let next = scene.start("two").await;
    count(&scene, 1).await;
    assert_eq!(next.post("am", &firing).await.status, 200, "and is known to it");
    next.stop().await;
}

#[tokio::test]
async fn alerts_about_one_target_are_one_episode() {
    let scene = scene(json!({})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let (starts, mut inodes) = (at(-5), alert("sda", &at(-3), None));
    inodes["fingerprint"] = "inodes".into();
    say(&running, &[alert("sda", &starts, None), inodes.clone()]).await;
    count(&scene, 1).await;
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    scene
        .came_to(&[
            &format!("f-sda/{starts}/firing full Resolved"),
            &format!("f-sda/{starts}/resolved full Resolved"),
            &format!("inodes/{}/firing full Fired", inodes["startsAt"].as_str().unwrap()),
        ])
        .await;
    assert!(!scene.executions().await[0].is_finished(), "the other one fires on");
    inodes["status"] = "resolved".into();
    inodes["endsAt"] = at(0).into();
    say(&running, &[inodes]).await;
    scene.ended(&["TargetRecovered"]).await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_held_is_decided_when_that_ends_if_it_still_fires() {
    let scene = scene(json!({"for": "1h", "limits": {"cooldown": "1s"}})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let (starts, long_ago) = (at(-5), at(-4000));
    say(&running, &[alert("sda", &starts, None), alert("sdb", &long_ago, None)]).await;
    let sda = format!("f-sda/{starts}/firing full Held For");
    let sdb = format!("f-sdb/{long_ago}/firing full Fired");
    scene.came_to(&[&sda, &sdb]).await;
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    let resolved =
        [format!("f-sda/{starts}/firing full Resolved"), format!("f-sda/{starts}/resolved full Resolved")];
    scene.came_to(&[&resolved[0], &resolved[1], &sdb]).await;
    let found = count(&scene, 1).await;
    assert_eq!(
        found[0].spec.target.as_ref().unwrap().name,
        "sdb",
        "the time counts from the alert's own start"
    );
    running.stop().await;
}

#[tokio::test]
async fn an_alert_about_another_namespace_does_not_match() {
    let elsewhere = json!({"target": {"ref": {"namespace": "${{ alert.labels.namespace }}"}}});
    let scene = scene(elsewhere).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let (starts, mut other, mut own) = (at(-5), alert("sda", &at(-5), None), alert("sdb", &at(-5), None));
    other["labels"]["namespace"] = "kube-system".into();
    own["labels"]["namespace"] = "shop".into();
    for alert in [&mut other, &mut own] {
        alert["startsAt"] = starts.as_str().into();
    }
    say(&running, &[other, own]).await;
    scene
        .came_to(&[
            &format!("f-sda/{starts}/firing full NotMatched its target is in namespace kube-system"),
            &format!("f-sdb/{starts}/firing full Fired"),
        ])
        .await;
    running.stop().await;
}

#[tokio::test]
async fn alerts_that_were_left_out_are_noticed() {
    let scene = scene(json!({})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let mut cut = notification(&[alert("sda", &at(-5), None)]);
    cut["truncatedAlerts"] = 7.into();
    assert_eq!(running.post("am", &cut).await.status, 202);
    let truncated = eventually("it is noticed", DEADLINE, || async {
        scene.webhook_status("am").await.truncated.ok_or("not yet")
    });
    assert_eq!(truncated.await.alerts, 7);
    let events: Api<k8s_openapi::api::events::v1::Event> = scene.api();
    eventually("it is told", DEADLINE, || async {
        let found = events.list(&kube::api::ListParams::default()).await.unwrap().items;
        let told = found.iter().any(|event| event.reason.as_deref() == Some("AlertsTruncated"));
        told.then_some(()).ok_or("not yet")
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_batch_goes_with_its_rule_and_a_new_one_hears_what_fires() {
    let scene = scene(json!({"for": "1h"})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    scene.came_to(&[&format!("f-sda/{starts}/firing full Held For")]).await;
    scene.delete_rule("full").await;
    let batch = scene.batches().await.remove(0);
    // Any change has it looked at.
    scene
        .patch::<EventBatch>(&batch.metadata.name.unwrap(), json!({"metadata": {"labels": {"x": "y"}}}))
        .await;
    scene.came_to(&[&format!("f-sda/{starts}/firing full NotMatched the Rule is gone")]).await;
    scene.rule("full", json!({"trigger": {"alert": {"webhook": "am"}}})).await;
    scene.came_to(&[&format!("f-sda/{starts}/firing full Fired")]).await;
    running.stop().await;
}

/// As a Rule over objects does: its conditions are where a person looks first.
#[tokio::test]
async fn a_rule_that_cannot_decide_about_an_alert_says_so_until_it_is_mended() {
    let scene = scene(json!({"when": "int(alert.labels.disk) > 1"})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    let says = async |wanted: bool| {
        eventually(&format!("the Rule says so: {wanted}"), DEADLINE, || async {
            let rule = scene.api::<Rule>().get("full").await.map_err(|error| error.to_string())?;
            let said = format!("{:?}", rule.status.map(|status| status.conditions));
            if said.contains(&format!("f-sda/{starts}/firing: ")) == wanted { Ok(()) } else { Err(said) }
        })
        .await;
    };
    says(true).await;
    let before = scene.batches().await.len();
    say(&running, &[alert("sdb", &starts, None)]).await;
    eventually("another one does not hide it", DEADLINE, || async {
        let failed = scene.outcomes().await.iter().filter(|text| text.contains(" Failed ")).count();
        if failed == before + 1 { Ok(()) } else { Err(failed) }
    })
    .await;
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.labels.disk != ''"}})).await;
    let fired = ["sda", "sdb"].map(|disk| format!("f-{disk}/{starts}/firing full Fired"));
    scene.came_to(&fired.each_ref().map(String::as_str)).await;
    says(false).await;
    running.stop().await;
}

/// Somebody who edits a Rule makes a mistake: that is no sign that what it has acted on is over.
#[tokio::test]
async fn an_alert_that_cannot_be_judged_any_more_keeps_its_episode_open() {
    let (good, bad) = ("alert.labels.disk != ''", "alert.labels.disk == 'sda' && int(alert.labels.disk) > 1");
    let scene = scene(json!({"when": good, "ladder": [{"run": "mark"}]})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-30);
    say(&running, &["sda", "sdb"].map(|disk| alert(disk, &starts, None))).await;
    scene.ended(&["Completed", "Completed"]).await;
    let open = async || {
        let mut found = scene.executions().await;
        found.retain(|one| one.status.as_ref().is_none_or(|status| status.episode_closed_at.is_none()));
        found.into_iter().map(|one| one.spec.target.unwrap().name).collect::<Vec<_>>()
    };
    let says = async |wanted: bool| {
        eventually(&format!("the Rule says that it cannot judge it: {wanted}"), DEADLINE, || async {
            let rule = scene.api::<Rule>().get("full").await.map_err(|error| error.to_string())?;
            let said = format!("{:?}", rule.status.unwrap_or_default().conditions);
            let is_said = said.contains(&format!("f-sda/{starts}/firing: "));
            if is_said == wanted { Ok(()) } else { Err(said) }
        })
        .await;
    };
    scene.patch::<Rule>("full", json!({"spec": {"when": bad}})).await;
    says(true).await;
    eventually("the other one is over", DEADLINE, || async {
        let found = open().await;
        if found.iter().any(|disk| disk == "sdb") { Err(format!("{found:?}")) } else { Ok(()) }
    })
    .await;
    assert_eq!(open().await, ["sda"], "it fires");
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.labels.disk == 'sda'"}})).await;
    says(false).await;
    assert_eq!((open().await, scene.executions().await.len()), (vec!["sda".to_owned()], 2));
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    closed(&scene).await;
    running.stop().await;
}

/// At three in the morning a Rule has a mistake. Whoever mends it does not wait until Alertmanager repeats the alert.
#[tokio::test]
async fn a_rule_that_is_mended_or_applied_again_hears_what_still_fires() {
    let scene = scene(json!({"when": "alert.labels.severity == 'critical'"})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-5);
    let mut firing = alert("sda", &starts, None);
    firing["labels"]["level"] = "page".into();
    say(&running, &[firing.clone()]).await;
    let id = format!("f-sda/{starts}/firing");
    let nobody = format!("{id}  NotMatched {UNMATCHED}");
    scene.came_to(&[&nobody]).await;
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.labels.level.startsWith('warn')"}})).await;
    scene.came_to(&[&nobody, &format!("{id} full NotMatched")]).await;
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.labels.level == 'page'"}})).await;
    scene.came_to(&[&nobody, &format!("{id} full Fired")]).await;
    assert_eq!(running.post("am", &notification(&[firing])).await.status, 200, "nobody has repeated it");
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    scene.ended(&["TargetRecovered"]).await;
    running.stop().await;
}

/// More than is decided in a moment: every sender gets an answer, and every event that was accepted its outcome.
#[tokio::test]
async fn a_flood_is_answered_and_decided_within_the_limits() {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    scene.action("note", json!({"collect": {}})).await;
    let rule = json!({"trigger": {"alert": {"webhook": "am"}}, "mode": "Observe", "ladder": [{"run": "note"}],
        "target": {"ref": null, "key": "alert.labels.disk"}});
    scene.rule("observes", rule).await;
    let running = scene.start("one").await;
    scene.ready("Rule", "observes").await;
    scene.ready("Webhook", "am").await;
    let starts = at(-5);
    let request = |number: usize| {
        let alerts: Vec<_> = (0..20).map(|n| alert(&format!("d{number}-{n}"), &starts, None)).collect();
        notification(&alerts)
    };
    let requests: Vec<_> = (0..30).map(request).collect();
    let answers = futures::future::join_all(requests.iter().map(|body| running.post("am", body))).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert!(answers.iter().all(|answer| matches!(answer.status, 202 | 503)), "{answers:?}");
    assert!(accepted > 0);
    eventually("every event has its outcome", DEADLINE * 2, || async {
        let count = scene.outcomes().await.len();
        if count == accepted * 20 { Ok(()) } else { Err(format!("{count} of {}", accepted * 20)) }
    })
    .await;
    assert!(scene.executions().await.len() <= 100, "an Observe rule keeps so many records");
    running.stop().await;
    let journal = File::read(&scene.journal()).unwrap();
    let missing: u64 = journal.gaps(None).unwrap().iter().map(|gap| gap.missing).sum();
    let all = Filter { limit: 100_000, ..Filter::default() };
    let events = journal.events(&all).unwrap().len() as u64;
    assert!(
        events > 0 && events + missing >= accepted as u64 * 20,
        "{events} are there, {missing} are missing"
    );
}

/// What an alert names may be gone, or not there yet: the rule shows whom it waits for, and the journal since when.
#[tokio::test]
async fn an_alert_about_what_does_not_exist_is_held_in_sight() {
    let scene = scene(json!({})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-5);
    say(&running, &[alert("sdx", &starts, None)]).await;
    scene.came_to(&[&format!("f-sdx/{starts}/firing full Held ConfigMap/sdx does not exist")]).await;
    let held = eventually("it is shown", DEADLINE, || async {
        let status = scene.api::<Rule>().get("full").await.unwrap().status.unwrap_or_default();
        status.held.first().cloned().ok_or("not yet")
    });
    let held = held.await;
    assert_eq!((held.target.name.as_str(), held.reason), ("sdx", Guard::TargetMissing));
    scene.disk("sdx").await;
    count(&scene, 1).await;
    running.stop().await;
    let journal = File::read(&scene.journal()).unwrap();
    let decisions = journal.decisions(&Filter { limit: 100, ..Filter::default() }).unwrap();
    let told =
        |reason: &str| decisions.iter().any(|one| one.target == "ConfigMap/sdx" && one.reason == reason);
    assert!(told("TargetMissing"), "{decisions:#?}");
}

/// As much fires as there is room for: that something is resolved is heard nevertheless, and makes room.
#[tokio::test]
async fn what_ends_an_alert_has_room_where_nothing_else_has() {
    let scene = scene(json!({"for": "1h", "when": "alert.annotations.text != ''"})).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    let starts = at(-5);
    let long = |number: usize, ends: Option<&str>| {
        let mut alert = alert(&format!("d{number}"), &starts, ends);
        alert["annotations"]["text"] = "x".repeat(60_000).into();
        alert
    };
    let request = |number: usize, ends: Option<&str>| -> Vec<Value> {
        (16 * number..16 * (number + 1)).map(|number| long(number, ends)).collect()
    };
    let mut taken = 0;
    let full = loop {
        let answer = running.post("am", &notification(&request(taken, None))).await;
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
    };
    assert_eq!((full.status, full.text.as_str()), (503, "queue full; retry"));
    assert!((15..30).contains(&taken), "{taken} megabytes: the share of one namespace");
    let ended = at(0);
    let mixed = [request(0, Some(&ended)), request(taken, None)[..1].to_vec()].concat();
    let answer = running.post("am", &notification(&mixed)).await;
    assert_eq!((answer.status, answer.text.as_str()), (503, "queue full; retry"), "the new one has no room");
    eventually("what was resolved has made room", DEADLINE, || async {
        let answer = running.post("am", &notification(&mixed)).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    running.stop().await;
}

/// In a storm that is a list of all of it for each of them, every two seconds.
#[tokio::test]
async fn what_has_to_wait_asks_for_what_it_waits_for_and_not_for_all_that_is_kept() {
    let scene = scene(json!({"unless": [{"if": "!has(target.metadata.labels)", "reason": "Closed"}]})).await;
    let (running, requests) = scene.start_noted("one").await;
    ready(&scene).await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None), alert("gone", &starts, None)]).await;
    let looks = |of: &str| requests.lock().iter().filter(|uri| uri.contains(of)).count();
    for disk in ["sda", "gone"] {
        let looked = format!("/configmaps/{disk}");
        eventually("it is looked at again", DEADLINE, || async {
            if looks(&looked) > 2 { Ok(()) } else { Err(looks(&looked)) }
        })
        .await;
    }
    let lists = "/eventbatches?&labelSelector=";
    assert_eq!(looks(lists), 0, "before anything is done");
    scene.patch::<ConfigMap>("sda", json!({"metadata": {"labels": {"open": "yes"}}})).await;
    count(&scene, 1).await;
    assert!(looks(lists) > 0, "what is done is looked at once more");
    running.stop().await;
}

/// Alertmanager ends what it has not heard of for minutes, as while Prometheus cannot reach it.
#[tokio::test]
async fn what_fires_on_long_after_it_was_said_to_be_resolved_is_a_new_episode() {
    let scene = scene(json!({})).await;
    // Less than `group_interval` ago: Alertmanager says it once, and is silent for hours when it hears that this is known.
    let (starts, ends) = (at(-900), at(-240));
    let firing = alert("sda", &starts, None);
    scene.batch_for("a-firing", "am", (&["full"], &starts), &firing).await;
    scene.batch_for("b-resolved", "am", (&["full"], &ends), &alert("sda", &starts, Some(&ends))).await;
    let running = scene.start("one").await;
    ready(&scene).await;
    scene
        .came_to(&[
            &format!("f-sda/{starts}/firing full Resolved"),
            &format!("f-sda/{starts}/resolved full Resolved"),
        ])
        .await;
    let again = notification(&[firing]);
    assert_eq!(running.post("am", &again).await.status, 202);
    let name = count(&scene, 1).await.remove(0).metadata.name.unwrap();
    let answer = running.post("am", &again).await;
    assert_eq!((answer.status, answer.text), (200, format!("duplicate of execution {name}")));
    let old = running.post("am", &notification(&[alert("sda", &starts, Some(&ends))])).await;
    let known = format!("duplicate of event f-sda/{starts}/resolved");
    assert_eq!((old.status, old.text), (200, known), "the end from before");
    assert!(!scene.executions().await[0].is_finished(), "it fires on");
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    scene.ended(&["TargetRecovered"]).await;
    closed(&scene).await;
    assert_eq!(running.post("am", &again).await.status, 200, "it is late");

    // What was received is forgotten in time, and the Execution is there.
    let status = json!({"status": {"episodeClosedAt": at(-60)}});
    let executions = scene.api::<Execution>();
    executions.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    for batch in scene.batches().await {
        scene
            .api::<EventBatch>()
            .delete(&batch.metadata.name.unwrap(), &DeleteParams::default())
            .await
            .unwrap();
    }
    until_taken(&running, &again).await;
    count(&scene, 2).await;
    running.stop().await;
}
