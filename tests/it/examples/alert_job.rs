//! An alert becomes a Job: its labels are checked, a secret reaches it as a file, and its result is recorded.

use fother::api::{Execution, Rule};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::stage::{Place, Stage, alert};
use super::taker::Taker;
use crate::webhooks::stage::at;

pub const PACK: (&str, &str) = ("alert-job", "tickets");

const SECRET: &str = "swordfish-4711";

async fn stage(place: &Place, address: &str) -> Stage {
    let file = format!("url = \"{address}\"\nheader = \"Authorization: Bearer {SECRET}\"\n");
    let untouched: fn(&mut Rule) = |_| {};
    Stage::of(place, PACK, json!({"tickets": {"curlrc": file}}), untouched).await
}

fn test_alert(region: &str, severity: &str, ends: Option<&str>) -> Value {
    let mut found =
        alert("TestAlert", region, json!({"region": region, "severity": severity}), (&at(-5), ends));
    found["annotations"] = json!({"percent": "93", "summary": "nearly \"full\"; $(reboot)"});
    found
}

/// Everything in the namespace that is no Secret, as text.
async fn everything(stage: &Stage) -> String {
    let all = ListParams::default();
    let found = [
        json!(stage.api::<Execution>().list(&all).await.unwrap()),
        json!(stage.api::<Job>().list(&all).await.unwrap()),
        json!(stage.api::<Pod>().list(&all).await.unwrap()),
        json!(stage.api::<ConfigMap>().list(&all).await.unwrap()),
        json!(stage.api::<Event>().list(&all).await.unwrap()),
        json!(stage.batches().await),
    ];
    found.map(|list| list.to_string()).concat()
}

pub async fn an_alert_opens_a_ticket_and_its_number_is_recorded(place: &Place) {
    let tickets = Taker::at(place.host().await, "T-42\n").await;
    let stage = stage(place, &tickets.address).await;
    stage.told_twice(&test_alert("eu-north", "critical", None)).await;
    let found = stage.ended(&["Completed"]).await;
    let rung = &found[0].status.as_ref().unwrap().rungs[0];
    assert_eq!((rung.run.as_str(), rung.outputs.to_value()), ("open-ticket", json!({"ticket": "T-42"})));
    let [(head, body)] = <[_; 1]>::try_from(tickets.taken()).unwrap();
    assert!(head.contains(&format!("authorization: bearer {SECRET}")), "{head}");
    let name = found[0].metadata.name.clone().unwrap();
    assert!(head.contains(&format!("idempotency-key: {name}")), "{head}");
    let sent = ["region", "severity", "percent", "summary"].map(|name| body[name].clone());
    assert_eq!(json!(sent), json!(["eu-north", "critical", 93, "nearly \"full\"; $(reboot)"]));

    let jobs = stage.api::<Job>().list(&ListParams::default()).await.unwrap().items;
    let deadlines: Vec<_> =
        jobs.iter().map(|job| job.spec.as_ref().unwrap().active_deadline_seconds).collect();
    assert_eq!(deadlines, [Some(100)]);
    let (everything, logs) = (everything(&stage).await, stage.logs().await);
    assert!(everything.contains("T-42") && logs.contains("opened T-42"), "{logs}");
    assert!(!everything.contains(SECRET) && !logs.contains(SECRET));

    stage.told_twice(&test_alert("eu-north", "critical", Some(&at(0)))).await;
    stage.closed().await;
    assert_eq!(stage.executions().await.len(), 1);
}

pub async fn what_does_not_fit_the_parameters_starts_nothing(place: &Place) {
    let stage = stage(place, "http://127.0.0.1:9/").await;
    stage.told_twice(&test_alert("us-east", "critical", None)).await;
    stage.came_to("us-east", &["alert-job NotMatched"]).await;
    stage.told_twice(&test_alert("eu-south", "dreadful", None)).await;
    let found = stage.ended(&["ActionFailed"]).await;
    let rung = &found[0].status.as_ref().unwrap().rungs[0];
    let message = rung.message.clone();
    assert!(message.contains("severity=\"dreadful\": must be one of warning, critical"), "{message}");
    // Its name is taken, so that a request that was on its way cannot start anything either.
    let jobs = stage.api::<Job>().list(&ListParams::default()).await.unwrap().items;
    assert!(jobs.iter().all(|job| job.spec.as_ref().unwrap().suspend == Some(true)), "{jobs:#?}");
    assert_eq!(stage.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len(), 0);
}
