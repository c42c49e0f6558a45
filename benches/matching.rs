//! What matching costs: one Kubernetes Event of 1.4 KB against many rules, from bytes to answers.
//!
//! The floor is the least that finds a rule by its reason: parse, one look-up by hash, one comparison. Half of the Events
//! match exactly one rule, as in the measurements of other programs. Processor time of this thread alone.
//!
//! And what a Webhook received, against many Rules that listen to it: from the event to the answers.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fother::api::{AcceptedEvent, AnyValue, Rule, TriggerEvent};
use fother::decide::index::{Index, conditions};
use fother::decide::interest::{Interest, Listeners};
use fother::decide::lead;
use fother::decide::matching::CompiledRule;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::usage;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// Different events that a Webhook receives.
const SENT: usize = 20;

/// Rules that are compiled, and the index that finds them.
struct Engine {
    index: Index,
    rules: BTreeMap<u64, Arc<CompiledRule>>,
}

impl Engine {
    fn of(specs: &[Value]) -> Self {
        let mut engine = Self { index: Index::default(), rules: BTreeMap::new() };
        for (id, spec) in (0..).zip(specs) {
            let spec = serde_json::from_value(spec.clone()).unwrap();
            let rule = CompiledRule::of(&spec, "a", &format!("r{id}"), NOW)
                .unwrap_or_else(|problems| panic!("{problems:?}"));
            engine.index.insert(id, conditions(&rule));
            engine.rules.insert(id, Arc::new(rule));
        }
        engine
    }

    /// How many rules an Event matches.
    fn matches(&self, bytes: &[u8]) -> usize {
        let event: Value = serde_json::from_slice(bytes).unwrap();
        let candidates = self.index.candidates(&event);
        let candidates = candidates.iter().chain(self.index.always());
        candidates.filter(|id| self.rules[*id].matches_event(&event, NOW) == Ok(true)).count()
    }
}

/// Matching per Event at various numbers of rules, and what it takes to have them.
pub fn measure(scale: &Scale) -> Section {
    let many = scale.matching.last().copied().unwrap_or(1);
    // First: what others leave behind would be used again, and would count for nothing.
    let memory = memory(many);
    let mut rows: Vec<_> = scale.matching.iter().map(|rules| with_equality(*rules, scale)).collect();
    let few = scale.matching.iter().copied().find(|rules| *rules >= 10).unwrap_or(1);
    rows.push(flat((few, many), scale));
    rows.extend(scale.matching.iter().filter(|rules| **rules <= 1000).map(|rules| without(*rules, scale)));
    rows.extend(scale.matching.iter().filter(|rules| **rules >= 1000).map(|rules| compile(*rules, scale)));
    for of in [Sent::Event, Sent::Alert] {
        let scales = scale.matching.iter().filter(|rules| **rules == 1 || **rules >= 1000);
        rows.extend(scales.map(|rules| received(of, *rules, scale)));
    }
    rows.push(memory);
    Section {
        title: "Matching",
        method: "One Kubernetes Event of 1.4 KB, from bytes to the rules that match it. A rule is \
                 `event.data.reason == X && event.data.regarding.kind == 'Pod' && event.data.deprecatedCount > 3`; half of \
                 the Events match exactly one. Floor: parse into a JSON value, one look-up of the reason by hash, one \
                 comparison. Rules of a Webhook are `event.data.team == X && event.data.severity == 'critical'`, and of its alerts \
                 the same over `alert.labels`: from the event to what is kept of it, and whom it concerns; half match one. An alert \
                 that none may match is kept, too. Processor time of one thread."
            .to_owned(),
        rows,
    }
}

fn with_equality(rules: usize, scale: &Scale) -> Row {
    let (engine, events) = (Engine::of(&specs(rules, indexed)), events(rules));
    let by_reason: HashMap<String, i64> = (0..rules).map(|number| (reason(number), 3)).collect();
    let floor = |bytes: &Vec<u8>| {
        let event: Value = serde_json::from_slice(bytes).unwrap();
        let least = event["reason"].as_str().and_then(|reason| by_reason.get(reason));
        usize::from(least.is_some_and(|least| event["deprecatedCount"].as_i64() > Some(*least)))
    };
    let (mut least, mut mine) = (Samples::default(), Samples::default());
    for _ in 0..scale.repetitions {
        least.push(per_event(&events, scale, floor));
        mine.push(per_event(&events, scale, |bytes| engine.matches(bytes)));
    }
    let goal = if rules == 1000 { Goal::TimesFloor(1.5) } else { Goal::None };
    Row { what: format!("an Event, {rules} rules"), unit: "µs", floor: least, fother: mine, goal }
}

/// What the number of rules costs: the floor here is fother itself with few of them.
fn flat((few, many): (usize, usize), scale: &Scale) -> Row {
    let small = (Engine::of(&specs(few, indexed)), events(few));
    let large = (Engine::of(&specs(many, indexed)), events(many));
    let (mut least, mut mine) = (Samples::default(), Samples::default());
    for _ in 0..scale.repetitions {
        least.push(per_event(&small.1, scale, |bytes| small.0.matches(bytes)));
        mine.push(per_event(&large.1, scale, |bytes| large.0.matches(bytes)));
    }
    let what = format!("an Event, {many} rules; the floor is {few} rules");
    Row { what, unit: "µs", floor: least, fother: mine, goal: Goal::TimesFloor(1.3) }
}

/// Rules that nothing finds are asked one by one.
fn without(rules: usize, scale: &Scale) -> Row {
    let (engine, events) = (Engine::of(&specs(rules, unindexed)), events(rules));
    assert_eq!(engine.index.always().len(), rules);
    let turns = 0..scale.repetitions;
    let mine = turns.map(|_| per_event(&events, scale, |bytes| engine.matches(bytes))).collect();
    Row::plain(format!("an Event, {rules} rules without an equality"), "µs", mine, Goal::None)
}

/// What a Webhook receives.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Alert,
    Event,
}

/// An event of a Webhook whose Rules a field tells apart: who wants it, what is kept of it, and whom it concerns.
fn received(of: Sent, rules: usize, scale: &Scale) -> Row {
    let (mut listeners, mut compiled) = (Listeners::default(), BTreeMap::new());
    for number in 0..rules {
        let rule = listener(of, number);
        listeners.insert(Interest::of(&rule).unwrap());
        let name = rule.metadata.name.clone().unwrap();
        compiled.insert(name, CompiledRule::compile(&rule).unwrap_or_else(|found| panic!("{found:?}")));
    }
    let team = |number: usize| if number.is_multiple_of(2) { number / 2 * 7 % rules } else { rules + number };
    let sent: Vec<_> = (0..SENT).map(|number| sent(of, team(number))).collect();
    let concerned = |sent: &AcceptedEvent| {
        let Some(found) = listeners.keep(&sent.event, sent.alert.as_ref(), |_, _| true) else { return 0 };
        let kept = AcceptedEvent {
            event: TriggerEvent { data: AnyValue(found.data), ..sent.event.clone() },
            rules: Vec::new(),
            alert: sent.alert.clone(),
        };
        found.wanting.iter().filter(|one| lead::matches(&compiled[&one.rule], &kept, NOW).is_ok()).count()
    };
    let turns = 0..scale.repetitions;
    let mine = turns.map(|_| per_event(&sent, scale, concerned)).collect();
    let what = if of == Sent::Alert { "an alert" } else { "an event" };
    Row::plain(format!("{what} of a Webhook, {rules} rules"), "µs", mine, Goal::None)
}

fn listener(of: Sent, number: usize) -> Rule {
    let (trigger, data) = match of {
        Sent::Alert => (json!({"alert": {"webhook": "w"}}), "alert.labels"),
        Sent::Event => (json!({"webhook": {"name": "w"}}), "event.data"),
    };
    let when = format!("{data}.team == 'team{number:05}' && {data}.severity == 'critical'");
    let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": trigger, "when": when,
        "target": {"key": format!("{data}.host")}});
    let rule = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "spec": spec,
        "metadata": {"name": format!("r{number:05}"), "namespace": "a"}});
    serde_json::from_value(rule).unwrap()
}

fn sent(of: Sent, team: usize) -> AcceptedEvent {
    let fields = json!({"team": format!("team{team:05}"), "severity": "critical", "host": "node-a-17",
        "alertname": "DiskFull", "instance": "10.0.0.17:9100", "device": "/dev/nvme0n1p1", "cluster": "harbor-1"});
    let is_alert = of == Sent::Alert;
    let alert = is_alert.then(|| json!({"fingerprint": format!("f{team}"), "startsAt": NOW.to_string()}));
    let annotations =
        json!({"summary": "The disk of node-a-17 is nearly full.", "runbook": "https://example.com/full"});
    let data = if is_alert {
        json!({"status": "firing", "labels": fields, "annotations": annotations})
    } else {
        fields
    };
    let event =
        json!({"id": format!("{team}"), "source": "s", "type": "t", "time": NOW.to_string(), "data": data});
    serde_json::from_value(json!({"rules": [], "event": event, "alert": alert})).unwrap()
}

/// From specs to an index in the place of another, which is dropped.
fn compile(rules: usize, scale: &Scale) -> Row {
    let specs = specs(rules, indexed);
    let mut engine = Engine::of(&specs);
    let turns = 0..scale.repetitions;
    let mine = turns.map(|_| thread_time(|| engine = Engine::of(&specs)).as_secs_f64() * 1e3).collect();
    drop(engine);
    let goal = if rules == 1000 { 100.0 } else { 1000.0 };
    Row::plain(format!("{rules} rules compiled and swapped in"), "ms", mine, Goal::AtMost(goal))
}

fn memory(rules: usize) -> Row {
    let specs = specs(rules, indexed);
    let (before, _) = usage::memory(std::process::id());
    let engine = Engine::of(&specs);
    let (after, _) = usage::memory(std::process::id());
    let rules = f64::from(u32::try_from(engine.rules.len()).unwrap());
    let mine = [(after - before) * 1024.0 / rules].into_iter().collect();
    Row::plain("memory of a rule and its place in the index", "KB", mine, Goal::AtMost(5.0))
}

fn specs(rules: usize, when: fn(usize) -> String) -> Vec<Value> {
    let spec = |number| json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": {"event": {}}, "when": when(number)});
    (0..rules).map(spec).collect()
}

fn indexed(number: usize) -> String {
    let reason = reason(number);
    format!(
        "event.data.reason == '{reason}' && event.data.regarding.kind == 'Pod' && event.data.deprecatedCount > 3"
    )
}

fn unindexed(number: usize) -> String {
    format!("event.data.reason.endsWith('{}') && event.data.deprecatedCount > 3", reason(number))
}

fn reason(number: usize) -> String {
    format!("Reason{number:05}")
}

/// Events of which every second one matches one rule, the others none.
fn events(rules: usize) -> Vec<Vec<u8>> {
    let event = |number: usize| {
        let reason =
            if number.is_multiple_of(2) { reason(number / 2 * 7 % rules) } else { format!("Other{number}") };
        serde_json::to_vec(&event(&reason)).unwrap()
    };
    let events: Vec<_> = (0..200).map(event).collect();
    assert!(events.iter().all(|event| (1300..1500).contains(&event.len())), "{}", events[0].len());
    events
}

fn event(reason: &str) -> Value {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "payments", "name": "checkout-7d4b9c6f5-x2x7q",
        "uid": "6f1c2b1e-8d0a-4c39-9f5e-1a2b3c4d5e6f", "resourceVersion": "184467", "fieldPath": "spec.containers{checkout}"});
    let source = json!({"component": "kubelet", "host": "node-a-17.example.internal"});
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {
            "name": "checkout-7d4b9c6f5-x2x7q.17a1b2c3d4e5f607", "namespace": "payments",
            "uid": "0c9d8e7f-1234-4abc-9def-0123456789ab", "resourceVersion": "184512",
            "creationTimestamp": "2026-11-03T10:15:30Z",
            "labels": {"app.kubernetes.io/name": "checkout", "app.kubernetes.io/part-of": "payments", "tier": "web"},
            "annotations": {"example.com/trace": "4bf92f3577b34da6a3ce929d0e0e4736", "example.com/cluster": "harbor-1"},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "events.k8s.io/v1",
                "time": "2026-11-03T10:15:30Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:note": {}, "f:series": {}}}],
        },
        "type": "Warning", "reason": reason, "action": "Starting",
        "note": "Back-off restarting failed container checkout in pod checkout-7d4b9c6f5-x2x7q_payments(6f1c2b1e-8d0a-4c39-9f5e-1a2b3c4d5e6f)",
        "regarding": pod, "reportingController": "kubelet", "reportingInstance": "node-a-17.example.internal",
        "eventTime": null, "deprecatedSource": source, "deprecatedFirstTimestamp": "2026-11-03T10:05:30Z",
        "deprecatedLastTimestamp": "2026-11-03T10:15:30Z", "deprecatedCount": 17,
        "series": {"count": 17, "lastObservedTime": "2026-11-03T10:15:30.000000Z"},
    })
}

/// Microseconds that one Event takes. Half of them have to match, or something else was measured.
fn per_event<T>(events: &[T], scale: &Scale, matches: impl Fn(&T) -> usize) -> f64 {
    let (mut rounds, mut hits, begun) = (0u32, 0, Instant::now());
    let took = thread_time(|| {
        while rounds == 0 || begun.elapsed() < scale.matching_time {
            hits += events.iter().map(|event| matches(black_box(event))).sum::<usize>();
            rounds += 1;
        }
    });
    let count = rounds * u32::try_from(events.len()).unwrap();
    assert_eq!(hits, usize::try_from(count / 2).unwrap(), "half of the Events match one rule");
    took.as_secs_f64() * 1e6 / f64::from(count)
}

/// Processor time that a piece of work takes in this thread.
fn thread_time(work: impl FnOnce()) -> Duration {
    let begun = usage::thread_cpu();
    work();
    usage::thread_cpu().saturating_sub(begun)
}
