//! Events that mean something only together; through restarts.

use fother::api::Execution;
use futures::future::join_all;
use serde_json::{Value, json};

use super::bay::{Bay, MEND, NAMESPACE};

fn regarding(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": name})
}

#[tokio::test]
async fn enough_events_of_a_group_act_once_and_a_restart_forgets_none() {
    let mut bay = Bay::new().await;
    for boat in ["ark", "brig"] {
        bay.boat(boat, "leaking").await;
    }
    let correlate = json!({"groupBy": "event.data.regarding.name", "within": "10m", "count": 3});
    let few = json!([{"if": "events.size() < 3 || events[0].data.regarding.name != 'ark'", "reason": "Few"}]);
    bay.event_rule("springs", json!({"correlate": correlate, "unless": few, "ladder": [{"run": MEND}]}))
        .await;
    bay.answers("springs").await;
    for (event, boat) in [("one", "ark"), ("two", "ark"), ("other", "brig")] {
        bay.event(event, regarding(boat)).await;
    }
    bay.restart().await;
    bay.watching("springs").await;
    assert_eq!(bay.executions().await.len(), 0);
    bay.event("three", regarding("ark")).await;
    let acted = bay.only("three of the ark are enough", Execution::is_finished).await;
    let notes = |execution: &Execution| -> Vec<String> {
        let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
        captured.map(|event| event.data.0["note"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(notes(&acted), ["one", "two", "three"]);
    bay.later().await;
    bay.restart().await;
    for event in ["four", "five"] {
        bay.event(event, regarding("ark")).await;
    }
    // Were one of the used ones used again, these two would be enough; this one is, with those of its own boat.
    for event in ["another", "more"] {
        bay.event(event, regarding("brig")).await;
    }
    bay.until_stopped("springs", "unless", 1).await;
    bay.only("what was used is not used again", |_| true).await;
}

#[tokio::test]
async fn events_complete_a_pattern_by_their_members_and_their_order() {
    let bay = Bay::new().await;
    let named = |name: &str| json!({"name": name, "when": format!("event.data.note.startsWith('{name}')")});
    let members = json!([named("list"), named("sink")]);
    for (pattern, boat) in [("any", "ark"), ("all", "brig"), ("sequence", "cog")] {
        bay.boat(boat, "leaking").await;
        let mut correlate = json!({"groupBy": "event.data.regarding.name", "within": "10m"});
        correlate[pattern] = members.clone();
        let when = format!("event.data.regarding.name == '{boat}'");
        let read =
            json!([{"if": "events.exists(e, e.data.metadata.name.startsWith('never'))", "reason": "Never"}]);
        let rule = json!({"when": when, "correlate": correlate, "unless": read, "ladder": [{"run": MEND}]});
        bay.event_rule(pattern, rule).await;
        bay.answers(pattern).await;
    }
    let acted = async |rules: &[&str]| -> Vec<Vec<(String, String)>> {
        let found = bay.all(&format!("{rules:?} act"), |found| found.len() == rules.len()).await;
        let of = |execution: &Execution| {
            let decision = execution.spec.decision.clone().unwrap();
            let member = |event: &fother::api::CapturedEvent| {
                let name = event.data.0.pointer("/metadata/name").and_then(Value::as_str);
                (event.member.clone().unwrap_or_default(), name.unwrap_or_default().to_owned())
            };
            (decision.rule.name, decision.captured.iter().map(member).collect::<Vec<_>>())
        };
        let by_rule: std::collections::BTreeMap<_, _> = found.iter().map(of).collect();
        rules.iter().map(|rule| by_rule[*rule].clone()).collect()
    };
    let pair = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(member, name)| ((*member).to_owned(), (*name).to_owned())).collect()
    };
    for event in ["sink-1", "other-1"] {
        for boat in ["ark", "brig", "cog"] {
            bay.event(&format!("{event}-{boat}"), regarding(boat)).await;
        }
    }
    assert_eq!(acted(&["any"]).await, [pair(&[("sink", "sink-1-ark")])], "one of any member is enough");
    for boat in ["brig", "cog"] {
        bay.event(&format!("list-1-{boat}"), regarding(boat)).await;
    }
    let both = acted(&["any", "all"]).await;
    assert_eq!(both[1], pair(&[("sink", "sink-1-brig"), ("list", "list-1-brig")]), "in any order");
    bay.event("sink-2-cog", regarding("cog")).await;
    let three = acted(&["any", "all", "sequence"]).await;
    assert_eq!(three[2], pair(&[("list", "list-1-cog"), ("sink", "sink-2-cog")]), "in their order alone");
}

#[tokio::test]
async fn events_go_together_by_what_an_earlier_one_was_and_a_restart_forgets_none() {
    let mut bay = Bay::new().await;
    for boat in ["ark", "brig"] {
        bay.boat(boat, "leaking").await;
    }
    let named = |name: &str| json!({"name": name, "when": format!("event.data.note.startsWith('{name}')")});
    let mut sink = named("sink");
    sink["given"] = "event.data.regarding.name == captured.list.data.regarding.name \
        && timestamp(event.time) > timestamp(captured.list.time)"
        .into();
    let correlate = json!({"within": "10m", "sequence": [named("list"), sink]});
    bay.event_rule("springs", json!({"correlate": correlate, "ladder": [{"run": MEND}]})).await;
    bay.answers("springs").await;
    for (event, boat) in [("list-1", "ark"), ("list-2", "brig"), ("sink-1", "cog")] {
        bay.event(event, regarding(boat)).await;
    }
    bay.restart().await;
    bay.watching("springs").await;
    bay.event("sink-2", regarding("ark")).await;
    let acted = bay.only("what was listing sinks", Execution::is_finished).await;
    assert_eq!(acted.spec.target.map(|target| target.name).as_deref(), Some("ark"));
    let captured = acted.spec.decision.map(|decision| decision.captured).unwrap_or_default();
    let names: Vec<_> = captured.iter().map(|event| event.data.0["note"].as_str().unwrap()).collect();
    assert_eq!(names, ["list-1", "sink-2"]);
    bay.later().await;
    bay.event("sink-3", regarding("ark")).await;
    bay.event("list-3", regarding("ark")).await;
    bay.event("sink-4", regarding("brig")).await;
    let both = bay.all("the brig sinks, too", |found| found.len() == 2).await;
    let of_brig = both.iter().filter_map(|e| e.spec.target.as_ref()).any(|target| target.name == "brig");
    assert!(of_brig, "and the ark's were used");
}

#[tokio::test]
async fn events_beyond_those_that_can_wait_for_others_are_told_of() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let named = |name: &str| json!({"name": name, "when": format!("event.data.note.startsWith('{name}')")});
    let correlate = json!({"groupBy": "event.data.regarding.name", "within": "1h", "all": [named("list"), named("sink")]});
    bay.event_rule("springs", json!({"correlate": correlate})).await;
    bay.answers("springs").await;
    for number in 0..1003 {
        bay.event(&format!("list-{number}"), regarding("ark")).await;
    }
    bay.until_stopped("springs", "toomany", 3).await;
    bay.until_rule("springs", "three were too many", |rule| {
        rule.status.as_ref().is_some_and(|status| status.dropped == Some(3))
    })
    .await;
    assert_eq!(bay.stopped("springs", "toomany"), 3, "each once");
}

#[tokio::test]
async fn what_stays_away_is_noticed() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let named = |name: &str, start: &str| json!({"name": name, "when": format!("event.data.note.startsWith('{start}')")});
    let absent = json!({"after": named("left", "left"), "expected": named("home", "home")});
    let correlate = json!({"groupBy": "event.data.regarding.name", "within": "3s", "absent": absent});
    bay.event_rule("lost", json!({"correlate": correlate, "ladder": [{"run": MEND}]})).await;
    bay.answers("lost").await;
    bay.boat("brig", "leaking").await;
    bay.event("left-1", regarding("brig")).await;
    bay.event("home-1", regarding("brig")).await;
    bay.event("left-2", regarding("ark")).await;
    let acted = bay.only("the ark is missed", Execution::is_finished).await;
    assert_eq!(acted.spec.target.map(|target| target.name).as_deref(), Some("ark"));
    let captured = acted.spec.decision.map(|decision| decision.captured).unwrap_or_default();
    assert_eq!(captured.first().and_then(|event| event.member.as_deref()), Some("left"));
}

#[tokio::test]
async fn events_beyond_those_that_can_wait_for_their_decision_are_counted() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.event_rule("springs", json!({"limits": {"once": {"take": "Last", "within": "1h"}}})).await;
    bay.answers("springs").await;
    let received = || bay.metric("fother_events_received_total{source=\"event\",result=\"accepted\"}");
    for first in (0..1003).step_by(100) {
        let some = first..1003.min(first + 100);
        // Those that are too many are not accepted.
        let all = 1000.min(some.end);
        join_all(some.map(async |number| bay.event(&format!("event-{number}"), regarding("ark")).await))
            .await;
        let shown = || if received() >= all { Ok(()) } else { Err(received().to_string()) };
        bay.until("it is shown them", shown).await;
    }
    bay.until_rule("springs", "three were too many", |rule| {
        rule.status.as_ref().is_some_and(|status| status.dropped == Some(3))
    })
    .await;
}

/// Kubernetes has it still: the Rule is asked about it as it reads by now.
#[tokio::test]
async fn an_event_that_did_not_match_is_asked_anew_by_an_edited_rule() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let rule = |when: &str| json!({"when": when, "ladder": [{"run": MEND}]});
    bay.event_rule("springs", rule("event.data.note.startsWith('sprang')")).await;
    bay.answers("springs").await;
    bay.event("springs", regarding("ark")).await;
    let labels = format!("{{namespace=\"{NAMESPACE}\",rule=\"springs\",decision=\"not_matched\"}}");
    bay.until("it does not match", || {
        let count = bay.metric(&format!("fother_rule_evaluations_total{labels}"));
        if count > 0 { Ok(()) } else { Err("nobody was asked".to_owned()) }
    })
    .await;
    assert!(bay.executions().await.is_empty());
    bay.event_rule("springs", rule("event.data.note == 'springs'")).await;
    let acted = bay.only("it matches by now", Execution::is_finished).await;
    assert_eq!(acted.spec.target.map(|target| target.name).as_deref(), Some("ark"));
}
