//! What the controllers share: whose objects are whose, and what a pod's state means.

use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::sandbox::clock::Clock;
use crate::sandbox::recorder::{Notice, Recorder};

/// What every controller works with.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Writes events.
    pub recorder: Recorder,
    /// The time.
    pub clock: Clock,
    /// The first wait before a Job's failed pod is replaced.
    pub backoff_base: std::time::Duration,
}

/// Why a reconcile did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("failed to reconcile: {0}")]
    Api(#[from] kube::Error),
    /// A selector that selects nothing known.
    #[error("failed to read the selector: {0}")]
    Selector(#[from] kube::core::ParseExpressionError),
}

impl Context {
    /// The objects of one kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What `owner` controls of what `selector` selects, as the API server has it now.
    pub async fn owned<K, O>(&self, owner: &O, selector: &LabelSelector) -> Result<Vec<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
        O: ResourceExt,
    {
        let selector = Selector::try_from(selector.clone())?;
        let namespace = owner.namespace().unwrap_or_default();
        let all = self.api::<K>(&namespace).list(&ListParams::default().labels_from(&selector)).await?;
        let uid = owner.uid();
        Ok(all.items.into_iter().filter(|object| controller_uid(object) == uid).collect())
    }

    /// Writes the status of `object` if it says something else than `known`.
    pub async fn write_status<K, S>(&self, object: &K, known: Option<&S>, next: &S) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
        S: Serialize + Default,
    {
        let json = |status: &S| serde_json::to_value(status).map_err(kube::Error::SerdeError);
        let known = known.map_or_else(|| json(&S::default()), json)?;
        let next = json(next)?;
        if without_zeros(&known) != without_zeros(&next) {
            let patch = Patch::Merge(json!({"status": merge_patch(&known, &next)}));
            let api = self.api::<K>(&object.meta().namespace.clone().unwrap_or_default());
            api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    /// Creates a pod for `owner`, and says so in an event of `component`.
    pub async fn create_pod<O>(&self, owner: &O, pod: &Pod, component: &'static str) -> Result<(), Error>
    where
        O: ResourceExt + Resource<DynamicType = ()>,
    {
        let namespace = owner.namespace().unwrap_or_default();
        match self.api::<Pod>(&namespace).create(&PostParams::default(), pod).await {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.name_any());
                self.recorder
                    .record(owner.object_ref(&()), Notice::normal(component, "SuccessfulCreate", message));
                Ok(())
            }
            Err(error) => {
                let message = format!("Error creating: {error}");
                self.recorder
                    .record(owner.object_ref(&()), Notice::warning(component, "FailedCreate", message));
                Err(error.into())
            }
        }
    }

    /// Deletes a pod of `owner`; one that is gone already is as good.
    pub async fn delete_pod<O>(&self, owner: &O, pod: &Pod, component: &'static str) -> Result<(), Error>
    where
        O: ResourceExt + Resource<DynamicType = ()>,
    {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let api = self.api::<Pod>(&owner.namespace().unwrap_or_default());
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match api.delete(&pod.name_any(), &parameters).await {
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => {
                let message = format!("Deleted pod: {}", pod.name_any());
                self.recorder
                    .record(owner.object_ref(&()), Notice::normal(component, "SuccessfulDelete", message));
                Ok(())
            }
        }
    }
}

/// A pod as `template` has it, controlled by `owner`.
pub fn pod_of<O>(owner: &O, template: &PodTemplateSpec) -> Pod
where
    O: Resource<DynamicType = ()>,
{
    let given = template.metadata.clone().unwrap_or_default();
    let metadata = ObjectMeta {
        labels: given.labels,
        annotations: given.annotations,
        finalizers: given.finalizers,
        generate_name: owner.meta().name.as_ref().map(|name| format!("{name}-")),
        namespace: owner.meta().namespace.clone(),
        owner_references: Some(owner.controller_owner_ref(&()).into_iter().collect()),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec.clone(), status: None }
}

/// The UID of what controls `object`.
pub fn controller_uid(object: &impl ResourceExt) -> Option<String> {
    let controller = object.owner_references().iter().find(|owner| owner.controller == Some(true));
    controller.map(|owner| owner.uid.clone())
}

/// The pod's phase.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod has succeeded or failed.
pub fn terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod is neither ended nor being ended.
pub fn active(pod: &Pod) -> bool {
    !terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Since when the pod is ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready =
        conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// How long until a ready pod counts as available; none if it is not ready.
pub fn until_available(pod: &Pod, min_ready_seconds: Option<i32>, now: Timestamp) -> Option<SignedDuration> {
    let needed = SignedDuration::from_secs(min_ready_seconds.unwrap_or_default().into());
    Some((needed - now.duration_since(ready_since(pod)?)).max(SignedDuration::ZERO))
}

/// The status as API servers keep it: some leave out zeros and empty values.
fn without_zeros(status: &Value) -> Value {
    let zero = |value: &Value| match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let kept = status.as_object().into_iter().flatten().filter(|(_, value)| !zero(value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What turns `known` into `next`: a merge patch removes a field only when told to.
fn merge_patch(known: &Value, next: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (known, next) else { return next.clone() };
    let gone =
        before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let set = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let set =
        set.map(|(name, value)| (name.clone(), merge_patch(before.get(name).unwrap_or(&Value::Null), value)));
    gone.chain(set).collect()
}

/// A number of things, as Kubernetes counts them.
pub fn count<T>(things: impl IntoIterator<Item = T>) -> i32 {
    i32::try_from(things.into_iter().count()).unwrap_or(i32::MAX)
}

/// A count as Kubernetes writes most of them: a zero is left out, which a condition that reads it has to know.
pub fn shown(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

/// Names a template, in letters that spell no word.
pub fn template_hash(template: &PodTemplateSpec) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Maps in these types are ordered, so that equal templates give equal bytes.
    let bytes = serde_json::to_vec(template).unwrap_or_default();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    Sha256::digest(bytes).iter().take(10).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_patched_to_what_it_should_be() {
        for (known, next) in [
            (json!({"active": 1, "startTime": "x"}), json!({"active": 0})),
            (json!({"uncounted": {"failed": ["a"]}, "failed": 1}), json!({"uncounted": {}, "failed": 2})),
            (json!({}), json!({"conditions": [{"type": "A"}]})),
        ] {
            let mut status = known.clone();
            json_patch::merge(&mut status, &merge_patch(&known, &next));
            assert_eq!(status, next);
            assert_ne!(without_zeros(&known), without_zeros(&next));
        }
        assert_eq!(without_zeros(&json!({"a": 0, "b": {}, "c": [], "d": 1})), json!({"d": 1}));
    }

    #[test]
    fn a_template_keeps_its_name_until_it_changes() {
        let template = |annotations: serde_json::Value| -> PodTemplateSpec {
            serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
        };
        let one = template_hash(&template(json!({"a": "1", "b": "2"})));
        assert_eq!(one, template_hash(&template(json!({"b": "2", "a": "1"}))));
        assert_ne!(one, template_hash(&template(json!({"a": "1", "b": "3"}))), "a restart by annotation");
        assert_eq!(one.len(), 10);
    }
}
