//! Any JSON, by a mapping: expressions say where identity, type, time and source are in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Message, Request, json as json_body, plain};
use crate::api::{GenericMapping, WebhookSpec};
use crate::expr::{Bindings, Expression, Scope};

/// Headers that carry secrets whatever a Webhook says.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-gitlab-token"];

/// Reads a request.
pub(super) fn read(
    mapping: &GenericMapping,
    spec: &WebhookSpec,
    name: &str,
    request: Request<'_>,
) -> Result<Message, String> {
    let scope = Scope::of(spec.variables().iter().copied());
    let body = Arc::new(json_body::parse(request.body)?);
    let mut bindings = Bindings::at(request.received_at).with("body", body.clone());
    if scope.has("headers") {
        bindings = bindings.with("headers", headers(spec, request));
    }
    let compiled = |field: &str, source: &str| {
        Expression::compile(source, &scope).map_err(|errors| {
            format!("generic.{field}: {}", errors.first().map(ToString::to_string).unwrap_or_default())
        })
    };
    let text = |field: &str, source: &str| {
        let value =
            compiled(field, source)?.evaluate(&bindings).map_err(|error| format!("{field}: {error}"))?;
        match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(format!("{field}: {source} is neither a text nor a number")),
        }
    };
    let time = match &mapping.time {
        Some(source) => compiled("time", source)?
            .evaluate_timestamp(&bindings)
            .map_err(|error| format!("time: {error}"))?,
        None => request.received_at,
    };
    let source = mapping.source.as_deref().map_or(Ok(name.to_owned()), |source| text("source", source))?;
    let (id, event_type) = (text("id", &mapping.id)?, text("type", &mapping.event_type)?);
    // The expressions are done with it: it need not be copied.
    drop(bindings);
    let event = plain(id, source, event_type, time, Arc::unwrap_or_clone(body));
    Ok(Message { events: vec![event], truncated: 0 })
}

/// The headers, but for those that carry secrets: what an expression takes from them is kept, and shown.
fn headers(spec: &WebhookSpec, request: Request<'_>) -> Value {
    let own: Vec<_> = spec.authentication.headers().map(str::to_ascii_lowercase).collect();
    let is_secret = |name: &str| SECRET.contains(&name) || own.iter().any(|own| own == name);
    let texts = request.headers.iter().filter(|(name, _)| !is_secret(name.as_str()));
    let texts = texts.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    json!(texts.collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use k8s_openapi::jiff::Timestamp;

    fn reads(mapping: &Value, authentication: &str, body: &str) -> Result<Message, String> {
        let spec: WebhookSpec = serde_json::from_value(json!({"serviceAccountName": "r", "generic": mapping,
            "authentication": {authentication: {"secretRef": {"name": "s", "key": "k"}}}}))
        .expect("a Webhook");
        let mut headers = HeaderMap::new();
        headers.insert("x-kind", http::HeaderValue::from_static("full"));
        headers.insert("authorization", http::HeaderValue::from_static("Bearer secret"));
        let request =
            Request { headers: &headers, body: body.as_bytes(), received_at: Timestamp::UNIX_EPOCH };
        read(spec.generic.as_ref().expect("generic"), &spec, "disks", request)
    }

    #[test]
    fn expressions_say_where_things_are() {
        let mapping = json!({"id": "body.n", "type": "'disk.' + headers['x-kind']", "time": "timestamp(body.at)",
            "source": "body.host"});
        let body = r#"{"n": 7, "at": "2026-01-01T00:00:00Z", "host": "db-0"}"#;
        let event = reads(&mapping, "bearer", body).expect("reads").events.remove(0).event;
        assert_eq!(
            (event.id.as_str(), event.event_type.as_str(), event.source.as_str()),
            ("7", "disk.full", "db-0")
        );
        assert_eq!(event.time.0, "2026-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(event.data.0["n"], 7);
        let least = reads(&json!({"id": "body.n", "type": "'x'"}), "hmac", body)
            .expect("reads")
            .events
            .remove(0)
            .event;
        assert_eq!((least.source.as_str(), least.time.0), ("disks", Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn the_header_of_the_token_is_not_among_the_headers() {
        let spec: WebhookSpec = serde_json::from_value(json!({"serviceAccountName": "r",
            "generic": {"id": "body.n", "type": "'x'", "source": "headers.map(name, name + '=' + headers[name]).join(' ')"},
            "authentication": {"bearer": {"secretRef": {"name": "s", "key": "k"}, "header": "X-Token"}}}))
        .expect("a Webhook");
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-token", "hunter2"), ("x-gitlab-token", "hunter3"), ("cookie", "hunter4")] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        headers.append("x-token", http::HeaderValue::from_static("hunter5"));
        headers.insert("x-kind", http::HeaderValue::from_static("full"));
        let request = Request { headers: &headers, body: br#"{"n": 1}"#, received_at: Timestamp::UNIX_EPOCH };
        let message = read(spec.generic.as_ref().expect("generic"), &spec, "disks", request).expect("reads");
        assert_eq!(message.events[0].event.source, "x-kind=full");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (mapping, authentication, said) in [
            (json!({"id": "body.m", "type": "'x'"}), "hmac", "id: "),
            (json!({"id": "body", "type": "'x'"}), "hmac", "id: body is neither a text nor a number"),
            (
                json!({"id": "headers['x-kind']", "type": "'x'"}),
                "hmac",
                "generic.id: unknown variable \"headers\"",
            ),
            (json!({"id": "headers['authorization']", "type": "'x'"}), "bearer", "id: "),
            (json!({"id": "'1'", "type": "'x'", "time": "body.n"}), "hmac", "time: "),
        ] {
            let refused = reads(&mapping, authentication, r#"{"n": true}"#).expect_err("refused");
            assert!(refused.starts_with(said), "{refused}");
        }
    }
}
