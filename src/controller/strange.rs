//! What of fother's own objects only a later version understands: a field, or the object as a whole. Nobody acts as if it
//! were not there, and the object's condition says so.

use std::sync::Arc;

use kube::api::ApiResource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::Context;
use super::queue::{Kind, Requeue};
use crate::api::{
    Action, Condition, ConditionStatus, ConditionType, Execution, Pack, Reason, Rule, set_condition,
};
use crate::cluster::{Result, status};
use crate::decide::unknown;
use crate::source::watch::now;

/// What is not understood.
#[derive(Clone, Debug)]
pub enum Strange {
    /// The first field of the spec that this version does not know.
    Field(String),
    /// The whole object, and why.
    Unreadable(Arc<Value>, String),
}

/// Reads an object, and says what of it is not understood.
pub fn read<K: DeserializeOwned>(item: &Arc<Value>) -> (Option<K>, Option<Strange>) {
    let mut fields = Vec::new();
    match unknown::read(item, |field| fields.push(field)) {
        Ok(object) => {
            let field = fields.into_iter().find(|field| field.starts_with("spec."));
            (Some(object), field.map(Strange::Field))
        }
        Err(error) => (None, Some(Strange::Unreadable(item.clone(), error.to_string()))),
    }
}

/// What is to be said of a field or value that only a later version of fother knows.
pub fn not_known(field: &str) -> String {
    format!("{field} is not known to this version of fother; upgrade the controller, or take it out")
}

/// Says of an object that it cannot be read. It blocks only itself.
pub async fn say(context: &Context, kind: Kind, object: &Value, error: &str) -> Result<Requeue> {
    let resource = match kind {
        Kind::Pack => ApiResource::erase::<Pack>(&()),
        Kind::Rule => ApiResource::erase::<Rule>(&()),
        Kind::Action => ApiResource::erase::<Action>(&()),
        Kind::Execution => ApiResource::erase::<Execution>(&()),
    };
    let (condition, state) = match kind {
        Kind::Execution => (ConditionType::Succeeded, ConditionStatus::Unknown),
        _ => (ConditionType::Ready, ConditionStatus::False),
    };
    let told = object.pointer("/status/conditions").cloned().unwrap_or_default();
    let before: Vec<Condition> = serde_json::from_value(told).unwrap_or_default();
    let mut fresh = before.clone();
    let message = format!("cannot be read by this version of fother, and is left alone: {error}");
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    set_condition(&mut fresh, (condition, state, Reason::UnsupportedValue), message, generation, now());
    if fresh != before {
        status::write_conditions(&context.home, &resource, object, &fresh).await?;
    }
    Ok(Requeue::OnChange)
}
