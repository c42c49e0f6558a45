//! Label and field selectors, parsed from the text of a query.

use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::labels;
use super::registry::Resource;

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// One of the values.
    In(String, Vec<String>),
    /// None of the values.
    NotIn(String, Vec<String>),
    /// Any value.
    Exists(String),
    /// No value.
    Absent(String),
    /// A larger number.
    Greater(String, i64),
    /// A smaller number.
    Less(String, i64),
}

/// A label selector: all requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h,!i,j>1`.
    pub fn parse(text: &str) -> ApiResult<Self> {
        labels::parse(text).map(Self).map_err(ApiError::bad_request)
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the object's labels match.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Value) -> bool {
        let get = |key: &String| labels.get(key).and_then(Value::as_str);
        let number = |key: &String| get(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, values) => get(key).is_some_and(|value| values.iter().any(|v| v == value)),
            Self::NotIn(key, values) => get(key).is_none_or(|value| !values.iter().any(|v| v == value)),
            Self::Exists(key) => get(key).is_some(),
            Self::Absent(key) => get(key).is_none(),
            Self::Greater(key, bound) => number(key).is_some_and(|value| value > *bound),
            Self::Less(key, bound) => number(key).is_some_and(|value| value < *bound),
        }
    }
}

/// A field selector: (path, whether equal, value).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Parses `a=b,c!=d` for a resource; a field that the resource does not index is refused.
    pub fn parse(text: &str, resource: &Resource) -> ApiResult<Self> {
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, equal, value) = if let Some((field, value)) = part.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, true, value)
            } else {
                let message = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(ApiError::bad_request(message));
            };
            if value.contains('=') {
                let message = "invalid field selector: unescaped character in value: 61";
                return Err(ApiError::bad_request(message));
            }
            if !is_selectable(resource, field.trim()) {
                return Err(ApiError::bad_request(unselectable(resource, field.trim())));
            }
            terms.push((field.trim().to_owned(), equal, value.trim().to_owned()));
        }
        Ok(Self(terms))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the object, in the form the resource shows it, matches.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, equal, value)| (field_text(object, field) == *value) == *equal)
    }

    /// The name it asks for, when it asks for one.
    pub fn name(&self) -> Option<&str> {
        let term = self.0.iter().find(|(field, equal, _)| field == "metadata.name" && *equal);
        term.map(|(_, _, value)| value.as_str())
    }
}

/// Kinds with fields of their own say less about one that they do not have.
fn unselectable(resource: &Resource, field: &str) -> String {
    const WITH_FIELDS: &[&str] =
        &["pods.", "events.", "nodes.", "namespaces.", "secrets.", "services.", "jobs.batch"];
    if resource.custom.is_some() || WITH_FIELDS.contains(&resource.storage.as_str()) {
        return format!("field label not supported: {field}");
    }
    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
}

fn is_selectable(resource: &Resource, field: &str) -> bool {
    const REFERENCE: &[&str] =
        &["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
    if field == "metadata.name" || (field == "metadata.namespace" && resource.namespaced) {
        return true;
    }
    if let Some(custom) = &resource.custom {
        return custom.selectable.iter().any(|path| path == field);
    }
    let known: &[&str] = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => {
            let reference = field.strip_prefix("involvedObject.");
            return matches!(field, "reason" | "reportingComponent" | "source" | "type")
                || reference.is_some_and(|name| REFERENCE.contains(&name));
        }
        ("events.k8s.io", "events") => {
            let reference = field.strip_prefix("regarding.");
            return matches!(field, "reason" | "reportingController" | "type")
                || reference.is_some_and(|name| REFERENCE.contains(&name));
        }
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    };
    known.contains(&field)
}

/// A field as the real server's indexers write it: absent is empty, false for booleans.
fn field_text(object: &Value, field: &str) -> String {
    let value = match field {
        "status.successful" => &object["status"]["succeeded"],
        "source" => &object["source"]["component"],
        _ => field.trim_start_matches('.').split('.').fold(object, |value, part| &value[part]),
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Null if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        Value::Null if matches!(field, "status.successful") => "0".into(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::registry::Registry;
    use super::*;

    #[test]
    fn labels_select() {
        let object = json!({"metadata": {"labels": {"a": "b", "tier": "web", "n": "5"}}});
        let cases = [
            ("", Some(true)),
            ("a=b,tier in (web, api)", Some(true)),
            ("a==c", Some(false)),
            ("a!=c,!missing,n>4,n<6", Some(true)),
            ("missing", Some(false)),
            ("tier notin (web)", Some(false)),
            ("missing!=x", Some(true)),
            ("a b", None),
            ("a in x", None),
        ];
        for (text, expected) in cases {
            let seen = LabelSelector::parse(text).ok().map(|selector| selector.matches(&object));
            assert_eq!(seen, expected, "{text}");
        }
    }

    #[test]
    fn fields_select() {
        let registry = Registry::default();
        let pods = registry.find("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {}});
        let cases = [
            ("metadata.name=p,spec.nodeName=n", Some(true)),
            ("spec.nodeName!=n", Some(false)),
            ("status.phase=", Some(true)),
            ("spec.hostNetwork=false", Some(true)),
            ("spec.containers=x", None),
        ];
        for (text, expected) in cases {
            let seen = FieldSelector::parse(text, pods).ok().map(|selector| selector.matches(&pod));
            assert_eq!(seen, expected, "{text}");
        }
    }
}
