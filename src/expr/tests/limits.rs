//! No expression takes much time, memory or stack.

use super::{bindings, compile, compile_errors, evaluate, sample};
use crate::expr::{EvalErrorKind, MAX_DEPTH, MAX_SOURCE};
use serde_json::{Value, json};

const STEPS: &str = "evaluation exceeded 10,000 steps";
const BUILT: &str = "evaluation built more than 1 MiB of values";

#[track_caller]
fn refused(source: &str, object: &Value, expected: &str) {
    let error = evaluate(source, object).expect_err(source);
    assert_eq!((error.kind, error.to_string().as_str()), (EvalErrorKind::Limit, expected), "{source}");
}

#[test]
fn loops_end_after_their_steps() {
    let object = json!({"l": (0..300).collect::<Vec<_>>(), "m": (0..300).map(|n| (format!("{n}"), json!(n))).collect::<serde_json::Map<_, _>>()});
    for source in [
        "object.l.all(a, object.l.all(b, object.l.all(c, a + b + c >= 0)))",
        "object.l.map(a, object.l.map(b, object.l.map(c, a))).size() > 0",
        "object.l.exists(a, object.l.exists(b, a + b < 0))",
        "object.l.exists_one(a, object.l.exists_one(b, b == 1))",
        "object.l.filter(a, object.l.filter(b, b == a).size() > 1)",
        "object.m.all(a, object.m.all(b, true))",
        "object.l.map(a, object.l.exists(b, b < 0), a)",
        "object.l.map(a, object.l.map(b, 1))",
        "object.l.sortBy(a, object.l.map(b, b).size())",
        "lists.range(1000000).size()",
        "object.l.all(a, object.l.all(b, true)) || true",
        "sets.equivalent(object.l + object.l + object.l, object.l + object.l + object.l)",
        "lists.range(3000).distinct()",
        "object.l.all(i, a, object.l.all(j, b, object.l.all(k, c, a + b + c + i + j + k >= 0)))",
        "object.m.exists(k, v, object.m.exists(l, w, v + w < 0))",
        "object.l.transformList(i, a, object.l.transformList(j, b, a * b)).size() > 0",
        "object.l.existsOne(i, a, object.l.existsOne(j, b, a == b && i != j))",
        "object.l.all(i, a, object.l.all(j, b, true)) || true",
        "lists.range(3000).all(i, cel.bind(l, lists.range(1000), l.sum() > i))",
        "lists.range(4000).all(i, lists.range(4000).max() >= i)",
        // A pattern that is put together is compiled at every turn.
        "object.l.all(i, !'x'.matches('a{' + string(i + 1) + '}'))",
    ] {
        refused(source, &object, STEPS);
    }
    assert_eq!(
        evaluate("object.l.all(a, object.l.filter(b, b == a).size() < 9) || true", &json!({"l": [1, 2]})),
        Ok(json!(true))
    );
    assert_eq!(
        evaluate("lists.range(9000).map(x, x + 1)[8999]", &json!({})).map_err(|e| e.kind),
        Err(EvalErrorKind::Limit)
    );
    assert_eq!(evaluate("lists.range(4000).map(x, x + 1)[3999]", &json!({})), Ok(json!(4000)));
}

#[test]
fn values_cannot_be_made_to_grow() {
    let map: serde_json::Map<_, _> = (0..300).map(|n| (format!("{n}"), json!(n))).collect();
    let long = json!({"s": "x".repeat(200_000), "m": map});
    for source in [
        format!("['x']{}", ".map(a, a + a)".repeat(30)),
        format!("[1]{}", ".map(a, [a, a])".repeat(30)),
        format!("[1]{}", ".map(a, {'a': a, 'b': a})".repeat(25)),
        format!("['aaaa']{}", ".map(a, a.replace('a', 'aaaaaaaa'))".repeat(12)),
        format!("['aa']{}", ".map(a, a.split('').join(a))".repeat(12)),
        format!("['aa']{}", ".map(a, '%s%s%s%s'.format([a, a, a, a]))".repeat(20)),
        format!("[[1]]{}", ".map(a, a + a)".repeat(30)),
        "[object.s, object.s, object.s, object.s, object.s, object.s]".to_owned(),
        "object.s.replace('', object.s)".to_owned(),
        "object.s.split('').join(object.s)".to_owned(),
        "object.s.findAll('.')".to_owned(),
        "lists.range(100).map(x, 'a').join(object.s)".to_owned(),
        format!("{}a{}", "cel.bind(a, object.s + object.s, ".repeat(4), ")".repeat(4)),
        "lists.range(100).all(i, cel.bind(s, object.s, s.size() > i))".to_owned(),
        "[object.s, object.s, object.s].transformMap(i, s, s + s).size() > 0".to_owned(),
        "object.m.transformMap(k, v, object.m.transformMap(l, w, w)).size() > 0".to_owned(),
        "lists.range(50).transformMapEntry(i, v, {string(i): object.s}).size() > 0".to_owned(),
    ] {
        refused(&source, &long, BUILT);
    }
    let string = evaluate("object.s + object.s", &long).unwrap();
    assert_eq!(string.as_str().map(str::len), Some(400_000));
}

#[test]
fn reading_long_values_costs_steps() {
    let object = json!({"s": "x".repeat(200_000), "l": (0..100).collect::<Vec<_>>()});
    assert_eq!(evaluate("object.s.contains('y')", &object), Ok(json!(false)));
    refused("object.l.exists(x, object.s.contains('y'))", &object, STEPS);
    refused("object.l.exists(x, size(object.s) < 0)", &object, STEPS);
    refused("object.l.exists(x, object.s.matches('y$'))", &object, STEPS);
    refused("object.l.exists(x, object.s.indexOf('xy') > 0)", &object, STEPS);
}

/// Patterns take linear time, and none is large.
#[test]
fn patterns_cannot_blow_up() {
    let object = json!({"s": "a".repeat(20_000)});
    assert_eq!(evaluate("object.s.matches('^(a*)*b$')", &object), Ok(json!(false)));
    assert_eq!(evaluate("object.s.findAll('(a|aa)+$').size()", &object), Ok(json!(1)));
    let error = &compile_errors("object.s.matches('(a{1000}){1000}')")[0];
    assert_eq!(error.to_string(), "pattern \"(a{1000}){1000}\" is too large");
    let error = evaluate("object.s.matches('(a{1000})' + '{1000}')", &object).unwrap_err();
    assert_eq!(error.to_string(), "matches: pattern \"(a{1000}){1000}\" is too large");
}

/// One rule that is stopped says so, and has no part in the answer of the next one over the same event.
#[test]
fn the_limit_of_one_expression_is_not_that_of_another() {
    let event = bindings(&json!({"l": (0..300).collect::<Vec<_>>()}));
    let greedy = compile("object.l.all(a, b, object.l.all(c, d, a + c >= 0))");
    let modest = compile("object.l.exists(a, a == 299)");
    for _ in 0..3 {
        let stopped = greedy.matches(&event).unwrap_err();
        assert_eq!((stopped.kind, stopped.to_string().as_str()), (EvalErrorKind::Limit, STEPS));
        assert_eq!(modest.matches(&event), Ok(true));
    }
}

#[test]
fn sources_are_bounded() {
    let long = format!("'{}'", "x".repeat(MAX_SOURCE));
    assert_eq!(compile_errors(&long)[0].to_string(), "expression is 4098 bytes; max 4096");
    compile(&format!("'{}'", "x".repeat(MAX_SOURCE - 2)));
    for (open, close) in [("(", ")"), ("[", "]"), ("size(", ")"), ("{1: ", "}"), ("true ? 1 : ", "")] {
        let depth = usize::from(MAX_DEPTH) * 2;
        let source = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let error = &compile_errors(&source)[0];
        assert_eq!(error.to_string(), "expression nests deeper than 32", "{source}");
    }
    for chain in ["+1", ".a", "[0]", " == 1", ".trim()"] {
        let error = &compile_errors(&format!("object{}", chain.repeat(500)))[0];
        assert_eq!(
            error.to_string(),
            "expression chains more than 160 operators, fields or calls",
            "{chain}"
        );
    }
}

/// The deepest expressions that compile are evaluated, and fail, on the smallest stack that we run
/// on; this build is unoptimized.
#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    let nested = |open: &str, leaf: &str, close: &str, depth: usize| {
        format!("{}{leaf}{}", open.repeat(depth), close.repeat(depth))
    };
    let sources = vec![
        nested("(1 + ", "1", ")", 31),
        nested("[", "1", "]", 31),
        nested("[1].map(x, ", "x", ")", 31),
        nested("[1].exists(x, ", "object.gone", ")", 31),
        nested("[1].filter(x, ", "object.gone", ")", 31),
        nested("{'a': ", "object.gone", "}", 31),
        nested("true ? ", "object.gone", " : 1", 15),
        nested("string(", "object.gone", ")", 31),
        nested("[1].all(i, x, ", "object.gone", ")", 31),
        nested("[1].transformList(i, x, ", "x", ")", 31),
        nested("{'a': 1}.transformMap(i, x, ", "object.gone", ")", 31),
        nested("cel.bind(x, [1], ", "object.gone", ")", 31),
        format!("1{}", " + 1".repeat(150)),
        format!("object.gone{}", " + 1".repeat(150)),
        format!("object{}", ".a".repeat(150)),
        format!("''{}", ".trim()".repeat(150)),
        format!("[1]{}", ".map(x, x)".repeat(50)),
        format!("true{}", " || object.gone".repeat(200)),
        format!("object.gone{}", " && object.gone".repeat(250)),
        "!".repeat(4000) + "true",
        nested("(", "1", ")", 2000),
        "[".repeat(4000),
        "(".repeat(4000),
        "{1:".repeat(1300),
        "a.b(".repeat(1000),
        "1 ? ".repeat(1000),
    ];
    let deepest = (0..125).fold(json!({}), |inner, _| json!({"a": inner}));
    let sources_of_objects =
        ["[target]", "target == target", "string(target.a)", "[target].map(x, x)[0] == target"];
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let values = bindings(&sample()).with("target", deepest);
        for source in sources_of_objects {
            let _ = compile(source).evaluate(&values);
        }
        for source in &sources {
            if let Ok(expression) = crate::expr::Expression::compile(source, &super::scope()) {
                let _ = expression.evaluate(&values);
            }
        }
        sources.len()
    });
    assert_eq!(worker.unwrap().join().expect("the stack is large enough"), 26);
}
