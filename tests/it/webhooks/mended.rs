//! Alerts that no Rule may match, or very many: what is kept for a Rule that is mended while they fire, and for how many.

use fother::api::{EventBatch, Rule};
use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::stage::{NAMESPACE, Running, Scene, UNMATCHED, alert, at, notification, say, until_taken};
use crate::support::wait::{DEADLINE, eventually};

/// A Rule about a disk that there is not.
async fn scene() -> (Scene, Running) {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    scene.rule("full", about("sdx")).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    let running = scene.start_listening("one").await;
    (scene, running)
}

fn about(disk: &str) -> Value {
    let trigger = json!({"alert": {"webhook": "am", "names": ["DiskFull"]}});
    json!({"trigger": trigger, "when": format!("alert.labels.disk == '{disk}' && alert.annotations.summary != ''")})
}

async fn mend(scene: &Scene, disk: &str) {
    scene.patch::<Rule>("full", json!({"spec": {"when": about(disk)["when"]}})).await;
}

#[tokio::test]
async fn an_equality_that_is_mended_while_an_alert_fires_acts_at_once() {
    let (scene, running) = scene().await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    let nobody = format!("f-sda/{starts}/firing  NotMatched {UNMATCHED}");
    scene.came_to(&[&nobody]).await;
    assert_eq!(scene.batches().await[0].spec.events[0].rules, [""; 0]);
    let again = running.post("am", &notification(&[alert("sda", &starts, None)])).await;
    assert_eq!(again.status, 200, "{again:?}");
    mend(&scene, "sda").await;
    scene.came_to(&[&nobody, &format!("f-sda/{starts}/firing full Fired")]).await;
    let name = scene.executions().await[0].metadata.name.clone().unwrap();
    let again = running.post("am", &notification(&[alert("sda", &starts, None)])).await;
    assert_eq!((again.status, again.text), (200, format!("duplicate of execution {name}")));
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    scene.ended(&["TargetRecovered"]).await;
    scene
        .came_to(&[
            &format!("f-sda/{starts}/firing  Resolved"),
            &format!("f-sda/{starts}/firing full Resolved"),
            &format!("f-sda/{starts}/resolved full Resolved"),
        ])
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_new_rule_hears_of_an_alert_that_is_kept_for_others() {
    let (scene, running) = scene().await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    let nobody = format!("f-sda/{starts}/firing  NotMatched {UNMATCHED}");
    scene.came_to(&[&nobody]).await;
    scene.rule("new", about("sda")).await;
    scene.came_to(&[&nobody, &format!("f-sda/{starts}/firing new Fired")]).await;
    // What it has taken up is its own: it goes with the Rule.
    scene.delete_rule("new").await;
    let name = scene.batches().await.remove(0).metadata.name.unwrap();
    scene.patch::<EventBatch>(&name, json!({"metadata": {"labels": {"x": "y"}}})).await;
    scene.came_to(&[&nobody, &format!("f-sda/{starts}/firing new NotMatched the Rule is gone")]).await;
    running.stop().await;
}

/// Another replica may hear of a new Rule before whoever leads does, and lists what it accepts for it.
#[tokio::test]
async fn a_rule_that_the_leader_has_not_heard_of_yet_is_not_gone() {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    scene.disk("sda").await;
    let late = scene.start_late("one", "rules").await;
    scene.ready("Webhook", "am").await;
    scene.rule("full", about("sda")).await;
    let starts = at(-5);
    scene.batch_for("fires", "am", (&["full", "never"], &at(0)), &alert("sda", &starts, None)).await;
    let never = format!("f-sda/{starts}/firing never NotMatched the Rule is gone");
    scene.came_to(&[&never]).await;
    late.stop().await;
    let running = scene.start_listening("two").await;
    scene.came_to(&[&format!("f-sda/{starts}/firing full Fired"), &never]).await;
    running.stop().await;
}

/// What it goes by may be another when the alert is resolved: nothing is listed for the Rule then.
#[tokio::test]
async fn an_alert_is_over_for_a_rule_that_its_end_is_not_listed_for() {
    let (scene, running) = scene().await;
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.annotations.summary == 'full'"}})).await;
    let starts = at(-5);
    say(&running, &[alert("sda", &starts, None)]).await;
    eventually("it acts", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") }).await;
    let mut end = alert("sda", &starts, Some(&at(0)));
    end["annotations"]["summary"] = "was full".into();
    say(&running, &[end]).await;
    scene.ended(&["TargetRecovered"]).await;
    let found = scene.outcomes().await;
    assert!(found.contains(&format!("f-sda/{starts}/resolved  Resolved")), "{found:?}");
    running.stop().await;
}

/// Also when what says that it is resolved has gone.
#[tokio::test]
async fn a_rule_that_is_mended_after_an_alert_was_resolved_does_not_act() {
    let (scene, running) = scene().await;
    let starts = at(-5);
    let fires = [alert("sda", &starts, None), alert("sdb", &starts, None)];
    say(&running, &fires).await;
    say(&running, &[alert("sda", &starts, Some(&at(0)))]).await;
    let sdb = format!("f-sdb/{starts}/firing  NotMatched {UNMATCHED}");
    let over = [format!("f-sda/{starts}/firing  Resolved"), format!("f-sda/{starts}/resolved  Resolved")];
    scene.came_to(&[&over[0], &over[1], &sdb]).await;
    let batches = scene.batches().await;
    let end = batches.iter().find(|batch| batch.spec.events.len() == 1).unwrap();
    let name = end.metadata.name.clone().unwrap();
    scene.api::<EventBatch>().delete(&name, &DeleteParams::default()).await.unwrap();
    scene.came_to(&[&over[0], &sdb]).await;
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.labels.disk.startsWith('sd')"}})).await;
    scene.came_to(&[&over[0], &sdb, &format!("f-sdb/{starts}/firing full Fired")]).await;
    assert_eq!(scene.mark_of("sda").await, None);
    running.stop().await;
}

/// A replica that does not lead has received for hours: who leads next finds all of it at once.
#[tokio::test]
async fn what_was_resolved_while_nobody_led_is_not_acted_upon() {
    let (scene, running) = scene().await;
    running.stop().await;
    let (starts, ended) = (at(-9000), at(-7100));
    scene.batch_for("fires", "am", (&[], &at(-7200)), &alert("sda", &starts, None)).await;
    scene.batch_for("other", "am", (&[], &at(-7200)), &alert("sdb", &starts, None)).await;
    scene.batch_for("ends", "am", (&[], &at(-7000)), &alert("sda", &starts, Some(&ended))).await;
    scene.patch::<Rule>("full", json!({"spec": {"when": "alert.labels.disk.startsWith('sd')"}})).await;
    let running = scene.start_listening("two").await;
    let fired = format!("f-sdb/{starts}/firing full Fired");
    let over = [format!("f-sda/{starts}/firing  Resolved"), format!("f-sda/{starts}/resolved  Resolved")];
    scene
        .came_to(&[&over[0], &over[1], &format!("f-sdb/{starts}/firing  NotMatched {UNMATCHED}"), &fired])
        .await;
    assert_eq!(scene.executions().await.len(), 1);
    running.stop().await;
}

/// The released version listed an alert for all that are about its name.
#[tokio::test]
async fn what_an_earlier_version_has_kept_is_decided_as_it_was() {
    let (scene, running) = scene().await;
    let starts = at(-5);
    scene.batch_of("earlier", "am", "full", &alert("sda", &starts, None)).await;
    let id = format!("f-sda/{starts}/firing full");
    scene.came_to(&[&format!("{id} NotMatched")]).await;
    mend(&scene, "sda").await;
    scene.came_to(&[&format!("{id} Fired")]).await;
    running.stop().await;
}

/// Rules that want one alert more than a batch has outcomes for.
const RULES: usize = 1010;

#[tokio::test]
async fn an_alert_that_very_many_rules_want_is_accepted_and_each_decides() {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    scene.action("note", json!({"collect": {}})).await;
    let rules = scene.api::<Rule>();
    let rule = |number: usize| -> Rule {
        // One of them acts.
        let disk = if number == RULES - 1 { "sda" } else { "none" };
        let spec = json!({"serviceAccountName": "healer", "mode": "Observe", "trigger": {"alert": {"webhook": "am"}},
            "when": format!("alert.labels.disk.startsWith('{disk}')"), "target": {"key": "alert.labels.disk"},
            "ladder": [{"run": "note"}]});
        serde_json::from_value(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule",
            "metadata": {"name": format!("r{number:04}"), "namespace": NAMESPACE}, "spec": spec}))
        .unwrap()
    };
    let all: Vec<_> = (0..RULES).map(rule).collect();
    let params = PostParams::default();
    let created = stream::iter(&all).map(|rule| rules.create(&params, rule)).buffer_unordered(16);
    assert!(created.all(|created| async move { created.is_ok() }).await);
    let running = scene.start("one").await;
    scene.ready("Webhook", "am").await;
    let starts = at(-5);
    let firing = notification(&[alert("sda", &starts, None)]);
    until_taken(&running, &firing).await;
    let batches = scene.batches().await;
    let mut listed: Vec<_> = batches.iter().map(|batch| batch.spec.events[0].rules.len()).collect();
    listed.sort_unstable();
    assert_eq!(listed, [10, 1000]);
    let again = running.post("am", &firing).await;
    assert_eq!(again.status, 200, "{again:?}");
    eventually("each Rule has decided", DEADLINE, || async {
        let found = scene.outcomes().await;
        let count = |what: &str| found.iter().filter(|text| text.ends_with(what)).count();
        let found = (count(" NotMatched"), count(" Fired"), found.len());
        if found == (RULES - 1, 1, RULES) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn an_alert_that_too_many_have_looked_at_is_left_until_it_is_sent_again() {
    let (scene, running) = scene().await;
    running.stop().await;
    let starts = at(-5);
    let fires = alert("sda", &starts, None);
    scene.batch_for("crowded", "am", (&[], &at(0)), &fires).await;
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let outcome = |number: usize| json!({"event": 0, "rule": format!("r{number}"), "outcome": "Suppressed", "time": now.to_string()});
    let status = json!({"status": {"outcomes": (0..2000).map(outcome).collect::<Vec<_>>()}});
    let batches = scene.api::<EventBatch>();
    batches.patch_status("crowded", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    mend(&scene, "sda").await;
    let running = scene.start_listening("two").await;
    let says = async |wanted: bool| {
        eventually(&format!("the Rule says so: {wanted}"), DEADLINE, || async {
            let rule = scene.api::<Rule>().get("full").await.map_err(|error| error.to_string())?;
            let said = format!("{:?}", rule.status.map(|status| status.conditions));
            if said.contains("too many Rules have looked at") == wanted { Ok(()) } else { Err(said) }
        })
        .await;
    };
    says(true).await;
    assert_eq!(scene.executions().await.len(), 0);
    say(&running, &[fires]).await;
    eventually("it acts", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") }).await;
    says(false).await;
    running.stop().await;
}
