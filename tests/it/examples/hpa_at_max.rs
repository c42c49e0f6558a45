//! An autoscaler wants more than it may have. Nobody is bothered with one that comes down again; about one that does not a
//! person decides, and the button that he presses does what he has read, once.

use fother::api::Execution;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::stage::{Place, Stage};
use crate::support::examples::folder;
use crate::support::wait::{DEADLINE, eventually};

const NAME: &str = "checkout";

/// Plays the controller of autoscalers: it would have more if it might, or not.
async fn wants_more(stage: &Stage, wants: bool) {
    let (status, reason) = if wants { ("True", "TooManyReplicas") } else { ("False", "DesiredWithinRange") };
    let status = json!({"status": {"currentReplicas": 4, "desiredReplicas": 4, "conditions": [
        {"type": "ScalingLimited", "status": status, "reason": reason, "message": ""}]}});
    let autoscalers = stage.api::<HorizontalPodAutoscaler>();
    autoscalers.patch_status(NAME, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn maximum(stage: &Stage) -> i32 {
    stage.api::<HorizontalPodAutoscaler>().get(NAME).await.unwrap().spec.unwrap().max_replicas
}

/// Waits until the Rule holds the autoscaler for this reason; or does not hold it.
async fn held(stage: &Stage, reason: Option<&str>) {
    let expected: Vec<_> = reason.iter().map(|reason| (NAME, *reason)).collect();
    stage.holds(&expected).await;
}

/// What the Rule has recorded.
async fn records(stage: &Stage) -> Vec<Execution> {
    let found = stage.executions().await.into_iter();
    found.filter(|execution| execution.spec.decision.is_some()).collect()
}

/// Waits for the record of a Rule that observes, which is the only one whose episode is open.
async fn recorded(stage: &Stage, count: usize) -> Execution {
    eventually(&format!("{count} records"), DEADLINE, || async {
        let found = records(stage).await;
        let ended = found.iter().filter(|record| record.reason() == Some("Observed")).count();
        if ended == count { Ok(found.last().unwrap().clone()) } else { Err(format!("{found:#?}")) }
    })
    .await
}

/// Presses the button: creates what `raise.yaml` holds, with these parameters.
async fn pressed(stage: &Stage, with: Value) -> String {
    let text = std::fs::read_to_string(folder("setup").join("hpa-at-max/raise.yaml")).unwrap();
    let mut button: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(button["spec"]["with"], json!({"from": 4}));
    button["spec"]["with"] = with;
    button["spec"]["verify"]["stableFor"] = "0s".into();
    let button = serde_json::from_value(button).unwrap();
    stage.api::<Execution>().create(&PostParams::default(), &button).await.unwrap().name_any()
}

/// Waits until a run by hand is over.
async fn over(stage: &Stage, name: &str) -> Execution {
    eventually(&format!("{name} is over"), DEADLINE, || async {
        let found = stage.api::<Execution>().get(name).await.map_err(|error| error.to_string())?;
        if found.is_finished() { Ok(found) } else { Err(format!("{:?}", found.status)) }
    })
    .await
}

/// One that comes down within five minutes, and one that belongs to git.
async fn is_left_alone(stage: &Stage) {
    wants_more(stage, true).await;
    held(stage, Some("For")).await;
    wants_more(stage, false).await;
    held(stage, None).await;
    stage.retune(|rule| rule.spec.hold_for = Some("1s".parse().unwrap())).await;
    let of_git = |value: Value| json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": value}}});
    stage.patch::<HorizontalPodAutoscaler>(NAME, of_git("shop".into())).await;
    wants_more(stage, true).await;
    held(stage, Some("Unless")).await;
    stage.explained("OwnedByGit").await;
    assert_eq!(stage.api::<Execution>().list(&ListParams::default()).await.unwrap().items.len(), 0);
    stage.patch::<HorizontalPodAutoscaler>(NAME, of_git(Value::Null)).await;
}

pub async fn a_person_decides_about_an_autoscaler_that_stays_at_its_maximum(place: &Place) {
    let stage = Stage::of(place, ("hpa-at-max", NAME), json!({}), |_| {}).await;
    stage.set_up("autoscaler.yaml").await;
    is_left_alone(&stage).await;

    let record = recorded(&stage, 1).await;
    let message = "would have run raise-max-replicas on HorizontalPodAutoscaler";
    assert!(json!(record.status).to_string().contains(message), "{:#?}", record.status);
    assert_eq!(maximum(&stage).await, 4, "it is for a person");

    // Two persons press it, and one of them has read an old record.
    let (one, two) = tokio::join!(pressed(&stage, json!({"from": 4})), pressed(&stage, json!({"from": 4})));
    eventually("the maximum is raised", DEADLINE, || async {
        let found = maximum(&stage).await;
        if found == 5 { Ok(()) } else { Err(found) }
    })
    .await;
    wants_more(&stage, false).await;
    for name in [one, two] {
        assert_eq!(over(&stage, &name).await.reason(), Some("TargetRecovered"));
    }
    let late = over(&stage, &pressed(&stage, json!({"from": 3})).await).await;
    assert_eq!(late.reason(), Some("ActionFailed"), "{:#?}", late.status);
    assert_eq!(maximum(&stage).await, 5, "20 % once, and nothing of a plan for another maximum");

    eventually("the record's episode is over", DEADLINE, || async {
        let record = records(&stage).await.remove(0);
        record.status.unwrap_or_default().episode_closed_at.map(|_| ()).ok_or("it is not")
    })
    .await;
    wants_more(&stage, true).await;
    recorded(&stage, 2).await;
}
