//! What a scenario receives: a Webhook for alerts and one for events, rules that listen to them, and what became of
//! each event.

use std::io;

use fother::api::{EventBatch, OutcomeKind, Rule, Webhook};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::controller::Controller;
use super::scenario::{CAULK, Scenario};
use crate::support::http::{self, Answer};
use crate::support::wait::{DEADLINE, eventually};

pub const TOKEN: &str = "open-sesame";
/// The Webhook that Alertmanager talks to, the one for any JSON, and the one for many events at a time.
pub const ALERTS: &str = "alerts";
pub const EVENTS: &str = "events";
pub const STREAM: &str = "stream";

/// The Webhooks, with the account that may read their token.
pub async fn open(scenario: &Scenario) {
    let secret = json!({"metadata": {"name": "senders"}, "stringData": {"token": TOKEN}});
    scenario.stage.create::<Secret>(secret).await;
    let get = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["senders"], "verbs": ["get"]}]);
    scenario.account("receiver", &get).await;
    let authentication = json!({"bearer": {"secretRef": {"name": "senders", "key": "token"}}});
    for (name, format) in [
        (ALERTS, json!({"alertmanager": {}})),
        (EVENTS, json!({"generic": {"id": "body.id", "type": "'leak'"}})),
        (STREAM, json!({"cloudevents": {}})),
    ] {
        let mut spec = json!({"serviceAccountName": "receiver", "authentication": authentication});
        json_patch::merge(&mut spec, &format);
        scenario.stage.create::<Webhook>(json!({"metadata": {"name": name}, "spec": spec})).await;
    }
}

/// A rule that listens to one of them and caulks the boat that is named there; ready, and old enough for what happens
/// from now on. `changes` are merged into its spec.
pub async fn listens(scenario: &Scenario, rule: &str, webhook: &str, changes: Value) {
    let (trigger, boat) = match webhook {
        ALERTS => (json!({"resource": null, "alert": {"webhook": ALERTS}}), "${{ alert.labels.boat }}"),
        _ => (json!({"resource": null, "webhook": {"name": webhook}}), "${{ event.data.boat }}"),
    };
    let target = json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": boat}});
    let mut spec = json!({"trigger": trigger, "when": null, "target": target, "ladder": [{"run": CAULK}]});
    json_patch::merge(&mut spec, &changes);
    let created = scenario.rule(rule, spec).await.creation_timestamp().unwrap().0;
    scenario.watching(rule).await;
    eventually("the Rule is a second old: its creation is kept in whole seconds", DEADLINE, || async {
        let age = Timestamp::now().duration_since(created);
        if age.as_secs() >= 2 { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
}

/// Sends a body as the sender who has the token, where perhaps nobody listens.
pub async fn send(
    (controller, namespace): (u16, String),
    webhook: &'static str,
    body: Value,
) -> io::Result<Answer> {
    let (address, path) = (([127, 0, 0, 1], controller).into(), format!("/hooks/{namespace}/{webhook}"));
    let kind = if webhook == STREAM { "application/cloudevents-batch+json" } else { "application/json" };
    let headers = [("authorization", &*format!("Bearer {TOKEN}")), ("content-type", kind)];
    http::try_post(address, &path, &headers, body.to_string().as_bytes()).await
}

/// Sends a body again and again until it is taken, as senders do; gives the answer.
pub async fn deliver(
    scenario: &Scenario,
    controller: &Controller,
    webhook: &'static str,
    body: Value,
) -> Answer {
    eventually("it is taken", DEADLINE, || async {
        let to = (controller.hooks, scenario.stage.namespace.clone());
        match send(to, webhook, body.clone()).await {
            Ok(answer) if answer.status < 300 => Ok(answer),
            otherwise => Err(format!("{otherwise:?}")),
        }
    })
    .await
}

/// An event about a boat.
pub fn event(id: &str, boat: &str) -> Value {
    json!({"id": id, "boat": boat})
}

/// A notification of one alert about a boat.
pub fn alert(boat: &str, starts: Timestamp, ends: Option<Timestamp>) -> Value {
    notification(vec![alert_about(boat, starts, ends)])
}

/// A notification of Alertmanager.
pub fn notification(alerts: Vec<Value>) -> Value {
    json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "fother",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager",
        "alerts": alerts})
}

/// An alert about a boat, which fires, or is resolved at `ends`.
pub fn alert_about(boat: &str, starts: Timestamp, ends: Option<Timestamp>) -> Value {
    let status = if ends.is_some() { "resolved" } else { "firing" };
    let ends = ends.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |ends| ends.to_string());
    json!({"status": status, "labels": {"alertname": "Leak", "boat": boat}, "annotations": {},
        "startsAt": starts.to_string(), "endsAt": ends, "generatorURL": "", "fingerprint": boat})
}

/// What became of an event: its id, the outcome, why, and the Execution.
pub type Told = (String, OutcomeKind, String, Option<String>);

/// What became of all events that are kept, by their ids.
pub async fn outcomes(scenario: &Scenario) -> Vec<Told> {
    let found = scenario.stage.api::<EventBatch>().list(&ListParams::default()).await.unwrap().items;
    let told = |batch: EventBatch| {
        let outcomes = batch.status.unwrap_or_default().outcomes.into_iter();
        let id = move |place: i32| batch.spec.events[usize::try_from(place).unwrap()].event.id.clone();
        outcomes.map(move |o| (id(o.event), o.outcome, o.reason, o.execution)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = found.into_iter().flat_map(told).collect();
    all.sort();
    all
}

/// Waits until this is what became of all events: the outcome and why, by their ids.
pub async fn came_to(scenario: &Scenario, expected: &[(&str, OutcomeKind, &str)]) -> Vec<Told> {
    eventually(&format!("outcomes {expected:?}"), DEADLINE, || async {
        let found = outcomes(scenario).await;
        let brief: Vec<_> = found.iter().map(|(id, kind, why, _)| (&**id, *kind, &**why)).collect();
        if brief == expected { Ok(found) } else { Err(format!("{found:#?}")) }
    })
    .await
}

/// A rule as it is.
pub async fn rule(scenario: &Scenario, name: &str) -> Rule {
    scenario.stage.api::<Rule>().get(name).await.unwrap()
}
