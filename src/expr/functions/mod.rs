//! The functions that expressions may call: CEL's own with its strings, lists and math extensions,
//! and ours. The table of signatures is what `check` holds calls against, because the library
//! compiles a call to anything.

mod collections;
mod condition;
mod object;
mod pods;
mod quantity;
mod regex;
mod rollout;
mod text;

pub(super) use quantity::Quantity;
pub(super) use regex::{PATTERNS, Patterns, compile as compile_pattern};

use super::limits;
use cel::common::ast::{CallExpr, Expr};
use cel::{DeclarationError, Env, extensions};
use std::sync::{Arc, LazyLock};

/// The environment that every expression is parsed and evaluated in.
pub(super) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> =
        LazyLock::new(|| Arc::new(build().expect("every function is declared once")));
    &ENVIRONMENT
}

fn build() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    env.add_extension(extensions::math)?;
    env.add_extension(extensions::encoders)?;
    limits::register(&mut env)?;
    text::register(&mut env)?;
    regex::register(&mut env)?;
    collections::register(&mut env)?;
    quantity::register(&mut env)?;
    pods::register(&mut env)?;
    rollout::register(&mut env)?;
    condition::register(&mut env)?;
    Ok(env)
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `name(x)`.
    Global,
    /// `x.name()`.
    Member,
    /// Either way.
    Both,
}

/// What has to be done around a call so that it stays within the limits and gets what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads its arguments, builds nothing larger than they are.
    Reads,
    /// Builds a value that may be larger than its arguments.
    Builds,
    /// Is called under another name with the meter as its first argument, because it has to count
    /// before it builds.
    Metered(&'static str),
    /// Is called under another name with the compiled patterns as its first argument.
    Pattern(&'static str),
    /// Takes a number of turns.
    Counts,
    /// One of ours that reads an object's known fields, and no clock.
    Object,
    /// One of ours that reads an object's known fields and gets `now` as its last argument.
    Clock,
    /// A macro: the parser has replaced every well-formed call to it.
    Macro,
}

/// What a call to a function looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) style: Style,
    /// The least and the greatest number of arguments, without the `x` of `x.name()`.
    pub(super) arguments: (usize, usize),
    pub(super) kind: Kind,
}

/// The signature of a function; the two-part names are those in a namespace, such as `math.abs`.
pub(super) fn signature(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.iter().map(|signature| signature.name)
}

/// Whether `name` is the first part of some function's name, so that `name.f()` is no field access.
pub(super) fn is_namespace(name: &str) -> bool {
    SIGNATURES.iter().any(|signature| signature.name.split_once('.').is_some_and(|(space, _)| space == name))
}

const fn function(name: &'static str, style: Style, arguments: (usize, usize), kind: Kind) -> Signature {
    Signature { name, style, arguments, kind }
}

use Kind::{Builds, Clock, Counts, Macro, Metered, Object, Pattern, Reads};
use Style::{Both, Global, Member};

static SIGNATURES: &[Signature] = &[
    // Conversions and types.
    function("bool", Global, (1, 1), Reads),
    function("bytes", Global, (1, 1), Builds),
    function("double", Global, (1, 1), Reads),
    function("duration", Global, (1, 1), Reads),
    function("dyn", Global, (1, 1), Reads),
    function("int", Global, (1, 1), Reads),
    function("string", Global, (1, 1), Builds),
    function("timestamp", Global, (1, 1), Reads),
    function("type", Global, (1, 1), Reads),
    function("uint", Global, (1, 1), Reads),
    // Macros.
    function("has", Global, (1, 1), Macro),
    function("all", Member, (2, 2), Macro),
    function("exists", Member, (2, 2), Macro),
    function("exists_one", Member, (2, 2), Macro),
    function("existsOne", Member, (2, 2), Macro),
    function("filter", Member, (2, 2), Macro),
    function("map", Member, (2, 3), Macro),
    function("sortBy", Member, (2, 2), Macro),
    function("optMap", Member, (2, 2), Macro),
    function("optFlatMap", Member, (2, 2), Macro),
    function("math.greatest", Global, (1, usize::MAX), Macro),
    function("math.least", Global, (1, usize::MAX), Macro),
    // Optional values.
    function("optional.none", Global, (0, 0), Reads),
    function("optional.of", Global, (1, 1), Reads),
    function("optional.ofNonZeroValue", Global, (1, 1), Reads),
    function("hasValue", Member, (0, 0), Reads),
    function("or", Member, (1, 1), Reads),
    function("orValue", Member, (1, 1), Reads),
    function("value", Member, (0, 0), Reads),
    // Strings.
    function("size", Both, (0, 0), Reads),
    function("charAt", Member, (1, 1), Reads),
    function("contains", Member, (1, 1), Reads),
    function("endsWith", Member, (1, 1), Reads),
    function("format", Member, (1, 1), Builds),
    function("indexOf", Member, (1, 2), Metered("@indexOf")),
    function("join", Member, (0, 1), Metered("@join")),
    function("lastIndexOf", Member, (1, 2), Metered("@lastIndexOf")),
    function("lowerAscii", Member, (0, 0), Reads),
    function("replace", Member, (2, 3), Metered("@replace")),
    function("reverse", Member, (0, 0), Reads),
    function("split", Member, (1, 2), Builds),
    function("startsWith", Member, (1, 1), Reads),
    function("strings.quote", Global, (1, 1), Builds),
    function("substring", Member, (1, 2), Reads),
    function("trim", Member, (0, 0), Reads),
    function("upperAscii", Member, (0, 0), Reads),
    function("base64.decode", Global, (1, 1), Builds),
    function("base64.encode", Global, (1, 1), Builds),
    function("matches", Both, (1, 1), Pattern("@matches")),
    function("find", Member, (1, 1), Pattern("@find")),
    function("findAll", Member, (1, 2), Pattern("@findAll")),
    // Lists and sets.
    function("distinct", Member, (0, 0), Metered("@distinct")),
    function("flatten", Member, (0, 1), Builds),
    function("slice", Member, (2, 2), Builds),
    function("sort", Member, (0, 0), Reads),
    function("lists.range", Global, (1, 1), Counts),
    function("sets.contains", Global, (2, 2), Metered("sets.@contains")),
    function("sets.equivalent", Global, (2, 2), Metered("sets.@equivalent")),
    function("sets.intersects", Global, (2, 2), Metered("sets.@intersects")),
    // Numbers.
    function("math.abs", Global, (1, 1), Reads),
    function("math.bitAnd", Global, (2, 2), Reads),
    function("math.bitNot", Global, (1, 1), Reads),
    function("math.bitOr", Global, (2, 2), Reads),
    function("math.bitShiftLeft", Global, (2, 2), Reads),
    function("math.bitShiftRight", Global, (2, 2), Reads),
    function("math.bitXor", Global, (2, 2), Reads),
    function("math.ceil", Global, (1, 1), Reads),
    function("math.floor", Global, (1, 1), Reads),
    function("math.isFinite", Global, (1, 1), Reads),
    function("math.isInf", Global, (1, 1), Reads),
    function("math.isNaN", Global, (1, 1), Reads),
    function("math.round", Global, (1, 1), Reads),
    function("math.sign", Global, (1, 1), Reads),
    function("math.sqrt", Global, (1, 1), Reads),
    function("math.trunc", Global, (1, 1), Reads),
    // Times and durations.
    function("getDate", Member, (0, 1), Reads),
    function("getDayOfMonth", Member, (0, 1), Reads),
    function("getDayOfWeek", Member, (0, 1), Reads),
    function("getDayOfYear", Member, (0, 1), Reads),
    function("getFullYear", Member, (0, 1), Reads),
    function("getHours", Member, (0, 1), Reads),
    function("getMilliseconds", Member, (0, 1), Reads),
    function("getMinutes", Member, (0, 1), Reads),
    function("getMonth", Member, (0, 1), Reads),
    function("getSeconds", Member, (0, 1), Reads),
    // Kubernetes quantities.
    function("quantity", Global, (1, 1), Reads),
    function("isQuantity", Global, (1, 1), Reads),
    function("add", Member, (1, 1), Reads),
    function("asApproximateFloat", Member, (0, 0), Reads),
    function("asInteger", Member, (0, 0), Reads),
    function("compareTo", Member, (1, 1), Reads),
    function("isGreaterThan", Member, (1, 1), Reads),
    function("isInteger", Member, (0, 0), Reads),
    function("isLessThan", Member, (1, 1), Reads),
    function("sign", Member, (0, 0), Reads),
    function("sub", Member, (1, 1), Reads),
    // Predicates over Kubernetes objects.
    function("condition", Global, (2, 2), Object),
    function("crashLooping", Global, (3, 3), Clock),
    function("oomKilled", Global, (1, 1), Object),
    function("rolloutComplete", Global, (1, 1), Object),
    function("rolledOutWithin", Global, (2, 2), Clock),
];

/// The namespace that a call names, if its target is one: `math` in `math.abs(x)`.
pub(super) fn namespace(call: &CallExpr) -> Option<&str> {
    match &call.target.as_ref()?.expr {
        Expr::Ident(name) if is_namespace(name) => Some(name),
        _ => None,
    }
}

/// The signature that a call is of, and whether its target is a namespace rather than a value.
pub(super) fn called(call: &CallExpr) -> Option<(&'static Signature, bool)> {
    match namespace(call) {
        Some(space) => signature(&format!("{space}.{}", call.func_name)).map(|signature| (signature, true)),
        None => signature(&call.func_name).map(|signature| (signature, false)),
    }
}
