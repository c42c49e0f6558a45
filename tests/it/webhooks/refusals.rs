//! What is refused, and how it is said. The numbers are those of the list of bad inputs that fother was designed with.

use std::time::Duration;

use fother::api::{ConditionType, condition};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::stage::{NAMESPACE, Running, Scene, TOKEN, alert, at, notification};
use crate::support::http;
use crate::support::wait::{DEADLINE, eventually};

/// Webhooks of three kinds, and a rule each.
pub async fn scene() -> (Scene, Running) {
    let scene = furnished().await;
    let running = scene.start("one").await;
    until_ready(&scene).await;
    (scene, running)
}

/// The same before anybody listens.
pub async fn furnished() -> Scene {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    let key = json!({"bearer": null, "hmac": {"secretRef": {"name": "receiver", "key": "key"}}});
    scene.webhook("hub", json!({"github": {}, "authentication": key})).await;
    scene.webhook("signed", json!({"cloudevents": {}, "authentication": key})).await;
    scene.rule("full", json!({"trigger": {"alert": {"webhook": "am"}}})).await;
    let by_name = json!({"target": {"ref": null, "key": "event.id"}, "ladder": [{"run": "note"}]});
    let listening = |webhook: &str| {
        let mut rule = by_name.clone();
        rule["trigger"] = json!({"webhook": {"name": webhook}});
        rule["mode"] = "Observe".into();
        rule
    };
    scene.action("note", json!({"collect": {}})).await;
    scene.rule("pushed", listening("hub")).await;
    scene.rule("told", listening("signed")).await;
    scene
}

pub async fn until_ready(scene: &Scene) {
    for (kind, name) in [
        ("Webhook", "am"),
        ("Webhook", "hub"),
        ("Webhook", "signed"),
        ("Rule", "full"),
        ("Rule", "pushed"),
        ("Rule", "told"),
    ] {
        scene.ready(kind, name).await;
    }
    scene.aged("told").await;
}

pub fn sign(text: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
    let tag = hmac::sign(&key, text);
    let hex: Vec<_> = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={}", hex.concat())
}

/// Lines 25 to 30, and 21 and 22 for a token.
#[tokio::test]
async fn each_bad_input_is_refused_in_its_own_words() {
    let (scene, running) = scene().await;
    let good = notification(&[alert("sda", &at(0), None)]);
    let with = |change: Value| {
        let mut body = good.clone();
        json_patch::merge(&mut body, &change);
        body.to_string().into_bytes()
    };
    let mut nameless = good.clone();
    nameless["alerts"][0].as_object_mut().unwrap().remove("fingerprint");
    nameless["alerts"] =
        json!([good["alerts"][0], good["alerts"][0], good["alerts"][0], nameless["alerts"][0]]);
    let mut long = good.clone();
    long["alerts"] = json!([good["alerts"][0], good["alerts"][0]]);
    long["alerts"][1]["fingerprint"] = "f".repeat(129).into();
    let mut broken = good.to_string().into_bytes();
    let place = broken.windows(10).position(|window| window == br#""disk":"sd"#).unwrap();
    broken[place + 8] = 0xff;
    let token = format!("Bearer {TOKEN}");
    let bearer = [("authorization", token.as_str())];
    for (body, headers, status, said) in [
        (good.to_string().into_bytes(), &[][..], 401, "missing Authorization header"),
        (good.to_string().into_bytes(), &[("authorization", "Bearer wrong")], 401, "token mismatch"),
        (vec![b' '; 2 * 1024 * 1024], &bearer, 413, "body exceeds 1 MiB"),
        (format!("{}x", " ".repeat(812)).into_bytes(), &bearer, 400, "invalid JSON at byte 812"),
        ([vec![b'['; 70], vec![b']'; 70]].concat(), &bearer, 400, "nesting exceeds 64"),
        (
            format!("[{}]", vec!["{}"; 20_001].join(",")).into_bytes(),
            &bearer,
            400,
            "20001 objects exceed 20000",
        ),
        (with(json!({"version": "3"})), &bearer, 400, "unsupported Alertmanager version \"3\"; want \"4\""),
        (nameless.to_string().into_bytes(), &bearer, 400, "alerts[3].fingerprint missing"),
        (long.to_string().into_bytes(), &bearer, 400, "alerts[1].fingerprint is 129 bytes; want 1 to 128"),
        (broken, &bearer, 400, "alerts[0].labels.disk: invalid UTF-8"),
        (
            good.to_string().replace("sda", "s\\u0000a").into_bytes(),
            &bearer,
            400,
            "alerts[0].fingerprint: NUL is not allowed",
        ),
    ] {
        let answer = running.post_as("am", headers, &body).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, said));
    }
    let missing = running.post("nowhere", &good).await;
    assert_eq!(
        (missing.status, missing.text.as_str()),
        (404, "no Webhook \"nowhere\" in namespace \"shop\"")
    );
    assert_eq!(scene.batches().await.len(), 0, "nothing of it is kept");
    let rejected = eventually("refusals are counted", DEADLINE, || async {
        let rejected = scene.webhook_status("am").await.rejected;
        if rejected.is_empty() { Err("nothing yet") } else { Ok(rejected) }
    });
    let counts: Vec<_> = rejected.await.into_iter().map(|r| format!("{} {}", r.reason, r.count)).collect();
    assert_eq!(counts, ["Malformed 8", "TooLarge 1", "Unauthenticated 2"]);
    running.stop().await;
}

/// Alertmanager does not come again after 404.
#[tokio::test]
async fn a_webhook_that_the_watch_has_not_brought_is_not_denied() {
    let scene = Scene::new().await;
    let running = scene.start_late("one", "webhooks").await;
    let answer = async |name: &str| {
        let answer = running.post(name, &json!({})).await;
        (answer.status, answer.text)
    };
    let absent = (404, "no Webhook \"am\" in namespace \"shop\"".to_owned());
    eventually("it receives", DEADLINE, || async {
        let said = answer("am").await;
        if said == absent { Ok(()) } else { Err(said.1) }
    })
    .await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    let new = (503, "the Webhook is new here; retry".to_owned());
    eventually("what was said a moment ago is forgotten", DEADLINE, || async {
        let said = answer("am").await;
        if said == new { Ok(()) } else { Err(said.1) }
    })
    .await;
    let elsewhere = answer("..%2F..%2Fshop%2Fwebhooks%2Fam").await;
    assert_eq!(elsewhere.0, 404, "what a stranger sends is a name and no path");
}

/// Nor is one denied that is left alone, and its senders alone are told to come again.
#[tokio::test]
async fn a_webhook_that_cannot_be_read_is_not_denied() {
    let scene = Scene::new().await;
    let annotations = json!({"example.com/words": "x".repeat(256 * 1024 - 32)});
    let spec = json!({"serviceAccountName": "healer", "alertmanager": {},
        "authentication": {"bearer": {"secretRef": {"name": "receiver", "key": "token"}}}});
    let large = json!({"metadata": {"annotations": annotations}, "spec": spec});
    scene.own("fother.dev/v1alpha1", "Webhook", "large", large).await;
    let running = scene.start("one").await;
    eventually("it receives", DEADLINE, || async {
        let answer = running.post("large", &json!({})).await;
        let expected = (503, "the Webhook cannot be read, its status says why; retry");
        if (answer.status, &*answer.text) == expected { Ok(()) } else { Err(answer.text) }
    })
    .await;
    running.stop().await;
}

/// What this version does not know may be what was to keep a sender out.
#[tokio::test]
async fn a_webhook_with_a_field_of_a_later_version_receives_nothing() {
    let scene = furnished().await;
    let is_webhook = |kind: &Value| kind["spec"]["names"]["kind"] == "Webhook";
    let mut kind = fother::api::crds().iter().map(|kind| json!(kind)).find(is_webhook).unwrap();
    let fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    kind.pointer_mut(fields).unwrap()["pace"] = json!({"type": "string"});
    scene.apply(&kind).await;
    scene.webhook("later", json!({"alertmanager": {}, "pace": "slow"})).await;
    let running = scene.start("one").await;
    until_ready(&scene).await;
    let accepted = eventually("its status says which field it is", DEADLINE, || async {
        let told = scene.webhook_status("later").await.conditions;
        let accepted = condition(&told, ConditionType::Accepted);
        accepted.map(|one| [&one.status, &one.reason, &one.message].map(String::clone)).ok_or("nothing yet")
    })
    .await;
    let why = "spec.pace is not known to this version of fother; upgrade the controller, or take it out";
    assert_eq!(accepted, ["False", "UnsupportedValue", why]);
    let good = notification(&[alert("sda", &at(0), None)]);
    eventually("its senders are told to come again", DEADLINE, || async {
        let answer = running.post("later", &good).await;
        let expected = (503, "the Webhook has a field that is not known here, its status says which; retry");
        if (answer.status, &*answer.text) == expected { Ok(()) } else { Err(answer.text) }
    })
    .await;
    assert_eq!(running.post("am", &good).await.status, 202, "it stops no other");

    scene.webhook("later", json!({"alertmanager": {}})).await;
    eventually("it receives without the field", DEADLINE, || async {
        let answer = running.post("later", &good).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    running.stop().await;
}

/// Lines 21 to 24.
#[tokio::test]
async fn a_signature_is_over_the_raw_body_and_its_time() {
    let (scene, running) = scene().await;
    let body = br#"{"action": "created", "repository": {"html_url": "https://github.com/acme/shop"}}"#;
    let event = ("x-github-event", "deployment");
    let unsigned = running.post_as("hub", &[event], body).await;
    assert_eq!((unsigned.status, unsigned.text.as_str()), (401, "missing signature header"));
    let wrong = running.post_as("hub", &[event, ("x-hub-signature-256", &sign(b"other"))], body).await;
    assert_eq!((wrong.status, wrong.text.as_str()), (401, "signature mismatch"));
    assert_eq!(
        running.post_as("hub", &[event, ("x-hub-signature-256", &sign(body))], body).await.status,
        202
    );

    let told = json!({"specversion": "1.0", "id": "1", "source": "/disk", "type": "full"}).to_string();
    let send = async |age: i64, id: &str| {
        let now = k8s_openapi::jiff::Timestamp::now().as_second();
        let (sent, body) = ((now - age).to_string(), told.replace("\"1\"", &format!("\"{id}\"")));
        let signature = sign(format!("{sent}.{body}").as_bytes());
        let kind = ("content-type", "application/cloudevents+json");
        let headers = [kind, ("x-signature", signature.as_str()), ("x-signature-timestamp", sent.as_str())];
        running.post_as("signed", &headers, body.as_bytes()).await
    };
    let stale = send(612, "1").await;
    assert!(
        stale.status == 401
            && stale.text.starts_with("timestamp 61")
            && stale.text.ends_with("s old; max 300s"),
        "{stale:?}"
    );
    assert_eq!(send(0, "1").await.status, 202);
    scene.ended(&["Observed", "Observed"]).await;
    let again = send(2, "1").await;
    assert!(again.status == 200 && again.text.starts_with("duplicate of execution told-"), "{again:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_changed_secret_is_noticed() {
    let (scene, running) = scene().await;
    let good = notification(&[alert("sda", &at(0), None)]);
    assert_eq!(running.post("am", &good).await.status, 202);
    scene.own("v1", "Secret", "receiver", json!({"stringData": {"token": "new", "key": "k"}})).await;
    eventually("the new token is good", DEADLINE, || async {
        let answer =
            running.post_as("am", &[("authorization", "Bearer new")], good.to_string().as_bytes()).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    assert_eq!(running.post("am", &good).await.status, 401, "the old one is not");
    running.stop().await;
}

/// Line 31, for what one sender may; for what all may it is `strangers`.
#[tokio::test]
async fn too_much_is_told_to_come_back() {
    let (scene, running) = scene().await;
    scene
        .webhook("am", json!({"alertmanager": {}, "limits": {"perSenderPerMinute": 3, "maxBodyBytes": 2000}}))
        .await;
    let good = notification(&[alert("sda", &at(0), None)]);
    let refused = eventually("one is too much", DEADLINE, || async {
        let answer = running.post("am", &good).await;
        if answer.status == 503 { Ok(answer) } else { Err(answer.text) }
    })
    .await;
    assert_eq!(refused.text, "more than 3 requests a minute from 127.0.0.1; retry");
    assert!(refused.head.contains("retry-after: 5"), "{}", refused.head);
    let large = running.post_as("am", &[("authorization", &format!("Bearer {TOKEN}"))], &[b' '; 2001]).await;
    assert_eq!((large.status, large.text.as_str()), (413, "body exceeds 2000 bytes"));
    running.stop().await;
}

#[tokio::test]
async fn an_endless_body_and_a_slow_one_come_to_an_end() {
    let (_scene, running) = scene().await;
    let head = |rest: &str| {
        format!(
            "POST /hooks/{NAMESPACE}/am HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n{rest}\r\n\r\n"
        )
    };
    // Announced: refused before a byte of it.
    let mut announced = TcpStream::connect(running.address).await.unwrap();
    announced.write_all(head("content-length: 5368709120").as_bytes()).await.unwrap();
    assert_eq!(http::read(&mut announced).await.status, 413);
    // Not announced: refused at the first byte after one megabyte, whatever is still to come.
    let chunk =
        |bytes: usize| [format!("{bytes:x}\r\n").into_bytes(), vec![b' '; bytes], b"\r\n".to_vec()].concat();
    for (last, status) in [("0\r\n\r\n".into(), 400), (chunk(1), 413)] {
        let mut chunked = TcpStream::connect(running.address).await.unwrap();
        let body =
            [head("connection: close\r\ntransfer-encoding: chunked").into_bytes(), chunk(1024 * 1024), last]
                .concat();
        chunked.write_all(&body).await.unwrap();
        let answer = tokio::time::timeout(DEADLINE, http::read(&mut chunked)).await.expect("an answer");
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // Slow ones hold nothing but their place, and others are served meanwhile.
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"POST /hooks/shop/am HTTP/1.1\r\nx: ").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(running.post("am", &notification(&[])).await.status, 200);
    let closed = tokio::time::timeout(Duration::from_secs(30), http::read(&mut slow[0])).await;
    assert!(closed.is_ok(), "a head that never ends is cut off");
}

/// Alertmanager gives up on what it hears 4xx for: the others of its group would be lost with the one.
#[tokio::test]
async fn what_is_too_large_does_not_take_others_with_it() {
    let (scene, running) = scene().await;
    let mut large = alert("sda", &at(0), None);
    large["labels"]["path"] = "x".repeat(70 * 1024).into();
    let answer = running.post("am", &notification(&[large.clone()])).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.text.ends_with("exceeds 65536 bytes"), "{answer:?}");
    let both = notification(&[large, alert("sdb", &at(0), None)]);
    let answer = running.post("am", &both).await;
    assert_eq!((answer.status, &*answer.text), (202, "accepted 1 events; 1 too large and left out"));
    assert_eq!(running.post("am", &both).await.status, 200, "the other one is known");
    let events: kube::Api<k8s_openapi::api::events::v1::Event> = scene.api();
    eventually("a person is told", DEADLINE, || async {
        let found =
            events.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
        let told = found.items.iter().any(|event| event.reason.as_deref() == Some("EventTooLarge"));
        told.then_some(()).ok_or("nobody is").map_err(str::to_owned)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_accepted() {
    let (scene, running) = scene().await;
    // The enrolment is gone: the controller may not create anything here.
    let bindings: kube::Api<k8s_openapi::api::rbac::v1::RoleBinding> = scene.api();
    bindings.delete("fother-impersonate", &kube::api::DeleteParams::default()).await.unwrap();
    let good = notification(&[alert("sda", &at(0), None)]);
    let refused = running.post("am", &good).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    assert_eq!(scene.batches().await.len(), 0);
    running.stop().await;
}
