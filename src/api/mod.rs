//! The nouns: what users write and read, one file per kind.
//!
//! These types are the contract. The CRDs in `crds/` are generated from them, so their doc comments are user
//! documentation (`kubectl explain`). Nothing here does anything; verbs live in [`crate::decide`].

mod action;
mod common;
mod condition;
mod conventions;
mod duration;
mod event_batch;
mod execution;
mod guard;
mod name;
mod pack;
mod parameter;
mod pod;
mod rate;
mod rule;
mod target;
mod trigger;
mod trigger_event;
mod webhook;

pub use action::{
    Action, ActionSpec, ActionStatus, CollectRunner, ConfigMapKey, ContainerRunner, Delete, Evidence,
    KubernetesRunner, MetadataChange, ObjectPatch, PatchOperation, PatchVerb, Recreate, Restart, Runner,
    RunnerKind, Scale, ScriptRunner, SecretMount,
};
pub use common::{ANNOTATION, AnyValue, FreeForm, GROUP, LABEL, MANAGER, VERSION};
pub use condition::{
    Condition, ConditionStatus, ConditionType, Progress, Reason, condition, set_condition, set_progress,
};
pub use duration::{DURATION_PATTERN, Duration, DurationError};
pub use event_batch::{
    AcceptedEvent, AlertState, EventBatch, EventBatchSpec, EventBatchStatus, EventOutcome, OutcomeKind,
};
pub use execution::{
    AttemptState, CapturedEvent, Decision, Execution, ExecutionSpec, ExecutionStatus, LONGEST_MESSAGE,
    MatchedObject, RuleReference, RungStatus, VerifyStatus,
};
pub use guard::{Guard, HeldTarget};
pub use name::{MAX_NAME, is_path_segment, is_valid_name};
pub use pack::{
    GitReference, InventoryEntry, Origin, Pack, PackSpec, PackStatus, SecretReference, Signer, Verification,
};
pub use parameter::{Output, Parameter, ValueType};
pub use pod::{
    Amount, ConfigMapReference, EmptyDir, PodSettings, Resources, TaintEffect, Toleration,
    TolerationOperator, VolumeMount,
};
pub use rate::{RATE_PATTERN, Rate, RateError};
pub use rule::{
    Absent, Correlate, Limits, Member, Mode, ObjectedEvent, Once, Rule, RuleSpec, RuleStatus, Rung,
    ScheduleStatus, Take, Unless, Verify,
};
pub use target::{KEY_KIND, ObjectReference, ObjectTemplate, OwnerKind, Target};
pub use trigger::{
    AlertPhase, AlertTrigger, DATE_PATTERN, EventTrigger, ExecutionTrigger, Moment, Outcome, ResourceTrigger,
    ScheduleTrigger, Trigger, WebhookTrigger,
};
pub use trigger_event::{ALERT_TEXTS, TriggerEvent};
pub use webhook::{
    Authentication, Bearer, Defaults, Encoding, Format, GenericMapping, HashAlgorithm, Hmac, MAX_BODY,
    RejectedCount, SecretKey, Signs, Truncated, Webhook, WebhookLimits, WebhookSpec, WebhookStatus,
};

use kube::CustomResourceExt;

/// All of fother's custom resource definitions, in the order in which they are installed.
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    let crds = [Pack::crd(), Webhook::crd(), Rule::crd(), Action::crd(), Execution::crd(), EventBatch::crd()];
    crds.into_iter().map(conventions::kept).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Kinds and fields that nobody writes by hand.
    const WRITTEN_BY_FOTHER: [&str; 2] = ["EventBatch.spec", "Execution.spec.decision"];
    /// Kubernetes documents these itself; the selector that they are in has an example.
    const OF_KUBERNETES: &str = ".labelSelector.";

    /// The fields below `path` that hold a value of their own, each with its schema.
    fn values(path: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
        if let Some(fields) = schema["properties"].as_object() {
            for (name, field) in fields {
                values(&format!("{path}.{name}"), field, found);
            }
            return;
        }
        let inner = [&schema["items"], &schema["additionalProperties"]]
            .into_iter()
            .find(|s| s["properties"].is_object());
        match inner {
            Some(inner) => values(path, inner, found),
            // An empty object says all by being there.
            None if schema["type"] == "object" && !schema["additionalProperties"].is_object() => {}
            None => found.push((path.to_owned(), schema.clone())),
        }
    }

    /// `kubectl explain` is where people learn what to write.
    #[test]
    fn each_value_that_people_write_has_an_example_or_is_a_choice() {
        let mut found = Vec::new();
        for crd in crds() {
            let (kind, schema) = (&crd.spec.names.kind, json!(crd.spec.versions[0].schema));
            values(&format!("{kind}.spec"), &schema["openAPIV3Schema"]["properties"]["spec"], &mut found);
        }
        let is_told = |schema: &Value| {
            let description = schema["description"].as_str().unwrap_or_default();
            let is_choice = [&schema["enum"], &schema["items"]["enum"]].iter().any(|words| words.is_array());
            let has_example = ["Example:", "Examples:"].iter().any(|word| description.contains(word));
            has_example || is_choice || schema["type"] == "boolean"
        };
        let is_written = |path: &str| {
            !path.contains(OF_KUBERNETES) && !WRITTEN_BY_FOTHER.iter().any(|fixed| path.starts_with(fixed))
        };
        assert!(found.len() > 100, "{found:#?}");
        let bare = found.iter().filter(|(path, schema)| is_written(path) && !is_told(schema));
        let bare: Vec<_> = bare.map(|(path, _)| path).collect();
        assert!(bare.is_empty(), "{bare:#?}");
    }
}
