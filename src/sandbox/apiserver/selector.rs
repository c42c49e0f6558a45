//! Label and field selectors, parsed from the text of a query.

use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::registry::Resource;

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

/// A label selector: all requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h,!i,j>1`.
    pub fn parse(text: &str) -> ApiResult<Self> {
        split_requirements(text).into_iter().map(parse_requirement).collect::<ApiResult<_>>().map(Self)
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

/// Splits at the commas outside parentheses.
fn split_requirements(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn parse_requirement(text: &str) -> ApiResult<Requirement> {
    let bad = |what: String| ApiError::bad_request(format!("unable to parse requirement: {what}"));
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| bad(format!("{text:?} is no integer")));
    let key = |text: &str| {
        let key = text.trim();
        let valid = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
        if valid { Ok(key.to_owned()) } else { Err(bad(format!("found '{key}', expected: identifier"))) }
    };
    if let Some(rest) = text.strip_prefix('!') {
        return key(rest).map(Requirement::Absent);
    }
    if let Some((left, right)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key(left)?, vec![right.trim().to_owned()]));
    }
    if let Some((left, right)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key(left)?, vec![right.trim().to_owned()]));
    }
    if let Some((left, right)) = text.split_once('>') {
        return Ok(Requirement::Greater(key(left)?, number(right)?));
    }
    if let Some((left, right)) = text.split_once('<') {
        return Ok(Requirement::Less(key(left)?, number(right)?));
    }
    let mut words = text.splitn(3, char::is_whitespace);
    let (name, operator, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
    match (name, operator) {
        (Some(name), None) => key(name).map(Requirement::Exists),
        (Some(name), Some(operator)) => {
            let values = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            let values =
                values.map(|values| values.split(',').map(|value| value.trim().to_owned()).collect());
            match (operator, values) {
                ("in", Some(values)) => Ok(Requirement::In(key(name)?, values)),
                ("notin", Some(values)) => Ok(Requirement::NotIn(key(name)?, values)),
                _ => Err(bad(format!("found '{operator}', expected: in, notin, =, ==, !=, gt, lt"))),
            }
        }
        (None, _) => Err(bad("found '', expected: !, identifier, or 'end of string'".into())),
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
            if !is_selectable(resource, field.trim()) {
                let message = format!("field label not supported: {}", field.trim());
                return Err(ApiError::bad_request(message));
            }
            terms.push((field.trim().to_owned(), equal, value.trim().to_owned()));
        }
        Ok(Self(terms))
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
        ("apps", "replicasets") => &["status.replicas"],
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
        Value::Null if matches!(field, "status.successful" | "status.replicas") => "0".into(),
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
