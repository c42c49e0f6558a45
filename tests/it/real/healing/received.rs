//! What was received is decided once, wherever the controller is killed: between accepting and deciding, inside a
//! window, inside a cooldown.

use fother::api::{Execution, Guard, OutcomeKind};
use http::Method;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::controller::Controller;
use super::hooks::{
    ALERTS, EVENTS, alert, alert_about, came_to, deliver, event, listens, notification, open, outcomes, rule,
    send,
};
use super::points::Fate;
use super::scenario::{MEND, Scenario};
use super::triggers;
use crate::support::proxy::{Deed, Moment, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// How long a target rests here: longer than it takes to kill a controller, start it and send something.
const COOLDOWN: SignedDuration = SignedDuration::from_secs(20);

/// Kills the controller where a request for `path` stands still, while it takes in `body` or decides about it, and sees
/// that it is decided once: by the Execution, by its Job, and by the outcome.
async fn killed_at(
    scenario: &Scenario,
    (webhook, body): (&'static str, Value),
    (method, path, fate): (Method, &str, Fate),
) {
    let pattern = format!("/namespaces/{}/{path}", scenario.stage.namespace);
    let proxy = scenario.proxy().await;
    open(scenario).await;
    scenario.boat("ark", "leaking").await;
    let mut controller = scenario.controller_through(&proxy).await;
    listens(scenario, "leak", webhook, json!({})).await;
    let fault = proxy.arm(Requests::new(method, &pattern).nth(1), fate.moment(), Deed::Hold);
    let to = (controller.hooks, scenario.stage.namespace.clone());
    let sent = tokio::spawn(send(to, webhook, body.clone()));
    fault.wait_until_hit(DEADLINE).await;
    // Who is answered is answered before anything is decided, and never after less than that it is kept.
    let kept = fate == Fate::Answered || !path.starts_with("eventbatches(");
    let unanswered = if kept {
        assert_eq!(sent.await.unwrap().unwrap().status, 202);
        None
    } else {
        assert!(!sent.is_finished(), "nobody is answered before it is kept");
        Some(sent)
    };
    controller.kill();
    if let Some(sent) = unanswered {
        let answer = sent.await.unwrap();
        assert!(!answer.as_ref().is_ok_and(|answer| answer.status > 0), "{answer:?}");
    }
    fate.befalls(&fault);
    controller.start_again();
    controller.ready().await;
    let again = deliver(scenario, &controller, webhook, body).await;
    let is_unknown = !kept && fate.moment() == Moment::BeforeSent;
    assert_eq!(again.status, if is_unknown { 202 } else { 200 }, "{again:?}");
    if fate == Fate::Late {
        // After the repetition of it.
        fault.release();
        fault.wait_until_arrived(DEADLINE).await;
    }
    scenario.until_caulking(1).await;
    scenario.let_caulk_end();
    scenario.ends("leak", "Completed").await;
    scenario.controller_catches_up().await;
    let executions = scenario.executions("leak").await;
    let name = executions[0].metadata.name.clone();
    let told: Vec<_> = outcomes(scenario).await.into_iter().map(|(_, kind, _, of)| (kind, of)).collect();
    assert_eq!((executions.len(), told), (1, vec![(OutcomeKind::Fired, name)]));
    scenario.has_run_one_job().await;
    scenario.delete_rule("leak").await;
}

macro_rules! kills {
    ($($name:ident: $webhook:ident $body:expr, $method:ident $pattern:literal $fate:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(scenario) = Scenario::alone("received").await else { return };
            killed_at(&scenario, ($webhook, $body), (Method::$method, $pattern, Fate::$fate)).await;
        }
    )*};
}

fn firing() -> Value {
    alert("ark", Timestamp::now(), None)
}

kills! {
    an_event_that_is_not_kept: EVENTS event("1", "ark"), POST r"eventbatches(\?|$)" NeverSent;
    an_event_that_is_kept_after_its_repetition: EVENTS event("1", "ark"), POST r"eventbatches(\?|$)" Late;
    an_event_that_is_kept_and_not_answered: EVENTS event("1", "ark"), POST r"eventbatches(\?|$)" Unanswered;
    an_event_that_is_answered_and_not_looked_at: EVENTS event("1", "ark"), POST r"eventbatches(\?|$)" Answered;
    an_event_whose_execution_is_not_sent: EVENTS event("1", "ark"), POST r"executions(\?|$)" NeverSent;
    an_event_whose_execution_is_committed: EVENTS event("1", "ark"), POST r"executions(\?|$)" Unanswered;
    an_event_whose_execution_is_answered: EVENTS event("1", "ark"), POST r"executions(\?|$)" Answered;
    an_event_whose_outcome_is_not_sent: EVENTS event("1", "ark"), PATCH "eventbatches/.*/status" NeverSent;
    an_event_whose_outcome_is_committed: EVENTS event("1", "ark"), PATCH "eventbatches/.*/status" Unanswered;
    an_alert_that_is_answered_and_not_looked_at: ALERTS firing(), POST r"eventbatches(\?|$)" Answered;
    an_alert_whose_execution_is_not_sent: ALERTS firing(), POST r"executions(\?|$)" NeverSent;
    an_alert_whose_execution_is_committed: ALERTS firing(), POST r"executions(\?|$)" Unanswered;
    an_alert_whose_outcome_is_not_sent: ALERTS firing(), PATCH "eventbatches/.*/status" NeverSent;
}

/// The events of which an Execution was made, by the last word of their identities.
fn captured(execution: &Execution) -> Vec<&str> {
    let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
    captured.filter_map(|event| event.id.rsplit([' ', '/']).next()).collect()
}

#[tokio::test]
async fn a_window_is_filled_on_by_the_next_process() {
    let Some(scenario) = Scenario::alone("window").await else { return };
    let proxy = scenario.proxy().await;
    open(&scenario).await;
    scenario.boat("ark", "leaking").await;
    let mut controller = scenario.controller_through(&proxy).await;
    let correlate = json!({"groupBy": "event.data.boat", "within": "1h", "count": 3});
    listens(&scenario, "leak", EVENTS, json!({"correlate": correlate, "ladder": [{"run": MEND}]})).await;
    for id in ["1", "2"] {
        deliver(&scenario, &controller, EVENTS, event(id, "ark")).await;
    }
    let (held, waits) = (OutcomeKind::Held, "waits for others");
    came_to(&scenario, &[("1", held, waits), ("2", held, waits)]).await;
    controller.restart().await;
    // The third completes it; and the process that says so dies before it has said what became of the three.
    let pattern = format!(r"/namespaces/{}/executions(\?|$)", scenario.stage.namespace);
    let fault = proxy.arm(Requests::new(Method::POST, &pattern).nth(1), Moment::Committed, Deed::Hold);
    deliver(&scenario, &controller, EVENTS, event("3", "ark")).await;
    fault.wait_until_hit(DEADLINE).await;
    controller.kill();
    fault.release();
    controller.start_again();
    controller.ready().await;
    let fired = OutcomeKind::Fired;
    let told = came_to(&scenario, &[("1", fired, ""), ("2", fired, ""), ("3", fired, "")]).await;
    let execution = scenario.ends("leak", "Completed").await;
    assert_eq!(captured(&execution), ["1", "2", "3"]);
    assert!(told.iter().all(|(_, _, _, of)| *of == execution.metadata.name), "{told:#?}");
    // What was used is used: the next two are not enough, whoever counts.
    for id in ["4", "5"] {
        deliver(&scenario, &controller, EVENTS, event(id, "ark")).await;
    }
    controller.restart().await;
    let rest = [("4", held, waits), ("5", held, waits)];
    came_to(&scenario, &[[("1", fired, ""), ("2", fired, ""), ("3", fired, "")].as_slice(), &rest].concat())
        .await;
    assert_eq!(scenario.executions("leak").await.len(), 1);
}

/// What is expected of a boat within a minute. It is given up later: whoever was not heard has two minutes to come again
/// once somebody else leads.
fn ended_within_a_minute() -> Value {
    let member = |name: &str| json!({"name": name, "when": format!("event.data.kind == '{name}'")});
    json!({"groupBy": "event.data.boat", "within": "1m",
        "absent": {"after": member("began"), "expected": member("ended")}})
}

#[tokio::test]
async fn what_stays_away_is_noticed_once_by_the_next_process() {
    let Some(scenario) = Scenario::alone("absence").await else { return };
    let proxy = scenario.proxy().await;
    open(&scenario).await;
    for boat in ["ark", "brig"] {
        scenario.boat(boat, "leaking").await;
    }
    let mut controller = scenario.controller_through(&proxy).await;
    let changes = json!({"correlate": ended_within_a_minute(), "ladder": [{"run": MEND}]});
    listens(&scenario, "leak", EVENTS, changes).await;
    let began = Timestamp::now();
    for (id, kind, boat) in [("1", "began", "ark"), ("2", "began", "brig"), ("3", "ended", "brig")] {
        let mut body = event(id, boat);
        body["kind"] = kind.into();
        deliver(&scenario, &controller, EVENTS, body).await;
    }
    let (held, waits) = (OutcomeKind::Held, "waits for others");
    let followed = ("2", OutcomeKind::Suppressed, "its window ended without the others");
    came_to(&scenario, &[("1", held, waits), followed, ("3", held, waits)]).await;
    // Killed inside the window; and whoever notices it dies before it has said so.
    let pattern = format!(r"/namespaces/{}/executions(\?|$)", scenario.stage.namespace);
    let fault = proxy.arm(Requests::new(Method::POST, &pattern).nth(1), Moment::Committed, Deed::Hold);
    controller.restart().await;
    fault.wait_until_hit(4 * DEADLINE).await;
    controller.kill();
    fault.release();
    controller.start_again();
    controller.ready().await;
    let stands = [("1", OutcomeKind::Fired, ""), followed, ("3", held, waits)];
    let told = came_to(&scenario, &stands).await;
    let execution = scenario.ends("leak", "Completed").await;
    assert_eq!((captured(&execution), scenario.targets("leak").await), (vec!["1"], vec!["ark".to_owned()]));
    assert_eq!(told[0].3, execution.metadata.name, "{told:#?}");
    let decided = execution.spec.decision.as_ref().unwrap().time.0;
    assert!(decided >= began + SignedDuration::from_mins(1), "{decided} is inside the window of {began}");
    controller.restart().await;
    scenario.controller_catches_up().await;
    scenario.only("leak", "what was noticed is not noticed again", |_| true).await;
}

/// An alert of a name about the ark, of which others may be told, too.
fn leak(name: &str, starts: Timestamp, ends: Option<Timestamp>) -> Value {
    let mut alert = alert_about("ark", starts, ends);
    alert["fingerprint"] = name.into();
    alert["labels"]["alertname"] = name.into();
    notification(vec![alert])
}

#[tokio::test]
async fn a_window_over_alerts_is_filled_on_by_the_next_process() {
    let Some(scenario) = Scenario::alone("window-alerts").await else { return };
    let proxy = scenario.proxy().await;
    open(&scenario).await;
    scenario.boat("ark", "leaking").await;
    let mut controller = scenario.controller_through(&proxy).await;
    let correlate = json!({"groupBy": "alert.labels.boat", "within": "1h", "count": 3});
    let ladder = json!([{"run": MEND, "verify": {"within": "5m", "stableFor": "0s"}}]);
    listens(&scenario, "leak", ALERTS, json!({"correlate": correlate, "ladder": ladder})).await;
    let starts = Timestamp::now();
    let over = starts + SignedDuration::from_hours(1);
    let id = |name: &str, status: &str| format!("{name}/{starts}/{status}");
    let (held, waits) = (
        OutcomeKind::Held,
        format!("waits for others until {}", Timestamp::from_second(over.as_second()).unwrap()),
    );
    for name in ["a", "b"] {
        deliver(&scenario, &controller, ALERTS, leak(name, starts, None)).await;
    }
    came_to(&scenario, &[(&id("a", "firing"), held, &waits), (&id("b", "firing"), held, &waits)]).await;
    controller.restart().await;
    // What is resolved counts no more, whoever counts.
    deliver(&scenario, &controller, ALERTS, leak("a", starts, Some(Timestamp::now()))).await;
    deliver(&scenario, &controller, ALERTS, leak("c", starts, None)).await;
    let (resolved, early) = (OutcomeKind::Resolved, "before its window was over");
    let of_a = [id("a", "firing"), id("a", "resolved")];
    let gone = [(of_a[0].as_str(), resolved, early), (of_a[1].as_str(), resolved, "")];
    let (b, c, d) = (id("b", "firing"), id("c", "firing"), id("d", "firing"));
    came_to(&scenario, &[gone.as_slice(), &[(&b, held, &waits), (&c, held, &waits)]].concat()).await;
    // The third completes it; and the process that says so dies before it has said what became of the three.
    let pattern = format!(r"/namespaces/{}/executions(\?|$)", scenario.stage.namespace);
    let fault = proxy.arm(Requests::new(Method::POST, &pattern).nth(1), Moment::Committed, Deed::Hold);
    deliver(&scenario, &controller, ALERTS, leak("d", starts, None)).await;
    fault.wait_until_hit(DEADLINE).await;
    controller.kill();
    fault.release();
    controller.start_again();
    controller.ready().await;
    let fired = OutcomeKind::Fired;
    let all = [(b.as_str(), fired, ""), (&c, fired, ""), (&d, fired, "")];
    came_to(&scenario, &[gone.as_slice(), &all].concat()).await;
    controller.restart().await;
    scenario.controller_catches_up().await;
    scenario.only("leak", "one of them is not resolved yet", |execution| !execution.is_finished()).await;
    for name in ["b", "c", "d"] {
        deliver(&scenario, &controller, ALERTS, leak(name, starts, Some(Timestamp::now()))).await;
    }
    scenario.ends("leak", "TargetRecovered").await;
    scenario.only("leak", "it is over", Execution::is_finished).await;
}

#[tokio::test]
async fn a_window_over_kubernetes_events_is_filled_on_by_the_next_process() {
    let Some(scenario) = Scenario::alone("window-events").await else { return };
    scenario.boat("ark", "leaking").await;
    let trigger = json!({"resource": null, "event": {"reasons": ["Leak"]}});
    let correlate = json!({"groupBy": "event.data.regarding.name", "within": "1h", "count": 3});
    let changes =
        json!({"trigger": trigger, "when": null, "correlate": correlate, "ladder": [{"run": MEND}]});
    scenario.rule("leak", changes).await;
    let mut controller = scenario.controller().await;
    scenario.watching("leak").await;
    scenario.controller_catches_up().await;
    let leaks = async |name: &str| {
        scenario.stage.create::<Event>(triggers::event(&scenario, name, "ark", "Leak")).await
    };
    let (first, second) = (leaks("first").await, leaks("second").await);
    scenario.controller_catches_up().await;
    assert!(scenario.executions("leak").await.is_empty(), "two are not enough");
    controller.kill();
    let third = leaks("third").await;
    controller.start_again();
    controller.ready().await;
    let execution = scenario.ends("leak", "Completed").await;
    let used = execution.spec.decision.as_ref().unwrap().captured.iter().map(|event| event.id.clone());
    let are = |used: &[String], events: &[Event]| {
        let uid = |event: &Event| event.metadata.uid.clone().unwrap();
        used.len() == events.len() && used.iter().zip(events).all(|(id, event)| id.contains(&uid(event)))
    };
    let used: Vec<_> = used.collect();
    assert!(are(&used, &[first, second, third]), "{used:?}");
    leaks("fourth").await;
    leaks("fifth").await;
    controller.restart().await;
    scenario.controller_catches_up().await;
    scenario.only("leak", "what was used is used", |_| true).await;
}

/// How many Executions the rule has, the first of which has ended: when that was.
async fn first_ended(scenario: &Scenario) -> Timestamp {
    let execution = scenario.only("leak", "it is over", Execution::is_finished).await;
    execution.status.unwrap().finished_at.unwrap().0
}

/// Waits, for longer than a target rests, until there is a second Execution and no third, and says when it was decided.
async fn second(scenario: &Scenario, controller: &Controller) -> Timestamp {
    let found = eventually("it acts again", DEADLINE + COOLDOWN.unsigned_abs(), || async {
        let mut found = scenario.executions("leak").await;
        found.sort_by_key(|execution| execution.spec.decision.as_ref().map(|decision| decision.time.0));
        if found.len() == 2 {
            Ok(found)
        } else {
            Err(format!("{} Executions\n{}", found.len(), controller.log()))
        }
    })
    .await;
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("leak").await.len(), 2, "and once");
    found[1].spec.decision.as_ref().unwrap().time.0
}

#[tokio::test]
async fn an_alert_inside_a_cooldown_is_held_and_acted_on_after_it_whoever_leads() {
    let Some(scenario) = Scenario::alone("cooldown").await else { return };
    open(&scenario).await;
    scenario.boat("ark", "leaking").await;
    let mut controller = scenario.controller().await;
    let ladder = json!([{"run": MEND, "verify": {"within": "5m", "stableFor": "0s"}}]);
    listens(&scenario, "leak", ALERTS, json!({"limits": {"cooldown": "20s"}, "ladder": ladder})).await;
    let starts = Timestamp::now();
    deliver(&scenario, &controller, ALERTS, alert("ark", starts, None)).await;
    scenario.only("leak", "it fires", |_| true).await;
    deliver(&scenario, &controller, ALERTS, alert("ark", starts, Some(Timestamp::now()))).await;
    let ended = first_ended(&scenario).await;
    controller.restart().await;
    let again = Timestamp::now() + SignedDuration::from_secs(1);
    deliver(&scenario, &controller, ALERTS, alert("ark", again, None)).await;
    let held = async || {
        eventually("it is held", DEADLINE, || async {
            let held = rule(&scenario, "leak").await.status.unwrap_or_default().held;
            held.into_iter().find(|held| held.reason == Guard::Cooldown).ok_or("not yet")
        })
        .await
    };
    let (before, waits) = (held().await, format!("ark/{again}/firing"));
    controller.restart().await;
    let told = outcomes(&scenario).await;
    assert!(told.contains(&(waits, OutcomeKind::Held, "Cooldown".to_owned(), None)), "{told:#?}");
    assert_eq!(scenario.executions("leak").await.len(), 1, "it rests");
    assert_eq!(held().await, before, "since when and until when is not forgotten");
    let acted = second(&scenario, &controller).await;
    assert!(acted >= ended + COOLDOWN, "{acted} is too soon after {ended}");
}

#[tokio::test]
async fn an_event_inside_a_cooldown_is_suppressed_whoever_leads() {
    let Some(scenario) = Scenario::alone("cooldown-events").await else { return };
    open(&scenario).await;
    scenario.boat("ark", "leaking").await;
    let mut controller = scenario.controller().await;
    let changes = json!({"limits": {"cooldown": "20s"}, "ladder": [{"run": MEND}]});
    listens(&scenario, "leak", EVENTS, changes).await;
    deliver(&scenario, &controller, EVENTS, event("1", "ark")).await;
    let ended = first_ended(&scenario).await;
    controller.restart().await;
    let again = deliver(&scenario, &controller, EVENTS, event("1", "ark")).await;
    assert!(again.status == 200 && again.text.starts_with("duplicate of execution leak-"), "{again:?}");
    deliver(&scenario, &controller, EVENTS, event("2", "ark")).await;
    let stands = [("1", OutcomeKind::Fired, ""), ("2", OutcomeKind::Suppressed, "Cooldown")];
    came_to(&scenario, &stands).await;
    controller.restart().await;
    scenario.controller_catches_up().await;
    came_to(&scenario, &stands).await;
    scenario.only("leak", "it rests", |_| true).await;
    // An event is over at once: what comes after the cooldown is another.
    eventually("the cooldown is over", DEADLINE, || async {
        let left = ended + COOLDOWN + SignedDuration::from_secs(1) - Timestamp::now();
        if left.get_seconds() < 0 { Ok(()) } else { Err(format!("{left}")) }
    })
    .await;
    deliver(&scenario, &controller, EVENTS, event("3", "ark")).await;
    second(&scenario, &controller).await;
    came_to(&scenario, &[stands.as_slice(), &[("3", OutcomeKind::Fired, "")]].concat()).await;
}
