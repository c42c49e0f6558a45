//! Memory while many Pods are watched.

use std::time::Duration;

use fother::api::Rule;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::harbor::{Berth, Harbor, WAYS};
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::usage;

/// How long the allocator has to give back what the first list took.
const REST: Duration = Duration::from_secs(20);

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let mut rows = Vec::new();
    let berth = harbor.berth("pods").await;
    let mut there = 0;
    for (count, most) in scale.pods {
        pods(&berth, there..*count).await;
        there = *count;
        let (mut settled, mut peak) = (Samples::default(), Samples::default());
        for _ in 0..scale.repetitions.min(2) {
            let (now, most) = watched(harbor, &berth, *count).await;
            settled.push(now);
            peak.push(most);
        }
        rows.push(Row::plain(format!("{count} Pods watched"), "MB", settled, Goal::AtMost(*most)));
        rows.push(Row::plain("… at the peak, during the list", "MB", peak, Goal::None));
    }
    let method = format!(
        "Resident memory of a controller with one Rule that watches Pods (each {} KB of JSON, as created), {} s after the Rule is Ready.",
        pod(0).to_string().len().div_ceil(1024),
        REST.as_secs()
    );
    Section { title: "Memory", method, rows }
}

async fn watched(harbor: &Harbor, berth: &Berth, count: usize) -> (f64, f64) {
    let controller = harbor.controller().await;
    let spec = json!({
        "serviceAccountName": "healer",
        "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}},
        "when": "crashLooping(object, 3, duration('10m'))",
        "ladder": [{"run": "caulk"}],
    });
    berth.create::<Rule>(json!({"metadata": {"name": format!("crashes-{count}")}, "spec": spec})).await;
    berth.rules_are_ready(1).await;
    tokio::time::sleep_until(tokio::time::Instant::now() + REST).await;
    let memory = usage::memory(controller.id());
    drop(controller);
    berth.leave().await;
    memory
}

async fn pods(berth: &Berth, numbers: std::ops::Range<usize>) {
    stream::iter(numbers)
        .for_each_concurrent(2 * WAYS, |n| async move {
            berth.create::<Pod>(pod(n)).await;
        })
        .await;
}

/// A Pod with about as much in it as they usually have.
pub fn pod(n: usize) -> Value {
    let env: Vec<_> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("some value of setting {n}")}))
        .collect();
    let probe =
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "failureThreshold": 3});
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/team/{name}:1.2.3"), "env": env,
            "ports": [{"containerPort": 8080, "name": "http"}], "livenessProbe": probe, "readinessProbe": probe,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}, {"name": "scratch", "mountPath": "/tmp"}],
        })
    };
    json!({
        "metadata": {
            "name": format!("web-7f9c6d5b8-{n:05}"),
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "pod-template-hash": "7f9c6d5b8"},
            "annotations": {"prometheus.io/scrape": "true", "checksum/config": "4c1e9a2f0d6b8e7c5a3b1d9f8e7c6b5a4d3c2b1a"},
        },
        "spec": {
            "containers": [container("web"), container("sidecar")],
            "volumes": [{"name": "settings", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
        },
    })
}
