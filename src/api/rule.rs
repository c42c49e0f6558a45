//! Rule: when to act, on what, and with which ladder of remedies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, FreeForm, HeldTarget, Target};

/// When to act, on what, as whom, and with which ladder of remedies.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fother.dev",
    version = "v1alpha1",
    kind = "Rule",
    namespaced,
    status = "RuleStatus",
    shortname = "fr",
    category = "fother",
    doc = "When to act, on what, as whom, and with which ladder of remedies.",
    validation = Rule::new("self.metadata.name.size() <= 52").message("name is too long: max 52 characters"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Last-Fired", type_ = "date", json_path = ".status.lastFiredAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".status.trigger", priority = 1),
    printcolumn(name = "Held", type_ = "string", json_path = ".status.heldCount", priority = 1),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".metadata.annotations.fother\\.dev/revision",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.when) || has(self.trigger.event)")
    .message("when is required for a resource trigger: without it every object would match"))]
#[x_kube(validation = Rule::new("!(has(self.since) || has(self.for)) || has(self.trigger.resource)")
    .message("for and since need a resource trigger: an event is over at once"))]
pub struct RuleSpec {
    /// What the Rule is for, in a sentence that helps the person who is woken by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub description: String,
    /// `Observe` records what the Rule would do; `Enforce` does it. Default: `Observe`.
    #[serde(default)]
    #[schemars(default)]
    pub mode: Mode,
    /// `ServiceAccount` in the Rule's namespace: the Rule sees and does what this account may, nothing else. It has
    /// to carry the annotation `fother.dev/allow: "true"`. Example: `healer`.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,
    /// What the Rule watches: exactly one of the fields.
    pub trigger: Trigger,
    /// CEL expression over `object` (resource) or `event` that is true while something is wrong. Example:
    /// `crashLooping(object, 3, duration('10m'))`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub when: Option<String>,
    /// What deduplication and cooldown count by: `object`, `workload` or `owner: {apiVersion, kind}`. Default:
    /// `workload` for Pods, otherwise `object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// How long the target must have had a matching object without a break. Default: not at all. Example: `2m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold_for: Option<Duration>,
    /// CEL expression that reads from `object` the time since which it has been wrong; the base of `for`. Without it
    /// `for` starts again when the controller restarts. Example:
    /// `timestamp(object.status.conditions.filter(c, c.type == 'Ready')[0].lastTransitionTime)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub since: Option<String>,
    /// How often the Rule may act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The remedies, mildest first. A rung whose `verify` holds ends the ladder; one that does not hold leads to the
    /// next.
    #[schemars(length(min = 1, max = 16))]
    pub ladder: Vec<Rung>,
}

impl RuleSpec {
    /// The time that must pass between an Execution's end and the next for the same target.
    pub fn cooldown(&self) -> Duration {
        self.limits.as_ref().and_then(|l| l.cooldown).unwrap_or_default()
    }
}

/// Whether a Rule acts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mode {
    /// Record what would be done.
    #[default]
    Observe,
    /// Do it.
    Enforce,
    /// What a later version of fother knows and this one does not. Nothing is done for it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a Rule watches: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.resource), has(self.event)].filter(set, set).size() == 1")
    .message("exactly one of resource and event must be set"))]
pub struct Trigger {
    /// The state of objects of one kind, built-in or custom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceTrigger>,
    /// Kubernetes Events (`events.k8s.io`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventTrigger>,
}

/// The state of objects of one kind, in the Rule's namespace or, for kinds that have none, in the cluster.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTrigger {
    /// Group and version. Example: `v1`, `apps/v1`.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Kind. Example: `Pod`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Which of them, by label. Left out it means all; an empty selector is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.matchLabels) && self.matchLabels.size() > 0 || has(self.matchExpressions) && self.matchExpressions.size() > 0")
        .message("selector is empty; leave it out to mean every object of the kind in this namespace"))]
    pub label_selector: Option<LabelSelector>,
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

/// How often a Rule may act.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The least time between the end of one Execution and the start of the next for the same target. A state that
    /// still matches is held meanwhile, and decided again after. Default: none. Example: `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
}

/// One remedy of a ladder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rung {
    /// Name of the Action, in the Rule's namespace. Example: `restart-workload`.
    #[schemars(length(min = 1, max = 52))]
    pub run: String,
    /// Values of the Action's parameters; strings may hold `${{ … }}` templates over `object`, `event`, `target` and
    /// `ladder` (the outputs of earlier rungs). Example: `{olderThanDays: 3}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub with: FreeForm,
    /// What proves that the remedy worked. Left out: do it and go on to the next rung; a failure does not block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
}

/// What proves that a remedy worked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// CEL expression over `target`. Default: nothing of the target matches the Rule any more and the target's
    /// current Pods, of which there is at least one, are Ready. Example: `rolloutComplete(target)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub when: Option<String>,
    /// How long after the remedy it may take to become true. Default: `10m`.
    #[serde(default = "default_within")]
    #[schemars(default = "default_within")]
    pub within: Duration,
    /// How long it has to stay true. Default: `5m`.
    #[serde(default = "default_stable_for")]
    #[schemars(default = "default_stable_for")]
    pub stable_for: Duration,
}

fn default_within() -> Duration {
    Duration::from_mins(10)
}

fn default_stable_for() -> Duration {
    Duration::from_mins(5)
}

/// What the Rule has come to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// Ready, Accepted, `ResolvedRefs`, Authorized; Reconciling or Stalled while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the Rule watches, in short. Example: `Pod`, `Event FailedMount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub trigger: Option<String>,
    /// Targets that match and have to wait, those that wait longest first, at most 20. Each is decided again when its
    /// wait ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub held: Vec<HeldTarget>,
    /// How many targets are held; `20+` if there are more than `held` lists. Left out if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub held_count: Option<String>,
    /// When the Rule last decided to act (or, observing, would have).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired_at: Option<Time>,
    /// How many targets match at the moment that got no record, because the Rule observes and has as many open records
    /// as are kept (100). Left out if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<i32>,
}
