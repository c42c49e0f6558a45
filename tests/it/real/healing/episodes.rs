//! One episode, one Execution: what opens an episode, what holds it, what ends it, and what a person may do meanwhile.

use fother::api::{Execution, Rule};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::scenario::{CAULK, MEND, PAINT, Scenario};
use crate::support::wait::{DEADLINE, eventually};

/// A ladder of these Actions, each verified for a second.
fn ladder(actions: &[&str]) -> Value {
    let verify = json!({"when": "target.data.hull == 'tight'", "within": "1s", "stableFor": "1s"});
    let rungs: Vec<_> = actions.iter().map(|run| json!({"run": run, "verify": verify})).collect();
    json!({"ladder": rungs})
}

async fn cancel(scenario: &Scenario, execution: &Execution) {
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    let name = execution.metadata.name.as_deref().unwrap();
    scenario.stage.api::<Execution>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn live_pods(scenario: &Scenario) -> Vec<Pod> {
    let pods = scenario.stage.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let over = |pod: &Pod| {
        matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
    };
    pods.into_iter().filter(|pod| !over(pod)).collect()
}

async fn until_closed(scenario: &Scenario, rule: &str) -> Execution {
    let closed = |e: &Execution| e.status.as_ref().is_some_and(|s| s.episode_closed_at.is_some());
    scenario.only(rule, "the episode is over", closed).await
}

#[tokio::test]
async fn a_rule_that_is_deleted_and_applied_again_does_not_fire_again() {
    let Some(scenario) = Scenario::new("reapplied").await else { return };
    scenario.rule("paints", ladder(&[PAINT])).await;
    scenario.boat("ark", "leaking").await;
    scenario.ends("paints", "Quarantined").await;
    scenario.delete_rule("paints").await;
    scenario.controller_catches_up().await;
    scenario.rule("paints", ladder(&[PAINT, MEND])).await;
    scenario.watching("paints").await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("paints").await, ["ark"], "it leaks all the time: one episode");

    scenario.set_hull("ark", "tight").await;
    until_closed(&scenario, "paints").await;
    scenario.set_hull("ark", "leaking").await;
    eventually("a new episode is answered", DEADLINE, || async {
        let seen = scenario.targets("paints").await;
        if seen == ["ark", "ark"] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_recreated_target_is_the_same_target() {
    let Some(scenario) = Scenario::new("recreated").await else { return };
    scenario.action("rebuild", json!({"kubernetes": {"recreate": {}}})).await;
    scenario.boat("ark", "leaking").await;
    let boats = scenario.stage.api::<ConfigMap>();
    let before = boats.get("ark").await.unwrap().metadata.uid;
    scenario.rule("rebuilds", ladder(&["rebuild"])).await;
    scenario.ends("rebuilds", "Quarantined").await;
    let after = boats.get("ark").await.unwrap().metadata.uid;
    assert_ne!(before, after);
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("rebuilds").await, ["ark"]);
    assert_eq!(boats.get("ark").await.unwrap().metadata.uid, after, "rebuilt once");
}

#[tokio::test]
async fn a_target_breaks_until_the_last_of_its_objects_is_well() {
    let Some(scenario) = Scenario::new("fleet").await else { return };
    scenario.boat("fleet", "none").await;
    let owner = scenario.stage.api::<ConfigMap>().get("fleet").await.unwrap();
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "fleet", "uid": owner.metadata.uid, "controller": true});
    for name in ["ark", "brig", "cog"] {
        let boat =
            json!({"metadata": {"name": name, "ownerReferences": [owner]}, "data": {"hull": "leaking"}});
        scenario.stage.create::<ConfigMap>(boat).await;
    }
    let changes = json!({"target": {"owner": {"apiVersion": "v1", "kind": "ConfigMap"}}});
    let mut spec = ladder(&[PAINT]);
    json_patch::merge(&mut spec, &changes);
    scenario.rule("paints", spec).await;
    let execution = scenario.ends("paints", "Quarantined").await;
    assert_eq!(execution.spec.target.unwrap().name, "fleet");

    scenario.stage.api::<ConfigMap>().delete("ark", &DeleteParams::default()).await.unwrap();
    scenario.controller_catches_up().await;
    let execution = scenario.only("paints", "one Execution", |_| true).await;
    assert_eq!(execution.status.unwrap().episode_closed_at, None, "two still leak");

    scenario.set_hull("brig", "tight").await;
    scenario.set_hull("cog", "tight").await;
    until_closed(&scenario, "paints").await;
    scenario.set_hull("cog", "leaking").await;
    eventually("a new episode is answered", DEADLINE, || async {
        let seen = scenario.targets("paints").await;
        if seen == ["fleet", "fleet"] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_execution_that_is_deleted_goes_when_its_pods_are_gone() {
    let Some(scenario) = Scenario::new("deleted").await else { return };
    scenario.rule("leak", json!({})).await;
    scenario.boat("ark", "leaking").await;
    scenario.until_caulking(1).await;
    let first = scenario.only("leak", "an Execution", |_| true).await;
    let name = first.metadata.name.clone().unwrap();
    scenario.stage.api::<Execution>().delete(&name, &DeleteParams::default()).await.unwrap();
    let another = |e: &Execution| e.metadata.uid != first.metadata.uid;
    let second = scenario.only("leak", "it is decided anew", another).await;
    assert_eq!(second.metadata.name, first.metadata.name, "the same decision");
    scenario.until_caulking(2).await;
    assert_eq!(live_pods(&scenario).await.len(), 1, "the first one's pod was gone before");
    scenario.let_caulk_end();
    scenario.set_hull("ark", "tight").await;
    scenario.ends("leak", "TargetRecovered").await;
}

#[tokio::test]
async fn a_rule_that_observed_and_now_enforces_decides_once_more() {
    let Some(scenario) = Scenario::new("enforced").await else { return };
    let mut spec = ladder(&[MEND]);
    spec["mode"] = json!("Observe");
    scenario.rule("mends", spec).await;
    scenario.boat("ark", "leaking").await;
    scenario.ends("mends", "Observed").await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("mends").await, ["ark"], "observing, once is enough");

    scenario.change_rule("mends", json!({"mode": "Enforce"})).await;
    let reasons = eventually("both have ended", DEADLINE, || async {
        let executions = scenario.executions("mends").await;
        let mut reasons: Vec<_> = executions.iter().filter_map(|e| e.reason().map(str::to_owned)).collect();
        reasons.sort();
        let ended = executions.iter().filter(|e| e.is_finished()).count();
        if ended == 2 { Ok(reasons) } else { Err(format!("{executions:#?}")) }
    })
    .await;
    assert_eq!(reasons, ["Observed", "TargetRecovered"]);
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("mends").await.len(), 2);
}

#[tokio::test]
async fn a_canceled_execution_stops_its_job_and_holds_its_episode() {
    let Some(scenario) = Scenario::new("canceled").await else { return };
    scenario.rule("leak", json!({})).await;
    scenario.boat("ark", "leaking").await;
    scenario.until_caulking(1).await;
    let execution = scenario.only("leak", "an Execution", |_| true).await;
    cancel(&scenario, &execution).await;
    let execution = scenario.ends("leak", "Canceled").await;
    assert_eq!(execution.status.unwrap().episode_closed_at, None);
    assert_eq!(live_pods(&scenario).await.len(), 0);
    scenario.controller_catches_up().await;
    assert_eq!((scenario.targets("leak").await.len(), scenario.caulked()), (1, 1), "a person's word holds");
}

#[tokio::test]
async fn runs_by_hand_end_with_what_came_of_them() {
    let Some(scenario) = Scenario::new("by-hand").await else { return };
    scenario.let_caulk_end();
    scenario.boat("ark", "leaking").await;
    let ark = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": scenario.stage.namespace, "name": "ark"});
    let proof = json!({"when": "target.data.hull == 'tight'", "within": "1s", "stableFor": "1s"});
    for (name, spec, reason) in [
        ("runs", json!({"run": CAULK}), "Completed"),
        ("proves", json!({"run": MEND, "target": ark, "verify": proof}), "TargetRecovered"),
        ("lacks-its-action", json!({"run": "sail"}), "ActionNotFound"),
        ("mistyped", json!({"run": CAULK, "with": {"hold": "/hold", "depth": 3}}), "ActionFailed"),
    ] {
        let mut spec = spec;
        spec["serviceAccountName"] = json!("healer");
        scenario.stage.create::<Execution>(json!({"metadata": {"name": name}, "spec": spec})).await;
        let wait = ["wait", "--for=condition=Finished", &format!("execution/{name}"), "--timeout=60s"];
        scenario.stage.kubectl(&wait).await;
        let execution = scenario.stage.api::<Execution>().get(name).await.unwrap();
        assert_eq!(execution.reason(), Some(reason), "{name}: {execution:#?}");
    }
    let outputs =
        &scenario.stage.api::<Execution>().get("runs").await.unwrap().status.unwrap().rungs[0].outputs;
    assert_eq!((outputs.to_value(), scenario.caulked()), (json!({"planks": 3}), 1));
}

#[tokio::test]
async fn a_target_rests_for_its_cooldown() {
    let Some(scenario) = Scenario::new("cooldown").await else { return };
    let mut spec = ladder(&[MEND]);
    spec["limits"] = json!({"cooldown": "4s"});
    scenario.rule("mends", spec).await;
    scenario.boat("ark", "leaking").await;
    let first = scenario.ends("mends", "TargetRecovered").await;
    scenario.set_hull("ark", "leaking").await;
    let second = eventually("it is answered again", DEADLINE, || async {
        let mut executions = scenario.executions("mends").await;
        executions.retain(|e| e.metadata.uid != first.metadata.uid);
        executions.pop().ok_or("not yet")
    })
    .await;
    let rested =
        second.spec.decision.unwrap().time.0.duration_since(first.status.unwrap().finished_at.unwrap().0);
    assert!(rested.as_secs() >= 4, "{rested:?}");
}

#[tokio::test]
async fn a_target_has_to_match_for_as_long_as_the_rule_says() {
    let Some(scenario) = Scenario::new("held").await else { return };
    let mut spec = ladder(&[MEND]);
    spec["for"] = json!("2s");
    scenario.rule("mends", spec).await;
    scenario.watching("mends").await;
    scenario.boat("ark", "leaking").await;
    let decision = scenario.ends("mends", "TargetRecovered").await.spec.decision.unwrap();
    let held = decision.time.0.duration_since(decision.since.unwrap().0);
    assert!(held.as_secs() >= 2, "{held:?}");
}

#[tokio::test]
async fn what_an_observing_rule_does_not_record_is_counted() {
    let Some(scenario) = Scenario::new("unrecorded").await else { return };
    for number in 0..103 {
        scenario.boat(&format!("boat-{number}"), "leaking").await;
    }
    scenario.rule("observes", json!({"mode": "Observe"})).await;
    let unrecorded = |count: Option<i32>| {
        let scenario = &scenario;
        eventually("what is not recorded is counted", DEADLINE, move || async move {
            let rule = scenario.stage.api::<Rule>().get("observes").await.unwrap();
            let seen = rule.status.and_then(|status| status.unrecorded);
            let records = scenario.executions("observes").await.len();
            if (seen, records) == (count, 100) { Ok(()) } else { Err(format!("{seen:?}, {records} records")) }
        })
    };
    unrecorded(Some(3)).await;
    let targets = scenario.targets("observes").await;
    let rest = (0..103).map(|number| format!("boat-{number}")).filter(|boat| !targets.contains(boat));
    for boat in rest {
        scenario.set_hull(&boat, "tight").await;
    }
    unrecorded(None).await;
}

#[tokio::test]
async fn two_rules_act_on_a_target_one_after_the_other() {
    let Some(scenario) = Scenario::new("turns").await else { return };
    for rule in ["port", "starboard"] {
        scenario.rule(rule, json!({})).await;
        scenario.watching(rule).await;
    }
    scenario.boat("ark", "leaking").await;
    scenario.until_caulking(1).await;
    let states = async || {
        let mut states = Vec::new();
        for rule in ["port", "starboard"] {
            let found = scenario.executions(rule).await;
            states.extend(found.iter().filter_map(|e| e.reason().map(str::to_owned)));
        }
        states.sort();
        states
    };
    eventually("one runs, the other is held or waits", DEADLINE, || async {
        let seen = states().await;
        if seen == ["Running"] || seen == ["Pending", "Running"] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    scenario.set_hull("ark", "tight").await;
    scenario.let_caulk_end();
    eventually("one has healed, and the other had nothing left to do", DEADLINE, || async {
        let seen = states().await;
        let done = seen == ["TargetRecovered"] || seen == ["Superseded", "TargetRecovered"];
        if done { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(scenario.caulked(), 1);
}
