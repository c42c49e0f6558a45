//! The part that all manifests share: apiVersion, kind and metadata.

use serde_json::Value;

use super::Surroundings;
use super::remedy;
use super::schema::Located;
use super::yaml::{Data, Key, Node};
use crate::api::{GROUP, MAX_NAME, VERSION, is_valid_name};
use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::closest;

/// What a Pack may apply.
const PACK_KINDS: [&str; 3] = ["Rule", "Action", "Webhook"];
/// What else people write.
const OTHER_KINDS: [&str; 2] = ["Pack", "Execution"];
/// What a manifest may have at its top.
const TOP: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
/// What a manifest may say in its metadata.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
/// Fields of metadata that exist and belong to others.
const NOT_SETTABLE: [&str; 9] = [
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// What describes a custom kind: no part of a pack, and welcome beside one for what it tells.
pub(super) const CUSTOM_KIND: &str = "CustomResourceDefinition";

/// A document, opened.
pub(super) struct Envelope<'n> {
    /// Its kind, if it is one of ours that is allowed here.
    pub kind: Option<String>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its spec, with the key.
    pub spec: Option<(&'n Key, &'n Node)>,
    /// What is wrong with all but the spec.
    pub problems: Vec<Located>,
}

/// Opens a document.
pub(super) fn open<'n>(node: &'n Node, surroundings: &Surroundings<'_>) -> Envelope<'n> {
    let mut envelope = Envelope { kind: None, name: None, spec: node.member("spec"), problems: Vec::new() };
    let Data::Map(members) = &node.data else {
        envelope.say(node, &Path::default(), "want a map with apiVersion, kind, metadata and spec", None);
        return envelope;
    };
    if !envelope.identify(node, surroundings) {
        return envelope;
    }
    for (key, _) in members.iter().filter(|(key, _)| !TOP.contains(&key.name.as_str())) {
        let (message, help) = match key.name.as_str() {
            "status" => ("status is written by the controller", None),
            name => ("unknown field", Some(meant(name, &TOP))),
        };
        envelope.at_key(key, &Path::default().member(&key.name), message, help);
    }
    if envelope.spec.is_none() {
        envelope.say(node, &Path::default(), "spec is required", None);
    }
    envelope.metadata(node, surroundings);
    envelope
}

impl<'n> Envelope<'n> {
    fn say(&mut self, node: &Node, path: &Path, message: impl Into<String>, help: Option<String>) {
        let problem = Problem { help, ..Problem::error(path.to_string(), message) };
        self.problems.push(Located::new(node.span.clone(), problem));
    }

    fn at_key(&mut self, key: &Key, path: &Path, message: impl Into<String>, help: Option<String>) {
        let problem = Problem { help, ..Problem::error(path.to_string(), message) };
        self.problems.push(Located::new(key.span.clone(), problem));
    }

    /// Finds the kind; false if the document is none of ours, so that more words about it would be noise.
    fn identify(&mut self, node: &'n Node, surroundings: &Surroundings<'_>) -> bool {
        let text = |name: &str| node.get(name).and_then(Node::as_str);
        let (Some(version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            for name in ["apiVersion", "kind"].into_iter().filter(|name| text(name).is_none()) {
                self.say(node, &Path::default(), format!("{name} is required"), None);
            }
            return false;
        };
        let path = Path::default().member("apiVersion");
        let wanted = format!("{GROUP}/{VERSION}");
        let anchor = node.get("apiVersion").unwrap_or(node);
        if kind == CUSTOM_KIND && surroundings.partial {
            return false;
        }
        let group = version.split('/').next().unwrap_or_default();
        if group != GROUP && allowed(surroundings).contains(&kind) {
            let message = format!("kind {kind} of {version} is not allowed here");
            self.say(anchor, &path, message, Some(format!("use apiVersion {wanted}")));
            // Another group may have a kind of that name, of which nothing is known here.
            if version.contains('/') && closest(group, [GROUP]).is_none() {
                return false;
            }
        } else if group != GROUP {
            let message = format!(
                "kind {kind} of {version} is not allowed here; allowed: {}",
                allowed(surroundings).join(", ")
            );
            self.say(anchor, &path, message, None);
            return false;
        } else if version != wanted {
            self.say(anchor, &path, format!("{version:?}: want {wanted}"), None);
        }
        if allowed(surroundings).contains(&kind) {
            self.kind = Some(kind.to_owned());
            return true;
        }
        let help = closest(kind, allowed(surroundings)).map(|word| format!("did you mean {word:?}?"));
        let message =
            format!("kind {kind} is not allowed here; allowed: {}", allowed(surroundings).join(", "));
        self.say(node.get("kind").unwrap_or(node), &Path::default().member("kind"), message, help);
        false
    }

    fn metadata(&mut self, node: &'n Node, surroundings: &Surroundings<'_>) {
        let path = Path::default().member("metadata");
        let Some((metadata_key, metadata)) = node.member("metadata") else {
            return self.say(node, &path, "metadata with a name is required", None);
        };
        let Data::Map(members) = &metadata.data else {
            return self.at_key(metadata_key, &path, "want a map with a name", None);
        };
        for (key, value) in members {
            let path = path.member(&key.name);
            match key.name.as_str() {
                "name" => self.name(value, &path),
                "namespace" => self.namespace(value, &path, surroundings),
                "labels" | "annotations" => self.texts(key, value, &path),
                name if NOT_SETTABLE.contains(&name) && !self.is_pack_kind() => {}
                name if NOT_SETTABLE.contains(&name) => {
                    self.at_key(key, &path, "field not settable here", None);
                }
                name => self.at_key(key, &path, "unknown field", Some(meant(name, &METADATA))),
            }
        }
        let generated = !self.is_pack_kind() && metadata.get("generateName").is_some();
        if metadata.get("name").is_none() && !generated {
            self.at_key(metadata_key, &path, "name is required", None);
        }
    }

    fn is_pack_kind(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| PACK_KINDS.contains(&kind))
    }

    fn name(&mut self, value: &Node, path: &Path) {
        let Some(name) = value.as_str() else { return self.say(value, path, "want text", quoted(value)) };
        self.name = Some(name.to_owned());
        let length = name.chars().count();
        // An Execution's name is made by the controller and longer.
        if self.kind.as_deref() != Some("Execution") && length > MAX_NAME {
            self.say(value, path, format!("name is {length} chars; max {MAX_NAME}"), None);
        } else if length <= MAX_NAME && !is_valid_name(name) {
            let message = format!(
                "{name:?}: use lower-case letters, digits and hyphens, a letter or digit at both ends"
            );
            self.say(value, path, message, None);
        }
    }

    fn namespace(&mut self, value: &Node, path: &Path, surroundings: &Surroundings<'_>) {
        let Some(namespace) = value.as_str() else {
            return self.say(value, path, "want text", quoted(value));
        };
        if let Some(wanted) = surroundings.namespace.filter(|wanted| *wanted != namespace) {
            let message = format!("namespace {namespace:?}: everything here goes to {wanted:?}");
            self.say(value, path, message, Some("leave it out".to_owned()));
        }
    }

    fn texts(&mut self, key: &Key, value: &Node, path: &Path) {
        let members = match &value.data {
            Data::Map(members) => members,
            Data::Scalar(Value::Null) => return,
            _ => return self.at_key(key, path, "want a map", None),
        };
        for (key, value) in members {
            let path = path.member(&key.name);
            if self.is_pack_kind() && key.name.starts_with(&format!("{GROUP}/")) {
                self.at_key(key, &path, "is set by fother itself", None);
            } else if value.as_str().is_none() {
                self.at_key(key, &path, "want text", quoted(value));
            }
        }
    }
}

/// What to write in place of an unknown field.
fn meant(name: &str, known: &[&str]) -> String {
    match closest(name, known.iter().copied()) {
        Some(word) => format!("did you mean {word:?}?"),
        None => format!("fields here: {}", known.join(", ")),
    }
}

/// How to write a number or a truth as text.
fn quoted(value: &Node) -> Option<String> {
    match &value.data {
        Data::Scalar(value) if !value.is_null() => Some(remedy::quoted(value)),
        _ => None,
    }
}

fn allowed(surroundings: &Surroundings<'_>) -> Vec<&'static str> {
    let others = if surroundings.partial { &OTHER_KINDS[..] } else { &[] };
    PACK_KINDS.iter().chain(others).copied().collect()
}
