//! What expressions evaluate to.

use super::{bindings, compile, evaluate, sample};
use crate::expr::{At, EvalErrorKind};
use serde_json::{Value, json};

#[track_caller]
fn check(cases: &[(&str, Value)]) {
    for (source, expected) in cases {
        assert_eq!(evaluate(source, &sample()), Ok(expected.clone()), "{source}");
    }
}

#[test]
fn fields_operators_and_conversions() {
    check(&[
        ("object.metadata.name", json!("web")),
        ("object.spec.replicas + 1", json!(4)),
        ("object.spec.replicas == 3.0", json!(true)),
        ("object.spec.ratio * 2.0", json!(1.0)),
        ("-object.spec.replicas", json!(-3)),
        ("object.spec.paused", json!(null)),
        ("object.metadata.labels['app'] + '-' + string(object.spec.replicas)", json!("web-3")),
        ("'tier' in object.metadata.labels", json!(true)),
        ("object.spec.replicas > 2 ? 'many' : 'few'", json!("many")),
        ("[1, 'a', {'k': [true]}]", json!([1, "a", {"k": [true]}])),
        ("size(object.spec.containers)", json!(2)),
        ("int('7') + int(2.9)", json!(9)),
        ("type(object.spec.replicas) == int && type(now) == google.protobuf.Timestamp", json!(true)),
        ("b'hi'", json!("aGk=")),
        ("'é'.size()", json!(1)),
        (".object.kind", json!("Deployment")),
    ]);
}

#[test]
fn absent_fields_can_be_asked_for() {
    check(&[
        ("has(object.status.startTime) && !has(object.status.phase)", json!(true)),
        ("object.?status.?phase.orValue('none')", json!("none")),
        ("object.?status.phase.conditions.hasValue()", json!(false)),
        ("object.spec.containers[?5].orValue({}).size()", json!(0)),
        ("object.metadata.labels[?'app'].optMap(v, v + '!').orValue('')", json!("web!")),
        ("{?'phase': object.?status.?phase, 'kind': object.kind}", json!({"kind": "Deployment"})),
        ("object.?status.?phase", json!(null)),
        ("object.status.phase == 'Failed' || object.kind == 'Deployment'", json!(true)),
        ("object.status.phase == 'Failed' && object.kind == 'Pod'", json!(false)),
    ]);
}

#[test]
fn loops_over_lists_and_maps() {
    check(&[
        ("object.spec.containers.exists(c, c.image.startsWith('envoy'))", json!(true)),
        ("object.spec.containers.all(c, has(c.memory))", json!(true)),
        ("object.spec.containers.exists_one(c, c.name == 'app')", json!(true)),
        ("object.spec.containers.map(c, c.name)", json!(["app", "proxy"])),
        ("object.spec.containers.map(c, c.name != 'app', c.name)", json!(["proxy"])),
        ("object.spec.containers.filter(c, c.name == 'app').size()", json!(1)),
        ("[3, 1, 2].sortBy(x, -x)", json!([3, 2, 1])),
        ("[1, 2].map(x, [x, x].map(y, y * 2))", json!([[2, 2], [4, 4]])),
        ("{'b': 1, 'a': 2, 'c': 3}.map(k, k)", json!(["a", "b", "c"])),
        ("[1, 2].map(object, object + 1)", json!([2, 3])),
        ("[].map(x, x)", json!([])),
    ]);
}

#[test]
fn the_keys_of_a_map_are_looped_over_in_order() {
    let labels: serde_json::Map<_, _> = (0..50).map(|n| (format!("k{n:02}"), json!(n))).collect();
    let keys: Vec<_> = labels.keys().cloned().collect();
    let object = json!({"labels": labels});
    assert_eq!(evaluate("object.labels.map(k, k)", &object), Ok(json!(keys)));
}

#[test]
fn strings_and_patterns() {
    check(&[
        ("'a,b,c'.split(',').join('-')", json!("a-b-c")),
        ("['a', 'b'].join()", json!("ab")),
        ("'hello hello'.replace('he', 'we')", json!("wello wello")),
        ("'hello hello'.replace('he', 'we', 1)", json!("wello hello")),
        ("'aXbX'.replace('X', '', -1)", json!("ab")),
        ("'Web'.lowerAscii() + 'x'.upperAscii()", json!("webX")),
        ("'%s has %d'.format(['web', 3])", json!("web has 3")),
        ("' a '.trim().substring(0, 1)", json!("a")),
        ("'tacocat'.indexOf('c') + 'tacocat'.lastIndexOf('c')", json!(6)),
        ("'äbäb'.indexOf('b', 2)", json!(3)),
        ("'äbäb'.lastIndexOf('b', 2)", json!(1)),
        ("'äbäb'.lastIndexOf('b', 3)", json!(3)),
        ("'abc'.indexOf('z')", json!(-1)),
        ("'abc'.indexOf('', 3)", json!(3)),
        ("object.spec.containers[0].image.matches('^web:[0-9]')", json!(true)),
        ("matches('abc', 'b')", json!(true)),
        ("'abc'.matches(object.kind)", json!(false)),
        ("'pod-42 of 7'.find('[0-9]+')", json!("42")),
        ("'none'.find('[0-9]+')", json!("")),
        ("'1 22 333'.findAll('[0-9]+')", json!(["1", "22", "333"])),
        ("'1 22 333'.findAll('[0-9]+', 2)", json!(["1", "22"])),
        ("base64.encode(b'hi') + strings.quote('a')", json!("aGk=\"a\"")),
    ]);
}

#[test]
fn lists_sets_and_numbers() {
    check(&[
        ("[1, 2, 2, 1.0].distinct()", json!([1, 2])),
        ("[[1], [2, [3]]].flatten()", json!([1, 2, [3]])),
        ("[1, 2, 3].slice(1, 3)", json!([2, 3])),
        ("[2, 1].sort() == [1, 2].reverse().reverse()", json!(true)),
        ("lists.range(3)", json!([0, 1, 2])),
        ("sets.contains([1, 2, 3], [2, 1])", json!(true)),
        ("sets.contains([1], [2])", json!(false)),
        ("sets.intersects([1, 2], [2, 3])", json!(true)),
        ("sets.intersects([], [1])", json!(false)),
        ("sets.equivalent([1, 2, 2], [2, 1])", json!(true)),
        ("sets.equivalent([1], [1, 2])", json!(false)),
        ("math.greatest(1, object.spec.replicas, 2)", json!(3)),
        ("math.least([4, 2])", json!(2)),
        ("math.abs(-2) + int(math.ceil(1.2))", json!(4)),
    ]);
}

#[test]
fn times_and_durations() {
    check(&[
        ("now", json!("2026-03-01T12:00:00Z")),
        ("now - timestamp(object.status.startTime)", json!("90s")),
        ("now - timestamp(object.status.startTime) > duration('1m')", json!(true)),
        ("timestamp(object.status.startTime) + duration('1h30m')", json!("2026-03-01T13:28:30Z")),
        ("duration('1500ms')", json!("1.5s")),
        ("duration('-1m')", json!("-60s")),
        ("now.getDayOfWeek() == 0 && now.getHours('Europe/London') == 12", json!(true)),
    ]);
}

#[test]
fn quantities() {
    check(&[
        ("quantity('500Mi').add(quantity('268Mi'))", json!("768Mi")),
        ("quantity('500Mi') + quantity('524Mi')", json!("1Gi")),
        ("quantity('1Gi') - quantity('256Mi')", json!("768Mi")),
        ("quantity('1Gi').sub(1024)", json!("1048575Ki")),
        ("quantity('250m').add(1)", json!("1250m")),
        ("quantity('0').add(quantity('1Ki'))", json!("1Ki")),
        ("quantity('500Mi').isGreaterThan(quantity('0.25Gi'))", json!(true)),
        ("quantity('1k').isLessThan(quantity('1Ki')) && quantity('1k') < quantity('1Ki')", json!(true)),
        ("quantity('1000m').compareTo(quantity('1'))", json!(0)),
        ("quantity('1000m') == quantity('1')", json!(true)),
        ("quantity('2k').asInteger() + 1", json!(2001)),
        ("quantity('1500m').isInteger()", json!(false)),
        ("quantity('1500m').asApproximateFloat()", json!(1.5)),
        ("quantity('-3').sign()", json!(-1)),
        ("isQuantity('500Mi') && !isQuantity('500MB') && !isQuantity(dyn(5))", json!(true)),
        ("string(quantity('1024Mi'))", json!("1Gi")),
        (
            "quantity(object.spec.containers[0].memory).add(quantity(object.spec.containers[1].memory))",
            json!("564Mi"),
        ),
        ("[quantity('2Gi'), quantity('1Gi')].sort()[0]", json!("1Gi")),
    ]);
}

#[test]
fn quantities_are_written_in_their_canonical_form() {
    for (written, canonical) in [
        ("0", "0"),
        ("0Mi", "0"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("0.5", "500m"),
        ("0.5Gi", "512Mi"),
        ("0.5Ki", "512"),
        ("1.5Ki", "1536"),
        ("0.1Ki", "102400m"),
        (".5", "500m"),
        ("5.", "5"),
        ("+5", "5"),
        ("-1500Mi", "-1500Mi"),
        ("1e3", "1e3"),
        ("12E6", "12e6"),
        ("1E", "1E"),
        ("1e-3", "1e-3"),
        ("100n", "100n"),
        ("0.0000000001", "1n"),
        ("1u", "1u"),
        ("2097152Ki", "2Gi"),
        ("9223372036854775807", "9223372036854775807"),
        ("99999999999999999999E", "9223372036854775807"),
    ] {
        let found = evaluate(&format!("quantity('{written}')"), &json!({}));
        assert_eq!(found, Ok(json!(canonical)), "{written}");
    }
    for refused in ["", "Mi", "1 Gi", "1.2.3", "1mi", "0x10", "1e", "--1", "1e9999", "é", ".", "+"] {
        assert_eq!(evaluate(&format!("isQuantity('{refused}')"), &json!({})), Ok(json!(false)), "{refused}");
    }
}

#[test]
fn integers_keep_their_exact_value() {
    let object = json!({"big": i64::MAX, "huge": u64::MAX, "small": i64::MIN});
    assert_eq!(evaluate("object.big", &object), Ok(json!(i64::MAX)));
    assert_eq!(evaluate("object.huge", &object), Ok(json!(u64::MAX)));
    assert_eq!(evaluate("object.small", &object), Ok(json!(i64::MIN)));
    assert_eq!(evaluate("object", &object), Ok(object.clone()));
}

#[test]
fn typed_results() {
    let bindings = bindings(&sample());
    let started = "2026-03-01T11:58:30Z".parse().unwrap();
    assert_eq!(compile("object.status.startTime").evaluate_timestamp(&bindings), Ok(started));
    assert_eq!(compile("timestamp(object.status.startTime)").evaluate_timestamp(&bindings), Ok(started));
    assert_eq!(compile("now").evaluate_timestamp(&bindings), Ok(bindings.now()));
    assert_eq!(
        compile("duration('1m30s')").evaluate_duration(&bindings),
        Ok(jiff::SignedDuration::from_secs(90))
    );
    assert_eq!(compile("object.spec.replicas == 3").matches(&bindings), Ok(true));

    let refused = compile("object.kind").evaluate_timestamp(&bindings).unwrap_err();
    assert_eq!(refused.to_string(), "object.kind is string (\"Deployment\"), not a timestamp");
    let refused = compile("object.spec.replicas").matches(&bindings).unwrap_err();
    assert_eq!(refused.to_string(), "object.spec.replicas is int (3), not a bool");
    assert_eq!(refused.kind, EvalErrorKind::Type);
    let refused = compile("object.spec").matches(&bindings).unwrap_err();
    assert_eq!(refused.to_string(), "object.spec is map, not a bool");
}

#[test]
fn bindings_are_shared_and_may_be_extended() {
    let event = bindings(&sample());
    let rule = event.clone().with("inputs", json!({"limit": 2}));
    assert_eq!(compile("object.spec.replicas > inputs.limit").matches(&rule), Ok(true));
    let missing = compile("object.spec.replicas > inputs.limit").matches(&event).unwrap_err();
    assert_eq!((missing.kind, missing.to_string().as_str()), (EvalErrorKind::Absent, "inputs is not set"));
    assert_eq!(rule.get("inputs"), Some(&json!({"limit": 2})));
}

#[test]
fn what_an_expression_reads_is_known() {
    let check = |source: &str, variables: &[&str], paths: &[&str], reads_now: bool| {
        let expression = compile(source);
        assert_eq!(expression.variables().collect::<Vec<_>>(), variables, "{source}");
        let found: Vec<String> = expression.paths().map(|path| path.join("/")).collect();
        assert_eq!(found, paths, "{source}");
        assert_eq!(expression.reads_now(), reads_now, "{source}");
    };
    check("1 + 1", &[], &[], false);
    check("object.a.b > 1 && has(target.c)", &["object", "target"], &["object/a/b", "target/c"], false);
    check("object.a.b + object.a", &["object"], &["object/a"], false);
    check("object.labels['x/y'][0].z", &["object"], &["object/labels/x/y"], false);
    check("object.a[object.b]", &["object"], &["object/a", "object/b"], false);
    check("object.?a[?'b'].orValue(now)", &["now", "object"], &["now", "object/a/b"], true);
    check("object.l.exists(c, c.x == inputs.y)", &["inputs", "object"], &["inputs/y", "object/l"], false);
    check(
        "object.m.all(k, v, v.x == inputs.y && k == 'a')",
        &["inputs", "object"],
        &["inputs/y", "object/m"],
        false,
    );
    check("cel.bind(o, object.a, o.b + o.c)", &["object"], &["object/a"], false);
    check(
        "condition(object, 'Ready') == inputs.want",
        &["inputs", "object"],
        &["inputs/want", "object/status/conditions"],
        false,
    );
    let statuses = [
        "object/kind",
        "object/metadata/deletionTimestamp",
        "object/status/containerStatuses",
        "object/status/initContainerStatuses",
    ];
    check("crashLooping(object, 3, duration('10m'))", &["object"], &statuses, true);
    check("oomKilled(object)", &["object"], &statuses, false);
    check("oomKilled(dyn(object))", &["object"], &["object"], false);
    check("target.pods.exists(object, oomKilled(object))", &["target"], &["target/pods"], false);
    assert!(compile("rolledOutWithin(target, duration('15m'))").reads_now());
}

/// What is not read is not converted, and that changes nothing.
#[test]
fn an_expression_sees_only_what_it_reads() {
    let object = json!({
        "kind": "Pod", "a": {"b": {"c": 1, "d": "x"}, "e": [1, 2]}, "n": null,
        "status": {"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]},
    });
    for (source, expected) in [
        ("object.a.b.c", json!(1)),
        ("has(object.a.b.c) && !has(object.a.b.z) && !has(object.z)", json!(true)),
        ("object.a.b.c == 1 && object.a.b == {'c': 1, 'd': 'x'}", json!(true)),
        ("object.a.b.c + size(object.a)", json!(3)),
        ("object.n == null && object.?n.hasValue()", json!(true)),
        ("object.?a.?b.?d.orValue('') + object.a['b']['d']", json!("xx")),
        ("object == target && object.a.b.c == 1", json!(true)),
        ("size(object) + object.a.e.size()", json!(6)),
        ("oomKilled(object) && object.kind == 'Pod'", json!(true)),
        ("[object.a].exists(object, object.b.c == 1)", json!(true)),
        ("object.exists(k, k == 'status')", json!(true)),
        ("object[object.a.b.d == 'x' ? 'kind' : 'a']", json!("Pod")),
    ] {
        assert_eq!(evaluate(source, &object), Ok(expected), "{source}");
    }
    for (source, expected) in [
        ("object.a.b.z == 1", "object.a.b.z is absent"),
        ("object.z.y == 1", "object.z is absent"),
        ("object.kind.x == 1", "object.kind is string, which has no fields"),
        ("object.a.e.x == 1", "object.a.e is list, which has no elements at a string"),
    ] {
        let error = evaluate(source, &object).unwrap_err().to_string();
        assert!(error == expected || source.contains(".e.x"), "{source}: {error}");
    }
}

#[test]
fn what_an_expression_reads_of_elements_is_known() {
    let check = |source: &str, expected: &[&str]| {
        let expression = compile(source);
        let found: Vec<String> = expression.elements("object").map(|path| path.join("/")).collect();
        assert_eq!(found, expected, "{source}");
    };
    check("object.map(e, e.data.x)", &["data/x"]);
    check("object.all(e, e.a.b == 1 && has(e['c'].d) && e.?f.orValue(0) == 1)", &["a/b", "c/d", "f"]);
    check("object[0].a + object[size(object) - 1].b", &["a", "b"]);
    check("object[inputs.n].a", &["a"]);
    check("object.exists(i, e, i > 0 && e.a == 1)", &["a"]);
    check("object.map(e, object.filter(e, e.x)[0].y)", &["", "x"]);
    check("size(object) > 1 && object.size() < 3", &[]);
    check("object.map(e, e)", &[""]);
    check("object.filter(e, e.a == 1)", &["", "a"]);
    check("object", &[""]);
    check("object.a.map(e, e.x)", &[]);
    check("cel.bind(o, object, o[0].a)", &[""]);
    check("object.map(e, inputs.l.map(e, e.q))", &[]);
    check("object.map(e, inputs.l.map(f, e.q + f.r))", &["q"]);
    check("object.sortBy(e, e.a)", &[""]);
}

#[test]
fn conjuncts_are_found() {
    let check = |source: &str, expected: &[(&str, Value)]| {
        let expression = compile(source);
        let found: Vec<_> = expression
            .conjuncts()
            .iter()
            .map(|c| (c.path.join("/"), Value::from(c.values.clone())))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(p, v)| ((*p).to_owned(), v.clone())).collect();
        assert_eq!(found, expected, "{source}");
    };
    check("object.reason == 'X' && object.count > 3", &[("object/reason", json!(["X"]))]);
    check(
        "true == object.a && ('b' == object.b && object.c == 1)",
        &[("object/a", json!([true])), ("object/b", json!(["b"])), ("object/c", json!([1]))],
    );
    check(
        "object.a in ['x', 'y'] && object.b['k/l'] == 'z'",
        &[("object/a", json!(["x", "y"])), ("object/b/k/l", json!(["z"]))],
    );
    check("object.a.b && !object.c", &[("object/a/b", json!([true])), ("object/c", json!([false]))]);
    check("object.?a.orValue('') == 'x' && object[?'b'].orValue('y') != 'y'", &[("object/a", json!(["x"]))]);
    // Where it is absent it is the very value.
    check("object.?a.orValue('x') == 'x'", &[]);
    check("object.a == 'x' || object.b == 'y'", &[]);
    check("object.a in ['x', object.b]", &[]);
    check("object.a in ['x', 1, 2u, -1.5]", &[("object/a", json!(["x", 1, 2, -1.5]))]);
    check("object.?a.orValue(1) == 2 && object.?b.orValue(1.0) == 1", &[("object/a", json!([2]))]);
    check("dyn(object.?a) == 'x'", &[]);
    check("object.a != 'x'", &[]);
    check("has(object.a) == true && has(object.b)", &[]);
    check("!has(object.a) && !(object.a == 'x')", &[]);
    check("object.l.exists(x, x.a == 'b')", &[]);
    check("(object.a == 'x' ? true : false) && size(object.b) == 3", &[]);
    check("oomKilled(object) && inputs.on", &[("inputs/on", json!([true]))]);
}

/// Whatever an expression is true for fulfills its conjuncts, over all small objects.
#[test]
fn conjuncts_leave_nothing_out() {
    let large = 9_007_199_254_740_993_u64;
    let values = [
        None,
        Some(json!("x")),
        Some(json!("y")),
        Some(json!(true)),
        Some(json!(false)),
        Some(json!(null)),
        Some(json!(0)),
        Some(json!(-0.0)),
        Some(json!(500)),
        Some(json!(500.0)),
        Some(json!(500.5)),
        Some(json!(large)),
        Some(json!(large - 1)),
        Some(json!(u64::MAX)),
        Some(json!("500")),
    ];
    let sources = [
        "object.a == 'x' && object.b",
        "object.a in ['x', 'y']",
        "!object.a && object.b != 'x'",
        "object.?a.orValue('z') == 'x'",
        "object.?a.orValue('x') == 'x' && object.b == 'y'",
        "object['a'] == 'x' && (object.b == 'x' || true)",
        "true == object.a && has(object.b)",
        "object.a == 500",
        "object.a == 500.0 && object.b == 500u",
        "object.a == 0 && object.b in [0.0, 1, 'x']",
        "object.a == 9007199254740993 || object.b == 9007199254740993",
        "object.a == 9007199254740993",
        "object.a == 9007199254740992.0",
        "object.a == 18446744073709551615u",
        "object.?a.orValue(0.0) == 0",
        "object.?a.orValue(500) == 0",
        "object.a == object.b",
        "object.a == object['b'] && (object.a == 'x' || true)",
        "object.b == object.a || object.a == 'x'",
        "object.?a == object.?b",
    ];
    for source in sources {
        let expression = compile(source);
        for a in &values {
            for b in &values {
                let fields = [("a", a), ("b", b)].into_iter();
                let object: serde_json::Map<String, Value> =
                    fields.filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect();
                let object = Value::Object(object);
                let is_true = expression.matches(&bindings(&object)) == Ok(true);
                let fulfils = expression.conjuncts().iter().all(|conjunct| {
                    object.get(&conjunct.path[1]).is_some_and(|field| conjunct.allows(field))
                });
                assert!(fulfils || !is_true, "{source} is true for {object}");
                let at = |path: &[String]| object.get(&path[1]).map_or(At::Nothing, At::Value);
                assert!(!expression.is_refuted(at) || !is_true, "{source} is true for {object}");
            }
        }
    }
}

#[test]
fn two_fields_that_differ_refute_what_asks_that_they_are_equal() {
    let (object, target) =
        (json!({"a": "x", "n": 1, "l": [1]}), json!({"a": "x", "b": "y", "n": 1.0, "l": [2]}));
    for (source, expected) in [
        ("object.a == target.b", true),
        ("object.a == target.a", false),
        ("object.n == target.n", false),
        ("true && object.a == target.b && object.n > 0", true),
        ("object.a == target.b || true", false),
        ("object.a == target.missing", true),
        ("object.?a == target.?b", false),
        ("object.l == target.l", false),
        ("object.a != target.b", false),
        ("object.a == 'y'", false),
    ] {
        let at = |path: &[String]| {
            let of = if path[0] == "object" { &object } else { &target };
            path[1..].iter().try_fold(of, |value, field| value.get(field)).map_or(At::Nothing, At::Value)
        };
        assert_eq!(compile(source).is_refuted(at), expected, "{source}");
        assert!(!compile(source).is_refuted(|_| At::Unknown), "{source}");
    }
}

#[test]
fn expressions_are_shared_between_threads() {
    fn assert_shared<T: Send + Sync + Clone>(_: &T) {}
    assert_shared(&compile("object.a"));
    assert_shared(&bindings(&sample()));
}
