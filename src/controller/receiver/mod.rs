//! What comes in through Webhooks: any replica takes it, leader or not. An answer of success is given only once the
//! events are in the API server; the leader finds them there.
//!
//! ```text
//! request ─▶ credentials ─▶ body ─▶ signature ─▶ rate ─▶ events ─▶ wanted? ─▶ new? ─▶ EventBatch ─▶ 2xx
//! ```

mod absent;
mod accept;
mod answer;
mod known;
mod listening;
mod origin;
mod secret;
mod senders;
mod takers;
mod tally;
mod unheard;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use k8s_openapi::jiff::SignedDuration;
use kube::{Client, ResourceExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Batches;
use super::queue::{Kind, Queue};
use super::store::{Store, is_status_only};
use crate::api::{EventBatch, Rule, Webhook};
use crate::cluster::client;
use crate::decide::hearing::{COMES_AGAIN, UNDER_WAY};
use crate::decide::owed::{self, settled_at};
use crate::source::watch::now;
use crate::source::webhook::has_credentials;
use crate::telemetry::Metrics;
use absent::Absences;
pub use answer::{Answer, Refusal};
pub use known::Known;
pub use listening::Listening;
pub use origin::network;
use secret::{Secrets, UNREAD};
use senders::Senders;
use takers::Takers;
use tally::Tally;
pub use unheard::Unheard;

/// Bodies that are parsed at a time: a megabyte of brackets takes many as objects.
const PARSING: usize = 4;
/// Requests whose events are written at a time: for so many there is room beyond the last.
const WRITING: usize = 16;

/// Namespace and name.
type Key = (String, String);

/// Takes in what Webhooks receive.
pub struct Receiver {
    home: Client,
    metrics: Arc<Metrics>,
    webhooks: Store<Webhook>,
    rules: Store<Rule>,
    batches: Batches,
    listening: Listening,
    known: Known,
    unheard: Unheard,
    absences: Absences,
    secrets: Secrets,
    senders: Senders,
    takers: Takers,
    tally: Tally,
    parsing: Semaphore,
    writing: Semaphore,
    /// Where the leader hears of what came, once this process leads.
    queue: OnceLock<Queue>,
    /// Cancelled when nothing is taken in any more.
    closed: CancellationToken,
}

/// A Webhook that is about to receive a body.
pub struct Open {
    webhook: Arc<Webhook>,
    sender: IpAddr,
}

impl Open {
    /// The largest body that it takes.
    pub fn max_body(&self) -> usize {
        self.webhook.spec.max_body()
    }

    /// Namespace and name of the Webhook.
    pub fn webhook(&self) -> (String, String) {
        key_of(&self.webhook)
    }

    /// Where the connection comes from.
    pub fn sender(&self) -> IpAddr {
        self.sender
    }

    /// Whether the sender has proven himself without a body: a signature is over the body.
    pub fn is_proven(&self) -> bool {
        self.webhook.spec.authentication.hmac.is_none()
    }
}

impl Receiver {
    /// One that keeps events by this connection.
    pub fn new(connection: Client, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with(connection, metrics, (COMES_AGAIN, UNDER_WAY))
    }

    /// The same, whose senders come again within a time if nobody heard them, and of whom something may be under way so
    /// long that was received and is not kept yet.
    pub fn with(
        connection: Client,
        metrics: Arc<Metrics>,
        (comes_again, under_way): (SignedDuration, SignedDuration),
    ) -> Arc<Self> {
        Arc::new(Self {
            home: client::counted(connection, metrics.clone()),
            metrics,
            webhooks: Store::new(),
            rules: Store::new(),
            batches: Store::new(),
            listening: Listening::default(),
            known: Known::default(),
            unheard: Unheard::new(comes_again, under_way),
            absences: Absences::default(),
            secrets: Secrets::default(),
            senders: Senders::default(),
            takers: Takers::default(),
            tally: Tally::default(),
            parsing: Semaphore::new(PARSING),
            writing: Semaphore::new(WRITING),
            queue: OnceLock::new(),
            closed: CancellationToken::new(),
        })
    }

    /// Takes in nothing any more, and writes nothing: whoever waits for an answer is told to come again.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Waits until nothing is taken in any more, and says what senders hear then. Nobody counts it: whoever leads next knows that
    /// some may have come in vain before he did.
    pub async fn closed(&self) -> Answer {
        self.closed.cancelled().await;
        Answer::later("this replica ends; retry")
    }

    /// Webhooks, as last seen.
    pub(super) fn webhooks(&self) -> Store<Webhook> {
        self.webhooks.clone()
    }

    /// What was received and is kept, as last seen.
    pub(super) fn batches(&self) -> Batches {
        self.batches.clone()
    }

    /// How much of it there is.
    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    /// Who listens to what comes.
    pub(super) fn listening(&self) -> Listening {
        self.listening.clone()
    }

    /// Since when everybody is heard.
    pub(super) fn unheard(&self) -> Unheard {
        self.unheard.clone()
    }

    /// Tells the leader's queue from now on, and of all there is already.
    pub(super) fn tell(&self, queue: &Queue) {
        if self.queue.set(queue.clone()).is_ok() {
            self.webhooks.filter(|_| true).iter().for_each(|webhook| self.tell_of_webhook(None, webhook));
            self.batches.filter(|_| true).iter().for_each(|batch| self.tell_of_batch(None, batch));
        }
    }

    /// Follows Webhooks, rules and what is kept, and writes down what came, for ever; once it is closed it does nothing.
    pub(super) async fn run(&self) {
        let webhooks = self.webhooks.clone().follow(
            self.home.clone(),
            |before, webhook| {
                if let Some((before, status)) =
                    before.and_then(|b| b.status.as_ref()).zip(webhook.status.as_ref())
                {
                    self.unheard.counted(key_of(webhook), before, status, now());
                }
                self.tell_of_webhook(before, webhook);
            },
            |namespace, name| {
                // Whoever leads says so on it.
                if let Some(queue) = self.queue.get() {
                    queue.add(Kind::Webhook, namespace, name);
                }
            },
        );
        let rules = self.rules.clone().follow(
            self.home.clone(),
            |before, rule| {
                if !is_status_only(before, rule) {
                    self.learn(before, rule);
                }
            },
            |_, _| (),
        );
        let batches = self.batches.clone().follow(
            self.home.clone(),
            |before, batch| {
                let kept = self.batches.get(&batch.namespace().unwrap_or_default(), &batch.name_any());
                self.known.learn(batch, kept);
                self.tell_of_batch(before, batch);
            },
            |namespace, name| tracing::error!(namespace, name, "an EventBatch cannot be read"),
        );
        let work = async { tokio::join!(webhooks, rules, batches, self.tally.run(self)) };
        tokio::select! {
            biased;
            _ = self.closed() => std::future::pending().await,
            _ = work => {}
        }
    }

    fn tell_of_webhook(&self, before: Option<&Webhook>, webhook: &Webhook) {
        let Some(queue) = self.queue.get().filter(|_| !is_status_only(before, webhook)) else { return };
        let (namespace, name) = (webhook.namespace().unwrap_or_default(), webhook.name_any());
        queue.add(Kind::Webhook, &namespace, &name);
        for rule in self.listening.rules(&(namespace.clone(), name)) {
            queue.add(Kind::Rule, &namespace, &rule);
        }
    }

    /// Tells whoever leads of a batch, and the Rules that it concerns: those that it is listed for or that have taken up what
    /// is in it, those that hold the same alerts by other batches, and those that may match as this process knows them. Whoever
    /// accepted it may not have heard of a Rule that was mended.
    fn tell_of_batch(&self, before: Option<&EventBatch>, batch: &EventBatch) {
        let Some(queue) = self.queue.get() else { return };
        let (namespace, webhook) = (batch.namespace().unwrap_or_default(), &batch.spec.webhook);
        queue.add(Kind::EventBatch, &namespace, &batch.name_any());
        if settled_at(batch).is_some() {
            return;
        }
        let tell =
            |rules: BTreeSet<&str>| rules.iter().for_each(|rule| queue.add(Kind::Rule, &namespace, rule));
        tell(owed::waiting(batch));
        // What is in it has not changed, and what has become of it they have said themselves.
        if is_status_only(before, batch) {
            return;
        }
        let key = (namespace.clone(), webhook.clone());
        let alerts = batch.spec.events.iter().filter_map(|event| Some((event, event.alert.as_ref()?)));
        let mut others = BTreeSet::new();
        for (accepted, alert) in alerts {
            others.extend(self.known.holding((&namespace, webhook), &alert.fingerprint));
            if alert.ends_at.is_none() {
                let wanting = self.listening.wanting(&key, &accepted.event, Some(alert));
                tell(wanting.iter().map(String::as_str).collect());
            }
        }
        for other in others.iter().filter_map(|(namespace, name)| self.batches.get(namespace, name)) {
            queue.add(Kind::EventBatch, &namespace, &other.name_any());
            tell(owed::waiting(&other));
        }
    }

    /// Takes in what a rule wants by now, and has it look at what is kept: what came meanwhile is listed for what it was.
    fn learn(&self, before: Option<&Rule>, rule: &Rule) {
        let (namespace, name) = (rule.namespace().unwrap_or_default(), rule.name_any());
        let current = self.rules.get(&namespace, &name);
        self.listening.learn([before, Some(rule)], current.as_deref());
        if current.is_none() {
            self.takers.forget(rule);
        }
        let listens = rule.spec.trigger.alert.is_some();
        if let Some(queue) = self.queue.get().filter(|_| listens) {
            queue.add(Kind::Rule, &namespace, &name);
        }
    }

    /// Looks at a request before its body is read: whether there is such a Webhook, and whether the sender has shown
    /// anything to prove himself with.
    ///
    /// # Errors
    /// The answer, if that is all there is to say.
    pub async fn open(
        &self,
        (namespace, name): (&str, &str),
        headers: &HeaderMap,
        sender: IpAddr,
    ) -> Result<Open, Answer> {
        if !(self.webhooks.is_synced() && self.rules.is_synced() && self.batches.is_synced()) {
            self.turned_away(Refusal::NotReady);
            return Err(Answer::later("not in sync yet; retry"));
        }
        let Some(webhook) = self.webhooks.get(namespace, name) else {
            return Err(self.unknown(namespace, name).await);
        };
        // It may be what was to keep this sender out.
        if self.webhooks.unknown_field(namespace, name).is_some() {
            let text = "the Webhook has a field that is not known here, its status says which; retry";
            return Err(self.unusable((namespace, name), text));
        }
        self.admit(Open { webhook, sender }, headers).await
    }

    /// Whether the sender has shown anything to prove himself with, by the secret as it was read or as it is now.
    async fn admit(&self, open: Open, headers: &HeaderMap) -> Result<Open, Answer> {
        let secret = self.secrets.get(&self.home, &open.webhook).await.map_err(|_| self.unready(&open))?;
        match has_credentials(&open.webhook.spec, &secret, headers) {
            Ok(()) => Ok(open),
            // The token may be a new one, of which the secret that was read does not know.
            Err(text) => match self.secrets.renewed(&self.home, &open.webhook).await {
                Ok(Some(secret)) if has_credentials(&open.webhook.spec, &secret, headers).is_ok() => Ok(open),
                Ok(_) => Err(self.refuse(open.webhook(), Refusal::Unauthenticated, &text)),
                Err(_) => Err(self.refuse(open.webhook(), Refusal::NotReady, UNREAD)),
            },
        }
    }

    /// The answer where this process has no Webhook of the name that it can use.
    async fn unknown(&self, namespace: &str, name: &str) -> Answer {
        if self.webhooks.unreadable(namespace, name).is_some() {
            return self
                .unusable((namespace, name), "the Webhook cannot be read, its status says why; retry");
        }
        match self.absences.is_absent(&self.home, (namespace, name)).await {
            Ok(true) => Answer::not_found(&format!("no Webhook {name:?} in namespace {namespace:?}")),
            Ok(false) => self.unusable((namespace, name), "the Webhook is new here; retry"),
            // Not counted: anybody can bring this about, for a name that nobody has.
            Err(_) => Answer::later("it is not known whether there is such a Webhook; retry"),
        }
    }

    fn unusable(&self, (namespace, name): (&str, &str), text: &str) -> Answer {
        self.refuse((namespace.to_owned(), name.to_owned()), Refusal::NotReady, text)
    }

    fn unready(&self, open: &Open) -> Answer {
        self.refuse(open.webhook(), Refusal::NotReady, "the Webhook is not ready, its status says why; retry")
    }

    /// Writes what was counted and is not written yet, unless nothing may be written any more.
    pub(super) async fn flush(&self) {
        if !self.closed.is_cancelled() {
            self.tally.flush(self).await;
        }
    }

    /// Somebody was told to come again of whom is not known to which Webhook he came: it may have been any.
    pub fn turned_away(&self, refusal: Refusal) {
        self.unheard.turned_away(now());
        self.tally.turned_away(refusal);
        self.metrics.received("webhook", "rejected", now().as_second());
    }

    /// Counts a refusal, and words it.
    fn refuse(&self, webhook: Key, refusal: Refusal, text: &str) -> Answer {
        self.tally.refused(webhook.clone(), refusal);
        self.unheard.refused(webhook, refusal, now());
        self.metrics.received("webhook", "rejected", now().as_second());
        Answer::refusal(refusal, text)
    }

    /// Words and counts what is wrong with a body before it was read as a whole.
    pub fn refuse_body(&self, open: &Open, refusal: Refusal, text: &str) -> Answer {
        self.refuse(open.webhook(), refusal, text)
    }
}

fn key_of(webhook: &Webhook) -> Key {
    (webhook.namespace().unwrap_or_default(), webhook.name_any())
}
