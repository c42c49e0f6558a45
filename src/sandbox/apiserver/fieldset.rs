//! Sets of field paths: what managed fields record. Built from objects along their schema, combined, and
//! written in the `fieldsV1` form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::schema::{Schema, Shape};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of a map or struct.
    Field(String),
    /// An item of a keyed list: its key fields as canonical JSON.
    Key(String),
    /// An item of a set: its value as JSON.
    Item(String),
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the place itself is in the set.
    member: bool,
    children: BTreeMap<Step, FieldSet>,
}

impl FieldSet {
    fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Whether the place itself is in the set, and not only something below it.
    pub fn is_member(&self) -> bool {
        self.member
    }

    fn normalized(member: bool, children: BTreeMap<Step, FieldSet>) -> Self {
        Self { member, children: children.into_iter().filter(|(_, child)| !child.is_empty()).collect() }
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut children = self.children.clone();
        for (step, theirs) in &other.children {
            let merged = children.get(step).map_or_else(|| theirs.clone(), |ours| ours.union(theirs));
            children.insert(step.clone(), merged);
        }
        Self { member: self.member || other.member, children }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let shared = self.children.iter().filter_map(|(step, ours)| {
            other.children.get(step).map(|theirs| (step.clone(), ours.intersection(theirs)))
        });
        Self::normalized(self.member && other.member, shared.collect())
    }

    /// What is in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        let rest = self.children.iter().map(|(step, ours)| {
            let left =
                other.children.get(step).map_or_else(|| ours.clone(), |theirs| ours.difference(theirs));
            (step.clone(), left)
        });
        Self::normalized(self.member && !other.member, rest.collect())
    }

    /// Without the other's members and everything below them.
    pub fn without_below(&self, other: &Self) -> Self {
        if other.member {
            return Self::default();
        }
        let rest = self.children.iter().map(|(step, ours)| {
            let left =
                other.children.get(step).map_or_else(|| ours.clone(), |theirs| ours.without_below(theirs));
            (step.clone(), left)
        });
        Self::normalized(self.member, rest.collect())
    }

    /// The part below a step.
    pub fn child(&self, step: &Step) -> Option<&Self> {
        self.children.get(step)
    }

    /// The steps below.
    pub fn steps(&self) -> impl Iterator<Item = (&Step, &Self)> {
        self.children.iter()
    }

    /// A set with one path of fields.
    pub fn of_path(fields: &[&str]) -> Self {
        match fields {
            [] => Self::leaf(),
            [first, rest @ ..] => {
                let children = BTreeMap::from([(Step::Field((*first).to_owned()), Self::of_path(rest))]);
                Self { member: false, children }
            }
        }
    }

    /// The members as people read them, those of a place before those below it: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        let path = |step: &Step| format!("{prefix}{}", show_step(step));
        paths.extend(self.children.iter().filter(|(_, child)| child.member).map(|(step, _)| path(step)));
        for (step, child) in &self.children {
            child.collect_paths(&path(step), paths);
        }
    }

    /// The `fieldsV1` form.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            let key = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Key(keys) => format!("k:{keys}"),
                Step::Item(value) => format!("v:{value}"),
            };
            map.insert(key, child.to_json());
        }
        Value::Object(map)
    }

    /// Reads the `fieldsV1` form; steps that are not understood are left out.
    pub fn from_json(value: &Value) -> Self {
        let Some(map) = value.as_object() else { return Self::default() };
        if map.is_empty() {
            return Self::leaf();
        }
        let children = map.iter().filter_map(|(key, child)| {
            let (kind, rest) = key.split_once(':')?;
            let step = match kind {
                "f" => Step::Field(rest.to_owned()),
                "k" => Step::Key(serde_json::from_str::<Value>(rest).ok()?.to_string()),
                "v" => Step::Item(rest.to_owned()),
                _ => return None,
            };
            Some((step, Self::from_json(child)))
        });
        Self { member: map.contains_key("."), children: children.collect() }
    }
}

/// A step as people read it.
pub fn show_step(step: &Step) -> String {
    match step {
        Step::Field(name) => format!(".{name}"),
        Step::Item(value) => format!("[={value}]"),
        Step::Key(keys) => format!("[{}]", show_keys(keys)),
    }
}

fn show_keys(keys: &str) -> String {
    let fields: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// The step to an item of a keyed list. An absent key counts with its declared default, and is left out
/// where there is none.
pub fn key_step(schema: Schema<'_>, item: &Value) -> Step {
    let mut keys = Map::new();
    for key in schema.list_keys() {
        let default = || schema.items()?.property(key)?.get("default");
        if let Some(value) = item.get(key).or_else(default) {
            keys.insert(key.to_owned(), value.clone());
        }
    }
    Step::Key(Value::Object(keys).to_string())
}

/// The step to an item of a list with the given shape.
pub fn item_step(schema: Schema<'_>, shape: Shape, item: &Value) -> Step {
    if shape == Shape::Keyed { key_step(schema, item) } else { Step::Item(item.to_string()) }
}

/// The shape of a value under a schema; without one, maps are walked and lists taken whole.
pub fn shape_of(schema: Option<Schema<'_>>, value: &Value) -> Shape {
    match (schema.map(|schema| schema.shape()), value) {
        (Some(shape @ (Shape::Keyed | Shape::Set)), Value::Array(_)) => shape,
        (Some(Shape::Map) | None, Value::Object(_)) => Shape::Map,
        // Below a free-form node fields are still owned one by one.
        (Some(Shape::Atomic), Value::Object(_))
            if schema.is_some_and(|s| s.kind().is_empty() && s.keeps_unknown()) =>
        {
            Shape::Map
        }
        _ => Shape::Atomic,
    }
}

/// Every field that an applied object sets.
pub fn applied(schema: Option<Schema<'_>>, value: &Value) -> FieldSet {
    let shape = shape_of(schema, value);
    match (shape, value) {
        (Shape::Map, Value::Object(map)) if !map.is_empty() => {
            let children = map.iter().map(|(name, child)| {
                let field = schema.and_then(|schema| schema.field(name));
                let mut below = applied(field, child);
                // An entry of a map is somebody's itself; a field of a struct is always there.
                below.member |= schema.and_then(|schema| schema.property(name)).is_none();
                (Step::Field(name.clone()), below)
            });
            FieldSet::normalized(false, children.collect())
        }
        (Shape::Keyed | Shape::Set, Value::Array(items)) if !items.is_empty() => {
            let Some(schema) = schema else { return FieldSet::leaf() };
            let children = items.iter().map(|item| {
                let mut below = applied(schema.items(), item);
                below.member = true;
                (item_step(schema, shape, item), below)
            });
            FieldSet { member: false, children: children.collect() }
        }
        // Whose items are owned one by one, is nobody's without items.
        (Shape::Keyed | Shape::Set, Value::Array(_)) => FieldSet::default(),
        _ => FieldSet::leaf(),
    }
}

/// What differs between two objects: (added or changed, removed).
pub fn compare(schema: Option<Schema<'_>>, old: Option<&Value>, new: Option<&Value>) -> (FieldSet, FieldSet) {
    compare_at(schema, old, new, true)
}

/// A place that is implied exists by itself and belongs to nobody; any other to whoever added it.
fn compare_at(
    schema: Option<Schema<'_>>,
    old: Option<&Value>,
    new: Option<&Value>,
    implied: bool,
) -> (FieldSet, FieldSet) {
    if match (old, new) {
        (Some(old), Some(new)) => same(old, new),
        (old, new) => old.is_none() && new.is_none(),
    } {
        return Default::default();
    }
    let (before, after) = (parts(schema, old), parts(schema, new));
    // A value is compared as a whole when it is atomic on either side, or has no parts on both.
    let is_atomic = (old.is_some() && before.is_none()) || (new.is_some() && after.is_none());
    let has_parts = |parts: &Option<Parts<'_>>| parts.as_ref().is_some_and(|parts| !parts.is_empty());
    if is_atomic || !(has_parts(&before) || has_parts(&after)) {
        return match new {
            Some(_) => (FieldSet::leaf(), FieldSet::default()),
            None => (FieldSet::default(), FieldSet::leaf()),
        };
    }
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let (mut changed, mut removed) = (BTreeMap::new(), BTreeMap::new());
    for step in before.keys().chain(after.keys().filter(|step| !before.contains_key(*step))) {
        let below = before.get(step).or(after.get(step)).and_then(|(schema, _)| *schema);
        let is_implied = match step {
            Step::Field(name) => schema.is_some_and(|schema| schema.implies(name)),
            _ => false,
        };
        let (plus, minus) = compare_at(
            below,
            before.get(step).map(|(_, value)| *value),
            after.get(step).map(|(_, value)| *value),
            is_implied,
        );
        // An item of a list is always somebody's, even one of a set, which is its own value.
        let is_item = !matches!(step, Step::Field(_));
        let added = is_item && !before.contains_key(step);
        let gone = is_item && !after.contains_key(step);
        changed.insert(step.clone(), FieldSet { member: plus.member || added, ..plus });
        removed.insert(step.clone(), FieldSet { member: minus.member || gone, ..minus });
    }
    (
        FieldSet::normalized(old.is_none() && !implied, changed),
        FieldSet::normalized(new.is_none() && !implied, removed),
    )
}

/// Whether two values are the same: 100 is 100.0, as the real server has it.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64().is_some_and(|number| Some(number) == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has =
                |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(has)
        }
        _ => one == other,
    }
}

type Parts<'a> = BTreeMap<Step, (Option<Schema<'a>>, &'a Value)>;

/// The parts of a value that are owned one by one, or nothing where it is owned as a whole.
fn parts<'a>(schema: Option<Schema<'a>>, value: Option<&'a Value>) -> Option<Parts<'a>> {
    let value = value?;
    let shape = shape_of(schema, value);
    match (shape, value) {
        (Shape::Map, Value::Object(map)) => {
            let fields = map.iter().map(|(name, child)| {
                (Step::Field(name.clone()), (schema.and_then(|schema| schema.field(name)), child))
            });
            Some(fields.collect())
        }
        (Shape::Keyed | Shape::Set, Value::Array(items)) => {
            let schema = schema?;
            let items = items.iter().map(|item| (item_step(schema, shape, item), (schema.items(), item)));
            Some(items.collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema;
    use super::*;

    #[test]
    fn sets_are_written_and_read() {
        let deployment = schema::of_kind("apps", "v1", "Deployment");
        let object = json!({"spec": {"replicas": 1, "template": {"spec": {
            "containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 80}]}]}}}});
        let set = applied(deployment, &object);
        let expected = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}, "f:ports": {
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}});
        assert_eq!(set.to_json(), expected);
        assert_eq!(FieldSet::from_json(&expected), set);
        assert!(set.paths().contains(&".spec.template.spec.containers[name=\"a\"].image".to_owned()));
    }

    #[test]
    fn sets_combine() {
        let set = |value| FieldSet::from_json(&value);
        let one = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}}));
        let two = set(json!({"f:b": {"f:c": {}, "f:d": {}}}));
        assert_eq!(one.union(&two).to_json(), json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}));
        assert_eq!(one.intersection(&two).to_json(), json!({"f:b": {"f:c": {}}}));
        assert_eq!(one.difference(&two).to_json(), json!({"f:a": {}, "f:b": {}}));
        assert_eq!(one.without_below(&set(json!({"f:b": {}}))).to_json(), json!({"f:a": {}}));
    }

    #[test]
    fn differences_are_found() {
        let config = schema::of_kind("", "v1", "ConfigMap");
        let (old, new) = (json!({"data": {"a": "1", "b": "2"}}), json!({"data": {"a": "1", "c": "3"}}));
        let (changed, removed) = compare(config, Some(&old), Some(&new));
        assert_eq!(changed.to_json(), json!({"f:data": {"f:c": {}}}));
        assert_eq!(removed.to_json(), json!({"f:data": {"f:b": {}}}));
        let number = |maximum: Value| json!({"spec": {"versions": [{"maximum": maximum}]}});
        let differ = compare(None, Some(&number(json!(100.0))), Some(&number(json!(100))));
        assert_eq!(differ, Default::default(), "a number is the same however it is written");
        assert_ne!(compare(None, Some(&number(json!(100))), Some(&number(json!(101)))), Default::default());
        let (created, _) = compare(config, Some(&json!({})), Some(&old));
        assert_eq!(created.to_json(), json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
    }
}
