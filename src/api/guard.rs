//! Guards: what a match has to pass before anything is done about it, in statuses, decisions and metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectReference;

/// What can hold a target that matches, for a while.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Guard {
    /// The Rule's `for` is not over.
    For,
    /// The Rule's `limits.cooldown` is not over.
    Cooldown,
    /// `limits.perTarget` or `limits.perRule` is reached.
    Rate,
    /// Something in `unless` speaks against acting now.
    Unless,
    /// The target that an alert names does not exist.
    TargetMissing,
    /// Another Execution acts on the target.
    TargetBusy,
    /// As many Executions run as may.
    Concurrency,
    /// A Rule that observes has as many open records as are kept.
    ObservedLimit,
}

/// A target that matches and has to wait.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldTarget {
    /// Which it is.
    pub target: ObjectReference,
    /// What holds it: `For`, `Cooldown`, `Rate`, `Unless`, `TargetMissing`, `TargetBusy`, `Concurrency`
    /// or `ObservedLimit`.
    pub reason: Guard,
    /// Since when it has been held for this reason.
    pub since: Time,
    /// When that ends, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}
