//! The fields of the kinds that expressions read, as this cluster publishes them: what a Rule's expressions are checked
//! against. What cannot be read is not known, and nothing is said of it then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::cluster::{Error, Result, open_api};
use crate::expr::Schemas;

/// How long it is believed what there is.
pub const BELIEVED: Duration = Duration::from_mins(1);
/// The same, if something seems to be wrong with it: it may just have been installed, or changed.
pub const DOUBTED: Duration = Duration::from_secs(2);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it rests what could not be read.
const REST: Duration = Duration::from_secs(30);
/// How long one waits for whoever asks already: longer, and it is as if nothing were known.
const TURN: Duration = Duration::from_secs(1);

/// What was published when it was looked at last. Who asks while it is being read waits a moment for the same answer: a
/// server that is slow for one kind holds nobody up who reads another.
#[derive(Default)]
pub struct Published {
    index: Mutex<Index>,
    /// The documents that were wanted so far, by `apiVersion`.
    documents: parking_lot::Mutex<BTreeMap<String, Arc<Mutex<Document>>>>,
}

/// Where the document of each `apiVersion` is.
#[derive(Default)]
struct Index {
    asked: Option<Instant>,
    addresses: BTreeMap<String, String>,
}

#[derive(Default)]
struct Document {
    /// Where it was; empty if it has not been read yet.
    address: String,
    schemas: Schemas,
    failed: Option<Instant>,
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
        let mut fields = Fields::default();
        for version in wanted {
            let address = self.address(client, version, age).await;
            let Some((address, schemas)) = self.document(client, version, address).await else {
                fields.is_partial = true;
                continue;
            };
            fields.schemas = fields.schemas.and(&schemas);
            fields.stamp.push(address);
        }
        fields
    }

    /// Where a document is, if it is published and that is known.
    async fn address(&self, client: &Client, version: &str, age: Duration) -> Option<String> {
        let mut index = timeout(TURN, self.index.lock()).await.ok()?;
        let age = if index.addresses.contains_key(version) { age } else { age.min(DOUBTED) };
        if index.asked.is_none_or(|asked| asked.elapsed() >= age) {
            index.asked = Some(Instant::now());
            match soon(open_api::index(client)).await {
                Ok(addresses) => index.addresses = addresses,
                Err(error) => tracing::debug!(%error, "what is published is not known"),
            }
        }
        index.addresses.get(version).cloned()
    }

    /// A document and where it was, read anew if it is elsewhere now.
    async fn document(
        &self,
        client: &Client,
        version: &str,
        address: Option<String>,
    ) -> Option<(String, Schemas)> {
        let document = self.documents.lock().entry(version.to_owned()).or_default().clone();
        let mut document = timeout(TURN, document.lock()).await.ok()?;
        let rests = document.failed.is_some_and(|failed| failed.elapsed() < REST);
        if let Some(address) = address.filter(|address| *address != document.address && !rests) {
            match soon(open_api::document(client, &address)).await {
                Ok(read) => {
                    let schemas = Schemas::default().with_open_api(&read);
                    *document = Document { address, schemas, failed: None };
                }
                Err(error) => {
                    tracing::debug!(version, %error, "the fields of its kinds are not known");
                    document.failed = Some(Instant::now());
                }
            }
        }
        (!document.address.is_empty()).then(|| (document.address.clone(), document.schemas.clone()))
    }
}

async fn soon<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Error::Unexpected(format!("no answer within {PATIENCE:?}"));
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// An API server whose document of `slow/v1` never comes; it counts how often that was asked for.
    fn server(asked: &Arc<AtomicUsize>) -> Client {
        let asked = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = asked.clone();
            async move {
                let at = |version: &str| json!({"serverRelativeURL": format!("/openapi/v3/apis/{version}?hash=1")});
                let answer = match request.uri().path() {
                    "/openapi/v3" => {
                        json!({"paths": {"apis/slow/v1": at("slow/v1"), "apis/apps/v1": at("apps/v1")}})
                    }
                    "/openapi/v3/apis/apps/v1" => json!({"components": {"schemas": {}}}),
                    _ => {
                        asked.fetch_add(1, Ordering::SeqCst);
                        std::future::pending().await
                    }
                };
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        Client::new(service, "a")
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_that_does_not_come_holds_up_nobody_who_reads_another() {
        let (published, asked) = (Arc::new(Published::default()), Arc::<AtomicUsize>::default());
        let client = server(&asked);
        let (slow, apps) = (BTreeSet::from(["slow/v1"]), BTreeSet::from(["apps/v1"]));
        let began = Instant::now();
        let (there, home) = (published.clone(), client.clone());
        let waits =
            tokio::spawn(async move { there.of(&home, &BTreeSet::from(["slow/v1"]), BELIEVED).await });
        eventually_asked(&asked).await;
        let known = published.of(&client, &apps, BELIEVED).await;
        assert!(!known.is_partial && known.stamp == ["/openapi/v3/apis/apps/v1?hash=1"]);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(published.of(&client, &slow, BELIEVED).await.is_partial);
        assert_eq!(began.elapsed(), TURN, "who reads the same waits a moment");
        assert!(waits.await.unwrap().is_partial);
        assert!(published.of(&client, &slow, BELIEVED).await.is_partial);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "it rests");
    }

    async fn eventually_asked(asked: &AtomicUsize) {
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
}
