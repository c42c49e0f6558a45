//! What an Action may say about its Pod: where it runs, what it may use and what it mounts. None of it can loosen what the Pod may
//! do; the one field that can is refused unless the controller's flag allows it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{FreeForm, SecretReference};

/// Where the Pod of a script or container runs, and what it may use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Labels that the node has. Default: any node. Example: `{disktype: ssd}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not keep the Pod away. Default: none. Example:
    /// `[{key: dedicated, operator: Equal, value: ops, effect: NoSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// What the container gets. Default: a request of `10m` CPU and `32Mi` memory, and a limit of `256Mi` memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Secrets of the namespace with which the image is pulled. Default: the `ServiceAccount`'s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<SecretReference>,
    /// Any other fields of a Pod's spec, laid over the rest: lists are merged by name, and the container is called
    /// `action`. Refused unless the controller runs with `--allow-pod-overlays`. Example: `{hostNetwork: true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<FreeForm>,
}

/// A taint that does not keep the Pod away.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.key) || (has(self.operator) && self.operator == 'Exists')")
        .message("without key, operator must be Exists"),
    validation = Rule::new("!has(self.value) || !has(self.operator) || self.operator == 'Equal'")
        .message("value is for the operator Equal"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerationSeconds is for the effect NoExecute")
)]
pub struct Toleration {
    /// Key of the taint. Default: any, with the operator `Exists`. Example: `dedicated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// Whether the value counts: `Equal` or `Exists`. Default: `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint. Example: `ops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint: `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long the Pod stays on a node that gets the taint. Default: for ever. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration compares.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TolerationOperator {
    /// Key and value are those of the taint.
    Equal,
    /// The key is that of the taint.
    Exists,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TaintEffect {
    /// New Pods stay away.
    NoSchedule,
    /// New Pods stay away if they can.
    PreferNoSchedule,
    /// Pods leave.
    NoExecute,
}

/// What the container gets. A resource that is named here is as it says here; of memory, a request alone is the limit too.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.requests) || self.requests.all(name, name in ['cpu', 'memory', 'ephemeral-storage'])")
        .message("requests can be for cpu, memory and ephemeral-storage"),
    validation = Rule::new("!has(self.limits) || self.limits.all(name, name in ['cpu', 'memory', 'ephemeral-storage'])")
        .message("limits can be for cpu, memory and ephemeral-storage")
)]
pub struct Resources {
    /// What the node must have left: of `cpu`, `memory` and `ephemeral-storage`. Example: `{cpu: 100m, memory: 1Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 3))]
    pub requests: BTreeMap<String, Amount>,
    /// What the container cannot exceed: of `cpu`, `memory` and `ephemeral-storage`. Example: `{memory: 2Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 3))]
    pub limits: BTreeMap<String, Amount>,
}

/// An amount of a resource, as Kubernetes writes it: `250m`, `1Gi`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        })
    }
}

/// Something that is mounted: exactly one of `claimName`, `configMap`, `secret` and `emptyDir`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.claimName), has(self.configMap), has(self.secret), has(self.emptyDir)].filter(set, set).size() == 1"
).message("exactly one of claimName, configMap, secret and emptyDir must be set"))]
pub struct VolumeMount {
    /// Where it is mounted: an absolute path. Example: `/cache`.
    #[schemars(length(min = 2, max = 512), regex(pattern = "^/[^:]+$"))]
    pub mount_path: String,
    /// Whether it can only be read. Default: false; a `configMap` and a `secret` can never be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Name of a `PersistentVolumeClaim` in the Action's namespace. Example: `cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// A `ConfigMap` in the Action's namespace; its keys are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapReference>,
    /// A Secret in the Action's namespace; its keys are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretReference>,
    /// An empty folder that goes with the Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// A `ConfigMap` in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapReference {
    /// Name of the `ConfigMap`. Example: `settings`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An empty folder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// The most that it may hold; a Pod that writes more is evicted. Default: what the node has. Example: `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Amount>,
}
