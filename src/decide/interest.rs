//! Which Rules may match what a Webhook receives, and what of it they read: what nobody wants is not kept.
//!
//! An event is wanted by the Rules that may match it, found by an [`Index`]. An alert is a state, and wanted by all that are
//! about its name, whatever their `when` says: a Rule whose `when` is mended hears of what still fires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::execution::rung;
use super::index::{self, Index};
use super::matching::CompiledRule;
use crate::api::{AlertState, Rule, Trigger, TriggerEvent};
use crate::expr::{Conjunct, Expression, Scope, TemplateTree};

/// What of an alert is always kept: what tells it from others, which is also what a Rule goes by that is mended while it
/// fires.
const OF_ALERTS: [&str; 5] = ["status", "fingerprint", "startsAt", "endsAt", "labels"];

/// What one Rule wants of a Webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Interest {
    /// Namespace of Rule and Webhook.
    pub namespace: String,
    /// Name of the Rule.
    pub rule: String,
    /// Name of the Webhook.
    pub webhook: String,
    trigger: Trigger,
    /// What has to hold of an event.
    conditions: Vec<Conjunct>,
    paths: BTreeSet<Vec<String>>,
}

impl Interest {
    /// What a Rule wants; none if it listens to no Webhook, or does not compile.
    pub fn of(rule: &Rule) -> Option<Self> {
        let trigger = &rule.spec.trigger;
        let webhook = trigger.webhook_name()?.to_owned();
        let namespace = rule.namespace().unwrap_or_default();
        let compiled =
            CompiledRule::of(&rule.spec, &namespace, &rule.name_any(), Timestamp::UNIX_EPOCH).ok()?;
        let mut paths: BTreeSet<_> = compiled.expressions().flat_map(data_paths).collect();
        for rung in &rule.spec.ladder {
            let tree = TemplateTree::compile(&rung.with.to_value(), &Scope::of(rung::VARIABLES)).ok()?;
            paths.extend(tree.expressions().into_iter().flat_map(data_paths));
        }
        if trigger.alert.is_some() {
            paths.extend(OF_ALERTS.map(|member| vec![member.to_owned()]));
        }
        let conditions = match &trigger.alert {
            Some(alert) => index::names(alert),
            None => index::conditions(&compiled),
        };
        Some(Self { namespace, rule: rule.name_any(), webhook, trigger: trigger.clone(), conditions, paths })
    }
}

/// What the Rules of one Webhook want.
#[derive(Debug, Default)]
pub struct Listeners {
    index: Index,
    by_id: BTreeMap<u64, Arc<Interest>>,
    by_name: BTreeMap<String, u64>,
    next: u64,
}

impl Listeners {
    /// Takes in what a Rule wants, in place of what it wanted.
    pub fn insert(&mut self, mut interest: Interest) {
        let id = self.remove(&interest.rule).unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.index.insert(id, std::mem::take(&mut interest.conditions));
        self.by_name.insert(interest.rule.clone(), id);
        self.by_id.insert(id, Arc::new(interest));
    }

    /// Forgets a Rule, known or not.
    pub fn remove(&mut self, rule: &str) -> Option<u64> {
        let id = self.by_name.remove(rule)?;
        self.index.remove(id);
        self.by_id.remove(&id);
        Some(id)
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The names of the Rules.
    pub fn rules(&self) -> impl Iterator<Item = &String> {
        self.by_name.keys()
    }

    /// Those that may match an event, by name.
    pub fn wanting(&self, event: &TriggerEvent, alert: Option<&AlertState>) -> Vec<Arc<Interest>> {
        let found =
            self.index.candidates(&json!(event)).into_iter().chain(self.index.always().iter().copied());
        let found = found.filter_map(|id| self.by_id.get(&id));
        let mut wanting: Vec<_> =
            found.filter(|interest| wants(&interest.trigger, event, alert)).cloned().collect();
        wanting.sort_by(|a, b| a.rule.cmp(&b.rule));
        wanting
    }
}

/// Whether a trigger may match an event of its Webhook: by the name of the alert, or the type of the event.
pub fn wants(trigger: &Trigger, event: &TriggerEvent, alert: Option<&AlertState>) -> bool {
    let is_among = |all: &[String], one: Option<&str>| {
        all.is_empty() || one.is_some_and(|one| all.iter().any(|name| name == one))
    };
    match (&trigger.alert, &trigger.webhook, alert) {
        (Some(trigger), _, Some(_)) => {
            is_among(&trigger.names, event.data.0.pointer("/labels/alertname").and_then(Value::as_str))
        }
        (None, Some(trigger), None) => is_among(&trigger.types, Some(&event.event_type)),
        _ => false,
    }
}

/// What an expression reads below the data of an event; the empty path is all of it.
fn data_paths(expression: &Expression) -> Vec<Vec<String>> {
    let below = |path: &[String]| match path {
        [variable, rest @ ..] if variable == "alert" => Some(rest.to_vec()),
        [variable, data, rest @ ..] if variable == "event" && data == "data" => Some(rest.to_vec()),
        [variable, _, data, rest @ ..] if variable == "captured" && data == "data" => Some(rest.to_vec()),
        [variable] if variable == "event" => Some(Vec::new()),
        // Which of them, and what of it, is not known from the text.
        [variable, ..] if variable == "events" || variable == "captured" => Some(Vec::new()),
        _ => None,
    };
    expression.paths().filter_map(below).collect()
}

/// What these Rules read of an event's data.
pub fn project<'a>(data: &Value, interests: impl IntoIterator<Item = &'a Interest>) -> Value {
    let paths: BTreeSet<&[String]> =
        interests.into_iter().flat_map(|interest| interest.paths.iter().map(Vec::as_slice)).collect();
    let paths: Vec<&[String]> = paths.into_iter().collect();
    if paths.is_empty() { Value::Null } else { kept(data, &paths) }
}

fn kept(value: &Value, paths: &[&[String]]) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    if paths.iter().any(|path| path.is_empty()) {
        return value.clone();
    }
    let mut found = Map::new();
    for (name, member) in members {
        let below: Vec<&[String]> =
            paths.iter().filter(|path| path[0] == *name).map(|path| &path[1..]).collect();
        if !below.is_empty() {
            found.insert(name.clone(), kept(member, &below));
        }
    }
    Value::Object(found)
}

/// Whether one projection has all that another has: the same alert, said again, adds nothing then.
pub fn covers(known: &Value, fresh: &Value) -> bool {
    match (known, fresh) {
        (Value::Object(known), Value::Object(fresh)) => {
            fresh.iter().all(|(name, value)| known.get(name).is_some_and(|known| covers(known, value)))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn interest(spec: Value) -> Option<Interest> {
        let mut base =
            json!({"serviceAccountName": "h", "target": {"key": "event.id"}, "ladder": [{"run": "x"}]});
        json_patch::merge(&mut base, &spec);
        let rule = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "r", "namespace": "a"},
            "spec": base});
        Interest::of(&serde_json::from_value(rule).expect("a Rule"))
    }

    fn wants(interest: &Interest, event: &TriggerEvent, alert: Option<&AlertState>) -> bool {
        super::wants(&interest.trigger, event, alert)
    }

    fn event(event_type: &str, data: Value) -> TriggerEvent {
        serde_json::from_value(
            json!({"id": "1", "source": "s", "type": event_type, "time": "2026-01-01T00:00:00Z",
            "data": data}),
        )
        .expect("an event")
    }

    #[test]
    fn a_rule_wants_what_it_names() {
        let alerts = interest(json!({"trigger": {"alert": {"webhook": "am", "names": ["DiskFull"]}}}))
            .expect("listens");
        let state = AlertState {
            fingerprint: "f".into(),
            starts_at: event("x", Value::Null).time,
            ends_at: None,
            heard: BTreeMap::new(),
        };
        let named = |name: &str| event("alert.firing", json!({"labels": {"alertname": name}}));
        assert!(wants(&alerts, &named("DiskFull"), Some(&state)));
        assert!(!wants(&alerts, &named("Other"), Some(&state)));
        assert!(!wants(&alerts, &event("x", Value::Null), None), "no alert");
        let events =
            interest(json!({"trigger": {"webhook": {"name": "w", "types": ["a"]}}})).expect("listens");
        assert!(
            wants(&events, &event("a", Value::Null), None) && !wants(&events, &event("b", Value::Null), None)
        );
        assert!(!wants(&events, &named("DiskFull"), Some(&state)), "alerts are not events");
        assert_eq!(
            interest(
                json!({"target": null, "when": "true", "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}})
            ),
            None
        );
    }

    #[test]
    fn only_what_expressions_read_is_kept() {
        let rule = interest(json!({
            "trigger": {"webhook": {"name": "w"}},
            "when": "event.data.disk.percent > 90 && event.data.tags.exists(t, t.name == 'prod')",
            "target": {"key": "event.data.host"},
            "ladder": [{"run": "x", "with": {"path": "${{ event.data.disk.path }}"}}],
        }))
        .expect("listens");
        let data = json!({"host": "a", "disk": {"percent": 95, "path": "/var", "serial": "s"},
            "tags": [{"name": "prod", "by": "x"}], "password": "hunter2"});
        let expected = json!({"host": "a", "disk": {"percent": 95, "path": "/var"}, "tags": [{"name": "prod", "by": "x"}]});
        assert_eq!(project(&data, [&rule]), expected);
        let whole = interest(json!({"trigger": {"webhook": {"name": "w"}}, "when": "size(event.data) > 1"}));
        assert_eq!(project(&data, whole.as_ref()), data);
        let nothing = interest(json!({"trigger": {"webhook": {"name": "w"}}}));
        assert_eq!(project(&data, nothing.as_ref()), Value::Null);
    }

    #[test]
    fn an_alert_keeps_what_identifies_it() {
        let rule =
            interest(json!({"trigger": {"alert": {"webhook": "w"}}, "target": {"key": "alert.labels.pod"}}));
        let alert = json!({"status": "firing", "labels": {"alertname": "A", "pod": "p", "team": "t"}, "annotations": {"x": "y"}});
        let expected = json!({"status": "firing", "labels": {"alertname": "A", "pod": "p", "team": "t"}});
        assert_eq!(project(&alert, rule.as_ref()), expected);
    }

    #[test]
    fn what_is_said_again_adds_nothing() {
        let known = json!({"labels": {"a": "1", "b": "2"}});
        assert!(covers(&known, &json!({"labels": {"a": "1"}})));
        assert!(covers(&known, &json!({"labels": {"a": "changed"}})), "it is the same alert");
        assert!(!covers(&known, &json!({"labels": {"c": "3"}})));
    }

    /// A Rule that listens to alerts, or else to events: what it names, and what it asks besides.
    type Listener = (bool, Vec<&'static str>, Option<&'static str>);

    fn listeners() -> impl Strategy<Value = Listener> {
        let names = prop::collection::vec(select(vec!["x", "y", "z"]), 0..3);
        let asks =
            vec!["{}.labels.tier == 'x'", "{}.?note.orValue('x') == 'x'", "size({}) > 1", "!{}.labels.tier"];
        (any::<bool>(), names, prop::option::of(select(asks)))
    }

    /// The Rule that names, and one that names none and has a condition that says the same.
    fn both((is_alert, names, asks): &Listener) -> (Interest, [CompiledRule; 2]) {
        let (data, of) = if *is_alert {
            ("alert", "alert.?labels.?alertname.orValue('')")
        } else {
            ("event.data", "event.type")
        };
        let asks = asks.map(|asks| format!("({})", asks.replace("{}", data)));
        let named = (!names.is_empty()).then(|| format!("{of} in {}", json!(names)));
        let all = named.into_iter().chain(asks.clone()).collect::<Vec<_>>().join(" && ");
        let spec = |names: &[&str], when: Option<&str>| {
            let trigger = if *is_alert {
                json!({"alert": {"webhook": "w", "names": names}})
            } else {
                json!({"webhook": {"name": "w", "types": names}})
            };
            json!({"trigger": trigger, "when": when})
        };
        let rule = |spec: &Value| {
            let mut base =
                json!({"serviceAccountName": "h", "target": {"key": "'k'"}, "ladder": [{"run": "x"}]});
            json_patch::merge(&mut base, spec);
            let spec = serde_json::from_value(base).expect("a spec");
            CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH)
                .unwrap_or_else(|found| panic!("{found:?}"))
        };
        let written = spec(names, asks.as_deref());
        let naive = spec(&[], Some(all.as_str()).filter(|all| !all.is_empty()));
        let rules = [rule(&written), rule(&naive)];
        (interest(written).expect("listens"), rules)
    }

    /// Alerts and events with fields that are absent, of other types, and of the values that are asked for.
    fn said() -> impl Strategy<Value = (bool, &'static str, Value)> {
        let field = || {
            prop::option::of(select(vec![
                json!("x"),
                json!("y"),
                json!("other"),
                json!(1),
                json!(true),
                json!([]),
            ]))
        };
        let types = select(vec!["x", "y", "other"]);
        (any::<bool>(), types, [field(), field(), field()]).prop_map(|(is_alert, of, [name, tier, note])| {
            let mut data = json!({"labels": {}, "password": "hunter2"});
            let places = [("/labels", "alertname", name), ("/labels", "tier", tier), ("", "note", note)];
            for (parent, field, value) in places {
                if let (Some(parent), Some(value)) = (data.pointer_mut(parent), value) {
                    parent[field] = value;
                }
            }
            (is_alert, of, data)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// What nobody wants is dropped, and of the rest what nobody reads: no Rule may answer otherwise for that.
        #[test]
        fn what_is_kept_gives_the_answers_of_the_whole(
            listeners in prop::collection::vec((listeners(), any::<bool>()), 1..10),
            all in prop::collection::vec(said(), 1..10),
        ) {
            let mut of_webhook = Listeners::default();
            let mut rules: Vec<(Interest, [CompiledRule; 2], bool)> = Vec::new();
            for (number, (listener, is_mended)) in listeners.iter().enumerate() {
                let (interest, compiled) = both(listener);
                let named = |interest: &Interest| Interest { rule: number.to_string(), ..interest.clone() };
                // What it said before does not count any more.
                if let Some((before, ..)) = rules.last().filter(|_| *is_mended) {
                    of_webhook.insert(named(before));
                }
                of_webhook.insert(named(&interest));
                rules.push((named(&interest), compiled, listener.0));
            }
            for (is_alert, of, data) in all {
                let whole = event(of, data.clone());
                let alert = is_alert.then(|| AlertState {
                    fingerprint: "f".into(),
                    starts_at: whole.time.clone(),
                    ends_at: None,
                    heard: BTreeMap::new(),
                });
                let wanting = of_webhook.wanting(&whole, alert.as_ref());
                let kept = event(of, project(&data, wanting.iter().map(AsRef::as_ref)));
                for (interest, [written, naive], listens_to_alerts) in &rules {
                    let matches = |rule: &CompiledRule, event| rule.matches_received(event, Timestamp::UNIX_EPOCH) == Ok(true);
                    let is_wanted = wanting.iter().any(|one| one.rule == interest.rule);
                    // An alert is kept for all that are about its name.
                    prop_assert!(is_wanted || !is_alert || !wants(interest, &whole, alert.as_ref()));
                    let found = is_wanted && matches(written, &kept);
                    let expected = *listens_to_alerts == is_alert && matches(naive, &whole);
                    prop_assert_eq!(found, expected, "{:?} of {} {}", interest.trigger, of, data);
                }
            }
        }
    }
}
