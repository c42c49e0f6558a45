//! The index against evaluating every rule.

use super::*;
use crate::api::{AlertState, TriggerEvent};
use crate::decide::interest::wants;
use crate::decide::matching::{envelope, received as received_as};
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
    let mut spec =
        json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": trigger, "when": when});
    if trigger.get("alert").or(trigger.get("webhook")).is_some() {
        spec["target"] = json!({"key": "event.id"});
    }
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

/// As it is evaluated, whatever could be known before.
fn matches_received(rule: &CompiledRule, (event, alert): &(TriggerEvent, Option<AlertState>)) -> bool {
    let bindings = received_as(&json!(event), &rule.spec.trigger, NOW);
    let answer = rule.when().is_none_or(|when| when.matches(&bindings) == Ok(true));
    assert_eq!(rule.matches_received(event, NOW) == Ok(true), answer, "{:?} over {event:?}", rule.spec.when);
    answer && wants(&rule.spec.trigger, event, alert.as_ref())
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
        "{}.PATH == 1.0",
        "{}.PATH in [1u, 'x', 2.5]",
        "{}.PATH == 9007199254740993",
        "size({}.PATH) == 1",
        "{}.PATH > 'w'",
        "true",
    ];
    let optional = vec![
        "{}.?PATH.orValue('z') == 'x'",
        "{}.?PATH.orValue('x') == 'x'",
        "{}.?PATH.orValue(true)",
        "{}.?PATH.orValue(1.0) == 1",
    ];
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
        json!(1.0),
        json!(2.5),
        json!(9_007_199_254_740_993_u64),
        json!(9_007_199_254_740_992_u64),
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

fn received_rules() -> impl Strategy<Value = Text> {
    let names = || prop::collection::vec(select(vec!["x", "y", "z"]), 0..3);
    let of_envelope = vec![
        "event.type == 'x'",
        "event.source in ['x', 'z']",
        "event.id == '1' && event.data.reason == 'x'",
        "event.data.labels['tier'] == 'x'",
    ];
    let of_event = prop_oneof![2 => whens("event.data"), 1 => select(of_envelope).prop_map(str::to_owned)];
    let of_alert = prop_oneof![
        2 => whens("alert"),
        1 => select(vec!["alert.labels.tier == 'x'", "event.data.labels.tier in ['y']"]).prop_map(str::to_owned),
    ];
    let alert = (names(), prop::option::of(of_alert))
        .prop_map(|(names, when)| (json!({"alert": {"webhook": "w", "names": names}}), when));
    let event = (names(), prop::option::of(of_event))
        .prop_map(|(types, when)| (json!({"webhook": {"name": "w", "types": types}}), when));
    prop_oneof![alert, event]
}

/// Alerts, and events of other kinds.
fn received() -> impl Strategy<Value = (TriggerEvent, Option<AlertState>)> {
    let name = || select(vec!["x", "y", "other"]);
    (any::<bool>(), name(), name(), objects(), [fields(), fields()]).prop_map(
        |(is_alert, event_type, source, data, labels)| {
            let mut data = Value::clone(&data);
            let labels = ["alertname", "tier"].into_iter().zip(labels);
            data["labels"] = labels.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
            let event = json!({"id": "1", "source": source, "type": event_type, "time": NOW.to_string(), "data": data});
            let alert = json!({"fingerprint": "f", "startsAt": NOW.to_string()});
            let alert = is_alert.then(|| serde_json::from_value(alert).expect("an alert"));
            (serde_json::from_value(event).expect("an event"), alert)
        },
    )
}

/// Rules that come, are written anew, and go.
fn changes(rules: impl Strategy<Value = Text>) -> impl Strategy<Value = Vec<(u64, Option<Text>)>> {
    prop::collection::vec((0..12_u64, prop::option::weighted(0.8, rules)), 1..30)
}

/// An index and the rules that are in it, after changes.
fn after(changes: Vec<(u64, Option<Text>)>) -> (Index, BTreeMap<u64, CompiledRule>) {
    let (mut index, mut rules) = (Index::default(), BTreeMap::new());
    for (id, change) in changes {
        if let Some((trigger, when)) = change {
            let rule = rule(&trigger, when.as_deref());
            index.insert(id, conditions(&rule));
            rules.insert(id, rule);
        } else {
            index.remove(id);
            rules.remove(&id);
        }
    }
    (index, rules)
}

fn found(index: &Index, object: &Value) -> BTreeSet<u64> {
    index.candidates(object).into_iter().chain(index.always().clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_matches_is_found(
        changes in changes(prop_oneof![resource_rules(), event_rules()]),
        objects in prop::collection::vec(objects(), 1..20),
    ) {
        let (mut index, rules) = after(changes);
        for object in objects {
            let matching = |id: &u64| matches(&rules[id], &object);
            let naive: Vec<_> = rules.keys().copied().filter(matching).collect();
            let indexed: Vec<_> = found(&index, &object).into_iter().filter(matching).collect();
            prop_assert_eq!(indexed, naive, "{}", object);
        }
        for id in rules.keys() {
            index.remove(*id);
        }
        prop_assert!(index.root.is_empty() && index.rules.is_empty() && index.always.is_empty());
    }

    #[test]
    fn whatever_matches_what_a_webhook_received_is_found(
        changes in changes(received_rules()),
        all in prop::collection::vec(received(), 1..20),
    ) {
        let (index, rules) = after(changes);
        for one in all {
            let matching = |id: &u64| matches_received(&rules[id], &one);
            let naive: Vec<_> = rules.keys().copied().filter(matching).collect();
            let indexed: Vec<_> = found(&index, &json!(one.0)).into_iter().filter(matching).collect();
            prop_assert_eq!(indexed, naive, "{:?}", one);
        }
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
fn what_a_webhook_receives_is_shown_to_few_of_many_rules() {
    let mut index = Index::default();
    let alerts = |names: &[&str]| json!({"alert": {"webhook": "w", "names": names}});
    let events = |types: &[&str]| json!({"webhook": {"name": "w", "types": types}});
    for (id, (trigger, when)) in (0..).zip([
        (alerts(&["Full"]), None),
        (alerts(&[]), Some("alert.labels.team == 'a'")),
        (alerts(&["Full"]), Some("event.data.labels.team == 'b'")),
        (events(&["push"]), Some("event.data.repository.name == 'shop'")),
        (events(&[]), Some("event.type == 'push' && event.source == 'other'")),
        (events(&["tag"]), None),
    ]) {
        index.insert(id, conditions(&rule(&trigger, when)));
    }
    assert!(index.always().is_empty());
    let alert = |name: &str, team: &str| json!({"type": "alert.firing", "data": {"labels": {"alertname": name, "team": team}}});
    assert_eq!(index.candidates(&alert("Full", "a")), [0, 1]);
    assert_eq!(index.candidates(&alert("Full", "b")), [0, 2]);
    assert_eq!(index.candidates(&alert("Other", "b")), [0; 0]);
    let event =
        |of: &str, name: &str| json!({"type": of, "source": "s", "data": {"repository": {"name": name}}});
    assert_eq!(index.candidates(&event("push", "shop")), [3]);
    assert_eq!(index.candidates(&event("push", "till")), [0; 0]);
    assert_eq!(index.candidates(&event("tag", "till")), [5]);
}

#[test]
fn numbers_are_found_by_their_value() {
    let mut index = Index::default();
    let trigger = json!({"webhook": {"name": "w"}});
    for (id, when) in (0..).zip(["== 500", "== 500.0", "== 500u", "== 501", "in [404, 500]", "== '500'"]) {
        index.insert(id, conditions(&rule(&trigger, Some(&format!("event.data.status {when}")))));
    }
    assert!(index.always().is_empty());
    let answered = |status: Value| index.candidates(&json!({"data": {"status": status}}));
    for status in [json!(500), json!(500.0)] {
        assert_eq!(answered(status), [0, 1, 2, 4]);
    }
    assert_eq!(
        (answered(json!(501)), answered(json!("500")), answered(json!(200))),
        (vec![3], vec![5], vec![])
    );
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
