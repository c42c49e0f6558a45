//! Objects that mean something only together: how they are now, not what has happened.

use fother::api::{AttemptState, Execution};
use fother::source::watch::now;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::bay::{Bay, MEND, NAMESPACE};

/// A boat at a pier, that leaks since so many seconds ago.
async fn boat(bay: &Bay, (name, pier): (&str, &str), ago: i64) {
    let since = now().saturating_sub(SignedDuration::from_secs(ago)).expect("a time");
    let data = json!({"hull": "leaking", "pier": pier, "since": format!("{since:.0}")});
    put(bay, name, data).await;
}

async fn put(bay: &Bay, name: &str, data: Value) {
    bay.apply(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}))
        .await;
}

/// A rule about the boats of a pier that means them only together.
async fn rule(bay: &Bay, correlate: Value, changes: Value) {
    let mut spec = json!({
        "when": "has(object.data.pier)",
        "since": "timestamp(object.data.since)",
        "target": {"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "${{ object.data.pier }}"}},
        "correlate": correlate,
        "ladder": [{"run": MEND, "verify": {"within": "2s", "stableFor": "1s"}}],
    });
    json_patch::merge(&mut spec, &changes);
    bay.rule("pier", spec).await;
    bay.watching("pier").await;
}

fn captured(execution: &Execution) -> Vec<String> {
    let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
    captured.map(|one| one.data.0.pointer("/metadata/name").map_or("?".into(), ToString::to_string)).collect()
}

#[tokio::test]
async fn enough_objects_act_on_what_they_have_in_common_once() {
    let mut bay = Bay::new().await;
    bay.boat("north", "quay").await;
    bay.boat("south", "quay").await;
    rule(&bay, json!({"within": "10m", "count": 3}), json!({})).await;
    boat(&bay, ("ark", "north"), 30).await;
    boat(&bay, ("brig", "north"), 20).await;
    // Too long ago to have anything to do with the others, and at another pier.
    boat(&bay, ("cog", "north"), 3600).await;
    boat(&bay, ("dhow", "south"), 10).await;
    bay.restart().await;
    bay.watching("pier").await;
    assert_eq!(bay.executions().await.len(), 0);
    boat(&bay, ("elba", "north"), 1).await;
    let acted = bay.only("three at one pier are enough", |_| true).await;
    assert_eq!(acted.spec.target.as_ref().map(|target| target.name.as_str()), Some("north"));
    assert_eq!(captured(&acted), ["\"ark\"", "\"brig\"", "\"elba\""]);
    let ended = bay.only("they still leak", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Quarantined"), "while enough match, nothing is verified");
    bay.restart().await;
    bay.watching("pier").await;
    bay.only("a restart finds the same episode", |_| true).await;
    put(&bay, "ark", json!({})).await;
    bay.only("two are no episode", |execution| {
        execution.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some())
    })
    .await;
}

#[tokio::test]
async fn an_object_that_is_well_again_before_it_acts_counts_no_more() {
    let bay = Bay::new().await;
    bay.boat("north", "quay").await;
    let read = "GET /api/v1/namespaces/default/configmaps/brig";
    bay.hold(read);
    rule(&bay, json!({"within": "10m", "count": 2}), json!({})).await;
    boat(&bay, ("ark", "north"), 30).await;
    boat(&bay, ("brig", "north"), 20).await;
    bay.until_struck(read, 1).await;
    put(&bay, "brig", json!({"hull": "tight"})).await;
    bay.lift(read);
    // A third shows that the rule has gone on: with the first it is enough.
    boat(&bay, ("cog", "north"), 10).await;
    let acted = bay.only("the two that leak", |_| true).await;
    assert_eq!(captured(&acted), ["\"ark\"", "\"cog\""]);
}

#[tokio::test]
async fn what_is_not_there_when_its_time_is_over_is_missed() {
    let bay = Bay::new().await;
    for pier in ["north", "south"] {
        bay.boat(pier, "quay").await;
    }
    let named = |name: &str| json!({"name": name, "when": format!("object.data.is == '{name}'")});
    let absent = json!({"after": named("primary"), "expected": named("standby")});
    let correlate = json!({"groupBy": "object.data.pier", "within": "4s", "absent": absent});
    let with = json!([{"run": MEND, "verify": {"within": "1m", "stableFor": "1s"}}]);
    let member = |is: &str, pier: &str, ago: i64| {
        let since = now().saturating_sub(SignedDuration::from_secs(ago)).expect("a time");
        json!({"is": is, "pier": pier, "since": format!("{since:.0}")})
    };
    for pier in ["north", "south"] {
        put(&bay, &format!("primary-{pier}"), member("primary", pier, 1)).await;
    }
    put(&bay, "standby-south", member("standby", "south", 0)).await;
    rule(&bay, correlate, json!({"ladder": with})).await;
    let acted = bay.only("the north has no standby", |_| true).await;
    assert_eq!(acted.spec.target.as_ref().map(|target| target.name.as_str()), Some("north"));
    let decision = acted.spec.decision.as_ref().expect("a decision");
    assert!(
        decision.time.0 >= decision.since.as_ref().expect("a time").0,
        "not before the end of the window"
    );
    assert_eq!(decision.captured[0].member.as_deref(), Some("primary"));
    // Were it there before the rung begins, there would be nothing left to do.
    bay.only("it was mended, and is watched", |execution| {
        let rung = execution.status.as_ref().and_then(|status| status.rungs.first());
        rung.is_some_and(|rung| rung.state == AttemptState::Succeeded)
    })
    .await;
    put(&bay, "standby-north", member("standby", "north", 0)).await;
    bay.only("what was missed has come", |execution| {
        let closed = execution.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
        closed && execution.reason() == Some("TargetRecovered")
    })
    .await;
}

#[tokio::test]
async fn what_comes_just_before_it_acts_is_seen_in_the_list() {
    let bay = Bay::new().await;
    bay.boat("north", "quay").await;
    let named = |name: &str| json!({"name": name, "when": format!("object.data.is == '{name}'")});
    let absent = json!({"after": named("primary"), "expected": named("standby")});
    let list = "GET /api/v1/namespaces/default/configmaps?&limit=500";
    let since = format!("{:.0}", now());
    put(&bay, "primary", json!({"is": "primary", "pier": "north", "since": since})).await;
    rule(&bay, json!({"within": "4s", "absent": absent}), json!({})).await;
    bay.hold(list);
    bay.until_struck(list, 1).await;
    put(&bay, "standby", json!({"is": "standby", "pier": "north", "since": since})).await;
    bay.lift(list);
    put(&bay, "standby", json!({"is": "standby", "pier": "north", "since": since, "told": "again"})).await;
    bay.later().await;
    assert_eq!(bay.executions().await.len(), 0);
}
