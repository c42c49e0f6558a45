//! What is over before it is decided about: each is told of once, in the journal and among the numbers. (Of what a Webhook received:
//! `webhooks::time`; of what nobody was there to answer: `webhooks::unled`.)

use std::path::{Path, PathBuf};

use fother::api::Execution;
use fother::journal::{File, Filter, Outcome};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::told::leak;
use super::{Controller, Home};
use crate::support::wait::{DEADLINE, eventually};

const ENDED: &str = "its window ended without the others";

async fn home() -> (Home, Controller, PathBuf) {
    let home = Home::furnished().await;
    home.own("Action", "note", json!({"collect": {}})).await;
    let journal = home.files.path().join("journal.db");
    let controller = starts(&home, &journal).await;
    (home, controller, journal)
}

async fn starts(home: &Home, journal: &Path) -> Controller {
    let controller = home.controller(&["--journal", journal.to_str().unwrap()]);
    controller.leads().await;
    controller
}

/// Waits until this is what a Rule has suppressed, and it has fired so often.
async fn suppressed(journal: &Path, rule: &str, expected: &[&str], fired: usize) {
    eventually(&format!("what {rule} let pass"), DEADLINE, || async {
        let filter = Filter { rule: Some(rule.to_owned()), limit: 1000, ..Filter::default() };
        let file = File::read(journal).map_err(|error| error.to_string())?;
        let found = file.decisions(&filter).map_err(|error| error.to_string())?;
        let of = |outcome: Outcome| found.iter().filter(move |decision| decision.outcome == outcome);
        let why: Vec<_> = of(Outcome::Suppressed).map(|decision| decision.reason.as_str()).collect();
        if why == expected && of(Outcome::Fired).count() == fired {
            Ok(())
        } else {
            Err(format!("{found:#?}"))
        }
    })
    .await;
}

/// A Rule over the Events of leaks.
async fn leaks(home: &Home, rule: &str, changes: Value) {
    let mut spec = json!({"trigger": {"resource": null, "event": {"reasons": ["Leak"]}}, "when": null});
    json_patch::merge(&mut spec, &changes);
    home.rule(rule, spec).await;
}

/// A Rule over the ends of Executions of the Rule `observes`, all of which lead to one name.
async fn follows(home: &Home, rule: &str, changes: Value) {
    let mut spec = json!({"trigger": {"resource": null, "execution": {"rules": ["observes"]}}, "when": null,
        "target": {"key": "event.data.rule"}, "ladder": [{"run": "note"}]});
    json_patch::merge(&mut spec, &changes);
    home.rule(rule, spec).await;
}

fn several(group_by: &str, within: &str) -> Value {
    json!({"correlate": {"groupBy": group_by, "within": within, "count": 2}})
}

async fn older_than(time: Timestamp, seconds: i64) {
    eventually("time passes", DEADLINE, || async {
        let age = Timestamp::now().duration_since(time).as_secs();
        if age > seconds { Ok(()) } else { Err(age) }
    })
    .await;
}

#[tokio::test]
async fn an_event_of_before_the_rule_is_told_of_once() {
    let (home, controller, journal) = home().await;
    home.boat("ark", "leaking").await;
    let mut early = leak("early");
    early["eventTime"] = format!("{:.6}", Timestamp::now() - SignedDuration::from_mins(1)).into();
    home.apply(&early).await;
    leaks(&home, "mends", json!({})).await;
    suppressed(&journal, "mends", &["BeforeRule"], 0).await;
    home.answers("mends").await;
    // It is seen again, and so is another one after it.
    early["metadata"]["labels"] = json!({"seen": "again"});
    home.apply(&early).await;
    home.apply(&leak("late")).await;
    suppressed(&journal, "mends", &["BeforeRule"], 1).await;
    let counted = "fother_rule_suppressed_total{namespace=\"ops\",rule=\"mends\",guard=\"beforerule\"} 1\n";
    controller.says("/metrics", |answer| answer.body.contains(counted)).await;
}

/// Of Events that is known from a list that was asked for after the window.
#[tokio::test]
async fn an_event_that_waits_in_vain_is_told_of() {
    let (home, mut controller, journal) = home().await;
    home.boat("ark", "leaking").await;
    leaks(&home, "mends", several("event.data.regarding.name", "1s")).await;
    home.answers("mends").await;
    let leaked = Timestamp::now();
    home.apply(&leak("lonely")).await;
    older_than(leaked, 2).await;
    controller.process.kill();
    let _controller = starts(&home, &journal).await;
    suppressed(&journal, "mends", &[ENDED], 0).await;
}

#[tokio::test]
async fn ends_of_executions_count_together() {
    let (home, _controller, journal) = home().await;
    home.rule("observes", json!({})).await;
    follows(&home, "both", several("event.data.rule", "10m")).await;
    follows(&home, "soon", several("event.data.target.name", "1s")).await;
    for rule in ["both", "soon"] {
        home.ready(rule, "Active").await;
    }
    home.boat("ark", "leaking").await;
    suppressed(&journal, "soon", &[ENDED], 0).await;
    suppressed(&journal, "both", &[], 0).await;
    home.boat("brig", "leaking").await;
    suppressed(&journal, "soon", &[ENDED, ENDED], 0).await;
    suppressed(&journal, "both", &[], 1).await;
    let decision = home.execution("both").await.spec.decision.unwrap();
    let boats: Vec<_> =
        decision.captured.iter().filter_map(|event| event.data.0["target"]["name"].as_str()).collect();
    assert_eq!((boats.len(), decision.depth), (2, Some(1)), "{boats:?}");
    // A third is alone again.
    home.boat("cog", "leaking").await;
    suppressed(&journal, "soon", &[ENDED; 3], 0).await;
    suppressed(&journal, "both", &[], 1).await;
}

#[tokio::test]
async fn an_end_of_before_the_rule_is_told_of_once() {
    let (home, _controller, journal) = home().await;
    home.rule("observes", json!({})).await;
    home.boat("ark", "leaking").await;
    let ended = |execution: Execution| execution.status.unwrap().finished_at.unwrap().0;
    older_than(ended(home.execution("observes").await), 3).await;
    follows(&home, "late", json!({})).await;
    suppressed(&journal, "late", &["BeforeRule"], 0).await;
    home.boat("brig", "leaking").await;
    suppressed(&journal, "late", &["BeforeRule"], 1).await;
}
