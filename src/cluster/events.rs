//! Kubernetes Events about targets, so that `kubectl describe` tells the story.

use k8s_openapi::api::core::v1::ObjectReference as CoreReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};

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
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).map_err(Error::request(format!("write Event {}", telling.reason))),
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
