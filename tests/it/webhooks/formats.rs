//! Each format, with each way to prove oneself, through the listener: what its senders really send becomes the events that Rules
//! are told of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::refusals::sign;
use super::stage::{Running, Scene, TOKEN, alert, at, notification};
use crate::support::wait::{DEADLINE, eventually};

/// What GitHub sends of an issue, and with which headers, by its documentation of webhook events and payloads.
const ISSUE: &str = include_str!("deliveries/github-issues-edited.json");
const GITHUB: [(&str, &str); 8] = [
    ("content-type", "application/json"),
    ("user-agent", "GitHub-Hookshot/044aadd"),
    ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
    ("x-github-event", "issues"),
    ("x-github-hook-id", "292430182"),
    ("x-github-hook-installation-target-id", "79929171"),
    ("x-github-hook-installation-target-type", "repository"),
    ("x-hub-signature", "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6"),
];

/// What GitLab sends of a pipeline, and with which headers, by its documentation of webhook events.
const PIPELINE: &str = include_str!("deliveries/gitlab-pipeline.json");
const GITLAB: [(&str, &str); 7] = [
    ("content-type", "application/json"),
    ("user-agent", "GitLab/15.5.0-pre"),
    ("idempotency-key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
    ("x-gitlab-event", "Pipeline Hook"),
    ("x-gitlab-webhook-uuid", "e4a3c5d2-8f0e-4a8f-9d5a-6a4f0f2f1f6b"),
    ("x-gitlab-instance", "https://gitlab.com"),
    ("x-gitlab-event-uuid", "13792a34-cac6-4fda-95a8-c58e00a3954e"),
];

fn delivery(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// How a sender proves himself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Proof {
    Token,
    Signature,
}

/// What is sent, and what is heard of it: `type source` of each event, or what the sender is told.
struct Sent {
    format: &'static str,
    proof: Proof,
    headers: Vec<(&'static str, &'static str)>,
    body: Value,
    heard: Result<Vec<&'static str>, &'static str>,
}

fn sent(
    (format, proof): (&'static str, Proof),
    headers: &[(&'static str, &'static str)],
    body: Value,
    heard: Result<&[&'static str], &'static str>,
) -> Sent {
    Sent { format, proof, headers: headers.to_vec(), body, heard: heard.map(<[_]>::to_vec) }
}

/// Grafana's notification: Alertmanager's, and more.
fn grafana() -> Value {
    let mut alert = alert("sda", &at(-5), None);
    let more = json!({"values": {"A": 97.5}, "valueString": "[ var='A' value=97.5 ]", "silenceURL": "http://grafana/s",
        "dashboardURL": "http://grafana/d", "panelURL": "http://grafana/p", "imageURL": ""});
    json_patch::merge(&mut alert, &more);
    let mut body = notification(&[alert]);
    let more = json!({"version": "1", "orgId": 1, "title": "[FIRING:1] DiskFull", "state": "alerting", "message": "full"});
    json_patch::merge(&mut body, &more);
    body
}

fn cloud(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/disk", "type": "com.example.full", "data": {"disk": "sda"}})
}

fn all() -> Vec<Sent> {
    let mut all = Vec::new();
    for proof in [Proof::Token, Proof::Signature] {
        let alerts = notification(&[alert("sdb", &at(-5), None)]);
        let alertmanager: &[_] = &["alert.firing alertmanager"];
        all.push(sent(("alertmanager", proof), &[], alerts, Ok(alertmanager)));
        all.push(sent(("alertmanager", proof), &[], grafana(), Ok(alertmanager)));
        let (one, many) = ("application/cloudevents+json", "application/cloudevents-batch+json");
        let full = "com.example.full /disk";
        all.push(sent(("cloudevents", proof), &[("content-type", one)], cloud("1"), Ok(&[full])));
        let batch = json!([cloud("2"), cloud("3")]);
        all.push(sent(("cloudevents", proof), &[("content-type", many)], batch, Ok(&[full, full])));
        let attributes = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "4"),
            ("ce-source", "/disk"),
            ("ce-type", "com.example.full"),
        ];
        let heard = match proof {
            Proof::Token => Ok(&[full][..]),
            Proof::Signature => {
                Err("the signature does not cover headers ce-*; send application/cloudevents+json")
            }
        };
        all.push(sent(("cloudevents", proof), &attributes, json!({"disk": "sda"}), heard));
        let heard = Ok(&["issues.edited https://github.com/Codertocat/Hello-World"][..]);
        all.push(sent(("github", proof), &GITHUB, delivery(ISSUE), heard));
        let heard = Ok(&["pipeline http://192.168.64.1:3005/gitlab-org/gitlab-test"][..]);
        all.push(sent(("gitlab", proof), &GITLAB, delivery(PIPELINE), heard));
        let body = json!({"id": "7", "level": "full", "host": "web-1"});
        all.push(sent(("generic", proof), &[], body, Ok(&["disk.full web-1"])));
    }
    all
}

fn name(format: &str, proof: Proof) -> String {
    format!("{format}-{proof:?}").to_lowercase()
}

/// A Webhook of each format with each authentication, and a Rule that hears all of it.
async fn scene() -> (Scene, Running) {
    let scene = Scene::new().await;
    scene.action("note", json!({"collect": {}})).await;
    let mapping = json!({"id": "body.id", "type": "'disk.' + body.level", "source": "body.host"});
    for format in ["alertmanager", "cloudevents", "github", "gitlab", "generic"] {
        for proof in [Proof::Token, Proof::Signature] {
            let name = name(format, proof);
            let mut webhook = json!({});
            webhook[format] = if format == "generic" { mapping.clone() } else { json!({}) };
            if proof == Proof::Signature {
                let key = json!({"secretRef": {"name": "receiver", "key": "key"}});
                webhook["authentication"] = json!({"bearer": null, "hmac": key});
            }
            scene.webhook(&name, webhook).await;
            let trigger = match format {
                "alertmanager" => json!({"alert": {"webhook": name}}),
                _ => json!({"webhook": {"name": name}}),
            };
            let key = if format == "alertmanager" { "alert.labels.disk" } else { "event.id" };
            let rule = json!({"trigger": trigger, "mode": "Observe", "target": {"ref": null, "key": key},
                "ladder": [{"run": "note"}]});
            scene.rule(&name, rule).await;
        }
    }
    let running = scene.start("one").await;
    for format in ["alertmanager", "cloudevents", "github", "gitlab", "generic"] {
        for proof in [Proof::Token, Proof::Signature] {
            scene.ready("Webhook", &name(format, proof)).await;
            scene.ready("Rule", &name(format, proof)).await;
        }
    }
    (scene, running)
}

/// The headers by which a sender proves himself as the documents of its format say.
fn proof(format: &str, proof: Proof, body: &str) -> Vec<(&'static str, String)> {
    let now = Timestamp::now().as_second().to_string();
    match (proof, format) {
        (Proof::Token, "gitlab") => vec![("x-gitlab-token", TOKEN.to_owned())],
        (Proof::Token, _) => vec![("authorization", format!("Bearer {TOKEN}"))],
        (Proof::Signature, "github") => vec![("x-hub-signature-256", sign(body.as_bytes()))],
        (Proof::Signature, "gitlab") => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
            let tag = hmac::sign(&key, format!("msg_1.{now}.{body}").as_bytes());
            let signature = format!("v1,{}", STANDARD.encode(tag.as_ref()));
            vec![
                ("webhook-id", "msg_1".to_owned()),
                ("webhook-timestamp", now),
                ("webhook-signature", signature),
            ]
        }
        (Proof::Signature, _) => {
            let signature = sign(format!("{now}.{body}").as_bytes());
            vec![("x-signature", signature), ("x-signature-timestamp", now)]
        }
    }
}

/// `type source` of the events of a Webhook that are kept.
async fn heard(scene: &Scene, webhook: &str) -> Vec<String> {
    let batches = scene.batches().await;
    let of = batches.iter().filter(|batch| batch.spec.webhook == webhook);
    of.flat_map(|batch| &batch.spec.events)
        .map(|accepted| format!("{} {}", accepted.event.event_type, accepted.event.source))
        .collect()
}

#[tokio::test]
async fn each_format_is_taken_in_with_each_authentication() {
    let (scene, running) = scene().await;
    let mut expected = std::collections::BTreeMap::<String, Vec<&str>>::new();
    for Sent { format, proof: by, headers, body, heard } in all() {
        let (name, body) = (name(format, by), body.to_string());
        let post = async |body: &str, signed: &str| {
            let own = proof(format, by, signed);
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            let headers: Vec<_> = headers.iter().copied().chain(own).collect();
            running.post_as(&name, &headers, body.as_bytes()).await
        };
        if by == Proof::Signature {
            let other = format!("{body} ");
            let forged = post(&other, &body).await;
            assert_eq!((forged.status, &*forged.text), (401, "signature mismatch"), "{name}");
        }
        let unproven = running.post_as(&name, &headers, body.as_bytes()).await;
        assert_eq!(unproven.status, 401, "{name}: {unproven:?}");
        let answer = post(&body, &body).await;
        match heard {
            Ok(heard) => {
                let text = format!("accepted {} events", heard.len());
                assert_eq!((answer.status, &*answer.text), (202, &*text), "{name}: {body}");
                expected.entry(name.clone()).or_default().extend(heard);
                let again = post(&body, &body).await;
                assert_eq!(again.status, 200, "{name} knows it: {again:?}");
            }
            Err(text) => assert_eq!((answer.status, &*answer.text), (400, text), "{name}"),
        }
    }
    for (webhook, expected) in expected {
        assert_eq!(heard(&scene, &webhook).await, expected, "{webhook}");
    }
    running.stop().await;
}

/// The parts of a rule that tell what forges' deliveries say.
#[tokio::test]
async fn rules_read_what_forges_deliver() {
    let scene = Scene::new().await;
    for (format, types, when, by) in [
        (
            "github",
            "issues.edited",
            "event.data.issue.labels.exists(l, l.name == 'bug') && event.data.issue.number == 1.0",
            "${{ event.data.repository.full_name }}#${{ event.data.issue.number }}",
        ),
        (
            "gitlab",
            "pipeline",
            "event.data.object_attributes.status == 'success' && event.data.builds.size() == 2",
            "${{ event.data.object_attributes.ref }} ${{ event.data.builds[1].name }}",
        ),
    ] {
        let mut webhook = json!({});
        webhook[format] = json!({});
        scene.disk(format).await;
        scene.webhook(format, webhook).await;
        let rule = json!({"trigger": {"webhook": {"name": format, "types": [types]}}, "when": when,
            "target": {"ref": {"name": format}}, "ladder": [{"run": "mark", "with": {"by": by}}]});
        scene.rule(format, rule).await;
    }
    let running = scene.start("one").await;
    for (format, headers, body, expected) in [
        ("github", &GITHUB[..], ISSUE, "Codertocat/Hello-World#1"),
        ("gitlab", &GITLAB[..], PIPELINE, "master test-image"),
    ] {
        scene.ready("Webhook", format).await;
        scene.ready("Rule", format).await;
        scene.aged(format).await;
        let own = proof(format, Proof::Token, body);
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(own).collect();
        let answer = running.post_as(format, &headers, body.as_bytes()).await;
        assert_eq!((answer.status, &*answer.text), (202, "accepted 1 events"), "{format}");
        eventually(&format!("what {format} delivered is read"), DEADLINE, async || {
            let mark = scene.mark_of(format).await;
            if mark.as_deref() == Some(expected) { Ok(()) } else { Err(format!("{mark:?}")) }
        })
        .await;
    }
    running.stop().await;
}

/// A Webhook may say in every part how it is signed, and is then signed like that and not otherwise.
#[tokio::test]
async fn a_signature_is_as_the_webhook_says() {
    let scene = Scene::new().await;
    scene.action("note", json!({"collect": {}})).await;
    let hmac = json!({"secretRef": {"name": "receiver", "key": "key"}, "header": "X-Sig", "algorithm": "SHA512",
        "encoding": "Base64", "prefix": "s=", "timestampHeader": "X-Sent-At", "signs": "TimestampAndBody"});
    let mapping = json!({"id": "body.id", "type": "'full'"});
    let own = json!({"generic": mapping, "authentication": {"bearer": null, "hmac": hmac}});
    scene.webhook("own", own).await;
    let rule = json!({"trigger": {"webhook": {"name": "own"}}, "mode": "Observe", "target": {"ref": null, "key": "event.id"},
        "ladder": [{"run": "note"}]});
    scene.rule("own", rule).await;
    let running = scene.start("one").await;
    scene.ready("Webhook", "own").await;
    scene.ready("Rule", "own").await;

    let (now, body) = (Timestamp::now().as_second().to_string(), r#"{"id": "1"}"#);
    let signed = format!("{now}.{body}");
    let tag =
        |algorithm| hmac::sign(&hmac::Key::new(algorithm, b"It's a Secret to Everybody"), signed.as_bytes());
    let long = tag(hmac::HMAC_SHA512);
    let good = format!("s={}", STANDARD.encode(long.as_ref()));
    let short = format!("s={}", STANDARD.encode(tag(hmac::HMAC_SHA256).as_ref()));
    let hex = long.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let (hex, bare) = (format!("s={hex}"), &good[2..]);
    for (headers, told) in [
        (vec![("x-sig", good.as_str())], "missing X-Sent-At header"),
        (vec![("x-sig", &good), ("x-signature-timestamp", &now)], "missing X-Sent-At header"),
        (vec![("x-signature", &good), ("x-sent-at", &now)], "missing signature header"),
        (vec![("x-sig", &short), ("x-sent-at", &now)], "signature mismatch"),
        (vec![("x-sig", &hex), ("x-sent-at", &now)], "signature mismatch"),
        (vec![("x-sig", bare), ("x-sent-at", &now)], "signature mismatch"),
    ] {
        let answer = running.post_as("own", &headers, body.as_bytes()).await;
        assert_eq!((answer.status, &*answer.text), (401, told), "{headers:?}");
    }
    let answer = running.post_as("own", &[("x-sig", &good), ("x-sent-at", &now)], body.as_bytes()).await;
    assert_eq!((answer.status, &*answer.text), (202, "accepted 1 events"));
    running.stop().await;
}

/// What an expression makes of the headers is kept in an EventBatch, which more people read than the Secret.
#[tokio::test]
async fn a_token_in_a_header_of_its_own_is_not_kept() {
    let scene = Scene::new().await;
    scene.action("note", json!({"collect": {}})).await;
    let bearer = json!({"secretRef": {"name": "receiver", "key": "token"}, "header": "X-Token"});
    let all = "headers.map(name, name + '=' + headers[name]).join(',')";
    let mapping = json!({"id": "body.id", "type": "'full'", "source": all});
    scene.webhook("own", json!({"generic": mapping, "authentication": {"bearer": bearer}})).await;
    let rule = json!({"trigger": {"webhook": {"name": "own"}}, "mode": "Observe", "target": {"ref": null, "key": "event.id"},
        "ladder": [{"run": "note"}]});
    scene.rule("own", rule).await;
    let running = scene.start("one").await;
    scene.ready("Webhook", "own").await;
    scene.ready("Rule", "own").await;
    let headers = [("x-token", TOKEN), ("x-kind", "full")];
    let answer = running.post_as("own", &headers, br#"{"id": "1"}"#).await;
    assert_eq!((answer.status, &*answer.text), (202, "accepted 1 events"));
    let kept = serde_json::to_string(&scene.batches().await).unwrap();
    assert!(kept.contains("x-kind=full") && !kept.contains(TOKEN), "{kept}");
    running.stop().await;
}
