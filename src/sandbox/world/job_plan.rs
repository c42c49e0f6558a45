//! What is to become of a Job, from its specification and the state of its pods. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::common::{active, count, phase, ready_since, terminal};

/// Keeps a pod until its Job has counted it.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const DEFAULT_BACKOFF_LIMIT: i32 = 6;
/// The longest wait before a failed pod is replaced, as a multiple of the first: six minutes for ten seconds.
const LONGEST: u32 = 36;

/// The pods that have ended, each counted once even when a pass is cut short.
///
/// An ended pod is noted by its UID first, then loses its finalizer, then moves to the number. Its UID is thus in
/// the notes for as long as it could be seen again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pods that succeeded and are counted.
    pub succeeded: i32,
    /// Pods that failed and are counted.
    pub failed: i32,
    noted_succeeded: BTreeSet<String>,
    noted_failed: BTreeSet<String>,
}

impl Tally {
    /// The tally that `status` keeps.
    pub fn read(status: &JobStatus) -> Self {
        let notes = status.uncounted_terminated_pods.clone().unwrap_or_default();
        Self {
            succeeded: status.succeeded.unwrap_or_default(),
            failed: status.failed.unwrap_or_default(),
            noted_succeeded: notes.succeeded.into_iter().flatten().collect(),
            noted_failed: notes.failed.into_iter().flatten().collect(),
        }
    }

    /// Notes the pods that have ended and still have their finalizer. Says whether there were new ones.
    pub fn note(&mut self, pods: &[Pod], spec: &JobSpec) -> bool {
        let mut new = false;
        for pod in pods.iter().filter(|pod| tracked(pod)) {
            let uid = pod.uid().unwrap_or_default();
            if self.noted_succeeded.contains(&uid) || self.noted_failed.contains(&uid) {
                continue;
            }
            if phase(pod) == "Succeeded" {
                new |= self.noted_succeeded.insert(uid);
            } else if failed(pod, spec) {
                new |= self.noted_failed.insert(uid);
            }
        }
        new
    }

    /// Whether `pod` is noted, and may lose its finalizer.
    pub fn noted(&self, pod: &Pod) -> bool {
        pod.metadata
            .uid
            .as_ref()
            .is_some_and(|uid| self.noted_succeeded.contains(uid) || self.noted_failed.contains(uid))
    }

    /// Moves the noted pods to the numbers, once they have no finalizer.
    pub fn settle(&mut self) {
        self.succeeded += count(std::mem::take(&mut self.noted_succeeded));
        self.failed += count(std::mem::take(&mut self.noted_failed));
    }

    /// The tally as a status has it.
    pub fn write(&self, status: &mut JobStatus) {
        let list = |notes: &BTreeSet<String>| {
            Some(notes.iter().cloned().collect::<Vec<_>>()).filter(|list| !list.is_empty())
        };
        status.succeeded = Some(self.succeeded);
        status.failed = Some(self.failed);
        let (succeeded, failed) = (list(&self.noted_succeeded), list(&self.noted_failed));
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods { succeeded, failed });
    }
}

/// Whether the pod has the finalizer.
pub fn tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

fn failed(pod: &Pod, spec: &JobSpec) -> bool {
    let deleted = pod.metadata.deletion_timestamp.is_some() && !terminal(pod);
    let unbound = pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none());
    phase(pod) == "Failed" || deleted && (unbound || !waits_for_the_end(spec))
}

/// Whether a pod that is being ended holds its place until it has ended.
fn waits_for_the_end(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

/// What is to be done with a Job's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Have as many pods as this says: positive, so many more; negative, so many fewer.
    Run(i32),
    /// A failed pod is not replaced yet.
    Wait(Duration),
    /// End all pods: the Job is suspended, or has come to its end.
    EndPods,
}

/// The state of a Job's pods.
pub struct Seen<'a> {
    /// The Job's specification.
    pub spec: &'a JobSpec,
    /// Its status, as last known.
    pub status: &'a JobStatus,
    /// Its pods.
    pub pods: &'a [Pod],
    /// Those that have ended.
    pub tally: &'a Tally,
    /// Now.
    pub now: &'a Time,
    /// The first wait before a failed pod is replaced.
    pub backoff_base: Duration,
}

/// The status that the Job should have, and what to do with its pods.
pub fn plan(seen: &Seen<'_>) -> (JobStatus, Course) {
    let mut status = seen.status.clone();
    seen.tally.write(&mut status);
    let active = count(seen.pods.iter().filter(|pod| active(pod)));
    let terminating =
        count(seen.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !terminal(pod)));
    status.active = Some(active);
    status.terminating = Some(terminating);
    status.ready = Some(count(seen.pods.iter().filter(|pod| ready_since(pod).is_some())));
    let suspended = seen.spec.suspend == Some(true);
    if !suspended && condition(&status, "Suspended").is_some_and(|known| known.status == "True") {
        set(&mut status, seen.now, "Suspended", "False", ("JobResumed", "Job resumed"));
        status.start_time = None;
    }
    if !suspended && status.start_time.is_none() {
        status.start_time = Some(seen.now.clone());
    }
    if let Some((kind, end, reason, message)) = verdict(seen, &status, active, suspended) {
        set(&mut status, seen.now, kind, "True", (&reason, &message));
        if active == 0 && terminating == 0 {
            set(&mut status, seen.now, end, "True", (&reason, &message));
            status.completion_time = (end == "Complete").then(|| seen.now.clone());
        }
        return (status, Course::EndPods);
    }
    if suspended {
        set(&mut status, seen.now, "Suspended", "True", ("JobSuspended", "Job suspended"));
        status.start_time = None;
        return (status, Course::EndPods);
    }
    let course = course(seen, active, terminating);
    (status, course)
}

/// How the Job ends, once that is certain: the condition that says so first, the one that says so last, and why.
fn verdict(
    seen: &Seen<'_>,
    status: &JobStatus,
    active: i32,
    suspended: bool,
) -> Option<(&'static str, &'static str, String, String)> {
    for (kind, end) in [("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")] {
        if let Some(known) = condition(status, kind).filter(|known| known.status == "True") {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            return Some((kind, end, text(&known.reason), text(&known.message)));
        }
    }
    let failure = |reason: &str, message: &str| {
        Some(("FailureTarget", "Failed", reason.to_owned(), message.to_owned()))
    };
    if suspended {
        return None;
    }
    if too_many_failures(seen) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline(seen.spec, status).is_some_and(|deadline| deadline <= seen.now.0) {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    let succeeded = seen.tally.succeeded;
    let complete = match seen.spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active == 0,
    };
    complete.then(|| {
        let message = "Reached expected number of succeeded pods".to_owned();
        ("SuccessCriteriaMet", "Complete", "CompletionsReached".to_owned(), message)
    })
}

fn too_many_failures(seen: &Seen<'_>) -> bool {
    let limit = seen.spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF_LIMIT);
    let restarts: i32 = seen.pods.iter().filter(|pod| active(pod) && in_place(seen.spec)).map(restarts).sum();
    seen.tally.failed > limit || (restarts > 0 && restarts >= limit)
}

fn in_place(spec: &JobSpec) -> bool {
    let pod = spec.template.spec.as_ref();
    pod.and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    statuses.map(|status| status.restart_count).sum()
}

/// When the Job's time is over.
pub fn deadline(spec: &JobSpec, status: &JobStatus) -> Option<Timestamp> {
    Some(status.start_time.as_ref()?.0 + SignedDuration::from_secs(spec.active_deadline_seconds?))
}

fn course(seen: &Seen<'_>, active: i32, terminating: i32) -> Course {
    let parallelism = seen.spec.parallelism.unwrap_or(1);
    let wanted = match seen.spec.completions {
        Some(completions) => parallelism.min(completions - seen.tally.succeeded),
        None if seen.tally.succeeded > 0 => active,
        None => parallelism,
    };
    let held = if waits_for_the_end(seen.spec) { terminating } else { 0 };
    let missing = wanted - active - held;
    if missing <= 0 {
        return Course::Run((wanted - active).min(0));
    }
    match backoff(seen) {
        Some(wait) => Course::Wait(wait),
        None => Course::Run(missing),
    }
}

/// How long the next pod has to wait, after failures.
fn backoff(seen: &Seen<'_>) -> Option<Duration> {
    let failures = u32::try_from(seen.tally.failed).ok().filter(|&failures| failures > 0)?;
    let last = seen.pods.iter().filter(|pod| failed(pod, seen.spec)).filter_map(ended).max()?;
    let wait = seen.backoff_base * (1u32 << (failures - 1).min(16)).min(LONGEST);
    let since = Duration::try_from(seen.now.0.duration_since(last)).unwrap_or_default();
    wait.checked_sub(since).filter(|left| !left.is_zero())
}

fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let times =
        statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    times.map(|time| time.0).max()
}

/// The condition of one type.
pub fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The condition that says that the Job has come to its end.
pub fn finished(status: &JobStatus) -> Option<&JobCondition> {
    ["Complete", "Failed"]
        .iter()
        .find_map(|kind| condition(status, kind).filter(|known| known.status == "True"))
}

fn set(status: &mut JobStatus, now: &Time, kind: &str, value: &str, (reason, message): (&str, &str)) {
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|known| known.type_ == kind && known.status == value) {
        return;
    }
    conditions.retain(|known| known.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const BASE: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    fn spec(more: &Value) -> JobSpec {
        let mut spec = json!({"completions": 1, "parallelism": 1, "backoffLimit": 0, "template": {}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    /// A pod in a phase, bound to a node; `!` after the phase: it is being deleted.
    fn pod(name: &str, phase: &str) -> Pod {
        let ended = json!([{"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": at(0)}}}]);
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "finalizers": [FINALIZER]},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": phase.trim_end_matches('!'), "containerStatuses": ended},
        }))
        .unwrap();
        pod.metadata.deletion_timestamp = phase.ends_with('!').then(|| at(0));
        pod
    }

    /// The course, and the conditions that are true, after the pods ended as their phases say.
    fn play(spec: &JobSpec, status: &JobStatus, pods: &[Pod], second: i64) -> (Course, String, JobStatus) {
        let mut tally = Tally::read(status);
        tally.note(pods, spec);
        tally.settle();
        let now = at(second);
        let (status, course) =
            plan(&Seen { spec, status, pods, tally: &tally, now: &now, backoff_base: BASE });
        let shown = status.conditions.iter().flatten().filter(|known| known.status == "True");
        let shown =
            shown.map(|known| format!("{}:{}", known.type_, known.reason.as_deref().unwrap_or_default()));
        let shown = shown.collect::<Vec<_>>().join(" ");
        (course, shown, status)
    }

    #[test]
    fn a_job_runs_to_its_end() {
        let none = JobStatus::default();
        let retried = json!({"backoffLimit": 2});
        let parallel = json!({"completions": 3, "parallelism": 2});
        for (more, pods, course, conditions) in [
            (json!({}), vec![], Course::Run(1), ""),
            (json!({}), vec![pod("a", "Running")], Course::Run(0), ""),
            (
                json!({}),
                vec![pod("a", "Succeeded")],
                Course::EndPods,
                "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached",
            ),
            (
                json!({}),
                vec![pod("a", "Failed")],
                Course::EndPods,
                "FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded",
            ),
            (retried.clone(), vec![pod("a", "Failed")], Course::Wait(Duration::from_secs(9)), ""),
            (retried, vec![pod("a", "Failed"), pod("b", "Running")], Course::Run(0), ""),
            (parallel.clone(), vec![], Course::Run(2), ""),
            (parallel.clone(), vec![pod("a", "Succeeded"), pod("b", "Succeeded")], Course::Run(1), ""),
            (
                parallel,
                vec![pod("a", "Running"), pod("b", "Running"), pod("c", "Running")],
                Course::Run(-1),
                "",
            ),
            (json!({"suspend": true}), vec![pod("a", "Running")], Course::EndPods, "Suspended:JobSuspended"),
            // The end is certain, but waits for the pods.
            (
                json!({"completions": null}),
                vec![pod("a", "Succeeded"), pod("b", "Running")],
                Course::Run(0),
                "",
            ),
            (
                json!({}),
                vec![pod("a", "Failed"), pod("b", "Running")],
                Course::EndPods,
                "FailureTarget:BackoffLimitExceeded",
            ),
        ] {
            let seen = play(&spec(&more), &none, &pods, 1);
            assert_eq!((seen.0, seen.1.as_str()), (course, conditions), "{more} {}", pods.len());
        }
    }

    #[test]
    fn a_deleted_pod_counts_when_its_policy_says_so() {
        let none = JobStatus::default();
        let gone = [pod("a", "Running!")];
        let failed = "FailureTarget:BackoffLimitExceeded";
        assert_eq!(play(&spec(&json!({})), &none, &gone, 1).1, failed, "at once");
        let patient = spec(&json!({"podReplacementPolicy": "Failed"}));
        let (course, conditions, status) = play(&patient, &none, &gone, 1);
        assert_eq!(
            (course, conditions.as_str(), status.terminating),
            (Course::Run(0), "", Some(1)),
            "it holds its place"
        );
        let ended = play(&patient, &status, &[pod("a", "Failed!")], 2);
        assert_eq!(ended.1, "FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded");
    }

    #[test]
    fn time_is_limited_from_the_start_and_again_from_a_resumption() {
        let limited = spec(&json!({"activeDeadlineSeconds": 10}));
        let running = [pod("a", "Running")];
        let (_, _, status) = play(&limited, &JobStatus::default(), &running, 0);
        assert_eq!(play(&limited, &status, &running, 9).1, "");
        assert_eq!(play(&limited, &status, &running, 10).1, "FailureTarget:DeadlineExceeded");
        let (_, _, suspended) = play(&spec(&json!({"suspend": true})), &status, &[], 9);
        let (_, shown, resumed) = play(&limited, &suspended, &running, 12);
        assert_eq!((shown.as_str(), resumed.start_time), ("", Some(at(12))));
    }

    #[test]
    fn a_pass_that_is_cut_short_counts_no_pod_twice() {
        let spec = spec(&json!({"backoffLimit": 9}));
        let pods = [pod("a", "Failed"), pod("b", "Succeeded")];
        let mut status = JobStatus::default();
        for _ in 0..3 {
            let mut tally = Tally::read(&status);
            tally.note(&pods, &spec);
            tally.write(&mut status);
        }
        let mut tally = Tally::read(&status);
        assert!(!tally.note(&pods, &spec), "both are known");
        tally.settle();
        assert_eq!((tally.succeeded, tally.failed), (1, 1));
    }
}
