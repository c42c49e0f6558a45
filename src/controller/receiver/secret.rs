//! The secrets of Webhooks, remembered for a short time: a flood is no reason to ask the API server for each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Client, ResourceExt};
use tokio::sync::Mutex;

use super::Key;
use crate::api::Webhook;
use crate::cluster::{Error, Result};
use crate::controller::webhook;

/// How long a secret is good, and with it that its account may read it.
const KEEP: Duration = Duration::from_secs(30);
/// How soon a secret is read again because a request does not fit it: it may have been changed.
const RENEW: Duration = Duration::from_secs(2);
/// How long a failure is the answer to others: they would wait for the same one after another.
const FAILED: Duration = Duration::from_secs(1);
/// How long the API server has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another text or another object of the same name may mean another secret.
type Of = (Option<String>, Option<i64>);

struct Read {
    secret: Arc<str>,
    at: Instant,
    of: Of,
}

/// What was read of one Webhook, and when that failed last.
#[derive(Default)]
struct Slot {
    read: Option<Read>,
    failed: Option<(Instant, Of)>,
}

/// What was read, by Webhook. Whoever asks while it is being read waits for the same answer.
#[derive(Default)]
pub(super) struct Secrets {
    read: parking_lot::Mutex<BTreeMap<Key, Arc<Mutex<Slot>>>>,
}

impl Secrets {
    fn slot(&self, webhook: &Webhook) -> Arc<Mutex<Slot>> {
        let key = (webhook.namespace().unwrap_or_default(), webhook.name_any());
        self.read.lock().entry(key).or_default().clone()
    }

    /// Forgets the secrets of Webhooks that are gone.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        self.read.lock().retain(|key, _| exists(key));
    }

    /// The secret of a Webhook.
    pub(super) async fn get(&self, home: &Client, webhook: &Webhook) -> Result<Arc<str>> {
        self.read(home, webhook, KEEP).await
    }

    /// The secret as it is now, if it may be another than the one that was read.
    pub(super) async fn renewed(&self, home: &Client, webhook: &Webhook) -> Option<Arc<str>> {
        self.read(home, webhook, RENEW).await.ok()
    }

    async fn read(&self, home: &Client, webhook: &Webhook, keep: Duration) -> Result<Arc<str>> {
        let slot = self.slot(webhook);
        let mut slot = slot.lock().await;
        let of = (webhook.uid(), webhook.metadata.generation);
        if let Some(known) = slot.read.as_ref().filter(|known| known.at.elapsed() < keep && known.of == of) {
            return Ok(known.secret.clone());
        }
        if slot.failed.as_ref().is_some_and(|(at, failed)| at.elapsed() < FAILED && *failed == of) {
            return Err(Error::Unexpected("it could not be read a moment ago".to_owned()));
        }
        let asked = tokio::time::timeout(PATIENCE, webhook::secret(home, webhook)).await;
        match asked.unwrap_or_else(|_| Err(Error::Unexpected("the API server does not answer".to_owned()))) {
            Ok(secret) => {
                let secret: Arc<str> = secret.into();
                *slot = Slot {
                    read: Some(Read { secret: secret.clone(), at: Instant::now(), of }),
                    failed: None,
                };
                Ok(secret)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), of));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn of_an_api_server_that_hangs_all_hear_at_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |_: http::Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<std::result::Result<http::Response<Body>, std::io::Error>>()
        });
        let (home, secrets) = (Client::new(service, "default"), Secrets::default());
        let webhook = serde_json::json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Webhook",
            "metadata": {"name": "w", "namespace": "a"}, "spec": {"serviceAccountName": "r", "github": {},
                "authentication": {"hmac": {"secretRef": {"name": "s", "key": "k"}}}}});
        let webhook: Webhook = serde_json::from_value(webhook).expect("a Webhook");
        let began = tokio::time::Instant::now();
        let waiting = (0..20).map(|_| secrets.get(&home, &webhook));
        let answers = futures::future::join_all(waiting).await;
        assert!(answers.iter().all(std::result::Result::is_err));
        assert_eq!((began.elapsed().as_secs(), asked.load(Ordering::Relaxed)), (PATIENCE.as_secs(), 1));
    }
}
