//! What the controllers do with Deployments and Jobs whose pods are make-believe.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::kubelet::container;
use super::stage::Stage;
use crate::support::audit::Request;
use crate::support::wait::{DEADLINE, eventually};

fn deployment(name: &str, replicas: u32) -> Value {
    let pod = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "web:1"}]},
    });
    json!({
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod},
    })
}

async fn annotate(stage: &Stage, pod: &str, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    stage.api::<Pod>().patch(pod, &PatchParams::default(), &patch).await.unwrap();
}

/// A Deployment comes up; a restart replaces its pods without a gap; an undo finds the old ReplicaSet again.
pub async fn a_deployment_rolls_out(stage: &Stage) {
    stage.create::<Deployment>(deployment("web", 2)).await;
    let up = &["rollout", "status", "deployment/web", "--timeout=60s"];
    stage.kubectl(up).await;
    let first = stage.api::<Pod>().list(&ListParams::default().labels("app=web")).await.unwrap().items;
    assert_eq!(first.len(), 2);

    stage.kubectl(&["rollout", "restart", "deployment/web"]).await;
    stage.kubectl(up).await;
    let sets = || async {
        stage.api::<ReplicaSet>().list(&ListParams::default().labels("app=web")).await.unwrap().items
    };
    let mut sizes: Vec<_> = sets().await.iter().map(|set| set.spec.as_ref().unwrap().replicas).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [Some(0), Some(2)]);
    let old = first.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    eventually("the old pods are gone", DEADLINE, || async {
        let left = stage.api::<Pod>().list(&ListParams::default().labels("app=web")).await.unwrap().items;
        let left: Vec<_> = left.iter().map(ResourceExt::name_any).filter(|name| old.contains(name)).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
    })
    .await;

    stage.kubectl(&["rollout", "undo", "deployment/web"]).await;
    stage.kubectl(up).await;
    assert_eq!(sets().await.len(), 2, "the first ReplicaSet serves again");
    let deployment = stage.api::<Deployment>().get("web").await.unwrap();
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "3");

    stage.kubectl(&["scale", "deployment/web", "--replicas=1"]).await;
    stage
        .until::<Deployment>("scaled down", "web", |web| {
            web.status.as_ref().is_some_and(|status| status.replicas == Some(1))
        })
        .await;
}

/// A make-believe pod breaks when told to, stays broken, and is well again once it was replaced.
pub async fn a_broken_pod_recovers_by_replacement(stage: &Stage) {
    stage.create::<Deployment>(deployment("web", 1)).await;
    stage.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]).await;
    let pod = stage.one_pod("app=web", "ready", |pod| container(pod).ready).await.name_any();
    annotate(
        stage,
        &pod,
        json!({"sandbox.local/exit-code": "137", "sandbox.local/exit-reason": "OOMKilled"}),
    )
    .await;
    let broken = |pod: &Pod| {
        let status = container(pod);
        let last = status.last_state.and_then(|state| state.terminated);
        status.restart_count >= 2 && last.is_some_and(|last| last.reason.as_deref() == Some("OOMKilled"))
    };
    stage.until::<Pod>("crash-looping", &pod, broken).await;
    stage.kubectl(&["wait", "--for=condition=Available=false", "deployment/web", "--timeout=60s"]).await;
    annotate(stage, &pod, json!({"sandbox.local/exit-code": null, "sandbox.local/exit-reason": null})).await;
    let count = container(&stage.api::<Pod>().get(&pod).await.unwrap()).restart_count;
    stage.until::<Pod>("still crash-looping", &pod, |pod| container(pod).restart_count > count).await;

    stage.api::<Pod>().delete(&pod, &DeleteParams::default()).await.unwrap();
    stage.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]).await;
    assert_ne!(stage.one_pod("app=web", "ready", |pod| container(pod).ready).await.name_any(), pod);
}

/// A rollout to an image that cannot be pulled stands still, says so when its time is over, and keeps the old pod.
pub async fn a_bad_rollout_is_late(stage: &Stage) {
    let mut web = deployment("web", 1);
    web["spec"]["minReadySeconds"] = json!(1);
    stage.create::<Deployment>(web).await;
    stage.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    // Only now: the first rollout may take its time.
    let bad = json!({"spec": {"progressDeadlineSeconds": 2, "template": {
        "metadata": {"annotations": {"sandbox.local/pull": "fail"}},
        "spec": {"containers": [{"name": "main", "image": "web:2"}]},
    }}});
    stage.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Strategic(bad)).await.unwrap();
    let late = |web: &Deployment| {
        let conditions = web.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let reasons: Vec<_> = conditions.filter_map(|condition| condition.reason.as_deref()).collect();
        reasons.contains(&"ProgressDeadlineExceeded") && reasons.contains(&"MinimumReplicasAvailable")
    };
    stage.until::<Deployment>("late, but available", "web", late).await;
    let pods = stage.api::<Pod>().list(&ListParams::default().labels("app=web")).await.unwrap().items;
    assert_eq!(pods.len(), 2);
    let new = pods.iter().find(|pod| !container(pod).ready).expect("the new one").name_any();
    // The time of the rollout may be over before the node has tried.
    let is_not_pulled = |pod: &Pod| {
        let reason = container(pod).state.and_then(|state| state.waiting?.reason);
        reason.is_some_and(|reason| ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()))
    };
    stage.until::<Pod>("not pulled", &new, is_not_pulled).await;
}

fn job(name: &str, spec: Value, script: &str) -> Value {
    let mut spec = spec;
    let main = json!({"name": "main", "image": "debian", "command": ["sh", "-c", script]});
    spec["template"] = json!({"spec": {"restartPolicy": "Never", "containers": [main]}});
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Pods that fail are replaced up to the limit; pods that succeed are counted; a suspended Job has none.
pub async fn jobs_count_their_pods(stage: &Stage) {
    stage.create::<Job>(job("many", json!({"completions": 8, "parallelism": 3}), "true")).await;
    stage.create::<Job>(job("hopeless", json!({"backoffLimit": 1}), "exit 4")).await;
    stage.create::<Job>(job("held", json!({"suspend": true}), "true")).await;
    stage.kubectl(&["wait", "--for=condition=Complete", "job/many", "--timeout=60s"]).await;
    stage.kubectl(&["wait", "--for=condition=Failed", "job/hopeless", "--timeout=60s"]).await;
    let status =
        |name: &'static str| async move { stage.api::<Job>().get(name).await.unwrap().status.unwrap() };
    let many = status("many").await;
    assert_eq!((many.succeeded, many.active.unwrap_or_default()), (Some(8), 0));
    assert!(many.completion_time.is_some());
    let kinds = |status: &k8s_openapi::api::batch::v1::JobStatus| {
        let conditions = status.conditions.iter().flatten();
        conditions.map(|one| (one.type_.clone(), one.reason.clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    let named = |kind: &str, reason: &str| (kind.to_owned(), reason.to_owned());
    let reason = "CompletionsReached";
    assert_eq!(kinds(&many), [named("SuccessCriteriaMet", reason), named("Complete", reason)]);
    let hopeless = status("hopeless").await;
    assert_eq!(hopeless.failed, Some(2));
    let reason = "BackoffLimitExceeded";
    assert_eq!(kinds(&hopeless), [named("FailureTarget", reason), named("Failed", reason)]);

    stage
        .until::<Job>("suspended", "held", |job| {
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|condition| condition.type_ == "Suspended" && condition.status == "True")
        })
        .await;
    let pods = ListParams::default().labels("job-name=held");
    assert!(stage.api::<Pod>().list(&pods).await.unwrap().items.is_empty());
    let resume = Patch::Merge(json!({"spec": {"suspend": false}}));
    stage.api::<Job>().patch("held", &PatchParams::default(), &resume).await.unwrap();
    stage.kubectl(&["wait", "--for=condition=Complete", "job/held", "--timeout=60s"]).await;
}

/// A pod that somebody deletes fails its Job, once it has ended; a late Job ends its pod; an old one is deleted.
pub async fn jobs_end_with_their_pods(stage: &Stage) {
    let patient = json!({"backoffLimit": 0, "podReplacementPolicy": "Failed"});
    stage.create::<Job>(job("deleted", patient, "exec sleep 600")).await;
    let running = |pod: &Pod| container(pod).state.is_some_and(|state| state.running.is_some());
    let pod = stage.one_pod("job-name=deleted", "running", running).await.name_any();
    stage.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(5)).await.unwrap();
    stage.kubectl(&["wait", "--for=condition=Failed", "job/deleted", "--timeout=60s"]).await;
    let status = stage.api::<Job>().get("deleted").await.unwrap().status.unwrap();
    assert_eq!((status.failed, status.terminating.unwrap_or_default()), (Some(1), 0));
    assert!(stage.api::<Pod>().get_opt(&pod).await.unwrap().is_none(), "its finalizer is gone");

    stage.create::<Job>(job("late", json!({"activeDeadlineSeconds": 1}), "exec sleep 600")).await;
    let late = |job: &Job| {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|one| one.type_ == "Failed" && one.reason.as_deref() == Some("DeadlineExceeded"))
    };
    stage.until::<Job>("late", "late", late).await;

    stage.create::<Job>(job("brief", json!({"ttlSecondsAfterFinished": 1}), "true")).await;
    let deleted = |job: &Job| job.metadata.deletion_timestamp.is_some();
    eventually("the Job is deleted", DEADLINE, || async {
        let job = stage.api::<Job>().get_opt("brief").await.unwrap();
        if job.as_ref().is_none_or(deleted) { Ok(()) } else { Err(format!("{job:?}")) }
    })
    .await;
}

/// A StatefulSet's pods come one after the other, each with its claim, and are replaced under their names.
pub async fn a_stateful_set_keeps_its_names(stage: &Stage) {
    let mut db = deployment("db", 2);
    db["spec"]["serviceName"] = json!("db");
    db["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    db["spec"]["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }]);
    stage.create::<StatefulSet>(db).await;
    let up = &["rollout", "status", "statefulset/db", "--timeout=60s"];
    stage.kubectl(up).await;
    let uid = |name: &'static str| async move { stage.api::<Pod>().get(name).await.unwrap().uid() };
    let before = [uid("db-0").await, uid("db-1").await];
    stage.kubectl(&["get", "pvc", "data-db-0", "data-db-1"]).await;
    stage.kubectl(&["rollout", "restart", "statefulset/db"]).await;
    stage.kubectl(up).await;
    let after = [uid("db-0").await, uid("db-1").await];
    assert!(before.iter().all(|uid| !after.contains(uid)), "{before:?} {after:?}");
    stage.kubectl(&["scale", "statefulset/db", "--replicas=1"]).await;
    stage.kubectl(&["wait", "--for=delete", "pod/db-1", "--timeout=60s"]).await;
    assert_eq!(uid("db-0").await, after[0]);
}

/// When a Job is deleted its pods go too, although nobody counts them any more.
pub async fn pods_of_a_deleted_job_go(stage: &Stage) {
    stage.create::<Job>(job("going", json!({}), "exec sleep 600")).await;
    let running = |pod: &Pod| container(pod).state.is_some_and(|state| state.running.is_some());
    let pod = stage.one_pod("job-name=going", "running", running).await.name_any();
    stage.kubectl(&["delete", "job/going", "--cascade=background", "--wait=false"]).await;
    stage.kubectl(&["wait", "--for=delete", &format!("pod/{pod}"), "--timeout=60s"]).await;
}

/// Once everything is as it should be, nothing is written any more, whatever wakes the controllers.
pub async fn a_settled_world_writes_nothing(stage: &Stage) {
    stage.create::<Deployment>(deployment("web", 2)).await;
    stage.create::<Job>(job("done", json!({}), "true")).await;
    stage.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    stage.kubectl(&["wait", "--for=condition=Complete", "job/done", "--timeout=60s"]).await;
    let settled = |request: &Request| {
        let of_these = |name: &str| name.starts_with("web") || name.starts_with("done");
        let here = request.namespace.as_ref() == Some(&stage.namespace);
        here && request.is_write() && request.name.as_deref().is_some_and(of_these)
    };
    let mut round = 0;
    // The last status may still be on its way at first; a controller that never rests is found out all the same.
    eventually("a new start of the controllers writes nothing", DEADLINE, || {
        round += 1;
        let marker = format!("marker-{round}");
        async move {
            let Some(log) = stage.audit() else { return Ok(()) };
            let mark = log.mark().await;
            stage.create::<Deployment>(deployment(&marker, 1)).await;
            let stop = stage.start_world();
            stage.kubectl(&["rollout", "status", &format!("deployment/{marker}"), "--timeout=60s"]).await;
            stop.cancel();
            let writes: Vec<_> = log.since(mark).await.into_iter().filter(settled).collect();
            if writes.is_empty() { Ok(()) } else { Err(format!("{writes:#?}")) }
        }
    })
    .await;
}
