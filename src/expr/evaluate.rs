//! Evaluating a compiled expression over the values of one event, within its limits.

use super::analysis::Reads;
use super::bindings::{Bindings, NOW};
use super::compile::{Expression, Program};
use super::convert::{self, type_name};
use super::diagnose;
use super::errors::{EvalError, EvalErrorKind};
use super::functions::{self, PATTERNS, Patterns};
use super::limits::{METER, Meter};
use cel::common::types::{CelBool, CelDuration, CelString, CelTimestamp};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Value as CelValue};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

impl Expression {
    /// The value as JSON: times as Kubernetes writes them, durations as `90s`, quantities in their
    /// canonical form, an absent optional as null.
    pub fn evaluate(&self, bindings: &Bindings) -> Result<Value, EvalError> {
        self.resolve(bindings, |value| {
            convert::to_json(value).ok_or_else(|| self.wrong_type(value, "a value that JSON can hold"))
        })
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// A value that is not a boolean is an error, and so is a field that is absent: a caller treats
    /// both as "does not match, because …".
    pub fn matches(&self, bindings: &Bindings) -> Result<bool, EvalError> {
        self.matches_counted(bindings).0
    }

    /// The same, and the steps that it took to say so.
    pub fn matches_counted(&self, bindings: &Bindings) -> (Result<bool, EvalError>, u64) {
        self.resolve_counted(bindings, |value| {
            let truth = value.downcast_ref::<CelBool>().map(|truth| *truth.inner());
            truth.ok_or_else(|| self.wrong_type(value, "a bool"))
        })
    }

    /// The moment that it names: a timestamp, or a string that is one, as in a status.
    pub fn evaluate_timestamp(&self, bindings: &Bindings) -> Result<Timestamp, EvalError> {
        self.resolve(bindings, |value| {
            let moment = match value.downcast_ref::<CelString>() {
                Some(text) => text.inner().parse().ok(),
                None => value.downcast_ref::<CelTimestamp>().and_then(convert::to_timestamp),
            };
            moment.ok_or_else(|| self.wrong_type(value, "a timestamp"))
        })
    }

    /// The length of time that it is.
    pub fn evaluate_duration(&self, bindings: &Bindings) -> Result<SignedDuration, EvalError> {
        self.resolve(bindings, |value| {
            let duration = value.downcast_ref::<CelDuration>().map(convert::to_duration);
            duration.ok_or_else(|| self.wrong_type(value, "a duration"))
        })
    }

    fn resolve<T>(
        &self,
        bindings: &Bindings,
        take: impl FnOnce(&dyn Val) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        self.resolve_counted(bindings, take).0
    }

    fn resolve_counted<T>(
        &self,
        bindings: &Bindings,
        take: impl FnOnce(&dyn Val) -> Result<T, EvalError>,
    ) -> (Result<T, EvalError>, u64) {
        let program = &*self.program;
        let frame = Frame::new(program, bindings);
        let context = frame.context();
        let resolved = CelValue::resolve_val(&program.root, &context);
        let steps = frame.meter.steps();
        if let Some(exceeded) = frame.meter.exceeded() {
            let (kind, span) = (EvalErrorKind::Limit, 0..self.source().len());
            return (Err(EvalError { kind, message: exceeded.to_owned(), span }), steps);
        }
        let found = match resolved {
            Ok(value) => take(value.as_ref()),
            Err(_) => Err(diagnose::diagnose(program, bindings)),
        };
        (found, steps)
    }

    fn wrong_type(&self, value: &dyn Val, wanted: &str) -> EvalError {
        let what = super::ast::quote(&self.program.info, &self.program.root);
        let got = type_name(value.get_type().name());
        let shown = convert::to_json(value).filter(|json| !json.is_array() && !json.is_object());
        let shown = shown.map(|json| format!(" ({json})")).filter(|text| text.len() < 40).unwrap_or_default();
        let message = format!("{what} is {got}{shown}, not {wanted}");
        EvalError { kind: EvalErrorKind::Type, message, span: 0..self.source().len() }
    }
}

/// What the variables of one evaluation resolve to.
pub(super) struct Frame<'a> {
    bindings: &'a Bindings,
    patterns: &'a Patterns,
    meter: Meter,
    /// The values of the variables that it reads, once they are asked for.
    values: Vec<Read<'a>>,
}

/// A variable, what is read of it, and its converted value.
type Read<'a> = (&'a str, &'a Reads, OnceLock<Box<dyn Val + 'a>>);

impl<'a> Frame<'a> {
    pub(super) fn new(program: &'a Program, bindings: &'a Bindings) -> Self {
        let values = program.reads.iter().map(|(name, reads)| (name.as_str(), reads, OnceLock::new()));
        Self { bindings, patterns: &program.patterns, meter: Meter::default(), values: values.collect() }
    }

    pub(super) fn context(&self) -> Context<'_, '_> {
        let mut context = Context::with_env(Arc::clone(functions::environment()));
        context.set_variable_resolver(self);
        context
    }
}

impl VariableResolver for Frame<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let value: &'b dyn Val = match variable {
            METER => &self.meter,
            PATTERNS => self.patterns,
            NOW | "now" => self.bindings.clock(),
            _ if variable.contains('.') => return self.scalar(variable),
            _ => {
                let (name, reads, value) = self.values.iter().find(|(name, ..)| *name == variable)?;
                let json = self.bindings.get(name)?;
                value.get_or_init(|| convert::read(json, reads)).as_ref()
            }
        };
        Some(CowVal::Borrowed(value))
    }
}

impl Frame<'_> {
    /// The value of a field by its whole name, `object.status.phase`, for which the library asks first:
    /// if it is no list and no map, nothing around it needs to be converted.
    fn scalar<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let mut fields = name.split('.');
        let mut value = self.bindings.get(fields.next()?)?;
        for field in fields {
            value = value.as_object()?.get(field)?;
        }
        let is_scalar = !value.is_object() && !value.is_array();
        is_scalar.then(|| CowVal::Owned(convert::to_cel(value)))
    }
}
