//! Events: each is decided once.

use std::path::Path;

use fother::api::Rule;
use fother::journal::{File, Filter};
use serde_json::{Value, json};

use super::stage::{NAMESPACE, Running, Scene, TOKEN, at};
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

async fn scene(changes: Value) -> (Scene, Running) {
    let scene = Scene::new().await;
    let mapping = json!({"id": "body.id", "type": "body.kind", "time": "timestamp(body.at)"});
    scene.webhook("disks", json!({"generic": mapping})).await;
    let mut rule = json!({"trigger": {"webhook": {"name": "disks", "types": ["full"]}}, "when": "event.data.percent > 90",
        "target": {"ref": {"name": "${{ event.data.disk }}"}},
        "ladder": [{"run": "mark", "with": {"by": "${{ event.id }}"}}]});
    json_patch::merge(&mut rule, &changes);
    scene.rule("full", rule).await;
    scene.disk("sda").await;
    let running = scene.start("one").await;
    scene.ready("Rule", "full").await;
    scene.ready("Webhook", "disks").await;
    scene.aged("full").await;
    (scene, running)
}

fn event(id: &str, kind: &str, percent: i64) -> Value {
    json!({"id": id, "kind": kind, "at": at(5), "disk": "sda", "percent": percent})
}

#[tokio::test]
async fn an_event_is_decided_once() {
    let (scene, running) = scene(json!({})).await;
    assert_eq!(running.post("disks", &event("1", "full", 95)).await.status, 202);
    scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("1"));
    scene.came_to(&["1 full Fired"]).await;
    let again = running.post("disks", &event("1", "full", 95)).await;
    assert!(again.status == 200 && again.text.starts_with("duplicate of execution full-"), "{again:?}");
    let other = running.post("disks", &event("2", "empty", 95)).await;
    assert_eq!((other.status, other.text.as_str()), (200, "no Rule wants any of it"));
    assert_eq!(running.post("disks", &event("3", "full", 50)).await.status, 202);
    scene.came_to(&["1 full Fired", "3 full NotMatched"]).await;
    running.stop().await;
}

/// What the equalities of `when` let nobody through to is not kept, as little as a type that nobody names. Whoever sends it
/// again reaches a Rule that was mended.
#[tokio::test]
async fn what_no_condition_can_let_through_is_not_kept() {
    let when =
        |team: &str| json!({"when": format!("event.data.percent > 90 && event.data.team == '{team}'")});
    let (scene, running) = scene(when("db")).await;
    let of_team = |id: &str, team: &str| {
        let mut event = event(id, "full", 95);
        event["team"] = team.into();
        event
    };
    for other in [of_team("1", "web"), event("1", "full", 95)] {
        let other = running.post("disks", &other).await;
        assert_eq!((other.status, other.text.as_str()), (200, "no Rule wants any of it"));
    }
    assert_eq!(scene.batches().await.len(), 0);
    assert_eq!(running.post("disks", &of_team("2", "db")).await.status, 202);
    scene.came_to(&["2 full Fired"]).await;
    scene.patch::<Rule>("full", json!({"spec": when("web")})).await;
    eventually("every receiver hears of the Rule's new text", DEADLINE, || async {
        let again = running.post("disks", &of_team("1", "web")).await;
        if again.status == 202 { Ok(()) } else { Err(again.text) }
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_an_event_is_recorded() {
    let (scene, running) = scene(json!({"limits": {"cooldown": "1h"}})).await;
    running.post("disks", &event("1", "full", 95)).await;
    scene.ended(&["Completed"]).await;
    running.post("disks", &event("2", "full", 95)).await;
    let mut nowhere = event("3", "full", 95);
    nowhere["disk"] = "sdz".into();
    running.post("disks", &nowhere).await;
    let mut early = event("4", "full", 95);
    early["at"] = "2020-01-01T00:00:00Z".into();
    running.post("disks", &early).await;
    scene
        .came_to(&[
            "1 full Fired",
            "2 full Suppressed Cooldown",
            "3 full Failed ConfigMap/sdz does not exist",
            "4 full Suppressed BeforeRule",
        ])
        .await;
    assert_eq!(scene.executions().await.len(), 1);
    running.stop().await;
    let journal = File::read(&scene.journal()).unwrap();
    let all = Filter { limit: 100, ..Filter::default() };
    let decisions = journal.decisions(&all).unwrap();
    let rows = decisions.into_iter().rev().filter(|decision| !decision.event.is_empty());
    let rows: Vec<_> =
        rows.map(|d| format!("{} {} {}", d.target, d.outcome, d.reason).trim().to_owned()).collect();
    for row in [
        "ConfigMap/sda Fired Enforce",
        "ConfigMap/sda Suppressed Cooldown",
        "Failed ConfigMap/sdz does not exist",
        "ConfigMap/sda Suppressed BeforeRule",
    ] {
        assert_eq!(rows.iter().filter(|found| *found == row).count(), 1, "{row}: {rows:#?}");
    }
    let events = journal.events(&all).unwrap();
    let mut ids: Vec<_> =
        events.iter().map(|event| (event.source.as_str(), event.id.rsplit(' ').next().unwrap())).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3", "4"].map(|id| ("webhook/disks", id)));
    assert_eq!(events[0].data["data"]["disk"], "sda", "what Rules read of it");
}

/// The pack of the example, and its Sensor as a process of its own.
#[tokio::test]
async fn a_sensor_is_any_program_that_posts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sensor");
    let scene = Scene::new().await;
    scene.own("v1", "Secret", "spools", json!({"stringData": {"token": TOKEN}})).await;
    for file in ["actions/note-spool.yaml", "rules/spools.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for mut object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            object["metadata"]["namespace"] = NAMESPACE.into();
            if object["kind"] == "Webhook" {
                object["spec"]["serviceAccountName"] = "healer".into();
            } else if object["kind"] == "Rule" {
                // There is no node here that could run its Job.
                object["spec"]["mode"] = "Observe".into();
            }
            scene.apply(&object).await;
        }
    }
    let running = scene.start("one").await;
    scene.ready("Rule", "spool-full").await;
    scene.ready("Webhook", "spools").await;
    scene.aged("spool-full").await;
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("token"), TOKEN).unwrap();
    for (spool, files) in [("mail", 5), ("print", 2)] {
        std::fs::create_dir_all(place.path().join("spool").join(spool)).unwrap();
        (0..files).for_each(|n| {
            std::fs::write(place.path().join("spool").join(spool).join(n.to_string()), "").unwrap();
        });
    }
    let hook = format!("http://{}/hooks/{NAMESPACE}/spools", running.address);
    let environment =
        [("HOOK", hook.as_str()), ("TOKEN_FILE", &path("token")), ("SPOOL", &path("spool")), ("ONCE", "yes")];
    let script = folder.join("sensor/watch-spool.sh");
    for _ in 0..2 {
        let arguments = [script.to_str().unwrap()];
        let mut sensor = Process::start(Path::new("sh"), arguments, &environment, &place.path().join("log"));
        assert!(sensor.wait(DEADLINE).await.success(), "{}", sensor.output());
    }
    let told = eventually("the spool is noted", DEADLINE, || async {
        let found = scene.executions().await;
        found.first().cloned().ok_or("no Execution")
    });
    let target = told.await.spec.target.unwrap();
    assert_eq!((target.kind.as_str(), target.name.as_str()), ("Key", "mail"));
    running.stop().await;
}

/// Of events as large as those of forges what is read is kept, from the request to the remedy.
#[tokio::test]
async fn all_of_several_events_act_together_and_what_is_read_of_them_is_there() {
    let member = |name: &str| json!({"name": name, "when": format!("event.type == '{name}'")});
    let correlate =
        json!({"groupBy": "event.data.disk", "within": "10m", "all": [member("full"), member("slow")]});
    let by = "${{ captured.slow.data.latency }} ${{ events.map(e, string(e.data.percent)).join('+') }}";
    let (scene, running) =
        scene(json!({"trigger": {"webhook": {"types": ["full", "slow"]}}, "correlate": correlate,
        "unless": [{"if": "captured.slow.data.?quiet.orValue(false)", "reason": "Quiet"}],
        "ladder": [{"run": "mark", "with": {"by": by}}]}))
        .await;
    let large = |id: &str, kind: &str, percent: i64| {
        let mut event = event(id, kind, percent);
        json_patch::merge(&mut event, &json!({"latency": "9s", "dump": "d".repeat(20_000)}));
        event
    };
    for large in [large("1", "slow", 95), large("2", "full", 50), large("3", "slow", 96)] {
        assert_eq!(running.post("disks", &large).await.status, 202);
    }
    assert_eq!(scene.executions().await.len(), 0, "one of two kinds is not all");
    assert_eq!(running.post("disks", &large("4", "full", 97)).await.status, 202);
    let acted = scene.ended(&["Completed"]).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("9s 96+97"));
    let captured =
        acted[0].spec.decision.as_ref().map(|decision| decision.captured.clone()).unwrap_or_default();
    let members: Vec<_> = captured.iter().map(|event| (event.member.as_deref(), event.id.as_str())).collect();
    assert_eq!(members, [(Some("slow"), "disks 3"), (Some("full"), "disks 4")]);
    assert!(captured.iter().all(|event| event.left_out.is_empty() && event.data.0.get("dump").is_none()));
    running.stop().await;
}
