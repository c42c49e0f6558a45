//! Action: typed parameters and outputs around exactly one runner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{AnyValue, Duration, FreeForm, Output, Parameter, PodSettings, VolumeMount};

/// A remedy or a collector of evidence: typed parameters and outputs around exactly one runner.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fother.dev",
    version = "v1alpha1",
    kind = "Action",
    namespaced,
    status = "ActionStatus",
    shortname = "fa",
    category = "fother",
    doc = "A remedy or a collector of evidence: typed parameters and outputs around exactly one runner.",
    validation = Rule::new("self.metadata.name.size() <= 52").message("name is too long: max 52 characters"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.runner"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
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
#[x_kube(validation = Rule::new(
    "[has(self.script), has(self.container), has(self.kubernetes), has(self.collect)].filter(set, set).size() == 1"
).message("exactly one of script, container, kubernetes and collect must be set"))]
pub struct ActionSpec {
    /// What the Action does, in a sentence. Example: `Delete rotated logs older than the given age.`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub description: String,
    /// The values that it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Vec<Parameter>,
    /// The values that it gives back. Only `script` and `container` have declared outputs; `collect` gives
    /// `configMap`, the name of the `ConfigMap` that it wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub outputs: Vec<Output>,
    /// How long it may take; what runs longer is killed. Default: `5m`. Example: `90s`.
    #[serde(default = "default_timeout")]
    #[schemars(default = "default_timeout")]
    pub timeout: Duration,
    /// Run a script in a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptRunner>,
    /// Run a container in a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRunner>,
    /// Do one operation on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesRunner>,
    /// Save evidence before anything is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect: Option<CollectRunner>,
}

fn default_timeout() -> Duration {
    Duration::from_mins(5)
}

/// The one runner of an Action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Runner<'a> {
    /// A script in a Job.
    Script(&'a ScriptRunner),
    /// A container in a Job.
    Container(&'a ContainerRunner),
    /// An operation on the target.
    Kubernetes(&'a KubernetesRunner),
    /// A collector of evidence.
    Collect(&'a CollectRunner),
}

/// The kinds of runner.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RunnerKind {
    /// A script in a Job.
    Script,
    /// A container in a Job.
    Container,
    /// An operation on the target.
    Kubernetes,
    /// A collector of evidence.
    Collect,
    /// What a later version of fother knows and this one does not.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl ActionSpec {
    /// The runner, if there is exactly one.
    pub fn runner(&self) -> Option<Runner<'_>> {
        match (&self.script, &self.container, &self.kubernetes, &self.collect) {
            (Some(script), None, None, None) => Some(Runner::Script(script)),
            (None, Some(container), None, None) => Some(Runner::Container(container)),
            (None, None, Some(kubernetes), None) => Some(Runner::Kubernetes(kubernetes)),
            (None, None, None, Some(collect)) => Some(Runner::Collect(collect)),
            _ => None,
        }
    }
}

impl Runner<'_> {
    /// Which kind it is.
    pub const fn kind(self) -> RunnerKind {
        match self {
            Self::Script(_) => RunnerKind::Script,
            Self::Container(_) => RunnerKind::Container,
            Self::Kubernetes(_) => RunnerKind::Kubernetes,
            Self::Collect(_) => RunnerKind::Collect,
        }
    }
}

/// A script, run by an interpreter of the image in a Job, as the Rule's `ServiceAccount`.
///
/// Parameters come as environment (`FOTHER_PARAM_…`) and as the JSON file that `FOTHER_PARAMETERS` names; nothing is
/// ever pasted into the script. What it writes to the file that `FOTHER_OUTPUT` names becomes outputs.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.inline), has(self.file), has(self.configMap)].filter(set, set).size() == 1")
    .message("exactly one of inline, file and configMap must be set"))]
pub struct ScriptRunner {
    /// Image that has the interpreter. Example: `docker.io/library/debian:12-slim`.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Program and its arguments that come before the script's path. Default: `[sh, -eu]`. Example:
    /// `[bash, -euo, pipefail]`.
    #[serde(default = "default_interpreter")]
    #[schemars(
        default = "default_interpreter",
        length(min = 1, max = 16),
        inner(length(min = 1, max = 256))
    )]
    pub interpreter: Vec<String>,
    /// The script itself. Example: `rm -rf /cache/tmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub inline: Option<String>,
    /// Path of the script in the pack. Syncing replaces it by `configMap`; it means nothing outside a pack. Example:
    /// `scripts/clean-disk.sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub file: Option<String>,
    /// The `ConfigMap` that holds the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// Secrets that the script may read, each in the folder `/fother/secrets/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretMount>,
    /// What else is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volumes: Vec<VolumeMount>,
    /// Where the Pod runs, and what it may use. Default: anywhere, and little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
    /// Whether the script gets the `ServiceAccount`'s token, to talk to the Kubernetes API. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automount_service_account_token: bool,
}

fn default_interpreter() -> Vec<String> {
    vec!["sh".to_owned(), "-eu".to_owned()]
}

/// A key of a `ConfigMap` in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// Name of the `ConfigMap`. Example: `scripts`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in it. Example: `clean.sh`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A Secret that an Action may read, as files.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretMount {
    /// Name of the Secret, in the Action's namespace. Its keys are files in `/fother/secrets/NAME`. Example: `tickets`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A container, run in a Job as the Rule's `ServiceAccount`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRunner {
    /// Image. Example: `registry.example.com/ops/cleaner@sha256:…`.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Program and arguments; no templates: parameters come as environment and file. Default: the image's own.
    /// Example: `[/bin/reindex, --online]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments; no templates. Example: `[--all, --wait]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Secrets that the container may read, each in the folder `/fother/secrets/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretMount>,
    /// What else is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volumes: Vec<VolumeMount>,
    /// Where the Pod runs, and what it may use. Default: anywhere, and little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
    /// Whether the container gets the `ServiceAccount`'s token, to talk to the Kubernetes API. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automount_service_account_token: bool,
}

/// One operation on the target, done as the Rule's `ServiceAccount`: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.restart), has(self.scale), has(self.patch), has(self.delete), has(self.recreate), has(self.annotate), has(self.label)].filter(set, set).size() == 1"
).message("exactly one of restart, scale, patch, delete, recreate, annotate and label must be set"))]
pub struct KubernetesRunner {
    /// Restart a workload's Pods, as `kubectl rollout restart` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Set the number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Patch the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<ObjectPatch>,
    /// Delete the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<Delete>,
    /// Delete the target and create it again, changed by a merge patch or a JSON patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recreate: Option<Recreate>,
    /// Set annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotate: Option<MetadataChange>,
    /// Set labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<MetadataChange>,
}

/// Restart a workload's Pods: a Deployment, `StatefulSet` or `DaemonSet`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {}

/// Delete an object.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    /// Seconds that Pods get to stop. Default: the Pod's own. Example: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_period_seconds: Option<i32>,
}

/// Set the number of replicas.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// The number, or a template that gives it. Examples: `0`, `${{ inputs.replicas }}`.
    pub replicas: IntOrString,
}

/// Patch an object: exactly one of the fields. Strings may hold `${{ … }}` templates over `inputs` and `target`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.merge), has(self.strategic), has(self.json)].filter(set, set).size() == 1")
    .message("exactly one of merge, strategic and json must be set"))]
pub struct ObjectPatch {
    /// RFC 7386: maps are merged, lists are replaced. Example: `{spec: {paused: true}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<FreeForm>,
    /// Kubernetes' own: lists of built-in kinds are merged by key. Example:
    /// `{spec: {template: {spec: {containers: [{name: app, image: "app:2"}]}}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategic: Option<FreeForm>,
    /// RFC 6902: operations on paths. Example: `[{op: replace, path: /spec/replicas, value: 3}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub json: Option<Vec<PatchOperation>>,
}

/// Delete an object and create it again, changed by at most one of the fields. Strings may hold `${{ … }}` templates
/// over `inputs` and `target`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.merge) && has(self.json))")
    .message("at most one of merge and json can be set"))]
pub struct Recreate {
    /// RFC 7386: maps are merged, lists are replaced. Example: `{spec: {backoffLimit: 0}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<FreeForm>,
    /// RFC 6902: operations on paths. Example:
    /// `[{op: replace, path: /spec/template/spec/containers/0/resources/limits/memory, value: 1Gi}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub json: Option<Vec<PatchOperation>>,
}

/// One operation of RFC 6902.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchOperation {
    /// What to do: `add`, `remove`, `replace` or `test`.
    pub op: PatchVerb,
    /// JSON pointer to the place. Example: `/spec/replicas`.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// The value; not for `remove`. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<AnyValue>,
}

/// What an operation of RFC 6902 does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PatchVerb {
    /// Add a member or an item.
    Add,
    /// Remove a member or an item.
    Remove,
    /// Replace a value.
    Replace,
    /// Refuse the patch unless the value is this one.
    Test,
}

/// Labels or annotations to set.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataChange {
    /// Keys and values; values may hold `${{ … }}` templates over `inputs` and `target`. Example:
    /// `{example.com/quarantined: "true"}`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 64))]
    pub values: BTreeMap<String, String>,
}

/// Save evidence about the target in a `ConfigMap`, which the Execution names in its output `configMap`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectRunner {
    /// What to save. Default: all of it.
    #[serde(default = "all_evidence")]
    #[schemars(default = "all_evidence", length(min = 1, max = 3))]
    pub include: Vec<Evidence>,
    /// Lines of each container's log, from its end. Default: 200. Example: 1000.
    #[serde(default = "default_tail_lines")]
    #[schemars(default = "default_tail_lines", range(min = 1, max = 2000))]
    pub tail_lines: i32,
}

fn all_evidence() -> Vec<Evidence> {
    vec![Evidence::Describe, Evidence::Events, Evidence::Logs]
}

fn default_tail_lines() -> i32 {
    200
}

/// A sort of evidence.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Evidence {
    /// The target and its Pods, as YAML.
    Describe,
    /// The Events about the target and its Pods.
    Events,
    /// The logs of the Pods' containers, of the current and the previous instance.
    Logs,
}

/// What the Action has come to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// Ready, Accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The kind of runner: script, container, kubernetes or collect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerKind>,
    /// The image that its Job runs; none for an Action without a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
}
