//! Notifications of Alertmanager, version 4, and of Grafana, which sends more fields and calls it version 1.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Message, Received};
use crate::api::{ALERT_TEXTS, AlertState, AnyValue, TriggerEvent};

/// The longest fingerprint: one of more an EventBatch cannot hold.
const LONGEST_FINGERPRINT: usize = 128;

/// Reads a notification: each alert is an event.
pub(super) fn read(body: &Value) -> Result<Message, String> {
    let version = &body["version"];
    let is_grafana = version == "1" && body.get("orgId").is_some();
    if version != "4" && !is_grafana {
        return Err(format!("unsupported Alertmanager version {version}; want \"4\""));
    }
    let alerts = body["alerts"].as_array().ok_or("alerts missing")?;
    let events = alerts.iter().enumerate().map(|(index, alert)| {
        one(alert, &body["externalURL"]).map_err(|problem| format!("alerts[{index}].{problem}"))
    });
    let truncated = body["truncatedAlerts"].as_i64().unwrap_or_default();
    Ok(Message { events: events.collect::<Result<_, _>>()?, truncated })
}

fn one(alert: &Value, external_url: &Value) -> Result<Received, String> {
    let text = |field: &str| {
        let text = alert[field].as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("{field} missing"))
    };
    let time = |field: &str| {
        let text = text(field)?;
        text.parse::<Timestamp>().map_err(|_| format!("{field} {text:?} is no time"))
    };
    let (fingerprint, status, starts_at) = (text("fingerprint")?, text("status")?, time("startsAt")?);
    if fingerprint.len() > LONGEST_FINGERPRINT {
        return Err(format!("fingerprint is {} bytes; want 1 to {LONGEST_FINGERPRINT}", fingerprint.len()));
    }
    let ends_at = match status {
        "firing" => None,
        "resolved" => Some(time("endsAt")?.max(starts_at)),
        other => return Err(format!("status {other:?}; want \"firing\" or \"resolved\"")),
    };
    let mut data = Map::new();
    data.insert("fingerprint".to_owned(), fingerprint.into());
    data.insert("status".to_owned(), status.into());
    data.insert("startsAt".to_owned(), starts_at.to_string().into());
    if let Some(ends_at) = ends_at {
        data.insert("endsAt".to_owned(), ends_at.to_string().into());
    }
    for field in ["labels", "annotations"] {
        data.insert(field.to_owned(), texts(field, &alert[field])?);
    }
    data.extend(
        ALERT_TEXTS.iter().filter_map(|field| Some(((*field).to_owned(), alert[field].as_str()?.into()))),
    );
    if let Some(values) = alert.get("values").filter(|values| values.is_object()) {
        data.insert("values".to_owned(), values.clone());
    }
    data.insert("externalURL".to_owned(), external_url.as_str().unwrap_or_default().into());
    let event = TriggerEvent {
        // The same whichever of a pair of Alertmanagers sends it, and however often.
        id: format!("{fingerprint}/{starts_at}/{status}"),
        source: "alertmanager".to_owned(),
        event_type: format!("alert.{status}"),
        time: MicroTime(ends_at.unwrap_or(starts_at)),
        data: AnyValue(Value::Object(data)),
    };
    let state = AlertState {
        fingerprint: fingerprint.to_owned(),
        starts_at: MicroTime(starts_at),
        ends_at: ends_at.map(MicroTime),
        heard: BTreeMap::new(),
    };
    Ok(Received { event, alert: Some(state) })
}

/// A map of texts, which an alert without any leaves out.
fn texts(field: &str, value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(json!({})),
        Value::Object(members) => match members.iter().find(|(_, value)| !value.is_string()) {
            Some((name, _)) => Err(format!("{field}.{name} is no text")),
            None => Ok(value.clone()),
        },
        _ => Err(format!("{field} is no map")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(changes: &Value) -> Value {
        let mut body = json!({
            "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "fother",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am:9093",
            "alerts": [{
                "status": "firing", "labels": {"alertname": "DiskFull", "pod": "db-0"},
                "annotations": {"summary": "disk is full"}, "startsAt": "2026-01-01T00:00:00.123Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prom/graph", "fingerprint": "ab12",
            }],
        });
        json_patch::merge(&mut body, changes);
        body
    }

    #[test]
    fn an_alert_is_a_state() {
        let message = read(&body(&json!({"truncatedAlerts": 3}))).expect("reads");
        assert_eq!((message.events.len(), message.truncated), (1, 3));
        let Received { event, alert } = &message.events[0];
        assert_eq!(event.id, "ab12/2026-01-01T00:00:00.123Z/firing");
        assert_eq!((event.source.as_str(), event.event_type.as_str()), ("alertmanager", "alert.firing"));
        assert_eq!(event.data.0["labels"]["pod"], "db-0");
        assert_eq!(event.data.0["generatorURL"], "http://prom/graph");
        assert_eq!(event.data.0.get("endsAt"), None, "the year 1 is no time");
        assert_eq!(alert.as_ref().map(|alert| alert.ends_at.is_none()), Some(true));
    }

    #[test]
    fn a_resolved_alert_ends() {
        let mut resolved = body(&json!({}));
        resolved["alerts"][0]["status"] = "resolved".into();
        resolved["alerts"][0]["endsAt"] = "2026-01-01T00:05:00Z".into();
        let Received { event, alert } = read(&resolved).expect("reads").events.remove(0);
        assert_eq!(event.id, "ab12/2026-01-01T00:00:00.123Z/resolved");
        assert_eq!(event.time.0, "2026-01-01T00:05:00Z".parse().expect("a time"));
        assert_eq!(alert.and_then(|alert| alert.ends_at), Some(event.time));
    }

    #[test]
    fn grafana_sends_more() {
        let mut grafana =
            body(&json!({"version": "1", "orgId": 1, "title": "[FIRING:1]", "state": "alerting"}));
        grafana["alerts"][0]["values"] = json!({"B": 42.5});
        grafana["alerts"][0]["panelURL"] = "http://grafana/d/1".into();
        let event = read(&grafana).expect("reads").events.remove(0).event;
        assert_eq!(
            (&event.data.0["values"]["B"], &event.data.0["panelURL"]),
            (&json!(42.5), &json!("http://grafana/d/1"))
        );
    }

    #[test]
    fn the_longest_fingerprint_is_one_that_can_be_kept() {
        let of = |length: usize| {
            let mut body = body(&json!({}));
            body["alerts"][0]["fingerprint"] = "f".repeat(length).into();
            read(&body).map(|message| message.events.len())
        };
        assert_eq!(of(128), Ok(1));
        assert_eq!(of(129), Err("alerts[0].fingerprint is 129 bytes; want 1 to 128".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (changes, said) in [
            (json!({"version": "3"}), "unsupported Alertmanager version \"3\"; want \"4\""),
            (json!({"version": null}), "unsupported Alertmanager version null; want \"4\""),
            (json!({"version": "1"}), "unsupported Alertmanager version \"1\"; want \"4\""),
            (json!({"alerts": null}), "alerts missing"),
            (
                json!({"alerts": [{"status": "firing", "startsAt": "2026-01-01T00:00:00Z"}]}),
                "alerts[0].fingerprint missing",
            ),
            (json!({"alerts": [{"status": "firing", "fingerprint": "a"}]}), "alerts[0].startsAt missing"),
            (
                json!({"alerts": [{"status": "firing", "fingerprint": "a", "startsAt": "now"}]}),
                "alerts[0].startsAt \"now\" is no time",
            ),
            (
                json!({"alerts": [{"status": "odd", "fingerprint": "a", "startsAt": "2026-01-01T00:00:00Z"}]}),
                "alerts[0].status \"odd\"; want \"firing\" or \"resolved\"",
            ),
            (
                json!({"alerts": [{"status": "firing", "fingerprint": "a", "startsAt": "2026-01-01T00:00:00Z", "labels": {"a": 1}}]}),
                "alerts[0].labels.a is no text",
            ),
        ] {
            assert_eq!(read(&body(&changes)), Err(said.to_owned()));
        }
    }
}
