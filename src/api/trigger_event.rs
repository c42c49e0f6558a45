//! `TriggerEvent`: one normalized occurrence, whatever source it came from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AnyValue;

/// What an alert carries beside its labels, annotations and times; those from `silenceURL` on are Grafana's.
pub const ALERT_TEXTS: [&str; 6] =
    ["generatorURL", "silenceURL", "dashboardURL", "panelURL", "imageURL", "valueString"];

/// One normalized occurrence: what expressions see as `event`. It is shaped like a `CloudEvent`; `source` and `id`
/// together tell it from all others.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerEvent {
    /// What tells it from others of its source.
    #[schemars(length(min = 1, max = 256))]
    pub id: String,
    /// Who sent it. Example: `https://github.com/acme/shop`.
    #[schemars(length(min = 1, max = 256))]
    pub source: String,
    /// What kind of occurrence it is. Example: `com.example.deploy.finished`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 256))]
    pub event_type: String,
    /// When it happened.
    pub time: MicroTime,
    /// What happened, as far as the expressions of Rules read it.
    #[serde(default)]
    pub data: AnyValue,
}
