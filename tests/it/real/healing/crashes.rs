//! Nothing happens twice, whatever crashes and whoever wakes up late.

use fother::api::{EventBatch, Execution};
use http::{Method, StatusCode};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rustix::process::Signal;
use serde_json::json;

use super::controller::Controller;
use super::hooks::{self, EVENTS};
use super::points::Fate;
use super::scenario::{MEND, PAINT, Scenario};
use super::triggers;
use crate::support::proxy::{Deed, Moment, Order, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// Kills the controller where a request for `path` stands still, starts it again, and sees that the end is
/// the same as if nothing had happened.
async fn killed_at(scenario: &Scenario, method: Method, path: &str, fate: Fate) {
    let pattern = format!("/namespaces/{}/{path}", scenario.stage.namespace);
    let proxy = scenario.proxy().await;
    scenario.rule("leak", json!({})).await;
    let mut controller = scenario.controller_through(&proxy).await;
    scenario.watching("leak").await;
    let fault = proxy.arm(Requests::new(method, &pattern).nth(1), fate.moment(), Deed::Hold);
    scenario.boat("ark", "leaking").await;
    fault.wait_until_hit(DEADLINE).await;
    controller.kill();
    fate.befalls(&fault);
    controller.start_again();
    controller.ready().await;
    scenario.until_caulking(1).await;
    scenario.let_caulk_end();
    scenario.set_hull("ark", "tight").await;
    let execution = scenario.ends("leak", "TargetRecovered").await;
    assert_eq!(execution.status.unwrap().rungs[0].outputs.to_value(), json!({"planks": 3}));
    scenario.controller_catches_up().await;
    if fate == Fate::Late {
        let before = scenario.everything().await;
        fault.release();
        fault.wait_until_arrived(DEADLINE).await;
        scenario.controller_catches_up().await;
        assert_eq!(scenario.everything().await, before, "it changes nothing");
    }
    assert_eq!(scenario.executions("leak").await.len(), 1);
    let jobs = scenario.jobs().await;
    assert_eq!((jobs.len(), scenario.caulked()), (1, 1), "{jobs:#?}");
    assert!(jobs[0].metadata.finalizers.is_none(), "{jobs:#?}");
    scenario.delete_rule("leak").await;
}

macro_rules! kills {
    ($($name:ident: $method:ident $pattern:literal $fate:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(scenario) = Scenario::alone("kill").await else { return };
            killed_at(&scenario, Method::$method, $pattern, Fate::$fate).await;
        }
    )*};
}

kills! {
    killed_before_the_execution_is_sent: POST r"executions(\?|$)" NeverSent,
    killed_when_the_execution_is_on_its_way: POST r"executions(\?|$)" Late,
    killed_when_the_execution_is_committed: POST r"executions(\?|$)" Unanswered,
    killed_when_the_execution_is_answered: POST r"executions(\?|$)" Answered,
    killed_before_the_job_is_sent: POST r"jobs(\?|$)" NeverSent,
    killed_when_the_job_is_on_its_way: POST r"jobs(\?|$)" Late,
    killed_when_the_job_is_committed: POST r"jobs(\?|$)" Unanswered,
    killed_when_the_job_is_answered: POST r"jobs(\?|$)" Answered,
    killed_before_the_job_is_recorded: PATCH "executions/.*/status" NeverSent,
    killed_when_the_record_of_the_job_is_on_its_way: PATCH "executions/.*/status" Late,
    killed_when_the_job_is_recorded: PATCH "executions/.*/status" Unanswered,
}

/// What a paint of the boat leads to: it does not help, so that the episode stays open.
fn painting() -> serde_json::Value {
    json!({"ladder": [{"run": PAINT, "verify": {"when": "target.data.hull == 'tight'", "within": "1s"}}]})
}

/// Breaks a boat while the watches are frozen, has them end as `order` says, and sees what becomes of it.
async fn watch_ends(scenario: &Scenario, order: Order, gone: bool) {
    let proxy = scenario.proxy().await;
    scenario.rule("paints", painting()).await;
    let _controller = scenario.controller_through(&proxy).await;
    scenario.boat("ark", "leaking").await;
    scenario.ends("paints", "Quarantined").await;

    assert!(proxy.order_watches(".", Order::Freeze) > 0);
    scenario.boat("brig", "leaking").await;
    let watch = format!("/namespaces/{}/configmaps.*watch=", scenario.stage.namespace);
    let answer = Requests::new(Method::GET, if gone { &watch } else { "^never$" }).nth(1);
    let fault = proxy.arm(answer, Moment::BeforeSent, Deed::Answer(StatusCode::GONE));
    assert!(proxy.order_watches(".", order) > 0);
    eventually("the other boat is answered", DEADLINE, || async {
        let ended = scenario.executions("paints").await.iter().filter(|e| e.is_finished()).count();
        if ended == 2 { Ok(()) } else { Err(format!("{ended} have ended")) }
    })
    .await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.targets("paints").await, ["ark", "brig"], "each once");
    assert_eq!(fault.hits(), usize::from(gone));
}

#[tokio::test]
async fn a_watch_that_is_closed_goes_on() {
    let Some(scenario) = Scenario::alone("watch-closed").await else { return };
    watch_ends(&scenario, Order::Close, false).await;
}

#[tokio::test]
async fn a_watch_whose_version_expired_lists_again() {
    let Some(scenario) = Scenario::alone("watch-expired").await else { return };
    watch_ends(&scenario, Order::Expire, false).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_as_expired_lists_again() {
    let Some(scenario) = Scenario::alone("watch-refused").await else { return };
    watch_ends(&scenario, Order::Close, true).await;
}

/// Keeps an event about a boat, for the rule `hears`, as another replica does that has received it.
async fn received_elsewhere(scenario: &Scenario, boat: &str) {
    let now = format!("{:.6}", Timestamp::now());
    let event = json!({"id": "1", "source": EVENTS, "type": "leak", "time": now, "data": {"boat": boat}});
    let batch = json!({
        "metadata": {"name": "elsewhere", "labels": {"fother.dev/webhook": EVENTS}},
        "spec": {"webhook": EVENTS, "receivedAt": now, "events": [{"rules": ["hears"], "event": event}]},
    });
    let batch: EventBatch = serde_json::from_value(batch).unwrap();
    // Nobody else may.
    let controller = scenario.controller_access().client().await;
    let batches = Api::<EventBatch>::namespaced(controller, &scenario.stage.namespace);
    batches.create(&PostParams::default(), &batch).await.unwrap();
}

/// What is new while nobody tells of it is found by the lists that follow: of fother's own kinds a Rule, a run by hand and
/// what another replica received, and of the kinds that rules watch an Event.
#[tokio::test]
async fn fothers_own_watches_that_are_refused_as_expired_list_again() {
    let Some(scenario) = Scenario::alone("own-refused").await else { return };
    let proxy = scenario.proxy().await;
    hooks::open(&scenario).await;
    for boat in ["ark", "brig", "cog", "dory"] {
        scenario.boat(boat, "leaking").await;
    }
    let _controller = scenario.controller_through(&proxy).await;
    let trigger = json!({"resource": null, "event": {"reasons": ["Leak"]}});
    scenario.rule("told", json!({"trigger": trigger, "when": null, "ladder": [{"run": MEND}]})).await;
    scenario.watching("told").await;
    hooks::listens(&scenario, "hears", EVENTS, json!({"ladder": [{"run": MEND}]})).await;
    scenario.answers_events("told").await;

    assert!(proxy.order_watches(".", Order::Freeze) > 0);
    let namespace = &scenario.stage.namespace;
    scenario.rule_for("ark", MEND, json!({})).await;
    let brig = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": namespace, "name": "brig"});
    let run = json!({"serviceAccountName": "healer", "run": MEND, "target": brig});
    scenario.stage.create::<Execution>(json!({"metadata": {"name": "by-hand"}, "spec": run})).await;
    received_elsewhere(&scenario, "cog").await;
    scenario.stage.create::<Event>(triggers::event(&scenario, "leak", "dory", "Leak")).await;
    let kinds = ["actions", "eventbatches", "executions", "packs", "rules", "webhooks", "events"];
    let refused = kinds.map(|kind| {
        let watch = Requests::new(Method::GET, &format!(r"/{kind}\?.*watch=")).nth(1);
        proxy.arm(watch, Moment::BeforeSent, Deed::Answer(StatusCode::GONE))
    });
    assert!(proxy.order_watches(".", Order::Close) > 0);
    for watch in &refused {
        watch.wait_until_hit(DEADLINE).await;
    }
    scenario.ends("ark", "TargetRecovered").await;
    for rule in ["hears", "told"] {
        scenario.ends(rule, "Completed").await;
    }
    let is_done = |e: &Execution| e.reason() == Some("Completed");
    scenario.stage.until("what is run by hand is done", "by-hand", is_done).await;
    scenario.controller_catches_up().await;
    for (rule, boat) in [("ark", "ark"), ("hears", "cog"), ("told", "dory")] {
        assert_eq!(scenario.targets(rule).await, [boat], "once");
    }
    assert!(refused.iter().all(|watch| watch.hits() == 1));
}

#[tokio::test]
async fn an_execution_of_the_same_name_that_is_another_is_refused() {
    let Some(scenario) = Scenario::alone("same-name").await else { return };
    scenario.boat("ark", "leaking").await;
    scenario.boat("brig", "leaking").await;
    let name = scenario.takes_name("paints", "ark", "").await;
    scenario.rule("paints", painting()).await;
    let _controller = scenario.controller().await;
    eventually("the rule says whose it is not", DEADLINE, || async {
        let message = scenario.condition("paints", "Ready", "True").await.message;
        let expected = format!(
            "watching; not decided: ConfigMap/ark: Execution {name} exists with another identity; refusing to take it over"
        );
        if message == expected { Ok(()) } else { Err(message) }
    })
    .await;
    scenario.ends("paints", "Quarantined").await;
    assert_eq!(scenario.targets("paints").await, ["brig"], "it stops nobody else");
}

#[tokio::test]
async fn a_job_create_that_comes_after_the_end_starts_no_pod() {
    let Some(scenario) = Scenario::alone("zombie").await else { return };
    let proxy = scenario.proxy().await;
    scenario.rule("leak", json!({})).await;
    let mut zombie = scenario.controller_through(&proxy).await;
    let path = format!("/namespaces/{}/jobs(\\?|$)", scenario.stage.namespace);
    let fault = proxy.arm(Requests::new(Method::POST, &path), Moment::BeforeSent, Deed::Hold);
    let mark = scenario.audit().mark().await;
    scenario.boat("ark", "leaking").await;
    fault.wait_until_hit(DEADLINE).await;

    scenario.set_hull("ark", "tight").await;
    let mut heir = Controller::candidate(scenario.controller_access(), "two");
    zombie.signal(Signal::STOP);
    scenario.give_up_the_lease().await;
    heir.ready().await;
    scenario.ends("leak", "Superseded").await;
    fault.release();
    eventually("the late create has come", DEADLINE, || async {
        let creates = scenario.audit().since(mark).await.into_iter();
        let mut codes: Vec<_> =
            creates.filter(|r| r.verb == "create" && r.resource == "batch/jobs").map(|r| r.code).collect();
        codes.sort_unstable();
        if codes == [201, 409] { Ok(()) } else { Err(format!("{codes:?}")) }
    })
    .await;
    let jobs = scenario.jobs().await;
    let suspended: Vec<_> = jobs.iter().map(|job| job.spec.as_ref().and_then(|spec| spec.suspend)).collect();
    assert_eq!(suspended, [Some(true)], "{jobs:#?}");
    assert_eq!(
        (scenario.stage.kubectl(&["get", "pods", "-o", "name"]).await.as_str(), scenario.caulked()),
        ("", 0)
    );
    zombie.signal(Signal::CONT);
    zombie.ends().await;
}

#[tokio::test]
async fn an_execution_whose_definition_is_gone_can_be_canceled() {
    let Some(scenario) = Scenario::alone("undefined").await else { return };
    scenario.rule("leak", json!({})).await;
    let mut controller = scenario.controller().await;
    scenario.boat("ark", "leaking").await;
    scenario.until_caulking(1).await;
    controller.kill();
    let kept = scenario.stage.api::<ControllerRevision>();
    kept.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    controller.start_again();
    let stands = |e: &Execution| e.reason() == Some("ReferenceNotFound") && !e.is_finished();
    let execution = scenario.only("leak", "it stands still and says why", stands).await;
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    let name = execution.metadata.name.unwrap();
    scenario.stage.api::<Execution>().patch(&name, &PatchParams::default(), &patch).await.unwrap();
    let ended = scenario.ends("leak", "Canceled").await;
    assert_eq!(ended.status.unwrap().episode_closed_at, None, "a person's word holds");
    eventually("its Job is let go", DEADLINE, || async {
        let jobs = scenario.jobs().await;
        if jobs.iter().all(|job| job.metadata.finalizers.is_none()) {
            Ok(())
        } else {
            Err(format!("{jobs:#?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_is_not_held_by_a_job_that_ran() {
    let Some(scenario) = Scenario::alone("sunk").await else { return };
    scenario.rule("leak", json!({})).await;
    let mut controller = scenario.controller().await;
    scenario.boat("ark", "leaking").await;
    scenario.until_caulking(1).await;
    eventually("its Job is recorded and let go", DEADLINE, || async {
        let jobs = scenario.jobs().await;
        let held = jobs.iter().any(|job| job.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty()));
        if jobs.len() == 1 && !held { Ok(()) } else { Err(format!("{jobs:#?}")) }
    })
    .await;
    // Nobody is there to let go of anything as long as there are rights.
    controller.kill();
    let namespaces = Api::<Namespace>::all(scenario.stage.client.clone());
    let name = scenario.stage.namespace.clone();
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("all but the Execution is gone", DEADLINE, || async {
        let (jobs, accounts) = (scenario.jobs().await.len(), scenario.stage.api::<ServiceAccount>());
        let accounts = accounts.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let left = (jobs, accounts.items.len());
        if left == (0, 0) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    controller.start_again();
    eventually("the namespace is gone", 3 * DEADLINE, || async {
        let found = namespaces.get_opt(&name).await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |found| Err(format!("{:#?}", found.status)))
    })
    .await;
}
