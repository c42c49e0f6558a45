//! What a decision keeps of the events that led to it together: what the Rule's `unless` and `with` read of them, and what
//! tells a person what they were, as far as there is room in an Execution.
//!
//! *Guarantees*: what an expression reads of what is kept is what it would have read of the whole, or [`unread`] says what
//! was left out.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::excerpt::copy;
use super::execution::rung;
use super::unless::Objections;
use crate::api::{AnyValue, CapturedEvent, RuleSpec, Trigger};
use crate::expr::{Expression, Scope, TemplateTree};

/// The most that is kept of the data of all events, in bytes: the rest of an Execution has room beside it, in which are
/// another event of 64 KiB, and what its rungs say.
const ALL: usize = 64 * 1024;
/// The most that is kept of one event.
const ONE: usize = 16 * 1024;
/// The most that is kept of an event that nobody reads, for a person.
const FOR_PEOPLE: usize = 2048;
/// What is kept for a person of an Event's note, in characters.
const NOTE: usize = 256;
/// What is kept for a person of a Kubernetes Event.
const OF_EVENTS: [&str; 4] = ["type", "reason", "regarding", "reportingController"];
/// What is kept for a person of an alert that is too long, while there is room.
const OF_ALERTS: [&str; 5] = ["fingerprint", "status", "startsAt", "endsAt", "labels"];
/// What is kept for a person of the end of an Execution that was made of much.
const OF_ENDS: [&str; 5] = ["execution", "rule", "target", "outcome", "reason"];
/// The most paths that are named as left out; of more nothing is kept.
const NAMED: usize = 16;
/// The longest such path.
const LONGEST: usize = 256;

/// A path below an event's data; the empty one is all of it.
type Below = Vec<String>;

/// What a Rule keeps of the events that it captures.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// What is read, with the member of which; of all where none is named.
    read: BTreeSet<(Option<String>, Below)>,
    source: Source,
}

/// Where events are from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Source {
    Kubernetes,
    Alerts,
    Ends,
    #[default]
    Other,
}

impl Keeping {
    /// What a Rule keeps.
    pub(super) fn of(spec: &RuleSpec, unless: &Objections) -> Self {
        let trees = spec.ladder.iter().filter_map(|rung| {
            TemplateTree::compile(&rung.with.to_value(), &Scope::of(rung::VARIABLES)).ok()
        });
        let mut read: BTreeSet<_> = unless.expressions().flat_map(reads).collect();
        for tree in trees {
            read.extend(tree.expressions().into_iter().flat_map(reads));
        }
        let source = match &spec.trigger {
            Trigger { event: Some(_), .. } => Source::Kubernetes,
            Trigger { alert: Some(_), .. } => Source::Alerts,
            Trigger { execution: Some(_), .. } => Source::Ends,
            _ => Source::Other,
        };
        Self { read, source }
    }

    /// Cuts the data of events so that an Execution has room for them. What one does not need is the others'.
    pub(super) fn cut(&self, mut events: Vec<CapturedEvent>) -> Vec<CapturedEvent> {
        let mut wanted: Vec<_> = events.iter().map(|event| self.wanted(event)).collect();
        let mut by_size: Vec<_> = wanted.iter().map(size).enumerate().collect();
        by_size.sort_by_key(|(_, size)| *size);
        let mut left = ALL;
        for (waiting, (at, _)) in (1..=by_size.len()).rev().zip(by_size) {
            let room = ONE.min(left / waiting);
            let event = &mut events[at];
            let kept = self.fitted(event, std::mem::take(&mut wanted[at]), room);
            left = left.saturating_sub(size(&kept.0));
            (event.data, event.left_out) = (AnyValue(kept.0), kept.1);
        }
        events
    }

    /// What is read of an event.
    fn paths(&self, event: &CapturedEvent) -> BTreeSet<&Below> {
        let is_of = |member: &Option<String>| member.is_none() || *member == event.member;
        self.read.iter().filter(|(member, _)| is_of(member)).map(|(_, below)| below).collect()
    }

    /// What is read of an event, and what is kept for a person.
    fn wanted(&self, event: &CapturedEvent) -> Value {
        let mut kept = match self.source {
            Source::Kubernetes => of_event(&event.data.0),
            _ if size(&event.data.0) <= FOR_PEOPLE => return event.data.0.clone(),
            Source::Alerts => of_alert(&event.data.0),
            Source::Ends => fields(&event.data.0, &OF_ENDS).into(),
            Source::Other => Value::Null,
        };
        self.paths(event).into_iter().for_each(|path| copy(&event.data.0, path, &mut kept));
        kept
    }

    /// The same as far as there is room: the smaller of what is read rather than the larger. With it what is left out.
    fn fitted(&self, event: &CapturedEvent, wanted: Value, room: usize) -> (Value, Vec<String>) {
        if size(&wanted) <= room {
            return (wanted, Vec::new());
        }
        let whole = &event.data.0;
        let alone = |path: &Below| {
            let mut kept = Value::Null;
            copy(whole, path, &mut kept);
            size(&kept)
        };
        let mut paths: Vec<_> = self.paths(event).into_iter().map(|path| (alone(path), path)).collect();
        paths.sort();
        let (mut kept, mut left_out) = (Value::Null, Vec::new());
        for (_, path) in paths {
            let mut with = kept.clone();
            copy(whole, path, &mut with);
            if size(&with) <= room {
                kept = with;
            } else {
                left_out.push(dotted(path));
            }
        }
        if left_out.len() > NAMED || left_out.iter().any(|path| path.len() > LONGEST) {
            (kept, left_out) = (Value::Null, vec![dotted(&[])]);
        }
        for field in self.for_people() {
            let mut with = kept.clone();
            copy(whole, &[(*field).to_owned()], &mut with);
            if whole.get(field).is_some() && size(&with) <= room {
                kept = with;
            }
        }
        (kept, left_out)
    }

    fn for_people(&self) -> &'static [&'static str] {
        match self.source {
            Source::Kubernetes => &OF_EVENTS,
            Source::Alerts => &OF_ALERTS,
            Source::Ends => &OF_ENDS,
            Source::Other => &[],
        }
    }
}

/// What an expression reads of the data of captured events, with the member of which.
fn reads(expression: &Expression) -> Vec<(Option<String>, Below)> {
    let below = |path: &[String]| match path {
        [] => Some(Vec::new()),
        [field, rest @ ..] => (field == "data").then(|| rest.to_vec()),
    };
    let of_all = expression.elements("events").filter_map(below).map(|below| (None, below));
    let named = expression.paths().filter_map(|path| match path {
        [variable] => (variable == "captured").then(|| (None, Vec::new())),
        [variable, member, rest @ ..] if variable == "captured" => Some((Some(member.clone()), below(rest)?)),
        _ => None,
    });
    of_all.chain(named).collect()
}

/// What an expression would have to read and was left out, in a sentence.
pub fn unread(expression: &Expression, captured: &[CapturedEvent]) -> Option<String> {
    let cut = captured.iter().filter(|event| !event.left_out.is_empty());
    let mut cut = cut.flat_map(|event| event.left_out.iter().map(move |path| (event, path))).peekable();
    cut.peek()?;
    let read = reads(expression);
    let (event, path) = cut.find(|(event, path)| {
        let of_event = read.iter().filter(|(member, _)| member.is_none() || *member == event.member);
        of_event.map(|(_, below)| dotted(below)).any(|read| covers(&read, path) || covers(path, &read))
    })?;
    let name = event.member.as_deref().unwrap_or(&event.id);
    Some(format!(
        "{path} of the captured event {name:?} was left out: at most {} KiB are kept of what is read of one, and {} KiB of all",
        ONE / 1024,
        ALL / 1024
    ))
}

fn dotted(below: &[String]) -> String {
    ["data"].into_iter().chain(below.iter().map(String::as_str)).collect::<Vec<_>>().join(".")
}

fn covers(path: &str, other: &str) -> bool {
    other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}

/// What a person is told of an alert, before its prose.
fn of_alert(data: &Value) -> Value {
    let mut kept = Map::new();
    for key in OF_ALERTS {
        let Some(value) = data.get(key) else { continue };
        if size(&Value::Object(kept.clone())) + key.len() + size(value) < FOR_PEOPLE {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(kept)
}

/// Fields of a value, as far as they are there.
fn fields(data: &Value, names: &[&str]) -> Map<String, Value> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), data.get(name)?.clone()))).collect()
}

/// What a person is told of a Kubernetes Event.
fn of_event(data: &Value) -> Value {
    let mut kept = fields(data, &OF_EVENTS);
    if let Some(note) = data["note"].as_str() {
        kept.insert("note".to_owned(), note.chars().take(NOTE).collect::<String>().into());
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::decide::capture::with_captured;
    use crate::decide::correlation::{Captured, Found};
    use crate::decide::matching::CompiledRule;
    use crate::expr::Bindings;

    /// A Rule about two members that come together, of a trigger, whose `unless` and `with` read something.
    fn rule(trigger: Value, reads: &[&str]) -> CompiledRule {
        let with: Map<String, Value> = reads
            .iter()
            .enumerate()
            .map(|(number, read)| (format!("p{number}"), format!("${{{{ {read} }}}}").into()))
            .collect();
        let member = |name: &str| json!({"name": name, "when": "true"});
        let spec = json!({"serviceAccountName": "h", "trigger": trigger, "ladder": [{"run": "x", "with": with}],
            "correlate": {"groupBy": "event.id", "within": "10m", "all": [member("one"), member("two")]},
            "target": if trigger.get("event").is_some() { Value::Null } else { json!({"key": "event.id"}) }});
        let spec = serde_json::from_value(spec).expect("a spec");
        CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH).unwrap_or_else(|found| panic!("{found:?}"))
    }

    fn webhook() -> Value {
        json!({"webhook": {"name": "w"}})
    }

    /// What is recorded where these came together.
    fn recorded(rule: &CompiledRule, data: &[Value]) -> Vec<CapturedEvent> {
        let now = Timestamp::UNIX_EPOCH;
        let captured = data.iter().enumerate().map(|(place, data)| {
            let data = Arc::new(json!({"type": "push", "data": data}));
            let captured = Captured {
                id: place.to_string(),
                time: now,
                lasts: (now, now),
                group: String::new(),
                members: vec![place],
                data,
                size: 1,
            };
            (place, captured)
        });
        let found =
            Found { group: String::new(), occurrence: "1".into(), time: now, events: captured.collect() };
        rule.correlation.as_ref().expect("a pattern").record(&found)
    }

    fn read(expression: &str) -> Expression {
        Expression::compile(expression, &Scope::of(["events", "captured"])).expect("compiles")
    }

    /// What an expression gives over what is recorded, or why it cannot.
    fn over(captured: &[CapturedEvent], expression: &str) -> Result<Value, String> {
        let expression = read(expression);
        if let Some(unread) = unread(&expression, captured) {
            return Err(unread);
        }
        let bindings = with_captured(Bindings::at(Timestamp::UNIX_EPOCH), captured);
        expression.evaluate(&bindings).map_err(|error| error.to_string())
    }

    /// As large as GitHub's: twenty commits of which each has its files, and the repository with its hundred URLs.
    fn push() -> Value {
        let commit = |number: usize| {
            let files: Vec<_> = (0..10).map(|file| format!("src/module-{number}/file-{file}.rs")).collect();
            json!({"id": format!("{number:040}"), "message": "m".repeat(300), "modified": files})
        };
        let commits: Vec<_> = (0..20).map(commit).collect();
        let urls: Map<String, Value> =
            (0..100).map(|n| (format!("url_{n}"), format!("https://api.github.com/{n}").into())).collect();
        json!({"ref": "refs/heads/main", "after": "4c1e9a2f", "commits": commits, "repository": urls,
            "pusher": {"name": "mona"}})
    }

    #[test]
    fn of_a_large_event_is_kept_what_is_read() {
        let reads = ["events.map(e, e.data.ref)", "captured.two.data.pusher.name"];
        let push = push();
        assert!(size(&push) > FOR_PEOPLE * 4, "{}", size(&push));
        let captured = recorded(&rule(webhook(), &reads), &[push.clone(), push]);
        assert_eq!(captured[0].data.0, json!({"ref": "refs/heads/main"}));
        assert_eq!(captured[1].data.0, json!({"ref": "refs/heads/main", "pusher": {"name": "mona"}}));
        assert_eq!(over(&captured, reads[0]), Ok(json!(["refs/heads/main", "refs/heads/main"])));
        assert_eq!(over(&captured, reads[1]), Ok(json!("mona")));
        assert_eq!(over(&captured, "events.size()"), Ok(json!(2)), "what is only counted is not kept");
        assert!(captured.iter().all(|event| event.left_out.is_empty()));
    }

    #[test]
    fn what_there_is_no_room_for_is_told_to_whoever_reads_it() {
        let huge = json!({"ref": "main", "diff": "d".repeat(ONE)});
        let reads = ["captured.one.data.diff", "events.map(e, e.data.ref)"];
        let captured = recorded(&rule(webhook(), &reads), &[huge.clone(), huge]);
        assert_eq!(
            (&captured[0].data.0, &captured[0].left_out),
            (&json!({"ref": "main"}), &vec!["data.diff".to_owned()])
        );
        assert!(captured[1].left_out.is_empty(), "nobody reads the diff of the other");
        let told = "data.diff of the captured event \"one\" was left out: at most 16 KiB are kept of what is read of one, \
                    and 64 KiB of all";
        for reads in [
            "captured.one.data.diff",
            "size(captured.one.data)",
            "has(captured.one.data.diff)",
            "events[0].data.diff.size()",
            "captured.?one.?data.?diff.orValue('none')",
            "events.exists(e, e.data.diff.contains('x'))",
        ] {
            assert_eq!(over(&captured, reads), Err(told.to_owned()), "{reads}");
        }
        assert_eq!(over(&captured, reads[1]), Ok(json!(["main", "main"])));
        assert_eq!(over(&captured, "captured.one.id"), Ok(json!("0")));
    }

    #[test]
    fn an_execution_has_room_for_all_that_is_kept() {
        let rule = rule(webhook(), &["events.map(e, e.data.text)"]);
        let captured =
            recorded(&rule, &[json!({"text": "x".repeat(100)}), json!({"text": "y".repeat(12_000)})]);
        assert!(captured.iter().all(|event| event.left_out.is_empty()));
        let events = |count: usize, length: usize| -> Vec<CapturedEvent> {
            let one = recorded(&rule, &[json!({"text": "y".repeat(length)})]).remove(0);
            let event = CapturedEvent {
                data: AnyValue(json!({"text": "y".repeat(length)})),
                left_out: Vec::new(),
                ..one
            };
            vec![event; count]
        };
        for (count, length) in [(100, 300), (100, 3000), (5, 14_000), (100, 20_000)] {
            let mut events = events(count, length);
            events[0].data = AnyValue(json!({"text": "short"}));
            let kept = rule.correlation.as_ref().expect("a pattern").keeping().cut(events);
            let all: usize = kept.iter().map(|event| size(&event.data.0)).sum();
            assert!(all <= ALL, "{count} of {length}: {all}");
            assert_eq!(
                kept[0].data.0,
                json!({"text": "short"}),
                "what is small is not cut for what is large"
            );
            let whole = kept.iter().filter(|event| event.left_out.is_empty()).count();
            assert_eq!(
                whole,
                match (count, length) {
                    (100, 300) => 100,
                    (5, _) => 5,
                    (_, 3000) => 22,
                    _ => 1,
                },
                "{count} of {length}: as many as fit"
            );
        }
    }

    #[test]
    fn a_kubernetes_event_is_one_by_its_trigger() {
        let event = json!({"reason": "Down", "note": "n".repeat(1000), "regarding": {"name": "n1"}, "deprecatedCount": 7,
            "series": {"count": 3}, "metadata": {"uid": "u", "managedFields": []}});
        let of_kubernetes = rule(
            json!({"event": {}}),
            &[
                "captured.one.data.deprecatedCount",
                "captured.one.data.series.count",
                "captured.two.data.note",
            ],
        );
        let captured = recorded(&of_kubernetes, &[event.clone(), event.clone()]);
        assert_eq!(
            over(&captured, "captured.one.data.deprecatedCount + captured.one.data.series.count"),
            Ok(json!(10))
        );
        let notes: Vec<_> =
            captured.iter().map(|event| event.data.0["note"].as_str().map_or(0, str::len)).collect();
        assert_eq!(notes, [NOTE, 1000], "a person is told the beginning, whoever reads it all");
        assert_eq!(captured[0].data.0.get("metadata"), None);
        let received = recorded(&rule(webhook(), &[]), std::slice::from_ref(&event));
        assert_eq!(received[0].data.0, event, "regarding is a name like any other");
    }

    #[test]
    fn the_end_of_an_execution_that_was_made_of_much_keeps_which_it_was() {
        let trigger = json!({"execution": {"rules": ["q"]}});
        let of_ends = rule(trigger, &["captured.two.data.event.data.labels.node"]);
        let alert = json!({"id": "f", "data": {"labels": {"node": "n1"}, "text": "x".repeat(5000)}});
        let end = json!({"execution": "q-1", "rule": "q", "outcome": "Observed", "reason": "Observed", "message": "m",
            "target": {"kind": "Node", "name": "n1"}, "event": alert});
        let captured = recorded(&of_ends, &[end.clone(), end]);
        let which = json!({"execution": "q-1", "rule": "q", "outcome": "Observed", "reason": "Observed",
            "target": {"kind": "Node", "name": "n1"}});
        assert_eq!(captured[0].data.0, which);
        assert_eq!(captured[1].data.0["event"], json!({"data": {"labels": {"node": "n1"}}}));
    }

    #[test]
    fn a_long_alert_keeps_what_it_is_told_by() {
        let of_alerts = rule(json!({"alert": {"webhook": "w"}}), &["captured.two.data.annotations.text"]);
        let alert =
            json!({"fingerprint": "f", "labels": {"node": "n1"}, "annotations": {"text": "x".repeat(5000)}});
        let captured = recorded(&of_alerts, &[alert.clone(), alert.clone()]);
        assert_eq!(captured[0].data.0, json!({"fingerprint": "f", "labels": {"node": "n1"}}));
        assert_eq!(captured[1].data.0, alert);
        let alert = json!({"fingerprint": "f", "labels": {"node": "n".repeat(5000)}});
        assert_eq!(recorded(&of_alerts, &[alert])[0].data.0, json!({"fingerprint": "f"}));
    }
}
