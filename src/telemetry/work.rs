//! Metrics of the work queue and of those who work on it, under the names of client-go and controller-runtime.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::metrics::{Counters, Gauges, Histograms, register};

type Seconds = Family<Vec<(&'static str, String)>, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// From a millisecond to five minutes: what waits or works longer is stuck.
fn buckets() -> Histogram {
    Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0])
}

/// What there is of one controller's work at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Objects that are due and not worked on.
    pub waiting: usize,
    /// Objects that are worked on.
    pub running: usize,
    /// How long those have been worked on, in all.
    pub unfinished: Duration,
    /// How long the oldest of them.
    pub longest: Duration,
}

/// What is counted of the queue; `name` and `controller` are the controller's.
#[derive(Clone)]
pub struct Work {
    depth: Gauges,
    adds: Counters,
    retries: Counters,
    waits: Histograms,
    works: Histograms,
    unfinished: Seconds,
    longest: Seconds,
    active: Gauges,
    reconciles: Counters,
    errors: Counters,
    times: Histograms,
}

impl Work {
    pub(super) fn new(r: &mut Registry) -> Self {
        let histograms = || Histograms::new_with_constructor(buckets as fn() -> Histogram);
        Self {
            depth: register(r, "workqueue_depth", "Objects that are due and wait", Family::default()),
            adds: register(r, "workqueue_adds", "Objects that became due", Family::default()),
            retries: register(
                r,
                "workqueue_retries",
                "Objects to look at again after a failure",
                Family::default(),
            ),
            waits: register(r, "workqueue_queue_duration_seconds", "How long objects were due", histograms()),
            works: register(r, "workqueue_work_duration_seconds", "How long work took", histograms()),
            unfinished: register(
                r,
                "workqueue_unfinished_work_seconds",
                "How long what is worked on has been, in all",
                Family::default(),
            ),
            longest: register(
                r,
                "workqueue_longest_running_processor_seconds",
                "How long the oldest of what is worked on has been",
                Family::default(),
            ),
            active: register(
                r,
                "controller_runtime_active_workers",
                "Reconciles that go on",
                Family::default(),
            ),
            reconciles: register(
                r,
                "controller_runtime_reconcile",
                "Reconciles by controller and result",
                Family::default(),
            ),
            errors: register(
                r,
                "controller_runtime_reconcile_errors",
                "Reconciles that failed",
                Family::default(),
            ),
            times: register(
                r,
                "controller_runtime_reconcile_time_seconds",
                "How long reconciles took",
                histograms(),
            ),
        }
    }

    /// An object became due.
    pub fn added(&self, controller: &'static str) {
        self.adds.get_or_create(&named(controller)).inc();
    }

    /// Work on an object failed, and is to be repeated.
    pub fn retried(&self, controller: &'static str) {
        self.retries.get_or_create(&named(controller)).inc();
    }

    /// Work began on an object that had been due for so long.
    pub fn began(&self, controller: &'static str, due: Duration) {
        self.waits.get_or_create(&named(controller)).observe(due.as_secs_f64());
    }

    /// Work on an object took so long.
    pub fn ended(&self, controller: &'static str, took: Duration) {
        self.works.get_or_create(&named(controller)).observe(took.as_secs_f64());
        self.times.get_or_create(&of(controller)).observe(took.as_secs_f64());
    }

    /// A reconcile ended: `success`, `requeue` or `error`.
    pub fn reconciled(&self, controller: &'static str, result: &'static str) {
        let labels = vec![("controller", controller.to_owned()), ("result", result.to_owned())];
        self.reconciles.get_or_create(&labels).inc();
        if result == "error" {
            self.errors.get_or_create(&of(controller)).inc();
        }
    }

    /// What there is of one controller's work.
    pub fn stands(&self, controller: &'static str, backlog: Backlog) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.depth.get_or_create(&named(controller)).set(count(backlog.waiting));
        self.active.get_or_create(&of(controller)).set(count(backlog.running));
        self.unfinished.get_or_create(&named(controller)).set(backlog.unfinished.as_secs_f64());
        self.longest.get_or_create(&named(controller)).set(backlog.longest.as_secs_f64());
    }
}

fn named(controller: &'static str) -> Vec<(&'static str, String)> {
    vec![("name", controller.to_owned())]
}

fn of(controller: &'static str) -> Vec<(&'static str, String)> {
    vec![("controller", controller.to_owned())]
}
