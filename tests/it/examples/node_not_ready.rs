//! Nodes that are not Ready: rebooted, then replaced, then a person is paged; and not touched while they are few minutes so, while
//! somebody is at work on them, or while most of all nodes are.

use fother::api::{Execution, Rule};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::node_restart::node;
use super::stage::{Place, Stage, alert};
use super::taker::Taker;
use crate::support::examples::folder;
use crate::support::wait::{DEADLINE, eventually};
use crate::webhooks::stage::at;

const REBOOT: &str = "example.com/reboot-requested";
const REPLACEMENT: &str = "example.com/replacement-requested";

fn not_ready(name: &str, times: (&str, Option<&str>)) -> Value {
    alert("NodeNotReady", name, json!({"node": name}), times)
}

async fn change(stage: &Stage, name: &str, patch: Value) {
    let nodes: Api<Node> = Api::all(stage.admin.clone());
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// What was asked for about a node: a reboot, a replacement.
async fn asked(stage: &Stage, name: &str) -> Vec<String> {
    let node = Api::<Node>::all(stage.admin.clone()).get(name).await.unwrap();
    let asked = [REBOOT, REPLACEMENT].iter().filter(|key| node.annotations().contains_key(**key));
    asked.map(|key| (*key).to_owned()).collect()
}

/// Waits until that was asked for about a node.
async fn is_asked(stage: &Stage, name: &str, expected: &[&str]) {
    eventually(&format!("{name}: {expected:?}"), DEADLINE, || async {
        let found = asked(stage, name).await;
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Waits until what was decided about a target is over.
async fn over(stage: &Stage, target: &str) -> Execution {
    eventually(&format!("{target} is over"), DEADLINE, || async {
        let found = stage.executions().await;
        let of = found.iter().find(|e| e.spec.target.as_ref().is_some_and(|t| t.name == target));
        match of {
            Some(execution) if execution.is_finished() => Ok(execution.clone()),
            other => Err(format!("{:#?}", other.map(|execution| &execution.status))),
        }
    })
    .await
}

fn climbed(execution: &Execution) -> Vec<&str> {
    execution.status.iter().flat_map(|status| &status.rungs).map(|rung| rung.run.as_str()).collect()
}

/// The times of the pack, made short; so long as they are, a controller on a busy machine has to look within them.
fn quicker(rule: &mut Rule) {
    for (rung, within) in rule.spec.ladder.iter_mut().zip(["10s", "3s"]) {
        if let Some(verify) = &mut rung.verify {
            (verify.within, verify.stable_for) = (within.parse().unwrap(), "0s".parse().unwrap());
        }
    }
}

/// The pack, and a pager.
async fn stage(place: &Place) -> (Stage, Taker) {
    let pager = Taker::at(place.host().await, "").await;
    let file = json!({"curlrc": format!("url = \"{}\"\n", pager.address)});
    let stage = Stage::of(place, ("node-not-ready", "fleet"), json!({"pager": file}), quicker).await;
    (stage, pager)
}

/// What the pager was told so far, about what.
fn paged(pager: &Taker) -> Vec<(String, String)> {
    let text = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
    pager.taken().iter().map(|(_, body)| (text(body, "about"), text(body, "summary"))).collect()
}

/// One that has recovered since its alert began, one that somebody is at work on, and one that is paused.
async fn are_left_alone(stage: &Stage) {
    let starts = at(-5);
    for name in ["recovered", "drained", "paused"] {
        node(stage, name, if name == "recovered" { "True" } else { "Unknown" }, 400).await;
    }
    change(stage, "drained", json!({"spec": {"unschedulable": true}})).await;
    change(stage, "paused", json!({"metadata": {"annotations": {"example.com/leave-alone": "true"}}})).await;
    for (name, reason) in [("recovered", "NotForLong"), ("drained", "Cordoned"), ("paused", "Paused")] {
        stage.told_twice(&not_ready(name, (&starts, None))).await;
        stage.came_to(name, &[&format!("node-not-ready Held Unless {reason}")]).await;
    }
    stage.holds(&[("drained", "Unless"), ("paused", "Unless"), ("recovered", "Unless")]).await;
    // Not Ready again, it has not been for long.
    node(stage, "recovered", "False", 60).await;
    for name in ["recovered", "drained", "paused"] {
        stage.told_twice(&not_ready(name, (&starts, Some(&at(0))))).await;
    }
    stage.holds(&[]).await;
    assert_eq!(stage.executions().await.len(), 0);
}

/// The first recovers when it is rebooted, the second never; a third has to wait, as two in an hour are all.
pub async fn a_node_is_rebooted_then_replaced_then_a_person_is_paged(place: &Place) {
    let (stage, pager) = stage(place).await;
    are_left_alone(&stage).await;
    let starts = at(-5);
    node(&stage, "helped", "Unknown", 400).await;
    stage.told_twice(&not_ready("helped", (&starts, None))).await;
    is_asked(&stage, "helped", &[REBOOT]).await;
    node(&stage, "helped", "True", 0).await;
    assert_eq!(over(&stage, "helped").await.reason(), Some("TargetRecovered"));
    stage.told_twice(&not_ready("helped", (&starts, Some(&at(0))))).await;

    node(&stage, "lost", "Unknown", 400).await;
    stage.told_twice(&not_ready("lost", (&starts, None))).await;
    is_asked(&stage, "lost", &[REBOOT, REPLACEMENT]).await;
    let lost = over(&stage, "lost").await;
    assert_eq!(climbed(&lost), ["request-reboot", "request-replacement", "page"]);
    assert_eq!(lost.reason(), Some("Quarantined"), "{:#?}", lost.status);
    let [(about, summary)] = <[_; 1]>::try_from(paged(&pager)).unwrap();
    assert!(about == "lost" && summary.starts_with("lost is not Ready since"), "{summary}");

    node(&stage, "third", "Unknown", 400).await;
    stage.told_twice(&not_ready("third", (&starts, None))).await;
    stage.holds(&[("third", "Rate")]).await;
    assert_eq!(asked(&stage, "third").await, [""; 0]);
    assert_eq!(asked(&stage, "helped").await, [REBOOT], "which had helped");
    let node = Api::<Node>::all(stage.admin.clone()).get("helped").await.unwrap();
    assert!(node.annotations()[REBOOT].starts_with(&starts[..19]), "a request is known by its episode");
}

/// Three of five nodes are not Ready: Prometheus resolves the alerts about single ones, and has one about all. The ladder that
/// was being climbed stops, and a person hears why nothing is done.
pub async fn in_an_outage_no_node_is_touched_and_a_person_is_told(place: &Place) {
    let (stage, pager) = stage(place).await;
    let starts = at(-5);
    node(&stage, "first", "Unknown", 400).await;
    stage.told_twice(&not_ready("first", (&starts, None))).await;
    is_asked(&stage, "first", &[REBOOT]).await;
    for name in ["second", "other"] {
        node(&stage, name, "Unknown", 400).await;
    }
    let summary = "only 40% of the nodes are Ready: none of them is rebooted or replaced";
    let mut outage = alert("NodeOutage", "outage", json!({}), (&at(-1), None));
    outage["annotations"] = json!({"summary": summary});
    stage.told_twice(&not_ready("first", (&starts, Some(&at(0))))).await;
    stage.told_twice(&outage).await;
    let told = over(&stage, "nodes").await;
    assert_eq!(told.reason(), Some("Completed"), "{:#?}", told.status);
    assert_eq!(paged(&pager), [("nodes".to_owned(), summary.to_owned())]);
    let first = over(&stage, "first").await;
    assert_eq!((climbed(&first).as_slice(), first.reason()), (&["request-reboot"][..], Some("Superseded")));
    for name in ["first", "second", "other"] {
        let expected: &[&str] = if name == "first" { &[REBOOT] } else { &[] };
        assert_eq!(asked(&stage, name).await, expected, "{name}");
    }
    assert_eq!(stage.executions().await.len(), 2);
}

/// What the Rules listen to is what Prometheus is told to say, under conditions that exclude each other.
pub fn the_alerts_are_those_that_the_rules_name() {
    let text = std::fs::read_to_string(folder("setup").join("node-not-ready/alerts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let alerts: Vec<_> = file["groups"][0]["rules"].as_array().unwrap().iter().collect();
    let names: Vec<_> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    let rules = crate::support::examples::manifests("node-not-ready", |_| {});
    let rules = rules.iter().filter(|manifest| manifest["kind"] == "Rule");
    let mut named: Vec<_> = rules.map(|rule| rule["spec"]["trigger"]["alert"]["names"][0].clone()).collect();
    named.sort_by_key(ToString::to_string);
    assert_eq!(json!(named), json!(names));
    let expressions =
        alerts.iter().map(|alert| alert["expr"].as_str().unwrap().split_once("avg(").unwrap().1);
    let shares: Vec<_> = expressions.collect();
    assert_eq!(shares[0].split_once(" >= "), shares[1].split_once(" < "), "one threshold");
}
