//! What a real cluster says of each object of `states`, beside what was recorded of it: the statuses that `expr::tests`
//! stands on. `UPDATE_EXPECT=1` records them anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fother::expr::{Bindings, Expression, Scope};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams, TypeMeta};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::kept::{shape, written};
use crate::support::wait::eventually;

/// A kubelet waits before it starts a container a third time, and a minute passes until a node is missed.
const PATIENCE: Duration = Duration::from_mins(3);
const KINDS: [(&str, &str); 6] = [
    ("", "Pod"),
    ("", "Node"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
];

/// The predicates that a kind is asked, by name.
const OF_PODS: [(&str, &str); 7] = [
    ("crashLooping", "crashLooping(object, 2, duration('1h'))"),
    ("restarted", "crashLooping(object, 1, duration('1h'))"),
    ("oomKilled", "oomKilled(object)"),
    ("imagePullFailing", "imagePullFailing(object)"),
    ("unschedulable", "unschedulable(object)"),
    ("notReadyFor", "notReadyFor(object, duration('3s'))"),
    ("ready", "condition(object, 'Ready') == 'True'"),
];
const OF_WORKLOADS: [(&str, &str); 3] = [
    ("complete", "rolloutComplete(object)"),
    // Later than it was created.
    ("again", "rolledOutWithin(object, now - timestamp(object.metadata.creationTimestamp) - duration('1s'))"),
    ("progressing", "condition(object, 'Progressing') == 'True'"),
];
const OF_JOBS: [(&str, &str); 2] = [
    ("done", "condition(object, 'Complete') == 'True'"),
    ("failed", "condition(object, 'Failed') == 'True'"),
];
const OF_NODES: [(&str, &str); 2] = [
    ("notReadyFor", "notReadyFor(object, duration('0s'))"),
    ("ready", "condition(object, 'Ready') == 'True'"),
];

/// An object and its record, which have one name.
struct Record {
    kind: &'static str,
    name: &'static str,
    /// When it has come into its state.
    when: &'static str,
    /// The predicates that are true of it. All others that its kind is asked are false.
    truths: &'static [&'static str],
}

const fn record(
    kind: &'static str,
    name: &'static str,
    when: &'static str,
    truths: &'static [&'static str],
) -> Record {
    Record { kind, name, when, truths }
}

const RECORDS: [Record; 23] = [
    record(
        "Pod",
        "crash-looping",
        "WAITS == 'CrashLoopBackOff' && RESTARTS >= 2",
        &["crashLooping", "restarted", "notReadyFor"],
    ),
    record(
        "Pod",
        "crash-ended",
        "has(object.status.containerStatuses[0].state.terminated) && RESTARTS >= 2",
        &["crashLooping", "restarted", "notReadyFor"],
    ),
    record(
        "Pod",
        "restarted-once",
        "RUNS && RESTARTS == 1 && !crashLooping(object, 1, duration('3s'))",
        &["restarted", "ready"],
    ),
    record("Pod", "oom-killed", "object.status.phase == 'Failed'", &["oomKilled"]),
    record("Pod", "oom-restarted", "RUNS && RESTARTS == 1", &["restarted", "oomKilled", "ready"]),
    record("Pod", "image-pull", "WAITS == 'ErrImagePull'", &["imagePullFailing", "notReadyFor"]),
    record("Pod", "image-pull-back-off", "WAITS == 'ImagePullBackOff'", &["imagePullFailing", "notReadyFor"]),
    record("Pod", "unschedulable", "has(object.status.conditions)", &["unschedulable", "notReadyFor"]),
    record("Pod", "gated", "has(object.status.conditions)", &["notReadyFor"]),
    record("Pod", "completed", "object.status.phase == 'Succeeded'", &[]),
    record("Pod", "not-ready", "RUNS", &["notReadyFor"]),
    record("Deployment", "rolled-out", "SEEN", &["complete", "again", "progressing"]),
    record("Deployment", "restarted", "SEEN && RESTARTED", &["complete", "again", "progressing"]),
    record("Deployment", "rolling", "SEEN && UPDATED", &["again", "progressing"]),
    record("Deployment", "stalled", "SEEN && UPDATED && object.status.replicas == 2", &[]),
    record("StatefulSet", "stateful-set", "SEEN", &["complete"]),
    record("StatefulSet", "stateful-set-rolling", "SEEN && UPDATED", &[]),
    record("DaemonSet", "daemon-set", "SEEN", &["complete"]),
    record("DaemonSet", "daemon-set-rolling", "SEEN && UPDATED", &[]),
    record("Job", "complete-job", "true", &["done"]),
    record("Job", "failed-job", "true", &["failed"]),
    record("Node", "node-1", "true", &["ready"]),
    record("Node", "lost-node", "condition(object, 'Ready') == 'Unknown'", &["notReadyFor"]),
];

/// What `when` says in short.
const SHORT: [(&str, &str); 6] = [
    ("WAITS", "object.status.containerStatuses[0].state.?waiting.reason.orValue('')"),
    ("RUNS", "has(object.status.containerStatuses[0].state.running)"),
    ("RESTARTS", "object.status.containerStatuses[0].restartCount"),
    ("SEEN", "object.status.observedGeneration == object.metadata.generation"),
    (
        "RESTARTED",
        "object.spec.template.metadata.annotations.exists(key, key == 'kubectl.kubernetes.io/restartedAt')",
    ),
    (
        "UPDATED",
        "(object.status.?updatedReplicas.orValue(0) == 1 || object.status.?updatedNumberScheduled.orValue(0) == 1)",
    ),
];

impl Record {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/expr/tests/statuses/{}.yaml", self.name))
    }

    /// A Pod that fails is in turn what two records are of.
    fn object(&self) -> &'static str {
        match self.name {
            "crash-ended" => "crash-looping",
            "image-pull-back-off" => "image-pull",
            name => name,
        }
    }

    /// What speaks against it that the object is what the record is of; nothing if it is. The record is written if it shall be.
    fn differs(&self, object: &Value, version: &str) -> Option<String> {
        let when = SHORT.iter().fold(self.when.to_owned(), |when, (short, long)| when.replace(short, long));
        if ask(&when, object) != Ok(true) {
            return Some(format!("{when} is not true of {}", object["status"]));
        }
        let truths: Vec<_> = asked(self.kind)
            .iter()
            .filter(|(_, source)| ask(source, object) == Ok(true))
            .map(|(name, _)| *name)
            .collect();
        if truths != self.truths {
            return Some(format!("{truths:?}, not {:?}, are true of {}", self.truths, object["status"]));
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(self.path(), written(object, version)).unwrap();
        }
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        let (found, recorded) = (shape(object), shape(&serde_saphyr::from_str(&text).unwrap_or_default()));
        (found != recorded)
            .then(|| format!("the record is stale (UPDATE_EXPECT=1 writes it): {found}, not {recorded}"))
    }
}

fn asked(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "Pod" => &OF_PODS,
        "Job" => &OF_JOBS,
        "Node" => &OF_NODES,
        _ => &OF_WORKLOADS,
    }
}

fn ask(source: &str, object: &Value) -> Result<bool, String> {
    let expression = Expression::compile(source, &Scope::of(["object", "now"]))
        .unwrap_or_else(|e| panic!("{source}: {e:?}"));
    let bindings = Bindings::at(Timestamp::now()).with("object", object.clone());
    expression.matches(&bindings).map_err(|error| error.to_string())
}

/// Waits until each object is what its record is of.
pub async fn hold(client: &Client, namespace: &str) {
    let version = client.apiserver_version().await.unwrap().git_version;
    let left = RefCell::new(RECORDS.iter().collect::<Vec<_>>());
    eventually("each object is what its record is of", PATIENCE, || async {
        let mut objects = BTreeMap::new();
        for (group, kind) in KINDS {
            if left.borrow().iter().any(|record| record.kind == kind) {
                let found =
                    list(client, namespace, (group, kind)).await.map_err(|error| error.to_string())?;
                objects.extend(found.into_iter().map(|(name, object)| ((kind, name), object)));
            }
        }
        let differs = |record: &Record| match objects.get(&(record.kind, record.object().to_owned())) {
            Some(object) => record.differs(object, &version),
            None => Some("there is none".to_owned()),
        };
        let said =
            left.borrow().iter().map(|record| (record.name, differs(record))).collect::<BTreeMap<_, _>>();
        left.borrow_mut().retain(|record| said[record.name].is_some());
        let said: Vec<_> =
            said.iter().filter_map(|(name, said)| Some(format!("{name}: {}", said.as_ref()?))).collect();
        if said.is_empty() { Ok(()) } else { Err(said.join("\n")) }
    })
    .await;
}

/// The objects of a kind, by name, each with its kind.
async fn list(
    client: &Client,
    namespace: &str,
    (group, kind): (&str, &str),
) -> kube::Result<BTreeMap<String, Value>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let api: Api<DynamicObject> = if kind == "Node" {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let found = api.list(&ListParams::default()).await?.items.into_iter();
    Ok(found
        .map(|mut object| {
            object.types =
                Some(TypeMeta { api_version: resource.api_version.clone(), kind: kind.to_owned() });
            (object.name_any(), json!(object))
        })
        .collect())
}
