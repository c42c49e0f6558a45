//! The floor: a bare loop that does the least that can be called the same. It watches boats; for each that leaks it
//! creates a small custom resource and a Job, and writes the resource's status. It remembers nothing, asks nothing,
//! verifies nothing, and acts with the rights of an administrator.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harbor::WAYS;
use crate::support::access::Access;

/// What this program is told to be the bare loop.
pub const VERB: &str = "bare-loop";
/// What it says when it watches.
pub const WATCHING: &str = "watching";

/// The small custom resource.
pub fn definition() -> CustomResourceDefinition {
    let object = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": object, "status": object}});
    serde_json::from_value(json!({
        "metadata": {"name": "records.bench.fother.dev"},
        "spec": {
            "group": "bench.fother.dev",
            "names": {"kind": "Record", "plural": "records", "singular": "record"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            }],
        },
    }))
    .unwrap()
}

/// Watches and acts until it is killed.
pub async fn run(arguments: &[String]) {
    let [kubeconfig, namespace] = arguments else { panic!("{VERB} KUBECONFIG NAMESPACE") };
    let client = Access::from_file(kubeconfig.as_ref()).client().await;
    let boats = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("bench.fother.dev", "v1", "Record"));
    let records = Arc::new(Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind));
    let jobs = Api::<Job>::namespaced(client, namespace);
    let watch = boats.watch(&WatchParams::default(), "0").await.unwrap();
    println!("{WATCHING}");
    let leaking = watch.try_filter_map(|event| async {
        let (WatchEvent::Added(boat) | WatchEvent::Modified(boat)) = event else { return Ok(None) };
        let leaks =
            boat.data.as_ref().is_some_and(|data| data.get("hull").is_some_and(|hull| hull == "leaking"));
        Ok(leaks.then(|| boat.name_any()))
    });
    // Two streams: a watch that ends would end the loop, and it lives for minutes.
    let leaking = leaking.filter_map(|boat| async { boat.ok() });
    leaking
        .chain(stream::pending())
        .for_each_concurrent(WAYS, |boat| {
            let (records, jobs) = (records.clone(), jobs.clone());
            async move { act(&records, &jobs, &boat).await }
        })
        .await;
}

async fn act(records: &Api<DynamicObject>, jobs: &Api<Job>, boat: &str) {
    let types = json!({"apiVersion": "bench.fother.dev/v1", "kind": "Record"});
    let mut record = json!({"metadata": {"name": boat}, "spec": {"target": boat, "rule": "leaks"}});
    json_patch::merge(&mut record, &types);
    let record: DynamicObject = serde_json::from_value(record).unwrap();
    let record = records.create(&PostParams::default(), &record).await.unwrap();
    let job = jobs.create(&PostParams::default(), &job(boat, record.uid())).await.unwrap();
    let mut status = json!({"status": {"job": job.uid(), "state": "Running"}});
    json_patch::merge(&mut status, &types);
    let written = records.patch_status(boat, &PatchParams::default(), &Patch::Merge(&status)).await;
    written.unwrap();
}

fn job(boat: &str, record: Option<String>) -> Job {
    let owner: Value =
        json!({"apiVersion": "bench.fother.dev/v1", "kind": "Record", "name": boat, "uid": record});
    serde_json::from_value(json!({
        "metadata": {"name": boat, "ownerReferences": [owner]},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "debian:12-slim", "command": ["true"]}],
        }}},
    }))
    .unwrap()
}
