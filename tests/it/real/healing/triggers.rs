//! What a rule may watch: Kubernetes Events, custom resources, by label; and how long something has been wrong.

use fother::api::Execution;
use fother::decide::matching::event_identity;
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::scenario::{CAULK, MEND, PAINT, Scenario, healer_rights};
use crate::support::proxy::{Deed, Moment, Order, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// An Event about a boat.
pub fn event(scenario: &Scenario, name: &str, boat: &str, reason: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": name}, "eventTime": format!("{:.6}", Timestamp::now()), "action": "Sailing",
        "reason": reason, "type": "Warning", "note": "water in the hold",
        "reportingController": "example.com/lookout", "reportingInstance": "crow's nest",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "namespace": scenario.stage.namespace, "name": boat},
    })
}

async fn executions(scenario: &Scenario, rule: &str, count: usize) -> Vec<Execution> {
    eventually(&format!("{count} Executions have ended"), DEADLINE, || async {
        let found = scenario.executions(rule).await;
        let ended = found.iter().filter(|execution| execution.is_finished()).count();
        if (ended, found.len()) == (count, count) { Ok(found) } else { Err(format!("{found:#?}")) }
    })
    .await
}

#[tokio::test]
async fn an_event_is_answered_once_for_each_time_it_happens() {
    let Some(scenario) = Scenario::alone("event").await else { return };
    let changes = json!({
        "trigger": {"resource": null, "event": {"type": "Warning", "reasons": ["Leak"], "regardingKind": "ConfigMap"}},
        "when": "event.data.note.contains('water')",
        "ladder": [{"run": MEND}],
    });
    scenario.boat("ark", "leaking").await;
    scenario.stage.create::<Event>(event(&scenario, "before", "ark", "Leak")).await;
    scenario.rule("mends", changes).await;
    let mut controller = scenario.controller().await;
    scenario.watching("mends").await;
    // A rule is a second old before it answers: its creation is kept in whole seconds.
    scenario.controller_catches_up().await;
    scenario.stage.create::<Event>(event(&scenario, "other", "ark", "Fire")).await;
    scenario.stage.create::<Event>(event(&scenario, "leak", "ark", "Leak")).await;
    let first = executions(&scenario, "mends", 1).await.remove(0);
    assert_eq!(first.reason(), Some("Completed"));
    assert_eq!(first.spec.target.as_ref().map(|target| target.name.as_str()), Some("ark"));
    let boat = scenario.stage.api::<ConfigMap>().get("ark").await.unwrap();
    assert_eq!(boat.data.unwrap()["hull"], "tight");

    assert_eq!(first.spec.decision.as_ref().map(|d| d.matched.object.name.as_str()), Some("leak"));

    // One that happens while the first is answered is suppressed, and stays so when it is seen again.
    controller.restart().await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("mends").await.len(), 1, "the same event, seen again");

    let series = json!({"series": {"count": 2, "lastObservedTime": format!("{:.6}", Timestamp::now())}});
    let events = scenario.stage.api::<Event>();
    events.patch("leak", &PatchParams::default(), &Patch::Merge(series)).await.unwrap();
    executions(&scenario, "mends", 2).await;
}

#[tokio::test]
async fn any_kind_can_be_watched_and_selected_by_label() {
    let Some(scenario) = Scenario::new("custom").await else { return };
    let (group, plural) = (format!("{}.example.com", scenario.stage.namespace), "boats");
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": "Boat", "plural": plural, "singular": "boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}],
        },
    }))
    .unwrap();
    let client = scenario.stage.client.clone();
    Api::<CustomResourceDefinition>::all(client.clone()).create(&PostParams::default(), &crd).await.unwrap();
    let gvk = GroupVersionKind::gvk(&group, "v1", "Boat");
    let boats: Api<DynamicObject> = Api::namespaced_with(
        client,
        &scenario.stage.namespace,
        &ApiResource::from_gvk_with_plural(&gvk, plural),
    );
    let boat = |name: &str, fleet: &str| -> DynamicObject {
        let metadata = json!({"name": name, "labels": {"fleet": fleet}});
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": "Boat", "metadata": metadata, "spec": {"hull": "leaking"}});
        serde_json::from_value(object).unwrap()
    };
    for (name, fleet) in [("ark", "ours"), ("brig", "theirs")] {
        eventually("the boat is created", DEADLINE, || async {
            boats.create(&PostParams::default(), &boat(name, fleet)).await
        })
        .await;
    }
    let mut rights = healer_rights();
    rights.as_array_mut().unwrap().push(json!({"apiGroups": [group], "resources": [plural], "verbs": ["*"]}));
    scenario.account("bosun", &rights).await;
    scenario
        .action("caulk-boat", json!({"kubernetes": {"patch": {"merge": {"spec": {"hull": "tight"}}}}}))
        .await;
    let selector = json!({"matchLabels": {"fleet": "ours"}});
    let verify = json!({"when": "target.spec.hull == 'tight'", "within": "10s", "stableFor": "1s"});
    let changes = json!({
        "serviceAccountName": "bosun",
        "trigger": {"resource": {"apiVersion": format!("{group}/v1"), "kind": "Boat", "labelSelector": selector}},
        "when": "object.spec.hull == 'leaking'",
        "ladder": [{"run": "caulk-boat", "verify": verify}],
    });
    scenario.rule("caulks", changes).await;
    scenario.ends("caulks", "TargetRecovered").await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("caulks").await, ["ark"]);
}

#[tokio::test]
async fn a_time_read_from_the_object_counts_through_a_restart() {
    let Some(scenario) = Scenario::alone("since").await else { return };
    let mut controller = scenario.controller().await;
    scenario
        .rule("old-leaks", json!({"mode": "Observe", "for": "30m", "since": "timestamp(object.data.since)"}))
        .await;
    for (name, age) in [("ark", 3600), ("brig", 60)] {
        let since = (Timestamp::now() - SignedDuration::from_secs(age)).to_string();
        let boat = json!({"metadata": {"name": name}, "data": {"hull": "tight", "since": since}});
        scenario.stage.create::<ConfigMap>(boat).await;
    }
    scenario.watching("old-leaks").await;
    controller.kill();
    scenario.set_hull("ark", "leaking").await;
    scenario.set_hull("brig", "leaking").await;
    controller.start_again();
    controller.ready().await;
    scenario.ends("old-leaks", "Observed").await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("old-leaks").await, ["ark"], "the other one is not wrong for long enough");
}

#[tokio::test]
async fn an_object_that_cannot_be_judged_is_named() {
    let Some(scenario) = Scenario::new("unjudged").await else { return };
    let when = "object.data.hull == 'leaking' && int(object.data.depth) > 3";
    scenario.rule("paints", json!({"when": when, "ladder": [{"run": PAINT}]})).await;
    scenario
        .stage
        .create::<ConfigMap>(
            json!({"metadata": {"name": "ark"}, "data": {"hull": "leaking", "depth": "deep"}}),
        )
        .await;
    eventually("the rule names it", DEADLINE, || async {
        let message = scenario.condition("paints", "Ready", "True").await.message;
        if message.starts_with("watching; not decided: ark: ") { Ok(()) } else { Err(message) }
    })
    .await;
    scenario
        .stage
        .create::<ConfigMap>(json!({"metadata": {"name": "brig"}, "data": {"hull": "leaking", "depth": "4"}}))
        .await;
    scenario.ends("paints", "Completed").await;
    assert_eq!(
        scenario.targets("paints").await,
        ["brig"],
        "the one that cannot be judged blocks only itself"
    );
}

#[tokio::test]
async fn a_condition_that_takes_too_long_is_stopped_and_says_so() {
    let Some(scenario) = Scenario::new("endless").await else { return };
    let endless = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, \
                   [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, object.data.hull != '')))))";
    scenario.rule("ponders", json!({"when": endless})).await;
    scenario.rule("paints", json!({"ladder": [{"run": PAINT}]})).await;
    scenario.boat("ark", "leaking").await;
    scenario.ends("paints", "Completed").await;
    eventually("the Rule says so", DEADLINE, || async {
        let ready = scenario.condition("ponders", "Ready", "True").await.message;
        let said = ready.contains("ark: ") && ready.contains("evaluation exceeded 10,000 steps");
        if said { Ok(()) } else { Err(ready) }
    })
    .await;
    assert!(scenario.executions("ponders").await.is_empty());
}

#[tokio::test]
async fn a_rule_whose_for_forgets_says_so() {
    let Some(scenario) = Scenario::new("forgets").await else { return };
    scenario.rule("waits", json!({"for": "1h"})).await;
    let since = "timestamp(object.metadata.creationTimestamp)";
    scenario.rule("remembers", json!({"for": "1h", "since": since})).await;
    let of = async |rule| scenario.condition(rule, "Ready", "True").await.message;
    assert_eq!(of("waits").await, "watching; without `since`, `for` starts again when the controller does");
    assert_eq!(of("remembers").await, "watching");
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_named() {
    let Some(scenario) = Scenario::new("unserved").await else { return };
    let trigger = json!({"resource": {"apiVersion": "example.com/v1", "kind": "Kraken"}});
    scenario.rule("hunts", json!({"trigger": trigger})).await;
    // For a moment it may also lack an Action that the controller has not seen yet.
    scenario.condition("hunts", "ResolvedRefs", "True").await;
    let ready = scenario.condition("hunts", "Ready", "False").await;
    assert_eq!(ready.reason, "SourceUnavailable");
    assert_eq!(ready.message, "kind Kraken of example.com/v1 is not served here");
    scenario.condition("hunts", "Reconciling", "True").await;
}

#[tokio::test]
async fn an_event_that_cannot_be_answered_stops_no_other() {
    let Some(scenario) = Scenario::alone("poison").await else { return };
    let trigger = json!({"resource": null, "event": {"reasons": ["Leak"]}});
    scenario.rule("mends", json!({"trigger": trigger, "when": null, "ladder": [{"run": MEND}]})).await;
    scenario.answers_events("mends").await;
    for boat in ["ark", "brig"] {
        scenario.boat(boat, "leaking").await;
        scenario.stage.create::<Event>(event(&scenario, boat, boat, "Leak")).await;
    }
    // Somebody has taken the name of the Execution that the first one leads to.
    let first = scenario.stage.api::<Event>().get("ark").await.unwrap();
    let occurrence = event_identity(&serde_json::to_value(first).unwrap());
    scenario.takes_name("mends", "ark", &occurrence).await;
    let _controller = scenario.controller().await;
    scenario.ends("mends", "Completed").await;
    assert_eq!(scenario.targets("mends").await, ["brig"]);
    scenario.is_told("ConfigMap", "ark", &["RuleFireSuppressed"]).await;
}

/// Nobody looks at an event again that was not answered: whoever was creating its Execution has to try until it is there,
/// and to begin it although the watch does not tell of it.
#[tokio::test]
async fn an_event_whose_execution_was_created_in_vain_is_answered_all_the_same() {
    let Some(scenario) = Scenario::alone("in-vain").await else { return };
    let proxy = scenario.proxy().await;
    let trigger = json!({"resource": null, "event": {"reasons": ["Leak"]}});
    for boat in ["ark", "brig"] {
        let when = format!("event.data.regarding.name == '{boat}'");
        scenario.rule(boat, json!({"trigger": trigger, "when": when, "ladder": [{"run": MEND}]})).await;
    }
    let _controller = scenario.controller_through(&proxy).await;
    scenario.watching("ark").await;
    scenario.watching("brig").await;
    scenario.answers_events("brig").await;
    for (boat, moment) in [("ark", Moment::BeforeSent), ("brig", Moment::Committed)] {
        scenario.boat(boat, "leaking").await;
        eventually("Executions are watched", DEADLINE, || async {
            let watches = proxy.order_watches("/executions", Order::Freeze);
            if watches > 0 { Ok(()) } else { Err("no watch") }
        })
        .await;
        let creation = Requests::new(Method::POST, r"/executions(\?|$)").nth(1);
        let fault = proxy.arm(creation, moment, Deed::Cut);
        scenario.stage.create::<Event>(event(&scenario, boat, boat, "Leak")).await;
        fault.wait_until_hit(DEADLINE).await;
        eventually("the boat is mended", DEADLINE, || async {
            let data = scenario.stage.api::<ConfigMap>().get(boat).await.unwrap().data.unwrap();
            if data["hull"] == "tight" { Ok(()) } else { Err(format!("{data:?}")) }
        })
        .await;
        proxy.order_watches("/executions", Order::Close);
    }
    scenario.controller_catches_up().await;
    executions(&scenario, "ark", 1).await;
    executions(&scenario, "brig", 1).await;
}

#[tokio::test]
async fn an_event_that_comes_while_its_target_is_remedied_is_suppressed_and_says_so() {
    let Some(scenario) = Scenario::new("suppressed").await else { return };
    let trigger = json!({"resource": null, "event": {"reasons": ["Leak"]}});
    scenario.rule("caulks", json!({"trigger": trigger, "when": null, "ladder": [{"run": CAULK}]})).await;
    scenario.watching("caulks").await;
    scenario.answers_events("caulks").await;
    scenario.boat("ark", "leaking").await;
    let leak = |name: &str| event(&scenario, name, "ark", "Leak");
    scenario.stage.create::<Event>(leak("first")).await;
    scenario.until_caulking(1).await;
    scenario.stage.create::<Event>(leak("second")).await;
    scenario.is_told("ConfigMap", "ark", &["ExecutionJobCreated", "RuleFireSuppressed", "RuleFired"]).await;
    scenario.let_caulk_end();
    let execution = scenario.ends("caulks", "Completed").await;
    assert_eq!(execution.spec.decision.unwrap().matched.object.name, "first");
    scenario.controller_catches_up().await;
    assert_eq!((scenario.executions("caulks").await.len(), scenario.caulked()), (1, 1), "it is not queued");
}
