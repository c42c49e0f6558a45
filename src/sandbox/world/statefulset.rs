//! StatefulSets: numbered pods with claims of their own, brought up in order and updated from the last one down.
//!
//! Their templates are named, but not kept as ControllerRevisions; partitions and minReadySeconds have no effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use kube::ResourceExt;
use kube::api::PostParams;
use kube::runtime::controller::Action;

use super::common::{Context, Error, count, pod_of, ready_since, shown, template_hash, terminal};

const COMPONENT: &str = "statefulset-controller";
const REVISION: &str = "controller-revision-hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

/// Moves the pods of a StatefulSet one step towards what it asks for.
pub async fn reconcile(set: Arc<StatefulSet>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let revision = format!("{}-{}", set.name_any(), template_hash(&spec.template));
    let owned: Vec<Pod> = context.owned(set.as_ref(), &spec.selector).await?;
    let pods = by_ordinal(&set, owned);
    for step in steps(spec, &revision, &pods) {
        match step {
            Step::Create(ordinal) => create(&set, spec, ordinal, &revision, &context).await?,
            Step::Delete(ordinal) => context.delete_pod(set.as_ref(), &pods[&ordinal], COMPONENT).await?,
        }
    }
    let next = status(&set, spec, &revision, &pods);
    context.write_status(set.as_ref(), set.status.as_ref(), &next).await?;
    Ok(Action::await_change())
}

/// Something to do about the pod of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create(i32),
    Delete(i32),
}

fn by_ordinal(set: &StatefulSet, pods: Vec<Pod>) -> BTreeMap<i32, Pod> {
    let prefix = format!("{}-", set.name_any());
    let numbered = pods.into_iter().filter_map(|pod| {
        let ordinal = pod.name_any().strip_prefix(&prefix)?.parse().ok()?;
        Some((ordinal, pod))
    });
    numbered.collect()
}

/// What can be done now; each step that has to be waited for is the last one.
fn steps(spec: &StatefulSetSpec, revision: &str, pods: &BTreeMap<i32, Pod>) -> Vec<Step> {
    let replicas = spec.replicas.unwrap_or(1);
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let mut steps = Vec::new();
    for ordinal in 0..replicas {
        let step = match pods.get(&ordinal) {
            None => Some(Step::Create(ordinal)),
            Some(pod) if terminal(pod) => Some(Step::Delete(ordinal)),
            Some(pod) if healthy(pod) => continue,
            Some(_) => None,
        };
        steps.extend(step);
        if !parallel {
            return steps;
        }
    }
    if let Some((&last, _)) = pods.range(replicas..).next_back() {
        let surplus = pods.range(replicas..).map(|(&ordinal, _)| Step::Delete(ordinal));
        steps.extend(if parallel { surplus.collect() } else { vec![Step::Delete(last)] });
        return steps;
    }
    let on_delete =
        spec.update_strategy.as_ref().is_some_and(|update| update.type_.as_deref() == Some("OnDelete"));
    if on_delete || !pods.values().all(healthy) || !steps.is_empty() {
        return steps;
    }
    let outdated =
        pods.iter().rev().find(|(_, pod)| pod.labels().get(REVISION).map(String::as_str) != Some(revision));
    steps.extend(outdated.map(|(&ordinal, _)| Step::Delete(ordinal)));
    steps
}

fn healthy(pod: &Pod) -> bool {
    ready_since(pod).is_some() && pod.metadata.deletion_timestamp.is_none()
}

async fn create(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    ordinal: i32,
    revision: &str,
    context: &Context,
) -> Result<(), Error> {
    let api = context.api::<PersistentVolumeClaim>(&set.namespace().unwrap_or_default());
    for template in spec.volume_claim_templates.iter().flatten() {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        match api.create(&PostParams::default(), &claim).await {
            Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => {}
            created => drop(created?),
        }
    }
    context.create_pod(set, &pod(set, spec, ordinal, revision), COMPONENT).await
}

fn pod(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32, revision: &str) -> Pod {
    let mut pod = pod_of(set, &spec.template);
    let name = format!("{}-{ordinal}", set.name_any());
    let labels = pod.metadata.labels.get_or_insert_default();
    for (label, value) in [
        (POD_NAME, name.clone()),
        ("apps.kubernetes.io/pod-index", ordinal.to_string()),
        (REVISION, revision.to_owned()),
    ] {
        labels.insert(label.to_owned(), value);
    }
    pod.metadata.generate_name = None;
    let inside = pod.spec.get_or_insert_default();
    inside.hostname = Some(name.clone());
    inside.subdomain.clone_from(&spec.service_name);
    let volumes = inside.volumes.get_or_insert_default();
    for template in spec.volume_claim_templates.iter().flatten() {
        let claim_name = claim_name(set, template, ordinal);
        let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
        volumes.retain(|volume| volume.name != template.name_any());
        volumes.push(Volume {
            name: template.name_any(),
            persistent_volume_claim: Some(source),
            ..Volume::default()
        });
    }
    pod.metadata.name = Some(name);
    pod
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name_any(), set.name_any())
}

fn status(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &BTreeMap<i32, Pod>,
) -> StatefulSetStatus {
    let known = set.status.clone().unwrap_or_default();
    let of = |wanted: &str| {
        count(pods.values().filter(|pod| pod.labels().get(REVISION).is_some_and(|own| own == wanted)))
    };
    let (updated, ready) = (of(revision), count(pods.values().filter_map(ready_since)));
    let complete = updated == spec.replicas.unwrap_or(1) && ready == updated && count(pods) == updated;
    let current = if complete { None } else { known.current_revision.clone() };
    let current = current.unwrap_or_else(|| revision.to_owned());
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(pods),
        ready_replicas: shown(ready),
        available_replicas: Some(ready),
        current_replicas: shown(of(&current)),
        updated_replicas: shown(updated),
        current_revision: Some(current),
        update_revision: Some(revision.to_owned()),
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Pods from 0 on: `+` ready, `-` not ready, `o` ready but outdated, `x` failed, `!` being deleted, ` ` missing.
    fn pods(letters: &str) -> BTreeMap<i32, Pod> {
        let one = |letter: char| -> Pod {
            let ready = if "+o!".contains(letter) { "True" } else { "False" };
            let deleted = (letter == '!').then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({
                "metadata": {"labels": {REVISION: if letter == 'o' { "old" } else { "new" }}, "deletionTimestamp": deleted},
                "status": {
                    "phase": if letter == 'x' { "Failed" } else { "Running" },
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            }))
            .unwrap()
        };
        (0..)
            .zip(letters.chars())
            .filter(|(_, letter)| *letter != ' ')
            .map(|(at, letter)| (at, one(letter)))
            .collect()
    }

    #[test]
    fn pods_come_and_go_in_order() {
        use Step::{Create, Delete};
        for (letters, replicas, parallel, expected) in [
            ("", 3, false, vec![Create(0)]),
            ("-", 3, false, vec![]),
            ("+", 3, false, vec![Create(1)]),
            ("+ +", 3, false, vec![Create(1)]),
            ("+++", 3, false, vec![]),
            ("+x+", 3, false, vec![Delete(1)]),
            ("+!+", 3, false, vec![]),
            ("++++", 2, false, vec![Delete(3)]),
            ("ooo", 3, false, vec![Delete(2)]),
            ("oo-", 3, false, vec![]),
            ("oo+", 3, false, vec![Delete(1)]),
            ("", 2, true, vec![Create(0), Create(1)]),
            ("++++", 2, true, vec![Delete(2), Delete(3)]),
        ] {
            let policy = parallel.then(|| "Parallel".to_owned());
            let spec = StatefulSetSpec {
                replicas: Some(replicas),
                pod_management_policy: policy,
                ..StatefulSetSpec::default()
            };
            assert_eq!(steps(&spec, "new", &pods(letters)), expected, "{letters:?} of {replicas}");
        }
    }

    #[test]
    fn the_current_revision_follows_once_all_are_updated() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "db"},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"replicas": 2, "currentRevision": "old"},
        }))
        .unwrap();
        let shown = |letters: &str| {
            let status = status(&set, set.spec.as_ref().unwrap(), "new", &pods(letters));
            (status.current_revision.unwrap(), status.current_replicas, status.updated_replicas)
        };
        assert_eq!(shown("o+"), ("old".to_owned(), Some(1), Some(1)));
        assert_eq!(shown("++"), ("new".to_owned(), Some(2), Some(2)));
    }
}
