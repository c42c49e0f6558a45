//! Rule: when to act, on what, and with which ladder of remedies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, FreeForm, HeldTarget, Rate, Target, Trigger};

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
#[x_kube(validation = Rule::new("has(self.when) || !has(self.trigger.resource) || has(self.trigger.resource.lifecycle)")
    .message("when is required for a resource trigger: without it every object would match"))]
#[x_kube(validation = Rule::new("!has(self.since) || has(self.trigger.resource)")
    .message("since needs a resource trigger: an alert says itself since when it fires, an event is over at once"))]
#[x_kube(validation = Rule::new("!has(self.for) || has(self.trigger.resource) || has(self.trigger.alert)")
    .message("for needs a resource or alert trigger: an event is over at once"))]
#[x_kube(validation = Rule::new("!has(self.trigger.resource) || !has(self.trigger.resource.lifecycle) || !has(self.for) && !has(self.since)")
    .message("for and since do not go with lifecycle: that an object is created or deleted is over at once"))]
#[x_kube(validation = Rule::new("!has(self.limits) || !has(self.limits.once) || has(self.trigger.event) || has(self.trigger.webhook) || has(self.trigger.execution) || has(self.trigger.resource) && has(self.trigger.resource.lifecycle)")
    .message("limits.once chooses among events: it needs an event, webhook or execution trigger, or lifecycle of a resource trigger"))]
#[x_kube(validation = Rule::new("!has(self.correlate) || !has(self.trigger.schedule)")
    .message("correlate needs several things that can happen: a schedule has none of it"))]
#[x_kube(validation = Rule::new("!has(self.correlate) || !has(self.trigger.resource) || has(self.since) || has(self.trigger.resource.lifecycle) || has(self.when) && self.when.contains('oldObject')")
    .message("correlate over a resource trigger needs since: its window goes by the times since which objects are wrong"))]
#[x_kube(validation = Rule::new("!has(self.correlate) || !has(self.for)")
    .message("for does not go with correlate: its window says how long"))]
#[x_kube(validation = Rule::new("!has(self.for) || !has(self.trigger.alert) || !has(self.trigger.alert.state) || self.trigger.alert.state == 'Firing'")
    .message("for does not go with alerts that are resolved: an end is over at once"))]
#[x_kube(validation = Rule::new("!has(self.correlate) || !has(self.trigger.alert) || !has(self.trigger.alert.state) || self.trigger.alert.state == 'Firing'")
    .message("correlate goes with alerts that fire: that they are resolved is told minutes later, and in any order"))]
pub struct RuleSpec {
    /// What the Rule is for, in a sentence that helps the person who is woken by it. Example: `A crash-looping workload is
    /// restarted once; if that does not hold, a person is paged.`
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
    /// CEL expression over `object` (resource), `alert` (alert) or `event` that is true while something is wrong, or of what
    /// has happened.
    /// Example: `crashLooping(object, 3, duration('10m'))`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub when: Option<String>,
    /// What deduplication and cooldown count by: `object`, `workload` or `owner: {apiVersion, kind}`; for all but Events
    /// also `ref: {apiVersion, kind, namespace, name}` or `key`. Default: `workload` for Pods, otherwise `object`.
    /// Example: `{owner: {apiVersion: apps/v1, kind: StatefulSet}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// How long the target must have had a matching object without a break. Default: not at all. Example: `2m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold_for: Option<Duration>,
    /// CEL expression that reads from `object` the time since which it has been wrong; the base of `for` and `correlate`. Without it
    /// `for` starts again when the controller restarts. Example:
    /// `timestamp(object.status.conditions.filter(c, c.type == 'Ready')[0].lastTransitionTime)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub since: Option<String>,
    /// What speaks against acting now. A state that still matches is held while one of these is true, and decided again
    /// after; an event is over at once, and is dropped with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub unless: Vec<Unless>,
    /// Several events or objects that mean something only together: the Rule acts once they are complete, on the target of
    /// the one that completed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlate: Option<Correlate>,
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

    /// How long its finished Executions bear on what it does next.
    pub fn memory(&self) -> Duration {
        let limits = self.limits.iter().flat_map(|limits| {
            let rates = [limits.per_target, limits.per_rule].map(|rate| rate.map(|rate| rate.within));
            rates.into_iter().chain([limits.cooldown, limits.once.as_ref().map(|once| once.within)]).flatten()
        });
        limits.chain(self.correlate.as_ref().map(|correlate| correlate.within)).max().unwrap_or_default()
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

/// Something that speaks against acting now.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unless {
    /// CEL expression over the trigger's variables and `target`, the live object. Example:
    /// `rolledOutWithin(target, duration('15m'))`.
    #[serde(rename = "if")]
    #[schemars(length(min = 1, max = 4096))]
    pub condition: String,
    /// What to call it, in one word. Example: `FreshDeploy`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub reason: String,
}

/// Several events, alerts or objects that mean something together. Windows go by the time at which events happened, and an
/// event counts once. An alert happens when it begins to fire, and counts as long as it fires; an object at the time that
/// `since` reads from it, and as long as it matches, beside those that lead to the same target, as do its changes, creation
/// and deletion. In expressions of `unless`
/// and `with`, `events` is the list of them, by time, and `captured` has each by the name of its member.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.count), has(self.any), has(self.all), has(self.sequence), has(self.absent)].filter(set, set).size() == 1"
).message("exactly one of count, any, all, sequence and absent must be set"))]
pub struct Correlate {
    /// CEL expression over the trigger's variables: events for which it gives the same text belong together. Default:
    /// all events of the Rule do; of objects, and what happens to them, all that lead to one target. Example: `event.data.node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub group_by: Option<String>,
    /// How long the window is. Example: `10m`.
    pub within: Duration,
    /// So many events. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100))]
    pub count: Option<i32>,
    /// An event of any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub any: Vec<Member>,
    /// An event of each of these, in any order; one event may stand for several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub all: Vec<Member>,
    /// An event of each of these, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub sequence: Vec<Member>,
    /// An event that another one should have followed within the window, and has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absent>,
}

/// One kind of event among several.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// What `captured` calls it. Example: `started`.
    #[schemars(length(min = 1, max = 52), regex(pattern = "^[a-z][A-Za-z0-9]*$"))]
    pub name: String,
    /// CEL expression over the trigger's variables that tells such an event. Example: `event.type == 'started'`.
    #[schemars(length(min = 1, max = 4096))]
    pub when: String,
    /// For members of `all` and `sequence`, of events and alerts: CEL expression over the trigger's variables and `captured`, which
    /// has the members before this one in a sequence, and all others of `all`. Only events for which it is true belong together.
    /// Default: all do. Example: `event.data.job == captured.started.data.job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub given: Option<String>,
}

/// An event that stays away.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Absent {
    /// The event after which another is expected.
    pub after: Member,
    /// The event that is expected.
    pub expected: Member,
}

/// How often a Rule may act.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The least time between the end of one Execution and the start of the next for the same target. A state that
    /// still matches is held meanwhile, and decided again after. Default: none. Example: `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// The most Executions for one target in a span of time that ends now. Default: no limit. Example: `2/6h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_target: Option<Rate>,
    /// The most Executions of the Rule in a span of time that ends now. Default: no limit. Example: `20/1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_rule: Option<Rate>,
    /// Of many events for one target, act on one. Default: on each that nothing else stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
}

/// Which one of many events for a target is acted on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Once {
    /// `First` acts at once, and drops what follows within the time; `Last` waits for so long after the first, and acts
    /// on the last.
    pub take: Take,
    /// The time, counted from the first event. Example: `10m`.
    pub within: Duration,
}

/// Which one of many.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Take {
    /// The first.
    #[default]
    First,
    /// The last.
    Last,
}

/// One remedy of a ladder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rung {
    /// Name of the Action, in the Rule's namespace. Example: `restart-workload`.
    #[schemars(length(min = 1, max = 52))]
    pub run: String,
    /// Values of the Action's parameters; strings may hold `${{ … }}` templates over `object` and `oldObject`, or `event`, or
    /// `alert` (with `correlate` also `events` and `captured`), over `target`, `ladder` (the outputs of earlier rungs) and
    /// `now`. Example: `{olderThanDays: 3}`.
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
    /// How long after the remedy it may take to become true. Default: `10m`. Example: `15m`.
    #[serde(default = "default_within")]
    #[schemars(default = "default_within")]
    pub within: Duration,
    /// How long it has to stay true. Default: `5m`. Example: `2m`.
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
    /// How far the schedule has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// How many events were dropped since the controller started because too many waited, for others in `correlate` or for
    /// their decision.
    /// Left out if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<i64>,
    /// The latest events that `unless` spoke against: they stay dropped, whatever a restart brings again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub objected: Vec<ObjectedEvent>,
    /// Until when events happened that `unless` spoke against and that are not listed any more: an older one that another
    /// start of the controller meets, or another text of the Rule, counts as one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objected_until: Option<Time>,
}

/// An event that `unless` spoke against.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectedEvent {
    /// What tells it from others.
    #[schemars(length(max = 512))]
    pub id: String,
    /// When it happened.
    pub time: Time,
}

/// How far a schedule has come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// The schedule that this speaks of: cron and time zone, the interval, or the dates.
    #[schemars(length(max = 512))]
    pub schedule: String,
    /// From when on it counts: the Rule's creation, or when it was given this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The latest time that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled_at: Option<Time>,
    /// How many times before that one had passed while nobody looked, and are not made up for; 100 stands for that or
    /// more. Left out if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<i32>,
}
