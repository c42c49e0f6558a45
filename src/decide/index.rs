//! Of many rules, those that an object may match: only they are evaluated over it.
//!
//! ```text
//! rule ─▶ conditions: labels, type, reason, kind, equalities of `when` ─▶ the one that tells most ─▶ a place in the tree
//! object ─▶ the places that its own fields lead to ─▶ rules found there ─▶ those whose other conditions hold too
//! ```
//!
//! An index holds the rules of one watch, or of one Webhook: source, kind and namespace are what these are known by. What
//! it costs to look an object up grows with the rules found, and with the fields that are asked for, not with the rules.
//!
//! **Architecture Invariant:** a rule that is not found does not match. One that is found still has to be evaluated.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::matching::CompiledRule;
use crate::api::{AlertTrigger, EventTrigger, ResourceTrigger, WebhookTrigger};
use crate::expr::{Conjunct, Expression, magnitude};

/// Rules by the conditions without which they do not match.
#[derive(Debug, Default)]
pub struct Index {
    root: Place,
    rules: BTreeMap<u64, Entry>,
    /// Rules without a condition.
    always: BTreeSet<u64>,
}

#[derive(Debug)]
struct Entry {
    conditions: Vec<Conjunct>,
    /// Which of them it is found by.
    key: usize,
}

/// A field of objects, by which rules are found.
#[derive(Debug, Default)]
struct Place {
    fields: BTreeMap<String, Place>,
    texts: BTreeMap<String, BTreeSet<u64>>,
    truths: BTreeMap<bool, BTreeSet<u64>>,
    /// By what numbers have in common that are equal.
    numbers: BTreeMap<u64, BTreeSet<u64>>,
}

impl Index {
    /// Takes in a rule, by its [`conditions`].
    pub fn insert(&mut self, rule: u64, mut conditions: Vec<Conjunct>) {
        self.remove(rule);
        let is_found = |value: &Value| value.is_string() || value.is_boolean() || value.is_number();
        conditions.retain(|condition| condition.values.iter().all(is_found));
        let Some(key) = self.key(&conditions) else {
            self.always.insert(rule);
            return;
        };
        let Conjunct { path, values } = &conditions[key];
        self.root.insert(path, values, rule);
        self.rules.insert(rule, Entry { conditions, key });
    }

    /// Forgets a rule, known or not.
    pub fn remove(&mut self, rule: u64) {
        self.always.remove(&rule);
        if let Some(Entry { conditions, key }) = self.rules.remove(&rule) {
            let Conjunct { path, values } = &conditions[key];
            self.root.remove(path, values, rule);
        }
    }

    /// The rules without a condition: any object may match them.
    pub fn always(&self) -> &BTreeSet<u64> {
        &self.always
    }

    /// The other rules that an object may match, each once, in ascending order.
    pub fn candidates(&self, object: &Value) -> Vec<u64> {
        let mut found = Vec::new();
        self.root.collect(object, &mut found);
        found.retain(|rule| self.rules.get(rule).is_some_and(|entry| entry.fits(object)));
        found.sort_unstable();
        found
    }

    /// The condition that tells most: where the fewest rules are found already, which is what the first rules cannot
    /// know and the thousandth does; then the one with the fewest values, and rather texts than truths.
    fn key(&self, conditions: &[Conjunct]) -> Option<usize> {
        let worth = |(_, condition): &(usize, &Conjunct)| {
            let crowd = self.root.crowd(&condition.path, &condition.values);
            (crowd, condition.values.len(), condition.values.iter().any(Value::is_boolean))
        };
        conditions.iter().enumerate().min_by_key(worth).map(|(at, _)| at)
    }
}

impl Entry {
    fn fits(&self, object: &Value) -> bool {
        self.conditions.iter().enumerate().filter(|(at, _)| *at != self.key).all(|(_, condition)| {
            let field = condition.path.iter().try_fold(object, |value, field| value.get(field));
            field.is_some_and(|field| condition.allows(field))
        })
    }
}

impl Place {
    fn insert(&mut self, path: &[String], values: &[Value], rule: u64) {
        let place = path.iter().fold(self, |place, field| place.fields.entry(field.clone()).or_default());
        for value in values {
            match value {
                Value::String(text) => place.texts.entry(text.clone()).or_default().insert(rule),
                Value::Bool(truth) => place.truths.entry(*truth).or_default().insert(rule),
                Value::Number(number) => magnitude(number)
                    .is_some_and(|magnitude| place.numbers.entry(magnitude).or_default().insert(rule)),
                _ => false,
            };
        }
    }

    /// Removes a rule, and the places that are empty then.
    fn remove(&mut self, path: &[String], values: &[Value], rule: u64) {
        if let [field, below @ ..] = path {
            let Some(place) = self.fields.get_mut(field) else { return };
            place.remove(below, values, rule);
            if place.is_empty() {
                self.fields.remove(field);
            }
            return;
        }
        for value in values {
            match value {
                Value::String(text) => drop_from(&mut self.texts, text, rule),
                Value::Bool(truth) => drop_from(&mut self.truths, truth, rule),
                Value::Number(number) => {
                    if let Some(magnitude) = magnitude(number) {
                        drop_from(&mut self.numbers, &magnitude, rule);
                    }
                }
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.texts.is_empty() && self.truths.is_empty() && self.numbers.is_empty()
    }

    /// How many rules are found by a value of a field, at the most.
    fn crowd(&self, path: &[String], values: &[Value]) -> usize {
        let Some(place) = path.iter().try_fold(self, |place, field| place.fields.get(field)) else {
            return 0;
        };
        values.iter().filter_map(|value| place.rules(value)).map(BTreeSet::len).max().unwrap_or(0)
    }

    fn rules(&self, value: &Value) -> Option<&BTreeSet<u64>> {
        match value {
            Value::String(text) => self.texts.get(text),
            Value::Bool(truth) => self.truths.get(truth),
            Value::Number(number) => self.numbers.get(&magnitude(number)?),
            _ => None,
        }
    }

    /// Goes along the fields that both have, from whichever side has fewer.
    fn collect(&self, value: &Value, found: &mut Vec<u64>) {
        found.extend(self.rules(value).into_iter().flatten());
        let Value::Object(members) = value else { return };
        if self.fields.len() <= members.len() {
            let both = self.fields.iter().filter_map(|(name, place)| Some((place, members.get(name)?)));
            both.for_each(|(place, member)| place.collect(member, found));
        } else {
            let both = members.iter().filter_map(|(name, member)| Some((self.fields.get(name)?, member)));
            both.for_each(|(place, member)| place.collect(member, found));
        }
    }
}

fn drop_from<K: Ord>(rules: &mut BTreeMap<K, BTreeSet<u64>>, value: &K, rule: u64) {
    if let Some(found) = rules.get_mut(value) {
        found.remove(&rule);
        if found.is_empty() {
            rules.remove(value);
        }
    }
}

/// What has to hold of an object for a rule to match it, fields as they stand in the object of the API; of what a Webhook
/// received as they stand in the event, where an alert is its `data`.
///
/// A field that is absent fulfills none. Its being read may be a mistake that evaluation would tell of; an object that is
/// not evaluated makes none.
pub fn conditions(rule: &CompiledRule) -> Vec<Conjunct> {
    let trigger = &rule.spec.trigger;
    let of_trigger = match (&trigger.resource, &trigger.event, &trigger.alert, &trigger.webhook) {
        (Some(resource), ..) => labels(resource),
        (_, Some(event), ..) => kinds_of_event(event),
        (_, _, Some(alert), _) => names(alert),
        (_, _, _, Some(webhook)) => types(webhook),
        _ => Vec::new(),
    };
    // What is not on a list is gone only if the list has everything, and what got labels was not created.
    if rule.is_about_lifecycle() {
        return Vec::new();
    }
    let place = if trigger.webhook_name().is_some() { in_received } else { in_object };
    // A rule about changes has to see what an object was as long as it does not match.
    let when = rule.when().filter(|_| !rule.is_about_changes());
    let conjuncts = when.map(Expression::conjuncts).unwrap_or_default().iter();
    let of_when = conjuncts.filter_map(|Conjunct { path, values }| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Some(Conjunct { path: place(&path)?, values: values.clone() })
    });
    of_trigger.into_iter().chain(of_when).collect()
}

/// The alerts that a rule names; none if it is about all of its Webhook.
fn names(trigger: &AlertTrigger) -> Vec<Conjunct> {
    among(&["data", "labels", "alertname"], &trigger.names).into_iter().collect()
}

fn types(trigger: &WebhookTrigger) -> Vec<Conjunct> {
    among(&["type"], &trigger.types).into_iter().collect()
}

fn labels(trigger: &ResourceTrigger) -> Vec<Conjunct> {
    let Some(selector) = &trigger.label_selector else { return Vec::new() };
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| (key, vec![value.as_str()]));
    let among = selector.match_expressions.iter().flatten().filter(|wanted| wanted.operator == "In");
    let among = among
        .map(|wanted| (&wanted.key, wanted.values.iter().flatten().map(String::as_str).collect::<Vec<_>>()));
    equal.chain(among).map(|(key, values)| one_of(&["metadata", "labels", key], &values)).collect()
}

fn kinds_of_event(trigger: &EventTrigger) -> Vec<Conjunct> {
    let is = |path: &[&str], wanted: &Option<String>| Some(one_of(path, &[wanted.as_deref()?]));
    let fields = [
        is(&["type"], &trigger.event_type),
        is(&["regarding", "kind"], &trigger.regarding_kind),
        among(&["reason"], &trigger.reasons),
    ];
    fields.into_iter().flatten().collect()
}

/// One of those that are named, if any are.
fn among(path: &[&str], wanted: &[String]) -> Option<Conjunct> {
    let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
    (!wanted.is_empty()).then(|| one_of(path, &wanted))
}

fn one_of(path: &[&str], values: &[&str]) -> Conjunct {
    Conjunct { path: owned(path), values: values.iter().map(|value| Value::from(*value)).collect() }
}

/// Where what a condition reads stands in the object behind its variables, if it is about that.
fn in_object(path: &[&str]) -> Option<Vec<String>> {
    match path {
        ["object", field @ ..] | ["event", "data", field @ ..] if !field.is_empty() => Some(owned(field)),
        // See `matching::envelope`.
        ["event", "type"] => Some(owned(&["reason"])),
        _ => None,
    }
}

/// Where it stands in an event that a Webhook received.
fn in_received(path: &[&str]) -> Option<Vec<String>> {
    match path {
        ["event", field @ ..] if !field.is_empty() => Some(owned(field)),
        // See `matching::with_received`.
        ["alert", field @ ..] => Some([owned(&["data"]), owned(field)].concat()),
        _ => None,
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|field| (*field).to_owned()).collect()
}
