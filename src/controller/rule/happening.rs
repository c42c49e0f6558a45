//! What has happened to objects and matches, as long as nobody knows where it leads.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::TriggerEvent;

/// What waits for its target, at the most.
const UNLED: usize = 100;

/// Something that has happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// The object, as it is or was, with all that leads to its target.
    pub object: Arc<Value>,
    /// What has happened.
    pub event: TriggerEvent,
}

/// What matches and whose target could not be found yet.
#[derive(Default)]
pub struct Unled(Vec<Happening>);

impl Unled {
    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the oldest of it happened.
    pub fn since(&self) -> Option<Timestamp> {
        self.0.iter().map(|happening| happening.event.time.0).min()
    }

    /// Keeps something; the oldest goes if there is too much, and is given back.
    pub fn keep(&mut self, happening: Happening) -> Option<Happening> {
        let is_full = self.0.len() >= UNLED;
        let oldest = is_full.then(|| self.0.remove(0));
        self.0.push(happening);
        oldest
    }

    /// Gives all of it back, to try again.
    pub fn take(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AnyValue;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use serde_json::json;

    #[test]
    fn whoever_keeps_one_too_many_hears_which_goes() {
        let happening = |number: usize| Happening {
            object: Arc::new(json!({"number": number})),
            event: TriggerEvent {
                id: number.to_string(),
                source: "v1/Pod".to_owned(),
                event_type: "Changed".to_owned(),
                time: MicroTime(Timestamp::UNIX_EPOCH),
                data: AnyValue::default(),
            },
        };
        let mut unled = Unled::default();
        let gone: Vec<_> = (0..=UNLED).filter_map(|number| unled.keep(happening(number))).collect();
        assert_eq!(gone, [happening(0)]);
        assert_eq!((unled.take().len(), unled.is_empty()), (UNLED, true));
    }
}
