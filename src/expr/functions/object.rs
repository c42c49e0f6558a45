//! Reading Kubernetes objects from inside a function: a view of a CEL value whose absent fields
//! are `None`, and the arguments and refusals that the predicates share.

use cel::ExecutionError;
use cel::common::types::{CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp};
use cel::common::value::{CowVal, Val};
use jiff::{SignedDuration, Timestamp};

/// One value of an object.
#[derive(Clone, Copy)]
pub(super) struct View<'a>(&'a (dyn Val + 'a));

impl<'a> View<'a> {
    /// A field of a map; none if it is absent or this is no map.
    pub(super) fn field(self, name: &str) -> Option<View<'a>> {
        let map = self.0.downcast_ref::<CelMap>()?;
        let key = CelMapKey::String(CelString::from(name.to_owned()));
        map.inner().get(&key).map(|value| View(value.as_ref()))
    }

    /// A field of a field of a field.
    pub(super) fn at(self, path: &[&str]) -> Option<View<'a>> {
        path.iter().try_fold(self, |view, name| view.field(name))
    }

    /// The elements of a list; none if this is no list.
    pub(super) fn items(self) -> impl Iterator<Item = View<'a>> {
        let list = self.0.downcast_ref::<CelList>();
        list.into_iter().flat_map(|list| list.inner().iter().map(|item| View(item.as_ref())))
    }

    pub(super) fn text(self) -> Option<&'a str> {
        self.0.downcast_ref::<CelString>().map(CelString::inner)
    }

    pub(super) fn int(self) -> Option<i64> {
        self.0.downcast_ref::<CelInt>().map(|int| *int.inner())
    }

    /// A time as Kubernetes writes it.
    pub(super) fn time(self) -> Option<Timestamp> {
        self.text()?.parse().ok()
    }

    /// An integer that Kubernetes leaves out when it is zero.
    pub(super) fn count(self, path: &[&str]) -> i64 {
        self.at(path).and_then(View::int).unwrap_or(0)
    }

    pub(super) fn kind(self) -> &'a str {
        self.field("kind").and_then(View::text).unwrap_or_default()
    }

    pub(super) fn is_being_deleted(self) -> bool {
        self.at(&["metadata", "deletionTimestamp"]).is_some()
    }
}

/// When a predicate's answer changes, as the function of it that tells this gives it.
pub(super) fn next<'b, 'v>(turns: Option<Timestamp>) -> CowVal<'b, 'v> {
    turns
        .map_or_else(|| CowVal::owned(CelNull), |at| CowVal::Owned(super::super::convert::from_timestamp(at)))
}

/// The arguments of a predicate, by position, with refusals that name the function.
pub(super) struct Arguments<'a, 'b, 'v> {
    function: &'static str,
    values: &'a [CowVal<'b, 'v>],
}

impl<'a, 'b, 'v> Arguments<'a, 'b, 'v> {
    pub(super) fn of(function: &'static str, values: &'a [CowVal<'b, 'v>]) -> Self {
        Self { function, values }
    }

    /// The Kubernetes object at a position.
    pub(super) fn object(&self, position: usize) -> Result<View<'_>, ExecutionError> {
        let value = self.value(position)?;
        match value.downcast_ref::<CelMap>() {
            Some(_) => Ok(View(value)),
            None => Err(self.wrong(position, "an object", value)),
        }
    }

    pub(super) fn int(&self, position: usize) -> Result<i64, ExecutionError> {
        let value = self.value(position)?;
        let int = value.downcast_ref::<CelInt>().map(|int| *int.inner());
        int.ok_or_else(|| self.wrong(position, "an int", value))
    }

    pub(super) fn text(&self, position: usize) -> Result<&str, ExecutionError> {
        let value = self.value(position)?;
        let text = value.downcast_ref::<CelString>().map(CelString::inner);
        text.ok_or_else(|| self.wrong(position, "a string", value))
    }

    pub(super) fn duration(&self, position: usize) -> Result<SignedDuration, ExecutionError> {
        let value = self.value(position)?;
        let duration = value.downcast_ref::<CelDuration>();
        let duration =
            duration.map(|d| SignedDuration::new(d.inner().num_seconds(), d.inner().subsec_nanos()));
        duration.ok_or_else(|| self.wrong(position, "a duration such as duration('10m')", value))
    }

    /// The clock, which `instrument` appends.
    pub(super) fn now(&self, position: usize) -> Result<Timestamp, ExecutionError> {
        let value = self.value(position)?;
        let now = value.downcast_ref::<CelTimestamp>().and_then(super::super::convert::to_timestamp);
        now.ok_or_else(|| self.wrong(position, "a timestamp", value))
    }

    /// The refusal of an object of a kind that the function cannot read.
    pub(super) fn wrong_kind(&self, wanted: &str, object: View<'_>) -> ExecutionError {
        let kind = match object.kind() {
            "" => "an object without a kind".to_owned(),
            kind => format!("a {kind}"),
        };
        ExecutionError::function_error(self.function, format!("takes {wanted}, not {kind}"))
    }

    fn value(&self, position: usize) -> Result<&(dyn Val + 'v), ExecutionError> {
        self.values.get(position).map(AsRef::as_ref).ok_or_else(ExecutionError::missing_argument_or_target)
    }

    fn wrong(&self, position: usize, wanted: &str, value: &dyn Val) -> ExecutionError {
        let got = super::super::convert::type_name(value.get_type().name());
        let message = format!("takes {wanted} as argument {}, not {got}", position + 1);
        ExecutionError::function_error(self.function, message)
    }
}
