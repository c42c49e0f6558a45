//! Kubernetes Events about targets, so that `kubectl describe` tells the story.

use k8s_openapi::api::core::v1::ObjectReference as CoreReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::objects::MANAGER;
use crate::api::ObjectReference;

/// The longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// An Event to write.
#[derive(Clone, Debug)]
pub struct Telling<'a> {
    /// Its name: the same for the same occasion, so that telling twice tells once.
    pub name: String,
    /// Reason, in `PascalCase`.
    pub reason: &'a str,
    /// Whether it is a warning.
    pub warning: bool,
    /// What happened.
    pub note: String,
    /// The object that it is about.
    pub regarding: &'a ObjectReference,
    /// The object that did it.
    pub related: Option<&'a ObjectReference>,
}

/// Writes an Event. Events are for people: one that cannot be written is no reason to stop.
pub async fn tell(home: &Client, telling: &Telling<'_>, now: Timestamp) -> Result<()> {
    create(home, telling, now).await.map(drop)
}

/// Writes an Event about something that happens again and again, or counts it: those of one name are one series. What
/// happened no later than what was counted last has been told already.
pub async fn tell_again(home: &Client, telling: &Telling<'_>, at: Timestamp) -> Result<()> {
    if create(home, telling, at).await? {
        return Ok(());
    }
    let namespace = telling.regarding.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(home.clone(), namespace);
    let patch = async |patch: Value| {
        let patched = api.patch(&telling.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(Error::request(format!("count Event {}", telling.reason)))
    };
    // The answer to a patch that changes nothing is the Event: reading it needs no further right.
    let known = patch(json!({})).await?;
    let (count, last) = match &known.series {
        Some(series) => (series.count, Some(series.last_observed_time.0)),
        None => (1, known.event_time.as_ref().map(|time| time.0)),
    };
    if last.is_some_and(|last| at.as_microsecond() <= last.as_microsecond()) {
        return Ok(());
    }
    patch(json!({"series": {"count": count.saturating_add(1), "lastObservedTime": MicroTime(at)}}))
        .await
        .map(drop)
}

/// Whether it is new.
async fn create(home: &Client, telling: &Telling<'_>, now: Timestamp) -> Result<bool> {
    let namespace = telling.regarding.namespace.as_deref().unwrap_or("default");
    let event = Event {
        metadata: ObjectMeta {
            name: Some(telling.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("Remediate".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(shortened(&telling.note).to_owned()),
        reason: Some(telling.reason.to_owned()),
        regarding: Some(core(telling.regarding)),
        related: telling.related.map(core),
        reporting_controller: Some("fother.dev/controller".to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        type_: Some(if telling.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(home.clone(), namespace);
    match api.create(&PostParams::default(), &event).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        other => other.map(|_| true).map_err(Error::request(format!("write Event {}", telling.reason))),
    }
}

fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_LIMIT)]
}

fn core(object: &ObjectReference) -> CoreReference {
    CoreReference {
        api_version: Some(object.api_version.clone()),
        kind: Some(object.kind.clone()),
        namespace: object.namespace.clone(),
        name: Some(object.name.clone()),
        uid: object.uid.clone(),
        ..CoreReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_by_bytes_between_characters() {
        let note = "ä".repeat(NOTE_LIMIT);
        assert_eq!(shortened(&note).len(), NOTE_LIMIT);
        assert_eq!(shortened(&format!("x{note}")).len(), NOTE_LIMIT - 1);
    }
}
