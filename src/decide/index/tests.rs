//! The index against evaluating every rule.

use super::*;
use crate::decide::matching::envelope;
use crate::expr::Bindings;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A rule's trigger and condition.
type Text = (Value, Option<String>);

fn rule(trigger: &Value, when: Option<&str>) -> CompiledRule {
    let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": trigger, "when": when});
    let spec = serde_json::from_value(spec).expect("a spec");
    CompiledRule::of(&spec, "a", "r", NOW).unwrap_or_else(|problems| panic!("{when:?}: {problems:?}"))
}

fn matches(rule: &CompiledRule, object: &Arc<Value>) -> bool {
    if rule.spec.trigger.event.is_some() {
        rule.matches_event(object, NOW) == Ok(true)
    } else {
        matches!(rule.matches_object(object, NOW), Ok(Some(_)))
    }
}

/// One term of a condition, over `{}`, which stands for the object.
fn terms() -> impl Strategy<Value = String> {
    let paths = vec![
        "reason",
        "type",
        "note",
        "status.phase",
        "regarding.kind",
        "metadata['name']",
        "metadata.labels.tier",
    ];
    let comparisons = vec![
        "{}.PATH == 'x'",
        "'y' == {}.PATH",
        "{}.PATH in ['x', 'y']",
        "{}.PATH in []",
        "{}.PATH in ['x', 'x']",
        "{}.PATH",
        "!{}.PATH",
        "{}.PATH == true",
        "{}.PATH != 'x'",
        "has({}.PATH)",
        "{}.PATH == 'x' || {}.reason == 'y'",
        "({}.PATH == 'x' ? {}.note : true)",
        "{}.PATH == 1",
        "size({}.PATH) == 1",
        "{}.PATH > 'w'",
        "true",
    ];
    let optional =
        vec!["{}.?PATH.orValue('z') == 'x'", "{}.?PATH.orValue('x') == 'x'", "{}.?PATH.orValue(true)"];
    let plain = (select(comparisons), select(paths)).prop_map(|(term, path)| {
        let term = if path.contains('[') {
            term.replace("has({}.PATH)", "has({}.metadata)")
        } else {
            term.to_owned()
        };
        term.replace("PATH", path)
    });
    let optional = (select(optional), select(vec!["reason", "note", "status"]))
        .prop_map(|(term, path)| term.replace("PATH", path));
    prop_oneof![4 => plain, 1 => optional]
}

fn whens(object: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(terms(), 1..4).prop_map(move |terms| {
        let terms: Vec<_> = terms.iter().map(|term| format!("({})", term.replace("{}", object))).collect();
        terms.join(" && ")
    })
}

fn resource_rules() -> impl Strategy<Value = Text> {
    let selectors = vec![
        Value::Null,
        json!({"matchLabels": {"tier": "x"}}),
        json!({"matchLabels": {"tier": "y", "app.kubernetes.io/name": "x"}}),
        json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["x", "z"]}]}),
        json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}),
        json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}, {"key": "gone", "operator": "DoesNotExist"}]}),
    ];
    (select(selectors), whens("object")).prop_map(|(selector, when)| {
        let trigger = json!({"resource": {"apiVersion": "v1", "kind": "Pod", "labelSelector": selector}});
        (trigger, Some(when))
    })
}

fn event_rules() -> impl Strategy<Value = Text> {
    let text = || prop::option::of(select(vec!["x", "y"]));
    let reasons = prop::collection::vec(select(vec!["x", "y", "z"]), 0..3);
    let of_envelope =
        select(vec!["event.type == 'x'", "event.source == 'events.k8s.io'", "event.id == 'u/0'"]);
    let when =
        prop::option::of(prop_oneof![4 => whens("event.data"), 1 => of_envelope.prop_map(str::to_owned)]);
    (text(), text(), reasons, when).prop_map(|(kind, event_type, reasons, when)| {
        (json!({"event": {"type": event_type, "reasons": reasons, "regardingKind": kind}}), when)
    })
}

/// Fields that are absent, of every type, and of the values that are asked for.
fn fields() -> impl Strategy<Value = Option<Value>> {
    let odd = vec![
        json!(null),
        json!(1),
        json!([]),
        json!(["x"]),
        json!({"x": true}),
        json!({"phase": "x", "kind": "x"}),
    ];
    prop_oneof![
        2 => Just(None),
        5 => select(vec![json!("x"), json!("y"), json!("")]).prop_map(Some),
        2 => any::<bool>().prop_map(|truth| Some(json!(truth))),
        2 => select(odd).prop_map(Some),
    ]
}

fn objects() -> impl Strategy<Value = Arc<Value>> {
    let parts = vec![
        "/reason",
        "/type",
        "/note",
        "/status/phase",
        "/regarding/kind",
        "/metadata/name",
        "/metadata/labels/tier",
        "/metadata/labels/app.kubernetes.io~1name",
        "/status",
        "/metadata/labels",
    ];
    prop::collection::vec(fields(), parts.len()).prop_map(move |values| {
        let mut object = json!({"metadata": {"uid": "u", "labels": {}}, "status": {}, "regarding": {}});
        for (pointer, value) in parts.iter().zip(values) {
            // The last two replace all that is below, and so not always.
            let whole = matches!(*pointer, "/status" | "/metadata/labels");
            let Some(value) = value.filter(|value| !whole || value.is_number() || value.is_array()) else {
                continue;
            };
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            let parent = if parent.is_empty() { Some(&mut object) } else { object.pointer_mut(parent) };
            parent.expect("there")[field.replace("~1", "/")] = value;
        }
        Arc::new(object)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_matches_is_found(
        rules in prop::collection::vec(prop_oneof![resource_rules(), event_rules()], 1..20),
        gone in prop::collection::vec(any::<bool>(), 20),
        objects in prop::collection::vec(objects(), 1..20),
    ) {
        let mut index = Index::default();
        let rules = rules.iter().map(|(trigger, when)| rule(trigger, when.as_deref()));
        let mut rules: BTreeMap<u64, _> = (0..).zip(rules).collect();
        for (id, rule) in &rules {
            index.insert(*id, conditions(rule));
        }
        rules.retain(|id, _| !gone[usize::try_from(*id).expect("small")]);
        for id in (0..20).filter(|id| !rules.contains_key(id)) {
            index.remove(id);
        }
        for object in objects {
            let found: BTreeSet<u64> = index.candidates(&object).into_iter().chain(index.always().clone()).collect();
            let matching = |id: &u64| matches(&rules[id], &object);
            let naive: Vec<_> = rules.keys().copied().filter(matching).collect();
            let indexed: Vec<_> = found.iter().copied().filter(matching).collect();
            prop_assert_eq!(indexed, naive, "{}", object);
        }
        for id in rules.keys() {
            index.remove(*id);
        }
        prop_assert!(index.root.is_empty() && index.rules.is_empty() && index.always.is_empty());
    }
}

proptest! {
    /// `matches_event` hands an expression no more of the envelope than it reads.
    #[test]
    fn an_excerpt_gives_the_same_answer(when in whens("event.data"), objects in prop::collection::vec(objects(), 1..8)) {
        let rule = rule(&json!({"event": {}}), Some(&when));
        for object in objects {
            let whole = Bindings::at(NOW).with("event", envelope(&object));
            let answer = rule.when().expect("there").matches(&whole);
            prop_assert_eq!(rule.matches_event(&object, NOW), answer, "{} over {}", when, object);
        }
    }
}

#[test]
fn an_object_is_shown_to_few_of_many_rules() {
    let mut index = Index::default();
    for id in 0..1000 {
        // The condition that they share comes first; what tells them apart may be a condition or a label.
        let (condition, trigger) = if id % 2 == 0 {
            (format!("object.metadata.name == 'n{id}'"), json!({"apiVersion": "v1", "kind": "Pod"}))
        } else {
            let selector = json!({"matchLabels": {"app": format!("n{id}")}});
            ("true".to_owned(), json!({"apiVersion": "v1", "kind": "Pod", "labelSelector": selector}))
        };
        let when = format!("object.status.phase == 'Failed' && {condition} && object.count > 3");
        index.insert(id, conditions(&rule(&json!({"resource": trigger}), Some(&when))));
    }
    let pod = |name: &str, app: &str, phase: &str| json!({"metadata": {"name": name, "labels": {"app": app}}, "status": {"phase": phase}});
    assert_eq!(index.candidates(&pod("n8", "n7", "Failed")), [7, 8]);
    assert_eq!(index.candidates(&pod("n8", "n7", "Running")), [0; 0]);
    assert_eq!(index.candidates(&pod("n7", "n8", "Failed")), [0; 0]);
    assert_eq!(index.root.crowd(&["status".into(), "phase".into()], &["Failed".into()]), 1, "only the first");
    assert!(index.always().is_empty());
}

#[test]
fn a_rule_without_an_equality_is_always_found() {
    let mut index = Index::default();
    let trigger = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
    index.insert(1, conditions(&rule(&trigger, Some("object.count > 3"))));
    index.insert(2, conditions(&rule(&trigger, Some("object.reason == 'x' || object.reason == 'y'"))));
    index.insert(3, conditions(&rule(&json!({"event": {}}), None)));
    assert_eq!(index.always(), &BTreeSet::from([1, 2, 3]));
    index.insert(3, conditions(&rule(&json!({"event": {"reasons": ["x"]}}), None)));
    assert_eq!((index.always().len(), index.candidates(&json!({"reason": "x"}))), (2, vec![3]));
}
