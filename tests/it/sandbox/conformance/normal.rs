//! Answers without what differs from run to run: generated names, times and versions become placeholders, the
//! same for the same value, so that *whether* something changed is still compared.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Fields that hold a time, or what else differs with every run.
const TIMES: &[&str] = &[
    "storageVersionHash",
    "creationTimestamp",
    "deletionTimestamp",
    "expirationTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
];

/// Kinds on which controllers of the real cluster write too, so that their versions tell nothing.
const SHARED: &[&str] = &[
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "Job",
    "Namespace",
    "PodDisruptionBudget",
    "ReplicaSet",
    "Scale",
    "ServiceAccount",
    "StatefulSet",
];

/// Kinds of which controllers write the status at any time.
const STATUS_OF_OTHERS: &[&str] =
    &["DaemonSet", "Deployment", "Job", "PodDisruptionBudget", "ReplicaSet", "StatefulSet"];

/// What admission plugins put into every pod, which the in-memory API has none of.
const ADMITTED: &[&str] = &["preemptionPolicy", "priority", "tolerations"];

fn table(rows: &[(&str, &'static str)]) -> Vec<(Regex, &'static str)> {
    rows.iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), *with)).collect()
}

/// Texts that vary, and what stands for them.
static VARYING: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    table(&[
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"resource version: \d+ \(\d+\)", "resource version: N (N)"),
        (r"resource version: (\d+), current: \d+", "resource version: $1, current: N"),
        (
            r"does not match the ResourceVersion in record \(\d+\)",
            "does not match the ResourceVersion in record (N)",
        ),
        (r"Made_[a-z0-9]{5}", "Made_GENERATED"),
        (r"continue=eyJ[A-Za-z0-9_-]+", "continue=TOKEN"),
    ])
});

/// Parts of messages in which Go prints its own types: nobody can act on them, and nothing here has them.
static INNARDS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    table(&[
        (r#"(?s)Invalid value: "(\{.*\}|map\[.*\]|\[\{.*\}\])": "#, "Invalid value: OBJECT: "),
        (r"(?s)Invalid value: [\[{].*?[\]}]: (`selector`|[a-zA-Z])", "Invalid value: OBJECT: $1"),
        (r"(?s)json parse error: .*", "json parse error: …"),
        (r"(?s)continue key is not valid.*", "continue key is not valid…"),
        (r"(?s)error decoding (patch|YAML): .*", "error decoding $1: …"),
        (r"(?s)Object 'Kind' is missing in .*", "Object 'Kind' is missing in …"),
        (r"requested (&user\.DefaultInfo\{.*\}|groups) without", "requested … without"),
        (r"in scheme.*", "in scheme …"),
        (r"(?s)expected (string|numeric|boolean|list|map)[^,]*, got .*", "expected $1, got …"),
        (r"map: (map\[.*?\]|\{.*?\})", "map: …"),
        (
            r"(?s)pod updates may not change fields other than .*",
            "pod updates may not change fields other than …",
        ),
    ])
});

/// Where a version stands in a text.
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(resourceVersion=|"resourceVersion":"|ResourceVersion in the precondition \()(\d+)"#)
        .unwrap()
});

/// What a conversation has seen so far of names that the server chose. Each is called after its object, so that one
/// difference does not rename what follows.
pub struct Names {
    namespace: String,
    uids: BTreeMap<String, String>,
    versions: BTreeMap<String, String>,
    generated: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
}

impl Names {
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            uids: BTreeMap::new(),
            versions: BTreeMap::new(),
            generated: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Takes note of every name, uid and version in an answer.
    pub fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                self.learn_metadata(map);
                map.values().for_each(|child| self.learn(child));
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            _ => {}
        }
    }

    fn learn_metadata(&mut self, map: &Map<String, Value>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &map.get("metadata").cloned().unwrap_or_default();
        let (name, prefix) = (text(&metadata["name"]), text(&metadata["generateName"]));
        if name.is_empty() {
            return;
        }
        if !prefix.is_empty() && name.starts_with(&prefix) && !self.generated.contains_key(&name) {
            let placeholder = self.next(format!("{prefix}GENERATED"));
            self.generated.insert(name.clone(), placeholder);
        }
        let name = self.text(&name);
        let (uid, version) = (text(&metadata["uid"]), text(&metadata["resourceVersion"]));
        if !uid.is_empty() && !self.uids.contains_key(&uid) {
            let placeholder = self.next(format!("uid-{name}-"));
            self.uids.insert(uid, placeholder);
        }
        if has_own_version(map) && !version.is_empty() && !self.versions.contains_key(&version) {
            let placeholder = self.next(format!("rv-{name}-"));
            self.versions.insert(version, placeholder);
        }
    }

    fn next(&mut self, prefix: String) -> String {
        let count = self.counts.entry(prefix.clone()).or_default();
        *count += 1;
        format!("{prefix}{count}")
    }

    /// A text without what varies.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.replace(&self.namespace, "NAMESPACE").replace("{ns}", "NAMESPACE");
        for (from, to) in self.uids.iter().chain(&self.generated) {
            text = text.replace(from, to);
        }
        let text = VERSION.replace_all(&text, |found: &regex::Captures<'_>| {
            format!("{}{}", &found[1], self.version(&found[1], &found[2]))
        });
        replaced(&VARYING, &text)
    }

    /// What stands for a version; those that a case made up stay. A parameter names a version of the whole store,
    /// which here is that of the last write.
    fn version<'a>(&'a self, before: &str, version: &'a str) -> &'a str {
        let is_made_up = matches!(version, "0" | "1") || version.len() > 9;
        if before == "resourceVersion=" {
            return if is_made_up { version } else { "RV" };
        }
        self.versions.get(version).map_or(if is_made_up { version } else { "RV" }, String::as_str)
    }

    /// A value without what varies.
    pub fn normal(&self, value: &Value) -> Value {
        match value {
            Value::Object(map) => self.normal_map(map),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.normal(item)).collect()),
            Value::String(text) => cell_age(text).unwrap_or_else(|| self.text(text)).into(),
            other => other.clone(),
        }
    }

    fn normal_map(&self, map: &Map<String, Value>) -> Value {
        let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
        let mut normal = Map::new();
        for (name, child) in map.iter().filter(|(_, child)| !child.is_null()) {
            let child = match (name.as_str(), child) {
                ("continue", Value::String(token)) if !token.is_empty() => "TOKEN".into(),
                ("metadata", Value::Object(metadata)) => self.normal_metadata(metadata, has_own_version(map)),
                ("managedFields", Value::Array(entries)) => self.normal_managers(entries),
                ("message", Value::String(text)) => replaced(&INNARDS, &self.text(text)).into(),
                ("causes", Value::Array(causes)) => self.normal_causes(causes),
                (name, Value::String(_)) if TIMES.contains(&name) => "TIME".into(),
                (_, child) => self.normal(child),
            };
            normal.insert(self.text(name), child);
        }
        shorten(&mut normal);
        settle(kind, &mut normal);
        Value::Object(normal)
    }

    /// A real server says some of them twice, and in the random order of a Go map.
    fn normal_causes(&self, causes: &[Value]) -> Value {
        let mut causes: Vec<Value> = causes.iter().map(|cause| self.normal(cause)).collect();
        causes.sort_by_key(ToString::to_string);
        causes.dedup();
        Value::Array(causes)
    }

    fn normal_metadata(&self, metadata: &Map<String, Value>, has_own_version: bool) -> Value {
        let mut normal = self.normal_map(metadata);
        if let Some(Value::String(version)) = metadata.get("resourceVersion") {
            let known = self.versions.get(version).filter(|_| has_own_version);
            normal["resourceVersion"] = known.map_or("RV", String::as_str).into();
        }
        normal
    }

    /// Who owns what, in an order that does not depend on the second in which it was written.
    fn normal_managers(&self, entries: &[Value]) -> Value {
        let is_ours = |entry: &&Value| {
            let manager = entry["manager"].as_str().unwrap_or_default();
            !matches!(manager, "kube-controller-manager" | "kube-apiserver")
        };
        let mut entries: Vec<Value> =
            entries.iter().filter(is_ours).map(|entry| self.normal(entry)).collect();
        entries.iter_mut().for_each(timeless);
        entries.sort_by_key(ToString::to_string);
        Value::Array(entries)
    }
}

/// An object that was read and is sent back: its managers come in the order of the second in which each wrote.
pub fn with_sorted_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Array(entries)) = object.pointer_mut("/metadata/managedFields") {
        entries.sort_by_cached_key(|entry| {
            let mut entry = entry.clone();
            timeless(&mut entry);
            entry.to_string()
        });
    }
    object
}

/// Takes the time out of what a manager owns.
fn timeless(entry: &mut Value) {
    if let Value::Object(map) = entry {
        map.remove("time");
    }
}

/// A message that repeats its causes repeats their order.
fn shorten(status: &mut Map<String, Value>) {
    let causes = status.get("details").and_then(|details| details["causes"].as_array()).map_or(0, Vec::len);
    if let Some(Value::String(text)) = status.get_mut("message")
        && let Some((what, _)) = text.split_once(" is invalid: [").filter(|_| causes > 1)
    {
        *text = format!("{what} is invalid: …");
    }
}

fn replaced(table: &[(Regex, &'static str)], text: &str) -> String {
    table.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Without what others add.
fn settle(kind: &str, object: &mut Map<String, Value>) {
    if STATUS_OF_OTHERS.contains(&kind) {
        object.remove("status");
    }
    if kind == "Pod"
        && let Some(Value::Object(spec)) = object.get_mut("spec")
    {
        spec.retain(|name, _| !ADMITTED.contains(&name.as_str()));
    }
    // Nobody asks who owns a question.
    if kind.ends_with("Review")
        && let Some(Value::Object(metadata)) = object.get_mut("metadata")
    {
        metadata.remove("managedFields");
    }
}

/// Lists, tables and bookmarks carry the version of the whole store.
fn has_own_version(map: &Map<String, Value>) -> bool {
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    let is_many = ["items", "rows", "columnDefinitions"].iter().any(|field| map.contains_key(*field));
    !is_many
        && !kind.ends_with("List")
        && !SHARED.contains(&kind)
        && map.get("metadata").is_some_and(|m| m["name"].is_string())
}

/// The age that a table shows.
fn cell_age(text: &str) -> Option<String> {
    let digits = text.strip_suffix('s')?;
    (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())).then(|| "AGE".to_owned())
}
