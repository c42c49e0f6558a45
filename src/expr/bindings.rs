//! The values that an expression's variables have for one event. Made once for an event and shared
//! by every expression that is evaluated over it; what no expression reads is never converted.

use super::convert;
use cel::common::value::Val;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The clock as functions see it, which no loop variable can hide.
pub(super) const NOW: &str = "@now";

/// The variables of one evaluation. Cloning is cheap and shares the values, so that what belongs
/// to one rule alone can be added to what belongs to the event.
///
/// ```
/// let bindings = Bindings::at(now).with("object", pod).with("event", event);
/// ```
#[derive(Clone, Debug)]
pub struct Bindings {
    now: Timestamp,
    clock: Box<dyn Val>,
    values: BTreeMap<String, Arc<Bound>>,
}

/// One value, and its CEL form once an expression has asked for it.
#[derive(Debug)]
struct Bound {
    json: Arc<Value>,
    cel: OnceLock<Box<dyn Val>>,
}

impl Bindings {
    /// Nothing but the clock: `now` in expressions.
    pub fn at(now: Timestamp) -> Self {
        Self { now, clock: convert::from_timestamp(now), values: BTreeMap::new() }
    }

    /// The same bindings and one more variable, or another value for it.
    #[must_use]
    pub fn with(mut self, variable: &str, value: impl Into<Arc<Value>>) -> Self {
        let bound = Bound { json: value.into(), cel: OnceLock::new() };
        self.values.insert(variable.to_owned(), Arc::new(bound));
        self
    }

    /// The time that `now` is.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The value of a variable.
    pub fn get(&self, variable: &str) -> Option<&Value> {
        self.values.get(variable).map(|bound| &*bound.json)
    }

    /// The CEL value of a variable.
    pub(super) fn resolve(&self, variable: &str) -> Option<&dyn Val> {
        if variable == "now" || variable == NOW {
            return Some(self.clock.as_ref());
        }
        let bound = self.values.get(variable)?;
        Some(bound.cel.get_or_init(|| convert::to_cel(&bound.json)).as_ref())
    }
}
