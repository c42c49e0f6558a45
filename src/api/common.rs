//! What every kind shares: the group, labels, annotations and free-form values.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The field manager as which fother writes.
pub const MANAGER: &str = "fother";
/// The API group of all kinds.
pub const GROUP: &str = "fother.dev";

/// The API version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// Labels that fother sets on what it creates.
pub struct LabelKeys {
    /// Name of the Rule that decided an Execution.
    pub rule: &'static str,
    /// Hash of the target key of an Execution: its identity, without UID.
    pub target_hash: &'static str,
    /// Name of the Execution that a Job or `ConfigMap` belongs to.
    pub execution: &'static str,
    /// Identity of the decision that a Job carries out: the event, in the words of metrics and columns.
    pub event_id: &'static str,
    /// Name of the Pack that an object was synced from.
    pub pack: &'static str,
    /// Name of the Webhook that received an `EventBatch`.
    pub webhook: &'static str,
}

/// The labels' keys.
pub const LABEL: LabelKeys = LabelKeys {
    rule: "fother.dev/rule",
    target_hash: "fother.dev/target-hash",
    execution: "fother.dev/execution",
    event_id: "fother.dev/event-id",
    pack: "fother.dev/pack",
    webhook: "fother.dev/webhook",
};

/// Annotations that fother reads or sets.
pub struct AnnotationKeys {
    /// On a synced Rule: a hash of the Actions of its Pack that it runs. A commit that changes one of them alone is its
    /// revision, too.
    pub actions: &'static str,
    /// On a `ServiceAccount`: `"true"` lets the controller act as it.
    pub allow: &'static str,
    /// On a Pack: a revision whose deletions a person has agreed to.
    pub allow_prune: &'static str,
    /// On a Pack: a revision that a person has agreed to although it does not go on from the one in force.
    pub allow_rewrite: &'static str,
    /// On a Pack: any new value asks for a sync now.
    pub reconcile_requested_at: &'static str,
    /// On a synced object: the revision it came from.
    pub revision: &'static str,
    /// On a synced object: the file and line it came from.
    pub source: &'static str,
}

/// The annotations' keys.
pub const ANNOTATION: AnnotationKeys = AnnotationKeys {
    actions: "fother.dev/actions",
    allow: "fother.dev/allow",
    allow_prune: "fother.dev/allow-prune",
    allow_rewrite: "fother.dev/allow-rewrite",
    reconcile_requested_at: "fother.dev/reconcile-requested-at",
    revision: "fother.dev/revision",
    source: "fother.dev/source",
};

/// A JSON object whose shape fother does not define.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct FreeForm(pub Map<String, Value>);

impl FreeForm {
    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, as a JSON value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

impl JsonSchema for FreeForm {
    fn schema_name() -> Cow<'static, str> {
        "FreeForm".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 64})
    }
}

/// A JSON value of any type.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct AnyValue(pub Value);

impl JsonSchema for AnyValue {
    fn schema_name() -> Cow<'static, str> {
        "AnyValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-preserve-unknown-fields": true})
    }
}
