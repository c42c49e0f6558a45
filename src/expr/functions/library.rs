//! Values of Kubernetes' CEL libraries that are no type of CEL itself: versions, addresses, networks,
//! URLs. Here is what they have in common; a quantity can do more and is its own.

use cel::ExecutionError;
use cel::common::types::{CelBool, CelInt, CelString, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use std::any::Any;
use std::fmt::{Debug, Display};

/// What a value of a library is read from and written as.
pub(super) trait Library: Clone + Debug + Display + Send + Sync + 'static {
    /// Its type.
    fn cel() -> &'static Type;
    /// Whether two are equal.
    fn same(&self, other: &Self) -> bool;
    /// Reads one, or says in a few words why not.
    fn read(text: &str) -> Result<Self, String>;
}

/// Such a value, as the library sees it.
#[derive(Clone, Debug)]
pub(super) struct Of<T>(pub(super) T);

impl<T: Library> Val for Of<T> {
    fn get_type(&self) -> &Type {
        T::cel()
    }

    fn cel_type() -> &'static Type {
        T::cel()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Of<T>>().is_some_and(|other| self.0.same(&other.0))
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<T: Library> StaticVal for Of<T> {}

pub(super) type Given<'b, 'v> = Vec<CowVal<'b, 'v>>;
pub(super) type Gives<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The value at a position; the overloads have checked the types.
pub(super) fn value<'a, T: Library>(
    args: &'a Given<'_, '_>,
    position: usize,
) -> Result<&'a T, ExecutionError> {
    let found = args.get(position).and_then(|arg| arg.downcast_ref::<Of<T>>());
    found.map(|found| &found.0).ok_or_else(ExecutionError::missing_argument_or_target)
}

/// The text at a position.
pub(super) fn text<'a>(args: &'a Given<'_, '_>, position: usize) -> Result<&'a str, ExecutionError> {
    let found = args.get(position).and_then(|arg| arg.downcast_ref::<CelString>());
    found.map(CelString::inner).ok_or_else(ExecutionError::missing_argument_or_target)
}

/// `semver("1.2.3")`: reads a value.
#[expect(clippy::needless_pass_by_value, reason = "the library hands the arguments over")]
pub(super) fn read<'b, 'v, T: Library>(args: Given<'b, 'v>) -> Gives<'b, 'v> {
    let text = text(&args, 0)?;
    match T::read(text) {
        Ok(read) => Ok(CowVal::owned(Of(read))),
        Err(reason) => Err(ExecutionError::function_error(T::cel().name(), format!("{text:?} {reason}"))),
    }
}

/// `isSemver("1.2.3")`: whether it can be read.
#[expect(clippy::needless_pass_by_value, reason = "the library hands the arguments over")]
pub(super) fn reads<'b, 'v, T: Library>(args: Given<'b, 'v>) -> Gives<'b, 'v> {
    Ok(truth(T::read(text(&args, 0)?).is_ok()))
}

/// `string(x)`.
#[expect(clippy::needless_pass_by_value, reason = "the library hands the arguments over")]
pub(super) fn written<'b, 'v, T: Library>(args: Given<'b, 'v>) -> Gives<'b, 'v> {
    Ok(string(value::<T>(&args, 0)?.to_string()))
}

pub(super) fn string<'b, 'v>(text: String) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

pub(super) fn truth<'b, 'v>(truth: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(truth))
}

pub(super) fn int<'b, 'v>(int: i64) -> CowVal<'b, 'v> {
    CowVal::owned(CelInt::from(int))
}
