//! Tables: the rows and columns that kubectl prints.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::jsonpath::JsonPath;
use super::media::partial;
use super::meta;
use super::registry::Resource;
use super::store::Object;
use super::table_cells;
use crate::sandbox::openapi;

/// What of each object goes with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

impl Include {
    /// Reads `includeObject`.
    pub fn parse(text: Option<&str>) -> ApiResult<Self> {
        match text {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::None),
            Some(other) => Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

static COLUMNS: LazyLock<BTreeMap<String, Vec<Value>>> = LazyLock::new(|| {
    serde_json::from_slice(&openapi::tables()).expect("the recorded printer columns are well-formed")
});

/// A table of objects, as they are shown.
pub fn render(
    resource: &Resource,
    objects: &[Object],
    (header, include): (bool, Include),
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": cells(resource, object, now)});
            match include {
                Include::Metadata => row["object"] = partial(object),
                Include::Object => row["object"] = (**object).clone(),
                Include::None => {}
            }
            row
        })
        .collect();
    let columns = if header { Value::Array(columns(resource)) } else { Value::Null };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows})
}

fn column(name: &str, kind: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority})
}

/// What all kinds say of their names, as the recorded ones do.
fn name_column() -> Value {
    let recorded = COLUMNS.values().flatten().find(|column| column["name"] == "Name");
    let description = recorded.and_then(|column| column["description"].as_str()).unwrap_or_default();
    column("Name", "string", "name", description, 0)
}

fn age_column() -> Value {
    column("Age", "string", "", "The time since the object was created.", 0)
}

fn columns(resource: &Resource) -> Vec<Value> {
    if let Some(custom) = &resource.custom {
        let mut columns = vec![name_column()];
        columns.extend(custom.columns.iter().map(|given| {
            let text = |field: &str| given[field].as_str().unwrap_or_default();
            let path =
                format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath"));
            let described = given["description"].as_str().unwrap_or(&path);
            column(
                text("name"),
                text("type"),
                text("format"),
                described,
                given["priority"].as_i64().unwrap_or(0),
            )
        }));
        if custom.columns.is_empty() {
            columns.push(age_column());
        }
        return columns;
    }
    let key = format!("{}.{}", resource.plural, resource.group);
    match COLUMNS.get(&key) {
        Some(columns) if table_cells::knows(&resource.storage) => columns.clone(),
        _ => vec![name_column(), age_column()],
    }
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = Value::from(meta::text(object, "name"));
    if let Some(custom) = &resource.custom {
        let mut cells = vec![name];
        cells.extend(custom.columns.iter().map(|column| custom_cell(column, object, now)));
        if custom.columns.is_empty() {
            cells.push(table_cells::age(&object["metadata"]["creationTimestamp"], now));
        }
        return cells;
    }
    match table_cells::cells(resource, object, now) {
        Some(cells) => cells,
        None => vec![name, table_cells::age(&object["metadata"]["creationTimestamp"], now)],
    }
}

fn custom_cell(column: &Value, object: &Value, now: Timestamp) -> Value {
    let path = column["jsonPath"].as_str().and_then(JsonPath::parse);
    let found = path.map(|path| path.find(object)).unwrap_or_default();
    let Some(first) = found.first() else { return Value::Null };
    match column["type"].as_str() {
        Some("date") => table_cells::age(first, now),
        Some("integer") => first.as_i64().map_or(Value::Null, Value::from),
        Some("number") => first.as_f64().map_or(Value::Null, Value::from),
        Some("boolean") => first.as_bool().map_or(Value::Null, Value::from),
        _ => {
            let texts: Vec<String> = found.iter().map(|value| plain(value)).collect();
            texts.join(",").into()
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
