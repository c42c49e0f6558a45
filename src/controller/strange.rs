//! What of fother's own objects only a later version understands: a field, or the object as a whole; and what is too large
//! to be kept. Nobody acts as if it were not there, and the object's condition says so.

use std::io::{self, Write};
use std::sync::Arc;

use kube::api::ApiResource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use super::queue::{Kind, Requeue};
use crate::api::{
    Action, Condition, ConditionStatus, ConditionType, EventBatch, Execution, Pack, Reason, Rule, Webhook,
    set_condition,
};
use crate::cluster::{Result, status};
use crate::decide::unknown;
use crate::source::watch::now;

/// The largest object that is kept, in bytes of JSON beside its status: an object can have 1.5 MiB, and all of them are held
/// at the same time. What was decided may have twice that: a hundred events can have led to it.
const LARGEST: usize = 256 * 1024;
/// The most that is kept of the conditions of what cannot be read.
const CONDITIONS: usize = 16 * 1024;

/// What is not understood.
#[derive(Clone, Debug)]
pub enum Strange {
    /// The first field of the spec that this version does not know.
    Field(String),
    /// The whole object, of which only its name and conditions are kept, and why.
    Unreadable(Arc<Value>, String),
}

/// Reads an object, and says what of it is not understood.
pub fn read<K: DeserializeOwned>(item: &Arc<Value>) -> (Option<K>, Option<Strange>) {
    if let Some(limit) = exceeded(item) {
        let error = format!("it has more than {} KiB beside its status", limit / 1024);
        return (None, Some(Strange::Unreadable(Arc::new(outline(item)), error)));
    }
    let mut fields = Vec::new();
    match unknown::read(item, |field| fields.push(field)) {
        Ok(object) => {
            let field = fields.into_iter().find(|field| field.starts_with("spec."));
            (Some(object), field.map(Strange::Field))
        }
        Err(error) => (None, Some(Strange::Unreadable(Arc::new(outline(item)), error.to_string()))),
    }
}

/// The limit that an object exceeds. Nobody but fother writes an `EventBatch` and what stands in a status, within bounds of
/// its own.
fn exceeded(item: &Value) -> Option<usize> {
    if item["kind"] == "EventBatch" {
        return None;
    }
    let limit = if item["spec"]["decision"].is_object() { 2 * LARGEST } else { LARGEST };
    let members = item.as_object()?.iter().filter(|(name, _)| *name != "status");
    let mut budget = Budget(limit);
    let is_within = members.map(|(_, value)| value).all(|value| budget.holds(value));
    (!is_within).then_some(limit)
}

/// Bytes that are left.
struct Budget(usize);

impl Budget {
    fn holds(&mut self, value: &Value) -> bool {
        serde_json::to_writer(self, value).is_ok()
    }
}

impl Write for Budget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is needed of an object to say of it that it cannot be read.
fn outline(item: &Value) -> Value {
    let metadata = &item["metadata"];
    let kept = ["namespace", "name", "resourceVersion", "generation"]
        .map(|name| (name.to_owned(), metadata[name].clone()));
    let mut outline = json!({"metadata": kept.into_iter().collect::<serde_json::Map<_, _>>()});
    if let Some(status) = item.get("status") {
        let conditions = status.get("conditions").filter(|told| Budget(CONDITIONS).holds(told));
        outline["status"] = conditions.map_or(json!({}), |told| json!({"conditions": told}));
    }
    outline
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
        Kind::Webhook => ApiResource::erase::<Webhook>(&()),
        Kind::EventBatch => ApiResource::erase::<EventBatch>(&()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(with: &str, decision: Option<&str>) -> Arc<Value> {
        let decision = decision.map(|note| json!({"note": note}));
        Arc::new(json!({"kind": "Execution",
            "metadata": {"name": "x", "namespace": "n", "resourceVersion": "5", "generation": 1, "labels": {"a": "b"}},
            "spec": {"serviceAccountName": "h", "with": {"a": with}, "decision": decision},
            "status": {"step": "x".repeat(2 * LARGEST), "conditions": [{"type": "Succeeded"}]}}))
    }

    #[test]
    fn of_what_is_too_large_only_the_name_and_conditions_are_kept() {
        let (large, small) = ("x".repeat(LARGEST), "x".repeat(LARGEST - 1024));
        assert_eq!(exceeded(&execution(&small, None)), None, "its status does not count");
        assert_eq!(exceeded(&execution(&large, Some("decided"))), None, "it was decided");
        assert_eq!(exceeded(&execution(&large, Some(&large))), Some(2 * LARGEST));
        let (read, strange) = read::<Execution>(&execution(&large, None));
        let Some(Strange::Unreadable(kept, why)) = strange else { panic!("it is {strange:?}") };
        assert!(read.is_none());
        assert_eq!(why, "it has more than 256 KiB beside its status");
        let metadata = json!({"name": "x", "namespace": "n", "resourceVersion": "5", "generation": 1});
        assert_eq!(*kept, json!({"metadata": metadata, "status": {"conditions": [{"type": "Succeeded"}]}}));
    }

    #[test]
    fn what_webhooks_received_is_bounded_where_it_is_written() {
        let batch = json!({"kind": "EventBatch", "spec": {"events": ["x".repeat(LARGEST)]}});
        assert_eq!(exceeded(&batch), None);
    }
}
