//! Webhooks: from a request to events. Whether the sender may, is asked first ([`mod@authenticate`]); then the body is read
//! in the Webhook's format. Pure: the server reads the request, the controller keeps what comes out.

mod alertmanager;
mod authenticate;
mod cloudevents;
mod forge;
mod generic;
mod json;

use http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::{AlertState, AnyValue, Format, TriggerEvent, WebhookSpec};
pub use authenticate::{authentic_until, authenticate, has_credentials};

/// The longest id, source or type of an event.
const LONGEST_NAME: usize = 250;

/// One event of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The event.
    pub event: TriggerEvent,
    /// For an alert: how it stands.
    pub alert: Option<AlertState>,
}

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Its events.
    pub events: Vec<Received>,
    /// How many alerts it left out.
    pub truncated: i64,
}

/// An authenticated request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its raw body.
    pub body: &'a [u8],
    /// When it came.
    pub received_at: Timestamp,
}

/// Reads a request to the Webhook called `name`.
///
/// # Errors
/// What is wrong with it, in a sentence for its sender.
pub fn read(spec: &WebhookSpec, name: &str, request: Request<'_>) -> Result<Message, String> {
    let message = match spec.format().ok_or("the Webhook has no single format")? {
        Format::Alertmanager => alertmanager::read(&json::parse(request.body)?)?,
        Format::CloudEvents => cloudevents::read(request, spec.authentication.hmac.is_some())?,
        Format::GitHub => forge::github(request)?,
        Format::GitLab => forge::gitlab(request, spec.authentication.hmac.as_ref())?,
        Format::Generic(mapping) => generic::read(mapping, spec, name, request)?,
    };
    for (index, received) in message.events.iter().enumerate() {
        let event = &received.event;
        if event.source.contains(char::is_whitespace) {
            return Err(format!("events[{index}].source {:?} has a space in it", event.source));
        }
        for (field, text) in [("id", &event.id), ("source", &event.source), ("type", &event.event_type)] {
            if text.is_empty() || text.len() > LONGEST_NAME {
                return Err(format!(
                    "events[{index}].{field} is {} bytes; want 1 to {LONGEST_NAME}",
                    text.len()
                ));
            }
        }
    }
    Ok(message)
}

/// An event that is no alert.
fn plain(id: String, source: String, event_type: String, time: Timestamp, data: Value) -> Received {
    let event = TriggerEvent { id, source, event_type, time: MicroTime(time), data: AnyValue(data) };
    Received { event, alert: None }
}

/// A header as text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}
