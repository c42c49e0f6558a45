//! Pack: a path in a git repository, synced into its own namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// A path in a git repository whose Rules, Actions and Webhooks are kept in the Pack's own namespace.
///
/// The whole revision is validated, and tried at the API server, before anything is applied: what fails there leaves the
/// last good revision in force.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fother.dev",
    version = "v1alpha1",
    kind = "Pack",
    namespaced,
    status = "PackStatus",
    shortname = "fpk",
    category = "fother",
    doc = "A path in a git repository whose Rules, Actions and Webhooks are kept in the Pack's own namespace.",
    validation = Rule::new("self.metadata.name.size() <= 52").message("name is too long: max 52 characters"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.appliedRevision"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.path", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PackSpec {
    /// Where the repository is: an https URL without credentials in it, or an ssh URL with a user. Examples:
    /// `https://git.example.com/ops/remediation.git`, `ssh://git@git.example.com/ops/remediation.git`,
    /// `git@git.example.com:ops/remediation.git`. (The sandbox takes a local path too.)
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// What to follow. Default: the repository's default branch.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitReference>,
    /// Folder of the pack inside the repository. Default: its root. Example: `packs/payments`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub path: Option<String>,
    /// How often the repository is asked for something new. Default: `5m`. Example: `1m`. The annotation
    /// `fother.dev/reconcile-requested-at` asks at once.
    #[serde(default = "default_interval")]
    #[schemars(default = "default_interval")]
    pub interval: Duration,
    /// How long one fetch may take. Default: `60s`. Example: `3m`.
    #[serde(default = "default_timeout")]
    #[schemars(default = "default_timeout")]
    pub timeout: Duration,
    /// Secret in the Pack's namespace. For https: the keys `username` and `password`, or `bearerToken`, and, if the
    /// server's certificate needs it, `ca.crt`. For ssh: `identity` (the private key), `known_hosts`, and, if the key
    /// is encrypted, `password`. It is read as the Pack's `ServiceAccount`, and used for the URL's host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Who must have signed what is synced. Default: nobody. A revision that is not signed so is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verification>,
    /// `ServiceAccount` in the Pack's namespace whose rights bound the sync. Example: `packs`.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,
    /// Whether objects that left the repository are deleted. Default: true. What left while it was false goes when it
    /// is true again.
    #[serde(default = "default_prune")]
    #[schemars(default = "default_prune")]
    pub prune: bool,
    /// Whether syncing rests. What was synced stays in force. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

fn default_interval() -> Duration {
    Duration::from_mins(5)
}

fn default_timeout() -> Duration {
    Duration::from_secs(60)
}

fn default_prune() -> bool {
    true
}

/// What to follow in a repository: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.branch), has(self.tag), has(self.semver), has(self.commit)].filter(set, set).size() == 1"
).message("exactly one of branch, tag, semver and commit must be set"))]
pub struct GitReference {
    /// A branch. Example: `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: Option<String>,
    /// A tag. Example: `v1.4.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub tag: Option<String>,
    /// The highest tag in a range of semantic versions. Example: `>=1.4.0, <2.0.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub semver: Option<String>,
    /// One commit, by its whole hash. Example: `4c1e9a2f0d6b8e7c5a3b1d9f8e7c6b5a4d3c2b1a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = "^[0-9a-f]{40}$"))]
    pub commit: Option<String>,
}

/// Who must have signed a revision: the commit, or the annotated tag if the Pack follows tags.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Those whose signature is good; one of them is enough.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub signers: Vec<Signer>,
}

/// Somebody who may sign.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// What messages call them. Example: `alice`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Their public key, as it stands in an OpenSSH `.pub` file: Ed25519, ECDSA, RSA of 2048 bits or more, or a
    /// security key. Example: `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFxiYb3Bvj9jSZY1v0dbl+EMv7UKg7XNEFa033781R+s`.
    #[schemars(length(min = 1, max = 4096), regex(pattern = "^(ssh|ecdsa|sk)-[^ ]+ [A-Za-z0-9+/=]+( .*)?$"))]
    pub public_key: String,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret. Example: `credentials`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the last syncs came to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackStatus {
    /// Ready, Authorized, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision that the cluster has. Example: `main@sha1:4c1e9a2f…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub applied_revision: Option<String>,
    /// The newest revision that was looked at, good or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub attempted_revision: Option<String>,
    /// A revision of which some objects have been applied, and others not yet: that is so until it is `appliedRevision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub applying_revision: Option<String>,
    /// Where `appliedRevision` came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_from: Option<Origin>,
    /// When `appliedRevision` was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// The last value of the annotation `fother.dev/reconcile-requested-at` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_handled_reconcile_at: Option<String>,
    /// What the Pack has applied, or is about to: the only objects it may delete. Also what left the repository while
    /// `prune` was false, as long as it exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub inventory: Vec<InventoryEntry>,
}

/// Where a revision came from: as long as the Pack says the same, a branch has to go on from it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The Pack's `url` at that time.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// The Pack's `ref` at that time.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitReference>,
}

/// One object that a Pack applied.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryEntry {
    /// Kind: Rule, Action, Webhook or `ConfigMap`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
}
