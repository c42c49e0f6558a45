//! What is found before anything is evaluated: fields that no object has, and types that do not go
//! together; and that nothing is found where an expression can work.

use crate::expr::{Expression, ObjectType, Schemas, Scope, Type};
use serde_json::json;

fn scope(api_version: &str, kind: &str) -> Scope {
    Scope::of(["object", "target", "now"]).with_type("object", schemas().of(api_version, kind))
}

fn schemas() -> Schemas {
    Schemas::built_in().with_crd(&json!({
        "kind": "CustomResourceDefinition",
        "spec": {"group": "example.com", "names": {"kind": "Certificate"}, "versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "issuer": {"type": "object", "properties": {"name": {"type": "string"}}},
                    "port": {"x-kubernetes-int-or-string": true},
                    "ratio": {"type": "number"},
                    "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "hosts": {"type": "array", "items": {"type": "string"}},
                    "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                }},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                           "properties": {"ready": {"type": "boolean"}}},
            }}}},
            {"name": "v1alpha1", "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        ]},
    }))
}

/// The source with what each mistake is about between `>` and `<`, and the messages.
fn mistakes(source: &str, scope: &Scope) -> Vec<String> {
    let compiled = Expression::compile(source, scope).and_then(|it| it.expect(&Type::Bool));
    let errors = compiled.err().unwrap_or_default();
    errors.iter().map(|error| format!("{} | {error}", &source[error.span.clone()])).collect()
}

#[track_caller]
fn check(scope: &Scope, table: &[(&str, &str)]) {
    let found: Vec<_> = table.iter().map(|(source, _)| (*source, mistakes(source, scope))).collect();
    let expected: Vec<_> =
        table.iter().map(|(source, expected)| (*source, vec![(*expected).to_owned()])).collect();
    let differ: Vec<_> = found.iter().zip(&expected).filter(|(found, expected)| found != expected).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn unknown_fields_are_found_where_they_stand() {
    check(
        &scope("v1", "Pod"),
        &[
            (
                "object.status.phse == 'Failed'",
                "phse | PodStatus has no field \"phse\"; did you mean \"phase\"?",
            ),
            (
                "object.status.containerStatuses.exists(c, c.restartCuont > 5)",
                "restartCuont | ContainerStatus has no field \"restartCuont\"; did you mean \"restartCount\"?",
            ),
            (
                "object[\"stauts\"] != null",
                "object[\"stauts\"] | Pod has no field \"stauts\"; did you mean \"status\"?",
            ),
            (
                "object.status.containerStatuses[0].nme == 'a'",
                "nme | ContainerStatus has no field \"nme\"; did you mean \"name\"?",
            ),
            (
                "object.status.containerStatuses.name == 'a'",
                "object.status.containerStatuses.name | object.status.containerStatuses is list, which has no fields; did you mean one of its elements?",
            ),
            (
                "object.status.containerStatuses.all(i, c, c.nope == i)",
                "nope | ContainerStatus has no field \"nope\"",
            ),
            ("cel.bind(s, object.status, s.nope == 1)", "nope | PodStatus has no field \"nope\""),
            (
                "object.metadata.name.first == 'a'",
                "object.metadata.name.first | object.metadata.name is string, which has no fields",
            ),
            (
                "object.spec.containers.map(c, c.imge)[0] == 'a'",
                "imge | Container has no field \"imge\"; did you mean \"image\"?",
            ),
        ],
    );
    check(
        &scope("example.com/v1", "Certificate"),
        &[
            (
                "object.spec.issur.name == 'a'",
                "issur | Certificate.spec has no field \"issur\"; did you mean \"issuer\"?",
            ),
            (
                "object.metadata.lables.size() == 0",
                "lables | ObjectMeta has no field \"lables\"; did you mean \"labels\"?",
            ),
            ("object.spec.hosts.exists(h, h > 3)", "h > 3 | h is string, compared with int"),
            (
                "object.status.ready == 'True'",
                "object.status.ready == 'True' | object.status.ready is bool, compared with string",
            ),
        ],
    );
}

/// A pack may be written for two versions of a kind: a field that one of them lacks is asked for before it is read.
#[test]
fn a_field_that_is_asked_for_is_doubted_and_not_refused() {
    let scope = scope("v1", "Pod")
        .with_type("inputs", Type::Object(ObjectType::given("inputs", [("replicas".to_owned(), Type::Int)])));
    for (source, doubted) in [
        ("has(object.spec.nodename)", &["PodSpec.nodename; did you mean \"nodeName\"?"][..]),
        ("has(object.status.brandNew) && object.status.brandNew > 3", &["PodStatus.brandNew"; 2]),
        ("!has(object.status.brandNew) || object.status.brandNew > 3", &["PodStatus.brandNew"; 2]),
        ("has(object.status.brandNew) ? object.status.brandNew.of > 3 : false", &["PodStatus.brandNew"; 2]),
        ("object.?status.?brandNew.orValue('') == ''", &["PodStatus.brandNew"]),
        ("object.?status.brandNew.?of.orValue('') == ''", &["PodStatus.brandNew"]),
        ("object.status[?'brandNew'].orValue('') == ''", &["PodStatus.brandNew"]),
        ("'brandNew' in object.status && object.status.brandNew > 3", &["PodStatus.brandNew"]),
        (
            "object.spec.containers.filter(c, has(c.brandNew)).exists(c, c.brandNew > 3)",
            &["Container.brandNew"; 2],
        ),
        ("has(object.spec.nodeName) && object.?spec.?priority.orValue(0) > 3", &[]),
    ] {
        let compiled = Expression::compile(source, &scope).expect(source);
        let told: Vec<String> = compiled.doubts().iter().map(ToString::to_string).collect();
        let expected: Vec<String> = doubted.iter().map(|doubt| in_words(doubt)).collect();
        assert_eq!(told, expected, "{source}");
    }
    check(
        &scope,
        &[
            (
                "has(object.status.brandNew) && object.spec.brandNew > 3",
                "brandNew | PodSpec has no field \"brandNew\"",
            ),
            // There is one version of what a rule itself declares.
            ("has(inputs.replica)", "replica | inputs has no field \"replica\"; did you mean \"replicas\"?"),
        ],
    );
}

/// `PodStatus.brandNew; …`, as a message says it.
fn in_words(doubt: &str) -> String {
    let (field, hint) = doubt.split_once(';').unwrap_or((doubt, ""));
    let (object, name) = field.split_once('.').unwrap();
    let hint = if hint.is_empty() { String::new() } else { format!(";{hint}") };
    format!("{object} has no field {name:?}{hint}")
}

#[expect(clippy::too_many_lines, reason = "one table")]
#[test]
fn types_that_do_not_go_together_are_found() {
    check(
        &scope("v1", "Pod"),
        &[
            (
                "object.status.phase > 3",
                "object.status.phase > 3 | object.status.phase is string, compared with int",
            ),
            (
                "object.status.phase == 3",
                "object.status.phase == 3 | object.status.phase is string, compared with int",
            ),
            (
                "object.status.phase && true",
                "object.status.phase | object.status.phase is string, not a bool",
            ),
            ("!object.metadata.name", "object.metadata.name | object.metadata.name is string, not a bool"),
            (
                "object.metadata.name ? true : false",
                "object.metadata.name | object.metadata.name is string, not a bool",
            ),
            (
                "object.metadata.generation",
                "object.metadata.generation | object.metadata.generation is int, not bool",
            ),
            (
                "object.metadata.creationTimestamp < now",
                "object.metadata.creationTimestamp < now | object.metadata.creationTimestamp is string, compared with timestamp; timestamp() reads a time",
            ),
            (
                "now - timestamp(object.metadata.creationTimestamp) > 300",
                "now - timestamp(object.metadata.creationTimestamp) > 300 | now - timestamp(object.metadata.creationTimestamp) is duration, compared with int",
            ),
            (
                "object.metadata.generation + 1.5 > 2.0",
                "object.metadata.generation + 1.5 | object.metadata.generation is int, added to double",
            ),
            (
                "object.metadata.name + 1 == 'a'",
                "object.metadata.name + 1 | object.metadata.name is string, added to int",
            ),
            (
                "-object.metadata.name == 'a'",
                "-object.metadata.name | object.metadata.name is string, not a number",
            ),
            (
                "object.?status.?phase == 'Failed'",
                "object.?status.?phase == 'Failed' | object.?status.?phase is optional, compared with string; orValue() gives the value of an optional",
            ),
            (
                "object.?status.?phase.startsWith('F')",
                "object.?status.?phase.startsWith('F') | object.?status.?phase is optional, which has no startsWith(string); orValue() gives its value",
            ),
            (
                "object.metadata.generation.startsWith('1')",
                "object.metadata.generation.startsWith('1') | object.metadata.generation is int, which has no startsWith(string)",
            ),
            (
                "object.metadata.name.startsWith(1)",
                "object.metadata.name.startsWith(1) | startsWith does not take int; it takes string",
            ),
            (
                "crashLooping(object, '3', duration('10m'))",
                "crashLooping(object, '3', duration('10m')) | crashLooping does not take Pod, string, duration; it takes Pod, int, duration",
            ),
            (
                "crashLooping(object.status, 3, duration('10m'))",
                "crashLooping(object.status, 3, duration('10m')) | crashLooping does not take PodStatus, int, duration; it takes Pod, int, duration",
            ),
            (
                "rolloutComplete(object)",
                "rolloutComplete(object) | rolloutComplete does not take Pod; it takes Deployment or StatefulSet or DaemonSet",
            ),
            (
                "object.metadata.name in [1, 2]",
                "object.metadata.name in [1, 2] | object.metadata.name is string, looked for among int",
            ),
            (
                "'a' in object.metadata.generation",
                "object.metadata.generation | object.metadata.generation is int, not a list or map",
            ),
            (
                "object.metadata.name.exists(x, x == 'a')",
                "object.metadata.name | object.metadata.name is string, not a list or map",
            ),
            (
                "object.spec.containers['a'].name == 'b'",
                "object.spec.containers['a'] | object.spec.containers is list, which has no elements at a string",
            ),
            ("[1, 2].indexOf('a') == 0", "[1, 2].indexOf('a') | indexOf does not take string"),
            (
                "sets.contains(['a'], [1])",
                "sets.contains(['a'], [1]) | sets.contains does not take list, list",
            ),
            (
                "quantity('1Gi') > 5",
                "quantity('1Gi') > 5 | quantity('1Gi') is quantity, compared with int; quantity() reads an amount",
            ),
            ("ip('::1') == '::1'", "ip('::1') == '::1' | ip('::1') is ip, compared with string"),
        ],
    );
    check(
        &scope("apps/v1", "Deployment"),
        &[
            (
                "notReadyFor(object, duration('5m'))",
                "notReadyFor(object, duration('5m')) | notReadyFor does not take Deployment, which has no condition Ready; condition() reads those that it has",
            ),
            ("oomKilled(object)", "oomKilled(object) | oomKilled does not take Deployment; it takes Pod"),
        ],
    );
}

/// Everything here can work, for some object.
#[expect(clippy::too_many_lines, reason = "one table")]
#[test]
fn what_can_work_is_not_refused() {
    let pods = [
        "has(object.status) && has(object.status.phase) && object.status.phase == 'Failed'",
        "object.?status.?containerStatuses.orValue([]).exists(c, c.?state.?waiting.?reason.orValue('') == 'X')",
        "object.status.containerStatuses.exists(c, c.?state.?terminated.?exitCode.orValue(0) == 65)",
        "!object.metadata.?ownerReferences.orValue([]).exists(o, o.kind == 'Job')",
        "object.metadata.?labels['app'].orValue('') == 'web'",
        "object.metadata.labels['app.kubernetes.io/name'] in ['a', 'b']",
        "object.metadata.labels.app.startsWith('web')",
        "'app' in object.metadata.labels",
        "object.metadata.labels.exists(k, object.metadata.labels[k] == 'x')",
        "object.metadata.labels.exists(k, v, k.startsWith('a') && v == 'x')",
        "object.metadata.labels.transformMap(k, v, v.size()).size() > 3",
        "object.status.conditions.filter(c, c.type == 'Ready')[0].status == 'True'",
        "object.status.conditions.filter(c, c.type == 'Ready').first().?status.orValue('') != 'True'",
        "timestamp(object.status.conditions.filter(c, c.type == 'Ready')[0].lastTransitionTime) < now",
        "object.metadata.deletionTimestamp == null",
        "object.spec.containers[0].resources.limits.memory == '1Gi'",
        "quantity(object.spec.containers[0].resources.limits['memory']) < quantity('512Mi')",
        "object.spec.containers[0].resources.requests.cpu == 2 || object.spec.containers[0].resources.requests.cpu == '2'",
        "object.spec.containers.map(c, c.image).exists(i, i.matches('^x')) && size(object.spec.containers) > 0",
        "object.spec.containers.all(c, c.ports.all(p, p.containerPort > 1024))",
        "object.spec.containers[0].livenessProbe.httpGet.port == 'http' || object.spec.containers[0].livenessProbe.httpGet.port == 80",
        "object.metadata.annotations['x'] == 'y' ? object.status.phase == 'a' : true",
        "(object.metadata.name == 'a' ? 1 : 2) == 2",
        "type(object.metadata.generation) == int && type(now) == google.protobuf.Timestamp",
        "[object.metadata.name, object.metadata.generation].exists(x, x == 'a')",
        "object.metadata.generation > 1.5 && double(object.metadata.generation) / 2.0 < 7.0",
        "math.greatest(object.metadata.generation, 3) > 2 && math.greatest([1, 2]) == 2",
        "object.spec.?priority.optMap(p, p + 1).orValue(0) > 5",
        "object == target && target.anything.at.all == 5",
        "cel.bind(c, object.status.containerStatuses[0], c.ready || c.restartCount > 3)",
        "[1, 2, 3].sum() + size('abc') > object.metadata.generation",
        "object.spec.containers.sortBy(c, c.name)[0].name == 'a'",
        "now.getHours() > 8 && (now - duration('5m')) > timestamp('2026-01-01T00:00:00Z')",
        "dyn(object).of.a.later.version == 1",
        "crashLooping(object, 3, duration('10m')) || notReadyFor(object, duration('5m')) || oomKilled(object)",
        "condition(object, 'Ready') == 'False' && unschedulable(object) && imagePullFailing(object)",
        "[[1], []].flatten().size() == 1 && [].map(x, x).size() == 0",
        "{'a': 1}.a == 1 && {'a': object.metadata.name}['a'].size() > 0",
        "object.metadata.managedFields[0].fieldsV1.anything.x == 1",
        "'%s %d'.format([object.metadata.name, 3]) == ''",
        "optional.of(object.metadata.name).value() == 'a' || optional.none().hasValue()",
        "[?object.?metadata.?name, 'b'].exists(x, x.startsWith('a'))",
        "url('https://x/').getQuery()['a'].exists(q, q == '1')",
    ];
    let certificates = [
        "object.spec.port == 80 || object.spec.port == 'http'",
        "object.spec.ratio > 0.5 && object.spec.ratio < 3",
        "object.spec.extra.anything.at.all == 1",
        "object.spec.limits.cpu > 3 && object.spec.limits['x'] == 2",
        "object.status.ready && object.status.other == 'x'",
        "object.metadata.labels.app == 'web'",
        "notReadyFor(object, duration('5m')) && condition(object, 'Ready') == 'False'",
    ];
    let kinds: [(&str, &str, &[&str]); 5] = [
        ("v1", "Pod", &pods),
        ("example.com/v1", "Certificate", &certificates),
        ("example.com/v1alpha1", "Certificate", &["object.what.ever > 3"]),
        ("example.org/v1", "Unknown", &["object.what.ever > 3 && rolloutComplete(object)"]),
        (
            "apps/v1",
            "Deployment",
            &[
                "rolloutComplete(object) && !rolledOutWithin(object, duration('15m'))",
                "object.spec.strategy.rollingUpdate.maxSurge == '25%' || object.spec.strategy.rollingUpdate.maxSurge == 1",
                "object.status.replicas < object.spec.replicas",
                "object.metadata.generation != object.status.observedGeneration",
            ],
        ),
    ];
    for (api_version, kind, sources) in kinds {
        for source in sources {
            assert_eq!(mistakes(source, &scope(api_version, kind)), [""; 0], "{source} of {kind}");
        }
    }
}

#[test]
fn fields_that_only_grow_are_known_where_more_is_asked_of_them() {
    for (source, expected) in [
        ("object.status.containerStatuses.exists(c, c.restartCount > 5)", &["restartCount"][..]),
        ("3 <= object.metadata.generation && object.status.phase == 'x'", &["generation"]),
        ("object.?series.?count.orValue(0) >= 3", &["count"]),
        ("object.metadata.generation > object.status.observedGeneration", &[]),
        ("!(object.metadata.generation > 3)", &[]),
        ("object.metadata.generation < 3 || object.metadata.generation == 5", &[]),
    ] {
        let expression = Expression::compile(source, &Scope::of(["object"])).expect(source);
        let found: Vec<&str> =
            expression.lower_bounds().iter().map(|bound| &source[bound.span.clone()]).collect();
        assert_eq!(found, expected, "{source}");
    }
}
