//! What an event of a pattern has to have to do with those before it, or beside it: the `given` of a member.
//!
//! What an event is, its `when` says, of it alone and when it comes. Its `given` is asked when events are put together, newest
//! first, over the events and nothing else: the clock is that of the event, so that a list after a restart leads to what the
//! live stream led to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Map, Value, json};

use super::capture::members;
use super::correlation::Captured;
use super::excerpt::copy;
use super::matching::expression_problem;
use super::problem::Problem;
use crate::api::{Correlate, Member, RuleSpec};
use crate::expr::{At, Bindings, EvalErrorKind, Expression, ObjectType, Scope, Type};

/// What a search for the events that one event completes may cost: a step for each event that is looked at, and for each
/// expression that is evaluated so many, with its own and what it reads. It is enough for all pairs of a group where an expression compares
/// some fields.
const STEPS: usize = 20_000;
const EVALUATION: usize = 10;
/// What an expression reads takes a step for so many values, and for so many bytes of a text.
const VALUES: usize = 4;
const BYTES: usize = 512;

/// Where the clock is, which is not that of an event.
const NO_CLOCK: &str = "`given` is about events and not about when they are looked at: they have `event.time` and `captured.NAME.time`";

/// The conditions of a pattern's members over other members, each by the place of its member.
#[derive(Clone, Debug, Default)]
pub struct Givens(BTreeMap<usize, Given>);

#[derive(Clone, Debug)]
struct Given {
    expression: Expression,
    /// The name of its member.
    of: String,
    /// The members that it reads, by their place.
    reads: BTreeMap<usize, Reading>,
}

/// What is read of a member, as paths below what `captured` has of it.
#[derive(Clone, Debug, Default)]
struct Reading {
    name: String,
    paths: Vec<Vec<String>>,
}

/// What cannot be said of an event, or was not looked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// The event.
    pub id: String,
    /// What is wrong, in a sentence.
    pub text: String,
}

/// What a round may still cost.
#[derive(Clone, Copy, Debug)]
pub struct Steps(pub usize);

/// What an event completes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Completed {
    /// These: (member, place), by when they happened.
    By(Vec<(usize, usize)>),
    /// Nothing.
    Nothing,
    /// Nobody knows: the round may cost no more.
    Unknown,
}

/// The members of a `sequence` or `all`, in their order.
fn ordered(correlate: &Correlate) -> &[Member] {
    if correlate.sequence.is_empty() { &correlate.all } else { &correlate.sequence }
}

/// The members that a member's `given` knows of: in a sequence those before it, otherwise all others.
fn known_to(correlate: &Correlate, place: usize) -> Vec<&Member> {
    let all = ordered(correlate).iter().enumerate();
    let is_sequence = !correlate.sequence.is_empty();
    let is_known = |other: usize| if is_sequence { other < place } else { other != place };
    all.filter(|(other, _)| is_known(*other)).map(|(_, member)| member).collect()
}

/// The scope of a member's `given`: that of its `when`, and what `captured` has of others, each of a type.
pub(super) fn scope(correlate: &Correlate, place: usize, when: Scope, one: &Type) -> Scope {
    let name = ordered(correlate).get(place).map_or("", |member| member.name.as_str());
    let which = if correlate.sequence.is_empty() { "beside" } else { "before" };
    let known = known_to(correlate, place).into_iter().map(|member| (member.name.clone(), one.clone()));
    let captured = ObjectType::given(&format!("captured, which has what comes {which} {name:?},"), known);
    when.without("now", NO_CLOCK).with_type("captured", Type::Object(captured))
}

/// The members that say what they have to do with others, each with its path below `correlate` and its place.
pub(super) fn givens(correlate: &Correlate) -> impl Iterator<Item = (String, usize, &str)> {
    let list = if correlate.sequence.is_empty() { "all" } else { "sequence" };
    let all = ordered(correlate).iter().enumerate();
    all.filter_map(move |(place, member)| {
        Some((format!("{list}[{place}].given"), place, member.given.as_deref()?))
    })
}

/// Where there is nothing that a `given` could read.
pub(super) fn misplaced(spec: &RuleSpec) -> Vec<Problem> {
    let Some(correlate) = &spec.correlate else { return Vec::new() };
    let given = members(correlate).filter(|(_, member)| member.given.is_some());
    let problem = |(path, _): (String, &Member)| {
        let (message, help) = match path.as_str() {
            _ if spec.trigger.resource.is_some() => (
                "of an object is kept that it matches, and not what it was: there is nothing to compare",
                "say by `groupBy` which objects belong together",
            ),
            "sequence[0]" => ("nothing comes before the first of a sequence", "say it in `when`"),
            path if path.starts_with("any") => ("an event of any member acts alone", "say it in `when`"),
            path if path.starts_with("absent") => {
                ("what stays away cannot be compared", "say by `groupBy` which events belong together")
            }
            _ => return None,
        };
        Some(Problem::error(format!("spec.correlate.{path}.given"), message).help(help))
    };
    given.filter_map(problem).collect()
}

impl Givens {
    /// Compiles them over what a member's `when` sees; all that is wrong at once.
    pub(super) fn compile(correlate: &Correlate, when: &Scope, problems: &mut Vec<Problem>) -> Self {
        let mut compiled = BTreeMap::new();
        for (path, place, source) in givens(correlate) {
            let scope = scope(correlate, place, when.clone(), &Type::Any);
            let found = Expression::compile(source, &scope).and_then(|it| it.expect(&Type::Bool));
            match found {
                Ok(expression) => drop(compiled.insert(place, Given::of(expression, correlate, place))),
                Err(errors) => {
                    let path = format!("spec.correlate.{path}");
                    problems.extend(errors.iter().map(|error| expression_problem(&path, error)));
                }
            }
        }
        Self(compiled)
    }

    /// Whether no member says anything of others.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.values().map(|given| &given.expression)
    }

    /// The newest events of a window, by its last members first, that complete a pattern of so many members with its last
    /// event. What cannot be judged does not fit, and is said.
    pub fn completed_by(
        &self,
        (members, in_order): (usize, bool),
        window: &[Captured],
        steps: &mut Steps,
    ) -> (Completed, Option<Mistake>) {
        let Some(last) = window.len().checked_sub(1) else { return (Completed::Nothing, None) };
        let may_be = |member: &usize| window[last].is(*member) && (!in_order || member + 1 == members);
        let own = steps.0.min(STEPS);
        let (chosen, mistake) = (vec![None; members], None);
        let mut search = Search { givens: self, window, in_order, chosen, left: own, mistake };
        let mut found = Ok(false);
        for member in (0..members).rev().filter(may_be) {
            found = search.with(member, last);
            if found != Ok(false) {
                break;
            }
        }
        let Search { chosen, left, mut mistake, .. } = search;
        steps.0 -= own - left;
        let completed = match found {
            Ok(true) => Completed::By(by_time(&chosen)),
            Ok(false) => Completed::Nothing,
            Err(Spent) if own < STEPS => Completed::Unknown,
            // What cannot be judged may well cost the most.
            Err(Spent) => {
                let too_much = || Mistake { id: window[last].id.clone(), text: TOO_MUCH.to_owned() };
                mistake = Some(mistake.unwrap_or_else(too_much));
                Completed::Nothing
            }
        };
        (completed, mistake)
    }
}

/// What is said where a search costs too much.
const TOO_MUCH: &str =
    "too many events wait to try what goes with this one by `given`: `groupBy` makes groups smaller";
/// The same of all that wait.
pub const TOO_MUCH_AT_ONCE: &str =
    "too many events wait to try at once what goes together by `given`: `groupBy` makes groups smaller";

fn by_time(chosen: &[Option<usize>]) -> Vec<(usize, usize)> {
    let mut places: Vec<_> =
        chosen.iter().enumerate().filter_map(|(member, place)| Some((member, (*place)?))).collect();
    places.sort_by_key(|(_, place)| *place);
    places
}

impl Given {
    fn of(expression: Expression, correlate: &Correlate, place: usize) -> Self {
        let all = ordered(correlate);
        let mut reads = BTreeMap::<usize, Reading>::new();
        let known = known_to(correlate, place);
        for path in expression.paths().filter(|path| path[0] == "captured") {
            let read = known.iter().filter(|member| path.get(1).is_none_or(|name| *name == member.name));
            for member in read {
                let Some(at) = all.iter().position(|one| one.name == member.name) else { continue };
                let reading = reads.entry(at).or_default();
                reading.name.clone_from(&member.name);
                reading.paths.push(path.get(2..).unwrap_or_default().to_vec());
            }
        }
        Self { expression, of: all[place].name.clone(), reads }
    }

    /// Whether an event fits to those that are chosen, and what it took to say so.
    fn fits(&self, event: &Captured, others: &[(&Reading, &Captured)]) -> (Result<bool, String>, usize) {
        let mut alert = Value::Null;
        let of_alert = self.expression.paths().filter(|path| path[0] == "alert");
        of_alert.for_each(|path| copy(&event.data["data"], &path[1..], &mut alert));
        let captured = others.iter().map(|(reading, other)| (reading.name.clone(), reading.of(other)));
        let captured = Value::Object(captured.collect());
        let of_event = self.expression.paths().filter(|path| path[0] == "event");
        let of_event = of_event.filter_map(|path| match field(&event.data, &path[1..]) {
            At::Value(value) => Some(weight(value)),
            At::Nothing | At::Unknown => None,
        });
        let read = of_event.sum::<usize>() + weight(&captured) + weight(&alert);
        let bindings = Bindings::at(event.time)
            .with("event", event.data.clone())
            .with("alert", alert)
            .with("captured", captured);
        let (found, steps) = self.expression.matches_counted(&bindings);
        let found = match found {
            // Fields come and go: an event that lacks one is not the one that is meant.
            Err(error) if error.kind == EvalErrorKind::Absent => Ok(false),
            other => other.map_err(|error| format!("given of {:?}: {error}", self.of)),
        };
        (found, EVALUATION + read / VALUES + usize::try_from(steps).unwrap_or(usize::MAX))
    }

    /// Whether that is known not to be without evaluating anything.
    fn is_refuted(&self, event: &Captured, others: &[(&Reading, &Captured)]) -> bool {
        self.expression.is_refuted(|path| match path {
            [variable, below @ ..] if variable == "event" => field(&event.data, below),
            [variable, below @ ..] if variable == "alert" => field(&event.data["data"], below),
            [variable, name, data, below @ ..] if variable == "captured" && data == "data" => {
                let other = others.iter().find(|(reading, _)| reading.name == *name);
                other.map_or(At::Unknown, |(_, other)| field(&other.data["data"], below))
            }
            _ => At::Unknown,
        })
    }
}

/// How many values there are in one, where so many bytes of a text are as much as some.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / BYTES * VALUES,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(weight).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

fn field<'v>(value: &'v Value, below: &[String]) -> At<'v> {
    let found = below.iter().try_fold(value, |value, field| value.get(field));
    found.map_or(At::Nothing, At::Value)
}

impl Reading {
    /// An event as `captured` has it, as far as it is read.
    fn of(&self, event: &Captured) -> Value {
        let mut told = Map::from_iter([
            ("id".to_owned(), event.id.as_str().into()),
            ("member".to_owned(), self.name.as_str().into()),
            ("type".to_owned(), event.data["type"].clone()),
            ("time".to_owned(), json!(MicroTime(event.time))),
        ]);
        let mut data = Value::Null;
        for path in &self.paths {
            match path.as_slice() {
                [] => copy(&event.data["data"], &[], &mut data),
                [field, below @ ..] if field == "data" => copy(&event.data["data"], below, &mut data),
                _ => {}
            }
        }
        told.insert("data".to_owned(), data);
        Value::Object(told)
    }
}

/// More than a search may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Spent;

/// Looks for the events that go together, newest first.
struct Search<'a> {
    givens: &'a Givens,
    window: &'a [Captured],
    /// Whether the members come one after the other.
    in_order: bool,
    /// The place of each member, if it has one.
    chosen: Vec<Option<usize>>,
    left: usize,
    mistake: Option<Mistake>,
}

impl<'a> Search<'a> {
    fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or_default();
        left.map(|_| ()).ok_or(Spent)
    }

    /// Looks for the others where one member is at a place.
    fn with(&mut self, member: usize, place: usize) -> Result<bool, Spent> {
        self.chosen.fill(None);
        self.chosen[member] = Some(place);
        let others: Vec<usize> = (0..self.chosen.len()).rev().filter(|other| *other != member).collect();
        Ok(self.fits(member)? && self.choose(&others, place)?)
    }

    /// Chooses an event for each of these members; what is in order comes before a place.
    fn choose(&mut self, members: &[usize], before: usize) -> Result<bool, Spent> {
        let [member, others @ ..] = members else { return Ok(true) };
        let end = if self.in_order { before } else { self.window.len() };
        for place in (0..end).rev() {
            self.spend(1)?;
            if !self.window[place].is(*member) {
                continue;
            }
            self.chosen[*member] = Some(place);
            if self.fits(*member)? && self.choose(others, place)? {
                return Ok(true);
            }
        }
        self.chosen[*member] = None;
        Ok(false)
    }

    /// The event that is chosen for a member.
    fn at(&self, member: usize) -> Option<&'a Captured> {
        self.chosen[member].map(|place| &self.window[place])
    }

    /// Whether all that can be asked since a member was chosen is so.
    fn fits(&mut self, member: usize) -> Result<bool, Spent> {
        let givens: &'a Givens = self.givens;
        for (of, given) in
            givens.0.iter().filter(|(of, given)| **of == member || given.reads.contains_key(&member))
        {
            let reads = given.reads.iter().map(|(other, reading)| Some((reading, self.at(*other)?)));
            let (Some(event), Some(others)) = (self.at(*of), reads.collect::<Option<Vec<_>>>()) else {
                continue;
            };
            if given.is_refuted(event, &others) {
                return Ok(false);
            }
            let (fits, steps) = given.fits(event, &others);
            if let Err(text) = &fits {
                self.mistake = Some(Mistake { id: event.id.clone(), text: text.clone() });
            }
            self.spend(steps)?;
            if fits != Ok(true) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::super::correlation::{Pattern, Windows};
    use super::*;

    fn correlate(list: &str, givens: &[&str]) -> Correlate {
        let member = |(place, given): (usize, &&str)| {
            let name = char::from(b'a' + u8::try_from(place).expect("few")).to_string();
            let given = (!given.is_empty()).then_some(*given);
            json!({"name": name, "when": "true", "given": given})
        };
        let members: Vec<_> = givens.iter().enumerate().map(member).collect();
        serde_json::from_value(json!({"within": "10m", list: members})).expect("a pattern")
    }

    fn compiled(correlate: &Correlate) -> Result<Givens, Vec<String>> {
        let mut problems = Vec::new();
        let givens = Givens::compile(correlate, &Scope::of(["event", "now"]), &mut problems);
        let told = |problem: &Problem| problem.to_string();
        if problems.is_empty() { Ok(givens) } else { Err(problems.iter().map(told).collect()) }
    }

    /// An event `ab7:x`: of the members `a` and `b`, at second 7, of job `x`; `a7` has no job, and that of `a7:` is no text.
    fn event(text: &str) -> Captured {
        let (head, job) = text.split_once(':').map_or((text, None), |(head, job)| (head, Some(job)));
        let (members, second): (String, String) = head.chars().partition(char::is_ascii_alphabetic);
        let time = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second.parse().expect("a second"));
        let data = match job {
            None => json!({"second": second}),
            Some("") => json!({"second": second, "job": [1]}),
            Some(job) => json!({"second": second, "job": job}),
        };
        Captured {
            id: text.to_owned(),
            time,
            lasts: (time, time),
            group: String::new(),
            members: members.bytes().map(|member| usize::from(member - b'a')).collect(),
            data: Arc::new(json!({"id": text, "type": members, "time": time.to_string(), "data": data})),
            size: 1,
        }
    }

    /// What a pattern finds, and what it says it cannot.
    fn found(list: &str, givens: &[&str], events: &str) -> (Vec<String>, Option<String>) {
        let correlate = correlate(list, givens);
        let pattern = if list == "all" { Pattern::All } else { Pattern::Sequence }(givens.len());
        let within = SignedDuration::from_mins(10);
        let mut windows =
            Windows::new(pattern, within).with(Arc::new(compiled(&correlate).expect("compiles")));
        events.split_whitespace().for_each(|text| drop(windows.take(event(text))));
        let found = windows.found(event("a60").time);
        let texts = |events: &[(usize, Captured)]| {
            events.iter().map(|(_, event)| event.id.as_str()).collect::<Vec<_>>().join(" ")
        };
        let said = windows.mistake().map(|mistake| format!("{}: {}", mistake.id, mistake.text));
        (found.iter().map(|found| texts(&found.events)).collect(), said)
    }

    const SAME: &str = "event.data.job == captured.a.data.job";

    #[test]
    fn events_go_together_by_what_they_have_to_do_with_each_other() {
        let longer = "size(event.data.job) > size(captured.a.data.job)";
        let soon = "timestamp(event.time) - timestamp(captured.a.time) < duration('3s')";
        let of_b = "event.data.job == captured.b.data.job && captured.b.id != captured.a.id";
        for (list, givens, events, expected) in [
            ("sequence", vec!["", SAME], "a1:x b2:x", vec!["a1:x b2:x"]),
            ("sequence", vec!["", SAME], "a1:x b2:y", vec![]),
            ("sequence", vec!["", SAME], "a1:x a2:y a3:x b4:y b5:x", vec!["a2:y b4:y", "a3:x b5:x"]),
            ("sequence", vec!["", SAME], "a1:x b2 a3 b4:x", vec!["a1:x b4:x"]),
            ("sequence", vec!["", longer], "a1:xx a2:x b3:xxx", vec!["a2:x b3:xxx"]),
            ("sequence", vec!["", longer], "a1:xx a2:xxx b3:xxx", vec!["a1:xx b3:xxx"]),
            ("sequence", vec!["", soon], "a1:x a2:x b5:x b6:x a7:x b8:x", vec!["a7:x b8:x"]),
            ("sequence", vec!["", "", SAME], "a1:x a2:y b3 c4:x", vec!["a1:x b3 c4:x"]),
            ("sequence", vec!["", SAME, of_b], "a1:x b2:x a3:y b4:x c5:x", vec!["a1:x b4:x c5:x"]),
            ("sequence", vec!["", SAME, of_b], "a1:x b2:y b3:z c4:x", vec![]),
            ("all", vec!["", SAME], "b1:x a2:x", vec!["b1:x a2:x"]),
            ("all", vec!["event.data.job == captured.b.data.job", ""], "b1:y b2:x a3:y", vec!["b1:y a3:y"]),
            ("all", vec!["", SAME], "b1:x a2:y b3:y", vec!["a2:y b3:y"]),
            ("all", vec!["", SAME], "ab1:x", vec!["ab1:x ab1:x"]),
            ("all", vec!["", "captured.a.id != event.id"], "ab1:x ab2:y", vec!["ab1:x ab2:y"]),
            (
                "all",
                vec!["", "captured.a.member == 'a' && captured.a.type == 'a'"],
                "b1 ab2 a3",
                vec!["ab2 a3"],
            ),
        ] {
            let expected = expected.into_iter().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(found(list, &givens, events), (expected, None), "{list} {givens:?} {events}");
        }
    }

    #[test]
    fn what_cannot_be_judged_does_not_fit_and_is_said_while_it_waits() {
        let longer = "size(event.data.job) > captured.a.data.job";
        let (complete, said) = found("sequence", &["", longer], "a1:x b2:xx");
        assert_eq!(complete, [""; 0]);
        let said = said.expect("it is said");
        assert!(said.starts_with("b2:xx: given of \"b\": "), "{said}");
    }

    #[test]
    fn mistakes_are_found_with_their_places() {
        for (list, givens, expected) in [
            (
                "sequence",
                ["", "captured.c.id == ''", "captured.bb.id == ''"],
                vec![
                    "spec.correlate.sequence[1].given: captured, which has what comes before \"b\", has no field \"c\"",
                    "spec.correlate.sequence[2].given: captured, which has what comes before \"c\", has no field \"bb\"",
                ],
            ),
            (
                "all",
                ["captured.c.id == event.id", "captured.b.id == ''", ""],
                vec![
                    "spec.correlate.all[1].given: captured, which has what comes beside \"b\", has no field \"b\"",
                ],
            ),
            (
                "all",
                ["", "now > timestamp(event.time)", "event.id"],
                vec![
                    "spec.correlate.all[1].given: unknown variable \"now\": `given` is about events and not about when they are \
                 looked at: they have `event.time` and `captured.NAME.time`",
                ],
            ),
        ] {
            let told = compiled(&correlate(list, &givens)).expect_err("refused");
            assert_eq!(told, expected, "{givens:?}");
        }
    }

    #[test]
    fn where_nothing_is_to_be_compared_it_is_said_what_to_do() {
        let first = json!({"name": "first", "when": "true", "given": "true"});
        let second = json!({"name": "second", "when": "true"});
        for (correlate, expected) in [
            (
                json!({"sequence": [first, second]}),
                vec!["sequence[0].given: nothing comes before the first of a sequence; say it in `when`"],
            ),
            (json!({"sequence": [second, first]}), vec![]),
            (json!({"all": [first, second]}), vec![]),
            (
                json!({"any": [second, first]}),
                vec!["any[1].given: an event of any member acts alone; say it in `when`"],
            ),
            (
                json!({"absent": {"after": second, "expected": first}}),
                vec![
                    "absent.expected.given: what stays away cannot be compared; say by `groupBy` which events belong together",
                ],
            ),
        ] {
            let mut correlate = correlate;
            correlate["within"] = "10m".into();
            let spec = |trigger: Value| -> RuleSpec {
                let spec = json!({"serviceAccountName": "h", "trigger": trigger, "ladder": [], "correlate": correlate});
                serde_json::from_value(spec).expect("a spec")
            };
            let told = |spec: RuleSpec| misplaced(&spec).iter().map(ToString::to_string).collect::<Vec<_>>();
            let expected: Vec<_> = expected.iter().map(|text| format!("spec.correlate.{text}")).collect();
            assert_eq!(told(spec(json!({"event": {}}))), expected);
            let of_objects = told(spec(json!({"resource": {"apiVersion": "v1", "kind": "Pod"}})));
            assert!(
                of_objects.len() == 1 && of_objects[0].contains(": of an object is kept that"),
                "{of_objects:?}"
            );
        }
    }

    /// What an expression takes counts, and not only that it was asked.
    #[test]
    fn expressions_that_take_long_are_asked_less_often() {
        let asked = |given: &str| {
            let givens = compiled(&correlate("sequence", &["", given])).expect("compiles");
            let events = (0..500).map(|n| format!("a{n}:x")).collect::<Vec<_>>().join(" ");
            let window: Vec<_> = (events + " b500:y").split_whitespace().map(event).collect();
            let mut steps = Steps(usize::MAX);
            let (completed, _) = givens.completed_by((2, true), &window, &mut steps);
            assert_eq!(completed, Completed::Nothing, "{given}");
            usize::MAX - steps.0
        };
        assert_eq!(asked("event.data.job == captured.a.data.job"), 500, "known without asking");
        let cheap = asked("event.data.job != captured.a.data.job + 'z' && captured.a.data.job == 'z'");
        assert!((500 * EVALUATION..STEPS).contains(&cheap), "{cheap}");
        assert_eq!(
            asked(
                "[1, 2, 3, 4, 5, 6, 7, 8].exists(a, [1, 2, 3, 4, 5, 6, 7, 8].exists(b, a * b > 64 && captured.a.id == ''))"
            ),
            STEPS
        );
    }

    /// What a search may cost is enough for a whole group of pairs, and bounded for more.
    #[test]
    fn a_search_has_an_end_and_says_so() {
        let many = |given: &str, members: usize| {
            let mut givens = vec![""; members - 1];
            givens.push(given);
            let of = |count: usize| {
                (0..count).map(|n| {
                    format!("{}{n}:x ", char::from(b'a' + u8::try_from(n % (members - 1)).expect("few")))
                })
            };
            let last = char::from(b'a' + u8::try_from(members - 1).expect("few"));
            let events = of(590).collect::<String>() + &format!("{last}599:y");
            found("sequence", &givens, &events)
        };
        assert_eq!(many("size(event.data.job) > size(captured.a.data.job)", 2), (vec![], None));
        let (complete, said) = many("size(event.data.job) > size(captured.a.data.job)", 4);
        assert_eq!(complete, [""; 0]);
        assert_eq!(said, Some(format!("d599:y: {TOO_MUCH}")));
    }

    fn stream() -> impl Strategy<Value = Vec<String>> {
        let one = (0..3u8, 0..3u8, 0..3u8).prop_map(|(member, other, job)| {
            let members: BTreeSet<u8> = [member, member.max(other)].into();
            let members: String = members.into_iter().map(|member| char::from(b'a' + member)).collect();
            (members, char::from(b'x' + job))
        });
        proptest::collection::vec(one, 1..9).prop_map(|all| {
            all.iter()
                .enumerate()
                .map(|(second, (members, job))| format!("{members}{second}:{job}"))
                .collect()
        })
    }

    /// All ways in which events complete a pattern of three with the last of them, newest first by their last members.
    fn every_way(window: &[Captured], in_order: bool) -> Option<Vec<usize>> {
        let last = window.len() - 1;
        let job = |place: usize| window[place].data["data"]["job"].clone();
        let places = |member: usize| (0..=last).rev().filter(move |place| window[*place].is(member));
        for fixed in (0..3).rev().filter(|member| window[last].is(*member)) {
            for c in places(2) {
                for b in places(1) {
                    for a in places(0) {
                        let ways = [a, b, c];
                        let ordered = !in_order || (a < b && b < c && c == last);
                        if ordered && ways[fixed] == last && job(b) == job(a) && job(c) != job(b) {
                            return Some(ways.to_vec());
                        }
                    }
                }
            }
        }
        None
    }

    proptest! {
        /// What is chosen is what whoever tries everything chooses first.
        #[test]
        fn the_newest_that_fit_are_chosen(texts in stream(), in_order: bool) {
            let list = if in_order { "sequence" } else { "all" };
            let correlate = correlate(list, &["", SAME, "event.data.job != captured.b.data.job"]);
            let givens = compiled(&correlate).expect("compiles");
            let window: Vec<_> = texts.iter().map(|text| event(text)).collect();
            let (completed, said) = givens.completed_by((3, in_order), &window, &mut Steps(STEPS));
            prop_assert_eq!(said, None);
            let expected = every_way(&window, in_order).map(|ways| {
                let mut ways: Vec<_> = ways.into_iter().enumerate().collect();
                ways.sort_by_key(|(_, place)| *place);
                ways
            });
            prop_assert_eq!(completed, expected.map_or(Completed::Nothing, Completed::By));
        }
    }
}
