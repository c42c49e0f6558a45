//! The events that the sandbox's actors write; what repeats is counted, not repeated.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::debug;

use crate::sandbox::clock::Clock;

/// More than any burst of one node or controller; beyond it events are lost, as they may be.
const QUEUE: usize = 1024;
/// How many counts are remembered; what was forgotten is read back.
const REMEMBERED: usize = 4096;

/// Something worth an event.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Who says it.
    pub component: &'static str,
    /// Whether it is bad news.
    pub warning: bool,
    /// The reason, as one word.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}

impl Notice {
    /// Good news from `component`.
    pub fn normal(component: &'static str, reason: &'static str, message: String) -> Self {
        Self { component, warning: false, reason, message }
    }

    /// Bad news from `component`.
    pub fn warning(component: &'static str, reason: &'static str, message: String) -> Self {
        Self { component, warning: true, reason, message }
    }
}

/// Hands notices to the task that writes them.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<(ObjectReference, Notice)>);

impl Recorder {
    /// A recorder and the task that writes for it, on the machine `host`.
    pub fn new(client: Client, host: String, clock: Clock) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let writer = Writer { client, host, clock, counts: HashMap::new() };
        (Self(sender), writer.run(queue))
    }

    /// Records `notice` about `about`.
    pub fn record(&self, about: ObjectReference, notice: Notice) {
        if let Err(error) = self.0.try_send((about, notice)) {
            debug!(%error, "event lost");
        }
    }
}

struct Writer {
    client: Client,
    host: String,
    clock: Clock,
    counts: HashMap<String, i32>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<(ObjectReference, Notice)>) {
        while let Some((about, notice)) = queue.recv().await {
            if let Err(error) = self.write(about, &notice).await {
                // A namespace that is going takes no events; nothing else depends on them.
                debug!(%error, reason = notice.reason, "event not written");
            }
        }
    }

    async fn write(&mut self, about: ObjectReference, notice: &Notice) -> kube::Result<()> {
        let namespace = about.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let name = event_name(&about, notice);
        let key = format!("{namespace}/{name}");
        if self.counts.len() > REMEMBERED {
            self.counts.clear();
        }
        if let Some(count) = self.counts.get(&key).copied() {
            match self.count(&api, &name, count + 1).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                outcome => {
                    self.counts.insert(key, count + 1);
                    return outcome;
                }
            }
        }
        let count = match api.create(&PostParams::default(), &self.event(&name, about, notice)).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let count = api.get(&name).await?.count.unwrap_or(1) + 1;
                self.count(&api, &name, count).await?;
                count
            }
            created => created.map(|_| 1)?,
        };
        self.counts.insert(key, count);
        Ok(())
    }

    async fn count(&self, api: &Api<Event>, name: &str, count: i32) -> kube::Result<()> {
        let patch = json!({"count": count, "lastTimestamp": self.clock.time()});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    fn event(&self, name: &str, about: ObjectReference, notice: &Notice) -> Event {
        let component = notice.component.to_owned();
        let mut event = Event {
            involved_object: about,
            reason: Some(notice.reason.to_owned()),
            message: Some(notice.message.clone()),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            count: Some(1),
            first_timestamp: Some(self.clock.time()),
            last_timestamp: Some(self.clock.time()),
            reporting_component: Some(component.clone()),
            reporting_instance: Some(self.host.clone()),
            source: Some(EventSource { component: Some(component), host: Some(self.host.clone()) }),
            ..Event::default()
        };
        event.metadata.name = Some(name.to_owned());
        event.metadata.namespace.clone_from(&event.involved_object.namespace);
        event
    }
}

fn event_name(about: &ObjectReference, notice: &Notice) -> String {
    let mut hash = Sha256::new();
    let parts =
        [about.uid.as_deref(), about.field_path.as_deref(), Some(notice.reason), Some(&notice.message)];
    for part in parts {
        hash.update(part.unwrap_or_default());
        hash.update([0]);
    }
    format!("{}.{}", about.name.as_deref().unwrap_or_default(), hex(&hash.finalize()[..8]))
}

/// The bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        for half in [byte >> 4, byte & 15] {
            digits.extend(char::from_digit(half.into(), 16));
        }
        digits
    })
}
