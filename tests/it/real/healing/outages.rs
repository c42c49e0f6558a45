//! The API server, its store, or the way to them is gone for a while, in the middle of everything. Nothing fires again,
//! nothing is missed, and as long as anybody can be told anything, it is the truth.

use fother::api::{AttemptState, Execution};
use http::Method;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::controller::Controller;
use super::scenario::{CAULK, MEND, PAINT, Scenario};
use crate::support::control_plane::Part;
use crate::support::proxy::{Deed, Moment, Order, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// How long the ark has to leak. Restarting everything takes less, so that it is restarted meanwhile.
const FOR: &str = "10s";
/// How long the cog has to be tight.
const STABLE_FOR: &str = "5s";

/// Does not help, so that the episode stays open.
async fn paints(scenario: &Scenario, boat: &str) {
    let verify = json!({"when": "target.data.hull == 'tight'", "within": "1s"});
    scenario.rule_for(boat, PAINT, json!({"ladder": [{"run": PAINT, "verify": verify}]})).await;
}

/// The boats are where a restart would hurt most: one is quarantined, a Job runs for another, one has been mended and is
/// watched, one waits for its `for`.
async fn underway(scenario: &Scenario, controller: &Controller) {
    let verify = json!({"when": "target.data.hull == 'tight'", "within": "1m", "stableFor": STABLE_FOR});
    paints(scenario, "hulk").await;
    scenario.rule_for("ark", MEND, json!({"for": FOR})).await;
    scenario.rule_for("brig", CAULK, json!({})).await;
    scenario.rule_for("cog", MEND, json!({"ladder": [{"run": MEND, "verify": verify}]})).await;
    scenario.rule_for("dory", MEND, json!({})).await;
    for rule in ["hulk", "ark", "brig", "cog", "dory"] {
        scenario.watching(rule).await;
    }
    scenario.boat("hulk", "leaking").await;
    scenario.ends("hulk", "Quarantined").await;
    scenario.boat("brig", "leaking").await;
    scenario.until_caulking(1).await;
    scenario.boat("cog", "leaking").await;
    let holds = |e: &Execution| holding_since(e).is_some();
    scenario.only("cog", "it is tight, and watched", holds).await;
    scenario.boat("ark", "leaking").await;
    scenario.is_held(controller, "ark").await;
}

fn holding_since(execution: &Execution) -> Option<Timestamp> {
    let rung = execution.status.as_ref()?.rungs.first()?;
    Some(rung.verify.as_ref()?.holding_since.as_ref()?.0)
}

impl Scenario {
    /// Waits until a rule's `for` is under way.
    pub async fn is_held(&self, controller: &Controller, rule: &str) {
        let (namespace, rule) =
            (format!("namespace=\"{}\"", self.stage.namespace), format!("rule=\"{rule}\""));
        eventually("the rule waits for its `for`", DEADLINE, || async {
            let metrics = controller.metrics().await.map_err(|error| error.to_string())?;
            let counts = |line: &&str| {
                line.starts_with("fother_rule_suppressed_total{")
                    && [namespace.as_str(), rule.as_str(), "guard=\"for\""]
                        .iter()
                        .all(|label| line.contains(label))
            };
            metrics.lines().find(counts).map(|_| ()).ok_or_else(|| metrics.clone())
        })
        .await;
    }

    /// Waits until the controller, started again if it has ended, leads after this moment; says whether it has ended.
    async fn is_led_after(&self, moment: Timestamp, controller: &mut Controller) -> bool {
        let leases = self.leases();
        let controller = std::sync::Mutex::new(controller);
        let replaced = std::sync::atomic::AtomicBool::new(false);
        eventually("the Lease is renewed", DEADLINE, || async {
            if controller.lock().unwrap().is_replaced() {
                replaced.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            let lease = leases.get("fother").await.map_err(|error| error.to_string())?;
            let renewed = lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0);
            if renewed > Some(moment) { Ok(()) } else { Err(format!("renewed at {renewed:?}")) }
        })
        .await;
        replaced.into_inner()
    }
}

/// Everything is where it would be without the restart.
async fn comes_through(scenario: &Scenario, restarted: Timestamp) {
    scenario.let_caulk_end();
    scenario.set_hull("brig", "tight").await;
    scenario.all_recover(&["ark", "brig", "cog", "dory"]).await;
    let ark = scenario.executions("ark").await.remove(0).spec.decision.unwrap();
    assert!(ark.time.0 > restarted, "it was decided meanwhile or after: {ark:#?}");
    let waited = ark.time.0.duration_since(ark.since.unwrap().0);
    assert!(waited >= SignedDuration::from_secs(9), "times are kept in whole seconds: {waited:#}");
    let cog = scenario.executions("cog").await.remove(0);
    let (held, finished) = (holding_since(&cog).unwrap(), cog.status.unwrap().finished_at.unwrap().0);
    assert!(finished.duration_since(held) >= SignedDuration::from_secs(4), "{held} to {finished}");
    scenario.has_run_one_job().await;
    scenario.controller_catches_up().await;
    for rule in ["hulk", "ark", "brig", "cog", "dory"] {
        assert_eq!(scenario.targets(rule).await, [rule], "once");
        scenario.watching(rule).await;
    }
}

/// Restarts parts of the control plane in the middle of everything.
async fn restarted(name: &str, parts: &[Part]) {
    let Some(scenario) = Scenario::alone(name).await else { return };
    let mut controller = scenario.controller().await;
    underway(&scenario, &controller).await;
    let began = Timestamp::now();
    scenario.plane().restart(parts).await;
    let back = Timestamp::now();
    scenario.boat("dory", "leaking").await;
    let ended = scenario.is_led_after(back, &mut controller).await;
    println!("{parts:?} gone for {:#}; the controller has ended: {ended}", back.duration_since(began));
    controller.ready().await;
    comes_through(&scenario, began).await;
}

#[tokio::test]
async fn the_api_server_restarts() {
    restarted("api-server", &[Part::ApiServer]).await;
}

#[tokio::test]
async fn etcd_restarts() {
    restarted("etcd", &[Part::Etcd]).await;
}

#[tokio::test]
async fn the_api_server_and_etcd_restart() {
    restarted("both", &[Part::ApiServer, Part::Etcd]).await;
}

#[tokio::test]
async fn a_rule_that_sees_nothing_says_so_and_decides_nothing() {
    let Some(scenario) = Scenario::alone("blind").await else { return };
    let proxy = scenario.proxy().await;
    scenario.rule_for("ark", MEND, json!({})).await;
    let _controller = scenario.controller_through(&proxy).await;
    scenario.watching("ark").await;
    let boats = format!("/namespaces/{}/configmaps", scenario.stage.namespace);
    eventually("the watch is open", DEADLINE, || async {
        if proxy.order_watches(&boats, Order::Flow) > 0 { Ok(()) } else { Err("it is not") }
    })
    .await;
    let cut = proxy.arm(Requests::new(Method::GET, &boats), Moment::BeforeSent, Deed::Cut);
    proxy.order_watches(&boats, Order::Close);
    scenario.boat("ark", "leaking").await;
    let ready = scenario.condition("ark", "Ready", "False").await;
    assert_eq!(ready.reason, "SourceUnavailable", "{ready:?}");
    scenario.condition("ark", "Reconciling", "True").await;
    assert_eq!(scenario.executions("ark").await.len(), 0);
    cut.release();
    scenario.watching("ark").await;
    scenario.all_recover(&["ark"]).await;
}

/// Cut off for longer than its Lease is good, a controller ends, and starts with nothing but what the cluster has. So
/// no view is ever older than the outage, however long that was.
#[tokio::test]
async fn a_controller_that_is_cut_off_starts_anew_and_misses_nothing() {
    let Some(scenario) = Scenario::alone("cut-off").await else { return };
    let proxy = scenario.proxy().await;
    for boat in ["hulk", "wreck"] {
        paints(&scenario, boat).await;
    }
    scenario.rule_for("brig", CAULK, json!({})).await;
    for boat in ["ark", "eel"] {
        scenario.rule_for(boat, MEND, json!({})).await;
    }
    let mut controller = scenario.controller_through(&proxy).await;
    for boat in ["hulk", "wreck", "brig"] {
        scenario.boat(boat, "leaking").await;
    }
    scenario.ends("hulk", "Quarantined").await;
    scenario.ends("wreck", "Quarantined").await;
    scenario.until_caulking(1).await;
    let runs = |e: &Execution| e.status.as_ref().is_some_and(|s| s.rungs[0].state == AttemptState::Running);
    scenario.only("brig", "its Job is recorded", runs).await;

    let cut = proxy.arm(Requests::any("."), Moment::BeforeSent, Deed::Cut);
    proxy.order_watches(".", Order::Close);
    // Broken, and it stays so; broken and mended; mended and broken again; mended; a Job that ends.
    scenario.boat("ark", "leaking").await;
    for (boat, hulls) in
        [("eel", ["tight", "tight"]), ("wreck", ["tight", "leaking"]), ("hulk", ["tight", "tight"])]
    {
        if boat == "eel" {
            scenario.boat(boat, "leaking").await;
        }
        for hull in hulls {
            scenario.set_hull(boat, hull).await;
        }
    }
    scenario.let_caulk_end();
    scenario.set_hull("brig", "tight").await;
    assert_eq!(controller.ends().await.code(), Some(2), "it cannot renew its Lease");
    controller.start_again();
    controller.says("not in sync yet").await;
    eventually("it tries", DEADLINE, || async {
        let log = controller.log();
        if log.contains("cannot take part in the election") { Ok(()) } else { Err(log) }
    })
    .await;
    cut.release();
    controller.ready().await;

    scenario.all_recover(&["ark", "brig"]).await;
    scenario.has_run_one_job().await;
    let over = |e: &Execution| e.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    scenario.only("hulk", "its episode is over", over).await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("eel").await, [""; 0], "what recovered needs nothing");
    assert_eq!(scenario.targets("wreck").await, ["wreck"], "a break that nobody saw is the same episode");
    scenario.set_hull("hulk", "leaking").await;
    eventually("what breaks after its episode is decided again", DEADLINE, || async {
        let found = scenario.targets("hulk").await;
        if found == ["hulk", "hulk"] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}
