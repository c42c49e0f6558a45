//! What the journal remembers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Where a matching object comes from.
pub const OBJECTS: &str = "kubernetes";
/// Where a Kubernetes Event comes from.
pub const EVENTS: &str = "events.k8s.io";

/// One line of the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Something happened.
    Event(Event),
    /// Something was decided.
    Decision(Decision),
}

/// Something that happened, as it was normalized.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// What tells it from every other of its source. What is recorded again is kept once.
    pub id: String,
    /// Where it came from. Example: `events.k8s.io`, `webhook/alertmanager`.
    pub source: String,
    /// What kind of thing it is. Example: `FailedMount`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The namespace that it belongs to; empty for none.
    pub namespace: String,
    /// What it says. Secrets are left out when it is written.
    #[serde(serialize_with = "shared")]
    pub data: Arc<Value>,
}

fn shared<S: Serializer>(value: &Arc<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(serializer)
}

/// Something that was decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it was decided.
    pub time: Timestamp,
    /// Namespace of the Rule.
    pub namespace: String,
    /// Name of the Rule.
    pub rule: String,
    /// The target. Example: `Deployment/web`.
    pub target: String,
    /// The event that led to it; empty for the state of an object.
    pub event: String,
    /// What was decided.
    pub outcome: Outcome,
    /// Why, in one word or a sentence.
    pub reason: String,
    /// The Execution, if there is one.
    pub execution: String,
}

/// What can be decided. Who adds one adds a version of the schema too: an earlier fother cannot read it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// An Execution was created.
    Fired,
    /// Not now: it is decided again when the reason is gone.
    Held,
    /// Not at all: an event is over at once.
    Suppressed,
    /// An event that the Rule might have wanted does not match.
    NotMatched,
    /// An event says what was known.
    Duplicate,
    /// It could not be decided.
    Failed,
    /// An Execution ended.
    Ended,
    /// The episode is over: what matches from now on is a new one.
    Closed,
    /// The Rule cannot be used.
    Unready,
    /// The Rule can be used again.
    Ready,
}

impl Outcome {
    const ALL: [Self; 10] = [
        Self::Fired,
        Self::Held,
        Self::Suppressed,
        Self::NotMatched,
        Self::Duplicate,
        Self::Failed,
        Self::Ended,
        Self::Closed,
        Self::Unready,
        Self::Ready,
    ];
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|outcome| outcome.to_string() == text);
        known.ok_or_else(|| format!("{text:?} is not an outcome"))
    }
}

/// A time of which something is missing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// From when.
    pub from: Timestamp,
    /// To when.
    pub to: Timestamp,
    /// How many entries are known to be missing; 0 if nobody counted.
    pub missing: u64,
    /// Why.
    pub reason: String,
}
