//! `CloudEvents` 1.0 over HTTP: structured, binary and batched.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::json::{self, Count};
use super::{Message, Received, Request, header, plain};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// Reads a request. Where the body is signed, headers are not: only events that are whole in the body count then.
pub(super) fn read(request: Request<'_>, signed: bool) -> Result<Message, String> {
    let content_type = header(request.headers, "content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut count = Count::default();
    let events = match media_type.as_str() {
        STRUCTURED => {
            let event = json::parse_beside(&mut count, request.body)?;
            vec![structured(event, &mut count, request.received_at)?]
        }
        BATCH => {
            let Value::Array(items) = json::parse_beside(&mut count, request.body)? else {
                return Err("want a list of CloudEvents".to_owned());
            };
            let one = |(index, item)| {
                structured(item, &mut count, request.received_at)
                    .map_err(|problem| format!("events[{index}]: {problem}"))
            };
            items.into_iter().enumerate().map(one).collect::<Result<_, _>>()?
        }
        _ if header(request.headers, "ce-specversion").is_none() => {
            return Err(format!(
                "{content_type:?} is no CloudEvent; want {STRUCTURED}, {BATCH} or headers ce-*"
            ));
        }
        _ if signed => {
            return Err(format!("the signature does not cover headers ce-*; send {STRUCTURED}"));
        }
        other => vec![binary(request, other)?],
    };
    Ok(Message { events, truncated: 0 })
}

fn structured(mut event: Value, count: &mut Count, received_at: Timestamp) -> Result<Received, String> {
    let data = event.get_mut("data").map(Value::take).unwrap_or_default();
    let attribute = |name: &str| event[name].as_str().map(str::to_owned);
    let data = if let Value::String(encoded) = &event["data_base64"] {
        let bytes = STANDARD.decode(encoded).map_err(|_| "data_base64 is no base64")?;
        payload(&bytes, &attribute("datacontenttype").unwrap_or_default(), count)?
    } else {
        data
    };
    envelope(attribute, data, received_at)
}

fn binary(request: Request<'_>, media_type: &str) -> Result<Received, String> {
    let attribute = |name: &str| {
        let value = header(request.headers, &format!("ce-{name}"))?;
        Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
    };
    envelope(attribute, payload(request.body, media_type, &mut Count::default())?, request.received_at)
}

/// JSON as what it says, beside what was read of the request; text as text, and anything else as base64.
fn payload(bytes: &[u8], media_type: &str, count: &mut Count) -> Result<Value, String> {
    if media_type.is_empty() || media_type.ends_with("/json") || media_type.ends_with("+json") {
        return if bytes.is_empty() { Ok(Value::Null) } else { json::parse_beside(count, bytes) };
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    Ok(text.map_or_else(|| STANDARD.encode(bytes), str::to_owned).into())
}

fn envelope(
    attribute: impl Fn(&str) -> Option<String>,
    data: Value,
    received_at: Timestamp,
) -> Result<Received, String> {
    let required =
        |name: &str| attribute(name).filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} missing"));
    let version = required("specversion")?;
    if version != "1.0" {
        return Err(format!("unsupported CloudEvents specversion {version:?}; want \"1.0\""));
    }
    let time = match attribute("time") {
        Some(text) => text.parse().map_err(|_| format!("time {text:?} is no time"))?,
        None => received_at,
    };
    Ok(plain(required("id")?, required("source")?, required("type")?, time, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use serde_json::json;

    fn reads(headers: &[(&'static str, &str)], body: &str, signed: bool) -> Result<Vec<Received>, String> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect();
        let request =
            Request { headers: &headers, body: body.as_bytes(), received_at: Timestamp::UNIX_EPOCH };
        read(request, signed).map(|message| message.events)
    }

    fn event(extra: Value) -> Value {
        let mut event =
            json!({"specversion": "1.0", "id": "1", "source": "/disk", "type": "com.example.full"});
        json_patch::merge(&mut event, &extra);
        event
    }

    #[test]
    fn the_three_modes_say_the_same() {
        let expected = plain(
            "1".into(),
            "/disk".into(),
            "com.example.full".into(),
            "2026-01-01T00:00:00Z".parse().expect("a time"),
            json!({"node": "a"}),
        );
        let whole = event(json!({"time": "2026-01-01T00:00:00Z", "data": {"node": "a"}}));
        let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
        assert_eq!(reads(&structured, &whole.to_string(), true), Ok(vec![expected.clone()]));
        let batch = [("content-type", BATCH)];
        assert_eq!(reads(&batch, &json!([whole, whole]).to_string(), false), Ok(vec![expected.clone(); 2]));
        let binary = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "%2Fdisk"),
            ("ce-type", "com.example.full"),
            ("ce-time", "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(reads(&binary, r#"{"node": "a"}"#, false), Ok(vec![expected]));
    }

    #[test]
    fn data_may_be_text_or_bytes() {
        let of = |extra: Value| {
            let found = reads(&[("content-type", STRUCTURED)], &event(extra).to_string(), false);
            found.expect("reads").remove(0).event.data.0
        };
        assert_eq!(
            of(json!({"data_base64": "eyJhIjoxfQ==", "datacontenttype": "application/json"})),
            json!({"a": 1})
        );
        assert_eq!(of(json!({"data_base64": "aGk=", "datacontenttype": "text/plain"})), json!("hi"));
        assert_eq!(of(json!({"data_base64": "/w==", "datacontenttype": "image/png"})), json!("/w=="));
        assert_eq!(of(json!({})), Value::Null);
    }

    #[test]
    fn what_is_in_base64_counts_with_the_rest() {
        let many = STANDARD.encode(format!("[{}]", vec!["0"; 60_000].join(",")));
        let one = event(json!({"data_base64": many}));
        let batch = [("content-type", BATCH)];
        assert!(reads(&batch, &json!([one]).to_string(), false).is_ok());
        assert_eq!(
            reads(&batch, &json!([one, one]).to_string(), false),
            Err("events[1]: 120012 values exceed 100000".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let structured = [("content-type", STRUCTURED)];
        for (headers, body, signed, said) in [
            (
                &structured[..],
                event(json!({"specversion": "0.3"})),
                false,
                "unsupported CloudEvents specversion \"0.3\"; want \"1.0\"",
            ),
            (&structured, event(json!({"id": null})), false, "id missing"),
            (&structured, event(json!({"time": "noon"})), false, "time \"noon\" is no time"),
            (&structured, event(json!({"data_base64": "?"})), false, "data_base64 is no base64"),
            (
                &[("content-type", BATCH)],
                json!([event(json!({})), 7]),
                false,
                "events[1]: specversion missing",
            ),
            (&[("content-type", BATCH)], json!({}), false, "want a list of CloudEvents"),
            (
                &[("content-type", "application/json")],
                json!({}),
                false,
                "\"application/json\" is no CloudEvent; want application/cloudevents+json, \
                 application/cloudevents-batch+json or headers ce-*",
            ),
            (
                &[("ce-specversion", "1.0")],
                json!({}),
                true,
                "the signature does not cover headers ce-*; send application/cloudevents+json",
            ),
        ] {
            assert_eq!(reads(headers, &body.to_string(), signed), Err(said.to_owned()));
        }
    }
}
