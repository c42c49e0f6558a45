//! How a replica that is told to stop leaves its senders: none loses what he has begun. And one that has to end at once.

use std::time::Duration;

use fother::server::hooks::Ending;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::refusals::{furnished, until_ready};
use super::stage::{NAMESPACE, Running, Scene, TOKEN, alert, at, notification};
use crate::support::http;
use crate::support::wait::{DEADLINE, eventually};

/// Longer than a test waits for anything.
const NEVER: Duration = DEADLINE.saturating_mul(10);

/// A replica that leads and ends like this.
async fn leads(ending: Ending) -> (Scene, Running) {
    let mut scene = furnished().await;
    scene.ending = ending;
    let running = scene.start("one").await;
    until_ready(&scene).await;
    (scene, running)
}

/// Begins a notification about a disk, and gives what is left to send.
async fn begin(running: &Running, disk: &str) -> (TcpStream, String) {
    let body = notification(&[alert(disk, &at(0), None)]).to_string();
    let (path, token) = (format!("/hooks/{NAMESPACE}/am"), format!("Bearer {TOKEN}"));
    let headers = [("content-type", "application/json"), ("authorization", &*token)];
    (http::begin(running.address, &path, &headers, body.len()).await, body)
}

/// Sends the rest of it: it is accepted, by somebody who wants no more on this connection.
async fn is_accepted((stream, body): (TcpStream, String)) {
    let answer = http::finish(stream, body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
}

async fn lease_is_free(scene: &Scene) {
    let leases: Api<Lease> = Api::namespaced(scene.admin.clone(), "fother");
    eventually("the Lease is free", DEADLINE, || async {
        let lease = leases.get("fother").await.map_err(|error| error.to_string())?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        if holder.is_empty() { Ok(()) } else { Err(holder) }
    })
    .await;
}

/// Whoever routes requests hears late of it.
#[tokio::test]
async fn whoever_comes_for_a_while_after_it_was_told_to_stop_is_heard() {
    let (scene, running) = leads(Ending { grace: NEVER, rest: NEVER }).await;
    let before = begin(&running, "sda").await;
    running.tell_to_stop();
    is_accepted(before).await;
    lease_is_free(&scene).await;
    is_accepted(begin(&running, "sdb").await).await;
    let mut kept: Vec<Value> = Vec::new();
    for batch in scene.batches().await {
        kept.extend(batch.spec.events.iter().map(|accepted| accepted.event.data.0["labels"]["disk"].clone()));
    }
    kept.sort_by_key(Value::to_string);
    assert_eq!(kept, ["sda", "sdb"], "whoever leads next finds them");
}

#[tokio::test]
async fn it_ends_when_whoever_had_begun_is_answered() {
    let (_scene, running) = leads(Ending { grace: Duration::ZERO, rest: NEVER }).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        let read = tokio::time::timeout(DEADLINE, idle.read_buf(&mut said)).await.unwrap().unwrap();
        assert!(read > 0, "it stays open: {}", String::from_utf8_lossy(&said));
    }
    let before = begin(&running, "sda").await;
    running.tell_to_stop();
    for connection in [&mut silent, &mut idle] {
        let rest = tokio::time::timeout(DEADLINE, http::read(connection)).await.unwrap();
        assert_eq!(rest.status, 0, "nobody asked anything: {rest:?}");
    }
    is_accepted(before).await;
    running.stop().await;
}

#[tokio::test]
async fn who_does_not_come_to_an_end_is_not_waited_for() {
    let (_scene, running) = leads(Ending { grace: Duration::ZERO, rest: Duration::from_millis(100) }).await;
    let (mut stream, _) = begin(&running, "sda").await;
    running.stop().await;
    let cut_off = tokio::time::timeout(DEADLINE, http::read(&mut stream)).await.unwrap();
    assert_eq!(cut_off.status, 0, "it had ten seconds for its body otherwise: {cut_off:?}");
}

/// Another leads by then: nothing of what was begun is kept here, and its sender hears that he has to come again, to him.
#[tokio::test]
async fn who_waits_when_the_lease_is_lost_is_told_to_come_again() {
    let (scene, running) = leads(Ending { grace: NEVER, rest: NEVER }).await;
    let (mut stream, _) = begin(&running, "sda").await;
    scene.lease_to_nobody().await;
    let told = tokio::time::timeout(DEADLINE, http::read(&mut stream)).await.unwrap();
    assert_eq!((told.status, told.text.as_str()), (503, "this replica ends; retry"));
    for header in ["retry-after: 5", "connection: close"] {
        assert!(told.head.contains(header), "{}", told.head);
    }
    assert_eq!(scene.batches().await.len(), 0);
    running.stop().await;
}
