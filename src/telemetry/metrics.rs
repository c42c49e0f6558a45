//! Metrics, in the text format of `OpenMetrics`. Labels are closed sets, or the namespace, name and revision of a rule,
//! a pack or a webhook; never a target or a text.
//!
//! Names of what every controller has are those of controller-runtime and client-go, so that stock dashboards work.

use std::collections::HashSet;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::journal::Journal;
use super::series::Series;
use super::work::Work;

pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Family<Labels, Counter>;
pub(super) type Gauges = Family<Labels, Gauge>;
pub(super) type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What is counted and measured.
pub struct Metrics {
    registry: Mutex<Registry>,
    received: Counters,
    last_event: Gauges,
    lag: Histograms,
    evaluations: Series<Counter>,
    suppressed: Series<Counter>,
    held: Series<Gauge>,
    info: Series<Gauge>,
    packs: Series<Gauge>,
    webhooks: Series<Gauge>,
    unindexed: Gauge,
    executions: Series<Counter>,
    active: Series<Gauge>,
    durations: Series<Histogram>,
    recoveries: Series<Histogram>,
    requests: Counters,
    leader: Gauges,
    /// The journal.
    pub journal: Journal,
    /// The work queue.
    pub work: Work,
}

/// From a tenth of a second to about fourteen hours.
fn buckets() -> Histogram {
    Histogram::new([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 50000.0])
}

pub(super) fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        Self {
            received: register(
                r,
                "fother_events_received",
                "Changes and Events that rules were shown",
                Family::default(),
            ),
            last_event: register(
                r,
                "fother_source_last_event_timestamp_seconds",
                "When a source last showed anything",
                Family::default(),
            ),
            lag: register(
                r,
                "fother_event_lag_seconds",
                "From a Kubernetes Event to a rule's look at it",
                Histograms::new_with_constructor(buckets),
            ),
            evaluations: register(r, "fother_rule_evaluations", "Answers of rules", Series::default()),
            suppressed: register(
                r,
                "fother_rule_suppressed",
                "Matches that began to be held or were suppressed, by guard",
                Series::default(),
            ),
            held: register(r, "fother_rule_held", "Targets that wait, by guard", Series::default()),
            info: register(r, "fother_rule_info", "Rules, and how they stand", Series::default()),
            packs: register(r, "fother_pack_info", "Packs, and how they stand", Series::default()),
            webhooks: register(r, "fother_webhook_info", "Webhooks, and how they stand", Series::default()),
            unindexed: register(r, "fother_rules_unindexed", "Rules that see every change", Gauge::default()),
            executions: register(r, "fother_executions", "Executions that ended", Series::default()),
            active: register(
                r,
                "fother_executions_active",
                "Executions that have not ended",
                Series::default(),
            ),
            durations: register(
                r,
                "fother_execution_duration_seconds",
                "How long Executions took",
                Series::new(buckets),
            ),
            recoveries: register(
                r,
                "fother_time_to_recovery_seconds",
                "From the first match of a target to its verified recovery",
                Series::new(buckets),
            ),
            requests: register(
                r,
                "rest_client_requests",
                "Requests to the API server by method and code",
                Family::default(),
            ),
            leader: register(
                r,
                "leader_election_master_status",
                "Whether this process leads",
                Family::default(),
            ),
            journal: Journal::new(r),
            work: Work::new(r),
            registry: Mutex::new(registry),
        }
    }
}

/// What the labels of every series of a rule begin with.
fn of_rule(namespace: &str, rule: &str) -> Labels {
    vec![("namespace", namespace.to_owned()), ("rule", rule.to_owned())]
}

impl Metrics {
    /// A source showed a change (`resource`), an Event (`event`) or what a Webhook received (`webhook`), which was
    /// `accepted`, `deduplicated`, `dropped` or `rejected`.
    pub fn received(&self, source: &'static str, result: &'static str, at_seconds: i64) {
        self.received.get_or_create(&vec![("source", source.into()), ("result", result.into())]).inc();
        // What was refused may come from anybody: it does not show that a sender is alive.
        if result != "rejected" {
            self.last_event.get_or_create(&vec![("source", source.into())]).set(at_seconds);
        }
    }

    /// So many seconds lay between an Event and a rule's look at it.
    pub fn lagged(&self, seconds: f64) {
        self.lag.get_or_create(&vec![("source", "event".into())]).observe(seconds);
    }

    /// A rule answered: `fired`, `not_matched`, `suppressed` or `error`.
    pub fn evaluated(&self, namespace: &str, rule: &str, decision: &'static str) {
        let mut labels = of_rule(namespace, rule);
        labels.push(("decision", decision.to_owned()));
        self.evaluations.with(&labels, Counter::inc);
    }

    /// A match began to be held, or was suppressed, by a guard.
    pub fn suppressed(&self, guard: impl std::fmt::Debug, namespace: &str, rule: &str) {
        let mut labels = of_rule(namespace, rule);
        labels.push(("guard", format!("{guard:?}").to_lowercase()));
        self.suppressed.with(&labels, Counter::inc);
        self.evaluated(namespace, rule, "suppressed");
    }

    /// What rules there are, as (namespace, name, mode, ready, revision), and the namespaces in which something can be, or
    /// was, run by hand. What is counted of others goes when they are missing for the second time.
    pub fn rules(
        &self,
        rules: impl IntoIterator<Item = [String; 5]>,
        by_hand: impl IntoIterator<Item = String>,
    ) {
        // A run by hand is counted as that of a rule without a name.
        let mut known: HashSet<Labels> =
            by_hand.into_iter().map(|namespace| of_rule(&namespace, "")).collect();
        self.info.count(rules.into_iter().map(|[namespace, rule, mode, ready, revision]| {
            let mut labels = of_rule(&namespace, &rule);
            known.insert(labels.clone());
            labels.extend([("mode", mode), ("ready", ready), ("revision", revision)]);
            labels
        }));
        self.keep(&known);
    }

    /// Keeps what is counted of these rules. It is asked again and again, and not done once when a rule is deleted: an
    /// Execution may end after its rule.
    fn keep(&self, rules: &HashSet<Labels>) {
        let is_wanted = |labels: &Labels| rules.contains(&labels[..2]);
        self.evaluations.retain(is_wanted);
        self.suppressed.retain(is_wanted);
        self.executions.retain(is_wanted);
        self.durations.retain(is_wanted);
        self.recoveries.retain(is_wanted);
    }

    /// What packs there are, as (namespace, name, ready, revision, suspended).
    pub fn packs(&self, packs: impl IntoIterator<Item = [String; 5]>) {
        self.packs.count(packs.into_iter().map(|[namespace, pack, ready, revision, suspended]| {
            vec![
                ("namespace", namespace),
                ("pack", pack),
                ("ready", ready),
                ("revision", revision),
                ("suspended", suspended),
            ]
        }));
    }

    /// What webhooks there are, as (namespace, name, ready, revision).
    pub fn webhooks(&self, webhooks: impl IntoIterator<Item = [String; 4]>) {
        self.webhooks.count(webhooks.into_iter().map(|[namespace, webhook, ready, revision]| {
            vec![("namespace", namespace), ("webhook", webhook), ("ready", ready), ("revision", revision)]
        }));
    }

    /// What targets wait for, as (namespace, rule, guard), one for each target.
    pub fn held(&self, targets: impl IntoIterator<Item = [String; 3]>) {
        self.held.count(targets.into_iter().map(|[namespace, rule, guard]| {
            let mut labels = of_rule(&namespace, &rule);
            labels.push(("guard", guard.to_lowercase()));
            labels
        }));
    }

    /// So many rules have nothing by which an index finds them.
    pub fn unindexed(&self, rules: usize) {
        self.unindexed.set(i64::try_from(rules).unwrap_or(i64::MAX));
    }

    /// How many Executions have not ended, as (namespace, state).
    pub fn active(&self, executions: impl IntoIterator<Item = [String; 2]>) {
        let labels = |[namespace, state]: [String; 2]| vec![("namespace", namespace), ("state", state)];
        self.active.count(executions.into_iter().map(labels));
    }

    /// An Execution ended after so many seconds; for a verified recovery, with the seconds since the first match.
    pub fn ended(&self, (namespace, rule): (&str, &str), reason: &str, seconds: f64, recovery: Option<f64>) {
        let mut labels = of_rule(namespace, rule);
        let outcome = match reason {
            "TargetRecovered" | "Completed" => "succeeded",
            "Observed" | "Superseded" => "nothing_done",
            _ => "failed",
        };
        labels.push(("outcome", outcome.to_owned()));
        self.durations.with(&labels, |durations| durations.observe(seconds));
        if let Some(recovery) = recovery {
            self.recoveries.with(&labels, |recoveries| recoveries.observe(recovery));
        }
        labels.push(("reason", reason.to_owned()));
        self.executions.with(&labels, Counter::inc);
    }

    /// A request was answered, or was not (`<error>`, as client-go says).
    pub fn requested(&self, method: &str, code: Option<u16>) {
        let code = code.map_or("<error>".to_owned(), |code| code.to_string());
        self.requests.get_or_create(&vec![("method", method.to_owned()), ("code", code)]).inc();
    }

    /// Whether this process leads.
    pub fn leads(&self, name: &str, is: bool) {
        self.leader.get_or_create(&vec![("name", name.to_owned())]).set(i64::from(is));
    }

    /// All of it, as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_rendered_under_the_documented_names() {
        let metrics = Metrics::default();
        metrics.received("event", "accepted", 7);
        metrics.received("event", "rejected", 9);
        metrics.lagged(0.2);
        metrics.evaluated("a", "r", "fired");
        metrics.suppressed(format_args!("Cooldown"), "a", "r");
        metrics.rules([info("r")], []);
        metrics.packs([pack("p", "False")]);
        metrics.webhooks([webhook("w", "Unknown")]);
        metrics.held([["a", "r", "Rate"], ["a", "r", "Rate"]].map(|one| one.map(str::to_owned)));
        metrics.unindexed(3);
        metrics.active([["a", "Running"].map(str::to_owned)]);
        metrics.ended(("a", "r"), "TargetRecovered", 2.0, Some(3.0));
        metrics.work.reconciled("rule", "success");
        metrics.work.reconciled("rule", "error");
        metrics.requested("GET", Some(200));
        metrics.leads("fother", true);
        metrics.journal.stands([5, 0, 2], 4096, false);
        metrics.journal.stands([7, 0, 2], 8192, true);
        let text = metrics.render();
        for line in [
            "fother_events_received_total{source=\"event\",result=\"accepted\"} 1",
            "fother_source_last_event_timestamp_seconds{source=\"event\"} 7",
            "fother_event_lag_seconds_count{source=\"event\"} 1",
            "fother_rule_evaluations_total{namespace=\"a\",rule=\"r\",decision=\"suppressed\"} 1",
            "fother_rule_suppressed_total{namespace=\"a\",rule=\"r\",guard=\"cooldown\"} 1",
            "fother_rule_info{namespace=\"a\",rule=\"r\",mode=\"Enforce\",ready=\"True\",revision=\"main@sha1:1\"} 1",
            "fother_pack_info{namespace=\"a\",pack=\"p\",ready=\"False\",revision=\"main@sha1:1\",suspended=\"false\"} 1",
            "fother_webhook_info{namespace=\"a\",webhook=\"w\",ready=\"Unknown\",revision=\"main@sha1:1\"} 1",
            "fother_rule_held{namespace=\"a\",rule=\"r\",guard=\"rate\"} 2",
            "fother_rules_unindexed 3",
            "fother_executions_active{namespace=\"a\",state=\"Running\"} 1",
            "fother_executions_total{namespace=\"a\",rule=\"r\",outcome=\"succeeded\",reason=\"TargetRecovered\"} 1",
            "fother_time_to_recovery_seconds_sum{namespace=\"a\",rule=\"r\",outcome=\"succeeded\"} 3.0",
            "controller_runtime_reconcile_total{controller=\"rule\",result=\"success\"} 1",
            "controller_runtime_reconcile_errors_total{controller=\"rule\"} 1",
            "rest_client_requests_total{method=\"GET\",code=\"200\"} 1",
            "leader_election_master_status{name=\"fother\"} 1",
            "fother_journal_writes_total{result=\"written\"} 7",
            "fother_journal_writes_total{result=\"failed\"} 0",
            "fother_journal_bytes 8192",
            "fother_journal_failing 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    fn info(rule: &str) -> [String; 5] {
        ["a", rule, "Enforce", "True", "main@sha1:1"].map(str::to_owned)
    }

    fn pack(name: &str, ready: &str) -> [String; 5] {
        ["a", name, ready, "main@sha1:1", "false"].map(str::to_owned)
    }

    fn webhook(name: &str, ready: &str) -> [String; 4] {
        ["a", name, ready, "main@sha1:1"].map(str::to_owned)
    }

    #[test]
    fn what_is_counted_of_a_rule_goes_with_it() {
        let metrics = Metrics::default();
        let ends = |rule: &str| metrics.ended(("a", rule), "TargetRecovered", 2.0, Some(3.0));
        for rule in ["gone", "stays", ""] {
            metrics.suppressed(format_args!("Cooldown"), "a", rule);
            ends(rule);
        }
        let by_hand = || ["a".to_owned()];
        metrics.rules([info("gone"), info("stays")], by_hand());
        assert!(metrics.render().contains("fother_executions_total{namespace=\"a\",rule=\"gone\""));
        metrics.rules([info("stays")], by_hand());
        // Its last Execution ends after it.
        ends("gone");
        metrics.rules([info("stays")], by_hand());
        ends("gone");
        metrics.rules([info("stays")], by_hand());
        metrics.rules([info("stays")], by_hand());
        let text = metrics.render();
        assert!(!text.contains("rule=\"gone\""), "{text}");
        for (name, more) in [
            ("fother_rule_evaluations_total", ",decision=\"suppressed\"} 1"),
            ("fother_rule_suppressed_total", ",guard=\"cooldown\"} 1"),
            ("fother_executions_total", ",outcome=\"succeeded\",reason=\"TargetRecovered\"} 1"),
            ("fother_execution_duration_seconds_count", ",outcome=\"succeeded\"} 1"),
            ("fother_time_to_recovery_seconds_count", ",outcome=\"succeeded\"} 1"),
        ] {
            for rule in ["stays", ""] {
                let line = format!("{name}{{namespace=\"a\",rule=\"{rule}\"{more}");
                assert!(text.contains(&line), "{line}\n{text}");
            }
        }
    }

    #[test]
    fn what_is_counted_of_runs_by_hand_goes_with_the_last_that_is_left_of_them() {
        let metrics = Metrics::default();
        let ends = |namespace: &str| metrics.ended((namespace, ""), "Completed", 2.0, None);
        // That there is a rule is nothing to them.
        let left = |by_hand: &[&str]| {
            metrics.rules([info("r")], by_hand.iter().map(|namespace| (*namespace).to_owned()));
        };
        let names = ["fother_executions_total", "fother_execution_duration_seconds_count"];
        let counted = |namespace: &str| {
            let text = metrics.render();
            names.map(|name| text.contains(&format!("{name}{{namespace=\"{namespace}\",rule=\"\",")))
        };
        ["a", "b"].into_iter().for_each(ends);
        left(&["a", "b"]);
        left(&["b"]);
        assert_eq!((counted("a"), counted("b")), ([true; 2], [true; 2]));
        left(&["b"]);
        assert_eq!((counted("a"), counted("b")), ([false; 2], [true; 2]));
    }

    #[test]
    fn a_pack_or_a_webhook_that_is_gone_is_not_told_of() {
        let metrics = Metrics::default();
        let told = || -> Vec<String> {
            let text = metrics.render();
            text.lines().filter(|line| line.contains("_info{")).map(str::to_owned).collect()
        };
        metrics.packs([pack("gone", "False"), pack("stays", "False")]);
        metrics.webhooks([webhook("gone", "False"), webhook("stays", "False")]);
        assert_eq!(told().len(), 4);
        metrics.packs([pack("stays", "True")]);
        metrics.webhooks([webhook("stays", "True")]);
        assert_eq!(
            told(),
            [
                "fother_pack_info{namespace=\"a\",pack=\"stays\",ready=\"True\",revision=\"main@sha1:1\",suspended=\"false\"} 1",
                "fother_webhook_info{namespace=\"a\",webhook=\"stays\",ready=\"True\",revision=\"main@sha1:1\"} 1",
            ]
        );
    }

    #[test]
    fn of_a_rule_that_is_not_known_yet_everything_is_counted() {
        let metrics = Metrics::default();
        metrics.evaluated("a", "new", "fired");
        metrics.rules([], []);
        metrics.evaluated("a", "new", "fired");
        metrics.rules([info("new")], []);
        metrics.rules([], []);
        let text = metrics.render();
        let line = "fother_rule_evaluations_total{namespace=\"a\",rule=\"new\",decision=\"fired\"} 2";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn whoever_reads_while_a_gauge_is_filled_anew_sees_what_was_before() {
        let metrics = Metrics::default();
        let waits = || [["a", "r", "Rate"].map(str::to_owned)];
        let runs = || [["a", "Running"].map(str::to_owned)];
        metrics.held(waits());
        metrics.rules([info("r")], []);
        metrics.packs([pack("p", "False")]);
        metrics.webhooks([webhook("w", "False")]);
        metrics.active(runs());
        let reads = |name: &str| {
            let text = metrics.render();
            let line = format!("{name}{{namespace=\"a\"");
            assert!(text.contains(&line), "{line}\n{text}");
        };
        metrics.held(waits().into_iter().inspect(|_| reads("fother_rule_held")));
        metrics.rules([info("r")].into_iter().inspect(|_| reads("fother_rule_info")), []);
        metrics.packs([pack("p", "False")].into_iter().inspect(|_| reads("fother_pack_info")));
        metrics.webhooks([webhook("w", "False")].into_iter().inspect(|_| reads("fother_webhook_info")));
        metrics.active(runs().into_iter().inspect(|_| reads("fother_executions_active")));
    }
}
