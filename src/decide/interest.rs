//! Which Rules may match what a Webhook receives, and what of it they read: what nobody wants is not kept.
//!
//! An event, or an alert, is wanted by the Rules that may match it, found by an [`Index`]. But an alert is a state: one whose
//! name any Rule is about is kept though none may match it, with what all of them read of alerts, for a Rule that is mended
//! while it fires.
//!
//! A Rule for what no other matches is among those that want it only if none of the others takes it, which is asked then.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::execution::rung;
use super::index::{self, Index};
use super::matching::CompiledRule;
use crate::api::{AlertState, AnyValue, Rule, Trigger, TriggerEvent};
use crate::expr::{Conjunct, Expression, Scope, TemplateTree};

/// What of an alert is always kept: what tells it from others, which is also what a Rule goes by that is mended while it
/// fires.
const OF_ALERTS: [&str; 5] = ["status", "fingerprint", "startsAt", "endsAt", "labels"];

/// What has to hold of an event for a Rule to match it, as far as that is known without evaluating anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    trigger: Trigger,
    conditions: Vec<Conjunct>,
}

impl Wish {
    /// What has to hold for a Rule that compiles.
    pub fn of(rule: &CompiledRule) -> Self {
        Self { trigger: rule.spec.trigger.clone(), conditions: index::conditions(rule) }
    }

    /// Whether it may match an event: it still has to be evaluated.
    pub fn may_match(&self, event: &TriggerEvent, alert: Option<&AlertState>) -> bool {
        wants(&self.trigger, event, alert) && self.conditions.iter().all(|one| holds(one, event))
    }
}

fn holds(Conjunct { path, values }: &Conjunct, event: &TriggerEvent) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["data", below @ ..] => {
            let field = below.iter().try_fold(&event.data.0, |value, field| value.get(field));
            field.is_some_and(|field| values.contains(field))
        }
        fields => {
            let whole = json!(event);
            let field = fields.iter().try_fold(&whole, |value, field| value.get(field));
            field.is_some_and(|field| values.contains(field))
        }
    }
}

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
    /// What has to hold of an event; none if the Rule does not compile, and matches nothing until it is mended.
    conditions: Option<Vec<Conjunct>>,
    paths: BTreeSet<Vec<String>>,
}

impl Interest {
    /// What a Rule wants; none if it listens to no Webhook, or to its events and does not compile.
    pub fn of(rule: &Rule) -> Option<Self> {
        let trigger = &rule.spec.trigger;
        let webhook = trigger.webhook_name()?.to_owned();
        let namespace = rule.namespace().unwrap_or_default();
        let read = compiled(rule, &namespace);
        if trigger.alert.is_none() && read.is_none() {
            return None;
        }
        let (conditions, mut paths) = read.map_or((None, BTreeSet::new()), |(all, paths)| (Some(all), paths));
        if trigger.alert.is_some() {
            paths.extend(of_alerts());
        }
        Some(Self { namespace, rule: rule.name_any(), webhook, trigger: trigger.clone(), conditions, paths })
    }
}

impl Interest {
    /// Whether it is only about what no other Rule matches.
    pub fn is_unmatched(&self) -> bool {
        self.trigger.is_unmatched()
    }

    /// Whether what it matches is nothing for those that are about what no other does. Who waits for the end of an alert
    /// does nothing about it while it fires.
    fn keeps_to_itself(&self) -> bool {
        !self.is_unmatched() && !self.trigger.is_about_ends()
    }
}

/// What has to hold for a Rule to match, and what its expressions read; none if it does not compile.
fn compiled(rule: &Rule, namespace: &str) -> Option<(Vec<Conjunct>, BTreeSet<Vec<String>>)> {
    let compiled = CompiledRule::of(&rule.spec, namespace, &rule.name_any(), Timestamp::UNIX_EPOCH).ok()?;
    Some((index::conditions(&compiled), read_of(&compiled)?))
}

/// What the expressions of a Rule read of the data of events; none if its `with` does not compile.
pub(super) fn read_of(rule: &CompiledRule) -> Option<BTreeSet<Vec<String>>> {
    let mut paths: BTreeSet<_> = rule.expressions().flat_map(data_paths).collect();
    for rung in &rule.spec.ladder {
        let tree = TemplateTree::compile(&rung.with.to_value(), &Scope::of(rung::VARIABLES)).ok()?;
        paths.extend(tree.expressions().into_iter().flat_map(data_paths));
    }
    Some(paths)
}

fn of_alerts() -> impl Iterator<Item = Vec<String>> {
    OF_ALERTS.iter().map(|member| vec![(*member).to_owned()])
}

/// What the Rules of one Webhook want.
#[derive(Debug, Default)]
pub struct Listeners {
    index: Index,
    by_id: BTreeMap<u64, Arc<Interest>>,
    by_name: BTreeMap<String, u64>,
    next: u64,
    alerts: Alerts,
}

/// What the Rules about alerts have in common.
#[derive(Debug, Default)]
struct Alerts {
    /// How many Rules are about those that are resolved.
    ends: usize,
    /// How many Rules name an alert.
    names: BTreeMap<String, usize>,
    /// How many name none: they are about all.
    unnamed: usize,
    /// What any of them reads.
    reads: Reads,
}

/// What of an event is kept, and for whom.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The Rules that may match it, by name.
    pub wanting: Vec<Arc<Interest>>,
    /// What is kept of its data.
    pub data: Value,
}

impl Kept {
    /// An event as those see it for whom it is kept.
    fn seen_of(&self, event: &TriggerEvent) -> TriggerEvent {
        TriggerEvent {
            id: event.id.clone(),
            source: event.source.clone(),
            event_type: event.event_type.clone(),
            time: event.time.clone(),
            data: AnyValue(self.data.clone()),
        }
    }

    /// What tells an alert from others.
    pub fn for_nobody(data: &Value) -> Self {
        Self { wanting: Vec::new(), data: Reads::of(of_alerts()).project(data) }
    }

    /// The least that has to be kept of its data: what those read that may match it.
    pub fn least(&self, data: &Value, alert: Option<&AlertState>) -> Value {
        let paths = self.wanting.iter().flat_map(|interest| interest.paths.iter().cloned());
        let always = alert.into_iter().flat_map(|_| of_alerts());
        Reads::of(paths.chain(always)).project(data)
    }
}

impl Listeners {
    /// Takes in what a Rule wants, in place of what it wanted.
    pub fn insert(&mut self, interest: Interest) {
        let id = self.remove(&interest.rule).unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        if let Some(conditions) = interest.conditions.clone() {
            self.index.insert(id, conditions);
        }
        self.alerts.change(&interest, 1);
        self.by_name.insert(interest.rule.clone(), id);
        self.by_id.insert(id, Arc::new(Interest { conditions: None, ..interest }));
    }

    /// Forgets a Rule, known or not.
    pub fn remove(&mut self, rule: &str) -> Option<u64> {
        let id = self.by_name.remove(rule)?;
        self.index.remove(id);
        if let Some(interest) = self.by_id.remove(&id) {
            self.alerts.change(&interest, -1);
        }
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

    /// Those that may match an event, by name. That an alert is resolved is for those that may have matched it, and that
    /// one fires for those that may match when it is resolved.
    pub fn wanting(&self, event: &TriggerEvent, alert: Option<&AlertState>) -> Vec<Arc<Interest>> {
        let mut seen = json!(as_it_fired(event, alert));
        let mut wanting: Vec<_> = self.found(&seen).filter(|one| !one.trigger.is_about_ends()).collect();
        if alert.is_some() && self.alerts.ends > 0 {
            if let Some(status) = seen.pointer_mut("/data/status") {
                *status = "resolved".into();
            }
            seen["type"] = "alert.resolved".into();
            wanting.extend(self.found(&seen).filter(|one| one.trigger.is_about_ends()));
        }
        wanting.retain(|interest| wants(&interest.trigger, event, alert));
        wanting.sort_by(|a, b| a.rule.cmp(&b.rule));
        wanting.into_iter().cloned().collect()
    }

    /// Those that the index finds for what an event looks like.
    fn found(&self, seen: &Value) -> impl Iterator<Item = &Arc<Interest>> {
        let found = self.index.candidates(seen).into_iter().chain(self.index.always().iter().copied());
        found.filter_map(|id| self.by_id.get(&id))
    }

    /// How many Rules are about the name of an alert, whether they may match it or not.
    pub fn about(&self, alert: &TriggerEvent) -> usize {
        let named = name_of(alert).and_then(|name| self.alerts.names.get(name));
        self.alerts.unnamed + named.copied().unwrap_or_default()
    }

    /// What is kept of an event; nothing of one that no Rule is about. Whether a Rule takes it, by what is kept, is asked where it
    /// matters to one that is for what no other takes.
    pub fn keep(
        &self,
        event: &TriggerEvent,
        alert: Option<&AlertState>,
        takes: impl Fn(&Interest, &TriggerEvent) -> bool,
    ) -> Option<Kept> {
        let mut kept = self.kept_for(self.wanting(event, alert), event, alert)?;
        if !kept.wanting.iter().any(|one| one.is_unmatched()) {
            return Some(kept);
        }
        let seen = kept.seen_of(event);
        if kept.wanting.iter().any(|one| one.keeps_to_itself() && takes(one, &seen)) {
            kept.wanting.retain(|one| !one.is_unmatched());
            return self.kept_for(kept.wanting, event, alert);
        }
        Some(kept)
    }

    fn kept_for(
        &self,
        wanting: Vec<Arc<Interest>>,
        event: &TriggerEvent,
        alert: Option<&AlertState>,
    ) -> Option<Kept> {
        let data = match alert {
            Some(_) if wanting.is_empty() && self.about(event) == 0 => return None,
            Some(_) => self.alerts.reads.project(&event.data.0),
            None if wanting.is_empty() => return None,
            None => project(&event.data.0, wanting.iter().map(AsRef::as_ref)),
        };
        Some(Kept { wanting, data })
    }
}

impl Alerts {
    /// Takes in what a Rule wants, or forgets it.
    fn change(&mut self, interest: &Interest, by: isize) {
        let Some(trigger) = &interest.trigger.alert else { return };
        let names: BTreeSet<&String> = trigger.names.iter().collect();
        if names.is_empty() {
            self.unnamed = self.unnamed.saturating_add_signed(by);
        }
        if interest.trigger.is_about_ends() {
            self.ends = self.ends.saturating_add_signed(by);
        }
        for name in names {
            let count = self.names.entry(name.clone()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.names.remove(name);
            }
        }
        for path in &interest.paths {
            self.reads.change(path, by);
        }
    }
}

/// An alert that is resolved as it was while it fired; anything else as it is.
pub(super) fn as_it_fired<'e>(event: &'e TriggerEvent, alert: Option<&AlertState>) -> Cow<'e, TriggerEvent> {
    if alert.is_none_or(|alert| alert.ends_at.is_none()) || event.data.0.get("status").is_none() {
        return Cow::Borrowed(event);
    }
    let mut event = event.clone();
    event.data.0["status"] = "firing".into();
    Cow::Owned(event)
}

fn name_of(alert: &TriggerEvent) -> Option<&str> {
    alert.data.0.pointer("/labels/alertname").and_then(Value::as_str)
}

/// Paths below a value that are read, and by how many.
#[derive(Debug, Default)]
struct Reads {
    here: usize,
    below: BTreeMap<String, Reads>,
}

impl Reads {
    fn of(paths: impl IntoIterator<Item = Vec<String>>) -> Self {
        let mut reads = Self::default();
        paths.into_iter().for_each(|path| reads.change(&path, 1));
        reads
    }

    fn change(&mut self, path: &[String], by: isize) {
        let [field, rest @ ..] = path else {
            self.here = self.here.saturating_add_signed(by);
            return;
        };
        match self.below.entry(field.clone()) {
            Entry::Vacant(place) if by > 0 => place.insert(Self::default()).change(rest, by),
            Entry::Vacant(_) => {}
            Entry::Occupied(mut place) => {
                place.get_mut().change(rest, by);
                if place.get().is_empty() {
                    place.remove();
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.here == 0 && self.below.is_empty()
    }

    /// What of a value is read.
    fn project(&self, value: &Value) -> Value {
        if self.is_empty() { Value::Null } else { self.kept(value) }
    }

    fn kept(&self, value: &Value) -> Value {
        let Value::Object(members) = value else { return value.clone() };
        if self.here > 0 {
            return value.clone();
        }
        let read = members.iter().filter_map(|(name, member)| Some((name, member, self.below.get(name)?)));
        Value::Object(
            read.map(|(name, member, reads)| (name.clone(), reads.kept(member))).collect::<Map<_, _>>(),
        )
    }
}

/// Whether a trigger may match an event of its Webhook: by the name of the alert, or the type of the event.
pub fn wants(trigger: &Trigger, event: &TriggerEvent, alert: Option<&AlertState>) -> bool {
    let is_among = |all: &[String], one: Option<&str>| {
        all.is_empty() || one.is_some_and(|one| all.iter().any(|name| name == one))
    };
    match (&trigger.alert, &trigger.webhook, alert) {
        (Some(trigger), _, Some(_)) => is_among(&trigger.names, name_of(event)),
        (None, Some(trigger), None) => is_among(&trigger.types, Some(&event.event_type)),
        _ => false,
    }
}

/// What an expression reads below the data of an event; the empty path is all of it.
fn data_paths(expression: &Expression) -> Vec<Vec<String>> {
    let below = |path: &[String]| match path {
        [variable, rest @ ..] if variable == "alert" => Some(rest.to_vec()),
        [variable, data, rest @ ..] if variable == "event" && data == "data" => Some(rest.to_vec()),
        [variable, _, field, rest @ ..] if variable == "captured" => (field == "data").then(|| rest.to_vec()),
        [variable] if variable == "event" => Some(Vec::new()),
        // Which of them, and what of it, is not known from the text.
        [variable, ..] if variable == "events" || variable == "captured" => Some(Vec::new()),
        _ => None,
    };
    expression.paths().filter_map(below).collect()
}

/// What these Rules read of an event's data.
pub fn project<'a>(data: &Value, interests: impl IntoIterator<Item = &'a Interest>) -> Value {
    Reads::of(interests.into_iter().flat_map(|interest| interest.paths.iter().cloned())).project(data)
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
    use super::super::inbox;
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
        let state = firing(&event("x", Value::Null));
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

        /// What nobody is about is dropped, and of the rest what nobody reads: no Rule may answer otherwise for that. What is
        /// listed for a Rule it may match; an alert that fires is taken up by a Rule that is mended and matches it.
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
                let alert = is_alert.then(|| firing(&whole));
                let found = of_webhook.keep(&whole, alert.as_ref(), |_, _| true);
                let is_about = |(interest, ..): &(Interest, _, _)| wants(interest, &whole, alert.as_ref());
                prop_assert_eq!(found.is_some(), if is_alert { rules.iter().any(is_about) } else { found.is_some() });
                let wanting = found.as_ref().map_or(&[][..], |kept| &kept.wanting);
                let kept = found.as_ref().map(|kept| event(of, kept.data.clone()));
                for (interest, [written, naive], listens_to_alerts) in &rules {
                    let matches = |rule: &CompiledRule, event| rule.matches_received(event, Timestamp::UNIX_EPOCH) == Ok(true);
                    let is_wanted = wanting.iter().any(|one| one.rule == interest.rule);
                    let found = is_wanted && kept.as_ref().is_some_and(|kept| matches(written, kept));
                    let expected = *listens_to_alerts == is_alert && matches(naive, &whole);
                    prop_assert_eq!(found, expected, "{:?} of {} {}", interest.trigger, of, data);
                    // Another Rule comes to read as this one does.
                    let (Some(kept), Some(alert)) = (&kept, &alert) else { continue };
                    let taken = is_taken_up(written, (kept, alert), wanting);
                    prop_assert_eq!(taken && matches(written, kept), expected, "{:?} mended for {}", interest.trigger, data);
                }
            }
        }

        /// What Rules have in common is as if it were made anew, whatever was there before.
        #[test]
        fn what_rules_have_in_common_goes_with_them(
            listeners in prop::collection::vec((listeners(), 0..4usize), 1..20),
            (_, of, data) in said(),
        ) {
            let (mut changed, mut last) = (Listeners::default(), BTreeMap::new());
            for (listener, number) in &listeners {
                let interest = Interest { rule: number.to_string(), ..both(listener).0 };
                if last.insert(*number, interest.clone()) == Some(interest.clone()) {
                    last.remove(number);
                    changed.remove(&interest.rule);
                } else {
                    changed.insert(interest);
                }
            }
            let mut fresh = Listeners::default();
            for interest in last.into_values() {
                fresh.insert(interest);
            }
            let alert = event(of, data);
            let state = firing(&alert);
            let look = |listeners: &Listeners| {
                let kept = listeners.keep(&alert, Some(&state), |_, _| true);
                (listeners.about(&alert), kept.map(|kept| (kept.data, kept.wanting.len())), listeners.is_empty())
            };
            prop_assert_eq!(look(&changed), look(&fresh));
            prop_assert_eq!(changed.alerts.reads.is_empty(), fresh.alerts.reads.is_empty());
        }
    }

    fn firing(event: &TriggerEvent) -> AlertState {
        AlertState {
            fingerprint: "f".into(),
            starts_at: event.time.clone(),
            ends_at: None,
            heard: BTreeMap::new(),
        }
    }

    /// Whether a Rule for which an alert is not listed takes it up.
    fn is_taken_up(
        rule: &CompiledRule,
        (kept, alert): (&TriggerEvent, &AlertState),
        wanting: &[Arc<Interest>],
    ) -> bool {
        let rules: Vec<_> = wanting.iter().map(|one| one.rule.clone()).collect();
        let batch = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch", "metadata": {"name": "b"},
            "spec": {"webhook": "w", "receivedAt": kept.time, "events": [{"rules": rules, "alert": alert, "event": kept}]}});
        let batch = Arc::new(serde_json::from_value(batch).expect("an EventBatch"));
        let wish = Some(&Wish::of(rule));
        let reader = inbox::Reader { rule: "mended", text: Some("t"), wish, ends: false, unmatched: None };
        !inbox::open(reader, &[batch], kept.time.0).firing.is_empty()
    }

    #[test]
    fn an_alert_is_kept_for_a_rule_that_may_be_mended() {
        let about = |name: &str, changes: Value| {
            let mut spec = json!({"trigger": {"alert": {"webhook": "am", "names": ["DiskFull"]}}});
            json_patch::merge(&mut spec, &changes);
            Interest { rule: name.to_owned(), ..interest(spec).expect("listens") }
        };
        let mut listeners = Listeners::default();
        listeners.insert(about(
            "sda",
            json!({"when": "alert.labels.disk == 'sda' && alert.annotations.text != ''"}),
        ));
        listeners.insert(about("broken", json!({"when": "alert.labels.disk =="})));
        let data = json!({"status": "firing", "labels": {"alertname": "DiskFull", "disk": "sdb"},
            "annotations": {"text": "t", "password": "hunter2"}});
        let keep = |listeners: &Listeners, data: &Value| {
            let alert = event("alert.firing", data.clone());
            let kept = listeners.keep(&alert, Some(&firing(&alert)), |_, _| true)?;
            Some((kept.wanting.iter().map(|one| one.rule.clone()).collect::<Vec<_>>(), kept.data))
        };
        let expected = json!({"status": "firing", "labels": {"alertname": "DiskFull", "disk": "sdb"}, "annotations": {"text": "t"}});
        assert_eq!(keep(&listeners, &data), Some((vec![], expected)));
        let mut other = data.clone();
        other["labels"]["alertname"] = "Other".into();
        assert_eq!(keep(&listeners, &other), None);
        listeners.remove("sda");
        let labels = json!({"status": "firing", "labels": {"alertname": "DiskFull", "disk": "sdb"}});
        assert_eq!(
            keep(&listeners, &data),
            Some((vec![], labels)),
            "one that does not compile may be mended"
        );
        listeners.remove("broken");
        assert_eq!(keep(&listeners, &data), None);
    }

    #[test]
    fn a_rule_for_what_no_other_takes_wants_nothing_that_one_does() {
        let named =
            |name: &str, spec: Value| Interest { rule: name.to_owned(), ..interest(spec).expect("listens") };
        let mut listeners = Listeners::default();
        for (name, types) in [("a", vec!["push"]), ("b", vec![])] {
            let when = "event.data.size > 5";
            listeners.insert(named(
                name,
                json!({"trigger": {"webhook": {"name": "w", "types": types}}, "when": when}),
            ));
        }
        for name in ["rest", "rest-too"] {
            listeners.insert(named(name, json!({"trigger": {"webhook": {"name": "w", "unmatched": true}}})));
        }
        for (of, taking, expected) in [
            ("push", vec![], "a b rest rest-too"),
            ("push", vec!["a"], "a b"),
            ("push", vec!["b"], "a b"),
            ("tag", vec!["a"], "b rest rest-too"),
            ("tag", vec!["rest"], "b rest rest-too"),
        ] {
            let whole = event(of, json!({"size": 6, "password": "hunter2"}));
            let kept = listeners.keep(&whole, None, |one, seen| {
                assert_eq!(seen.data.0, json!({"size": 6}), "what Rules read");
                taking.contains(&&*one.rule)
            });
            let wanting: Vec<_> = kept.iter().flat_map(|kept| &kept.wanting).map(|one| &*one.rule).collect();
            assert_eq!(wanting.join(" "), expected, "{of} {taking:?}");
        }
    }

    #[test]
    fn who_waits_for_the_end_of_an_alert_leaves_it_to_others_while_it_fires() {
        let mut listeners = Listeners::default();
        for (name, changes) in [("ends", json!({"state": "Resolved"})), ("rest", json!({"unmatched": true}))]
        {
            let mut alerts = json!({"webhook": "am"});
            json_patch::merge(&mut alerts, &changes);
            let listens = interest(json!({"trigger": {"alert": alerts}})).expect("listens");
            listeners.insert(Interest { rule: name.to_owned(), ..listens });
        }
        let event = event("alert.firing", json!({"status": "firing", "labels": {}}));
        let kept = listeners.keep(&event, Some(&firing(&event)), |_, _| true).expect("is kept");
        let wanting: Vec<_> = kept.wanting.iter().map(|one| &*one.rule).collect();
        assert_eq!(wanting, ["ends", "rest"]);
    }

    /// What stays away has come also if it is resolved by now, and is asked as it was while it fired.
    #[test]
    fn that_an_alert_is_resolved_is_for_those_that_may_have_matched_it() {
        let rule =
            interest(json!({"trigger": {"alert": {"webhook": "am"}}, "when": "alert.status == 'firing'"}));
        let mut listeners = Listeners::default();
        listeners.insert(rule.expect("listens"));
        let event = event("alert.resolved", json!({"status": "resolved", "labels": {}}));
        let resolved = AlertState { ends_at: Some(event.time.clone()), ..firing(&event) };
        assert_eq!(listeners.wanting(&event, Some(&resolved)).len(), 1);
        assert_eq!(listeners.wanting(&event, Some(&firing(&event))).len(), 0);
    }

    /// What fires is kept for it, too: whether an alert fires again, that says.
    #[test]
    fn a_rule_about_ends_hears_of_what_may_come_to_one() {
        let trigger = json!({"alert": {"webhook": "am", "names": ["DiskFull"], "state": "Resolved"}});
        let asked = |when: &str| interest(json!({"trigger": trigger, "when": when})).expect("listens");
        let mut listeners = Listeners::default();
        for (name, when) in [
            ("ends", "alert.status == 'resolved'"),
            ("typed", "event.type == 'alert.resolved' && alert.labels.disk == 'sda'"),
            ("other", "alert.labels.disk == 'sdb'"),
            ("never", "alert.status == 'firing'"),
        ] {
            listeners.insert(Interest { rule: name.to_owned(), ..asked(when) });
        }
        let labels = json!({"alertname": "DiskFull", "disk": "sda"});
        for status in ["firing", "resolved"] {
            let event = event(&format!("alert.{status}"), json!({"status": status, "labels": labels}));
            let state = match status {
                "firing" => firing(&event),
                _ => AlertState { ends_at: Some(event.time.clone()), ..firing(&event) },
            };
            let wanting = listeners.wanting(&event, Some(&state));
            let names: Vec<_> = wanting.iter().map(|one| one.rule.as_str()).collect();
            assert_eq!(names, ["ends", "typed"], "{status}");
        }
        for name in ["ends", "typed", "other", "never"] {
            listeners.remove(name);
        }
        assert_eq!(listeners.alerts.ends, 0);
    }
}
