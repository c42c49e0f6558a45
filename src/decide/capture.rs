//! From one event to its place in a Rule's windows: its group, and the members that it is one of.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::correlation::{Captured, Found, Pattern, Windows};
use super::gathering::Part;
use super::matching::expression_problem;
use super::problem::Problem;
use crate::api::{AnyValue, CapturedEvent, Correlate, Member};
use crate::expr::{Bindings, EvalError, EvalErrorKind, Expression, Scope};

/// A Rule's `correlate`, compiled.
#[derive(Clone, Debug)]
pub struct Correlation {
    pattern: Pattern,
    within: k8s_openapi::jiff::SignedDuration,
    group_by: Option<Expression>,
    members: Vec<(String, Expression)>,
}

impl Correlation {
    /// Compiles it over the trigger's variables; all that is wrong at once.
    pub fn compile(correlate: &Correlate, scope: &Scope) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut compile = |source: &str, path: String| match Expression::compile(source, scope) {
            Ok(expression) => Some(expression),
            Err(errors) => {
                problems.extend(errors.iter().map(|error| expression_problem(&path, error)));
                None
            }
        };
        let group_by =
            correlate.group_by.as_deref().and_then(|by| compile(by, "spec.correlate.groupBy".to_owned()));
        let members = members(correlate).filter_map(|(path, member)| {
            Some((member.name.clone(), compile(&member.when, format!("spec.correlate.{path}.when"))?))
        });
        let members: Vec<_> = members.collect();
        problems.extend(repeated(correlate));
        if correlate.within.as_secs() == 0 {
            problems.push(Problem::error(
                "spec.correlate.within",
                "the window is empty: use a time such as \"10m\"",
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let pattern = pattern(correlate);
        Ok(Self { pattern, within: correlate.within.signed(), group_by, members })
    }

    /// Windows in which nothing waits yet.
    pub fn windows(&self) -> Windows {
        Windows::new(self.pattern, self.within)
    }

    /// Whether it is about something that stays away.
    pub fn is_absence(&self) -> bool {
        self.pattern == Pattern::Absent
    }

    /// How long a window is.
    pub fn within(&self) -> k8s_openapi::jiff::SignedDuration {
        self.within
    }

    /// Its expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.group_by.iter().chain(self.members.iter().map(|(_, when)| when))
    }

    /// The name of a member, for `captured`.
    pub fn member(&self, place: usize) -> Option<&str> {
        self.members.get(place).map(|(name, _)| name.as_str())
    }

    /// What an event is here; nothing if it is no member of the pattern.
    pub fn capture(
        &self,
        (id, time): (&str, Timestamp),
        bindings: &Bindings,
        data: Arc<Value>,
    ) -> Result<Option<Captured>, EvalError> {
        let Some(Part { group, members }) = self.part(bindings)? else { return Ok(None) };
        Ok(Some(Captured { id: id.to_owned(), time, lasts: (time, time), group, members, data }))
    }

    /// The group and the members that something is one of; nothing if it is no member of the pattern.
    pub fn part(&self, bindings: &Bindings) -> Result<Option<Part>, EvalError> {
        let mut members = Vec::new();
        for (place, (_, when)) in self.members.iter().enumerate() {
            if holds(when, bindings)? {
                members.push(place);
            }
        }
        if members.is_empty() && !self.members.is_empty() {
            return Ok(None);
        }
        let group = self.group_by.as_ref().map(|by| by.evaluate(bindings)).transpose()?;
        let group = group.map_or_else(String::new, |value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        });
        Ok(Some(Part { group, members }))
    }
}

/// What is kept of the data of a captured event, at the most, in bytes: a hundred of them fit into an Execution.
const DATA_LIMIT: usize = 2048;
/// What is kept of an Event's note, in characters.
const NOTE_LIMIT: usize = 256;
/// What is kept of an Event.
const KEPT_OF_EVENTS: [&str; 4] = ["type", "reason", "regarding", "reportingController"];
/// What is kept of an alert that is too long, while there is room.
const KEPT_OF_ALERTS: [&str; 5] = ["fingerprint", "status", "startsAt", "endsAt", "labels"];

impl Correlation {
    /// What is recorded of a pattern's events.
    pub fn record(&self, found: &Found) -> Vec<CapturedEvent> {
        let record = |(place, event): &(usize, Captured)| CapturedEvent {
            id: event.id.clone(),
            member: self.member(*place).map(str::to_owned),
            event_type: event.data["type"].as_str().unwrap_or_default().to_owned(),
            time: Time(event.time),
            data: AnyValue(brief(&event.data["data"])),
        };
        found.events.iter().map(record).collect()
    }
}

/// The data of an event, cut short.
fn brief(data: &Value) -> Value {
    let brief = if data.get("regarding").is_some() { of_kubernetes(data) } else { data.clone() };
    match brief.to_string().len() > DATA_LIMIT {
        true if data.get("fingerprint").is_some() => of_alert(data),
        true => Value::Null,
        false => brief,
    }
}

/// What is kept of an alert: what it is told by, before its prose.
fn of_alert(data: &Value) -> Value {
    let mut kept = Map::new();
    for key in KEPT_OF_ALERTS {
        let Some(value) = data.get(key) else { continue };
        if Value::Object(kept.clone()).to_string().len() + key.len() + value.to_string().len() < DATA_LIMIT {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(kept)
}

/// What is kept of a Kubernetes Event.
fn of_kubernetes(data: &Value) -> Value {
    let kept = KEPT_OF_EVENTS.iter().filter_map(|key| Some(((*key).to_owned(), data.get(key)?.clone())));
    let mut kept: Map<String, Value> = kept.collect();
    if let Some(note) = data["note"].as_str() {
        kept.insert("note".to_owned(), note.chars().take(NOTE_LIMIT).collect::<String>().into());
    }
    Value::Object(kept)
}

/// Adds `events` and `captured`, if there are any.
pub fn with_captured(bindings: Bindings, captured: &[CapturedEvent]) -> Bindings {
    if captured.is_empty() {
        return bindings;
    }
    let events = captured.iter().map(|event| serde_json::json!(event)).collect();
    let named = captured.iter().filter_map(|event| Some((event.member.clone()?, serde_json::json!(event))));
    let named = Value::Object(named.collect());
    bindings.with("events", Value::Array(events)).with("captured", named)
}

/// Fields come and go: an event that lacks one is not the one that is meant.
fn holds(when: &Expression, bindings: &Bindings) -> Result<bool, EvalError> {
    match when.matches(bindings) {
        Err(error) if error.kind == EvalErrorKind::Absent => Ok(false),
        other => other,
    }
}

/// The members with their places in the spec.
/// The members of a pattern, each with its path below `correlate`.
pub(super) fn members(correlate: &Correlate) -> impl Iterator<Item = (String, &Member)> {
    let lists = [("any", &correlate.any), ("all", &correlate.all), ("sequence", &correlate.sequence)];
    let listed = lists.into_iter().flat_map(|(field, members)| {
        members.iter().enumerate().map(move |(place, member)| (format!("{field}[{place}]"), member))
    });
    let absent = correlate.absent.iter().flat_map(|absent| {
        [("absent.after".to_owned(), &absent.after), ("absent.expected".to_owned(), &absent.expected)]
    });
    listed.chain(absent)
}

/// `captured` has room for one event of a name.
fn repeated(correlate: &Correlate) -> Option<Problem> {
    let mut known = std::collections::BTreeSet::new();
    let (path, member) = members(correlate).find(|(_, member)| !known.insert(member.name.clone()))?;
    let message = format!("{:?} is the name of another member, too", member.name);
    Some(Problem::error(format!("spec.correlate.{path}.name"), message))
}

fn pattern(correlate: &Correlate) -> Pattern {
    match correlate {
        Correlate { count: Some(count), .. } => Pattern::Count(usize::try_from(*count).unwrap_or(usize::MAX)),
        Correlate { absent: Some(_), .. } => Pattern::Absent,
        Correlate { all, .. } if !all.is_empty() => Pattern::All(all.len()),
        Correlate { sequence, .. } if !sequence.is_empty() => Pattern::Sequence(sequence.len()),
        _ => Pattern::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn correlation(spec: Value) -> Result<Correlation, Vec<Problem>> {
        let spec = serde_json::from_value(spec).expect("a correlate");
        Correlation::compile(&spec, &Scope::of(["event", "now"]))
    }

    fn captured(correlation: &Correlation, event: Value) -> Option<(String, Vec<usize>)> {
        let event = Arc::new(event);
        let bindings = Bindings::at(Timestamp::UNIX_EPOCH).with("event", event.clone());
        let captured =
            correlation.capture(("id", Timestamp::UNIX_EPOCH), &bindings, event).expect("evaluates");
        captured.map(|captured| (captured.group, captured.members))
    }

    #[test]
    fn an_event_has_a_group_and_its_members() {
        let spec = json!({"groupBy": "event.data.node", "within": "10m", "sequence": [
            {"name": "down", "when": "event.type == 'down'"}, {"name": "any", "when": "event.data.code > 3"}]});
        let correlation = correlation(spec).expect("compiles");
        for (event, expected) in [
            (json!({"type": "down", "data": {"node": "n1", "code": 5}}), Some(("n1", vec![0, 1]))),
            (json!({"type": "down", "data": {"node": "n1"}}), Some(("n1", vec![0]))),
            (json!({"type": "up", "data": {"node": "n1", "code": 1}}), None),
        ] {
            let expected = expected.map(|(group, members)| (group.to_owned(), members));
            assert_eq!(captured(&correlation, event.clone()), expected, "{event}");
        }
    }

    #[test]
    fn what_was_captured_is_recorded_short() {
        let spec = json!({"within": "10m", "all": [{"name": "down", "when": "true"}]});
        let correlation = correlation(spec).expect("compiles");
        let mut windows = correlation.windows();
        for (id, note) in [("a", "n".repeat(5000)), ("b", "short".to_owned())] {
            let event = json!({"reason": "Down", "note": note, "regarding": {"name": "n1"},
                "metadata": {"uid": "u", "managedFields": []}});
            let captured = Captured {
                id: id.to_owned(),
                time: Timestamp::UNIX_EPOCH,
                lasts: (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
                group: String::new(),
                members: vec![0],
                data: Arc::new(json!({"type": "Down", "data": event})),
            };
            windows.take(captured);
        }
        let found = windows.found(Timestamp::UNIX_EPOCH);
        let recorded: Vec<_> = found.iter().flat_map(|found| correlation.record(found)).collect();
        let cut = recorded[0].data.0["note"].as_str().expect("a note").len();
        assert_eq!((recorded.len(), cut, &recorded[1].data.0["note"]), (2, NOTE_LIMIT, &json!("short")));
        assert_eq!(recorded[0].data.0.get("metadata"), None);
        let bindings = with_captured(Bindings::at(Timestamp::UNIX_EPOCH), &recorded[1..]);
        let scope = Scope::of(["events", "captured"]);
        let read = "captured.down.data.regarding.name == 'n1' && events[0].type == 'Down'";
        assert_eq!(Expression::compile(read, &scope).expect("compiles").matches(&bindings), Ok(true));
    }

    #[test]
    fn a_long_alert_keeps_what_it_is_told_by() {
        let alert =
            json!({"fingerprint": "f", "labels": {"node": "n1"}, "annotations": {"text": "x".repeat(5000)}});
        assert_eq!(brief(&alert), json!({"fingerprint": "f", "labels": {"node": "n1"}}));
        let alert = json!({"fingerprint": "f", "labels": {"node": "n".repeat(5000)}});
        assert_eq!(brief(&alert), json!({"fingerprint": "f"}));
    }

    #[test]
    fn without_members_every_event_counts() {
        let correlation = correlation(json!({"within": "10m", "count": 3})).expect("compiles");
        assert_eq!(captured(&correlation, json!({})), Some((String::new(), vec![])));
    }

    #[test]
    fn all_mistakes_are_found_with_their_places() {
        let spec = json!({"groupBy": "evnt.x", "within": "0s", "all": [
            {"name": "a", "when": "event.x =="}, {"name": "a", "when": "true"}]});
        let problems = correlation(spec).expect_err("refused");
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.correlate.groupBy",
                "spec.correlate.all[0].when",
                "spec.correlate.all[1].name",
                "spec.correlate.within"
            ]
        );
    }
}
