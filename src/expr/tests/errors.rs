//! The exact texts and places of errors.

use super::{bindings, compile, compile_errors, evaluate, sample};
use crate::expr::EvalErrorKind;

#[test]
fn syntax_errors_say_what_is_unexpected_and_where() {
    for (source, expected) in [
        ("", "when:1:1 expression is empty"),
        (" \n ", "when:1:1 expression is empty"),
        ("object.kind )", "when:1:13 unexpected \")\""),
        ("1 +", "when:1:4 unexpected end of expression"),
        ("object.", "when:1:8 unexpected end of expression"),
        ("size(object", "when:1:12 unexpected end of expression"),
        ("object.kind 'x'", "when:1:13 unexpected \"'\""),
        ("'é' + )", "when:1:7 unexpected \")\""),
        ("object\n  && )", "when:2:6 unexpected \")\""),
        ("object..kind", "when:1:8 unexpected \".\""),
        ("'abc", "when:1:1 string is not closed"),
        ("'\\q'", "when:1:1 invalid escape in a string"),
        ("object = 1", "when:1:8 unexpected \"=\"; did you mean \"==\"?"),
        ("object & true", "when:1:8 unexpected \"&\"; did you mean \"&&\"?"),
        ("object and true", "when:1:8 unexpected \"and\"; did you mean \"&&\"?"),
        ("true or false", "when:1:6 unexpected \"or\"; did you mean \"||\"?"),
        ("@object", "when:1:1 unexpected \"@\""),
        ("${{ object }}", "when:1:1 this is an expression already: write it without ${{ }}"),
        ("object.kind ? 1", "when:1:16 unexpected end of expression"),
        ("has(object)", "when:1:1 has() takes a field, such as has(object.status)"),
        ("object.map(1, 2)", "when:1:1 the first argument must be a plain name, such as x"),
        ("while", "when:1:1 \"while\" is a reserved word"),
        ("99999999999999999999", "when:1:1 99999999999999999999 does not fit an int"),
        ("object.`a-b`", "when:1:7 write fields with unusual names as object[\"name\"]"),
    ] {
        let errors = compile_errors(source);
        assert_eq!(errors.len(), 1, "{source}: {errors:?}");
        assert_eq!(errors[0].located("when", source), expected, "{source}");
        assert!(source.get(errors[0].span.clone()).is_some(), "{source}: {:?}", errors[0].span);
    }
}

#[test]
fn unknown_names_and_wrong_calls_are_found_at_compile_time() {
    for (source, span, expected) in [
        ("objet.kind", "objet", "unknown variable \"objet\"; did you mean \"object\"?"),
        ("1 + zebra", "zebra", "unknown variable \"zebra\""),
        ("object.x.exists(c, d.name == 'x')", "d", "unknown variable \"d\""),
        ("nope(1)", "nope", "unknown function \"nope\""),
        (
            "crashLoping(object, 1, duration('1m'))",
            "crashLoping",
            "unknown function \"crashLoping\"; did you mean \"crashLooping\"?",
        ),
        (
            "object.kind.startswith('x')",
            "startswith",
            "unknown function \"startswith\"; did you mean \"startsWith\"?",
        ),
        ("math.abz(1)", "math.abz", "unknown function \"math.abz\"; did you mean \"math.abs\"?"),
        ("crashLooping(object)", "crashLooping", "crashLooping takes 3 arguments, not 1"),
        ("object.kind.substring()", "substring", "substring takes 1 to 2 arguments, not 0"),
        ("math.greatest()", "math.greatest()", "math.greatest() requires at least one argument"),
        ("object.exists(c)", "exists", "exists takes 2 to 3 arguments, not 1"),
        ("object.oomKilled()", "oomKilled", "write oomKilled(x), not x.oomKilled()"),
        ("startsWith('a', 'b')", "startsWith", "write x.startsWith(), not startsWith(x)"),
        ("size()", "size", "size takes 1 argument, not 0"),
        ("Pod{name: 'x'}", "{name: 'x'}", "unknown type \"Pod\""),
        (
            "duration('5 minutes')",
            "'5 minutes'",
            "\"5 minutes\" is not a duration, such as \"10m\" or \"1h30m\"",
        ),
        (
            "timestamp('yesterday')",
            "'yesterday'",
            "\"yesterday\" is not a time, such as \"2026-01-31T09:00:00Z\"",
        ),
        ("quantity('5 Gb')", "'5 Gb'", "\"5 Gb\" is not a quantity, such as \"500Mi\" or \"250m\""),
        ("object.kind.matches('(')", "'('", "invalid pattern \"(\": unclosed group"),
        ("matches(object.kind, '[')", "'['", "invalid pattern \"[\": unclosed character class"),
        ("'a'.matches('\\\\w{4000}')", "'\\\\w{4000}'", "pattern \"\\\\w{4000}\" is too large"),
    ] {
        let errors = compile_errors(source);
        assert_eq!(errors.len(), 1, "{source}: {errors:?}");
        assert_eq!(errors[0].to_string(), expected, "{source}");
        assert_eq!(&source[errors[0].span.clone()], span, "{source}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_order() {
    let errors = compile_errors("nope(objet) && oomKilled()");
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "unknown function \"nope\"",
            "unknown variable \"objet\"; did you mean \"object\"?",
            "oomKilled takes 1 argument, not 0"
        ]
    );
}

#[track_caller]
fn check_failures(kind: EvalErrorKind, cases: &[(&str, &str, &str)]) {
    for (source, span, message) in cases {
        let error = evaluate(source, &sample()).expect_err(source);
        assert_eq!(error.to_string(), *message, "{source}");
        assert_eq!(&source[error.span.clone()], *span, "{source}");
        assert_eq!(error.kind, kind, "{source}");
    }
}

#[test]
fn what_is_absent_is_named_with_its_path() {
    check_failures(
        EvalErrorKind::Absent,
        &[
            ("object.status.phase == 'x'", "object.status.phase", "object.status.phase is absent"),
            ("true && object.nope.deep.er > 1", "object.nope", "object.nope is absent"),
            ("has(object.nope.deep)", "object.nope", "object.nope is absent"),
            (
                "object.metadata.labels['x'] == ''",
                "object.metadata.labels['x']",
                "object.metadata.labels['x'] is absent",
            ),
            (
                "object.spec.containers[7].name",
                "object.spec.containers[7]",
                "object.spec.containers[7] is absent",
            ),
            ("oldObject.kind == ''", "oldObject", "oldObject is not set"),
            ("object.spec.containers.exists(c, c.port > 1)", "c.port", "c.port is absent"),
            ("object.spec.replicas > 1 ? object.a : object.b", "object.a", "object.a is absent"),
        ],
    );
}

#[test]
fn values_of_a_wrong_type_are_named_with_their_type() {
    check_failures(
        EvalErrorKind::Type,
        &[
            (
                "object.spec.paused.x",
                "object.spec.paused.x",
                "object.spec.paused is null, which has no fields",
            ),
            ("object.kind.x == 1", "object.kind.x", "object.kind is string, which has no fields"),
            (
                "object.spec.containers.name",
                "object.spec.containers.name",
                "object.spec.containers is list, which has no fields",
            ),
            (
                "object.spec.replicas > 'x'",
                "object.spec.replicas > 'x'",
                "object.spec.replicas is int, compared with string",
            ),
            ("1 + (object.kind + 1)", "object.kind + 1", "object.kind is string, added to int"),
            ("object.kind && true", "object.kind", "object.kind is string, not a bool"),
            ("true && object.kind", "object.kind", "object.kind is string, not a bool"),
            ("!object.kind", "object.kind", "object.kind is string, not a bool"),
            ("object.kind ? 1 : 2", "object.kind", "object.kind is string, not a bool"),
            (
                "1 in object.spec.replicas",
                "object.spec.replicas",
                "object.spec.replicas is int, not a list or map",
            ),
            (
                "object.spec.replicas.exists(x, true)",
                "object.spec.replicas",
                "object.spec.replicas is int, not a list or map",
            ),
            ("object.spec.containers.map(c, c.name).map(n, n + 1)", "n + 1", "n is string, added to int"),
            ("object.spec.containers.filter(c, c.name)", "c.name", "c.name is string, not a bool"),
            (
                "object.spec.replicas.startsWith('x')",
                "object.spec.replicas.startsWith('x')",
                "object.spec.replicas is int, which has no startsWith(string)",
            ),
            ("size(object.spec.replicas)", "size(object.spec.replicas)", "size does not take int"),
            (
                "object.spec.replicas.replace('a', 'b')",
                "object.spec.replicas.replace('a', 'b')",
                "object.spec.replicas is int, which has no replace(string, string)",
            ),
            (
                "object.spec.replicas.matches('a')",
                "object.spec.replicas.matches('a')",
                "object.spec.replicas is int, which has no matches(string)",
            ),
        ],
    );
}

#[test]
fn functions_say_what_they_refuse() {
    check_failures(
        EvalErrorKind::Failed,
        &[
            (
                "object.spec.replicas / 0",
                "object.spec.replicas / 0",
                "object.spec.replicas / 0 divides by zero",
            ),
            ("9223372036854775807 + 1", "9223372036854775807 + 1", "9223372036854775807 + 1 overflows"),
            ("quantity(object.kind)", "quantity(object.kind)", "quantity: cannot read \"Deployment\""),
            (
                "quantity('1500m').asInteger()",
                "quantity('1500m').asInteger()",
                "asInteger: 1500m is no whole number",
            ),
            ("dyn([1]).join()", "dyn([1]).join()", "join: joins strings, not int"),
            ("'abc'.indexOf('a', 9)", "'abc'.indexOf('a', 9)", "indexOf: index out of range: 9"),
            (
                "'a'.matches(object.kind + '(')",
                "'a'.matches(object.kind + '(')",
                "matches: invalid pattern \"Deployment(\": unclosed group",
            ),
            ("oomKilled(object)", "oomKilled(object)", "oomKilled: takes a Pod, not a Deployment"),
            (
                "condition(object.kind, 'x')",
                "condition(object.kind, 'x')",
                "condition: takes an object as argument 1, not string",
            ),
            (
                "crashLooping(object, 3, dyn('10m'))",
                "crashLooping(object, 3, dyn('10m'))",
                "crashLooping: takes a Pod, not a Deployment",
            ),
            (
                "rolledOutWithin(object, dyn('10m'))",
                "rolledOutWithin(object, dyn('10m'))",
                "rolledOutWithin: takes a duration such as duration('10m') as argument 2, not string",
            ),
            ("{'a': 1, 'a': 2}", "{'a': 1, 'a': 2}", "{'a': 1, 'a': 2} has a key twice"),
        ],
    );
}

#[test]
fn errors_say_their_line_and_column() {
    let source = "object.kind == 'Deployment'\n  && object.gone > 1";
    let error = compile(source).matches(&bindings(&sample())).unwrap_err();
    assert_eq!(error.located("when", source), "when:2:6 object.gone is absent");
}
