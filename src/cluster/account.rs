//! Acting as a Rule's `ServiceAccount`, if its annotation allows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use parking_lot::Mutex;

use super::client::acting_as;
use super::error::{Error, Result, optional};
use crate::api::ANNOTATION;

/// How long an account is kept that nobody asks for.
const KEEP: Duration = Duration::from_secs(3600);

/// A `ServiceAccount` that the controller may act as. It can only be had by reading the annotation, so an empty or
/// forbidden identity cannot be built.
#[derive(Clone)]
pub struct Account {
    user: String,
    client: Client,
}

/// One account. Who asks while it is being read waits for the same answer.
type Slot = Arc<tokio::sync::Mutex<Known>>;

/// When the last yes was asked for, and the account, whose client outlives many a yes: connections and their queue are
/// its.
#[derive(Default)]
struct Known {
    began: Option<Instant>,
    account: Option<Account>,
}

/// Accounts as they were read last: a thousand rules of one account, looked at in the same moment, read it once.
#[derive(Default)]
pub struct Accounts {
    slots: Mutex<BTreeMap<(String, String), Slot>>,
}

impl Accounts {
    /// The account, live: by a read that begins after this call, which those who call while another is on its way share.
    pub async fn live(&self, home: &Client, namespace: &str, name: &str) -> Result<Account> {
        self.read(home, (namespace, name), Instant::now()).await
    }

    /// The account, as it was at most `age` ago.
    pub async fn recent(&self, home: &Client, namespace: &str, name: &str, age: Duration) -> Result<Account> {
        let now = Instant::now();
        self.read(home, (namespace, name), now.checked_sub(age).unwrap_or(now)).await
    }

    /// Forgets those that nobody has read, or could read, for an hour: namespaces come and go, and each account has connections of
    /// its own.
    pub fn tidy(&self) {
        let is_used = |slot: &Slot| {
            let read = slot.try_lock().map(|known| known.began.is_some_and(|began| began.elapsed() < KEEP));
            // Whoever holds it, or waits for it, has it.
            Arc::strong_count(slot) > 1 || read.unwrap_or(true)
        };
        self.slots.lock().retain(|_, slot| is_used(slot));
    }

    /// The account by a read that began at `since` or later. Only a yes is kept: a no is about to be mended.
    async fn read(&self, home: &Client, (namespace, name): (&str, &str), since: Instant) -> Result<Account> {
        let slot = self.slots.lock().entry((namespace.to_owned(), name.to_owned())).or_default().clone();
        let mut known = slot.lock().await;
        let is_fresh = known.began.is_some_and(|began| began >= since);
        if let Some(account) = known.account.as_ref().filter(|_| is_fresh) {
            return Ok(account.clone());
        }
        let began = Instant::now();
        known.began = None;
        is_allowed(home, namespace, name).await?;
        let account = match known.account.take() {
            Some(account) => account,
            None => Account::named(home, namespace, name)?,
        };
        *known = Known { began: Some(began), account: Some(account.clone()) };
        Ok(account)
    }
}

impl Account {
    /// Reads the account and its annotation, live.
    pub async fn read(home: &Client, namespace: &str, name: &str) -> Result<Self> {
        is_allowed(home, namespace, name).await?;
        Self::named(home, namespace, name)
    }

    fn named(home: &Client, namespace: &str, name: &str) -> Result<Self> {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let complete = !namespace.is_empty() && !name.is_empty();
        let header = HeaderValue::from_str(&user).ok().filter(|_| complete);
        let header = header.ok_or_else(|| Error::NotAllowed(format!("{user:?} is not an account")))?;
        Ok(Self { client: acting_as(home.clone(), header, namespace), user })
    }

    /// The user that the API server sees.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where it is and what it is called.
    pub fn namespace_and_name(&self) -> (&str, &str) {
        let rest = self.user.trim_start_matches("system:serviceaccount:");
        rest.split_once(':').unwrap_or(("", rest))
    }

    /// A client that acts as the account.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

/// Reads the account's annotation, live; an error if it does not allow.
async fn is_allowed(home: &Client, namespace: &str, name: &str) -> Result<()> {
    let api: Api<ServiceAccount> = Api::namespaced(home.clone(), namespace);
    let action = format!("read ServiceAccount {namespace}/{name}");
    let found = optional(api.get(name).await).map_err(Error::request(action))?;
    let Some(account) = found else {
        return Err(Error::NotAllowed(format!("ServiceAccount {namespace}/{name} does not exist")));
    };
    let allowed = account.metadata.annotations.and_then(|a| a.get(ANNOTATION.allow).cloned());
    if allowed.as_deref() == Some("true") {
        return Ok(());
    }
    let annotation = ANNOTATION.allow;
    Err(Error::NotAllowed(format!(
        "ServiceAccount {namespace}/{name} does not carry the annotation {annotation}: \"true\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// An API server that answers as many reads as it is let, and says whether the account is allowed at that time.
    struct Server {
        home: Client,
        reads: Arc<AtomicUsize>,
        answers: Arc<Semaphore>,
        allows: Arc<AtomicBool>,
    }

    fn server() -> Server {
        let (reads, answers) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
        let allows = Arc::new(AtomicBool::new(true));
        let (counted, let_go, allowed) = (reads.clone(), answers.clone(), allows.clone());
        let service = tower::service_fn(move |_: Request<Body>| {
            let (reads, answers, allows) = (counted.clone(), let_go.clone(), allowed.clone());
            async move {
                reads.fetch_add(1, Ordering::SeqCst);
                let annotations =
                    serde_json::json!({ANNOTATION.allow: allows.load(Ordering::SeqCst).to_string()});
                answers.acquire().await.unwrap().forget();
                let account = serde_json::json!({"metadata": {"name": "healer", "annotations": annotations}});
                let body = Body::from(account.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(Response::new(body))
            }
        });
        Server { home: Client::new(service, "a"), reads, answers, allows }
    }

    #[tokio::test]
    async fn a_live_read_is_shared_by_those_who_wait_and_by_nobody_who_comes_later() {
        let server = server();
        let accounts = Accounts::default();
        let live = || accounts.live(&server.home, "a", "healer");
        let mut first = Box::pin(live());
        assert!(futures::poll!(&mut first).is_pending(), "it is on its way");
        // That one was perhaps answered before these asked: they share another.
        let mut waiting = Box::pin(futures::future::join_all((0..10).map(|_| live())));
        assert!(futures::poll!(&mut waiting).is_pending());
        server.answers.add_permits(2);
        let (first, waiting) = futures::join!(first, waiting);
        assert!(first.is_ok() && waiting.iter().all(Result::is_ok));
        assert_eq!(server.reads.load(Ordering::SeqCst), 2);
        server.allows.store(false, Ordering::SeqCst);
        server.answers.add_permits(1);
        assert!(live().await.is_err_and(|error| error.is_forbidden()), "what was known does not count");
    }

    #[tokio::test]
    async fn what_may_not_be_used_is_forgotten_and_what_is_used_is_kept() {
        let server = server();
        server.answers.add_permits(3);
        let accounts = Accounts::default();
        assert!(accounts.live(&server.home, "a", "used").await.is_ok());
        server.allows.store(false, Ordering::SeqCst);
        for name in ["one", "two"] {
            assert!(accounts.live(&server.home, "gone", name).await.is_err());
        }
        let held = accounts.slots.lock().get(&("gone".to_owned(), "two".to_owned())).cloned();
        accounts.tidy();
        let names: Vec<_> = accounts.slots.lock().keys().map(|(_, name)| name.clone()).collect();
        assert_eq!((names, held.is_some()), (vec!["used".to_owned(), "two".to_owned()], true));
    }

    #[tokio::test]
    async fn a_recent_yes_counts_for_a_while_and_a_no_for_nobody() {
        let server = server();
        server.answers.add_permits(10);
        let accounts = Accounts::default();
        let minute = Duration::from_secs(60);
        for _ in 0..3 {
            assert!(accounts.recent(&server.home, "a", "healer", minute).await.is_ok());
        }
        assert_eq!(server.reads.load(Ordering::SeqCst), 1);
        server.allows.store(false, Ordering::SeqCst);
        assert!(accounts.recent(&server.home, "a", "healer", Duration::ZERO).await.is_err(), "too old");
        assert!(accounts.recent(&server.home, "a", "healer", minute).await.is_err(), "the yes is forgotten");
        server.allows.store(true, Ordering::SeqCst);
        assert!(accounts.recent(&server.home, "a", "healer", minute).await.is_ok(), "and so is the no");
    }
}
