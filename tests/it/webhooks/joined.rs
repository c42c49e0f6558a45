//! What comes from different sources, joined by Rules over the Executions of Rules that observe; and what a Rule leaves for
//! another to read.

use fother::api::Execution;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::stage::{Running, Scene, alert, at, notification};
use crate::support::wait::{DEADLINE, eventually};

fn of_rule(executions: &[Execution], rule: &str) -> Vec<Execution> {
    executions.iter().filter(|execution| execution.rule() == Some(rule)).cloned().collect()
}

async fn decided(scene: &Scene, rule: &str, count: usize) -> Vec<Execution> {
    eventually(&format!("{rule} decides {count} times"), DEADLINE, || async {
        let found = of_rule(&scene.executions().await, rule);
        if found.len() == count { Ok(found) } else { Err(format!("{}", found.len())) }
    })
    .await
}

async fn ready(scene: &Scene, rules: &[&str]) {
    for rule in rules {
        scene.ready("Rule", rule).await;
        scene.aged(rule).await;
    }
}

/// A Kubernetes Event about a disk.
async fn errs(scene: &Scene, name: &str, disk: &str) {
    let regarding = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop", "name": disk});
    let event = json!({"eventTime": format!("{:.6}", Timestamp::now()), "reason": "Errors", "type": "Warning",
        "action": "Look", "note": "it errs", "regarding": regarding,
        "reportingController": "example.com/watch", "reportingInstance": "watch-1"});
    scene.own("events.k8s.io/v1", "Event", name, event).await;
}

async fn fires(running: &Running, disk: &str) {
    let answer = running.post("am", &notification(&[alert(disk, &at(-5), None)])).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn an_alert_and_an_event_of_kubernetes_act_together_on_what_both_are_about() {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
    let observes = |trigger: Value| json!({"mode": "Observe", "trigger": trigger});
    scene.rule("full", observes(json!({"alert": {"webhook": "am"}}))).await;
    let mut errors = observes(json!({"event": {"reasons": ["Errors"]}}));
    errors["target"] = Value::Null;
    errors["ladder"] = json!([{"run": "mark"}]);
    scene.rule("errors", errors).await;
    let member = |name: &str| json!({"name": name, "when": format!("event.data.rule == '{name}'")});
    let mut errors = member("errors");
    errors["given"] = "event.data.target.name == captured.full.data.event.data.labels.disk".into();
    let by = "${{ captured.full.data.event.data.labels.disk + ' ' + captured.errors.data.matched.name }}";
    let both = json!({"trigger": {"execution": {"rules": ["full", "errors"], "outcomes": ["Observed"]}}, "target": null,
        "correlate": {"within": "10m", "all": [member("full"), errors]},
        "ladder": [{"run": "mark", "with": {"by": by}}]});
    scene.rule("both", both).await;
    let rules = ["full", "errors", "both"];
    let running = scene.start("one").await;
    ready(&scene, &rules).await;
    fires(&running, "sda").await;
    errs(&scene, "errs-1", "sdb").await;
    decided(&scene, "full", 1).await;
    decided(&scene, "errors", 1).await;
    running.stop().await;

    let running = scene.start("two").await;
    ready(&scene, &rules).await;
    assert_eq!(of_rule(&scene.executions().await, "both").len(), 0, "they are about different disks");
    errs(&scene, "errs-2", "sda").await;
    let joined = decided(&scene, "both", 1).await.remove(0);
    assert_eq!(joined.spec.target.as_ref().map(|target| target.name.as_str()), Some("sda"));
    let decision = joined.spec.decision.unwrap();
    let parts: Vec<_> = decision.captured.iter().filter_map(|event| event.member.as_deref()).collect();
    assert_eq!((parts, decision.depth), (vec!["full", "errors"], Some(1)));
    eventually("it has acted", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") }).await;
    assert_eq!(scene.mark_of("sda").await.as_deref(), Some("sda errs-2"), "it reads what both were made of");
    running.stop().await;

    let running = scene.start("three").await;
    ready(&scene, &rules).await;
    // What happens while another Execution acts on the target is not observed: times are kept in whole seconds.
    eventually("it has ended for a while", DEADLINE, || async {
        let joined = of_rule(&scene.executions().await, "both").remove(0);
        let ended = joined.status.and_then(|status| status.finished_at).ok_or("not yet")?;
        if Timestamp::now().duration_since(ended.0).as_secs() >= 3 { Ok(()) } else { Err("not yet") }
    })
    .await;
    errs(&scene, "errs-3", "sda").await;
    decided(&scene, "errors", 3).await;
    assert_eq!(of_rule(&scene.executions().await, "both").len(), 1, "the alert has counted");
    running.stop().await;
}

/// A Rule over reports, which a Webhook receives.
async fn about_reports(scene: &Scene, name: &str, changes: Value) {
    let mut rule = json!({"mode": "Observe", "trigger": {"webhook": {"name": "reports"}},
        "target": {"ref": {"name": "${{ event.data.disk }}"}}, "ladder": [{"run": "mark"}]});
    json_patch::merge(&mut rule, &changes);
    scene.rule(name, rule).await;
}

async fn reports(scene: &Scene) {
    scene.webhook("reports", json!({"generic": {"id": "body.id", "type": "body.kind"}})).await;
    for disk in ["sda", "sdb"] {
        scene.disk(disk).await;
    }
}

async fn report(running: &Running, kind: &str, disk: &str) {
    let report = json!({"id": format!("{kind}-{disk}"), "kind": kind, "disk": disk});
    assert_eq!(running.post("reports", &report).await.status, 202);
}

/// What other languages call `not_all`: one of several has come, and not all of them within a time.
#[tokio::test]
async fn that_not_all_of_several_came_is_told_by_a_rule_over_two_others() {
    let scene = Scene::new().await;
    reports(&scene).await;
    let once = json!({"once": {"take": "First", "within": "4s"}});
    about_reports(&scene, "some", json!({"limits": once})).await;
    let of = |kind: &str| json!({"name": kind, "when": format!("event.type == '{kind}'")});
    let all =
        json!({"groupBy": "event.data.disk", "within": "4s", "all": [of("one"), of("two"), of("three")]});
    about_reports(&scene, "all", json!({"correlate": all})).await;
    let member = |name: &str| json!({"name": name, "when": format!("event.data.rule == '{name}'")});
    let absent = json!({"groupBy": "event.data.target.name", "within": "4s",
        "absent": {"after": member("some"), "expected": member("all")}});
    let missing = json!({"trigger": {"execution": {"rules": ["some", "all"]}}, "target": null, "correlate": absent,
        "ladder": [{"run": "mark", "with": {"by": "${{ captured.some.data.event.type }}"}}]});
    scene.rule("missing", missing).await;
    let running = scene.start("one").await;
    ready(&scene, &["some", "all", "missing"]).await;
    for (kind, disk) in [("two", "sda"), ("one", "sda"), ("one", "sdb"), ("two", "sdb"), ("three", "sdb")] {
        report(&running, kind, disk).await;
    }
    decided(&scene, "all", 1).await;
    let missing = decided(&scene, "missing", 1).await.remove(0);
    assert_eq!(missing.spec.target.map(|target| target.name).as_deref(), Some("sda"));
    eventually("it has acted", DEADLINE, || async { scene.mark_of("sda").await.ok_or("not yet") }).await;
    assert_eq!((scene.mark_of("sda").await.as_deref(), scene.mark_of("sdb").await), (Some("two"), None));
    running.stop().await;
}

/// What other languages call a fact, or a value in a store: it is in an object, and another Rule reads it there.
#[tokio::test]
async fn what_a_rule_has_written_into_an_object_another_reads() {
    let scene = Scene::new().await;
    reports(&scene).await;
    scene.own("v1", "ConfigMap", "facts", json!({"data": {"stage": "well"}})).await;
    let remember = json!({"parameters": [{"name": "stage", "default": "well"}],
        "kubernetes": {"patch": {"merge": {"data": {"stage": "${{ inputs.stage }}"}}}}});
    scene.action("remember", remember).await;
    let facts = json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "facts"}});
    let writes = json!({"mode": "Enforce", "target": facts,
        "ladder": [{"run": "remember", "with": {"stage": "${{ event.type }}"}}]});
    about_reports(&scene, "writes", writes).await;
    let reads = json!({"trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}}, "target": null,
        "when": "object.metadata.name == 'facts' && object.data.stage == 'failed'",
        "ladder": [{"run": "mark", "with": {"by": "${{ object.data.stage }}"}}]});
    scene.rule("reads", reads).await;
    let running = scene.start("one").await;
    ready(&scene, &["writes", "reads"]).await;
    assert_eq!(scene.executions().await.len(), 0, "the fact is another");
    report(&running, "failed", "sdb").await;
    eventually("the fact is answered", DEADLINE, || async { scene.mark_of("facts").await.ok_or("not yet") })
        .await;
    let found = of_rule(&scene.executions().await, "reads");
    assert_eq!((found.len(), scene.mark_of("facts").await.as_deref()), (1, Some("failed")));
    running.stop().await;
}
