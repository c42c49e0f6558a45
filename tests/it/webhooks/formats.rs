//! Each format, with each way to prove oneself, through the listener: what its senders really send becomes the events that Rules
//! are told of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::refusals::sign;
use super::stage::{Running, Scene, TOKEN, alert, at, notification};

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
        let delivery = [("x-github-event", "deployment"), ("x-github-delivery", "1")];
        let body = json!({"action": "created", "repository": {"html_url": "https://github.com/acme/shop"}});
        let heard = Ok(&["deployment.created https://github.com/acme/shop"][..]);
        all.push(sent(("github", proof), &delivery, body, heard));
        let body = json!({"object_kind": "pipeline", "project": {"web_url": "https://gitlab.com/acme/shop"}});
        let heard = Ok(&["pipeline https://gitlab.com/acme/shop"][..]);
        all.push(sent(("gitlab", proof), &[("x-gitlab-event", "Pipeline Hook")], body, heard));
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
