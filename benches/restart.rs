//! A controller that was away, a Rule that reads the status of many Pods, and a few that began to match meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fother::api::{Execution, Rule};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::harbor::{Berth, Harbor, WAYS};
use crate::memory::pod;
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::usage;

/// How many of the Pods crash-loop; the last page of the list has one of them.
const BROKEN: usize = 10;
const RESTARTS: i64 = 3;
const RECENT: SignedDuration = SignedDuration::from_mins(10);
/// Objects on a page of the floor's list, as kubectl has it.
const PAGE: usize = 500;
const LONG: Duration = Duration::from_mins(5);

/// What a turn of fother came to.
struct Turn {
    took: f64,
    cpu: f64,
    peak: f64,
}

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let (berth, count) = (harbor.berth("restart").await, scale.restart);
    stream::iter(0..count)
        .for_each_concurrent(2 * WAYS, |n| {
            let berth = &berth;
            async move {
                berth.create::<Pod>(pod(n)).await;
                says(berth, n, false).await;
            }
        })
        .await;
    let (mut floor, mut took) = (Samples::default(), Samples::default());
    let (mut cpu, mut peak) = (Samples::default(), Samples::default());
    for _ in 0..scale.repetitions {
        breaks_meanwhile(harbor, &berth, count).await;
        floor.push(bare(&berth).await);
        let turn = turn(harbor, &berth).await;
        took.push(turn.took);
        cpu.push(turn.cpu);
        peak.push(turn.peak);
        berth.leave().await;
    }
    let what = format!("{count} Pods judged");
    let rows = vec![
        Row { what, unit: "s", floor, fother: took, goal: Goal::None },
        Row::plain("… CPU", "s", cpu, Goal::None),
        Row::plain("… memory at its peak", "MB", peak, Goal::None),
    ];
    let method = format!(
        "A controller is ended, and {BROKEN} of {count} Pods (each {} KB of JSON, {:.1} KB of them a status) begin to crash-loop. Then it is \
         started: from there to the last of their {BROKEN} Executions, with the start of the process, its Lease, and all the looks before \
         something is done. The Rule is `crashLooping(object, {RESTARTS}, duration('10m'))`. Floor: a list in pages of {PAGE}, each parsed into JSON, \
         and the same question asked in Rust, in a process that runs already.",
        (pod(0).to_string().len() + status(0, false).to_string().len()).div_ceil(1024),
        f64::from(u32::try_from(status(0, false).to_string().len()).unwrap()) / 1024.0,
    );
    Section { title: "After a restart", method, rows }
}

/// Has a controller see all Pods well, ends it, and breaks some of them.
async fn breaks_meanwhile(harbor: &Harbor, berth: &Berth, count: usize) {
    let broken: Vec<_> = (1..=BROKEN).map(|part| part * count / BROKEN - 1).collect();
    for n in &broken {
        says(berth, *n, false).await;
    }
    let spec = json!({
        "serviceAccountName": "healer", "mode": "Enforce",
        "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}},
        "when": format!("crashLooping(object, {RESTARTS}, duration('10m'))"),
        "ladder": [{"run": "caulk"}],
    });
    berth.create::<Rule>(json!({"metadata": {"name": "crashes"}, "spec": spec})).await;
    let controller = harbor.controller().await;
    berth.rules_are_ready(1).await;
    drop(controller);
    for n in &broken {
        says(berth, *n, true).await;
    }
}

async fn turn(harbor: &Harbor, berth: &Berth) -> Turn {
    let seen = tokio::spawn(all_seen(berth.clone()));
    let began = Instant::now();
    let controller = harbor.controller().await;
    let last = tokio::time::timeout(LONG, seen).await.unwrap().unwrap();
    let (cpu, (_, peak)) = (usage::cpu(controller.id()).as_secs_f64(), usage::memory(controller.id()));
    drop(controller);
    Turn { took: (last - began).as_secs_f64(), cpu, peak }
}

/// When all broken Pods have their Executions.
async fn all_seen(berth: Berth) -> Instant {
    let mut events = berth.api::<Execution>().watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let mut targets = BTreeSet::new();
    while targets.len() < BROKEN {
        let event = events.try_next().await.unwrap().expect("the watch lives longer");
        if let WatchEvent::Added(execution) = event {
            targets.insert(execution.spec.target.map(|target| target.name).unwrap_or_default());
        }
    }
    Instant::now()
}

/// The least: lists all Pods, and asks each.
async fn bare(berth: &Berth) -> f64 {
    let (began, mut found, mut next) = (Instant::now(), 0, String::new());
    loop {
        let path = format!("/api/v1/namespaces/{}/pods?limit={PAGE}&continue={next}", berth.namespace);
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let page: Value = serde_json::from_str(&berth.client.request_text(request).await.unwrap()).unwrap();
        let now = Timestamp::now();
        found += page["items"].as_array().unwrap().iter().filter(|pod| crash_loops(pod, now)).count();
        page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut next);
        if next.is_empty() {
            break;
        }
    }
    assert_eq!(found, BROKEN);
    began.elapsed().as_secs_f64()
}

/// What the Rule asks.
fn crash_loops(pod: &Value, now: Timestamp) -> bool {
    let statuses = |list: &str| pod["status"][list].as_array().map_or(&[][..], Vec::as_slice);
    let ended = |container: &Value| {
        let of =
            |state: &str| container[state]["terminated"]["finishedAt"].as_str()?.parse::<Timestamp>().ok();
        of("state").or_else(|| of("lastState"))
    };
    pod["metadata"]["deletionTimestamp"].is_null()
        && ["containerStatuses", "initContainerStatuses"]
            .into_iter()
            .flat_map(statuses)
            .filter(|container| container["restartCount"].as_i64() >= Some(RESTARTS))
            .filter_map(ended)
            .any(|ended| now.duration_since(ended) <= RECENT)
}

/// Writes a Pod's status, as its kubelet does.
async fn says(berth: &Berth, n: usize, is_broken: bool) {
    let name = pod(n)["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = Patch::Merge(json!({"status": status(n, is_broken)}));
    let pod = berth.api::<Pod>().patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(pod.name_any(), name);
}

/// As long as they usually are. A third have a container that has ended once, long ago.
fn status(n: usize, is_broken: bool) -> Value {
    let (now, long_ago) = (Timestamp::now().to_string(), "2026-01-07T08:09:10Z");
    let conditions: Vec<_> = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    .into_iter()
    .map(
        |name| json!({"type": name, "status": "True", "lastProbeTime": null, "lastTransitionTime": long_ago}),
    )
    .collect();
    let container = |name: &str, restarts: i64, ended: Option<&str>| {
        let terminated = ended.map(|at| json!({"terminated": {
            "containerID": format!("containerd://4c1e9a2f0d6b8e7c5a3b1d9f8e7c6b5a4d3c2b1a4c1e9a2f0d6b8e7c{n:08}"),
            "exitCode": 1, "reason": "Error", "startedAt": long_ago, "finishedAt": at}}));
        json!({
            "name": name, "ready": true, "started": true, "restartCount": restarts,
            "image": format!("registry.example.com/team/{name}:1.2.3"),
            "imageID": format!("registry.example.com/team/{name}@sha256:8d3c2b1a4c1e9a2f0d6b8e7c5a3b1d9f8e7c6b5a4d3c2b1a4c1e9a2f0d6b8e7c"),
            "containerID": format!("containerd://0d6b8e7c5a3b1d9f8e7c6b5a4d3c2b1a4c1e9a2f0d6b8e7c5a3b1d9f{n:08}"),
            "state": {"running": {"startedAt": long_ago}}, "lastState": terminated.unwrap_or_else(|| json!({})),
        })
    };
    let web = match (is_broken, n.is_multiple_of(3)) {
        (true, _) => container("web", 7, Some(&now)),
        (false, true) => container("web", 1, Some(long_ago)),
        (false, false) => container("web", 0, None),
    };
    let address = format!("10.244.{}.{}", n / 250 % 250, n % 250);
    json!({
        "phase": "Running", "qosClass": "Burstable", "startTime": long_ago, "observedGeneration": 1,
        "hostIP": "10.1.2.3", "hostIPs": [{"ip": "10.1.2.3"}], "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions, "containerStatuses": [web, container("sidecar", 0, None)],
    })
}
