//! An object, or an event's envelope, as far as expressions read it: it is some kilobytes, and a condition names three fields.

use serde_json::{Map, Value};

use super::matching::envelope;
use crate::expr::Expression;

/// The envelope of an Event without what the expression does not read.
///
/// *Guarantees*: the expression gives the same answer as over the whole envelope, and the same error.
pub(super) fn envelope_for(event: &Value, expression: &Expression) -> Value {
    let mut data = Value::Null;
    for path in expression.paths().filter(|path| path[0] == "event") {
        match path {
            [_, field, below @ ..] if field == "data" => copy(event, below, &mut data),
            // What is computed is seldom read.
            _ => return envelope(event),
        }
    }
    Value::Object(Map::from_iter([("data".to_owned(), data)]))
}

/// By what an object is known, selected and led to its target.
const WHO: [&[&str]; 8] = [
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "uid"],
    &["metadata", "resourceVersion"],
    &["metadata", "labels"],
    &["metadata", "ownerReferences"],
];

/// Of an object who it is, and what the expressions read of it as a variable.
///
/// *Guarantees*: as for [`envelope_for`].
pub(super) fn excerpt<'e>(
    object: &Value,
    variable: &str,
    expressions: impl Iterator<Item = &'e Expression>,
) -> Value {
    let mut kept = Value::Object(Map::new());
    for path in WHO {
        copy_known(object, path, &mut kept);
    }
    for expression in expressions {
        for path in expression.paths().filter(|path| path[0] == variable) {
            copy(object, &path[1..], &mut kept);
        }
    }
    kept
}

/// Copies what is at a path, if there is something.
fn copy_known(from: &Value, path: &[&str], to: &mut Value) {
    match path {
        [] => to.clone_from(from),
        [field, below @ ..] => {
            if let Some(value) = from.get(field) {
                copy_known(value, below, &mut to[*field]);
            }
        }
    }
}

/// Copies what is at a path, or where the path ends because there are no fields.
pub(super) fn copy(from: &Value, path: &[String], to: &mut Value) {
    let (Value::Object(fields), [field, below @ ..]) = (from, path) else {
        to.clone_from(from);
        return;
    };
    if !to.is_object() {
        *to = Value::Object(Map::new());
    }
    if let Some(value) = fields.get(field) {
        copy(value, below, &mut to[field]);
    }
}
