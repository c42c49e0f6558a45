//! A controller that starts anew looks at everything there is, and where nothing is to be done it writes nothing.

use std::collections::BTreeMap;

use fother::api::{AttemptState, Execution, Rule, Webhook};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::controller::{Controller, USER};
use super::hooks::{self, ALERTS};
use super::scenario::{CAULK, MEND, PAINT, Scenario};
use super::{main_path, triggers};

/// What is written also when nothing happens.
const LEASES: &str = "coordination.k8s.io/leases";

/// A rule that answers one boat.
async fn rule_of(scenario: &Scenario, name: &str, boat: &str, mut changes: Value) {
    changes["when"] = json!(format!("object.metadata.name == '{boat}' && object.data.hull == 'leaking'"));
    scenario.rule(name, changes).await;
}

/// Rules over boats: what has been tried in vain, observed, mended; what runs, and what waits.
async fn rules_about_state(scenario: &Scenario) {
    let tight = "target.data.hull == 'tight'";
    let paint = json!([{"run": PAINT, "verify": {"when": tight, "within": "1s"}}]);
    rule_of(scenario, "paints", "ark", json!({"ladder": paint})).await;
    rule_of(scenario, "observes", "ark", json!({"mode": "Observe"})).await;
    let verify = json!({"when": tight, "within": "30s", "stableFor": "1s"});
    let ladder = json!([{"run": CAULK}, {"run": MEND, "verify": verify}]);
    rule_of(scenario, "mends", "brig", json!({"ladder": ladder})).await;
    let elsewhere = json!([{"run": CAULK, "with": {"hold": "/hold/away"}}]);
    rule_of(scenario, "runs", "cog", json!({"ladder": elsewhere})).await;
    let patient = json!([{"run": PAINT, "verify": {"when": tight, "within": "1h"}}]);
    rule_of(scenario, "verifies", "dory", json!({"ladder": patient})).await;
    let since = "timestamp(object.metadata.creationTimestamp)";
    rule_of(scenario, "waits", "ketch", json!({"for": "1h", "since": since})).await;
    let mend = json!([{"run": MEND, "verify": {"when": tight, "within": "30s", "stableFor": "0s"}}]);
    rule_of(scenario, "rests", "yawl", json!({"ladder": mend, "limits": {"cooldown": "1h"}})).await;
    rule_of(scenario, "dreams", "ark", json!({"ladder": [{"run": "no-such-action"}]})).await;
}

/// Rules over what is told: a Kubernetes Event, the clock, another rule's end, and an alert.
async fn rules_about_events(scenario: &Scenario) {
    let told = |trigger: Value| {
        let mut trigger = trigger;
        trigger["resource"] = Value::Null;
        json!({"trigger": trigger, "when": null, "ladder": [{"run": PAINT}]})
    };
    let event = json!({"event": {"reasons": ["Leak"], "regardingKind": "ConfigMap"}});
    scenario.rule("hears", told(event)).await;
    let mut yearly = told(json!({"schedule": {"cron": "0 0 1 1 *"}}));
    yearly["target"] = json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "ark"}});
    scenario.rule("yearly", yearly).await;
    scenario.rule("follows", told(json!({"execution": {"rules": ["paints"]}}))).await;
    hooks::open(scenario).await;
    hooks::listens(scenario, "alarmed", ALERTS, json!({"for": "1h"})).await;
    for rule in ["hears", "yearly", "follows", "paints", "observes", "mends", "runs", "verifies", "waits"] {
        scenario.watching(rule).await;
        scenario.answers_events(rule).await;
    }
    scenario.watching("rests").await;
    scenario.condition("dreams", "Ready", "False").await;
}

/// Waits until a rule holds a target, for this reason.
async fn is_held(scenario: &Scenario, rule: &str, reason: &str) {
    let held = |rule: &Rule| {
        let held = rule.status.iter().flat_map(|status| &status.held);
        held.map(|held| json!(held.reason)).eq([json!(reason)])
    };
    scenario.stage.until(&format!("{rule} holds a target for {reason}"), rule, held).await;
}

/// Everything happens, up to where nothing more does.
async fn all_happens(scenario: &Scenario, controller: &Controller) {
    for boat in ["ark", "brig", "cog", "dory", "ketch", "sloop", "yawl"] {
        scenario.boat(boat, if boat == "sloop" { "tight" } else { "leaking" }).await;
    }
    let alert = hooks::alert("sloop", Timestamp::now(), None);
    assert_eq!(hooks::deliver(scenario, controller, ALERTS, alert).await.status, 202);
    for (rule, reason) in [
        ("paints", "Quarantined"),
        ("observes", "Observed"),
        ("mends", "TargetRecovered"),
        ("rests", "TargetRecovered"),
        ("follows", "Completed"),
    ] {
        scenario.ends(rule, reason).await;
    }
    // Not while as many run as may: an Event does not wait for a place.
    let leak = triggers::event(scenario, "leak", "sloop", "Leak");
    scenario.stage.create::<Event>(leak).await;
    scenario.ends("hears", "Completed").await;
    let closed = |e: &Execution| e.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    scenario.only("rests", "its episode is over", closed).await;
    scenario.set_hull("yawl", "leaking").await;
    for (rule, reason) in [("rests", "Cooldown"), ("waits", "For"), ("alarmed", "For")] {
        is_held(scenario, rule, reason).await;
    }
    let job = |e: &Execution| e.status.as_ref().is_some_and(|s| s.rungs[0].state == AttemptState::Running);
    scenario.only("runs", "its Job runs", job).await;
    let verifies = |e: &Execution| e.status.as_ref().is_some_and(|s| s.rungs[0].verify.is_some());
    scenario.only("verifies", "it is verified", verifies).await;
    let heard = |hook: &Webhook| hook.status.as_ref().is_some_and(|status| status.last_event_at.is_some());
    scenario.stage.until("the Webhook says when it heard something", ALERTS, heard).await;
}

/// What the controller has told of, as it stands: name and version of each of its Events.
async fn told(scenario: &Scenario) -> BTreeMap<String, Option<String>> {
    let found = scenario.stage.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let ours = found.into_iter().filter(|event| {
        let reporter = event.reporting_controller.as_deref();
        reporter == Some("fother.dev/controller") && !event.name_any().starts_with("canary")
    });
    ours.map(|event| (event.name_any(), event.metadata.resource_version)).collect()
}

#[tokio::test]
async fn a_second_look_at_everything_writes_nothing() {
    let Some(scenario) = Scenario::alone("second-look").await else { return };
    std::fs::create_dir(scenario.stage.claim("hold").join("away")).unwrap();
    rules_about_state(&scenario).await;
    let mut controller = scenario.controller().await;
    let _git = main_path::commit(&scenario).await;
    scenario.let_caulk_end();
    rules_about_events(&scenario).await;
    all_happens(&scenario, &controller).await;
    scenario.controller_catches_up().await;

    let (mark, before) = (scenario.audit().mark().await, told(&scenario).await);
    controller.restart().await;
    controller.looks_at_the_pack().await;
    for (rule, reason) in [("rests", "Cooldown"), ("waits", "For"), ("alarmed", "For")] {
        is_held(&scenario, rule, reason).await;
    }
    scenario.controller_catches_up().await;
    let after = told(&scenario).await;
    let writes = scenario.audit().since(mark).await.into_iter().filter(|request| {
        let canary = request.name.as_ref().is_some_and(|name| name.starts_with("canary"));
        request.user == USER && request.is_write() && request.resource != LEASES && !canary
    });
    let writes: Vec<_> = writes.collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(after, before, "nobody is told anything again");
}
