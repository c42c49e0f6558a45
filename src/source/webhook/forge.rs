//! Webhooks of GitHub and GitLab.
//!
//! What is signed is the body (by GitLab also `webhook-id`), so an event's identity comes from there: one that was sent
//! again under another delivery's name is still the same.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::authenticate::ID_HEADER;
use super::{Message, Request, header, json, plain};
use crate::api::{Hmac, Signs};

/// Reads a delivery of GitHub.
pub(super) fn github(request: Request<'_>) -> Result<Message, String> {
    let event = header(request.headers, "x-github-event").ok_or("missing X-GitHub-Event header")?;
    if header(request.headers, "content-type").is_some_and(|kind| kind.starts_with("application/x-www-form"))
    {
        return Err("the body is a form; choose the content type application/json in GitHub".to_owned());
    }
    let body = json::parse(request.body)?;
    let event_type = match body["action"].as_str() {
        Some(action) => format!("{event}.{action}"),
        None => event.to_owned(),
    };
    let source = text(&body, &["/repository/html_url", "/organization/url", "/enterprise/html_url"]);
    let source = source.unwrap_or("github").to_owned();
    Ok(single(plain(digest(request.body), source, event_type, request.received_at, body)))
}

/// Reads a delivery of GitLab.
pub(super) fn gitlab(request: Request<'_>, hmac: Option<&Hmac>) -> Result<Message, String> {
    let body = json::parse(request.body)?;
    let event_type = text(&body, &["/object_kind", "/event_name"]).ok_or("object_kind missing")?.to_owned();
    let source = text(&body, &["/project/web_url", "/repository/homepage", "/group/web_url"]);
    let source = source.unwrap_or("gitlab").to_owned();
    let signs_id = hmac.is_some_and(|hmac| matches!(hmac.signs, None | Some(Signs::IdTimestampAndBody)));
    let signed_id = header(request.headers, ID_HEADER).filter(|_| signs_id);
    let id = signed_id.map_or_else(|| digest(request.body), str::to_owned);
    Ok(single(plain(id, source, event_type, request.received_at, body)))
}

fn single(event: super::Received) -> Message {
    Message { events: vec![event], truncated: 0 }
}

fn text<'a>(body: &'a Value, pointers: &[&str]) -> Option<&'a str> {
    pointers.iter().find_map(|pointer| body.pointer(pointer)?.as_str())
}

fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().take(16).fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn headers(headers: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().expect("a value"))
        };
        headers.iter().map(parse).collect()
    }

    #[test]
    fn github_names_event_and_action() {
        let body = json!({"action": "created", "repository": {"html_url": "https://github.com/acme/shop"}})
            .to_string();
        let read = |delivery: &str, body: &str| {
            let headers =
                headers(&[("x-github-event", "deployment_status"), ("x-github-delivery", delivery)]);
            let request =
                Request { headers: &headers, body: body.as_bytes(), received_at: Timestamp::UNIX_EPOCH };
            github(request).map(|message| message.events[0].event.clone())
        };
        let first = read("1", &body).expect("reads");
        assert_eq!(first.event_type, "deployment_status.created");
        assert_eq!(first.source, "https://github.com/acme/shop");
        assert_eq!(read("2", &body).expect("reads").id, first.id, "the delivery's name is not signed");
        assert_ne!(read("1", "{}").expect("reads").id, first.id);
        assert_eq!(read("1", "{}").expect("reads").event_type, "deployment_status");
        assert_eq!(read("1", "payload=%7B%7D"), Err("invalid JSON at byte 0".to_owned()));
        let nameless =
            Request { headers: &HeaderMap::new(), body: b"{}", received_at: Timestamp::UNIX_EPOCH };
        assert_eq!(github(nameless), Err("missing X-GitHub-Event header".to_owned()));
    }

    #[test]
    fn gitlab_is_told_apart_by_the_id_that_it_signs() {
        let body = json!({"object_kind": "pipeline", "project": {"web_url": "https://gitlab.com/acme/shop"}})
            .to_string();
        let headers = headers(&[("webhook-id", "msg_1")]);
        let request =
            Request { headers: &headers, body: body.as_bytes(), received_at: Timestamp::UNIX_EPOCH };
        let event = |hmac: Option<&Hmac>| gitlab(request, hmac).expect("reads").events[0].event.clone();
        let signed = event(Some(&Hmac::default()));
        assert_eq!((signed.id.as_str(), signed.event_type.as_str()), ("msg_1", "pipeline"));
        assert_eq!(signed.source, "https://gitlab.com/acme/shop");
        assert_ne!(event(None).id, "msg_1", "with a token nothing is signed");
        let empty = Request { body: b"{}", ..request };
        assert_eq!(gitlab(empty, None), Err("object_kind missing".to_owned()));
    }
}
