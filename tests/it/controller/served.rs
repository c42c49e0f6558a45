//! Health, readiness, metrics and logs as documented, and how the process stops.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams};
use regex::Regex;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Home, NAMESPACE};
use crate::support::control_plane::free_port;
use crate::support::http;
use crate::support::wait::{DEADLINE, eventually};
use crate::webhooks::stage::{alert, at, notification};

/// The kinds as an older version may have had them.
fn older() -> Vec<Value> {
    let mut crds: Vec<Value> = fother::api::crds().iter().map(|crd| json!(crd)).collect();
    for crd in &mut crds {
        if crd["spec"]["names"]["kind"] == "Execution" {
            let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let status = schema["properties"]["status"]["properties"].as_object_mut().unwrap();
            status.remove("episodeClosedAt").unwrap();
        }
    }
    crds
}

#[tokio::test]
async fn it_works_only_with_kinds_of_its_own_version() {
    let home = Home::bare().await;
    let controller = home.controller(&[]);
    let lacks =
        |text: &'static str| move |answer: &super::Answer| answer.code == 503 && answer.body.contains(text);
    let missing = controller.says("/readyz", lacks("kind rules.fother.dev is not installed")).await;
    assert!(missing.body.contains("fother crds | kubectl apply --server-side -f -"), "{missing:?}");
    let alive = controller.says("/healthz", |answer| answer.code == 200).await;
    assert_eq!(alive.body, "ok");

    for crd in older() {
        home.apply(&crd).await;
    }
    let expected = "kind executions.fother.dev is of another version: it has no status.episodeClosedAt";
    controller.says("/readyz", lacks(expected)).await;
    let leases: Api<Lease> = Api::namespaced(home.admin.clone(), "fother");
    assert!(leases.get_opt("fother").await.unwrap().is_none(), "it does not even want to lead");

    let crds: Api<CustomResourceDefinition> = Api::all(home.admin.clone());
    crds.delete("executions.fother.dev", &DeleteParams::default()).await.unwrap();
    controller.says("/readyz", lacks("kind executions.fother.dev is not installed")).await;
    for crd in fother::api::crds() {
        home.apply(&json!(crd)).await;
    }
    controller.leads().await;
}

/// What a `helm rollback` does: with fields that an older kind does not have goes what keeps things from happening twice.
#[tokio::test]
async fn whoever_leads_gives_way_when_the_kinds_become_older_and_who_stands_by_does_not_follow() {
    let home = Home::furnished().await;
    let mut one = home.controller(&["--identity", "one"]);
    one.leads().await;
    let two = home.controller(&["--identity", "two"]);
    two.says("/readyz", |answer| answer.body.contains("standing by")).await;
    let leads = |answer: &super::Answer, is: u8| {
        answer.body.contains(&format!("leader_election_master_status{{name=\"fother\"}} {is}\n"))
    };
    one.says("/metrics", |answer| leads(answer, 1)).await;
    two.says("/metrics", |answer| leads(answer, 0)).await;
    for crd in older() {
        home.apply(&crd).await;
    }
    let status = one.process.wait(DEADLINE).await;
    let output = one.process.output();
    assert_eq!(status.code(), Some(2), "{output}");
    let lacks = "kind executions.fother.dev is of another version: it has no status.episodeClosedAt";
    assert!(output.contains(&format!("fother's kinds cannot be used any more: {lacks}")), "{output}");
    two.says("/readyz", |answer| answer.code == 503 && answer.body.contains(lacks)).await;
    assert!(!two.process.output().contains("leading"), "{}", two.process.output());
    let leases: Api<Lease> = Api::namespaced(home.admin.clone(), "fother");
    let lease = leases.get("fother").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref().unwrap_or_default(), "", "an older build may lead at once");
    for crd in fother::api::crds() {
        home.apply(&json!(crd)).await;
    }
    two.leads().await;
}

#[tokio::test]
async fn it_stops_when_it_is_told_to_and_lets_its_lease_go() {
    let home = Home::furnished().await;
    let mut controller = home.controller(&["--log-format", "json", "--identity", "one"]);
    controller.leads().await;
    home.rule("watches", json!({})).await;
    home.boat("ark", "leaking").await;
    let execution = home.execution("watches").await.metadata.name.unwrap();
    let leases: Api<Lease> = Api::namespaced(home.admin.clone(), "fother");
    let holder =
        async || leases.get("fother").await.unwrap().spec.unwrap().holder_identity.unwrap_or_default();
    assert_eq!(holder().await, "one");

    controller.process.signal(Signal::TERM);
    assert_eq!(controller.process.wait(DEADLINE).await.code(), Some(0), "{}", controller.process.output());
    assert_eq!(holder().await, "", "whoever waits need not wait for its time to be over");

    let output = controller.process.output();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {line}");
        }
    }
    let said = |message: &str| {
        lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{message}:\n{output}"))
    };
    assert_eq!(said("leading")["identity"], "one");
    let fired = said("fired");
    assert_eq!(
        (&fired["rule"], &fired["target"], &fired["execution"]),
        (&json!("watches"), &json!("ConfigMap/ark"), &json!(execution))
    );
    assert_eq!((&fired["span"]["namespace"], &fired["span"]["rule"]), (&json!("ops"), &json!("watches")));
    let finished = said("finished");
    assert_eq!(
        (&finished["reason"], &finished["span"]["execution"]),
        (&json!("Observed"), &json!(execution))
    );
}

/// A Webhook for alerts, and a Rule that listens to it.
async fn receives(home: &Home) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"token": "open-sesame"},
        "metadata": {"name": "receiver", "namespace": NAMESPACE}});
    home.apply(&secret).await;
    let bearer = json!({"secretRef": {"name": "receiver", "key": "token"}});
    let spec =
        json!({"serviceAccountName": "healer", "alertmanager": {}, "authentication": {"bearer": bearer}});
    home.own("Webhook", "am", spec).await;
    let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "${{ event.data.labels.disk }}"});
    let changes = json!({"trigger": {"resource": null, "alert": {"webhook": "am"}}, "when": null, "target": {"ref": target},
        "ladder": [{"run": "paint", "verify": {"within": "5m", "stableFor": "0s"}}]});
    home.rule("full", changes).await;
    home.ready("full", "Active").await;
}

/// What else holds of senders then: `webhooks::stopping`.
#[tokio::test]
async fn whoever_sends_when_it_is_told_to_stop_is_answered_and_it_says_that_it_is_not_ready() {
    let home = Home::furnished().await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut controller = home.controller(&["--webhook-address", &address.to_string()]);
    controller.leads().await;
    receives(&home).await;
    let path = format!("/hooks/{NAMESPACE}/am");
    let headers = [("content-type", "application/json"), ("authorization", "Bearer open-sesame")];
    let body = |disk: &str| notification(&[alert(disk, &at(0), None)]).to_string();
    eventually("it receives", DEADLINE, async || {
        let answer = http::post(address, &path, &headers, body("sda").as_bytes()).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let body = body("sdb");
    let sending = http::begin(address, &path, &headers, body.len()).await;
    controller.process.signal(Signal::TERM);
    controller.says("/readyz", |answer| answer.code == 503 && answer.body == "stopping").await;
    let answer = http::finish(sending, body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(controller.process.wait(DEADLINE).await.code(), Some(0), "{}", controller.process.output());
}

/// The names of metrics, each with its labels, as documented.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md")).unwrap();
    let row = Regex::new(r"(?m)^\| `([a-z_]+)` \| ([^|]*)\|").unwrap();
    let label = Regex::new(r"`([a-z]+)`(?: \([^)]*\))?").unwrap();
    let (_, table) = page.split_once("| Metric |").unwrap();
    let rows = row.captures_iter(table.split("\n\n").next().unwrap());
    rows.map(|row| {
        let labels = label.captures_iter(&row[2]).map(|label| label[1].to_owned());
        (row[1].to_owned(), labels.collect())
    })
    .collect()
}

/// The samples of an exposition, each with its labels; a histogram's under its own name.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let line = Regex::new(r"^([a-z_]+)(?:\{(.*)\})? (-?[0-9.]+(?:e-?[0-9]+)?|\+Inf|NaN)$").unwrap();
    let label = Regex::new(r#"([a-z]+)="((?:[^"\\]|\\.)*)""#).unwrap();
    let histograms: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let parts = line.captures(sample).unwrap_or_else(|| panic!("not a sample: {sample}"));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| parts[1].strip_suffix(end));
        let name = base.filter(|base| histograms.contains(base)).unwrap_or(&parts[1]);
        let labels = parts.get(2).map_or("", |labels| labels.as_str());
        let labels =
            label.captures_iter(labels).map(|label| label[1].to_owned()).filter(|label| label != "le");
        found.entry(name.to_owned()).or_default().extend(labels);
    }
    assert_eq!(text.lines().last(), Some("# EOF"));
    found
}

#[tokio::test]
async fn metrics_have_the_names_and_labels_that_are_documented() {
    let home = Home::furnished().await;
    let controller = home.controller(&["--journal", ":memory:"]);
    controller.leads().await;
    home.rule("holds", json!({"for": "1h"})).await;
    home.rule(
        "heals",
        json!({"mode": "Enforce", "ladder": [{"run": "paint", "verify": {
        "when": "target.metadata.annotations['example.com/paint'] == 'red'", "stableFor": "0s"}}]}),
    )
    .await;
    home.boat("ark", "leaking").await;
    assert_eq!(home.execution("heals").await.reason(), Some("TargetRecovered"));
    home.about("holds", "the wait is shown", |rule| rule.status.as_ref()?.held.first().cloned()).await;

    let git = json!({"url": "https://git.invalid/ops.git", "serviceAccountName": "healer", "suspend": true});
    home.own("Pack", "site", git).await;
    let bearer = json!({"bearer": {"secretRef": {"name": "am", "key": "token"}}});
    let hook = json!({"serviceAccountName": "healer", "alertmanager": {}, "authentication": bearer});
    home.own("Webhook", "am", hook).await;

    let held = r#"fother_rule_suppressed_total{namespace="ops",rule="holds",guard="for"} 1"#;
    let sampled = [
        r#"workqueue_depth{name="rule"}"#,
        r#"fother_rule_info{namespace="ops",rule="holds""#,
        r#"fother_pack_info{namespace="ops",pack="site""#,
        r#"fother_webhook_info{namespace="ops",webhook="am""#,
    ];
    let answer = controller
        .says("/metrics", |answer| {
            answer.body.contains(held) && sampled.iter().all(|line| answer.body.contains(line))
        })
        .await;
    assert!(
        answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.head
    );
    let (documented, found) = (documented(), samples(&answer.body));
    for (name, labels) in &found {
        assert_eq!(documented.get(name), Some(labels), "{name}");
    }
    // What needs an Event, a failure, or an Execution at this very moment, need not be there; nothing else is missing.
    let rare = [
        "fother_event_lag_seconds",
        "fother_executions_active",
        "controller_runtime_reconcile_errors_total",
        "workqueue_retries_total",
    ];
    let missing: Vec<_> = documented.keys().filter(|name| !found.contains_key(*name)).collect();
    assert!(missing.iter().all(|name| rare.contains(&name.as_str())), "{missing:?}");
    for sample in [
        r#"fother_rule_evaluations_total{namespace="ops",rule="heals",decision="fired"} 1"#,
        r#"fother_executions_total{namespace="ops",rule="heals",outcome="succeeded",reason="TargetRecovered"} 1"#,
        r#"fother_time_to_recovery_seconds_count{namespace="ops",rule="heals",outcome="succeeded"} 1"#,
        r#"leader_election_master_status{name="fother"} 1"#,
    ] {
        assert!(answer.body.contains(sample), "{sample}\n{}", answer.body);
    }
}
