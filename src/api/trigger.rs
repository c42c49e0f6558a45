//! Trigger: what a Rule watches.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// What a Rule watches: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.resource), has(self.event), has(self.alert), has(self.webhook), has(self.schedule), has(self.execution)].filter(set, set).size() == 1"
).message("exactly one of resource, event, alert, webhook, schedule and execution must be set"))]
pub struct Trigger {
    /// The state of objects of one kind, built-in or custom, or their creation or deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceTrigger>,
    /// Kubernetes Events (`events.k8s.io`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventTrigger>,
    /// Alerts that a Webhook receives, firing and resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertTrigger>,
    /// Events that a Webhook receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTrigger>,
    /// Times of the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleTrigger>,
    /// The end of another Rule's Execution in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionTrigger>,
}

impl Trigger {
    /// Whether it is a state, which can be looked at again, rather than an event, which is over.
    pub fn is_state(&self) -> bool {
        let of_objects = self.resource.as_ref().is_some_and(|resource| resource.lifecycle.is_empty());
        of_objects || self.alert.as_ref().is_some_and(|alert| alert.state.is_firing())
    }

    /// Whether it is about alerts that are resolved.
    pub fn is_about_ends(&self) -> bool {
        self.alert.as_ref().is_some_and(|alert| !alert.state.is_firing())
    }

    /// The moments of objects' lives that it is about; none if it is about something else.
    pub fn lifecycle(&self) -> &[Moment] {
        self.resource.as_ref().map_or(&[], |resource| &resource.lifecycle)
    }

    /// Whether it is about no object that could lead to the target.
    pub fn names_target(&self) -> bool {
        self.resource.is_none() && self.event.is_none()
    }

    /// Whether it is only for what no other Rule of its Webhook matches.
    pub fn is_unmatched(&self) -> bool {
        let alerts = self.alert.as_ref().is_some_and(|alert| alert.unmatched);
        alerts || self.webhook.as_ref().is_some_and(|webhook| webhook.unmatched)
    }

    /// The Webhook that it listens to, if it does.
    pub fn webhook_name(&self) -> Option<&str> {
        let alert = self.alert.as_ref().map(|alert| alert.webhook.as_str());
        alert.or_else(|| self.webhook.as_ref().map(|webhook| webhook.name.as_str()))
    }
}

/// Alerts: each is a state, from its start until it is resolved, or what is to be done once after that.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.unmatched) || !self.unmatched || !has(self.state) || self.state != 'Resolved'")
    .message("unmatched goes with alerts that fire: leave out state, or unmatched"))]
pub struct AlertTrigger {
    /// Name of a Webhook of type `alertmanager`, in the Rule's namespace. Example: `alertmanager`.
    #[schemars(length(min = 1, max = 52))]
    pub webhook: String,
    /// Names of the alerts (label `alertname`). Default: any. Example: `[KubePersistentVolumeFillingUp]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub names: Vec<String>,
    /// `Firing`: the Rule acts while an alert fires. `Resolved`: it acts once when one is resolved, unless it fires again by then.
    /// Default: `Firing`.
    #[serde(default, skip_serializing_if = "AlertPhase::is_firing")]
    pub state: AlertPhase,
    /// Whether it is only for alerts that no other Rule of the Webhook matches when they come, beside those that say the same of
    /// themselves. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmatched: bool,
}

/// In which state of an alert a Rule acts. What is the default is not written out: an earlier version does not know the field.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AlertPhase {
    /// While it fires.
    #[default]
    Firing,
    /// Once, when it is resolved.
    Resolved,
    /// What a later version of fother knows and this one does not. Nothing is done for it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl AlertPhase {
    /// Whether it is the default.
    pub fn is_firing(&self) -> bool {
        *self == Self::Firing
    }
}

/// Events that a Webhook receives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTrigger {
    /// Name of the Webhook, in the Rule's namespace. Example: `deploys`.
    #[schemars(length(min = 1, max = 52))]
    pub name: String,
    /// Types of the events. Default: any. Example: `[com.example.deploy.finished]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub types: Vec<String>,
    /// Whether it is only for events that no other Rule of the Webhook matches when they come, beside those that say the same of
    /// themselves. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmatched: bool,
}

/// The state of objects of one kind, or their creation or deletion, in the Rule's namespace or, for kinds that have none, in
/// the cluster.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTrigger {
    /// Group and version. Example: `v1`, `apps/v1`.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Kind. Example: `Pod`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Which of them, by label. Left out it means all; an empty selector is refused. Example: `{matchLabels: {tier: web}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.matchLabels) && self.matchLabels.size() > 0 || has(self.matchExpressions) && self.matchExpressions.size() > 0")
        .message("selector is empty; leave it out to mean every object of the kind in this namespace"))]
    pub label_selector: Option<LabelSelector>,
    /// Of which moments of their lives it is, in place of how they are: `Created`, `Deleted`, or both. Each is decided once, and
    /// `when` is not required. Default: of none. Example: `[Deleted]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 2))]
    pub lifecycle: Vec<Moment>,
}

/// A moment of an object's life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Moment {
    /// It has come to be.
    Created,
    /// It is gone: not only marked to be deleted.
    Deleted,
    /// What a later version of fother knows and this one does not. Nothing is done for it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Kubernetes Events in the Rule's namespace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTrigger {
    /// Type of the Event. Default: any. Example: `Warning`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub event_type: Option<String>,
    /// Reasons of the Event. Default: any. Example: `[FailedMount]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub reasons: Vec<String>,
    /// Kind of the object that the Event regards. Default: any. Example: `Pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub regarding_kind: Option<String>,
}

/// What the API server checks of a date; which of them are in the calendar is checked with the rest.
pub const DATE_PATTERN: &str =
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})$";

/// Times of the clock: exactly one of `cron`, `every` and `at`. However many of them were missed while no controller ran, the
/// latest alone is made up for.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.cron), has(self.every), has(self.at)].filter(set, set).size() == 1")
    .message("exactly one of cron, every and at must be set"))]
#[x_kube(validation = Rule::new("!has(self.timeZone) || has(self.cron)")
    .message("timeZone goes with cron: an interval has none, and a date says its own"))]
#[x_kube(validation = Rule::new("!has(self.every) || duration(self.every) >= duration('10s') && duration(self.every) <= duration('8784h')")
    .message("every is at least 10s, and at most 8784h, which are 366 days"))]
pub struct ScheduleTrigger {
    /// Minute, hour, day of month, month and day of week, as cron has them; or `@yearly`, `@annually`, `@monthly`, `@weekly`,
    /// `@daily`, `@midnight` or `@hourly`. A time that names its hours goes by the clock on the wall: skipped by a clock
    /// change it is taken right after, repeated by one it is taken once. Example: `0 3 * * 1-5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 6, max = 128))]
    pub cron: Option<String>,
    /// An interval, at least `10s` and at most `8784h`: the times are its multiples since 1970 in UTC, so that `6h` is at 0, 6, 12 and
    /// 18 o'clock. Example: `90s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Dates, each of which comes once. One that was over when the Rule was created, or when it was added, never comes. Example:
    /// `["2026-12-24T18:00:00+01:00"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(max = 25), regex(pattern = DATE_PATTERN)))]
    pub at: Vec<String>,
    /// IANA time zone of `cron`. Default: `UTC`. Example: `Europe/London`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// The end of another Rule's Execution. Its target is the target here, unless `target` says otherwise. Executions that
/// were begun by Executions that were begun by Executions start none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionTrigger {
    /// Names of the Rules. Example: `[drain-node]`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 52)))]
    pub rules: Vec<String>,
    /// How it ended. Default: any end. Example: `[Failed]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub outcomes: Vec<Outcome>,
}

/// How an Execution ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Outcome {
    /// Its remedy was done, and proven to have worked where proof was asked for.
    Succeeded,
    /// Its remedy could not be done or did not help.
    Failed,
    /// A person stopped it.
    Canceled,
    /// There was nothing left to do.
    Superseded,
    /// Its Rule only observes.
    Observed,
}
