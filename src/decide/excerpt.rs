//! An event's envelope, as far as one expression reads it: an Event is some kilobytes, and a condition names three fields.

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

/// Copies what is at a path, or where the path ends because there are no fields.
fn copy(from: &Value, path: &[String], to: &mut Value) {
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
