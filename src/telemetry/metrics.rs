//! Metrics, in OpenMetrics text. Labels are closed sets, or the namespace and name of a rule; never a target or a text.

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// What is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    evaluations: Family<Labels, Counter>,
    suppressed: Family<Labels, Counter>,
    executions: Family<Labels, Counter>,
    reconciles: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let evaluations = Family::<Labels, Counter>::default();
        registry.register("fother_rule_evaluations", "Decisions of rules", evaluations.clone());
        let suppressed = Family::<Labels, Counter>::default();
        registry.register(
            "fother_rule_suppressed",
            "Matches that were held or suppressed",
            suppressed.clone(),
        );
        let executions = Family::<Labels, Counter>::default();
        registry.register("fother_executions", "Executions that ended", executions.clone());
        let reconciles = Family::<Labels, Counter>::default();
        registry.register(
            "controller_runtime_reconcile",
            "Reconciles by controller and result",
            reconciles.clone(),
        );
        Self { registry: Mutex::new(registry), evaluations, suppressed, executions, reconciles }
    }
}

impl Metrics {
    /// A rule fired.
    pub fn fired(&self, namespace: &str, rule: &str) {
        let labels =
            vec![("namespace", namespace.into()), ("rule", rule.into()), ("decision", "fired".into())];
        self.evaluations.get_or_create(&labels).inc();
    }

    /// A match was held.
    pub fn held(&self, guard: impl std::fmt::Debug, namespace: &str, rule: &str) {
        self.suppressed(guard, namespace, rule);
    }

    /// A match was suppressed.
    pub fn suppressed(&self, guard: impl std::fmt::Debug, namespace: &str, rule: &str) {
        let guard = format!("{guard:?}").to_lowercase();
        let labels = vec![("namespace", namespace.into()), ("rule", rule.into()), ("guard", guard)];
        self.suppressed.get_or_create(&labels).inc();
    }

    /// An Execution ended.
    pub fn ended(&self, namespace: &str, rule: &str, reason: &str) {
        let labels = vec![("namespace", namespace.into()), ("rule", rule.into()), ("reason", reason.into())];
        self.executions.get_or_create(&labels).inc();
    }

    /// A reconcile ended.
    pub fn reconciled(&self, controller: &'static str, result: &'static str) {
        self.reconciles
            .get_or_create(&vec![("controller", controller.into()), ("result", result.into())])
            .inc();
    }

    /// All of it, as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }
}
