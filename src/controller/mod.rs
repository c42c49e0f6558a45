//! Observe, decide, act: one file per root kind. Controllers meet only through objects.

mod action;
mod context;
mod definitions;
mod event_batch;
mod execution;
mod executions;
mod heard;
mod installed;
mod lead;
mod looks;
mod outcomes;
mod pack;
mod published;
mod queue;
pub mod receiver;
mod recheck;
mod recorder;
mod rights;
mod rule;
mod store;
mod strange;
mod sweep;
mod webhook;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::api::{
    ANNOTATION, Action, ConditionType, EventBatch, Execution, GROUP, ObjectReference, Rule, VERSION,
    condition,
};
use crate::cluster::account::Accounts;
use crate::cluster::discovery::Kinds;
use crate::cluster::error::Consequence;
use crate::cluster::events::{self, Teller};
use crate::cluster::lease::Candidate;
use crate::cluster::reviews::Reviews;
use crate::cluster::rights::LEASE;
use crate::cluster::{Result, client};
use crate::decide::episode::Caps;
use crate::decide::pod::PodPolicy;
use crate::git::{Fetcher, FetcherOptions};
use crate::journal::{Journal, Keeping};
use crate::source::shared::Watches;
use crate::source::watch::now;
use crate::telemetry::Metrics;
use context::Context;
use definitions::Definitions;
use execution::{JobWatches, Troubles, Turns};
use executions::Executions;
use looks::Looks;
use published::Published;
use queue::{Key, Kind, Queue, Requeue, Worker, queue};
use receiver::Receiver;
use recorder::Recorder;
pub use rights::lacking;
use rule::{Evaluators, Places};
use store::{About, BySubject, Store, is_status_only};

/// What Webhooks received and is kept, found by its Webhook.
type Batches = Store<EventBatch, BySubject>;
/// Rules, those that listen to the ends of another one's Executions found by that one.
type Rules = Store<Rule, BySubject>;

impl About for EventBatch {
    fn about(&self) -> Vec<&String> {
        vec![&self.spec.webhook]
    }
}

impl About for Rule {
    fn about(&self) -> Vec<&String> {
        self.spec.trigger.execution.iter().flat_map(|trigger| &trigger.rules).collect()
    }
}

/// How long the end waits for the journal: a disk that does not answer by then has had its time.
const LAST_ENTRIES: Duration = Duration::from_secs(2);
/// Reconciles that run at a time. Each mostly waits for the API server.
const CONCURRENCY: usize = 32;
/// How long a controller that stops goes on writing the Events that wait: less than it may go on without its Lease.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long one that ends by itself waits until senders have heard of it: nothing has to be done for these answers but to leave.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of its Lease.
    pub namespace: String,
    /// Its identity in the Lease.
    pub identity: String,
    /// The most that may go on at once.
    pub caps: Caps,
    /// What Actions may say about their Pods.
    pub pods: PodPolicy,
    /// Whether it listens for what Webhooks receive.
    pub receives: bool,
    /// How git repositories are fetched.
    pub git: FetcherOptions,
    /// Where it remembers what it decided, if it is to.
    pub journal: Option<Keeping>,
}

/// How far the controller has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Standing {
    /// It does not know yet whether it leads, or has not seen all of its own objects.
    #[default]
    Starting,
    /// It cannot work, for want of this.
    Lacking(String),
    /// Another leads, and it would take over.
    StandingBy,
    /// It leads and has seen everything.
    Leading,
}

/// Runs the controller until `stop`, or until it does not lead any more.
pub async fn run(
    connection: Client,
    settings: Settings,
    metrics: Arc<Metrics>,
    tell: impl Fn(Standing),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let receiver = Receiver::new(connection.clone(), metrics.clone());
    run_with(&receiver, connection, (settings, metrics), tell, (stop, std::future::ready(()))).await
}

/// The same, with what takes in Webhooks: that works from the first moment, whoever leads, and after `stop` until nothing comes
/// any more, which is when `closed` is over. When this ends without `stop`, it takes in nothing more from that moment on.
pub async fn run_with(
    receiver: &Receiver,
    connection: Client,
    (settings, metrics): (Settings, Arc<Metrics>),
    tell: impl Fn(Standing),
    (stop, closed): (CancellationToken, impl Future<Output = ()>),
) -> anyhow::Result<()> {
    let work = async move {
        let ended = Box::pin(compete(receiver, connection, (settings, metrics), tell, stop.clone())).await;
        if stop.is_cancelled() {
            // The Lease is free: whoever has it next finds what still comes in, and how many were refused.
            closed.await;
            let _ = tokio::time::timeout(LAST_WORDS, receiver.flush()).await;
        } else {
            receiver.close();
            let _ = tokio::time::timeout(LAST_ANSWERS, closed).await;
        }
        ended
    };
    tokio::select! {
        () = receiver.run() => anyhow::bail!("receiving ended by itself"),
        ended = work => ended,
    }
}

/// Waits for the Lease, and leads.
async fn compete(
    receiver: &Receiver,
    connection: Client,
    (settings, metrics): (Settings, Arc<Metrics>),
    tell: impl Fn(Standing),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let counted = client::counted(connection.clone(), metrics.clone());
    let mut candidate =
        Candidate::new(counted.clone(), &settings.namespace, LEASE, settings.identity.clone());
    // As controller-runtime has it: whoever stands by says so, so that it can be told that nobody leads.
    metrics.leads(LEASE, false);
    let election = elect(&mut candidate, &counted, &tell);
    tokio::select! {
        elected = election => elected?,
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(identity = settings.identity, "leading");
    metrics.leads(LEASE, true);
    let home = client::guarded(connection, metrics.clone(), candidate.guard());
    let (teller, writer) = events::teller();
    let mut writing = pin!(writer.run(&home));
    // Whoever leads writes it, and nobody else.
    let journal = settings.journal.clone().map(|keeping| Journal::start(keeping, now)).transpose()?;
    let recorder = Recorder::new(journal.clone());
    let began = now();
    let unled = candidate.led_before().map(|before| (before.min(began), began));
    let before = (unled, candidate.settled_before());
    let work = lead(receiver, home.clone(), (settings, before), (metrics.clone(), teller, recorder), tell);
    let (led, leads) = tokio::select! {
        lacks = work => {
            receiver.close();
            (Err(anyhow::anyhow!("fother's kinds cannot be used any more: {}", lacks?)), true)
        }
        () = candidate.keep() => {
            // At once, whatever else there is to end: this process writes nothing any more.
            receiver.close();
            (Err(anyhow::anyhow!("the lease was lost: another controller may lead now")), false)
        }
        () = stop.cancelled() => (Ok(()), true),
        () = &mut writing => anyhow::bail!("the work ended by itself"),
    };
    metrics.leads(LEASE, false);
    if leads {
        // The work, and with it the teller, is gone. What it has said is written before another leads.
        if tokio::time::timeout(LAST_WORDS, writing).await.is_err() {
            tracing::warn!("not all Events were written in {LAST_WORDS:?}");
        }
        match tokio::time::timeout(LAST_WORDS, candidate.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease is not given up; it runs out"),
            Err(_) => tracing::warn!("no answer in {LAST_WORDS:?}, so the lease may run out"),
        }
    }
    if let Some(journal) = journal {
        tokio::task::spawn_blocking(move || journal.close(LAST_ENTRIES)).await?;
    }
    led
}

/// Waits until this process leads, with kinds that it can use.
async fn elect(candidate: &mut Candidate, counted: &Client, tell: &impl Fn(Standing)) -> anyhow::Result<()> {
    loop {
        let good_at = installed::wait(counted, tell).await;
        candidate.acquire(|| tell(Standing::StandingBy)).await;
        tell(Standing::Starting);
        if !installed::are_older(counted, good_at).await {
            return Ok(());
        }
        // They have become so while another led.
        candidate.release().await?;
    }
}

/// From when to when nobody led, and until when somebody had so that nothing is left over; none if nobody knows.
type Before = (Option<(Timestamp, Timestamp)>, Option<Timestamp>);

/// Does the work of whoever leads, until fother's kinds cannot be used any more; gives what is wrong with them.
async fn lead(
    receiver: &Receiver,
    home: Client,
    (settings, (unled, settled)): (Settings, Before),
    (metrics, teller, journal): (Arc<Metrics>, Teller, Recorder),
    tell: impl Fn(Standing),
) -> anyhow::Result<String> {
    let (queue, worker) = queue(CONCURRENCY, metrics.work.clone());
    let context = Arc::new(Context {
        home: home.clone(),
        kinds: Kinds::default(),
        published: Published::default(),
        accounts: Accounts::default(),
        teller,
        reviews: Reviews::default(),
        watches: Watches::default(),
        evaluators: Evaluators::default(),
        packs: Store::new(),
        rules: Store::new(),
        actions: Store::new(),
        executions: Executions::new(),
        webhooks: receiver.webhooks(),
        batches: receiver.batches(),
        known: receiver.known(),
        pending: outcomes::Pending::default(),
        listening: receiver.listening(),
        unheard: receiver.unheard(),
        unled,
        settled,
        queue: queue.clone(),
        caps: settings.caps,
        pods: settings.pods,
        receives: settings.receives,
        fetcher: Fetcher::new(settings.git),
        metrics,
        journal,
        turns: Turns::default(),
        definitions: Definitions::default(),
        places: Places::default(),
        troubles: Troubles::default(),
        looks: Looks::default(),
        jobs: JobWatches::default(),
    });
    let followed = follow(&context, &home, &queue);
    let work = async {
        context.packs.synced().await;
        context.actions.synced().await;
        context.executions.synced().await;
        context.webhooks.synced().await;
        context.batches.synced().await;
        context.rules.synced().await;
        context.unheard.leads(now());
        receiver.tell(&queue);
        tell(Standing::Leading);
        // Each of the first three goes on for ever: if one ends, the process has to say so instead of leading without acting.
        tokio::select! {
            () = reconcile_all(context.clone(), worker) => None,
            () = sweep::run(&context) => None,
            () = gauges(&context) => None,
            lacks = installed::watch(&home, &tell) => Some(lacks),
        }
    };
    let lacks = tokio::select! {
        () = followed => None,
        lacks = work => lacks,
    };
    lacks.context("the work ended by itself")
}

/// Keeps the gauges that follow from what there is.
async fn gauges(context: &Context) {
    let mut tick = tokio::time::interval(Duration::from_secs(15));
    loop {
        tick.tick().await;
        let rules = context.rules.filter(|_| true);
        context.metrics.unindexed(context.watches.always());
        let rules = rules.iter().map(|rule| {
            let conditions = rule.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
            let ready =
                condition(conditions, ConditionType::Ready).map_or("Unknown", |ready| ready.status.as_str());
            let revision = rule.annotations().get(ANNOTATION.revision).cloned().unwrap_or_default();
            [
                namespace_of(&**rule),
                rule.name_any(),
                format!("{:?}", rule.spec.mode),
                ready.to_owned(),
                revision,
            ]
        });
        // What is run by hand is an Action, and may be gone before the run is.
        let actions = context.actions.filter(|_| true);
        let runs = context.executions.filter(|execution| execution.rule().is_none());
        let by_hand = actions.iter().map(|action| namespace_of(&**action));
        context.metrics.rules(rules, by_hand.chain(runs.iter().map(|run| namespace_of(&**run))));
        let packs = context.packs.filter(|_| true);
        context.metrics.packs(packs.iter().map(|pack| pack::info(pack)));
        let webhooks = context.webhooks.filter(|_| true);
        context.metrics.webhooks(webhooks.iter().map(|webhook| webhook::info(webhook)));
        context.metrics.held(context.evaluators.held());
        if let Some(health) = context.journal.health() {
            let entries = [health.written, health.failed, health.dropped];
            context.metrics.journal.stands(entries, health.size, health.trouble.is_some());
        }
        let running = context.executions.filter(|execution| !execution.is_finished());
        context.metrics.active(running.iter().map(|execution| {
            [namespace_of(&**execution), execution.reason().unwrap_or("Pending").to_owned()]
        }));
    }
}

/// Watches fother's own objects.
async fn follow(context: &Arc<Context>, home: &Client, queue: &Queue) {
    let add = |kind: Kind| {
        let queue = queue.clone();
        move |namespace: &str, name: &str| queue.add(kind, namespace, name)
    };
    let (pack, rule, execution) = (add(Kind::Pack), add(Kind::Rule), add(Kind::Execution));
    let rule_of_execution = add(Kind::Rule);
    let packs = context.packs.clone().follow(
        home.clone(),
        move |before, o| {
            if !is_status_only(before, o) {
                pack(&namespace_of(o), &o.name_any());
            }
        },
        add(Kind::Pack),
    );
    let (named_by, action) = (context.clone(), add(Kind::Action));
    let actions = context.actions.clone().follow(
        home.clone(),
        move |before, o| {
            if !is_status_only(before, o) {
                action(&namespace_of(o), &o.name_any());
                wake_those_that_run(&named_by, o);
            }
        },
        add(Kind::Action),
    );
    let followed = context.clone();
    let executions = context.executions.clone().follow(
        home.clone(),
        move |before, o| {
            let before =
                before.filter(|_| followed.executions.get(&namespace_of(o), &o.name_any()).is_some());
            if !is_echo(before, o) {
                execution(&namespace_of(o), &o.name_any());
            }
            if let Some(name) = o.rule().filter(|_| !goes_on(before, o)) {
                rule_of_execution(&namespace_of(o), name);
                if o.is_finished() {
                    wake_those_that_follow(&followed, o, name);
                }
            }
        },
        add(Kind::Execution),
    );
    let rules = context.rules.clone().follow(
        home.clone(),
        move |before, o| {
            if !is_status_only(before, o) {
                rule(&namespace_of(o), &o.name_any());
            }
        },
        add(Kind::Rule),
    );
    tokio::join!(packs, actions, executions, rules);
}

/// Whether the watch brings what this controller has written, and knows already: whoever wrote it has gone on from there.
fn is_echo(before: Option<&Execution>, execution: &Execution) -> bool {
    before.is_some_and(|before| before.resource_version() == execution.resource_version())
}

/// Whether an Execution runs as it did before, further on maybe: that is nothing to its Rule.
fn goes_on(before: Option<&Execution>, execution: &Execution) -> bool {
    before.is_some_and(|before| !before.is_finished()) && !execution.is_finished()
}

/// Wakes the Rules that listen to the ends of another one's Executions.
fn wake_those_that_follow(context: &Context, execution: &Execution, leader: &str) {
    let namespace = namespace_of(execution);
    for rule in context.rules.about(&namespace, leader) {
        context.queue.add(Kind::Rule, &namespace, &rule.name_any());
    }
}

/// Wakes the Rules that name an Action, and the Executions by hand that have not ended.
fn wake_those_that_run(context: &Context, action: &Action) {
    let (namespace, name) = (namespace_of(action), action.name_any());
    let names_it = |rule: &Rule| rule.spec.ladder.iter().any(|rung| rung.run == name);
    for rule in context.rules.filter(|rule| namespace_of(rule) == namespace && names_it(rule)) {
        context.queue.add(Kind::Rule, &namespace, &rule.name_any());
    }
    let runs_it = |e: &Execution| e.spec.run.as_ref() == Some(&name) && !e.is_finished();
    for execution in context.executions.filter(|e| namespace_of(e) == namespace && runs_it(e)) {
        context.queue.add(Kind::Execution, &namespace, &execution.name_any());
    }
}

fn namespace_of(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_default()
}

async fn reconcile_all(context: Arc<Context>, worker: Worker) {
    worker
        .run(move |key| {
            let (context, span) = (context.clone(), span(&key));
            let work = async move {
                let result = reconcile(&context, &key).await;
                settle(&context, &key, result)
            };
            work.instrument(span)
        })
        .await;
}

/// What logs say of whatever happens in a reconcile.
fn span(Key { kind, namespace, name }: &Key) -> Span {
    match kind {
        Kind::Pack => tracing::info_span!("reconcile", namespace, pack = name),
        Kind::Rule => tracing::info_span!("reconcile", namespace, rule = name),
        Kind::Action => tracing::info_span!("reconcile", namespace, action = name),
        Kind::Execution => tracing::info_span!("reconcile", namespace, execution = name),
        Kind::Webhook => tracing::info_span!("reconcile", namespace, webhook = name),
        Kind::EventBatch => tracing::info_span!("reconcile", namespace, event_batch = name),
    }
}

async fn reconcile(context: &Context, Key { kind, namespace, name }: &Key) -> Result<Requeue> {
    if let Some((object, error)) = unreadable(context, *kind, namespace, name) {
        return strange::say(context, *kind, &object, &error).await;
    }
    // Boxed where it begins: what they wait for is large, and would be moved along with whatever wraps it.
    let work = match kind {
        Kind::Pack => pack::reconcile(context, namespace, name).boxed(),
        Kind::Rule => rule::reconcile(context, namespace, name).boxed(),
        Kind::Action => action::reconcile(context, namespace, name).boxed(),
        Kind::Execution => execution::reconcile(context, namespace, name).boxed(),
        Kind::Webhook => webhook::reconcile(context, namespace, name).boxed(),
        Kind::EventBatch => event_batch::reconcile(context, namespace, name).boxed(),
    };
    work.await
}

fn unreadable(context: &Context, kind: Kind, namespace: &str, name: &str) -> Option<(Arc<Value>, String)> {
    match kind {
        Kind::Pack => context.packs.unreadable(namespace, name),
        Kind::Rule => context.rules.unreadable(namespace, name),
        Kind::Action => context.actions.unreadable(namespace, name),
        Kind::Execution => context.executions.unreadable(namespace, name),
        Kind::Webhook => context.webhooks.unreadable(namespace, name),
        // It has no conditions: nobody but fother writes it, and its log says so.
        Kind::EventBatch => None,
    }
}

/// What follows from the result of a reconcile.
fn settle(context: &Context, key: &Key, result: Result<Requeue>) -> Requeue {
    let controller = key.kind.as_str();
    match result {
        Ok(requeue) => {
            context.metrics.work.reconciled(controller, "success");
            requeue
        }
        Err(error) if error.is_conflict() => {
            context.metrics.work.reconciled(controller, "requeue");
            tracing::debug!(controller, namespace = key.namespace, name = key.name, %error, "somebody was faster");
            Requeue::Failed
        }
        Err(error) => {
            context.metrics.work.reconciled(controller, "error");
            tracing::warn!(controller, namespace = key.namespace, name = key.name, %error, "reconcile failed");
            match error.consequence() {
                Consequence::Retry => Requeue::Failed,
                Consequence::Wait(pause) => Requeue::After(pause),
            }
        }
    }
}

/// What an Execution is referred to by.
fn reference_to(execution: &Execution) -> ObjectReference {
    ObjectReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "Execution".to_owned(),
        namespace: execution.namespace(),
        name: execution.name_any(),
        uid: execution.metadata.uid.clone(),
    }
}
