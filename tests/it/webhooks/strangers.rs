//! What strangers can do to the listener, and what somebody can do who has overheard a request: nothing. The numbers are
//! those of the list of bad inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::refusals::{furnished, scene, sign, until_ready};
use super::stage::{NAMESPACE, Running, TOKEN, alert, at, notification, outcomes_in};
use crate::support::http::{self, Answer};
use crate::support::wait::{DEADLINE, eventually};

/// Bodies that the listener reads at a time; one Webhook has a part of it.
const BODIES: usize = 64;
/// Connections that one address may have open.
const CONNECTIONS: usize = 256;
const GIB: u64 = 1024 * 1024 * 1024;
/// More than what a socket takes on both sides before somebody reads from it.
const BUFFERED: usize = 16 * 1024 * 1024;

/// Opens a request to the Webhook `am`, with these headers and no body yet.
async fn open(running: &Running, headers: &str) -> TcpStream {
    open_to(running, "am", headers).await
}

async fn open_to(running: &Running, webhook: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("POST /hooks/{NAMESPACE}/{webhook} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

fn authentic(rest: &str) -> String {
    format!("authorization: Bearer {TOKEN}\r\n{rest}")
}

async fn answer(stream: &mut TcpStream) -> Answer {
    tokio::time::timeout(DEADLINE, http::read(stream)).await.expect("an answer")
}

/// Who has no credentials, or wrong ones, is answered before a byte of his body is read: 5 GiB of it cost nothing.
#[tokio::test]
async fn the_body_of_a_stranger_is_not_read() {
    let (scene, running) = scene().await;
    for (credentials, said) in [
        ("x: y", "missing Authorization header"),
        ("authorization: Bearer guessed", "token mismatch"),
        ("authorization: Basic guessed", "want Authorization: Bearer TOKEN"),
    ] {
        let mut announced = open(&running, &format!("{credentials}\r\ncontent-length: {}", 5 * GIB)).await;
        let refused = answer(&mut announced).await;
        assert_eq!((refused.status, refused.text.as_str()), (401, said));
        assert!(refused.head.contains("connection: close"), "{}", refused.head);

        let mut endless = open(&running, &format!("{credentials}\r\ntransfer-encoding: chunked")).await;
        let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
        let mut sent = 0;
        while sent <= BUFFERED && endless.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        assert!(sent <= BUFFERED, "{sent} bytes were taken");
    }
    assert_eq!(scene.batches().await.len(), 0);
    running.stop().await;
}

/// The head is cut off after the same time: `refusals::an_endless_body_and_a_slow_one_come_to_an_end`.
#[tokio::test]
async fn a_body_has_ten_seconds() {
    let (_scene, running) = scene().await;
    let mut slow = open(&running, &authentic("content-length: 100")).await;
    slow.write_all(b"{").await.unwrap();
    let began = std::time::Instant::now();
    let refused = answer(&mut slow).await;
    assert_eq!((refused.status, refused.text.as_str()), (503, "body not received within 10 s; retry"));
    assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
    running.stop().await;
}

/// Line 31. Who is told to come back loses nothing by it.
#[tokio::test]
async fn when_every_place_is_taken_the_next_is_told_to_come_back() {
    let (_scene, running) = scene().await;
    let good = notification(&[alert("sda", &at(0), None)]);
    let mut reading = Vec::new();
    for _ in 0..BODIES {
        reading.push(open(&running, &authentic("content-length: 100")).await);
    }
    let refused = eventually("no place is left", DEADLINE, || async {
        let refused = running.post("am", &good).await;
        if refused.status == 503 { Ok(refused) } else { Err(format!("{refused:?}")) }
    })
    .await;
    assert_eq!(refused.text, "queue full; retry");
    assert!(refused.head.contains("retry-after: 5"), "{}", refused.head);
    drop(reading);
    eventually("it is accepted", DEADLINE, || async {
        let again = running.post("am", &good).await;
        if matches!(again.status, 200 | 202) { Ok(()) } else { Err(again.text) }
    })
    .await;
    running.stop().await;
}

/// A connection from another address.
async fn from_elsewhere(running: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    socket.connect(running.address).await.unwrap()
}

/// Who opens all connections that he may and says nothing shuts out nobody but himself.
#[tokio::test]
async fn silent_connections_of_one_address_leave_room_to_others() {
    let (_scene, running) = scene().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let body = notification(&[alert("sda", &at(0), None)]);
    let refused = running.post("am", &body).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let stream = from_elsewhere(&running).await;
    let headers = [("content-type", "application/json"), ("authorization", &*format!("Bearer {TOKEN}"))];
    let path = format!("/hooks/{NAMESPACE}/am");
    let accepted = http::post_over(stream, &path, &headers, body.to_string().as_bytes()).await.unwrap();
    assert_eq!(accepted.status, 202, "{accepted:?}");
    drop(silent);
    running.stop().await;
}

/// A signature is over the body, so anybody may begin one. Whoever proves himself by a token is heard beside all of them, and
/// so is who signs, from another address.
#[tokio::test]
async fn strangers_with_slow_bodies_take_no_place_of_others() {
    let (_scene, running) = scene().await;
    let made_up = "x-hub-signature-256: sha256=00\r\ncontent-length: 100";
    let mut strangers = Vec::new();
    for _ in 0..2 * BODIES {
        strangers.push(open_to(&running, "hub", made_up).await);
    }
    let body =
        json!({"action": "created", "repository": {"html_url": "https://github.com/acme/shop"}}).to_string();
    let signature = sign(body.as_bytes());
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", "deployment"),
        ("x-github-delivery", "1"),
        ("x-hub-signature-256", &*signature),
    ];
    eventually("the strangers have what they get", DEADLINE, || async {
        let refused = running.post_as("hub", &headers, body.as_bytes()).await;
        if refused.text == "queue full; retry" { Ok(()) } else { Err(format!("{refused:?}")) }
    })
    .await;
    let accepted = running.post("am", &notification(&[alert("sda", &at(0), None)])).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let stream = from_elsewhere(&running).await;
    let path = format!("/hooks/{NAMESPACE}/hub");
    let signed = http::post_over(stream, &path, &headers, body.as_bytes()).await.unwrap();
    assert!(matches!(signed.status, 200 | 202), "{signed:?}");
    drop(strangers);
    running.stop().await;
}

/// Bodies of one address to one Webhook that are signed.
const SIGNED: usize = 8;

/// A body is in memory until its answer, and has its place so long: also if the API server lets it wait.
#[tokio::test]
async fn a_body_has_its_place_until_it_is_answered() {
    let scene = furnished().await;
    let hangs = Arc::new(AtomicBool::new(true));
    let does_hang = hangs.clone();
    let has_no_answer = move |request: &::http::Request<kube::client::Body>| {
        let creates =
            request.method() == ::http::Method::POST && request.uri().path().ends_with("/eventbatches");
        creates && does_hang.load(Ordering::SeqCst)
    };
    let running = scene.start_unanswered("one", has_no_answer).await;
    until_ready(&scene).await;
    let send = async |body: String| {
        let signature = sign(body.as_bytes());
        let headers = [("x-github-event", "deployment"), ("x-hub-signature-256", &*signature)];
        running.post_as("hub", &headers, body.as_bytes()).await
    };
    let deployed = |number: u32| json!({"action": "created", "number": number}).to_string();
    let kept = stream::iter(1..u32::MAX).map(|number| send(deployed(number)));
    let kept = kept.buffer_unordered(SIGNED).for_each(async |_| ());
    // It would be answered at once: nothing of it is kept.
    let refused = eventually("no place is left", DEADLINE, || async {
        let refused = send("x".repeat(512 * 1024)).await;
        assert_ne!(refused.status, 0, "who is still sending has an answer, too");
        if refused.text == "queue full; retry" { Ok(refused) } else { Err(format!("{refused:?}")) }
    });
    let refused = tokio::select! {
        () = kept => unreachable!("it goes on"),
        refused = refused => refused,
    };
    assert_eq!(refused.status, 503);
    hangs.store(false, Ordering::SeqCst);
    eventually("it is accepted", DEADLINE, || async {
        let accepted = send(deployed(0)).await;
        if accepted.status == 202 { Ok(()) } else { Err(accepted.text) }
    })
    .await;
    running.stop().await;
}

/// Line 24. A request that was overheard is authentic. As long as it is remembered what it says is known, also under another
/// number of its delivery; and where the time is signed, after five minutes it is not even authentic (23: `refusals`). That a
/// Rule hears it which names another `X-GitHub-Event` is not shown here: no signature of GitHub covers that.
#[tokio::test]
async fn a_request_that_is_sent_again_by_somebody_else_is_known_by_its_body() {
    let (scene, running) = scene().await;
    let pushed = json!({"action": "created", "repository": {"html_url": "https://github.com/acme/shop"}});
    let told = json!({"specversion": "1.0", "id": "1", "source": "/disk", "type": "full"});
    let now = k8s_openapi::jiff::Timestamp::now().as_second().to_string();
    let send = async |webhook: &str, body: &Value, delivery: &str| {
        let body = body.to_string();
        let signed = if webhook == "hub" { body.clone() } else { format!("{now}.{body}") };
        let signature = sign(signed.as_bytes());
        let headers = [
            (
                "content-type",
                if webhook == "hub" { "application/json" } else { "application/cloudevents+json" },
            ),
            ("x-github-event", "deployment"),
            ("x-github-delivery", delivery),
            ("x-hub-signature-256", &signature),
            ("x-signature", &signature),
            ("x-signature-timestamp", &now),
        ];
        running.post_as(webhook, &headers, body.as_bytes()).await
    };
    for (webhook, body) in [("hub", &pushed), ("signed", &told)] {
        assert_eq!(send(webhook, body, "1").await.status, 202, "{webhook}");
    }
    scene.ended(&["Observed", "Observed"]).await;
    for (webhook, body, rule) in [("hub", &pushed, "pushed"), ("signed", &told, "told")] {
        for delivery in ["1", "2"] {
            let again = send(webhook, body, delivery).await;
            let said = format!("duplicate of execution {rule}-");
            assert!(again.status == 200 && again.text.starts_with(&said), "{webhook}: {again:?}");
        }
    }
    assert_eq!((scene.batches().await.len(), scene.executions().await.len()), (2, 2));
    running.stop().await;
}

/// Batches from which on what is over makes room at once.
const CROWDED: usize = 300;

/// Line 24, in a flood: what whoever has overheard it can still send is not forgotten, whatever became of it and however
/// much else there is. A token proves nothing of the message, so that of such nobody waits for a replay.
#[tokio::test]
async fn what_can_be_replayed_is_remembered_in_a_flood() {
    let (scene, running) = scene().await;
    scene.webhook("open", json!({"cloudevents": {}})).await;
    let by_name =
        json!({"target": {"ref": null, "key": "event.id"}, "ladder": [{"run": "note"}], "mode": "Observe"});
    let with = |changes: Value| {
        let mut rule = by_name.clone();
        json_patch::merge(&mut rule, &changes);
        rule
    };
    scene.rule("heard", with(json!({"trigger": {"webhook": {"name": "open"}}}))).await;
    let patient =
        json!({"trigger": {"alert": {"webhook": "am"}}, "for": "1h", "target": {"key": "alert.fingerprint"}});
    scene.rule("patient", with(patient)).await;
    for (kind, name) in [("Webhook", "open"), ("Rule", "heard"), ("Rule", "patient")] {
        scene.ready(kind, name).await;
    }
    // While nobody looks at them one by one.
    running.stop().await;
    for number in 0..CROWDED {
        scene
            .batch_of(&format!("am-{number}"), "am", "patient", &alert(&format!("d{number}"), &at(-5), None))
            .await;
    }
    let running = scene.start_listening("two").await;
    // From before the Rule: it is over as soon as it is looked at.
    let body = json!({"specversion": "1.0", "id": "1", "source": "/disk", "type": "full", "time": "2020-01-01T00:00:00Z"}).to_string();
    let now = k8s_openapi::jiff::Timestamp::now().as_second().to_string();
    let signature = sign(format!("{now}.{body}").as_bytes());
    let send = async |webhook: &str| {
        let token = format!("Bearer {TOKEN}");
        let headers = [
            ("content-type", "application/cloudevents+json"),
            ("authorization", &*token),
            ("x-signature", &*signature),
            ("x-signature-timestamp", &*now),
        ];
        running.post_as(webhook, &headers, body.as_bytes()).await
    };
    assert_eq!(send("signed").await.status, 202);
    let is_over = async || outcomes_in(&scene.batches_of("signed").await) == ["1 told Suppressed BeforeRule"];
    eventually("it is over", DEADLINE, || async { is_over().await.then_some(()).ok_or("not yet") }).await;
    // Twice: what is over goes at once.
    for _ in 0..2 {
        assert_eq!(send("open").await.status, 202);
        eventually("what came with a token makes room", DEADLINE, || async {
            let left = scene.batches_of("open").await.len();
            if left == 0 { Ok(()) } else { Err(left) }
        })
        .await;
    }
    let again = send("signed").await;
    assert_eq!((again.status, &*again.text), (200, "duplicate of event 1"));
    assert!(is_over().await, "it is kept");
    running.stop().await;
}
