//! What of an event the journal does not keep: secrets, and what only takes room.

use serde_json::{Map, Value};

/// What stands for a value that is not kept.
const REDACTED: &str = "(redacted)";
/// The longest text that is kept.
const LONGEST_TEXT: usize = 1024;
/// The most items of a list that are kept.
const MOST_ITEMS: usize = 64;
/// The largest event that is kept, in bytes of JSON.
const LARGEST: usize = 16 * 1024;

/// Words in the name of a field whose value may be a secret.
const SECRET: &[&str] = &[
    "password",
    "passwd",
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
];
/// Fields that hold whatever people put there: what a Secret keeps, what a container is given.
const OPAQUE: &[&str] = &["stringData", "env", "args", "command"];
/// Fields that explain nothing.
const NOISE: &[&str] = &["managedFields", "kubectl.kubernetes.io/last-applied-configuration"];

/// The same event without secrets, and no larger than it has to be.
pub fn redact(event: &Value) -> Value {
    let kept = keep(event);
    let size = kept.to_string().len();
    if size <= LARGEST {
        return kept;
    }
    Value::String(format!("(left out: {size} bytes of JSON, more than {LARGEST})"))
}

fn keep(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().filter_map(|(k, v)| field(fields, k, v)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().take(MOST_ITEMS).map(keep).collect()),
        Value::String(text) if text.len() > LONGEST_TEXT => {
            let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST_TEXT).last();
            Value::String(format!("{}…", &text[..cut.unwrap_or_default()]))
        }
        other => other.clone(),
    }
}

fn field(parent: &Map<String, Value>, name: &str, value: &Value) -> Option<(String, Value)> {
    if NOISE.contains(&name) {
        return None;
    }
    let lower = name.to_lowercase();
    // A reference such as `secretName` or `tokenExpirationSeconds` names a secret or counts; a text may be one.
    let secret =
        SECRET.iter().any(|word| lower.contains(word)) && !lower.ends_with("name") && value.is_string();
    let of_a_secret = name == "data" && parent.get("kind").and_then(Value::as_str) == Some("Secret");
    let kept = if secret || of_a_secret || OPAQUE.contains(&name) { REDACTED.into() } else { keep(value) };
    Some((name.to_owned(), kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_left_out_and_the_rest_stays() {
        let event = json!({
            "kind": "Pod",
            "metadata": {"name": "web", "managedFields": [{"manager": "x"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}},
            "spec": {"containers": [{"name": "c", "env": [{"name": "DB", "value": "canary"}], "command": ["x", "canary"]}],
                "volumes": [{"secret": {"secretName": "db"}}]},
            "labels": {"auth_token": "canary"},
            "headers": {"Authorization": "Bearer canary"},
        });
        let kept = redact(&event);
        assert!(!kept.to_string().contains("canary"), "{kept}");
        assert_eq!(kept["spec"]["volumes"], event["spec"]["volumes"]);
        assert_eq!(kept["metadata"], json!({"name": "web", "annotations": {"team": "a"}}));
    }

    #[test]
    fn what_a_secret_holds_is_left_out() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "db"}, "data": {"x": "canary"}, "stringData": {"y": "canary"}});
        assert!(!redact(&secret).to_string().contains("canary"));
        let map = json!({"kind": "ConfigMap", "data": {"x": "stays"}});
        assert_eq!(redact(&map), map);
    }

    #[test]
    fn no_event_is_large() {
        let long = "ö".repeat(5_000);
        assert!(redact(&json!({"note": long})).to_string().len() < 1_100);
        let wide: Vec<Value> = (0..1_000).map(|n| json!({"n": n})).collect();
        assert_eq!(redact(&json!(wide)).as_array().map(Vec::len), Some(MOST_ITEMS));
        let deep = json!(vec![json!(vec!["x".repeat(500); 64]); 64]);
        assert!(redact(&deep).as_str().is_some_and(|text| text.starts_with("(left out: ")));
    }
}
