//! What of an event the journal does not keep: secrets, and what only takes room.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::text::without_secrets;

/// What stands for a value that is not kept.
const REDACTED: &str = "(redacted)";
/// The longest text that is kept, in bytes.
const LONGEST_TEXT: usize = 1024;
/// The most items of a list that are kept.
const MOST_ITEMS: usize = 64;
/// The largest event that is kept, in bytes of JSON.
const LARGEST: usize = 16 * 1024;

/// Words in the name of a field whose value may be a secret.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "privatekey",
    "private_key",
    "cookie",
    "signature",
];
/// Fields that hold whatever people put there: what a Secret keeps, what a container is given.
const OPAQUE: &[&str] = &["stringData", "env", "args", "command"];
/// Fields that explain nothing, or repeat the whole object with all that is in it.
const NOISE: &[&str] = &["managedFields", "kubectl.kubernetes.io/last-applied-configuration"];

/// The same event without secrets, and no larger than it has to be.
pub fn redact(event: &Value) -> Value {
    let kept = keep(event, false);
    let size = kept.to_string().len();
    if size <= LARGEST {
        return kept;
    }
    Value::String(format!("(left out: {size} bytes of JSON, more than {LARGEST})"))
}

/// The same text without what looks like a secret, and not too long.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let cut = text.floor_char_boundary(LONGEST_TEXT);
    // What is cut in two is not recognized afterwards.
    let scrubbed = without_secrets(text);
    match scrubbed {
        Cow::Borrowed(text) if cut < text.len() => Cow::Owned(format!("{}…", &text[..cut])),
        Cow::Owned(text) if text.len() > LONGEST_TEXT => {
            Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(LONGEST_TEXT)]))
        }
        other => other,
    }
}

/// What is kept of a value; `secret` is what stands somewhere below the name of one.
fn keep(value: &Value, secret: bool) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().filter_map(|(k, v)| field(fields, k, v, secret)).collect())
        }
        Value::Array(items) => {
            Value::Array(items.iter().take(MOST_ITEMS).map(|item| keep(item, secret)).collect())
        }
        Value::String(_) if secret => REDACTED.into(),
        Value::String(text) => Value::String(scrub(text).into_owned()),
        other => other.clone(),
    }
}

fn field(parent: &Map<String, Value>, name: &str, value: &Value, secret: bool) -> Option<(String, Value)> {
    if NOISE.contains(&name) {
        return None;
    }
    let is_opaque = OPAQUE.contains(&name) || (name == "data" && text(parent, "kind") == Some("Secret"));
    let kept = match value {
        _ if is_opaque => REDACTED.into(),
        // Further below a number says how, as `secret.defaultMode` does.
        Value::Number(_) if sounds_secret(name) => REDACTED.into(),
        // `secretName`, and the name in a `secretRef`, say which it is, not what.
        Value::String(name_of) if name.to_lowercase().ends_with("name") => {
            Value::String(scrub(name_of).into_owned())
        }
        _ => keep(value, secret || sounds_secret(name) || (name == "value" && names_secret(parent))),
    };
    Some((name.to_owned(), kept))
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// Whether it is one of the pairs that lists of headers and labels are made of.
fn names_secret(pair: &Map<String, Value>) -> bool {
    ["name", "key"].into_iter().filter_map(|name| text(pair, name)).any(sounds_secret)
}

fn text<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_left_out_and_the_rest_stays() {
        let event = json!({
            "kind": "Pod",
            "metadata": {"name": "web", "managedFields": [{"manager": "x"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{canary}", "team": "a"}},
            "spec": {"containers": [{"name": "c", "env": [{"name": "DB", "value": "canary"}], "command": ["x", "canary"],
                    "args": ["canary"], "livenessProbe": {"httpHeaders": [{"name": "X-Token", "value": "canary"}]}}],
                "imagePullSecrets": [{"name": "registry"}], "automountServiceAccountToken": true,
                "volumes": [{"secret": {"secretName": "db", "defaultMode": 420}}]},
            "labels": {"auth_token": "canary", "tokens": ["canary"], "credentials": {"user": "canary", "age": 3}},
            "headers": {"Authorization": "Bearer canary", "X-Hub-Signature-256": "sha256=canary"},
            "pin": {"password": 31_415_926},
            "pairs": [{"key": "password", "value": {"is": "canary"}}],
        });
        let kept = redact(&event);
        assert!(!kept.to_string().contains("canary") && !kept.to_string().contains("31415926"), "{kept}");
        for pointer in ["/spec/volumes", "/spec/imagePullSecrets", "/spec/automountServiceAccountToken"] {
            assert_eq!(kept.pointer(pointer), event.pointer(pointer), "{pointer}");
        }
        assert_eq!(kept["metadata"], json!({"name": "web", "annotations": {"team": "a"}}));
        assert_eq!(kept["labels"]["credentials"]["age"], 3);
    }

    #[test]
    fn what_a_secret_holds_is_left_out() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "db"}, "data": {"x": "canary"}, "stringData": {"y": "canary"}});
        for event in [json!({"object": secret.clone()}), json!({"items": [secret.clone()]}), secret] {
            let kept = redact(&event).to_string();
            assert!(!kept.contains("canary") && kept.contains("db"), "{kept}");
        }
        let map = json!({"kind": "ConfigMap", "data": {"x": "stays"}});
        assert_eq!(redact(&map), map);
    }

    #[test]
    fn no_event_is_large() {
        let long = "ö".repeat(5_000);
        assert!(redact(&json!({"note": long})).to_string().len() < 1_100);
        assert!(scrub(&"password=x ".repeat(5_000)).len() < 1_100);
        let wide: Vec<Value> = (0..1_000).map(|n| json!({"n": n})).collect();
        assert_eq!(redact(&json!(wide)).as_array().map(Vec::len), Some(MOST_ITEMS));
        let deep = json!(vec![json!(vec!["x".repeat(500); 64]); 64]);
        assert!(redact(&deep).as_str().is_some_and(|text| text.starts_with("(left out: ")));
    }
}
