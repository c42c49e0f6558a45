//! The fields of the kinds that expressions read, as this cluster publishes them: what a Rule's expressions are checked
//! against. What cannot be read is not known, and nothing is said of it then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::cluster::{Error, Result, open_api};
use crate::expr::Schemas;

/// How long it is believed what there is.
pub const BELIEVED: Duration = Duration::from_mins(1);
/// The same, if something seems to be wrong with it: it may just have been installed, or changed.
pub const DOUBTED: Duration = Duration::from_secs(2);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was published when it was looked at last. Who asks while it is being read waits for the same answer.
#[derive(Default)]
pub struct Published(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// When it was asked last what there is.
    asked: Option<Instant>,
    /// Where the document of each `apiVersion` is.
    addresses: BTreeMap<String, String>,
    /// The documents that were wanted so far, by `apiVersion`, each with the address that it had.
    documents: BTreeMap<String, (String, Schemas)>,
}

/// What is known of some kinds.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Their fields.
    pub schemas: Schemas,
    /// What tells these from others.
    pub stamp: Vec<String>,
    /// Whether some of them are not published, or not yet.
    pub is_partial: bool,
}

impl Published {
    /// What is known of the kinds of these `apiVersion`s, by what there was at most `age` ago.
    pub async fn of(&self, client: &Client, wanted: &BTreeSet<&str>, age: Duration) -> Fields {
        let mut known = self.0.lock().await;
        let mut fields = Fields::default();
        for version in wanted {
            if let Err(error) = known.look(client, version, age).await {
                tracing::debug!(version, %error, "the fields of its kinds are not known");
            }
            let Some((address, schemas)) = known.documents.get(*version) else {
                fields.is_partial = true;
                continue;
            };
            fields.schemas = fields.schemas.and(schemas);
            fields.stamp.push(address.clone());
        }
        fields
    }
}

impl Known {
    async fn look(&mut self, client: &Client, version: &str, age: Duration) -> Result<()> {
        let believed = if self.addresses.contains_key(version) { age } else { age.min(DOUBTED) };
        if self.asked.is_none_or(|asked| asked.elapsed() >= believed) {
            self.asked = Some(Instant::now());
            self.addresses = soon(open_api::index(client)).await?;
        }
        let Some(address) = self.addresses.get(version) else { return Ok(()) };
        if self.documents.get(version).is_none_or(|(known, _)| known != address) {
            let document = soon(open_api::document(client, address)).await?;
            let schemas = Schemas::default().with_open_api(&document);
            self.documents.insert(version.to_owned(), (address.clone(), schemas));
        }
        Ok(())
    }
}

async fn soon<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Error::Unexpected(format!("no answer within {PATIENCE:?}"));
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
}
