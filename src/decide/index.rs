//! Of many rules, those that an object may match: only they are evaluated over it.
//!
//! ```text
//! rule ─▶ conditions: labels, type, reason, kind, equalities of `when` ─▶ the one that tells most ─▶ a place in the tree
//! object ─▶ the places that its own fields lead to ─▶ rules found there ─▶ those whose other conditions hold too
//! ```
//!
//! An index holds the rules of one watch: source, kind and namespace are what a watch is known by. What it costs to look
//! an object up grows with the rules found, and with the fields that are asked for, not with the rules.
//!
//! **Architecture Invariant:** a rule that is not found does not match. One that is found still has to be evaluated.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::matching::CompiledRule;
use crate::api::{EventTrigger, ResourceTrigger};
use crate::expr::{Conjunct, Expression};

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
}

impl Index {
    /// Takes in a rule, by its [`conditions`].
    pub fn insert(&mut self, rule: u64, mut conditions: Vec<Conjunct>) {
        self.remove(rule);
        conditions.retain(|condition| condition.values.iter().all(|v| v.is_string() || v.is_boolean()));
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
            field.is_some_and(|field| condition.values.contains(field))
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
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.texts.is_empty() && self.truths.is_empty()
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

/// What has to hold of an object for a rule to match it, fields as they stand in the object of the API.
///
/// A field that is absent fulfills none. Its being read may be a mistake that evaluation would tell of; an object that is
/// not evaluated makes none.
pub fn conditions(rule: &CompiledRule) -> Vec<Conjunct> {
    let trigger = &rule.spec.trigger;
    let selected = match (&trigger.resource, &trigger.event) {
        (Some(resource), _) => labels(resource),
        (None, Some(event)) => kinds_of_event(event),
        (None, None) => Vec::new(),
    };
    // A rule about changes has to see what an object was as long as it does not match.
    let when = rule.when().filter(|_| !rule.is_about_changes());
    let conjuncts = when.map(Expression::conjuncts).unwrap_or_default();
    selected.into_iter().chain(conjuncts.iter().filter_map(in_object)).collect()
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
    let reasons: Vec<_> = trigger.reasons.iter().map(String::as_str).collect();
    let fields = [
        is(&["type"], &trigger.event_type),
        is(&["regarding", "kind"], &trigger.regarding_kind),
        (!reasons.is_empty()).then(|| one_of(&["reason"], &reasons)),
    ];
    fields.into_iter().flatten().collect()
}

fn one_of(path: &[&str], values: &[&str]) -> Conjunct {
    Conjunct {
        path: path.iter().map(|field| (*field).to_owned()).collect(),
        values: values.iter().map(|value| Value::from(*value)).collect(),
    }
}

/// A condition of variables as one of the object behind them, if it is about that.
fn in_object(conjunct: &Conjunct) -> Option<Conjunct> {
    let path: Vec<&str> = conjunct.path.iter().map(String::as_str).collect();
    let path = match path.as_slice() {
        ["object", field @ ..] | ["event", "data", field @ ..] if !field.is_empty() => field,
        // See `matching::envelope`.
        ["event", "type"] => &["reason"],
        _ => return None,
    };
    let path = path.iter().map(|field| (*field).to_owned()).collect();
    Some(Conjunct { path, values: conjunct.values.clone() })
}
