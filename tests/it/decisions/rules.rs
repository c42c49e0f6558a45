//! What fires, what is held, and what proves that an episode is over.

use fother::api::Execution;
use kube::ResourceExt;
use serde_json::json;

use super::bay::{Bay, NAMESPACE, PAINT};
use crate::support::wait::{DEADLINE, eventually};

fn is_closed(execution: &Execution) -> bool {
    execution.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some())
}

const CREATE: &str = "POST /apis/fother.dev/v1alpha1/namespaces/default/executions";
const LIST: &str = "GET /api/v1/namespaces/default/configmaps?&limit=";
/// A list from its second page on.
const REST: &str = "GET /api/v1/namespaces/default/configmaps?&limit=100&continue=";

#[tokio::test]
async fn while_what_was_decided_about_matches_nothing_else_is_looked_at() {
    let bay = Bay::new().await;
    bay.count(LIST);
    bay.rule("ark", json!({"ladder": [{"run": PAINT}]})).await;
    // The watch begins with a list, and whoever comes to it asks for another.
    bay.until_struck(LIST, 2).await;
    bay.boat("ark", "leaking").await;
    bay.only("it has ended", Execution::is_finished).await;
    assert_eq!(bay.struck(LIST), 2, "a namespace may have thousands");
}

#[tokio::test]
async fn what_cannot_be_judged_closes_no_episode_but_its_own() {
    let mut bay = Bay::new().await;
    let rule = |when: &str| json!({"when": when, "ladder": [{"run": PAINT}]});
    bay.rule("boats", rule("object.data.hull == 'leaking'")).await;
    bay.boat("ark", "leaking").await;
    bay.boat("brig", "leaking").await;
    bay.all("both have ended", |all| all.len() == 2 && all.iter().all(Execution::is_finished)).await;
    bay.later().await;
    // It compiles, and fails over the ark alone, which goes on leaking.
    bay.boat("brig", "tight").await;
    bay.rule("boats", rule("object.data.hull == 'leaking' && int(object.metadata.name) > 3")).await;
    bay.restart().await;
    let named = |name: &str, all: &[Execution]| {
        let of = |one: &&Execution| one.spec.target.as_ref().is_some_and(|target| target.name == name);
        all.iter().find(of).is_some_and(is_closed)
    };
    bay.all("the brig is well", |all| named("brig", all)).await;
    assert!(!named("ark", &bay.executions().await));
    bay.rule("boats", rule("object.data.hull == 'leaking'")).await;
    bay.watching("boats").await;
    bay.boat("cog", "leaking").await;
    let all = bay.all("a third acts", |all| all.iter().filter(|one| one.is_finished()).count() == 3).await;
    assert_eq!(all.len(), 3, "nothing is done again about the ark");
}

#[tokio::test]
async fn targets_of_one_rule_are_decided_side_by_side() {
    let bay = Bay::new().await;
    bay.hold(CREATE);
    for number in 0..5 {
        bay.boat(&format!("boat-{number}"), "leaking").await;
    }
    bay.rule("boat", json!({"mode": "Observe"})).await;
    bay.until_struck(CREATE, 5).await;
    bay.lift(CREATE);
    eventually("all are answered", DEADLINE, async || {
        let count = bay.executions().await.len();
        if count == 5 { Ok(()) } else { Err(count) }
    })
    .await;
}

#[tokio::test]
async fn only_a_list_from_after_its_end_closes_an_episode() {
    let bay = Bay::new().await;
    bay.rule("ark", json!({})).await;
    bay.boat("ark", "leaking").await;
    bay.only("it has ended without success", |e| e.reason() == Some("Quarantined")).await;
    bay.refuse(LIST, 500);
    bay.boat("ark", "tight").await;
    bay.until_struck(LIST, 1).await;
    // The watch has said that the boat is well; that may be news from before the end.
    assert!(!is_closed(&bay.only("one Execution", |_| true).await));
    bay.lift(LIST);
    bay.only("its episode is over", is_closed).await;
}

#[tokio::test]
async fn what_is_on_a_later_page_of_a_list_does_not_seem_over() {
    let bay = Bay::new().await;
    for number in 0..300 {
        bay.boat(&format!("a-{number}"), "tight").await;
    }
    bay.boat("zebra", "leaking").await;
    bay.rule("zebra", json!({})).await;
    let ended = bay.only("it has ended without success", |e| e.reason() == Some("Quarantined")).await;
    for (number, breaks) in [false, true].into_iter().enumerate() {
        match breaks {
            false => bay.hold(REST),
            true => bay.refuse(REST, 500),
        }
        // Whoever comes to a watch has it list again.
        bay.rule(&format!("other-{number}"), json!({})).await;
        bay.until_struck(REST, 1).await;
        bay.later().await;
        assert!(!is_closed(&bay.only("it is not tried again", |_| true).await), "breaks: {breaks}");
        bay.lift(REST);
        bay.watching(&format!("other-{number}")).await;
    }
    let lasts = bay.only("it is the same", |_| true).await;
    assert!(!is_closed(&lasts) && lasts.name_any() == ended.name_any());
    bay.boat("zebra", "tight").await;
    bay.only("its episode is over", is_closed).await;
}

#[tokio::test]
async fn rules_that_fire_at_the_same_moment_share_the_caps() {
    let bay = Bay::new().await;
    bay.hold(CREATE);
    for number in 0..9 {
        bay.rule(&format!("boat-{number}"), json!({})).await;
        bay.boat(&format!("boat-{number}"), "leaking").await;
    }
    bay.until("five of nine fire, as many as may run in a namespace, and four are held", || {
        let of = |number: usize| {
            bay.metric(&format!(
                "fother_rule_suppressed_total{{namespace=\"default\",rule=\"boat-{number}\",guard=\"concurrency\"}}"
            ))
        };
        let held = (0..9).filter(|number| of(*number) > 0).count();
        // Who is held knows so before those that fire have asked.
        let fire = bay.struck(CREATE);
        if (held, fire) == (4, 5) { Ok(()) } else { Err(format!("{held} are held, {fire} fire")) }
    })
    .await;
    bay.lift(CREATE);
    eventually("all are answered", DEADLINE, async || {
        let count = bay.executions().await.len();
        if count == 9 { Ok(()) } else { Err(count) }
    })
    .await;
}

#[tokio::test]
async fn an_event_that_was_suppressed_stays_so_after_a_restart() {
    const SUPPRESSED: &str =
        "fother_rule_suppressed_total{namespace=\"default\",rule=\"springs\",guard=\"concurrency\"}";
    let mut bay = Bay::new().await;
    let regarding =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": name});
    for boat in ["ark", "brig"] {
        bay.boat(boat, "tight-ish").await;
    }
    bay.event_rule(
        "springs",
        json!({"ladder": [{"run": PAINT, "verify": {"when": "false", "within": "4s"}}]}),
    )
    .await;
    bay.answers("springs").await;
    bay.event("first", regarding("ark")).await;
    bay.only("it is answered", |e| e.reason() == Some("Running")).await;
    bay.event("second", regarding("brig")).await;
    bay.until("the second is suppressed", || {
        if bay.metric(SUPPRESSED) > 0 { Ok(()) } else { Err(String::new()) }
    })
    .await;
    bay.only("the first has ended", Execution::is_finished).await;
    bay.restart().await;
    bay.until("it is decided in the same way", || {
        if bay.metric(SUPPRESSED) > 0 { Ok(()) } else { Err(String::new()) }
    })
    .await;
    bay.only("one Execution", |_| true).await;
}

#[tokio::test]
async fn an_event_about_a_node_leads_to_the_node() {
    let bay = Bay::new().await;
    bay.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})).await;
    bay.event_rule("springs", json!({"ladder": [{"run": PAINT}]})).await;
    bay.answers("springs").await;
    // As the kubelet writes it.
    bay.event("full", json!({"kind": "Node", "apiVersion": "v1", "name": "n1", "uid": "n1"})).await;
    let ended = bay.only("it is answered", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn an_event_that_cannot_be_judged_is_counted_as_such() {
    let bay = Bay::new().await;
    bay.event_rule("springs", json!({"when": "int(event.data.note) > 3"})).await;
    bay.answers("springs").await;
    bay.event(
        "first",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": "ark"}),
    )
    .await;
    let series = "fother_rule_evaluations_total{namespace=\"default\",rule=\"springs\",decision=\"error\"}";
    bay.until("it is an error", || if bay.metric(series) > 0 { Ok(()) } else { Err(String::new()) }).await;
}

#[tokio::test]
async fn a_webhook_that_nobody_listens_to_says_so() {
    let bay = Bay::new().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "harbor", "namespace": NAMESPACE},
        "data": {"token": "eA=="}});
    bay.apply(secret).await;
    bay.webhook("harbor").await;
    eventually("it is not ready", DEADLINE, async || {
        let webhook = bay.read("fother.dev/v1alpha1", "Webhook", "harbor").await;
        let conditions = webhook["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let why = ready.map(|ready| (ready["status"].clone(), ready["reason"].clone(), ready["message"].clone()));
        let deaf = "nobody listens: the controller runs without --webhook-address (in the chart receiver.enabled=true)";
        match why {
            Some(why) if why == (json!("False"), json!("SourceUnavailable"), json!(deaf)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
