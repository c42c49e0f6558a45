//! The values that an expression's variables have for one event. Made once for an event and shared
//! by every expression that is evaluated over it; each converts only the fields that it names.

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
    pub(super) now: Timestamp,
    /// The same as a CEL value, once it is asked for.
    clock: OnceLock<Box<dyn Val>>,
    values: BTreeMap<String, Arc<Value>>,
}

impl Bindings {
    /// Nothing but the clock: `now` in expressions.
    pub fn at(now: Timestamp) -> Self {
        Self { now, clock: OnceLock::new(), values: BTreeMap::new() }
    }

    /// The same bindings and one more variable, or another value for it.
    #[must_use]
    pub fn with(mut self, variable: &str, value: impl Into<Arc<Value>>) -> Self {
        self.values.insert(variable.to_owned(), value.into());
        self
    }

    /// The same values at another time.
    pub(super) fn moved_to(&self, now: Timestamp) -> Self {
        Self { values: self.values.clone(), ..Self::at(now) }
    }

    /// The time that `now` is.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The value of a variable.
    pub fn get(&self, variable: &str) -> Option<&Value> {
        self.values.get(variable).map(AsRef::as_ref)
    }

    /// The clock as a CEL value.
    pub(super) fn clock(&self) -> &dyn Val {
        self.clock.get_or_init(|| convert::from_timestamp(self.now)).as_ref()
    }
}
