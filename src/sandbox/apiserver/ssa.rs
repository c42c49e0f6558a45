//! The merge under server-side apply: an applied configuration laid over the live object along the
//! schema's list and map types, and the removal of what is no longer applied.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fieldset::{FieldSet, Step, item_step, shape_of};
use super::schema::{Schema, Shape};

/// Lays `config` over `live`.
pub fn merge(schema: Option<Schema<'_>>, live: &Value, config: &Value) -> Value {
    let shape = shape_of(schema, config);
    match (shape, live, config) {
        (Shape::Map, Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let field = schema.and_then(|schema| schema.field(name));
                let below = merged.get(name).map_or_else(|| value.clone(), |old| merge(field, old, value));
                merged.insert(name.clone(), below);
            }
            Value::Object(merged)
        }
        (Shape::Keyed | Shape::Set, Value::Array(live), Value::Array(config)) => match schema {
            Some(schema) => Value::Array(merge_items(schema, shape, live, config)),
            None => Value::Array(config.clone()),
        },
        _ => config.clone(),
    }
}

/// Both lists are walked at once, as the real server does: what only the live list has stays before what follows it
/// there; what both have comes in the configuration's order.
fn merge_items(schema: Schema<'_>, shape: Shape, live: &[Value], config: &[Value]) -> Vec<Value> {
    let step = |item: &Value| item_step(schema, shape, item);
    let (ours, theirs): (Vec<Step>, Vec<Step>) =
        (live.iter().map(step).collect(), config.iter().map(step).collect());
    let before: BTreeMap<&Step, &Value> = ours.iter().zip(live).collect();
    let is_applied = |step: &Step| theirs.contains(step);
    let mut shared = theirs.iter().filter(|step| before.contains_key(step)).peekable();
    let (mut merged, mut left, mut right) = (Vec::new(), 0, 0);
    while left < ours.len() || right < theirs.len() {
        if let Some(here) = ours.get(left) {
            if !is_applied(here) {
                merged.push(live[left].clone());
                left += 1;
                continue;
            }
            // It comes in its turn, or came already.
            let is_next = shared.peek().is_some_and(|next| *next == here);
            if !is_next || theirs[..right].contains(here) {
                left += 1;
                continue;
            }
        }
        let Some(there) = theirs.get(right) else { break };
        merged.push(match before.get(there) {
            Some(old) if shape == Shape::Keyed => merge(schema.items(), old, &config[right]),
            _ => config[right].clone(),
        });
        left += usize::from(ours.get(left) == Some(there));
        right += 1;
        shared.next_if(|next| *next == there);
    }
    merged
}

/// Removes from `value` what `before` had and `kept` no longer has.
pub fn prune(schema: Option<Schema<'_>>, value: &mut Value, before: &FieldSet, kept: &FieldSet) {
    for (step, child) in before.steps() {
        let field = schema.and_then(|schema| match step {
            Step::Field(name) => schema.field(name),
            _ => schema.items(),
        });
        // An item goes with the last who has it, though others have fields of it.
        let goes = |kept: &&FieldSet| matches!(step, Step::Key(_)) && child.is_member() && !kept.is_member();
        match kept.child(step).filter(|kept| !goes(kept)) {
            None => remove_step(schema, value, step),
            Some(kept) => {
                if let Some(below) = find_step(schema, value, step) {
                    // An item that stays keeps what it is known by.
                    let keys =
                        schema.filter(|_| matches!(step, Step::Key(_))).map(|schema| schema.list_keys());
                    let less = keys
                        .into_iter()
                        .flatten()
                        .fold(child.clone(), |set, key| set.without_below(&FieldSet::of_path(&[key])));
                    prune(field, below, &less, kept);
                }
            }
        }
    }
}

fn position(schema: Option<Schema<'_>>, items: &[Value], step: &Step) -> Option<usize> {
    let schema = schema?;
    let shape = if matches!(step, Step::Key(_)) { Shape::Keyed } else { Shape::Set };
    items.iter().position(|item| item_step(schema, shape, item) == *step)
}

fn find_step<'v>(schema: Option<Schema<'_>>, value: &'v mut Value, step: &Step) -> Option<&'v mut Value> {
    match (value, step) {
        (Value::Object(map), Step::Field(name)) => map.get_mut(name),
        (Value::Array(items), _) => position(schema, items, step).map(|index| &mut items[index]),
        _ => None,
    }
}

fn remove_step(schema: Option<Schema<'_>>, value: &mut Value, step: &Step) {
    match (value, step) {
        (Value::Object(map), Step::Field(name)) => {
            map.remove(name);
        }
        (Value::Array(items), _) => {
            if let Some(index) = position(schema, items, step) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema;
    use super::*;

    #[test]
    fn keyed_lists_merge_by_key() {
        let schema = schema::of_kind("", "v1", "Pod");
        let pod = |containers: Value| json!({"spec": {"containers": containers}});
        let live = pod(json!([{"name": "side", "image": "s"}, {"name": "a", "image": "1", "tty": true}]));
        let config = pod(json!([{"name": "b", "image": "2"}, {"name": "a", "image": "3"}]));
        let expected = pod(json!([
            {"name": "side", "image": "s"}, {"name": "b", "image": "2"}, {"name": "a", "image": "3", "tty": true},
        ]));
        assert_eq!(merge(schema, &live, &config), expected);
    }
}
