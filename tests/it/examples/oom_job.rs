//! A Job that needs more memory than it is given by itself: it gets what there is, once, and then a person is told.

use fother::api::{Execution, Rule};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::stage::{Place, Stage};
use crate::support::examples::folder;

/// The cap of the pack, and a limit just below it.
const CAP: &str = "512Mi";
const BELOW: &str = "480Mi";

/// Less patience.
fn tune(rule: &mut Rule) {
    for verify in rule.spec.ladder.iter_mut().filter_map(|rung| rung.verify.as_mut()) {
        verify.within = "10s".parse().unwrap();
    }
}

/// Creates the Job of the pack's `workload.yaml` with this limit; it needs more than the cap.
async fn report(stage: &Stage, limit: &str) {
    let text = std::fs::read_to_string(folder("setup").join("oom-job/workload.yaml")).unwrap();
    let mut job: Value = serde_saphyr::from_str(&text.replace("96M", "640M")).unwrap();
    job["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"memory": limit}, "limits": {"memory": limit}});
    stage.apply(&job).await;
}

async fn job(stage: &Stage) -> Job {
    stage.api::<Job>().get("report").await.unwrap()
}

fn limit(job: &Job) -> String {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let resources = pod.and_then(|pod| pod.containers[0].resources.as_ref()).unwrap();
    resources.limits.as_ref().unwrap()["memory"].0.clone()
}

/// The states of the rungs that an Execution has begun, and the Rule that decided it.
fn story(execution: &Execution) -> (String, Vec<String>) {
    let rungs = execution.status.iter().flat_map(|status| &status.rungs);
    let rungs = rungs.map(|rung| format!("{} {:?}", rung.run, rung.state)).collect();
    (execution.spec.decision.as_ref().unwrap().rule.name.clone(), rungs)
}

/// The pack as it is, and the Job of its `workload.yaml`: 64Mi are too little, and 128Mi are enough.
pub async fn a_job_completes_with_more_memory(place: &Place) {
    let stage = Stage::of(place, ("oom-job", "reports"), json!({}), |_| {}).await;
    stage.set_up("workload.yaml").await;
    let first = job(&stage).await;

    let ended = stage.ended(&["TargetRecovered"]).await;
    let (rule, climbed) = story(&ended[0]);
    assert_eq!(rule, "oom-job");
    assert_eq!(climbed, ["collect-evidence Succeeded", "raise-memory Succeeded"]);

    let last = job(&stage).await;
    assert_eq!([limit(&first), limit(&last)], ["64Mi", "128Mi"]);
    let status = last.status.clone().unwrap();
    assert_eq!((status.succeeded, status.failed.unwrap_or_default()), (Some(1), 0), "{status:#?}");
    let recreated = ended[0].status.as_ref().unwrap().rungs[1].replaced_by.clone();
    assert_eq!((recreated, last.uid() == first.uid()), (last.uid(), false), "it was created again once");
}

pub async fn a_job_that_needs_more_than_the_cap_is_reported(place: &Place) {
    let stage = Stage::of(place, ("oom-job", "reports"), json!({}), tune).await;
    stage.ready("Rule", "oom-job-max-reached").await;
    report(&stage, BELOW).await;
    let first = job(&stage).await;

    let ended = stage.ended(&["Quarantined", "Completed"]).await;
    let (rule, climbed) = story(&ended[0]);
    assert_eq!(rule, "oom-job");
    assert_eq!(climbed, ["collect-evidence Succeeded", "raise-memory Succeeded", "raise-memory Failed"]);
    let refused = &ended[0].status.as_ref().unwrap().rungs[2];
    assert!(refused.replacement.is_none(), "the Job was never in danger: {refused:#?}");
    let (rule, climbed) = story(&ended[1]);
    assert_eq!(rule, "oom-job-max-reached");
    assert_eq!(climbed, ["collect-evidence Succeeded", "report-max-reached Succeeded"]);

    let last = job(&stage).await;
    assert_eq!([limit(&first), limit(&last)], [BELOW, CAP], "480Mi and 64Mi more are more than it may have");
    let recreated = ended[0].status.as_ref().unwrap().rungs[1].replaced_by.clone();
    assert_eq!(recreated, last.uid(), "it was created again once");
    assert_eq!(last.annotations()["example.com/out-of-memory"], format!("max reached: {CAP}"));
}

/// Nothing is tried with a Job that has what it may have from the start.
pub async fn a_job_at_the_cap_is_reported_and_not_touched(place: &Place) {
    let stage = Stage::of(place, ("oom-job", "reports"), json!({}), tune).await;
    stage.ready("Rule", "oom-job-max-reached").await;
    report(&stage, CAP).await;
    let first = job(&stage).await;
    let ended = stage.ended(&["Completed"]).await;
    assert_eq!(story(&ended[0]).0, "oom-job-max-reached");
    let last = job(&stage).await;
    assert_eq!((first.uid(), limit(&last).as_str()), (last.uid(), CAP));
}
