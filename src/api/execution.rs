//! Execution: one episode's remediation, or one run by hand.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnyValue, ConditionType, FreeForm, Guard, Mode, ObjectReference, TriggerEvent, Verify, condition,
};

/// The most that is told of a rung, in characters.
pub const LONGEST_MESSAGE: usize = 2048;
/// The most that is told of a verification, in characters: what the schema lets through.
const LONGEST_VERDICT: usize = 1024;

/// One episode's remediation, decided by a Rule, or one run of an Action by hand (`spec.run`).
///
/// The spec is immutable, except for `cancel`; `decision` is set by the controller alone.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fother.dev",
    version = "v1alpha1",
    kind = "Execution",
    namespaced,
    status = "ExecutionStatus",
    shortname = "fx",
    category = "fother",
    doc = "One episode's remediation, decided by a Rule, or one run of an Action by hand.",
    // What an earlier version let in has a status by now, and has to be able to end.
    validation = Rule::new("has(self.status) || self.metadata.name.size() <= 63")
        .message("name is too long: max 63 characters"),
    validation = Rule::new(
        "has(self.status) || !has(self.spec.run) || !self.metadata.name.matches('-[0-9a-f]{16}$')"
    )
    .message("a name that ends with a hyphen and 16 hexadecimal digits is for what a Rule decides"),
    selectable = ".spec.decision.rule.name",
    selectable = ".spec.target.kind",
    selectable = ".spec.target.name",
    printcolumn(name = "Rule", type_ = "string", json_path = ".spec.decision.rule.name"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
    printcolumn(
        name = "Succeeded",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"
    ),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Event", type_ = "string", json_path = ".spec.decision.id", priority = 1),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".spec.decision.rule.revision",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.run) != has(self.decision)")
    .message("set run (decision is for the controller)"))]
#[x_kube(validation = Rule::new("has(self.decision) ? has(self.target) && !has(self.with) && !has(self.verify) : true")
    .message("a decided Execution takes parameters and verification from its Rule"))]
#[x_kube(validation = Rule::new(
    "self.serviceAccountName == oldSelf.serviceAccountName && has(self.run) == has(oldSelf.run) && (!has(self.run) || self.run == oldSelf.run) && has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target) && has(self.decision) == has(oldSelf.decision) && (!has(self.decision) || self.decision == oldSelf.decision) && has(self.with) == has(oldSelf.with) && (!has(self.with) || self.with == oldSelf.with) && has(self.verify) == has(oldSelf.verify) && (!has(self.verify) || self.verify == oldSelf.verify)"
).message("an Execution is immutable, except for spec.cancel"))]
#[x_kube(validation = Rule::new("!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)")
    .message("a cancellation cannot be taken back"))]
pub struct ExecutionSpec {
    /// Whether it is to stop: what runs is killed, nothing else starts. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// `ServiceAccount` in the Execution's namespace as which everything is done; it has to carry the annotation
    /// `fother.dev/allow: "true"`. Example: `healer`.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,
    /// What is remedied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectReference>,
    /// For a run by hand: name of the Action. Example: `restart-workload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 52))]
    pub run: Option<String>,
    /// For a run by hand: values of the Action's parameters. Example: `{olderThanDays: 3}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub with: FreeForm,
    /// For a run by hand: what proves that it worked. Default: nothing is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// What the controller decided, and from what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What the controller decided, and from what.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Identity: the same rule, target and occurrence always have the same, so that nothing happens twice. 32
    /// hexadecimal digits.
    #[schemars(length(max = 32), regex(pattern = "^[0-9a-f]{32}$"))]
    pub id: String,
    /// When it was decided.
    pub time: Time,
    /// The Rule, as it was.
    pub rule: RuleReference,
    /// Whether it is carried out.
    pub mode: Mode,
    /// What tells this occurrence from others: the id of the decision before it for the same rule and target, or the
    /// identity of an event. Empty for the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub occurrence: String,
    /// The object that matched.
    pub matched: MatchedObject,
    /// The event or alert that matched, as far as expressions read it, if the API server does not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<TriggerEvent>,
    /// The events that led to it together, by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub captured: Vec<CapturedEvent>,
    /// How many Executions it follows from, one after the other. Left out if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub depth: Option<i32>,
    /// Since when the target had a matching object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The guards that were asked and let it pass, in the order in which they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub passed: Vec<Guard>,
    /// Name of the `ControllerRevision` that keeps the ladder and its Actions as they were.
    #[schemars(length(min = 1, max = 253))]
    pub definition: String,
}

/// A Rule as it was when it decided.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReference {
    /// Name of the Rule.
    #[schemars(length(min = 1, max = 52))]
    pub name: String,
    /// Generation of its spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The revision in git that it came from. Example: `main@sha1:4c1e9a2f…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub revision: Option<String>,
    /// The file and line that it came from. Example: `rules/crashloop.yaml:3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub source: Option<String>,
}

/// The object that a Rule matched.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchedObject {
    /// Which it was.
    pub object: ObjectReference,
    /// Its version then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub resource_version: String,
}

/// An event that led to a decision together with others.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CapturedEvent {
    /// What tells it from others.
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    /// Name of the member of `correlate` that it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub member: Option<String>,
    /// What kind of occurrence it is.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub event_type: String,
    /// When it happened.
    pub time: Time,
    /// What happened, as far as expressions read it: at most 16 KiB of one event, and 64 KiB of all.
    #[serde(default)]
    pub data: AnyValue,
    /// What expressions read of `data` and there was no room for: an expression that reads it fails. Example: `data.diff`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub left_out: Vec<String>,
}

/// How far the Execution has come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStatus {
    /// Succeeded (Unknown while it runs), Finished (True at any end), Verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When its first rung began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When a complete view of the cluster, newer than the end, showed no match for the target any more. Until then
    /// the Execution holds its episode, and no other is decided for the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode_closed_at: Option<Time>,
    /// The rung that is being climbed. Example: `restart-workload (2/3)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub step: Option<String>,
    /// How long it took. Example: `41s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// For a run by hand: name of the `ControllerRevision` that keeps the Action as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub definition: Option<String>,
    /// The rungs that were begun, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rungs: Vec<RungStatus>,
}

/// How one rung went.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RungStatus {
    /// Name of the Action.
    #[schemars(length(max = 52))]
    pub run: String,
    /// How the Action stands.
    pub state: AttemptState,
    /// When the Action began.
    pub started_at: Time,
    /// When the Action ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The Job, once its creation is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<ObjectReference>,
    /// What the Action gave back.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub outputs: FreeForm,
    /// What happened, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// For an operation whose target was given without a UID: that of the object that was there when it began. It is for
    /// no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub target_uid: Option<String>,
    /// For an operation that replaces its target: the manifest to create, saved before the old object is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<FreeForm>,
    /// For an operation that changes its target by a template: the patch that this came to, saved before it is sent, as the
    /// target is another afterwards: whoever sends it again sends the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<AnyValue>,
    /// The UID of the object that took the target's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub replaced_by: Option<String>,
    /// How the verification stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyStatus>,
}

/// How an Action stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AttemptState {
    /// It is about to begin; for operations without a Job, which may be repeated.
    #[default]
    Launching,
    /// Its Job exists.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// It was stopped at its deadline.
    DeadlineExceeded,
    /// Its Job vanished before its outcome was recorded. It is never repeated.
    Lost,
    /// What a later version of fother knows and this one does not: the Execution is left to that one.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl AttemptState {
    /// Whether the Action has ended.
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Launching | Self::Running | Self::Unknown)
    }
}

/// How the verification of a rung stands.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyStatus {
    /// When the verification began.
    pub started_at: Time,
    /// Since when it has held without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding_since: Option<Time>,
    /// The verdict, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
    /// What was seen, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl ExecutionStatus {
    /// The UID that the target has by now, if a rung has replaced it, or was the first to say which object is meant.
    pub fn target_uid(&self) -> Option<&str> {
        let mut newest_first = self.rungs.iter().rev();
        newest_first.find_map(|rung| rung.replaced_by.as_deref().or(rung.target_uid.as_deref()))
    }

    /// Cuts what is told of the rungs to what the schema lets through: a script, or a server that refuses, may say more, and a
    /// status that is not written holds its Execution for ever.
    pub fn cut_messages(&mut self) {
        for rung in &mut self.rungs {
            cut(&mut rung.message, LONGEST_MESSAGE);
            if let Some(verify) = &mut rung.verify {
                cut(&mut verify.message, LONGEST_VERDICT);
            }
        }
    }
}

fn cut(text: &mut String, longest: usize) {
    if let Some((at, _)) = text.char_indices().nth(longest) {
        text.truncate(at);
    }
}

impl Execution {
    /// Name of the `ControllerRevision` that keeps what it runs, once there is one.
    pub fn definition(&self) -> Option<&str> {
        let decided = self.spec.decision.as_ref().map(|d| d.definition.as_str());
        decided.or_else(|| self.status.as_ref()?.definition.as_deref())
    }

    /// Name of the Rule that decided it: what the spec says, which nobody can change. Its label is for selectors alone.
    pub fn rule(&self) -> Option<&str> {
        self.spec.decision.as_ref().map(|decision| decision.rule.name.as_str())
    }

    /// Whether its first rung has begun.
    pub fn has_begun(&self) -> bool {
        self.status.as_ref().is_some_and(|status| !status.rungs.is_empty())
    }

    /// Whether it has ended, well or badly.
    pub fn is_finished(&self) -> bool {
        self.status.as_ref().is_some_and(|s| s.finished_at.is_some())
    }

    /// Whether any Job of it was recorded.
    pub fn has_jobs(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.rungs.iter().any(|rung| rung.job.is_some()))
    }

    /// The reason of its `Succeeded` condition: how it ended, or how it stands.
    pub fn reason(&self) -> Option<&str> {
        let status = self.status.as_ref()?;
        condition(&status.conditions, ConditionType::Succeeded).map(|c| c.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_has_its_definition_before_it_has_a_status() {
        let decided: Execution = serde_json::from_value(serde_json::json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": "x"},
            "spec": {"serviceAccountName": "h", "decision": {"id": "0", "time": "2026-01-01T00:00:00Z",
                "rule": {"name": "r"}, "mode": "Enforce", "definition": "d-1",
                "matched": {"object": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}}},
        }))
        .expect("an Execution");
        assert_eq!(decided.definition(), Some("d-1"));
        assert_eq!(Execution::new("x", ExecutionSpec::default()).definition(), None);
    }
}
