//! How an Action's Job went: its end, and the outputs in its termination message.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

use super::parameters::coerce;
use super::pod::CONTAINER;
use crate::api::{FreeForm, Output};

/// The most that the kubelet keeps of a termination message, in bytes.
const MESSAGE_LIMIT: usize = 4096;

/// What was seen of a Job and its Pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobSeen {
    /// UID of the Job.
    pub uid: String,
    /// UID of the Execution that owns it.
    pub owner: Option<String>,
    /// How it ended, if it did.
    pub end: Option<JobEnd>,
    /// Whether it still carries our finalizer.
    pub held: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it only takes a name, so that no other Job can have it.
    pub placeholder: bool,
    /// Pods that may still run.
    pub live_pods: usize,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// Whether it completed.
    pub completed: bool,
    /// The Job's own reason, such as `DeadlineExceeded`.
    pub reason: String,
    /// The exit code of its container.
    pub exit_code: Option<i32>,
    /// The termination message: outputs, or the end of a failed container's log.
    pub message: String,
}

/// The finalizer that keeps a Job until its UID is recorded: until then its absence has to mean that it was never created.
pub const JOB_FINALIZER: &str = "fother.dev/job";

impl JobSeen {
    /// What is to be known of a Job, from it and its Pods.
    pub fn of(job: &Job, pods: &[Pod]) -> Self {
        let finalizers = job.metadata.finalizers.as_deref().unwrap_or_default();
        let held = finalizers.iter().any(|f| f == JOB_FINALIZER);
        // A Job that a person suspended is held.
        let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
        Self {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            owner: job
                .metadata
                .owner_references
                .iter()
                .flatten()
                .find(|o| o.controller == Some(true))
                .map(|o| o.uid.clone()),
            end: end_of(job, pods),
            held,
            placeholder: suspended && !held,
            deleting: job.metadata.deletion_timestamp.is_some(),
            live_pods: live(pods),
        }
    }
}

/// How many of these Pods may still run.
pub fn live(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| is_live(pod)).count()
}

/// A Job of an Execution that has ended, which is still to be let go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftJob {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whether it may still run.
    pub is_live: bool,
}

impl LeftJob {
    /// What is to be done about a Job; none if it belongs to another, or has been let go. A placeholder stays.
    pub fn of(job: &Job, execution_uid: Option<&str>) -> Option<Self> {
        let seen = JobSeen::of(job, &[]);
        let stays = job.spec.as_ref().is_none_or(|spec| spec.ttl_seconds_after_finished.is_none());
        let left = seen.owner.as_deref() == execution_uid && !seen.placeholder && (seen.held || stays);
        let is_live = seen.end.is_none();
        left.then(|| Self { name: job.metadata.name.clone().unwrap_or_default(), uid: seen.uid, is_live })
    }
}

fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn end_of(job: &Job, pods: &[Pod]) -> Option<JobEnd> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions
        .iter()
        .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    let completed = ended.type_ == "Complete";
    let terminated = pods
        .iter()
        .filter_map(|pod| {
            // Beside it may be others, which a site's admission has put there.
            let mut statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
            statuses.find(|status| status.name == CONTAINER)?.state.as_ref()?.terminated.as_ref()
        })
        .find(|terminated| (terminated.exit_code == 0) == completed);
    Some(JobEnd {
        completed,
        reason: ended.reason.clone().unwrap_or_default(),
        exit_code: terminated.map(|t| t.exit_code),
        // What the Job says of its success is not what the container gave back.
        message: terminated
            .and_then(|t| t.message.clone())
            .or_else(|| ended.message.clone().filter(|_| !completed))
            .unwrap_or_default(),
    })
}

/// The outputs of an Action, and what is to be said about them.
#[derive(Debug, Default, PartialEq)]
pub struct Outputs {
    /// Declared outputs, typed.
    pub values: FreeForm,
    /// Remarks that are no failure.
    pub notes: Vec<String>,
}

/// Reads the outputs that a container wrote: one JSON object, or lines of `name=value`.
pub fn read_outputs(declared: &[Output], message: &str) -> Result<Outputs, String> {
    if message.len() >= MESSAGE_LIMIT {
        return Err(format!("output exceeds {MESSAGE_LIMIT} bytes; write the rest to the log"));
    }
    let written = parse(message)?;
    let mut outputs = Outputs::default();
    for (name, value) in written {
        match declared.iter().find(|output| output.name == name) {
            Some(output) => {
                let value =
                    coerce(&name, output.value_type, &value).map_err(|e| e.replacen("param", "output", 1))?;
                outputs.values.0.insert(name, value);
            }
            None => outputs.notes.push(format!("output {name:?} is not declared and was left out")),
        }
    }
    Ok(outputs)
}

fn parse(message: &str) -> Result<Map<String, Value>, String> {
    let message = message.trim();
    if message.starts_with('{') {
        return serde_json::from_str(message).map_err(|e| format!("output is not valid JSON: {e}"));
    }
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), Value::String(value.trim().to_owned()))),
            None => Err("output is neither a JSON object nor lines of name=value".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn declared() -> Vec<Output> {
        serde_json::from_value(json!([{"name": "freedBytes", "type": "integer"}, {"name": "note"}]))
            .expect("valid")
    }

    #[test]
    fn lines_or_json() {
        for message in ["freedBytes=42\nnote = a=b \n", "{\"freedBytes\": 42, \"note\": \"a=b\"}"] {
            let outputs = read_outputs(&declared(), message).expect("reads");
            assert_eq!(outputs.values.to_value(), json!({"freedBytes": 42, "note": "a=b"}), "{message}");
        }
        assert_eq!(read_outputs(&declared(), ""), Ok(Outputs::default()));
    }

    #[test]
    fn a_script_that_gives_nothing_back_has_succeeded() {
        let seen = |condition: &str, exit_code: i32| {
            let job = json!({"status": {"conditions": [{"type": condition, "status": "True", "reason": "r",
                "message": "Reached expected number of succeeded pods"}]}});
            let pod = json!({"status": {"containerStatuses": [{"name": "action", "image": "x", "imageID": "x",
                "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": exit_code}}}]}});
            let job = serde_json::from_value(job).expect("a Job");
            end_of(&job, &[serde_json::from_value(pod).expect("a Pod")]).expect("it has ended")
        };
        let end = seen("Complete", 0);
        assert_eq!(read_outputs(&[], &end.message), Ok(Outputs::default()), "{end:?}");
        assert_eq!(seen("Failed", 1).message, "Reached expected number of succeeded pods");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (message, error) in [
            ("freedBytes=many", "output freedBytes=\"many\": want integer"),
            ("free text", "output is neither a JSON object nor lines of name=value"),
            ("{broken", "output is not valid JSON: key must be a string at line 1 column 2"),
        ] {
            assert_eq!(read_outputs(&declared(), message).expect_err("refused"), error);
        }
        let error = read_outputs(&declared(), &"x".repeat(4096)).expect_err("refused");
        assert_eq!(error, "output exceeds 4096 bytes; write the rest to the log");
    }

    #[test]
    fn undeclared_outputs_are_left_out_and_said() {
        let outputs = read_outputs(&declared(), "extra=1").expect("reads");
        assert_eq!(outputs.notes, ["output \"extra\" is not declared and was left out"]);
        assert!(outputs.values.is_empty());
    }

    #[test]
    fn the_end_of_a_job_is_its_condition_and_its_container() {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"uid": "j", "finalizers": [JOB_FINALIZER], "ownerReferences": [
                {"apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "name": "x", "uid": "x", "controller": true}]},
            "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
        }))
        .expect("a Job");
        let pod: Pod = serde_json::from_value(json!({
            "status": {"phase": "Failed", "containerStatuses": [{"name": "action", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 3, "message": "no space left"}}}]},
        }))
        .expect("a Pod");
        let seen = JobSeen::of(&job, &[pod]);
        assert_eq!((seen.owner.as_deref(), seen.held, seen.live_pods), (Some("x"), true, 0));
        let end = seen.end.expect("ended");
        assert_eq!((end.completed, end.exit_code, end.message.as_str()), (false, Some(3), "no space left"));
    }

    #[test]
    fn what_a_sidecar_says_is_not_the_outcome() {
        let status = |name: &str, message: &str| {
            json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "message": message}}})
        };
        let job = json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}});
        let job: Job = serde_json::from_value(job).expect("a Job");
        let said = |statuses: Value| {
            let pod = json!({"status": {"phase": "Succeeded", "containerStatuses": statuses}});
            let end = end_of(&job, &[serde_json::from_value(pod).expect("a Pod")]).expect("it has ended");
            (end.exit_code, end.message)
        };
        let both = json!([status("a-proxy", "freedBytes=1"), status(CONTAINER, "freedBytes=42")]);
        assert_eq!(said(both), (Some(0), "freedBytes=42".to_owned()), "the kubelet sorts them by name");
        assert_eq!(said(json!([status("a-proxy", "freedBytes=1")])), (None, String::new()));
    }
}
