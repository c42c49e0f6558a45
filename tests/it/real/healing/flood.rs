//! Far more than a rule may act on, at once: everybody is answered, every event that was accepted has its outcome, the
//! limit holds, and it costs few requests and no more memory than it may. How fast that is, and in how little, `make bench`
//! says.

#[path = "../../../../benches/usage.rs"]
#[expect(dead_code, reason = "the rest is for the bench")]
mod usage;

use std::collections::BTreeMap;

use fother::api::OutcomeKind;
use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::controller::{Controller, USER};
use super::hooks::{ALERTS, STREAM, alert_about, listens, notification, open, outcomes, send};
use super::scenario::Scenario;
use crate::support::wait::{DEADLINE, eventually};

/// Requests, and what is in each.
const REQUESTS: usize = 40;
const IN_A_REQUEST: usize = 100;
/// What the rule may do within the hour.
const LIMIT: usize = 5;
/// What is said of what is kept twice: of an event, and of an alert.
const AGAIN: [&str; 2] = ["it was received before", "there is a newer one"];
/// The most memory that it may ever take, in MB, as in the bench, where far more is sent.
const MEMORY: f64 = 256.0;

fn names(request: usize) -> impl Iterator<Item = String> {
    (0..IN_A_REQUEST).map(move |n| format!("boat-{request}-{n}"))
}

/// A rule that may act on a few of many targets, each of which is a name.
async fn limited(scenario: &Scenario, webhook: &'static str, key: &str) -> Controller {
    open(scenario).await;
    scenario.action("note", json!({"collect": {}})).await;
    let controller = scenario.controller().await;
    let limits = json!({"perRule": format!("{LIMIT}/1h")});
    let changes = json!({"limits": limits, "target": {"ref": null, "key": key}, "ladder": [{"run": "note"}]});
    listens(scenario, "leak", webhook, changes).await;
    controller
}

/// Sends all at once, each until it is taken if `again`; gives how many events were accepted.
async fn pour(
    scenario: &Scenario,
    controller: &Controller,
    (webhook, again): (&'static str, bool),
    body: impl Fn(usize) -> Value,
) -> usize {
    let one = async |request| {
        let (to, body) = ((controller.hooks, scenario.stage.namespace.clone()), body(request));
        eventually("it is answered", DEADLINE, || async {
            let answer = send(to.clone(), webhook, body.clone()).await.map_err(|error| error.to_string())?;
            assert!(matches!(answer.status, 200 | 202 | 503), "{answer:?}");
            // Who hears that there is no room knows that nothing is kept; else a part may be.
            let is_known = answer.status != 503 || answer.text.contains("queue full");
            if answer.status == 503 && again || !is_known { Err(answer.text) } else { Ok(answer) }
        })
        .await
    };
    let answers = join_all((0..REQUESTS).map(one)).await;
    // By then all that is in a request is kept, also where the answer that said so was lost and it was sent again.
    answers.iter().filter(|answer| answer.status != 503).count() * IN_A_REQUEST
}

/// Waits until something holds of how many outcomes there are of each kind, and of whether all that is held is so by the
/// limit.
async fn until(scenario: &Scenario, what: &str, holds: impl Fn(&BTreeMap<OutcomeKind, usize>, bool) -> bool) {
    eventually(what, 2 * DEADLINE, || async {
        let (mut counts, mut is_full) = (BTreeMap::new(), true);
        for (_, kind, why, _) in outcomes(scenario).await {
            // Of what is sent again while it is taken in, some may be kept twice.
            if kind == OutcomeKind::Duplicate && AGAIN.contains(&why.as_str()) {
                continue;
            }
            *counts.entry(kind).or_default() += 1;
            is_full &= kind != OutcomeKind::Held || why == "Rate";
        }
        if holds(&counts, is_full) { Ok(()) } else { Err(format!("{counts:?} {is_full}")) }
    })
    .await;
}

#[tokio::test]
async fn alerts_beyond_the_limit_are_held_until_they_are_resolved() {
    let Some(scenario) = Scenario::alone("flood-alerts").await else { return };
    let controller = limited(&scenario, ALERTS, "alert.labels.boat").await;
    let mark = scenario.audit().mark().await;
    let starts = Timestamp::now();
    let firing =
        |request| notification(names(request).map(|name| alert_about(&name, starts, None)).collect());
    let accepted = pour(&scenario, &controller, (ALERTS, false), firing).await;
    assert!(accepted >= IN_A_REQUEST, "{accepted}");
    let expected = [(OutcomeKind::Fired, LIMIT), (OutcomeKind::Held, accepted - LIMIT)].into();
    let decided = |counts: &BTreeMap<_, _>, is_full| is_full && *counts == expected;
    until(&scenario, "all are decided, and the limit is used", decided).await;
    let ends = Timestamp::now();
    let resolved =
        |request| notification(names(request).map(|name| alert_about(&name, starts, Some(ends))).collect());
    pour(&scenario, &controller, (ALERTS, true), resolved).await;
    let over = |counts: &BTreeMap<_, _>, _| counts.keys().all(|kind| *kind == OutcomeKind::Resolved);
    until(&scenario, "all are over", over).await;
    assert_eq!(scenario.executions("leak").await.len(), LIMIT);
    few_requests(&scenario, mark, 2 * accepted).await;
    little_memory(&controller);
}

#[tokio::test]
async fn events_beyond_the_limit_are_suppressed_and_told_of_in_few_words() {
    let Some(scenario) = Scenario::alone("flood-events").await else { return };
    let controller = limited(&scenario, STREAM, "event.data.boat").await;
    let mark = scenario.audit().mark().await;
    let event = |name| json!({"specversion": "1.0", "id": name, "source": "/sea", "type": "leak", "data": {"boat": name}});
    let accepted =
        pour(&scenario, &controller, (STREAM, false), |request| names(request).map(event).collect()).await;
    assert!(accepted >= IN_A_REQUEST, "{accepted}");
    // One runs at a time, and meanwhile all others are over: an event does not wait.
    let all = format!("all {accepted} are decided");
    until(&scenario, &all, |counts, _| counts.values().sum::<usize>() == accepted).await;
    let told = outcomes(&scenario).await;
    let count = |wanted| told.iter().filter(|(_, kind, ..)| *kind == wanted).count();
    let (fired, suppressed) = (count(OutcomeKind::Fired), count(OutcomeKind::Suppressed));
    assert_eq!((scenario.executions("leak").await.len(), fired + suppressed), (fired, accepted));
    assert!((1..=LIMIT).contains(&fired), "{fired}");
    // All of them are told of: some by their own Event, the others by one that counts.
    let events = scenario.stage.api::<Event>();
    eventually("all are counted", DEADLINE, || async {
        let found = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let of = found.iter().filter(|event| event.reason.as_deref() == Some("RuleFireSuppressed"));
        let count: i32 = of.map(|event| event.series.as_ref().map_or(1, |series| series.count)).sum();
        if usize::try_from(count) == Ok(suppressed) {
            Ok(())
        } else {
            Err(format!("{count} of {suppressed}"))
        }
    })
    .await;
    few_requests(&scenario, mark, accepted).await;
    little_memory(&controller);
}

/// So many events have cost few requests each.
async fn few_requests(scenario: &Scenario, mark: crate::support::audit::Mark, events: usize) {
    let mut by_kind = BTreeMap::<String, usize>::new();
    for request in scenario.audit().since(mark).await.into_iter().filter(|request| request.user == USER) {
        *by_kind.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1;
    }
    assert!(by_kind.values().sum::<usize>() * 5 < events, "{events} events: {by_kind:#?}");
}

/// At no time did it hold much of what was sent.
fn little_memory(controller: &Controller) {
    let (_, most) = usage::memory(controller.id());
    assert!(most <= MEMORY, "{most:.0} MB at its peak");
}
