//! A pair of Alertmanagers tells of Pods: what is deleted is one Pod, once, and only if it is the one, and unhealthy.

use std::sync::Arc;

use fother::api::Rule;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::stage::{Place, Stage, alert};
use crate::support::wait::{DEADLINE, eventually};
use crate::webhooks::stage::{at, notification};

pub const PACK: (&str, &str) = ("alerting-pod", "queues");

fn quicker(rule: &mut Rule) {
    rule.spec.ladder[1].verify.as_mut().unwrap().stable_for = "0s".parse().unwrap();
}

/// With two consumers that are Ready.
async fn stage(place: &Place) -> Stage {
    let stage = Stage::of(place, PACK, json!({}), quicker).await;
    stage.set_up("workload.yaml").await;
    is_ready(&stage, "consumer-0", true).await;
    is_ready(&stage, "consumer-1", true).await;
    stage
}

fn stuck(pod: &str, times: (&str, Option<&str>), more: Value) -> Value {
    let mut labels = json!({"namespace": "queues", "pod": pod, "severity": "critical"});
    json_patch::merge(&mut labels, &more);
    alert("ConsumerStuck", pod, labels, times)
}

/// Waits until a Pod is Ready, or until it is not, and returns its UID.
async fn is_ready(stage: &Stage, name: &str, wanted: bool) -> String {
    eventually(&format!("{name}: Ready is {wanted}"), DEADLINE, || async {
        let pod = stage.api::<Pod>().get(name).await.map_err(|error| error.to_string())?;
        let status = json!(pod.status);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let is = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if is == wanted { Ok(pod.uid().unwrap()) } else { Err(format!("{conditions:?}")) }
    })
    .await
}

async fn becomes_stuck(stage: &Stage, name: &str) -> String {
    stage.break_pod(name).await;
    is_ready(stage, name, false).await
}

/// The UIDs of all consumers that are deleted from now on.
async fn deletions(stage: &Stage) -> Arc<Mutex<Vec<String>>> {
    let pods: Api<Pod> = stage.api();
    let from = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("app.kubernetes.io/name=consumer");
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let told = seen.clone();
    tokio::spawn(async move {
        let watch = pods.watch(&params, &from).await.unwrap();
        let _ = watch
            .try_for_each(|event| {
                if let WatchEvent::Deleted(pod) = event {
                    told.lock().push(pod.uid().unwrap());
                }
                std::future::ready(Ok(()))
            })
            .await;
    });
    seen
}

pub async fn an_alerting_pod_is_deleted_once_and_nothing_is_when_it_is_resolved(place: &Place) {
    let stage = stage(place).await;
    let deleted = deletions(&stage).await;
    let broken = becomes_stuck(&stage, "consumer-0").await;
    let starts = at(0);
    stage.told_twice(&stuck("consumer-0", (&starts, None), json!({}))).await;
    let replacement = eventually("another Pod", DEADLINE, || async {
        let uid =
            stage.api::<Pod>().get("consumer-0").await.map_err(|error| error.to_string())?.uid().unwrap();
        if uid == broken { Err("the same".to_owned()) } else { Ok(uid) }
    })
    .await;
    assert_eq!(is_ready(&stage, "consumer-0", true).await, replacement);
    assert!(!stage.executions().await[0].is_finished(), "the alert still fires");
    stage.told_twice(&stuck("consumer-0", (&starts, Some(&at(0))), json!({}))).await;
    let found = stage.ended(&["TargetRecovered"]).await;
    assert_eq!(found[0].spec.target.as_ref().unwrap().uid.as_deref(), Some(broken.as_str()));
    let rungs: Vec<_> =
        found[0].status.as_ref().unwrap().rungs.iter().map(|rung| rung.run.as_str()).collect();
    assert_eq!(rungs, ["collect-evidence", "delete-pod"]);
    stage.closed().await;
    // What is only ever heard of as resolved is nothing to act upon.
    let resolved = notification(&[stuck("consumer-1", (&starts, Some(&at(0))), json!({}))]);
    let answer = stage.post(0, "alertmanager", &resolved).await;
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(is_ready(&stage, "consumer-0", true).await, replacement);
    assert_eq!(stage.executions().await.len(), 1);
    assert_eq!(deleted.lock().as_slice(), [broken]);
}

pub async fn a_pod_that_is_ready_newer_or_another_is_left_alone(place: &Place) {
    let stage = stage(place).await;
    let deleted = deletions(&stage).await;
    stage.told_twice(&stuck("consumer-0", (&at(0), None), json!({}))).await;
    stage.came_to("consumer-0", &["alerting-pod Held Unless PodIsReady"]).await;
    stage.holds(&[("consumer-0", "Unless")]).await;
    becomes_stuck(&stage, "consumer-1").await;
    stage.told_twice(&stuck("consumer-1", (&at(-3600), None), json!({}))).await;
    stage.came_to("consumer-1", &["alerting-pod Held Unless PodIsNewer"]).await;
    stage.holds(&[("consumer-0", "Unless"), ("consumer-1", "Unless")]).await;
    // It recovers in the meantime.
    stage.told_twice(&stuck("consumer-1", (&at(-3600), Some(&at(0))), json!({}))).await;
    stage.holds(&[("consumer-0", "Unless")]).await;
    stage.told_twice(&stuck("consumer-1", (&at(0), None), json!({"uid": "gone"}))).await;
    stage.holds(&[("consumer-0", "Unless"), ("consumer-1", "Unless")]).await;
    let said = || async { stage.outcomes().await };
    eventually("another Pod is meant", DEADLINE, || async {
        let said = said().await;
        if said.iter().any(|line| line.ends_with("Held Unless AnotherPod")) {
            Ok(())
        } else {
            Err(format!("{said:#?}"))
        }
    })
    .await;
    assert_eq!(stage.executions().await.len(), 0);
    assert_eq!(deleted.lock().as_slice(), [""; 0]);
}
