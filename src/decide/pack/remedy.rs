//! What to write instead of what is wrong, as far as a schema says it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::schema::{is_nothing, wanted};
use super::yaml::{Data, Key, Node, read};

/// How to make a text of something. What a number with a fraction was written as cannot be said any more.
pub(super) fn quoted(value: &Value) -> String {
    if value.is_f64() { "put it in quotes".to_owned() } else { format!("write \"{value}\"") }
}

pub(super) fn did_you_mean(word: &str) -> String {
    format!("did you mean {word:?}?")
}

/// The only one of these names that begins so, with words that are not its first alone: `serviceAccount`.
pub(super) fn begun<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let ends_a_word = |name: &&str| {
        name.strip_prefix(written).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let mut found = names.filter(ends_a_word);
    let is_of_words = written.contains(|c: char| c.is_ascii_uppercase());
    found.next().filter(|_| is_of_words && found.next().is_none())
}

/// What to write where labels stand in place of a selector of labels.
pub(super) fn labels(known: &Map<String, Value>, members: &[(Key, Node)]) -> Option<String> {
    let is_selector = ["matchLabels", "matchExpressions"].iter().all(|name| known.contains_key(*name));
    if members.is_empty() || !is_selector {
        return None;
    }
    let label = |(key, node): &(Key, Node)| match &node.data {
        Data::Scalar(value) if !value.is_null() && !known.contains_key(&key.name) => {
            let value = value.as_str().map_or_else(|| format!("\"{value}\""), plainly);
            Some(format!("{}: {value}", plainly(&key.name)))
        }
        _ => None,
    };
    let labels: Option<Vec<String>> = members.iter().map(label).collect();
    Some(format!("did you mean matchLabels: {{{}}}?", labels?.join(", ")))
}

/// A text as it can be written within braces, in quotes only where it needs them.
fn plainly(text: &str) -> String {
    let read = read(&format!("{{a: {text}}}\n"));
    let is_plain = read.is_ok_and(|(documents, ambiguous)| {
        let read = documents.first().and_then(|document| document.get("a")).and_then(Node::as_str);
        ambiguous.is_empty() && read == Some(text)
    });
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}

/// Where one level deeper the only field of this name is: `limits.cooldown`, `ladder[].verify`.
pub(super) fn below(known: &Map<String, Value>, name: &str) -> Option<String> {
    let mut found = known.iter().filter_map(|(parent, schema)| {
        let is_in = |schema: &Value| schema["properties"].get(name).is_some();
        match (is_in(schema), is_in(&schema["items"])) {
            (true, _) => Some(format!("{parent}.{name}")),
            (_, true) => Some(format!("{parent}[].{name}")),
            _ => None,
        }
    });
    found.next().filter(|_| found.next().is_none())
}

/// What to write instead of a field that is none.
pub(super) fn fields_here(known: &Map<String, Value>) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    if names.is_empty() { "leave it out".to_owned() } else { format!("fields here: {}", names.join(", ")) }
}

/// What to do about a key with nothing behind it where something has to be: it is as if the key were not there.
pub(super) fn left_empty(schema: &Value, members: &BTreeSet<&str>, node: &Node) -> Option<String> {
    let Data::Map(written) = &node.data else { return None };
    let (key, _) =
        written.iter().find(|(key, node)| members.contains(key.name.as_str()) && is_nothing(node))?;
    let (name, of) = (&key.name, &schema["properties"][&key.name]);
    let is_free = of["required"].is_null() && of["x-kubernetes-validations"].is_null();
    let remedy = match texts(&of["required"]).join(", ") {
        _ if of["type"] == "object" && is_free => format!("{name}: {{}}"),
        parts if !parts.is_empty() => format!("a map with {parts} behind {name}"),
        _ => format!("a value behind {name}"),
    };
    Some(format!("{name} without a value is as if it were not there: write {remedy}"))
}

/// What to write where there is nothing, or too little.
pub(super) fn remedy(schema: &Value, optional: bool) -> String {
    let parts = texts(&schema["items"]["required"]).join(", ");
    let remedy = match (example(schema), schema["type"].as_str()) {
        (Some(example), _) => such_as(&example),
        (None, Some("array")) if parts.is_empty() => "write at least one item".to_owned(),
        (None, Some("array")) => format!("write at least one item, a map with {parts}"),
        (None, Some("object")) => "write at least one member".to_owned(),
        (None, _) => "write some text".to_owned(),
    };
    if optional { format!("leave it out, or {remedy}") } else { remedy }
}

pub(super) fn such_as(example: &str) -> String {
    format!("write such as {example}")
}

/// The first example that a field's description has, as it can be written in a file.
pub(super) fn example(schema: &Value) -> Option<String> {
    let description = schema["description"].as_str()?;
    let (_, example) = description.split_once("Example:").or_else(|| description.split_once("Examples:"))?;
    let (example, _) = example.trim_start().strip_prefix('`')?.split_once('`')?;
    let is_read_so = |yaml: String| {
        let read = read(&yaml).ok().and_then(|(documents, _)| documents.into_iter().next());
        read.is_some_and(|read| read.get("a").is_some_and(|text| text.as_str() == Some(example)))
    };
    let is_plain = is_read_so(format!("a: {example}\n")) && is_read_so(format!("{{a: {example}}}\n"));
    let is_text = wanted(schema) == Some("string");
    Some(if is_text && !is_plain { format!("{example:?}") } else { example.to_owned() })
}

pub(super) fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
