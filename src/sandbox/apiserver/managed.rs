//! Managed fields: who owns which field after an update or a server-side apply.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::fieldset::{FieldSet, applied, compare};
use super::meta;
use super::schema::{self, Schema};
use super::ssa;

/// Who writes, and how its ownership is recorded.
#[derive(Clone, Debug)]
pub struct Manager<'a> {
    /// The field manager's name.
    pub name: &'a str,
    /// The version it writes in.
    pub api_version: String,
    /// The subresource it writes to, or empty.
    pub subresource: &'a str,
    /// When.
    pub now: Timestamp,
}

/// Fields whose ownership is not recorded.
const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Value,
    fields: FieldSet,
}

impl Entry {
    fn read(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        Self {
            manager: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: value["time"].clone(),
            fields: FieldSet::from_json(&value["fieldsV1"]),
        }
    }

    fn write(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.as_str().into();
        }
        entry
    }

    fn belongs_to(&self, manager: &Manager<'_>, operation: &str) -> bool {
        self.manager == manager.name
            && self.operation == operation
            && self.subresource == manager.subresource
            && (operation == "Apply" || self.api_version == manager.api_version)
    }

    /// As conflicts name it.
    fn show(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == "Update" { format!("{text} using {}", self.api_version) } else { text }
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let list = object["metadata"]["managedFields"].as_array();
    list.into_iter().flatten().filter(|entry| entry["manager"].is_string()).map(Entry::read).collect()
}

fn write_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    // The real server keeps appliers first, then by time.
    entries.sort_by(|a, b| {
        let order =
            |entry: &Entry| (entry.operation != "Apply", entry.time.to_string(), entry.manager.clone());
        order(a).cmp(&order(b))
    });
    if entries.is_empty() {
        meta::remove(&mut object["metadata"], "managedFields");
    } else {
        object["metadata"]["managedFields"] = entries.iter().map(Entry::write).collect();
    }
}

/// Adds a set to a manager's own entry, or replaces it; the time moves only when something changed.
fn own(
    entries: &mut Vec<Entry>,
    manager: &Manager<'_>,
    operation: &str,
    fields: impl FnOnce(&FieldSet) -> FieldSet,
) {
    let time = || Value::from(meta::time(manager.now));
    if let Some(entry) = entries.iter_mut().find(|entry| entry.belongs_to(manager, operation)) {
        let updated = fields(&entry.fields);
        if updated != entry.fields || entry.api_version != manager.api_version {
            entry.fields = updated;
            entry.api_version.clone_from(&manager.api_version);
            entry.time = time();
        }
        return;
    }
    entries.push(Entry {
        manager: manager.name.to_owned(),
        operation: operation.to_owned(),
        api_version: manager.api_version.clone(),
        subresource: manager.subresource.to_owned(),
        time: time(),
        fields: fields(&FieldSet::default()),
    });
}

fn strip(set: &FieldSet) -> FieldSet {
    UNOWNED.iter().fold(set.clone(), |set, path| set.without_below(&FieldSet::of_path(path)))
}

/// The owners before a write: those that the request brings, for it may correct them, else those of the live object.
/// An emptied list asks for a reset.
fn entries_before(old: Option<&Value>, new: &Value) -> Vec<Entry> {
    let is_reset = new["metadata"]["managedFields"].as_array().is_some_and(|list| {
        list.is_empty() || list.iter().all(|entry| entry.as_object().is_some_and(serde_json::Map::is_empty))
    });
    let given = entries(new);
    match old {
        _ if is_reset => Vec::new(),
        Some(old) if given.is_empty() => entries(old),
        _ => given,
    }
}

/// Records an ordinary write. An object whose owners are not known stays so until somebody applies it.
pub fn record_update(
    schema: Option<Schema<'_>>,
    old: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
) {
    let mut entries = match (old, manager.subresource) {
        // Through a subresource nobody's ownership can be set.
        (Some(old), "status" | "scale") => self::entries(old),
        _ => entries_before(old, new),
    };
    if old.is_some() && entries.is_empty() {
        write_entries(new, entries);
        return;
    }
    let empty = json!({});
    update(&mut entries, schema, (old.unwrap_or(&empty), new), manager);
    write_entries(new, entries);
}

fn update(
    entries: &mut Vec<Entry>,
    schema: Option<Schema<'_>>,
    (old, new): (&Value, &Value),
    manager: &Manager<'_>,
) {
    let (changed, removed) = compare(schema, Some(old), Some(new));
    let (changed, removed) = (strip(&changed), strip(&removed));
    if !(changed.is_empty() && removed.is_empty()) {
        let touched = changed.union(&removed);
        for entry in entries.iter_mut().filter(|entry| !entry.belongs_to(manager, "Update")) {
            entry.fields = entry.fields.difference(&touched);
        }
        own(entries, manager, "Update", |fields| fields.union(&changed).difference(&removed));
    }
}

/// Who owns what of an object that nobody has applied before and whose owners are not known.
const BEFORE: &str = "before-first-apply";

/// The client that may apply what it once wrote by other means.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields of which kubectl's own annotation says that it wrote them, and which are still as it did.
fn last_applied(schema: Option<Schema<'_>>, live: &Value) -> FieldSet {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let Ok(config) = serde_json::from_str::<Value>(text) else { return FieldSet::default() };
    let (changed, removed) = compare(schema, Some(&config), Some(live));
    strip(&applied(schema, &config)).difference(&changed).difference(&removed)
}

/// Applies a configuration to the live object: merges it, drops what this manager applied before and no
/// longer does, and refuses changes of fields that others own unless forced.
pub fn apply(
    schema: Option<Schema<'_>>,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> ApiResult<Value> {
    let fresh = json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}});
    let base = live.unwrap_or(&fresh);
    let mut entries = entries(base);
    if let (Some(live), true) = (live, entries.is_empty()) {
        let before = Manager { name: BEFORE, subresource: "", ..manager.clone() };
        update(&mut entries, schema, (&json!({}), live), &before);
    }
    let applied_now = strip(&applied(schema, config));
    let mine = entries.iter().position(|entry| entry.belongs_to(manager, "Apply"));
    let applied_before = mine.map(|index| entries[index].fields.clone()).unwrap_or_default();

    let mut merged = ssa::merge(schema, base, config);
    let others = entries.iter().enumerate().filter(|(index, _)| Some(*index) != mine);
    let kept = others.fold(applied_now.clone(), |set, (_, entry)| set.union(&entry.fields));
    ssa::prune(schema, &mut merged, &applied_before, &kept);

    let (changed, removed) = compare(schema, Some(base), Some(&merged));
    let (changed, removed) = (strip(&changed), strip(&removed));
    let migrated = if manager.name == KUBECTL { last_applied(schema, base) } else { FieldSet::default() };
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.belongs_to(manager, "Apply")) {
        let contested = entry.fields.intersection(&changed);
        conflicts
            .extend(contested.difference(&migrated).paths().into_iter().map(|path| (path, entry.show())));
        entry.fields = entry.fields.difference(&contested).difference(&removed);
    }
    if !conflicts.is_empty() && !force {
        return Err(ApiError::apply_conflict(&conflicts));
    }
    own(&mut entries, manager, "Apply", |_| applied_now);
    write_entries(&mut merged, entries);
    Ok(merged)
}

/// Takes from everybody what an object has lost by itself.
pub fn forget(old: &Value, new: &mut Value, now: Timestamp) {
    let manager = Manager { name: "", api_version: String::new(), subresource: "", now };
    record_update(Some(schema::any_object()), Some(old), new, &manager);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> Manager<'_> {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        Manager { name, api_version: "v1".into(), subresource: "", now }
    }

    fn config(data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    fn owners(object: &Value) -> Vec<(String, Value)> {
        let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let seen = list
            .into_iter()
            .map(|e| (e["manager"].as_str().unwrap().into(), e["fieldsV1"]["f:data"].clone()));
        seen.collect()
    }

    #[test]
    fn two_managers_share_conflict_and_give_up() {
        let schema = schema::of_kind("", "v1", "ConfigMap");
        let run = |live: Option<&Value>, data: Value, name: &str, force| {
            apply(schema, live, &config(&data), &manager(name), force)
        };
        let one = run(None, json!({"a": "1", "b": "2"}), "alice", false).unwrap();
        let two = run(Some(&one), json!({"b": "2", "c": "3"}), "bob", false).unwrap();
        assert_eq!(two["data"], json!({"a": "1", "b": "2", "c": "3"}));

        let refused = run(Some(&two), json!({"a": "9"}), "bob", false).unwrap_err();
        assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"alice\": .data.a");
        let forced = run(Some(&two), json!({"a": "9"}), "bob", true).unwrap();
        // bob no longer applies b, which alice still owns, nor c, which nobody does.
        assert_eq!(forced["data"], json!({"a": "9", "b": "2"}));
        let expected = [("alice".to_owned(), json!({"f:b": {}})), ("bob".to_owned(), json!({"f:a": {}}))];
        assert_eq!(owners(&forced), expected);

        let dropped = run(Some(&forced), json!({}), "alice", false).unwrap();
        assert_eq!(dropped["data"], json!({"a": "9"}));
    }

    #[test]
    fn an_update_takes_what_it_changes() {
        let schema = schema::of_kind("", "v1", "ConfigMap");
        let one =
            apply(schema, None, &config(&json!({"a": "1", "b": "2"})), &manager("alice"), false).unwrap();
        let mut two = one.clone();
        two["data"]["a"] = "9".into();
        record_update(schema, Some(&one), &mut two, &manager("curl"));
        let expected = [("alice".to_owned(), json!({"f:b": {}})), ("curl".to_owned(), json!({"f:a": {}}))];
        assert_eq!(owners(&two), expected);
        let again =
            apply(schema, Some(&two), &config(&json!({"a": "1", "b": "2"})), &manager("alice"), false);
        assert_eq!(
            again.unwrap_err().message,
            "Apply failed with 1 conflict: conflict with \"curl\" using v1: .data.a"
        );
    }
}
