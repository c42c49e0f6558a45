//! Checks a manifest against its CRD's schema: what the API server would refuse, said before it is asked, all at once, with a
//! place for each mistake. The schemas are generated from the Rust types, so that they cannot differ from the cluster's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::LazyLock;

use k8s_openapi::jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Value};

use super::remedy::{
    begun, below, did_you_mean, example, fields_here, labels, left_empty, quoted, remedy, such_as, texts,
};
use super::repair;
use super::rules::{Rule, from_self};
use super::yaml::{Data, Key, Node};
use crate::api::{DATE_PATTERN, DURATION_PATTERN, Duration, RATE_PATTERN, Rate};
use crate::decide::path::Path;
use crate::decide::pod::REFUSED;
use crate::decide::problem::Problem;
use crate::decide::schedule::date;
use crate::expr::{Bindings, closest};

/// Fields of pods and containers that people try to set, and that only the controller's pod policy decides.
const POD_FIELDS: [&str; 17] = [
    "allowPrivilegeEscalation",
    "capabilities",
    "containers",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPath",
    "initContainers",
    "nodeName",
    "podTemplate",
    "privileged",
    "runAsUser",
    "securityContext",
    "template",
    "volumeMounts",
];

/// A mistake with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The bytes that are meant.
    pub span: Range<usize>,
    /// What is wrong.
    pub problem: Problem,
    /// Whether it is only that what is there does not go together: each part may be looked at by itself.
    pub parts: bool,
}

impl Located {
    /// Something that is wrong by itself.
    pub const fn new(span: Range<usize>, problem: Problem) -> Self {
        Self { span, problem, parts: false }
    }
}

/// A field that does not exist, and the one that was probably meant, which is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// The map that it is in.
    pub parent: Path,
    /// Its name.
    pub written: String,
    /// The name of the field that was probably meant.
    pub name: String,
}

/// The schemas of all kinds.
pub struct Schemas {
    /// By kind.
    specs: BTreeMap<String, Value>,
    /// The CEL rules of the schemas, by their text; those that compare with an old object are left to the API server.
    rules: BTreeMap<String, Rule>,
    /// The patterns of the schemas, by their text.
    patterns: BTreeMap<String, Regex>,
}

/// They never change while a program runs, and to compile their rules and patterns takes longer than to check a file.
static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::new);

impl Schemas {
    /// The schemas of this version.
    pub fn current() -> &'static Self {
        &SCHEMAS
    }

    /// Reads them out of the CRDs.
    fn new() -> Self {
        let mut schemas = Self { specs: BTreeMap::new(), rules: BTreeMap::new(), patterns: BTreeMap::new() };
        for crd in crate::api::crds() {
            let version = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
            let schema = version.and_then(|validation| validation.open_api_v3_schema.as_ref());
            let schema = serde_json::to_value(schema).expect("plain data structures always become JSON");
            let spec = schema["properties"]["spec"].clone();
            schemas.compile(&spec);
            schemas.specs.insert(crd.spec.names.kind, spec);
        }
        schemas
    }

    fn compile(&mut self, schema: &Value) {
        for rule in rules_of(schema) {
            if let Some(compiled) = Rule::compile(rule) {
                self.rules.insert(rule.to_owned(), compiled);
            }
        }
        if let Some((pattern, Ok(regex))) = schema["pattern"].as_str().map(|text| (text, Regex::new(text))) {
            self.patterns.insert(pattern.to_owned(), regex);
        }
        match schema {
            Value::Object(members) => members.values().for_each(|value| self.compile(value)),
            Value::Array(items) => items.iter().for_each(|value| self.compile(value)),
            _ => {}
        }
    }

    /// Everything in `spec` that the schema of `kind` refuses, and which fields were probably meant by others.
    pub fn check(&self, kind: &str, key: &Key, spec: &Node) -> (Vec<Located>, Vec<Meant>) {
        let Some(schema) = self.specs.get(kind) else { return (Vec::new(), Vec::new()) };
        let mut walk = Walk { schemas: self, found: Vec::new(), meant: Vec::new() };
        let path = Path::default().member("spec");
        walk.node(schema, &At { path, anchor: key.span.clone(), node: spec, optional: false });
        (walk.found, walk.meant)
    }

    /// The schema of a kind's `spec`.
    pub fn spec(&self, kind: &str) -> Option<&Value> {
        self.specs.get(kind)
    }
}

/// The CEL rules at one level of a schema.
impl Schemas {
    /// The rules at one level of a schema that can be asked here, with their text.
    fn rules_at<'s>(&'s self, schema: &'s Value) -> impl Iterator<Item = (&'s Value, &'s Rule)> {
        let texts = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        texts.filter_map(|text| Some((text, self.rules.get(text["rule"].as_str()?)?)))
    }
}

fn rules_of(schema: &Value) -> impl Iterator<Item = &str> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["rule"].as_str())
}

/// A node, where it is, and what to underline when it is a list or map.
struct At<'n> {
    path: Path,
    anchor: Range<usize>,
    node: &'n Node,
    /// Whether nothing speaks against leaving it out.
    optional: bool,
}

impl<'n> At<'n> {
    fn span(&self) -> Range<usize> {
        match &self.node.data {
            Data::Scalar(value) if !value.is_null() => self.node.span.clone(),
            _ => self.anchor.clone(),
        }
    }

    /// A field below it, as `limits.once`, if something is there, perhaps by a misspelled name.
    fn below(&self, field: &str, meant: &[Meant]) -> Option<At<'n>> {
        let (mut path, mut anchor, mut node) = (self.path.clone(), self.anchor.clone(), self.node);
        for name in field.split('.') {
            let misspelled = meant.iter().find(|meant| meant.parent == path && meant.name == name);
            let written = misspelled.map_or(name, |meant| &meant.written);
            let (key, value) = node.member(written).filter(|(_, value)| !is_nothing(value))?;
            (path, anchor, node) = (path.member(name), key.span.clone(), value);
        }
        Some(At { path, anchor, node, optional: true })
    }
}

/// Whether nothing is written behind a key.
pub(super) fn is_nothing(node: &Node) -> bool {
    matches!(node.data, Data::Scalar(Value::Null))
}

struct Walk<'s> {
    schemas: &'s Schemas,
    found: Vec<Located>,
    meant: Vec<Meant>,
}

impl Walk<'_> {
    fn say(&mut self, at: &At<'_>, message: impl Into<String>, help: Option<String>) {
        let problem = Problem { help, ..Problem::error(at.path.to_string(), message) };
        self.found.push(Located::new(at.span(), problem));
    }

    fn node(&mut self, schema: &Value, at: &At<'_>) {
        let before = (self.found.len(), self.meant.len());
        match &at.node.data {
            Data::Scalar(Value::Null) if schema["nullable"] == true => return,
            Data::Scalar(Value::Number(_) | Value::Bool(_)) | Data::List(_) | Data::Map(_)
                if schema["enum"].is_array() && schema["type"].is_null() =>
            {
                return self.say(at, format!("want text, got {}", got(&at.node.data)), None);
            }
            Data::Scalar(value) => self.scalar(schema, at, value),
            Data::List(items) => self.list(schema, at, items),
            Data::Map(members) => self.map(schema, at, members),
        }
        self.alternatives(schema, at);
        self.rules(schema, at, before);
    }

    fn scalar(&mut self, schema: &Value, at: &At<'_>, value: &Value) {
        let wanted = wanted(schema);
        let fits = match (wanted, value) {
            (None, _)
            | (Some("string" | "integer or string"), Value::String(_))
            | (Some("boolean"), Value::Bool(_))
            | (Some("number"), Value::Number(_)) => true,
            (Some("integer" | "integer or string"), Value::Number(number)) => number.is_i64(),
            _ => false,
        };
        if !fits {
            let help = match (wanted, value) {
                (Some("string"), Value::Number(_) | Value::Bool(_)) => {
                    let remedy = in_words(schema, &value.to_string());
                    Some(remedy.unwrap_or_else(|| quoted(value)))
                }
                (Some("object"), Value::Null) => Some("write {}".to_owned()),
                _ => None,
            };
            return self.say(at, format!("want {}, got {}", called(schema), got(&at.node.data)), help);
        }
        match value {
            Value::String(text) => self.text(schema, at, text),
            Value::Number(number) => self.number(schema, at, number.as_f64().unwrap_or_default()),
            _ => {}
        }
    }

    fn text(&mut self, schema: &Value, at: &At<'_>, text: &str) {
        if let Some(allowed) = schema["enum"].as_array() {
            let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            if !allowed.contains(&text) {
                let help = closest(text, allowed.iter().copied()).map(did_you_mean);
                self.say(at, format!("{text:?} is not one of {}", allowed.join(", ")), help);
            }
            return;
        }
        if let Some(message) = in_words(schema, text) {
            return self.say(at, message, None);
        }
        let length = text.chars().count();
        if schema["minLength"].as_u64().is_some_and(|least| (length as u64) < least) {
            let message =
                if text.is_empty() { "is empty".to_owned() } else { format!("{text:?} is too short") };
            return self.say(at, message, Some(remedy(schema, at.optional)));
        }
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length as u64 > *most) {
            return self.say(at, format!("is {length} chars; max {most}"), None);
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && self.schemas.patterns.get(pattern).is_some_and(|regex| !regex.is_match(text))
        {
            self.say(
                at,
                format!("{text:?} does not match {pattern}"),
                example(schema).as_deref().map(such_as),
            );
        }
    }

    fn number(&mut self, schema: &Value, at: &At<'_>, number: f64) {
        if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
            self.say(at, format!("{number}: must be >= {least}"), None);
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
            self.say(at, format!("{number}: must be <= {most}"), None);
        }
    }

    fn list(&mut self, schema: &Value, at: &At<'_>, items: &[Node]) {
        if wanted(schema).is_some_and(|wanted| wanted != "array") {
            return self.say(at, format!("want {}, got a list", called(schema)), None);
        }
        self.count(schema, at, items.len(), "Items");
        if schema["items"].is_object() {
            for (index, item) in items.iter().enumerate() {
                let anchor = first_key(item).unwrap_or_else(|| at.anchor.clone());
                let path = at.path.item(index);
                self.node(&schema["items"], &At { path, anchor, node: item, optional: false });
            }
        }
        self.unique(schema, at, items);
    }

    /// Holds `minItems` and `maxItems`, or `minProperties` and `maxProperties`.
    fn count(&mut self, schema: &Value, at: &At<'_>, count: usize, what: &str) {
        let count = count as u64;
        if schema[format!("min{what}")].as_u64().is_some_and(|least| count < least) {
            self.say(at, "is empty", Some(remedy(schema, at.optional)));
        }
        if let Some(most) = schema[format!("max{what}")].as_u64().filter(|most| count > *most) {
            self.say(at, format!("has {count} {}; max {most}", what.to_lowercase()), None);
        }
    }

    /// The items of a list that is a map have different keys.
    fn unique(&mut self, schema: &Value, at: &At<'_>, items: &[Node]) {
        for key in
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str)
        {
            let mut seen = BTreeMap::new();
            for (index, item) in items.iter().enumerate() {
                let Some(value) = item.get(key) else { continue };
                if let Some(first) = seen.insert(value.to_json().to_string(), index) {
                    let (path, anchor) = (at.path.item(index).member(key), value.span.clone());
                    let message = format!("duplicate {key} {}, also in item {first}", value.to_json());
                    self.say(&At { path, anchor, node: value, optional: false }, message, None);
                }
            }
        }
    }

    fn map(&mut self, schema: &Value, at: &At<'_>, members: &[(Key, Node)]) {
        if wanted(schema).is_some_and(|wanted| wanted != "object") {
            return self.say(at, format!("want {}, got a map", called(schema)), None);
        }
        self.count(schema, at, members.len(), "Properties");
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let (nothing, additional) = (Map::new(), &schema["additionalProperties"]);
        let known = schema["properties"].as_object().unwrap_or(&nothing);
        if let Some(help) = labels(known, members) {
            return self.say(at, "a selector has matchLabels and matchExpressions", Some(help));
        }
        let required = texts(&schema["required"]);
        let schemas = self.schemas;
        let asked: BTreeSet<&str> = schemas.rules_at(schema).flat_map(|(_, rule)| rule.members()).collect();
        let is_optional = |name: &str| !required.contains(&name) && !asked.contains(name);
        let mut present: Vec<&str> = members.iter().map(|(key, _)| key.name.as_str()).collect();
        for (key, value) in members {
            let (path, anchor) = (at.path.member(&key.name), key.span.clone());
            let member = At { path, anchor, node: value, optional: is_optional(&key.name) };
            match known.get(&key.name) {
                Some(schema) => self.node(schema, &member),
                None if additional.is_object() => self.node(additional, &member),
                None if free => {}
                None => {
                    let Some((name, schema)) = self.unknown(&member, key, known, &present) else { continue };
                    present.push(name);
                    let meant =
                        Meant { parent: at.path.clone(), written: key.name.clone(), name: name.to_owned() };
                    self.meant.push(meant);
                    let (path, optional) = (at.path.member(name), is_optional(name));
                    self.node(schema, &At { path, optional, ..member });
                }
            }
        }
        for name in required.iter().filter(|name| !present.contains(name)) {
            let problem = Problem::error(at.path.member(name).to_string(), format!("{name} is required"));
            self.found.push(Located::new(at.span(), problem));
        }
    }

    /// Refuses a field that does not exist; returns the one that was probably meant.
    fn unknown<'k>(
        &mut self,
        member: &At<'_>,
        key: &Key,
        known: &'k Map<String, Value>,
        present: &[&str],
    ) -> Option<(&'k str, &'k Value)> {
        // What is there already was not meant once more.
        let missing = known.keys().map(String::as_str).filter(|name| !present.contains(name));
        let of_a_pod = POD_FIELDS.contains(&key.name.as_str());
        let meant = if of_a_pod {
            None
        } else {
            begun(&key.name, missing.clone()).or_else(|| closest(&key.name, missing))
        };
        let pods = ["spec.script.pod", "spec.container.pod"];
        let problem = match meant {
            None if of_a_pod || member.path.is_below(&pods) => {
                Problem::error(member.path.to_string(), REFUSED)
            }
            meant => {
                let below =
                    || below(known, &key.name).map_or_else(|| fields_here(known), |path| did_you_mean(&path));
                let help = meant.map_or_else(below, did_you_mean);
                Problem::error(member.path.to_string(), "unknown field").help(help)
            }
        };
        self.found.push(Located::new(member.anchor.clone(), problem));
        known.get_key_value(meant?).map(|(name, schema)| (name.as_str(), schema))
    }

    /// `anyOf`, which the structural schemas use for values of two types.
    fn alternatives(&mut self, schema: &Value, at: &At<'_>) {
        let Some(branches) = schema["anyOf"].as_array() else { return };
        let fits = |branch: &Value| {
            let mut attempt = Walk { schemas: self.schemas, found: Vec::new(), meant: Vec::new() };
            let open = with_open_members(branch);
            attempt.node(&open, at);
            attempt.found.is_empty()
        };
        if branches.iter().any(fits) {
            return;
        }
        let words = branches.iter().flat_map(|branch| branch["enum"].as_array().into_iter().flatten());
        let words: Vec<String> = words.map(ToString::to_string).collect();
        let members = branches.iter().flat_map(|branch| branch["required"].as_array().into_iter().flatten());
        let maps: Vec<&str> = members.filter_map(Value::as_str).collect();
        let maps = if maps.is_empty() { vec![] } else { vec![format!("a map with {}", maps.join(", "))] };
        let help = at.node.as_str().and_then(|text| {
            let words = branches.iter().flat_map(|branch| branch["enum"].as_array().into_iter().flatten());
            closest(text, words.filter_map(Value::as_str)).map(did_you_mean)
        });
        self.say(at, format!("want {}", [words, maps].concat().join(" or ")), help);
    }

    /// Asks the rules at one level, given how many mistakes and misspellings there were before it.
    fn rules(&mut self, schema: &Value, at: &At<'_>, before: (usize, usize)) {
        let (schemas, depth) = (self.schemas, at.path.segments().len());
        let wrong: Vec<Path> =
            self.found[before.0..].iter().map(|located| Path::parse(&located.problem.path)).collect();
        let value = self.meant_by(at, &wrong, before.1);
        let wrong: Vec<Path> = wrong.iter().map(|place| from_self(place, depth)).collect();
        let bindings = Bindings::at(Timestamp::UNIX_EPOCH).with("self", value);
        for (text, rule) in schemas.rules_at(schema).filter(|(_, rule)| rule.is_askable(&wrong)) {
            if rule.is_broken(&bindings) {
                let members = rule.members();
                let is_there = |name: &&str| bindings.get("self").is_some_and(|of| of.get(name).is_some());
                let help =
                    if members.iter().any(is_there) { None } else { left_empty(schema, &members, at.node) };
                let message = text["message"].as_str().or(text["rule"].as_str()).unwrap_or_default();
                let problem = Problem { help, ..Problem::error(at.path.to_string(), message) };
                self.broken(rule, at, problem, before.1);
            }
        }
    }

    /// Says that a rule is broken. The line is that of the field that its message begins with, if it is there, and so is the path
    /// where no other field is looked at: then the mistake is in the value.
    fn broken(&mut self, rule: &Rule, at: &At<'_>, problem: Problem, before: usize) {
        let named = rule.named(&problem.message).and_then(|name| at.below(name, &self.meant[before..]));
        let members = rule.members().len();
        if let Some(field) = &named
            && let Data::Scalar(value) = &field.node.data
            && members == 1
        {
            return self.say(field, format!("{value}: {}", problem.message), None);
        }
        let span = named.map_or_else(|| at.span(), |field| field.span());
        let parts = at.path.segments().len() == 1 || members > 1;
        self.found.push(Located { parts, ..Located::new(span, problem) });
    }

    /// What rules are asked about: with the names that were meant, and where something is refused nevertheless something.
    fn meant_by(&self, at: &At<'_>, wrong: &[Path], before: usize) -> Value {
        let (mut value, depth) = (at.node.to_json(), at.path.segments().len());
        for meant in &self.meant[before..] {
            repair::rename_in(&mut value, depth, meant);
        }
        for place in wrong {
            repair::fill(&mut value, depth, place);
        }
        without_nulls(value)
    }
}

/// What is wrong with a text whose type knows what was meant: its pattern is only what the API server has instead.
fn in_words(schema: &Value, text: &str) -> Option<String> {
    match schema["pattern"].as_str()? {
        DURATION_PATTERN => text.parse::<Duration>().err().map(|error| error.to_string()),
        DATE_PATTERN => date(text).err().map(|error| error.to_string()),
        RATE_PATTERN => text.parse::<Rate>().err().map(|error| error.to_string()),
        _ => None,
    }
}

/// A branch of `anyOf` says nothing of the members it does not name.
fn with_open_members(branch: &Value) -> Value {
    let mut branch = branch.clone();
    branch["x-kubernetes-preserve-unknown-fields"] = true.into();
    branch
}

fn first_key(node: &Node) -> Option<Range<usize>> {
    match &node.data {
        Data::Map(members) => members.first().map(|(key, _)| key.span.clone()),
        _ => None,
    }
}

/// A null is an absent field, to the types and to the API server.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// The type that a schema wants, if it is particular about it.
pub(super) fn wanted(schema: &Value) -> Option<&str> {
    let either = schema["x-kubernetes-int-or-string"] == true;
    if either { Some("integer or string") } else { schema["type"].as_str() }
}

fn called(schema: &Value) -> &str {
    match wanted(schema) {
        Some("object") => "a map",
        Some("array") => "a list",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("string") => "text",
        Some("integer or string") => "a whole number or text",
        _ => "something else",
    }
}

fn got(data: &Data) -> String {
    match data {
        Data::Scalar(Value::Null) => "nothing".to_owned(),
        Data::Scalar(Value::String(_)) => "text".to_owned(),
        Data::Scalar(value) => value.to_string(),
        Data::List(_) => "a list".to_owned(),
        Data::Map(_) => "a map".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::read;
    use super::*;

    /// All problems of a spec, each with the text that is underlined.
    fn check(kind: &str, spec: &str) -> Vec<String> {
        let text = format!("spec:\n{}", spec.trim_start_matches('\n'));
        let (documents, _) = read(&text).unwrap();
        let (key, spec) = documents[0].member("spec").unwrap();
        let (found, _) = Schemas::current().check(kind, key, spec);
        found.into_iter().map(|located| format!("{:?} {}", &text[located.span], located.problem)).collect()
    }

    #[test]
    fn accepts_what_is_right() {
        let rule = "
  description: fine
  mode: Enforce
  serviceAccountName: healer
  trigger: {resource: {apiVersion: v1, kind: Pod, labelSelector: {matchLabels: {a.b/c: d}}}}
  when: 'true'
  target: {owner: {apiVersion: apps/v1, kind: StatefulSet}}
  for: 2m
  limits:
  ladder:
    - {run: a, with: {x: {y: [1]}}, verify: {stableFor: 1m}}
";
        assert_eq!(check("Rule", rule), [""; 0]);
        assert_eq!(
            check(
                "Rule",
                &rule.replace("target: {owner: {apiVersion: apps/v1, kind: StatefulSet}}", "target: object")
            ),
            [""; 0]
        );
        let other = rule.replace("{owner: {apiVersion: apps/v1, kind: StatefulSet}}", "{owned: {}}");
        let refused =
            ["\"target\" spec.target: want \"object\" or \"workload\" or a map with owner, ref, key"];
        assert_eq!(check("Rule", &other), refused);
        assert_eq!(check("Action", "  kubernetes: {scale: {replicas: 3}}"), [""; 0]);
        assert_eq!(check("Action", "  kubernetes: {scale: {replicas: '${{ inputs.n }}'}}"), [""; 0]);
    }

    /// Lines 1, 2 and 9 of the bad inputs, and 10 for what may happen how often.
    #[test]
    fn names_everything_that_is_wrong() {
        let rule = "
  serviceAccountNam: healer
  mode: enforce
  trigger:
    resource: {apiVersion: v1, kind: Pod, labelSelector: {}}
  when: true
  target: workloads
  for: 5 minutes
  limits: {perTarget: 2 a day, perRule: 0/1h, cooldown: 0}
  ladder:
    - {run: a, verify: {within: 10}}
    - with: [1]
";
        assert_eq!(
            check("Rule", rule),
            [
                "\"serviceAccountNam\" spec.serviceAccountNam: unknown field; did you mean \"serviceAccountName\"?",
                "\"enforce\" spec.mode: \"enforce\" is not one of Observe, Enforce; did you mean \"Enforce\"?",
                "\"labelSelector\" spec.trigger.resource.labelSelector: selector is empty; leave it out to mean every object of the kind in this namespace",
                "\"true\" spec.when: want text, got true; write \"true\"",
                "\"workloads\" spec.target: want \"object\" or \"workload\" or a map with owner, ref, key; did you mean \"workload\"?",
                "\"5 minutes\" spec.for: \"5 minutes\" is not a duration: use \"5m\"",
                "\"2 a day\" spec.limits.perTarget: \"2 a day\" is not a rate: use \"2/24h\"",
                "\"0/1h\" spec.limits.perRule: \"0/1h\" allows nothing: the count must be at least 1; use mode: Observe to stop a rule",
                "\"0\" spec.limits.cooldown: want text, got 0; \"0\" is not a duration: use \"0s\"",
                "\"10\" spec.ladder[0].verify.within: want text, got 10; \"10\" is not a duration: use \"10s\"",
                "\"with\" spec.ladder[1].with: want a map, got a list",
                "\"with\" spec.ladder[1].run: run is required",
            ]
        );
    }

    #[test]
    fn holds_unions_and_lists() {
        for (action, expected) in [
            (
                "  script: {image: a, inline: x, file: y}",
                "\"script\" spec.script: exactly one of inline, file and configMap must be set",
            ),
            (
                "  kubernetes: {scale: {replicas: [1]}}",
                "\"replicas\" spec.kubernetes.scale.replicas: want a whole number or text, got a list",
            ),
            (
                "  timeout: 5m",
                "\"spec\" spec: exactly one of script, container, kubernetes and collect must be set",
            ),
            (
                "  collect: {}\n  parameters: [{name: a}, {name: a}]",
                "\"a\" spec.parameters[1].name: duplicate name \"a\", also in item 0",
            ),
            (
                "  collect: {}\n  parameters: [{name: A-b}]",
                "\"A-b\" spec.parameters[0].name: \"A-b\" does not match ^[a-z][a-zA-Z0-9]{0,62}$; write such as olderThanDays",
            ),
            (
                "  collect: {}\n  parameters: [{name: a, required: true, default: b}]",
                "\"name\" spec.parameters[0]: a required parameter has no default",
            ),
            ("  collect: {tailLines: 0}", "\"0\" spec.collect.tailLines: 0: must be >= 1"),
            (
                "  collect: {include: []}",
                "\"include\" spec.collect.include: is empty; leave it out, or write at least one item",
            ),
            (
                "  container: {image: a, securityContext: {privileged: true}}",
                "\"securityContext\" spec.container.securityContext: field not settable here; the controller's pod policy refuses it",
            ),
            (
                "  container:\n    image: a\n    volumes: [{hostPath: {path: /}, mountPath: /x, claimName: y}]",
                "\"hostPath\" spec.container.volumes[0].hostPath: field not settable here; the controller's pod policy refuses it",
            ),
        ] {
            assert_eq!(check("Action", action), [expected]);
        }
    }

    /// A spec of a Rule with this trigger, and this besides.
    fn rule(trigger: &str, rest: &str) -> String {
        format!("  serviceAccountName: healer\n  trigger: {trigger}\n  ladder: [{{run: a}}]\n{rest}")
    }

    #[test]
    fn what_is_malformed_counts_as_there() {
        let one_of_three = "exactly one of inline, file and configMap must be set";
        let one_operation =
            "exactly one of restart, scale, patch, delete, recreate, annotate and label must be set";
        let one_schedule = "exactly one of cron, every and at must be set";
        for (kind, spec, expected) in [
            (
                "Action",
                "  script: {image: a, inline: 5, file: x}".to_owned(),
                [
                    "\"5\" spec.script.inline: want text, got 5; write \"5\"".to_owned(),
                    format!("\"script\" spec.script: {one_of_three}"),
                ],
            ),
            (
                "Action",
                "  kubernetes: {scale: {replicas: [1]}, restart: {}}".to_owned(),
                [
                    "\"replicas\" spec.kubernetes.scale.replicas: want a whole number or text, got a list"
                        .to_owned(),
                    format!("\"kubernetes\" spec.kubernetes: {one_operation}"),
                ],
            ),
            (
                "Action",
                "  kubernetes: {foo: {}}".to_owned(),
                [
                    "\"foo\" spec.kubernetes.foo: unknown field; fields here: annotate, delete, label, patch, recreate, restart, scale".to_owned(),
                    format!("\"kubernetes\" spec.kubernetes: {one_operation}"),
                ],
            ),
            (
                "Rule",
                rule("{schedule: {every: 5 minutes, cron: '@daily'}}", ""),
                [
                    "\"5 minutes\" spec.trigger.schedule.every: \"5 minutes\" is not a duration: use \"5m\""
                        .to_owned(),
                    format!("\"schedule\" spec.trigger.schedule: {one_schedule}"),
                ],
            ),
        ] {
            assert_eq!(check(kind, &spec), expected);
        }
    }

    #[test]
    fn one_mistake_is_not_told_in_other_words() {
        for (kind, spec, expected) in [
            (
                "Action",
                "  kubernetes: {restrat: {}}".to_owned(),
                "\"restrat\" spec.kubernetes.restrat: unknown field; did you mean \"restart\"?",
            ),
            (
                "Rule",
                rule("{schedule: {at: }}", ""),
                "\"at\" spec.trigger.schedule.at: want a list, got nothing",
            ),
            ("Rule", rule("Pod", "  for: 5m\n"), "\"Pod\" spec.trigger: want a map, got text"),
            (
                "Rule",
                rule("{alert: {webhook: a, state: firing}}", "  for: 5m\n"),
                "\"firing\" spec.trigger.alert.state: \"firing\" is not one of Firing, Resolved; did you mean \"Firing\"?",
            ),
        ] {
            assert_eq!(check(kind, &spec), [expected]);
        }
    }

    #[test]
    fn a_rule_names_the_field_the_value_and_the_remedy() {
        for (kind, spec, expected) in [
            (
                "Rule",
                rule("{schedule: {every: 5s}}", ""),
                "\"5s\" spec.trigger.schedule.every: \"5s\": every is at least 10s, and at most 8784h, which are 366 days",
            ),
            (
                "Rule",
                rule("{schedule: {every: 1h, timeZone: Europe/London}}", ""),
                "\"Europe/London\" spec.trigger.schedule: timeZone goes with cron: an interval has none, and a date says its own",
            ),
            (
                "Rule",
                rule("{event: {}}", "  for: 5m\n"),
                "\"5m\" spec: for needs a resource or alert trigger: an event is over at once",
            ),
            (
                "Action",
                "  container: {image: a, pod: {resources: {limits: {gpu: '1'}}}}".to_owned(),
                "\"limits\" spec.container.pod.resources: limits can be for cpu, memory and ephemeral-storage",
            ),
            (
                "Action",
                "  kubernetes: {restart: }".to_owned(),
                "\"kubernetes\" spec.kubernetes: exactly one of restart, scale, patch, delete, recreate, annotate and label must be set; restart without a value is as if it were not there: write restart: {}",
            ),
            (
                "Action",
                "  script: {image: '', inline: a}".to_owned(),
                "\"''\" spec.script.image: is empty; write such as docker.io/library/debian:12-slim",
            ),
            (
                "Pack",
                "  url: https://git.invalid/a.git\n  serviceAccountName: h\n  ref: {semver: ''}".to_owned(),
                "\"''\" spec.ref.semver: is empty; write such as \">=1.4.0, <2.0.0\"",
            ),
            (
                "Action",
                "  script: {image: a, inline: 1.10}".to_owned(),
                "\"1.10\" spec.script.inline: want text, got 1.1; put it in quotes",
            ),
            (
                "Rule",
                rule("{schedule: {cron: 5 *}}", ""),
                "\"5 *\" spec.trigger.schedule.cron: \"5 *\" is too short; write such as 0 3 * * 1-5",
            ),
        ] {
            assert_eq!(check(kind, &spec), [expected]);
        }
    }

    #[test]
    fn a_field_that_is_elsewhere_or_was_not_written_to_its_end_is_known() {
        for (field, meant) in [
            ("cooldown: 1h", "limits.cooldown"),
            ("verify: {}", "ladder[].verify"),
            ("perRule: 1/1h", "limits.perRule"),
        ] {
            let name = field.split(':').next().expect("a name");
            let expected = format!("\"{name}\" spec.{name}: unknown field; did you mean {meant:?}?");
            assert_eq!(check("Rule", &rule("{schedule: {every: 1h}}", &format!("  {field}\n"))), [expected]);
        }
        let account = "  serviceAccount: h\n  trigger: {schedule: {every: 1h}}\n  ladder: [{run: a}]\n";
        let expected =
            "\"serviceAccount\" spec.serviceAccount: unknown field; did you mean \"serviceAccountName\"?";
        assert_eq!(check("Rule", account), [expected]);
    }

    #[test]
    fn labels_in_place_of_a_selector_are_told_once() {
        for (labels, meant) in
            [("{app: web}", "{app: web}"), ("{a.b/c: 'true', d: 5}", "{a.b/c: \"true\", d: \"5\"}")]
        {
            let trigger = format!("{{resource: {{apiVersion: v1, kind: Pod, labelSelector: {labels}}}}}");
            let expected = format!(
                "\"labelSelector\" spec.trigger.resource.labelSelector: a selector has matchLabels and matchExpressions; \
                 did you mean matchLabels: {meant}?"
            );
            assert_eq!(check("Rule", &rule(&trigger, "  when: 'true'\n")), [expected]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_misspelled_field_has_its_line() {
        let every = "\"5s\" spec.trigger.schedule.every: \"5s\": every is at least 10s, and at most 8784h, which are 366 days";
        let misspelled = "\"evry\" spec.trigger.schedule.evry: unknown field; did you mean \"every\"?";
        assert_eq!(check("Rule", &rule("{schedule: {evry: 5s}}", "")), [misspelled, every]);
    }

    #[test]
    fn every_rule_of_the_schemas_is_held() {
        fn count(schema: &Value, found: &mut Vec<String>) {
            found.extend(rules_of(schema).filter(|rule| !rule.contains("oldSelf")).map(str::to_owned));
            match schema {
                Value::Object(members) => members.values().for_each(|value| count(value, found)),
                Value::Array(items) => items.iter().for_each(|value| count(value, found)),
                _ => {}
            }
        }
        let schemas = Schemas::current();
        let mut rules = Vec::new();
        schemas.specs.values().for_each(|schema| count(schema, &mut rules));
        assert!(rules.len() > 5);
        for rule in rules {
            let compiled = schemas.rules.get(&rule).unwrap_or_else(|| panic!("{rule}"));
            assert!(compiled.knows_what_it_reads(), "{rule}");
        }
    }
}
