//! Makes an object whose form is wrong readable nevertheless, so that one look finds what else is wrong with it.

use serde_json::{Value, json};

use super::schema::Meant;
use super::yaml::{Data, Node};
use crate::decide::path::{Path, Segment};

/// Gives a misspelled field the name that was probably meant.
pub(super) fn rename(root: &mut Node, meant: &Meant) {
    let parent =
        meant.parent.segments().iter().try_fold(root, |node, segment| match (segment, &mut node.data) {
            (Segment::Member(name), Data::Map(members)) => {
                members.iter_mut().find(|(key, _)| key.name == *name).map(|(_, node)| node)
            }
            (Segment::Item(index), Data::List(items)) => items.get_mut(*index),
            _ => None,
        });
    let Some(Node { data: Data::Map(members), .. }) = parent else { return };
    if let Some((key, _)) = members.iter_mut().find(|(key, _)| key.name == meant.written) {
        key.name.clone_from(&meant.name);
    }
}

/// The same in a part of it, as JSON, that stands `depth` steps deep.
pub(super) fn rename_in(part: &mut Value, depth: usize, meant: &Meant) {
    let below = meant.parent.segments().get(depth..).unwrap_or_default();
    let Some(Value::Object(members)) = find(part, below) else { return };
    if let Some(value) = members.remove(&meant.written) {
        members.insert(meant.name.clone(), value);
    }
}

/// Puts something in the place of a null that is refused. One that is allowed is as if it were not there; this one was
/// written as something.
pub(super) fn fill(part: &mut Value, depth: usize, place: &Path) {
    let below = place.segments().get(depth..).unwrap_or_default();
    if let Some(value) = find(part, below).filter(|value| value.is_null()) {
        *value = json!(true);
    }
}

fn find<'v>(root: &'v mut Value, path: &[Segment]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |value, segment| match segment {
        Segment::Member(name) => value.get_mut(name),
        Segment::Item(index) => value.get_mut(index),
    })
}

/// Adds what a schema requires and `value` has not, empty. A map is not made up: too much follows from what is in it.
pub(super) fn complete(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if let (false, Some(empty)) = (members.contains_key(name), empty(&schema["properties"][name]))
                {
                    members.insert(name.to_owned(), empty);
                }
            }
            for (name, member) in members {
                complete(&schema["properties"][name], member);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| complete(&schema["items"], item)),
        _ => {}
    }
}

fn empty(schema: &Value) -> Option<Value> {
    match schema["type"].as_str()? {
        "string" => Some(schema["enum"].get(0).cloned().unwrap_or(json!(""))),
        "array" => Some(json!([])),
        "integer" | "number" => Some(json!(0)),
        "boolean" => Some(json!(false)),
        _ => None,
    }
}
