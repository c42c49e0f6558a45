//! The secrets of Webhooks, remembered for a short time: a flood is no reason to ask the API server for each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::{Client, ResourceExt};
use tokio::sync::Mutex;

use super::Key;
use crate::api::Webhook;
use crate::cluster::Result;
use crate::controller::webhook;

/// How long a secret is good, and with it that its account may read it.
const KEEP: Duration = Duration::from_secs(30);
/// How soon a secret is read again because a request does not fit it: it may have been changed.
const RENEW: Duration = Duration::from_secs(2);
/// How long the API server has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

struct Read {
    secret: Arc<str>,
    at: Instant,
    /// Another text or another object of the same name may mean another secret.
    of: (Option<String>, Option<i64>),
}

/// What was read, by Webhook. Whoever asks while it is being read waits for the same answer.
#[derive(Default)]
pub(super) struct Secrets {
    read: parking_lot::Mutex<BTreeMap<Key, Arc<Mutex<Option<Read>>>>>,
}

impl Secrets {
    fn slot(&self, webhook: &Webhook) -> Arc<Mutex<Option<Read>>> {
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
        if let Some(known) = slot.as_ref().filter(|known| known.at.elapsed() < keep && known.of == of) {
            return Ok(known.secret.clone());
        }
        let asked = tokio::time::timeout(PATIENCE, webhook::secret(home, webhook)).await;
        let secret: Arc<str> = match asked {
            Ok(secret) => secret?.into(),
            Err(_) => {
                return Err(crate::cluster::Error::Unexpected("the API server does not answer".to_owned()));
            }
        };
        *slot = Some(Read { secret: secret.clone(), at: Instant::now(), of });
        Ok(secret)
    }
}
