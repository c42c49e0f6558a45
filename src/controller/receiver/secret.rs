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

/// What a sender hears whose secret may be a new one that nobody can read now.
pub(super) const UNREAD: &str = "the Secret cannot be read now; retry";

/// Another text or another object of the same name may mean another secret.
type Of = (Option<String>, Option<i64>);

struct Read {
    secret: Arc<str>,
    at: Instant,
    of: Of,
}

/// A read that failed, and whether it does so until a person has changed something.
struct Failed {
    at: Instant,
    of: Of,
    is_lasting: bool,
}

/// What was read of one Webhook, and when that failed last.
#[derive(Default)]
struct Slot {
    read: Option<Read>,
    failed: Option<Failed>,
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

    /// The secret as it is now, if it may be another than the one that was read; none if there is none, or none that may be
    /// read, until a person has changed something.
    ///
    /// # Errors
    /// Where it may be another, and cannot be read at this moment.
    pub(super) async fn renewed(&self, home: &Client, webhook: &Webhook) -> Result<Option<Arc<str>>> {
        match self.read(home, webhook, RENEW).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.is_lasting() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, home: &Client, webhook: &Webhook, keep: Duration) -> Result<Arc<str>> {
        let slot = self.slot(webhook);
        let mut slot = slot.lock().await;
        let of = (webhook.uid(), webhook.metadata.generation);
        if let Some(known) = slot.read.as_ref().filter(|known| known.at.elapsed() < keep && known.of == of) {
            return Ok(known.secret.clone());
        }
        let is_recent = |failed: &&Failed| failed.at.elapsed() < FAILED && failed.of == of;
        if let Some(failed) = slot.failed.as_ref().filter(is_recent) {
            let text = "it could not be read a moment ago".to_owned();
            return Err(if failed.is_lasting { Error::Unexpected(text) } else { Error::Busy(text) });
        }
        let asked = tokio::time::timeout(PATIENCE, webhook::secret(home, webhook)).await;
        match asked.unwrap_or_else(|_| Err(Error::Busy("the API server does not answer".to_owned()))) {
            Ok(secret) => {
                let secret: Arc<str> = secret.into();
                *slot = Slot {
                    read: Some(Read { secret: secret.clone(), at: Instant::now(), of }),
                    failed: None,
                };
                Ok(secret)
            }
            Err(error) => {
                slot.failed = Some(Failed { at: Instant::now(), of, is_lasting: error.is_lasting() });
                Err(error)
            }
        }
    }
}

#[cfg(test)]
impl Secrets {
    /// Has a secret be one that was read so long ago that it may be another by now.
    pub(super) fn outdated(&self, webhook: &Webhook, secret: &str) {
        let at = Instant::now().checked_sub(RENEW).expect("a time");
        let of = (webhook.uid(), webhook.metadata.generation);
        let read = Some(Read { secret: secret.into(), at, of });
        *self.slot(webhook).try_lock().expect("nobody reads it") = Slot { read, failed: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn webhook() -> Webhook {
        let webhook = serde_json::json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Webhook",
            "metadata": {"name": "w", "namespace": "a"}, "spec": {"serviceAccountName": "r", "github": {},
                "authentication": {"hmac": {"secretRef": {"name": "s", "key": "k"}}}}});
        serde_json::from_value(webhook).expect("a Webhook")
    }

    #[tokio::test]
    async fn that_there_is_no_secret_is_not_that_nobody_can_read_it() {
        for (code, is_known) in [(500, false), (429, false), (403, true), (404, true)] {
            let asked = Arc::<AtomicUsize>::default();
            let count = asked.clone();
            let service = tower::service_fn(move |_: http::Request<Body>| {
                count.fetch_add(1, Ordering::Relaxed);
                let status = serde_json::json!({"kind": "Status", "status": "Failure", "code": code});
                let answer =
                    http::Response::builder().status(code).body(Body::from(status.to_string().into_bytes()));
                async move { answer }
            });
            let (home, secrets, webhook) = (Client::new(service, "default"), Secrets::default(), webhook());
            secrets.outdated(&webhook, "old");
            for _ in 0..2 {
                let renewed = secrets.renewed(&home, &webhook).await;
                assert_eq!(renewed.ok(), is_known.then_some(None), "{code}");
            }
            assert_eq!(asked.load(Ordering::Relaxed), 1, "the second hears of the first, {code}");
            assert_eq!(secrets.get(&home, &webhook).await.ok().as_deref(), Some("old"), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_api_server_that_hangs_all_hear_at_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |_: http::Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<std::result::Result<http::Response<Body>, std::io::Error>>()
        });
        let (home, secrets, webhook) = (Client::new(service, "default"), Secrets::default(), webhook());
        let began = tokio::time::Instant::now();
        let waiting = (0..20).map(|_| secrets.get(&home, &webhook));
        let answers = futures::future::join_all(waiting).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| !error.is_lasting())));
        assert_eq!((began.elapsed().as_secs(), asked.load(Ordering::Relaxed)), (PATIENCE.as_secs(), 1));
    }
}
