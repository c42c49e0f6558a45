//! The nouns: what users write and read, one file per kind.
//!
//! These types are the contract. The CRDs in `crds/` are generated from them, so their doc comments are user
//! documentation (`kubectl explain`). Nothing here does anything; verbs live in [`crate::decide`].

mod action;
mod common;
mod condition;
mod duration;
mod execution;
mod guard;
mod name;
mod pack;
mod parameter;
mod pod;
mod rule;
mod target;

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
pub use execution::{
    AttemptState, Decision, Execution, ExecutionSpec, ExecutionStatus, MatchedObject, RuleReference,
    RungStatus, VerifyStatus,
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
pub use rule::{
    EventTrigger, Limits, Mode, ResourceTrigger, Rule, RuleSpec, RuleStatus, Rung, Trigger, Verify,
};
pub use target::{ObjectReference, OwnerKind, Target};

use kube::CustomResourceExt;

/// All of fother's custom resource definitions, in the order in which they are installed.
pub fn crds()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    vec![Pack::crd(), Rule::crd(), Action::crd(), Execution::crd()]
}
