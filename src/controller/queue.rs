//! What is to be reconciled, and when: each key at most once at a time, however often it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::telemetry::{Backlog, Work};

/// An object to reconcile: its kind, namespace and name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// Which reconciler.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The root kinds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Pack.
    Pack,
    /// Rule.
    Rule,
    /// Action.
    Action,
    /// Execution.
    Execution,
    /// Webhook.
    Webhook,
    /// `EventBatch`.
    EventBatch,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 6] =
        [Self::Pack, Self::Rule, Self::Action, Self::Execution, Self::Webhook, Self::EventBatch];

    /// The name of its controller, in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Rule => "rule",
            Self::Action => "action",
            Self::Execution => "execution",
            Self::Webhook => "webhook",
            Self::EventBatch => "eventbatch",
        }
    }
}

/// The longest pause after failures.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// The first pause after a failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// How often the metrics show how much there is to do.
const SAMPLE: Duration = Duration::from_secs(5);

/// When a key is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Requeue {
    /// When something changes.
    OnChange,
    /// After a time, or earlier if something changes.
    After(Duration),
    /// It failed: after a pause that grows with each failure in a row.
    Failed,
}

/// Where keys are put in.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::UnboundedSender<(Key, Instant)>,
}

/// Where keys come out.
pub struct Worker {
    receiver: mpsc::UnboundedReceiver<(Key, Instant)>,
    due: Due,
    /// What was asked for of those that are running: it comes when they have ended.
    again: BTreeMap<Key, Instant>,
    /// And since when.
    running: BTreeMap<Key, Instant>,
    failures: BTreeMap<Key, u32>,
    concurrency: usize,
    metrics: Work,
}

/// Keys and when they are due, in both orders: thousands wait for a time of theirs.
#[derive(Default)]
struct Due {
    at: BTreeMap<Key, Instant>,
    order: BTreeSet<(Instant, Key)>,
}

impl Due {
    /// Puts a key in, or forward. Says whether it was not so soon before.
    fn ask(&mut self, key: Key, at: Instant) -> bool {
        if self.at.get(&key).is_some_and(|known| *known <= at) {
            return false;
        }
        if let Some(known) = self.at.insert(key.clone(), at) {
            self.order.remove(&(known, key.clone()));
        }
        self.order.insert((at, key))
    }

    /// When the first is due, of those that may begin.
    fn next(&self, may_begin: impl Fn(&Key) -> bool) -> Option<Instant> {
        self.order.iter().find(|(_, key)| may_begin(key)).map(|(at, _)| *at)
    }

    /// Takes out the first that may begin, if it is due.
    fn take(&mut self, now: Instant, may_begin: impl Fn(&Key) -> bool) -> Option<(Instant, Key)> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now);
        let (at, key) = due.into_iter().find(|(_, key)| may_begin(key))?.clone();
        self.order.remove(&(at, key.clone()));
        self.at.remove(&key);
        Some((at, key))
    }
}

/// A queue whose worker runs at most so many reconciles at a time.
pub fn queue(concurrency: usize, metrics: Work) -> (Queue, Worker) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let worker = Worker {
        receiver,
        due: Due::default(),
        again: BTreeMap::new(),
        running: BTreeMap::new(),
        failures: BTreeMap::new(),
        concurrency,
        metrics,
    };
    (Queue { sender }, worker)
}

impl Queue {
    /// Asks for a reconcile now.
    pub fn add(&self, kind: Kind, namespace: &str, name: &str) {
        self.add_in(kind, (namespace, name), Duration::ZERO);
    }

    /// Asks for a reconcile after a pause.
    pub fn add_in(&self, kind: Kind, (namespace, name): (&str, &str), pause: Duration) {
        let key = Key { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        // The worker is gone only when the process ends.
        let _ = self.sender.send((key, Instant::now() + pause));
    }
}

impl Worker {
    /// Reconciles for ever.
    pub async fn run<F, R>(mut self, reconcile: F)
    where
        F: Fn(Key) -> R,
        R: Future<Output = Requeue> + Send + 'static,
    {
        let mut tasks: JoinSet<(Key, Option<Requeue>)> = JoinSet::new();
        let mut sample = tokio::time::interval(SAMPLE);
        loop {
            while let Some(key) = self.next_due() {
                let (name, work) = (key.clone(), reconcile(key));
                tasks.spawn(async move { (name, contained(work).await) });
            }
            let wake = self.wake_at();
            tokio::select! {
                asked = self.receiver.recv() => match asked {
                    Some((key, at)) => self.ask(key, at),
                    None => return,
                },
                Some(ended) = tasks.join_next() => match ended {
                    Ok((key, None)) => {
                        tracing::error!(?key, "the reconcile panicked: this is a bug, please report it");
                        self.ended(key, Requeue::Failed);
                    }
                    Ok((key, Some(requeue))) => self.ended(key, requeue),
                    Err(error) => return tracing::error!(%error, "a reconcile was aborted"),
                },
                () = tokio::time::sleep_until(wake) => {}
                _ = sample.tick() => self.measure(),
            }
        }
    }

    fn ask(&mut self, key: Key, at: Instant) {
        let controller = key.kind.as_str();
        let is_news = if self.running.contains_key(&key) {
            let known = self.again.get(&key).copied();
            self.again.insert(key, known.map_or(at, |known| known.min(at)));
            known.is_none_or(|known| at < known)
        } else {
            self.due.ask(key, at)
        };
        if is_news {
            self.metrics.added(controller);
        }
    }

    /// Shows how much there is to do.
    fn measure(&self) {
        let now = Instant::now();
        for kind in Kind::ALL {
            let of_kind = |key: &Key| key.kind == kind;
            let waiting = self.due.order.iter().map(|(at, key)| (key, at)).chain(&self.again);
            let waiting = waiting.filter(|(key, at)| of_kind(key) && **at <= now);
            let running = self.running.iter().filter(|(key, _)| of_kind(key));
            let ages: Vec<Duration> = running.map(|(_, since)| now.duration_since(*since)).collect();
            let backlog = Backlog {
                waiting: waiting.count(),
                running: ages.len(),
                unfinished: ages.iter().sum(),
                longest: ages.iter().max().copied().unwrap_or_default(),
            };
            self.metrics.stands(kind.as_str(), backlog);
        }
    }

    fn next_due(&mut self) -> Option<Key> {
        if self.running.len() >= self.concurrency {
            return None;
        }
        let (now, has_room) = (Instant::now(), self.has_room_for_packs());
        let (at, key) = self.due.take(now, |key| has_room || key.kind != Kind::Pack)?;
        self.running.insert(key.clone(), now);
        self.metrics.began(key.kind.as_str(), now.duration_since(at));
        Some(key)
    }

    fn wake_at(&self) -> Instant {
        let full = self.running.len() >= self.concurrency;
        let has_room = self.has_room_for_packs();
        let next = self.due.next(|key| has_room || key.kind != Kind::Pack);
        next.filter(|_| !full).unwrap_or_else(|| Instant::now() + LONGEST_BACKOFF)
    }

    /// A git server that does not answer holds each Pack for minutes: three quarters of the places are not for them.
    fn has_room_for_packs(&self) -> bool {
        let packs = self.running.keys().filter(|key| key.kind == Kind::Pack).count();
        packs < (self.concurrency / 4).max(1)
    }

    fn ended(&mut self, key: Key, requeue: Requeue) {
        if let Some(since) = self.running.remove(&key) {
            self.metrics.ended(key.kind.as_str(), since.elapsed());
        }
        let pause = match requeue {
            Requeue::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                self.metrics.retried(key.kind.as_str());
                Some(FIRST_BACKOFF.saturating_mul(1 << (*failures).min(7)).min(LONGEST_BACKOFF))
            }
            Requeue::After(pause) => {
                self.failures.remove(&key);
                Some(pause)
            }
            Requeue::OnChange => {
                self.failures.remove(&key);
                None
            }
        };
        if let Some(at) = self.again.remove(&key) {
            self.due.ask(key.clone(), at);
        }
        if let Some(pause) = pause {
            self.ask(key, Instant::now() + pause);
        }
    }
}

/// An object whose reconcile panics blocks only itself: none then, and the others go on.
async fn contained(work: impl Future<Output = Requeue>) -> Option<Requeue> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn key(name: &str) -> Key {
        Key { kind: Kind::Rule, namespace: "a".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn packs_that_wait_for_a_git_server_leave_room_for_others() {
        let (queue, worker) = queue(4, Metrics::default().work);
        let (log, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(tokio::sync::Semaphore::new(0)));
        for name in ["one", "two", "three", "four", "five"] {
            queue.add(Kind::Pack, "a", name);
        }
        queue.add(Kind::Rule, "a", "rule");
        let (began, opened) = (log.clone(), gate.clone());
        let running = tokio::spawn(worker.run(move |key: Key| {
            let (log, gate) = (began.clone(), opened.clone());
            async move {
                log.lock().push(key.name.clone());
                if key.kind == Kind::Pack {
                    gate.acquire().await.expect("open").forget();
                }
                Requeue::OnChange
            }
        }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*log.lock(), ["one", "rule"], "one pack, and what is no pack");
        gate.add_permits(5);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(log.lock().len(), 6, "all have their turn");
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_for_its_pause_and_not_longer_than_the_shortest() {
        let (queue, worker) = queue(1, Metrics::default().work);
        let (began, log) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        for seconds in [9, 3, 5] {
            queue.add_in(Kind::Rule, ("a", "x"), Duration::from_secs(seconds));
        }
        let seen = log.clone();
        let run = worker.run(move |_| {
            seen.lock().push(began.elapsed().as_secs());
            std::future::ready(Requeue::OnChange)
        });
        let _ = tokio::time::timeout(Duration::from_secs(60), run).await;
        assert_eq!(*log.lock(), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_asked_for_many_times_runs_once_and_never_twice_at_a_time() {
        let (queue, worker) = queue(8, Metrics::default().work);
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        for _ in 0..5 {
            queue.add(Kind::Rule, "a", "x");
        }
        let again = queue.clone();
        let run = worker.run(move |key| {
            let (log, queue) = (seen.clone(), again.clone());
            async move {
                let first = log.lock().is_empty();
                log.lock().push(format!("begin {}", key.name));
                if first {
                    queue.add(Kind::Rule, "a", "x");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                log.lock().push(format!("end {}", key.name));
                Requeue::OnChange
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(60), run).await;
        assert_eq!(*log.lock(), ["begin x", "end x", "begin x", "end x"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer() {
        let (queue, worker) = queue(1, Metrics::default().work);
        let (times, started) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        let seen = times.clone();
        queue.add(Kind::Rule, "a", "x");
        let run = worker.run(move |_| {
            seen.lock().push(started.elapsed().as_secs());
            std::future::ready(Requeue::Failed)
        });
        let _ = tokio::time::timeout(Duration::from_secs(100), run).await;
        assert_eq!(*times.lock(), [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconcile_that_panics_stops_no_other() {
        let (queue, worker) = queue(1, Metrics::default().work);
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        queue.add(Kind::Rule, "a", "poison");
        queue.add(Kind::Rule, "a", "x");
        let run = worker.run(move |key| {
            seen.lock().push(key.name.clone());
            async move {
                assert_ne!(key.name, "poison");
                Requeue::OnChange
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(2), run).await;
        assert_eq!(*log.lock(), ["poison", "x", "poison"]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_measured() {
        let metrics = Metrics::default();
        let (queue, worker) = queue(1, metrics.work.clone());
        queue.add(Kind::Rule, "a", "long");
        queue.add(Kind::Rule, "a", "waits");
        let run = worker.run(async |key: Key| {
            if key.name == "long" {
                tokio::time::sleep(Duration::from_secs(7)).await;
            }
            Requeue::Failed
        });
        let _ = tokio::time::timeout(Duration::from_millis(6500), run).await;
        let text = metrics.render();
        for line in [
            "workqueue_adds_total{name=\"rule\"} 2",
            "workqueue_depth{name=\"rule\"} 1",
            "workqueue_depth{name=\"pack\"} 0",
            "workqueue_depth{name=\"webhook\"} 0",
            "workqueue_depth{name=\"eventbatch\"} 0",
            "workqueue_unfinished_work_seconds{name=\"rule\"} 5.0",
            "workqueue_longest_running_processor_seconds{name=\"rule\"} 5.0",
            "workqueue_queue_duration_seconds_count{name=\"rule\"} 1",
            "controller_runtime_active_workers{controller=\"rule\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn all_kinds_are_among_all_of_them() {
        // Whoever adds a kind meets this match.
        let place = |kind| match kind {
            Kind::Pack => 0,
            Kind::Rule => 1,
            Kind::Action => 2,
            Kind::Execution => 3,
            Kind::Webhook => 4,
            Kind::EventBatch => 5,
        };
        assert_eq!(Kind::ALL.map(place), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_earlier_time_wins() {
        let (_queue, mut worker) = queue(1, Metrics::default().work);
        let now = Instant::now();
        worker.ask(key("x"), now + Duration::from_secs(60));
        worker.ask(key("x"), now);
        worker.ask(key("x"), now + Duration::from_secs(90));
        assert_eq!(worker.next_due(), Some(key("x")));
        assert_eq!(worker.next_due(), None);
    }
}
