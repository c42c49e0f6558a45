//! What nobody could see, because nobody led and nobody received: the Rule says so, and what is lost by it is told of.

use fother::api::{Execution, Rule};
use fother::journal::{File, Filter, Outcome};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::stage::{NAMESPACE, Scene, at};
use crate::support::wait::{DEADLINE, eventually};

/// Seconds for which nobody has led.
const UNLED: i64 = 7200;

/// A cluster of which the last controller ended long ago, and the Rules are older.
async fn scene() -> Scene {
    let scene = Scene::of_old(SignedDuration::from_hours(3)).await;
    let renewed = format!("{:.6}", at(-UNLED).parse::<Timestamp>().unwrap());
    scene
        .apply(&json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "fother", "namespace": "fother"},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": renewed}}))
        .await;
    let mapping = json!({"id": "body.id", "type": "body.kind"});
    scene.webhook("disks", json!({"generic": mapping})).await;
    scene.action("note", json!({"collect": {}})).await;
    let window = json!({"groupBy": "event.type", "within": "3h", "count": 2});
    for (rule, trigger, correlate) in [
        ("several", json!({"webhook": {"name": "disks"}}), &window),
        ("single", json!({"webhook": {"name": "disks"}}), &json!(null)),
        ("follows", json!({"execution": {"rules": ["several"]}}), &json!(null)),
    ] {
        let rest = json!({"trigger": trigger, "correlate": correlate, "mode": "Observe",
            "target": {"ref": null, "key": "event.id"}, "ladder": [{"run": "note"}]});
        scene.rule(rule, rest).await;
    }
    let window = json!({"groupBy": "event.data.regarding.name", "within": "3h", "count": 2});
    let events = json!({"trigger": {"event": {"reasons": ["Leak"]}}, "correlate": window, "mode": "Observe", "target": null,
        "ladder": [{"run": "note"}]});
    scene.rule("events", events).await;
    let events = json!({"trigger": {"event": {"reasons": ["Leak"]}}, "mode": "Observe", "target": null, "ladder": [{"run": "note"}]});
    scene.rule("each", events).await;
    scene
}

/// What a Rule says of itself once it is Ready.
async fn says(scene: &Scene, rule: &str) -> String {
    scene.ready("Rule", rule).await;
    let conditions = scene.api::<Rule>().get(rule).await.unwrap().status.unwrap().conditions;
    conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().message
}

#[tokio::test]
async fn what_a_window_may_lack_is_told_on_the_rule() {
    let scene = scene().await;
    let running = scene.start("one").await;
    for (rule, expected) in [
        ("several", "nobody received from "),
        ("events", "may be forgotten: until "),
        ("follows", "nobody led from "),
        ("each", "Events that were an hour old by then may be forgotten"),
    ] {
        let said = says(&scene, rule).await;
        assert!(said.contains(expected), "{rule}: {said}");
    }
    let said = says(&scene, "single").await;
    assert!(!said.contains("nobody"), "each event stands for itself: {said}");
    running.stop().await;
    // Somebody has led until just now.
    let running = scene.start("two").await;
    eventually("nothing is missing", DEADLINE, || async {
        let said = says(&scene, "several").await;
        if said.contains("nobody") { Err(said) } else { Ok(()) }
    })
    .await;
    running.stop().await;
}

/// An Execution of the Rule `several` that ended so many seconds ago.
async fn ended(scene: &Scene, name: &str, seconds: i64) -> String {
    let whole = |seconds: i64| {
        let time = at(seconds).parse::<Timestamp>().unwrap();
        Timestamp::from_second(time.as_second()).unwrap().to_string()
    };
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": name});
    let decision = json!({"id": "0123456789abcdef0123456789abcdef", "time": whole(-seconds - 5), "rule": {"name": "several"},
        "mode": "Observe", "occurrence": name, "definition": "x", "matched": {"object": object, "resourceVersion": "1"}});
    let spec = json!({"serviceAccountName": "healer", "target": object, "decision": decision});
    let labels = json!({"fother.dev/rule": "several"});
    scene
        .own("fother.dev/v1alpha1", "Execution", name, json!({"metadata": {"labels": labels}, "spec": spec}))
        .await;
    let over = json!({"type": "Succeeded", "status": "True", "reason": "Observed", "message": "",
        "lastTransitionTime": whole(-seconds)});
    let status = json!({"status": {"finishedAt": whole(-seconds), "episodeClosedAt": whole(-seconds), "conditions": [over]}});
    let api: Api<Execution> = scene.api();
    let written = api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    written.uid().unwrap()
}

/// Whoever led may have gone before it answered; what ended long before that was answered.
#[tokio::test]
async fn an_end_that_nobody_was_there_to_answer_is_told_of_once() {
    let scene = scene().await;
    let lost = ended(&scene, "lost", UNLED + 20).await;
    ended(&scene, "answered", UNLED + 600).await;
    let running = scene.start("one").await;
    says(&scene, "follows").await;
    let told = || {
        let journal = File::read(&scene.journal()).map_err(|error| error.to_string())?;
        let filter = Filter { rule: Some("follows".to_owned()), limit: 100, ..Filter::default() };
        let found = journal.decisions(&filter).map_err(|error| error.to_string())?.into_iter();
        let passed = found.filter(|decision| decision.outcome == Outcome::Suppressed);
        Ok::<_, String>(passed.map(|d| (d.event, d.target, d.reason)).collect::<Vec<_>>())
    };
    let why = "it was over for more than an hour before anybody could answer it";
    let expected = [(format!("executions.fother.dev {lost}"), "ConfigMap/lost".to_owned(), why.to_owned())];
    let once = async || {
        eventually("it is told of", DEADLINE, || async {
            let found = told()?;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    once().await;
    // Whatever has the Rule looked at again.
    let fresh = ended(&scene, "fresh", 1).await;
    eventually("another end is answered", DEADLINE, || async {
        let found = scene.executions().await;
        let of = |e: &Execution| e.spec.decision.as_ref().and_then(|d| d.event.clone()).map(|event| event.id);
        if found.iter().any(|e| of(e).as_ref() == Some(&fresh)) { Ok(()) } else { Err(found.len()) }
    })
    .await;
    once().await;
    assert!(running.metrics.render().contains("guard=\"tooold\"} 1"), "{}", running.metrics.render());
    running.stop().await;
}
