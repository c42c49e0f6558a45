//! From one event to its place in a Rule's windows: its group, and the members that it is one of.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::correlation::{Captured, Found, Pattern, Windows};
use super::gathering::Part;
use super::given::Givens;
use super::keeping::Keeping;
use super::matching::expression_problem;
use super::problem::Problem;
use super::unless::Objections;
use crate::api::{AnyValue, CapturedEvent, Correlate, Member, RuleSpec};
use crate::expr::{Bindings, EvalError, EvalErrorKind, Expression, Scope};

/// A Rule's `correlate`, compiled.
#[derive(Clone, Debug)]
pub struct Correlation {
    pattern: Pattern,
    within: k8s_openapi::jiff::SignedDuration,
    group_by: Option<Expression>,
    members: Vec<(String, Expression)>,
    givens: Arc<Givens>,
    keeping: Keeping,
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
        let givens = Arc::new(Givens::compile(correlate, scope, &mut problems));
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
        let keeping = Keeping::default();
        Ok(Self { pattern, within: correlate.within.signed(), group_by, members, givens, keeping })
    }

    /// The same, where what a Rule's `unless` and `with` read of its events is recorded of them.
    #[must_use]
    pub(super) fn read_by(self, spec: &RuleSpec, unless: &Objections) -> Self {
        Self { keeping: Keeping::of(spec, unless), ..self }
    }

    /// Windows in which nothing waits yet.
    pub fn windows(&self) -> Windows {
        Windows::new(self.pattern, self.within).with(self.givens.clone())
    }

    /// Whether it is about something that stays away.
    pub fn is_absence(&self) -> bool {
        self.pattern == Pattern::Absent
    }

    /// How long a window is.
    pub fn within(&self) -> k8s_openapi::jiff::SignedDuration {
        self.within
    }

    /// Its expressions over several events.
    pub fn givens(&self) -> impl Iterator<Item = &Expression> {
        self.givens.expressions()
    }

    /// Its expressions over one event.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.group_by.iter().chain(self.members.iter().map(|(_, when)| when))
    }

    /// The name of a member, for `captured`.
    pub fn member(&self, place: usize) -> Option<&str> {
        self.members.get(place).map(|(name, _)| name.as_str())
    }

    /// What is kept of its events.
    #[cfg(test)]
    pub(super) fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// What is recorded of a pattern's events.
    pub fn record(&self, found: &Found) -> Vec<CapturedEvent> {
        let record = |(place, event): &(usize, Captured)| CapturedEvent {
            id: event.id.clone(),
            member: self.member(*place).map(str::to_owned),
            event_type: event.data["type"].as_str().unwrap_or_default().to_owned(),
            time: Time(event.time),
            data: AnyValue(event.data["data"].clone()),
            left_out: Vec::new(),
        };
        self.keeping.cut(found.events.iter().map(record).collect())
    }

    /// What an event is here; nothing if it is no member of the pattern.
    pub fn capture(
        &self,
        (id, time): (&str, Timestamp),
        bindings: &Bindings,
        data: Arc<Value>,
    ) -> Result<Option<Captured>, EvalError> {
        let Some(Part { group, members }) = self.part(bindings)? else { return Ok(None) };
        let size = group.len() + data.to_string().len();
        Ok(Some(Captured { id: id.to_owned(), time, lasts: (time, time), group, members, data, size }))
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
