//! Object metadata: small readers and writers, names, UIDs and times.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::Cause;

/// A finalizer that holds an owner until its blocking dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// A finalizer that asks for dependents to be left alone.
pub const ORPHAN: &str = "orphan";

/// A text field of the metadata, empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The finalizers.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Replaces the finalizers; an empty list removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        remove(&mut object["metadata"], "finalizers");
    } else {
        object["metadata"]["finalizers"] = json!(finalizers);
    }
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Removes a field of an object, if there is one.
pub fn remove(value: &mut Value, field: &str) -> Option<Value> {
    value.as_object_mut().and_then(|map| map.remove(field))
}

/// Copies a field from one object to another, or removes it where the source has none.
pub fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => {
            remove(to, field);
        }
    }
}

/// A time as Kubernetes writes it in metadata: whole seconds.
pub fn time(now: Timestamp) -> String {
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
    seconds.to_string()
}

/// A deterministic source of UIDs and name suffixes (splitmix64).
pub struct Names {
    state: u64,
}

impl Names {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A UID in the form of a version 4 UUID.
    pub fn uid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let high = (high & !0xf000) | 0x4000;
        let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// The five characters after a `generateName`.
    pub fn suffix(&mut self) -> String {
        // The real server's alphabet: no vowels, nothing that reads as something else.
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut bits = self.next();
        let mut suffix = String::new();
        for _ in 0..5 {
            let index = usize::try_from(bits % 27).unwrap_or_default();
            suffix.push(char::from(ALPHABET[index]));
            bits /= 27;
        }
        suffix
    }
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// How names of a kind are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS subdomains: most kinds.
    Subdomain,
    /// DNS labels: namespaces, services, jobs by way of their pods.
    Label,
    /// Anything that fits a path segment: RBAC.
    PathSegment,
}

/// Checks name, labels, annotations' keys, finalizers and owner references.
pub fn validate(object: &Value, rule: NameRule) -> Vec<Cause> {
    let mut causes = Vec::new();
    let prefix = text(object, "generateName");
    if !prefix.is_empty() {
        // What follows makes it whole.
        check_name(("metadata.generateName", prefix, &format!("{prefix}x")), rule, &mut causes);
    }
    let name = text(object, "name");
    check_name(("metadata.name", name, name), rule, &mut causes);
    let metadata = &object["metadata"];
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        check_qualified("metadata.labels", key, &mut causes);
        if let Some(problem) = label_value_problem(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.labels", value, problem));
        }
    }
    let mut annotations_size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        check_qualified("metadata.annotations", &key.to_lowercase(), &mut causes);
        annotations_size += key.len() + value.as_str().map_or(0, str::len);
    }
    if annotations_size > 262_144 {
        causes.push(Cause::too_long("metadata.annotations", 262_144));
    }
    check_owners(object, &mut causes);
    for name in finalizers(object) {
        check_qualified("metadata.finalizers", &name, &mut causes);
    }
    causes
}

fn check_owners(object: &Value, causes: &mut Vec<Cause>) {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    for owner in owners {
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::invalid(&format!("metadata.ownerReferences.{field}"), &json!(""), detail));
            }
        }
    }
    let mut controllers = owners.iter().filter(|owner| owner["controller"] == true);
    if let (Some(one), Some(two)) = (controllers.next(), controllers.next()) {
        let named = |owner: &Value| {
            let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text("kind"), text("name"))
        };
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            named(one),
            named(two)
        );
        causes.push(Cause::invalid("metadata.ownerReferences", &owners.iter().cloned().collect(), &detail));
    }
}

/// A built-in kind takes finalizers only with a domain, or the few that Kubernetes itself knows.
pub fn validate_finalizers(object: &Value) -> Vec<Cause> {
    let is_known = |name: &str| name.contains('/') || matches!(name, ORPHAN | FOREGROUND | "kubernetes");
    let named = finalizers(object).into_iter().enumerate().filter(|(_, name)| !is_known(name));
    named
        .map(|(index, name)| {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            Cause::invalid(&format!("metadata.finalizers[{index}]"), &name.into(), detail)
        })
        .collect()
}

/// Checks a name, or the beginning of one, which is shown as it was given.
fn check_name((field, shown, name): (&str, &str, &str), rule: NameRule, causes: &mut Vec<Cause>) {
    let value = Value::from(shown);
    let (valid, max, text) = match rule {
        NameRule::PathSegment => {
            if name == "." || name == ".." || name.contains(['/', '%']) {
                let detail = "may not contain '/' or '%' and may not be '.' or '..'";
                causes.push(Cause::invalid(field, &value, detail));
            }
            return;
        }
        NameRule::Subdomain => (name.split('.').all(is_label), 253, SUBDOMAIN),
        NameRule::Label if name.contains('.') && name.split('.').all(is_label) => {
            (false, 63, "must not contain dots")
        }
        NameRule::Label => (is_label(name), 63, LABEL),
    };
    if name.len() > max {
        let detail = format!("must be no more than {max} characters");
        causes.push(Cause::invalid(field, &value, &detail));
    }
    if !valid {
        causes.push(Cause::invalid(field, &value, text));
    }
}

fn is_label(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

fn is_dotted(text: &str, upper: bool) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric() && (upper || !c.is_ascii_uppercase());
    text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
        && text.starts_with(edge)
        && text.ends_with(edge)
}

fn check_qualified(field: &str, key: &str, causes: &mut Vec<Cause>) {
    if let Some(problem) = label_key_problem(key) {
        causes.push(Cause::invalid(field, &key.into(), &problem));
    }
}

/// The value at a path as complaints name it: `spec.list[0].name`, `spec.map[key]`.
pub fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let parts = path.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    parts.into_iter().try_fold(object, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// What is wrong with the key of a label, an annotation or a finalizer.
pub fn label_key_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        let form = QUALIFIED.trim_start_matches("name part");
        return Some(format!(
            "a valid label key{form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ));
    }
    if prefix.is_some_and(|prefix| !prefix.split('.').all(is_label)) {
        return Some(format!("prefix part {SUBDOMAIN}"));
    }
    match name {
        "" => Some("name part must be non-empty".into()),
        name if name.len() > 63 => Some("name part must be no more than 63 bytes".into()),
        name if !is_dotted(name, true) => Some(QUALIFIED.into()),
        _ => None,
    }
}

/// What is wrong with the value of a label.
pub fn label_value_problem(value: &str) -> Option<&'static str> {
    match value {
        "" => None,
        value if value.len() > 63 => Some("must be no more than 63 bytes"),
        value if !is_dotted(value, true) => Some(LABEL_VALUE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_checked() {
        let cases = [
            (json!({"name": "a.b-c"}), 0),
            (json!({"name": "A_b"}), 1),
            (json!({"name": "a", "labels": {"x.dev/y": "Z_1"}}), 0),
            (json!({"name": "a", "labels": {"x.dev/": "", "k": "-"}}), 2),
            (json!({"name": "a", "annotations": {"x/y/z": "anything at all"}}), 1),
        ];
        for (metadata, expected) in cases {
            let found = validate(&json!({"metadata": metadata}), NameRule::Subdomain);
            assert_eq!(found.len(), expected, "{found:?}");
        }
    }

    #[test]
    fn names_follow_from_the_seed() {
        let (mut one, mut two) = (Names::new(7), Names::new(7));
        let uid = one.uid();
        assert_eq!(uid, two.uid());
        assert_ne!(uid, one.uid());
        assert_eq!((uid.len(), &uid[14..15], two.suffix().len()), (36, "4", 5));
    }
}
