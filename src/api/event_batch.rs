//! `EventBatch`: accepted events that are not decided yet, and alerts that fire. Internal: written by the controller.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TriggerEvent;

/// Events of one request to a Webhook, kept from its acceptance until each has its outcome. For the controller alone.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "fother.dev",
    version = "v1alpha1",
    kind = "EventBatch",
    plural = "eventbatches",
    namespaced,
    status = "EventBatchStatus",
    shortname = "feb",
    category = "fother",
    doc = "Events of one request to a Webhook, kept from its acceptance until each has its outcome. For the controller alone.",
    printcolumn(name = "Webhook", type_ = "string", json_path = ".spec.webhook"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct EventBatchSpec {
    /// Name of the Webhook.
    #[schemars(length(min = 1, max = 52))]
    pub webhook: String,
    /// When the request came.
    pub received_at: Option<MicroTime>,
    /// Until when the request is authentic if somebody sends it again, where its signature has a time: so long the batch
    /// is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentic_until: Option<MicroTime>,
    /// What was accepted.
    #[schemars(length(min = 1, max = 1000))]
    pub events: Vec<AcceptedEvent>,
}

/// An event, and the Rules that may match it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedEvent {
    /// The event, with what the Rules read of it; an alert with what any Rule of the Webhook reads of alerts.
    pub event: TriggerEvent,
    /// Names of the Rules, in the same namespace. An alert that none of them may match as they read now, but that one is about
    /// by name, has none: a Rule that is mended takes it up.
    #[schemars(length(max = 1000), inner(length(max = 253)))]
    pub rules: Vec<String>,
    /// For an alert: how it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertState>,
}

/// How an alert stands.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertState {
    /// What tells it from other alerts: a hash of its labels.
    #[schemars(length(min = 1, max = 128))]
    pub fingerprint: String,
    /// Since when it fires, or has fired.
    pub starts_at: MicroTime,
    /// Since when it is resolved; it fires if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<MicroTime>,
    /// When Rules heard of it first, by their names, where an earlier batch said so that this one repeats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub heard: BTreeMap<String, MicroTime>,
}

/// What became of the events.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBatchStatus {
    /// One entry for each event and Rule that has looked at it, and one without a Rule for what no Rule may match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3000))]
    pub outcomes: Vec<EventOutcome>,
}

/// What became of one event with one Rule.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventOutcome {
    /// Which event, counted from 0.
    pub event: i32,
    /// Name of the Rule; empty for what became of an alert that no Rule may match.
    #[schemars(length(max = 52))]
    pub rule: String,
    /// What became of it.
    pub outcome: OutcomeKind,
    /// Why, in a word or a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub reason: String,
    /// The Execution, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub execution: Option<String>,
    /// Of what could not be decided about, and of an alert that fires and does not match: a hash of the Rule's text that
    /// says so. Another text decides about an alert that fires anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub judged_by: Option<String>,
    /// Since when.
    pub time: Time,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum OutcomeKind {
    /// It led to an Execution.
    Fired,
    /// It matched, and is over: a limit stood in its way.
    Suppressed,
    /// It matched and still does: it is decided again when what stands in its way ends.
    Held,
    /// The Rule does not match it.
    NotMatched,
    /// It says what was known.
    Duplicate,
    /// The alert fires no longer.
    Resolved,
    /// It could not be decided about.
    Failed,
}
