//! Kubernetes Events about targets, so that `kubectl describe` tells the story.

use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference as CoreReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;

use super::error::{Error, Result};
use super::objects::MANAGER;
use super::series::Series;
use crate::api::ObjectReference;

/// The longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// Events that wait to be written, at the most: who has more to tell waits.
const WAITING: usize = 1000;
/// Events that are written at a time: a few, as what they tell about comes first.
const WRITING: usize = 2;

/// Takes Events in, to be written beside the work that they tell about.
pub struct Teller {
    sender: mpsc::Sender<Event>,
    series: Arc<Series>,
}

/// Writes what its [`Teller`] takes in.
pub struct Writer {
    receiver: mpsc::Receiver<Event>,
    series: Arc<Series>,
}

/// A teller and its writer.
pub fn teller() -> (Teller, Writer) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let series = Arc::<Series>::default();
    (Teller { sender, series: series.clone() }, Writer { receiver, series })
}

impl Teller {
    /// Has an Event written soon. Waits only where too many wait already.
    pub async fn tell(&self, telling: &Telling<'_>, now: Timestamp) {
        if self.sender.send(event(telling, now)).await.is_err() {
            tracing::warn!(event = telling.name, "Event not written: nobody writes any more");
        }
    }

    /// Counts what happens again and again: one Event for each name, which is written from time to time. Each occasion,
    /// by its time and what tells it from others, counts once. Where there are too many of them, `instead` counts, which
    /// stands for many.
    pub fn count(&self, telling: &Telling<'_>, occasion: (Timestamp, &str), instead: &Telling<'_>) {
        self.series.count(event(telling, occasion.0), occasion, || event(instead, occasion.0));
    }

    /// Whether an Event would be the first of its name, and have room.
    pub fn is_news(&self, telling: &Telling<'_>) -> bool {
        let namespace = telling.regarding.namespace.as_deref().unwrap_or("default");
        self.series.is_news(namespace, &telling.name)
    }
}

impl Writer {
    /// Writes until the teller is gone and everything that it took in is written. Events are for people: one that cannot
    /// be written is no reason to stop.
    pub async fn run(mut self, home: &Client) {
        let told = stream::poll_fn(|cx| self.receiver.poll_recv(cx)).for_each_concurrent(
            WRITING,
            |event| async move {
                if let Err(error) = create(home, &event).await {
                    tracing::warn!(%error, "Event not written");
                }
            },
        );
        tokio::select! {
            () = told => {}
            () = self.series.run(home) => {}
        }
        self.series.finish(home).await;
    }
}

/// An Event to write.
#[derive(Clone, Debug)]
pub struct Telling<'a> {
    /// Its name: the same for the same occasion, so that telling twice tells once.
    pub name: String,
    /// Reason, in `PascalCase`.
    pub reason: &'a str,
    /// Whether it is a warning.
    pub warning: bool,
    /// What happened.
    pub note: String,
    /// The object that it is about.
    pub regarding: &'a ObjectReference,
    /// The object that did it.
    pub related: Option<&'a ObjectReference>,
}

/// Writes an Event. Events are for people: one that cannot be written is no reason to stop.
pub async fn tell(home: &Client, telling: &Telling<'_>, now: Timestamp) -> Result<()> {
    create(home, &event(telling, now)).await.map(drop)
}

fn event(telling: &Telling<'_>, now: Timestamp) -> Event {
    let namespace = telling.regarding.namespace.as_deref().unwrap_or("default");
    Event {
        metadata: ObjectMeta {
            name: Some(telling.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("Remediate".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(shortened(&telling.note).to_owned()),
        reason: Some(telling.reason.to_owned()),
        regarding: Some(core(telling.regarding)),
        related: telling.related.map(core),
        reporting_controller: Some("fother.dev/controller".to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        type_: Some(if telling.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// Whether it is new.
pub(super) async fn create(home: &Client, event: &Event) -> Result<bool> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    match Api::namespaced(home.clone(), namespace).create(&PostParams::default(), event).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        other => {
            let reason = event.reason.as_deref().unwrap_or_default();
            other.map(|_| true).map_err(Error::request(format!("write Event {reason}")))
        }
    }
}

/// A note between words that say whose it is. Where there is no room for all, it is the note that is cut.
pub fn framed(before: &str, note: &str, after: &str) -> String {
    let room = NOTE_LIMIT.saturating_sub(before.len() + after.len());
    format!("{before}{}{after}", &note[..note.floor_char_boundary(room)])
}

fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_LIMIT)]
}

fn core(object: &ObjectReference) -> CoreReference {
    CoreReference {
        api_version: Some(object.api_version.clone()),
        kind: Some(object.kind.clone()),
        namespace: object.namespace.clone(),
        name: Some(object.name.clone()),
        uid: object.uid.clone(),
        ..CoreReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use kube::client::Body;
    use parking_lot::Mutex;
    use std::collections::BTreeSet;

    #[test]
    fn a_note_is_cut_by_bytes_between_characters() {
        let note = "ä".repeat(NOTE_LIMIT);
        assert_eq!(shortened(&note).len(), NOTE_LIMIT);
        assert_eq!(shortened(&format!("x{note}")).len(), NOTE_LIMIT - 1);
    }

    #[test]
    fn whose_a_note_is_stays_when_it_is_cut() {
        assert_eq!(framed("leak: ", "mended", " (Execution x)"), "leak: mended (Execution x)");
        let cut = framed("leak: ", &"ä".repeat(NOTE_LIMIT), " (Execution x)");
        assert!(cut.starts_with("leak: ää") && cut.ends_with("ää (Execution x)"), "{cut}");
        assert_eq!(cut.len(), NOTE_LIMIT);
        assert_eq!(shortened(&cut), cut);
    }

    #[tokio::test]
    async fn what_was_taken_in_is_written_before_the_writer_ends() {
        let (written, let_go) =
            (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let (log, gate) = (written.clone(), let_go.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (log, gate) = (log.clone(), gate.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let event: Event = serde_json::from_slice(&body).unwrap();
                log.lock().insert(event.metadata.name.unwrap());
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(body.to_vec())))
            }
        });
        let (client, (teller, writer)) = (Client::new(service, "a"), teller());
        let mut writing = Box::pin(writer.run(&client));
        let regarding = ObjectReference { name: "ark".to_owned(), ..ObjectReference::default() };
        let telling = |n: usize| Telling {
            name: format!("leak-{n}"),
            reason: "RuleFired",
            warning: false,
            note: String::new(),
            regarding: &regarding,
            related: None,
        };
        for n in 0..WAITING {
            teller.tell(&telling(n), Timestamp::UNIX_EPOCH).await;
        }
        let over = telling(WAITING);
        let mut one_more = Box::pin(teller.tell(&over, Timestamp::UNIX_EPOCH));
        assert!(futures::poll!(&mut one_more).is_pending(), "who has more to tell waits");
        assert!(futures::poll!(&mut writing).is_pending() && written.lock().is_empty());
        one_more.await;
        drop(teller);
        let_go.add_permits(WAITING + 1);
        writing.await;
        assert_eq!(written.lock().len(), WAITING + 1);
    }
}
