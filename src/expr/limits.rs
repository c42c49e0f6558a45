//! What keeps an evaluation small: the limits, and the meter that counts against them while the
//! library evaluates. The library itself has no limits: `instrument` rewrites every expression so
//! that its loops and everything that builds values pass through the functions below.

use cel::common::ast::operators;
use cel::common::types::{CelBool, CelBytes, CelInt, CelList, CelMap, CelMapKey, CelString, DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest source of one expression, in bytes. Long `||` chains are not bounded by depth, only by this.
pub const MAX_SOURCE: usize = 4096;

/// How deep brackets, calls and loops may nest. An unoptimised evaluator overflows a 2 MiB stack
/// somewhere above a hundred.
pub const MAX_DEPTH: u16 = 32;

/// How many operators, fields and calls may follow one another in a chain: `a + b + c`, `a.b.c`.
/// The parser does not count chains as nesting, but the evaluator recurses into them as well.
pub const MAX_CHAIN: usize = 160;

/// How many steps an evaluation may take: one for each turn of a loop, and one for each 256 bytes
/// or 16 elements that a function reads.
pub const MAX_STEPS: u64 = 10_000;

/// How many bytes of new strings, lists and maps an evaluation may build.
pub const MAX_PRODUCED: u64 = 1 << 20;

/// The variable that holds the meter. Like all names with `@` it cannot be written in a source.
pub(super) const METER: &str = "@meter";
/// `@tick(@meter)`: one more turn of a loop; true.
pub(super) const TICK: &str = "@tick";
/// `@charge(@meter, x)`: x, after counting its size as produced.
pub(super) const CHARGE: &str = "@charge";
/// `@element(@meter, x)`: x, after counting its size and one more turn of a loop.
pub(super) const ELEMENT: &str = "@element";
/// `@work(@meter, x)`: x, after counting the steps of reading it.
pub(super) const WORK: &str = "@work";
/// `@times(@meter, n)`: the number n, after counting n steps.
pub(super) const TIMES: &str = "@times";
/// `@pattern(@meter, p)`: the pattern p, after counting the steps of compiling it during an evaluation.
pub(super) const PATTERN: &str = "@pattern";
/// `@range(@meter, x)`: x to loop over, the keys of a map in order so that every run is the same.
pub(super) const RANGE: &str = "@range";
/// `@pairs(@meter, x)`: the positions or keys of x, each with its value, in order.
pub(super) const PAIRS: &str = "@pairs";

const STEPS_MESSAGE: &str = "evaluation exceeded 10,000 steps";
const PRODUCED_MESSAGE: &str = "evaluation built more than 1 MiB of values";
/// The function name of errors that are limits, by which they are told from other failures.
pub(super) const LIMIT: &str = "@limit";

/// The steps of compiling a pattern that is not known before: the largest that is allowed takes about
/// a millisecond.
const PATTERN_STEPS: u64 = 100;

/// A loop copies every element that it takes up: this many bytes count as a step.
const COPIED_PER_STEP: u64 = 1024;

/// Overhead of one value, so that a million empty strings are not free.
const VALUE_BYTES: u64 = 16;

/// Counts the steps and bytes of one evaluation. It is bound as a variable because the library's
/// functions cannot hold state.
#[derive(Debug, Default)]
pub(super) struct Meter {
    steps: AtomicU64,
    produced: AtomicU64,
}

impl Meter {
    /// Counts steps about to be taken.
    pub(super) fn step(&self, count: u64) -> Result<(), ExecutionError> {
        let before = self.steps.fetch_add(count, Relaxed);
        if before.saturating_add(count) > MAX_STEPS { Err(limit(STEPS_MESSAGE)) } else { Ok(()) }
    }

    /// Counts bytes about to be built.
    pub(super) fn produce(&self, bytes: u64) -> Result<(), ExecutionError> {
        let before = self.produced.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > MAX_PRODUCED { Err(limit(PRODUCED_MESSAGE)) } else { Ok(()) }
    }

    /// The steps that were taken.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// The limit that was exceeded. CEL's `||` and `&&` absorb errors, so this is asked at the end.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        if self.steps.load(Relaxed) > MAX_STEPS {
            Some(STEPS_MESSAGE)
        } else if self.produced.load(Relaxed) > MAX_PRODUCED {
            Some(PRODUCED_MESSAGE)
        } else {
            None
        }
    }
}

fn limit(message: &str) -> ExecutionError {
    ExecutionError::function_error(LIMIT, message)
}

static METER_TYPE: Type = Type::new_unspecified_type(METER);

impl Val for Meter {
    fn get_type(&self) -> &Type {
        &METER_TYPE
    }

    fn cel_type() -> &'static Type {
        &METER_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        let (steps, produced) = (self.steps.load(Relaxed), self.produced.load(Relaxed));
        Box::new(Meter { steps: steps.into(), produced: produced.into() })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Meter {}

/// The meter in a function's first argument, and the arguments after it.
pub(super) fn metered<'a, 'b, 'v>(
    args: &'a [CowVal<'b, 'v>],
) -> Result<(&'a Meter, &'a [CowVal<'b, 'v>]), ExecutionError> {
    let (first, rest) = args.split_first().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let meter = first.downcast_ref::<Meter>().ok_or_else(ExecutionError::missing_argument_or_target)?;
    Ok((meter, rest))
}

/// Declares the functions that count.
pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(TICK, TICK, vec![DYN_TYPE], |args| {
        metered(&args)?.0.step(1)?;
        Ok(CowVal::owned(CelBool::from(true)))
    })?;
    env.add_overload(CHARGE, CHARGE, vec![DYN_TYPE, DYN_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        meter.produce(weights(rest))?;
        last(args)
    })?;
    env.add_overload(ELEMENT, ELEMENT, vec![DYN_TYPE, DYN_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        meter.step(1)?;
        meter.produce(weights(rest))?;
        last(args)
    })?;
    env.add_overload(WORK, WORK, vec![DYN_TYPE, DYN_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        meter.step(rest.iter().map(|value| reading(value.as_ref())).sum())?;
        last(args)
    })?;
    env.add_overload(TIMES, TIMES, vec![DYN_TYPE, DYN_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        let count = rest.first().and_then(|n| n.downcast_ref::<CelInt>()).map_or(0, |n| *n.inner());
        meter.step(u64::try_from(count).unwrap_or(0))?;
        last(args)
    })?;
    env.add_overload(PATTERN, PATTERN, vec![DYN_TYPE, DYN_TYPE], |args| {
        metered(&args)?.0.step(PATTERN_STEPS)?;
        last(args)
    })?;
    env.add_overload(RANGE, RANGE, vec![DYN_TYPE, DYN_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        let list = rest.first().filter(|value| value.downcast_ref::<CelList>().is_some());
        meter.step(list.map_or(0, |list| weight(list.as_ref()) / COPIED_PER_STEP))?;
        let value = last(args)?;
        Ok(match value.downcast_ref::<CelMap>() {
            Some(map) => CowVal::owned(CelList::from(sorted_keys(map))),
            None => value,
        })
    })?;
    env.add_overload(PAIRS, PAIRS, vec![DYN_TYPE, DYN_TYPE], |args| {
        let (meter, rest) = metered(&args)?;
        meter.produce(weights(rest))?;
        let value = last(args)?;
        Ok(pairs(value.as_ref()).map_or(value, |pairs| CowVal::owned(CelList::from(pairs))))
    })
}

/// The pairs of a list or map; none of anything else, over which a loop is an error.
fn pairs<'v>(value: &(dyn Val + 'v)) -> Option<Vec<Box<dyn Val + 'v>>> {
    let pair = |key: Box<dyn Val + 'v>, value: &(dyn Val + 'v)| -> Box<dyn Val + 'v> {
        Box::new(CelList::from(vec![key, value.clone_as_boxed()]))
    };
    if let Some(list) = value.downcast_ref::<CelList>() {
        let items = (0_i64..).zip(list.inner());
        return Some(items.map(|(at, item)| pair(Box::new(CelInt::from(at)), item.as_ref())).collect());
    }
    let map = value.downcast_ref::<CelMap>()?;
    let mut entries: Vec<_> = map.inner().iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    Some(entries.into_iter().map(|(key, value)| pair(key_value(key), value.as_ref())).collect())
}

fn last<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    args.pop().ok_or_else(ExecutionError::missing_argument_or_target)
}

fn sorted_keys<'v>(map: &CelMap<'v>) -> Vec<Box<dyn Val + 'v>> {
    let mut keys: Vec<&CelMapKey<'v>> = map.keys().collect();
    keys.sort();
    keys.into_iter().map(key_value).collect()
}

fn key_value<'v>(key: &CelMapKey<'v>) -> Box<dyn Val + 'v> {
    match key {
        CelMapKey::Bool(key) => key.clone_as_boxed(),
        CelMapKey::Int(key) => key.clone_as_boxed(),
        CelMapKey::UInt(key) => key.clone_as_boxed(),
        CelMapKey::String(key) => key.clone_as_boxed(),
    }
}

fn weights(values: &[CowVal<'_, '_>]) -> u64 {
    values.iter().map(|value| weight(value.as_ref())).sum()
}

/// The bytes that a value takes, roughly. Nesting is bounded by the depth of what is read.
fn weight(value: &dyn Val) -> u64 {
    let content = if let Some(text) = value.downcast_ref::<CelString>() {
        text.inner().len() as u64
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        bytes.inner().len() as u64
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().map(|item| weight(item.as_ref())).sum()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().iter().map(|(key, item)| key_weight(key) + weight(item.as_ref())).sum()
    } else {
        0
    };
    content + VALUE_BYTES
}

fn key_weight(key: &CelMapKey<'_>) -> u64 {
    match key {
        CelMapKey::String(key) => key.inner().len() as u64,
        _ => 0,
    }
}

/// The steps of reading a value once, not looking inside its elements.
fn reading(value: &dyn Val) -> u64 {
    if let Some(text) = value.downcast_ref::<CelString>() {
        text.inner().len() as u64 / 256
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().len() as u64 / 16
    } else {
        0
    }
}

/// Whether a function name is an operator, which the library evaluates itself.
pub(super) fn is_operator(name: &str) -> bool {
    matches!(
        name,
        operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NEGATE
            | operators::NOT_STRICTLY_FALSE
    ) || is_binary(name)
}

/// Whether a function name is an operator that evaluates both of its operands.
pub(super) fn is_binary(name: &str) -> bool {
    matches!(
        name,
        operators::SUBSTRACT
            | operators::ADD
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::EQUALS
            | operators::NOT_EQUALS
            | operators::GREATER_EQUALS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::LESS
            | operators::INDEX
            | operators::OPT_INDEX
            | operators::OPT_SELECT
            | operators::IN
    )
}
