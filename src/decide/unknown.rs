//! What a later version of fother has written and this one does not know. It may be what makes an object safe, so nobody
//! may act as if it were not there.

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;

/// Reads a value, and tells of each field that nobody asked for.
pub fn read<T: DeserializeOwned>(value: &Value, mut told: impl FnMut(String)) -> serde_json::Result<T> {
    serde_ignored::deserialize(value, |path| told(written(&path)))
}

/// A path as messages have it: `spec.ladder[0].retry`.
fn written(path: &Path<'_>) -> String {
    let within = |parent: &Path<'_>, key: &str| match written(parent) {
        parent if parent.is_empty() => key.to_owned(),
        parent => format!("{parent}.{key}"),
    };
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", written(parent)),
        Path::Map { parent, key } => within(parent, key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            written(parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Action, Execution, Rule};
    use serde_json::json;

    fn unknown<T: DeserializeOwned>(value: &Value) -> Vec<String> {
        let mut fields = Vec::new();
        read::<T>(value, |field| fields.push(field)).expect("readable");
        // What it is, is known by its type.
        fields.retain(|field| !matches!(field.as_str(), "apiVersion" | "kind"));
        fields.sort();
        fields
    }

    #[test]
    fn fields_are_named_by_their_path() {
        let rule = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "r", "namespace": "a"},
            "spec": {
                "serviceAccountName": "healer", "mode": "Suggest", "quietHours": "22-6",
                "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod",
                    "labelSelector": {"matchLabels": {"anything": "goes"}}}},
                "limits": {"cooldown": "1m", "perTarget": "2/6h"},
                "ladder": [{"run": "a", "with": {"anything": {"goes": 1}}, "retry": 3}],
            },
            "status": {"mood": "good"},
        });
        let expected = ["spec.ladder[0].retry", "spec.quietHours", "status.mood"];
        assert_eq!(unknown::<Rule>(&rule), expected);
    }

    #[test]
    fn what_this_version_writes_it_knows() {
        let action = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action", "metadata": {"name": "a"},
            "spec": {"kubernetes": {"patch": {"merge": {"any": {"thing": 1}}}},
                "parameters": [{"name": "p", "type": "integer", "minimum": 1, "default": "7"}]}});
        assert_eq!(unknown::<Action>(&action), [""; 0]);
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": "x", "labels": {"a": "b"}, "ownerReferences": []},
            "spec": {"serviceAccountName": "h", "run": "a", "with": {"any": [{"thing": 1}]}},
            "status": {"rungs": [{"run": "a", "state": "Succeeded", "startedAt": "2026-01-01T00:00:00Z",
                "outputs": {"any": {"thing": 1}}, "replacement": {"spec": {"any": "thing"}},
                "change": [{"any": "thing"}]}]}});
        assert_eq!(unknown::<Execution>(&execution), [""; 0]);
    }
}
