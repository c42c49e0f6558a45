//! The table of all functions: how each is called, with what types, and what has to be done around
//! a call so that it stays within the limits. `check` and `types` hold calls against it, because the
//! library compiles a call to anything.
//!
//! A declaration is written `(string, int) -> bool` for `f(x, n)` and `string.(int) -> bool` for
//! `x.f(n)`; the types are those of [`super::super::types`]. A capital letter stands for any type,
//! the same one throughout a declaration.

use super::super::types::{Declaration, Type};
use cel::common::ast::{CallExpr, Expr};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Style {
    /// `name(x)`.
    Global,
    /// `x.name()`.
    Member,
    /// Either way.
    Both,
}

/// What has to be done around a call so that it stays within the limits and gets what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
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
    /// One of ours that reads these fields of an object, and no clock.
    Object(&'static [&'static str]),
    /// One of ours that reads these fields of an object and gets `now` as its last argument.
    Clock(&'static [&'static str]),
    /// A macro: the parser has replaced every well-formed call to it.
    Macro,
}

/// What a call to a function looks like.
#[derive(Clone, Debug)]
pub(in super::super) struct Signature {
    pub(in super::super) name: &'static str,
    pub(in super::super) style: Style,
    /// The least and the greatest number of arguments, without the `x` of `x.name()`.
    pub(in super::super) arguments: (usize, usize),
    pub(in super::super) kind: Kind,
    /// What it takes and gives. Those of a macro only say how it is written.
    pub(in super::super) declarations: Vec<Declaration>,
}

impl Signature {
    fn of(name: &'static str, kind: Kind, declared: &[&str]) -> Self {
        let declarations: Vec<Declaration> = declared
            .iter()
            .map(|text| Declaration::parse(text).expect("a test reads the whole table"))
            .collect();
        let members = declarations.iter().filter(|declaration| declaration.target.is_some()).count();
        let style = match members {
            0 => Style::Global,
            some if some == declarations.len() => Style::Member,
            _ => Style::Both,
        };
        let counted = |declaration: &&Declaration| style != Style::Both || declaration.target.is_some();
        let counts = || declarations.iter().filter(counted).map(|declaration| declaration.arguments.len());
        let most = if declared.iter().any(|text| text.contains("...")) {
            usize::MAX
        } else {
            counts().max().unwrap_or(0)
        };
        Self { name, style, arguments: (counts().min().unwrap_or(0), most), kind, declarations }
    }
}

/// The signature of a function; the two-part names are those in a namespace, such as `math.abs`.
pub(in super::super) fn signature(name: &str) -> Option<&'static Signature> {
    SIGNATURES.get(name)
}

/// The names of all functions.
pub(in super::super) fn names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.keys().copied()
}

/// Whether `name` is the first part of some function's name, so that `name.f()` is no field access.
fn is_namespace(name: &str) -> bool {
    SIGNATURES.keys().any(|known| known.split_once('.').is_some_and(|(space, _)| space == name))
}

/// The namespace that a call names, if its target is one: `math` in `math.abs(x)`. A variable of
/// that name (`ip` is one that people choose) is none, unless the whole is a function's name.
pub(in super::super) fn namespace(call: &CallExpr, is_variable: impl Fn(&str) -> bool) -> Option<&str> {
    match &call.target.as_ref()?.expr {
        Expr::Ident(name) if is_namespace(name) => {
            let known = signature(&format!("{name}.{}", call.func_name)).is_some();
            (known || !is_variable(name)).then_some(name)
        }
        _ => None,
    }
}

/// The signature that a call is of, and whether its target is a namespace rather than a value.
pub(in super::super) fn called(call: &CallExpr) -> Option<(&'static Signature, bool)> {
    match namespace(call, |_| true) {
        Some(space) => signature(&format!("{space}.{}", call.func_name)).map(|signature| (signature, true)),
        None => signature(&call.func_name).map(|signature| (signature, false)),
    }
}

static SIGNATURES: LazyLock<BTreeMap<&'static str, Signature>> = LazyLock::new(|| {
    let all = [CORE, MACROS, STRINGS, LISTS, NUMBERS, TIMES, KUBERNETES, PREDICATES].concat();
    all.into_iter().map(|(name, kind, declared)| (name, Signature::of(name, kind, declared))).collect()
});

type Row = (&'static str, Kind, &'static [&'static str]);

use Kind::{Builds, Clock, Counts, Macro, Metered, Object, Pattern, Reads};

const CORE: &[Row] = &[
    ("bool", Reads, &["(bool) -> bool", "(string) -> bool"]),
    ("bytes", Builds, &["(bytes) -> bytes", "(string) -> bytes"]),
    ("double", Reads, &["(number) -> double", "(string) -> double"]),
    ("duration", Reads, &["(duration) -> duration", "(string) -> duration"]),
    ("dyn", Reads, &["(any) -> any"]),
    ("int", Reads, &["(number) -> int", "(string) -> int", "(timestamp) -> int"]),
    (
        "string",
        Builds,
        &[
            "(string) -> string",
            "(bool) -> string",
            "(number) -> string",
            "(bytes) -> string",
            "(timestamp) -> string",
            "(duration) -> string",
            "(quantity) -> string",
            "(ip) -> string",
            "(cidr) -> string",
            "(url) -> string",
            "(semver) -> string",
        ],
    ),
    ("timestamp", Reads, &["(timestamp) -> timestamp", "(string) -> timestamp", "(int) -> timestamp"]),
    ("type", Reads, &["(any) -> type"]),
    ("uint", Reads, &["(number) -> uint", "(string) -> uint"]),
    ("optional.none", Reads, &["() -> optional<never>"]),
    ("optional.of", Reads, &["(A) -> optional<A>"]),
    ("optional.ofNonZeroValue", Reads, &["(A) -> optional<A>"]),
    ("hasValue", Reads, &["optional<any>.() -> bool"]),
    ("or", Reads, &["optional<A>.(optional<A>) -> optional<A>"]),
    ("orValue", Reads, &["optional<A>.(A) -> A"]),
    ("value", Reads, &["optional<A>.() -> A"]),
];

const MACROS: &[Row] = &[
    ("has", Macro, &["(any) -> bool"]),
    ("all", Macro, &["any.(any, any) -> bool", "any.(any, any, any) -> bool"]),
    ("exists", Macro, &["any.(any, any) -> bool", "any.(any, any, any) -> bool"]),
    ("exists_one", Macro, &["any.(any, any) -> bool", "any.(any, any, any) -> bool"]),
    ("existsOne", Macro, &["any.(any, any) -> bool", "any.(any, any, any) -> bool"]),
    ("filter", Macro, &["any.(any, any) -> any"]),
    ("map", Macro, &["any.(any, any) -> any", "any.(any, any, any) -> any"]),
    ("sortBy", Macro, &["any.(any, any) -> any"]),
    ("transformList", Macro, &["any.(any, any, any) -> any", "any.(any, any, any, any) -> any"]),
    ("transformMap", Macro, &["any.(any, any, any) -> any", "any.(any, any, any, any) -> any"]),
    ("transformMapEntry", Macro, &["any.(any, any, any) -> any", "any.(any, any, any, any) -> any"]),
    ("optMap", Macro, &["any.(any, any) -> any"]),
    ("optFlatMap", Macro, &["any.(any, any) -> any"]),
    ("cel.bind", Macro, &["(any, any, any) -> any"]),
    ("math.greatest", Macro, &["(any, ...) -> any"]),
    ("math.least", Macro, &["(any, ...) -> any"]),
];

const STRINGS: &[Row] = &[
    (
        "size",
        Reads,
        &[
            "(string) -> int",
            "(bytes) -> int",
            "(list<any>) -> int",
            "(map<any, any>) -> int",
            "string.() -> int",
            "bytes.() -> int",
            "list<any>.() -> int",
            "map<any, any>.() -> int",
        ],
    ),
    ("charAt", Reads, &["string.(int) -> string"]),
    ("contains", Reads, &["string.(string) -> bool"]),
    ("endsWith", Reads, &["string.(string) -> bool"]),
    ("format", Builds, &["string.(list<any>) -> string"]),
    (
        "indexOf",
        Metered("@indexOf"),
        &["string.(string) -> int", "string.(string, int) -> int", "list<A>.(A) -> int"],
    ),
    ("join", Metered("@join"), &["list<string>.() -> string", "list<string>.(string) -> string"]),
    (
        "lastIndexOf",
        Metered("@lastIndexOf"),
        &["string.(string) -> int", "string.(string, int) -> int", "list<A>.(A) -> int"],
    ),
    ("lowerAscii", Reads, &["string.() -> string"]),
    (
        "replace",
        Metered("@replace"),
        &["string.(string, string) -> string", "string.(string, string, int) -> string"],
    ),
    ("reverse", Reads, &["string.() -> string", "list<A>.() -> list<A>"]),
    ("split", Builds, &["string.(string) -> list<string>", "string.(string, int) -> list<string>"]),
    ("startsWith", Reads, &["string.(string) -> bool"]),
    ("strings.quote", Builds, &["(string) -> string"]),
    ("substring", Reads, &["string.(int) -> string", "string.(int, int) -> string"]),
    ("trim", Reads, &["string.() -> string"]),
    ("upperAscii", Reads, &["string.() -> string"]),
    ("base64.decode", Builds, &["(string) -> bytes"]),
    ("base64.encode", Builds, &["(bytes) -> string"]),
    ("matches", Pattern("@matches"), &["string.(string) -> bool", "(string, string) -> bool"]),
    ("find", Pattern("@find"), &["string.(string) -> string"]),
    (
        "findAll",
        Pattern("@findAll"),
        &["string.(string) -> list<string>", "string.(string, int) -> list<string>"],
    ),
];

const LISTS: &[Row] = &[
    ("distinct", Metered("@distinct"), &["list<A>.() -> list<A>"]),
    ("first", Reads, &["list<A>.() -> optional<A>"]),
    ("flatten", Builds, &["list<any>.() -> list<any>", "list<any>.(int) -> list<any>"]),
    ("isSorted", Reads, &["list<any>.() -> bool"]),
    ("last", Reads, &["list<A>.() -> optional<A>"]),
    ("lists.range", Counts, &["(int) -> list<int>"]),
    ("max", Reads, &["list<A>.() -> A"]),
    ("min", Reads, &["list<A>.() -> A"]),
    ("slice", Builds, &["list<A>.(int, int) -> list<A>"]),
    ("sort", Reads, &["list<A>.() -> list<A>"]),
    (
        "sum",
        Reads,
        &[
            "list<int>.() -> int",
            "list<uint>.() -> uint",
            "list<double>.() -> double",
            "list<duration>.() -> duration",
        ],
    ),
    ("sets.contains", Metered("sets.@contains"), &["(list<A>, list<A>) -> bool"]),
    ("sets.equivalent", Metered("sets.@equivalent"), &["(list<A>, list<A>) -> bool"]),
    ("sets.intersects", Metered("sets.@intersects"), &["(list<A>, list<A>) -> bool"]),
];

const NUMBERS: &[Row] = &[
    ("math.abs", Reads, &["(int) -> int", "(uint) -> uint", "(double) -> double"]),
    ("math.bitAnd", Reads, &["(int, int) -> int", "(uint, uint) -> uint"]),
    ("math.bitNot", Reads, &["(int) -> int", "(uint) -> uint"]),
    ("math.bitOr", Reads, &["(int, int) -> int", "(uint, uint) -> uint"]),
    ("math.bitShiftLeft", Reads, &["(int, int) -> int", "(uint, int) -> uint"]),
    ("math.bitShiftRight", Reads, &["(int, int) -> int", "(uint, int) -> uint"]),
    ("math.bitXor", Reads, &["(int, int) -> int", "(uint, uint) -> uint"]),
    ("math.ceil", Reads, &["(double) -> double"]),
    ("math.floor", Reads, &["(double) -> double"]),
    ("math.isFinite", Reads, &["(double) -> bool"]),
    ("math.isInf", Reads, &["(double) -> bool"]),
    ("math.isNaN", Reads, &["(double) -> bool"]),
    ("math.round", Reads, &["(double) -> double"]),
    ("math.sign", Reads, &["(int) -> int", "(uint) -> uint", "(double) -> double"]),
    ("math.sqrt", Reads, &["(number) -> double"]),
    ("math.trunc", Reads, &["(double) -> double"]),
];

const TIME_PART: &[&str] = &["timestamp.() -> int", "timestamp.(string) -> int"];
const TIME_OR_DURATION_PART: &[&str] =
    &["timestamp.() -> int", "timestamp.(string) -> int", "duration.() -> int"];

const TIMES: &[Row] = &[
    ("getDate", Reads, TIME_PART),
    ("getDayOfMonth", Reads, TIME_PART),
    ("getDayOfWeek", Reads, TIME_PART),
    ("getDayOfYear", Reads, TIME_PART),
    ("getFullYear", Reads, TIME_PART),
    ("getHours", Reads, TIME_OR_DURATION_PART),
    ("getMilliseconds", Reads, TIME_OR_DURATION_PART),
    ("getMinutes", Reads, TIME_OR_DURATION_PART),
    ("getMonth", Reads, TIME_PART),
    ("getSeconds", Reads, TIME_OR_DURATION_PART),
];

const KUBERNETES: &[Row] = &[
    // Quantities, versions.
    ("quantity", Reads, &["(string) -> quantity"]),
    ("isQuantity", Reads, &["(string) -> bool"]),
    ("add", Reads, &["quantity.(quantity) -> quantity", "quantity.(int) -> quantity"]),
    ("asApproximateFloat", Reads, &["quantity.() -> double"]),
    ("asInteger", Reads, &["quantity.() -> int"]),
    ("compareTo", Reads, &["quantity.(quantity) -> int", "semver.(semver) -> int"]),
    ("isGreaterThan", Reads, &["quantity.(quantity) -> bool", "semver.(semver) -> bool"]),
    ("isInteger", Reads, &["quantity.() -> bool"]),
    ("isLessThan", Reads, &["quantity.(quantity) -> bool", "semver.(semver) -> bool"]),
    ("sign", Reads, &["quantity.() -> int"]),
    ("sub", Reads, &["quantity.(quantity) -> quantity", "quantity.(int) -> quantity"]),
    ("semver", Reads, &["(string) -> semver", "(string, bool) -> semver"]),
    ("isSemver", Reads, &["(string) -> bool", "(string, bool) -> bool"]),
    ("major", Reads, &["semver.() -> int"]),
    ("minor", Reads, &["semver.() -> int"]),
    ("patch", Reads, &["semver.() -> int"]),
    // URLs.
    ("url", Reads, &["(string) -> url"]),
    ("isURL", Reads, &["(string) -> bool"]),
    ("getEscapedPath", Builds, &["url.() -> string"]),
    ("getHost", Builds, &["url.() -> string"]),
    ("getHostname", Builds, &["url.() -> string"]),
    ("getPort", Builds, &["url.() -> string"]),
    ("getQuery", Builds, &["url.() -> map<string, list<string>>"]),
    ("getScheme", Builds, &["url.() -> string"]),
    // Addresses and networks.
    ("ip", Reads, &["(string) -> ip", "cidr.() -> ip"]),
    ("isIP", Reads, &["(string) -> bool"]),
    ("ip.isCanonical", Reads, &["(string) -> bool"]),
    ("family", Reads, &["ip.() -> int"]),
    ("isGlobalUnicast", Reads, &["ip.() -> bool"]),
    ("isLinkLocalMulticast", Reads, &["ip.() -> bool"]),
    ("isLinkLocalUnicast", Reads, &["ip.() -> bool"]),
    ("isLoopback", Reads, &["ip.() -> bool"]),
    ("isUnspecified", Reads, &["ip.() -> bool"]),
    ("cidr", Reads, &["(string) -> cidr"]),
    ("isCIDR", Reads, &["(string) -> bool"]),
    ("containsCIDR", Reads, &["cidr.(cidr) -> bool", "cidr.(string) -> bool"]),
    ("containsIP", Reads, &["cidr.(ip) -> bool", "cidr.(string) -> bool"]),
    ("masked", Reads, &["cidr.() -> cidr"]),
    ("prefixLength", Reads, &["cidr.() -> int"]),
];

/// The fields of a Pod's containers' statuses.
const STATUSES: &[&str] =
    &["kind", "metadata.deletionTimestamp", "status.containerStatuses", "status.initContainerStatuses"];
const CONDITIONS: &[&str] = &["status.conditions"];

const PREDICATES: &[Row] = &[
    ("condition", Object(CONDITIONS), &["(object, string) -> string"]),
    ("crashLooping", Clock(STATUSES), &["(Pod, int, duration) -> bool"]),
    ("imagePullFailing", Object(STATUSES), &["(Pod) -> bool"]),
    (
        "notReadyFor",
        Clock(&[
            "kind",
            "metadata.creationTimestamp",
            "metadata.deletionTimestamp",
            "status.conditions",
            "status.phase",
        ]),
        &["(object, duration) -> bool"],
    ),
    ("oomKilled", Object(STATUSES), &["(Pod) -> bool"]),
    (
        "rolledOutWithin",
        Clock(&[
            "kind",
            "metadata.creationTimestamp",
            "spec.template.metadata.annotations",
            "status.conditions",
        ]),
        &["(object, duration) -> bool"],
    ),
    (
        "rolloutComplete",
        Object(&[
            "kind",
            "metadata.deletionTimestamp",
            "metadata.generation",
            "spec.replicas",
            "spec.updateStrategy",
            "status",
        ]),
        &["(Deployment | StatefulSet | DaemonSet) -> bool"],
    ),
    (
        "unschedulable",
        Object(&["kind", "metadata.deletionTimestamp", "spec.nodeName", "status.conditions", "status.phase"]),
        &["(Pod) -> bool"],
    ),
];

/// The types that a value of a name may have in expressions, apart from those of objects.
pub(in super::super) fn greatest(arguments: &[Type]) -> Type {
    match arguments {
        [Type::List(items)] => (**items).clone(),
        _ => arguments.iter().fold(Type::NEVER, |all, one| all.or(one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads() {
        let row = |name: &str| signature(name).map(|found| (found.style, found.arguments));
        assert_eq!(row("size"), Some((Style::Both, (0, 0))));
        assert_eq!(row("matches"), Some((Style::Both, (1, 1))));
        assert_eq!(row("math.greatest"), Some((Style::Global, (1, usize::MAX))));
        assert_eq!(row("all"), Some((Style::Member, (2, 3))));
        assert_eq!(row("crashLooping"), Some((Style::Global, (3, 3))));
        assert!(names().count() > 120);
    }
}
