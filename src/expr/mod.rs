//! CEL: compiled once with source spans, evaluated under limits, and `${{ }}` templates.
//!
//! Everything that users write as an expression goes through [`Expression`] (a bare field such as
//! `when`), [`Template`] (a string with `${{ }}` in it) or [`TemplateTree`] (any JSON value with
//! such strings). All are compiled against a [`Scope`], which says what variables there are, and
//! evaluated over [`Bindings`], which are made once for an event.
//!
//! This module is pure: no I/O, no clock, no randomness. The time that `now` means is part of the
//! bindings, and equal bindings give equal values and equal error texts.
//!
//! ```text
//! source ─▶ parse ─▶ check (names, arities, literals) ─▶ infer (types) ─▶ instrument (limits, clock) ─▶ Expression
//! JSON ─▶ Bindings ─▶ evaluate ─▶ JSON | bool | timestamp, or diagnose ─▶ EvalError with a span
//! ```

mod analysis;
mod ast;
mod bindings;
mod check;
mod clock;
mod compile;
mod convert;
mod diagnose;
mod errors;
mod evaluate;
mod functions;
mod instrument;
mod limits;
mod macros;
mod schema;
mod scope;
mod syntax;
mod template;
mod types;

pub use analysis::{Conjunct, LowerBound, magnitude};
pub use bindings::Bindings;
pub use clock::NextChange;
pub use compile::{At, Expression};
pub use errors::{EvalError, EvalErrorKind, ExprError, closest, position};
pub use limits::{MAX_CHAIN, MAX_DEPTH, MAX_PRODUCED, MAX_SOURCE, MAX_STEPS};
pub use schema::{ObjectType, Schemas, snapshot};
pub use scope::Scope;
pub use template::{Template, TemplateTree, TreeError, TreeEvalError};
pub use types::Type;

#[cfg(test)]
mod tests;
