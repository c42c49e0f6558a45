//! The nouns: what users write and read, one file per kind.
//!
//! These types are the contract. The CRDs in `crds/` are generated from them, so their doc comments are user
//! documentation (`kubectl explain`). Nothing here does anything; verbs live in [`crate::decide`].

mod action;
mod common;
mod condition;
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
mod trigger_event;
mod webhook;

pub use action::{
    Action, ActionSpec, ActionStatus, CollectRunner, ConfigMapKey, ContainerRunner, Delete, Evidence,
    KubernetesRunner, MetadataChange, ObjectPatch, PatchOperation, PatchVerb, Recreate, Restart, Runner,
    RunnerKind, Scale, ScriptRunner, SecretMount,
};
pub use common::{ANNOTATION, AnyValue, FreeForm, GROUP, LABEL, VERSION};
pub use condition::{
    Condition, ConditionStatus, ConditionType, Progress, Reason, condition, set_condition, set_progress,
};
pub use duration::{DURATION_PATTERN, Duration, DurationError};
pub use event_batch::{
    AcceptedEvent, AlertState, EventBatch, EventBatchSpec, EventBatchStatus, EventOutcome, OutcomeKind,
};
pub use execution::{
    AttemptState, CapturedEvent, Decision, Execution, ExecutionSpec, ExecutionStatus, MatchedObject,
    RuleReference, RungStatus, VerifyStatus,
};
pub use guard::{Guard, HeldTarget};
pub use name::{MAX_NAME, is_valid_name};
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
    Absent, AlertTrigger, Correlate, EventTrigger, ExecutionTrigger, Limits, Member, Mode, ObjectedEvent,
    Once, Outcome, ResourceTrigger, Rule, RuleSpec, RuleStatus, Rung, ScheduleStatus, ScheduleTrigger, Take,
    Trigger, Unless, Verify, WebhookTrigger,
};
pub use target::{KEY_KIND, ObjectReference, ObjectTemplate, OwnerKind, Target};
pub use trigger_event::{ALERT_TEXTS, TriggerEvent};
pub use webhook::{
    Authentication, Bearer, Defaults, Encoding, Format, GenericMapping, HashAlgorithm, Hmac, MAX_BODY,
    RejectedCount, SecretKey, Signs, Truncated, Webhook, WebhookLimits, WebhookSpec, WebhookStatus,
};

use kube::CustomResourceExt;

/// All of fother's custom resource definitions, in the order in which they are installed.
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    vec![Pack::crd(), Webhook::crd(), Rule::crd(), Action::crd(), Execution::crd(), EventBatch::crd()]
}
