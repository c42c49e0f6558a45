//! When an answer can change by the passing of time alone.

use super::objects::{changed, crash_looping, rolled_out, with_condition};
use super::{bindings, compile};
use crate::expr::{Bindings, NextChange};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

fn next(source: &str, object: &Value) -> NextChange {
    compile(source).next_change(&bindings(object))
}

/// The answer is the same until the moment, and another one at it.
#[track_caller]
fn check(source: &str, object: &Value, expected: &str) {
    let found = next(source, object);
    let at = found.at.unwrap_or_else(|| panic!("{source} never changes"));
    assert_eq!((at.to_string().as_str(), found.unforeseen), (expected, false), "{source}");
    let answer = |now| compile(source).matches(&Bindings::at(now).with("object", object.clone()));
    let before = answer(bindings(object).now());
    assert!(before.is_ok(), "{source}: {before:?}");
    assert_eq!(answer(at - SignedDuration::from_millis(1)), before, "{source}");
    assert_ne!(answer(at), before, "{source}");
}

#[test]
fn comparisons_of_times_turn_at_a_known_instant() {
    let object = json!({"at": "2026-03-01T11:50:00Z", "until": "2026-03-01T12:30:00Z", "n": 1});
    for (source, expected) in [
        ("now - timestamp(object.at) > duration('15m')", "2026-03-01T12:05:00.000000001Z"),
        ("duration('15m') >= now - timestamp(object.at)", "2026-03-01T12:05:00.000000001Z"),
        ("now < timestamp(object.until)", "2026-03-01T12:30:00.000000001Z"),
        (
            "timestamp(object.until) - duration('10m') <= now && object.n == 1",
            "2026-03-01T12:20:00.000000001Z",
        ),
        ("!(now > timestamp('2026-03-01T12:00:01Z'))", "2026-03-01T12:00:01.000000001Z"),
        ("now > timestamp('2026-03-01T12:00:00Z')", "2026-03-01T12:00:00.000000001Z"),
        // The earlier of two.
        (
            "now > timestamp(object.until) || now > timestamp('2026-03-01T12:10:00Z')",
            "2026-03-01T12:10:00.000000001Z",
        ),
    ] {
        check(source, &object, expected);
    }
}

/// A Pod whose container last ended at 11:57:00, a second before it was said not to be Ready.
fn crashing_pod() -> Value {
    let ended = ("status.containerStatuses.0.lastState.terminated.finishedAt", json!("2026-03-01T11:57:00Z"));
    with_condition(
        changed(crash_looping(), &[ended]),
        "Ready",
        "lastTransitionTime",
        json!("2026-03-01T11:57:01Z"),
    )
}

#[test]
fn predicates_know_when_their_span_has_passed() {
    let deployment =
        with_condition(rolled_out(), "Progressing", "lastUpdateTime", json!("2026-03-01T11:55:30Z"));
    check("crashLooping(object, 2, duration('10m'))", &crashing_pod(), "2026-03-01T12:07:00.000000001Z");
    check("notReadyFor(object, duration('10m'))", &crashing_pod(), "2026-03-01T12:07:01.000000001Z");
    check("rolledOutWithin(object, duration('30m')) == true", &deployment, "2026-03-01T12:25:30.000000001Z");
}

#[test]
fn what_has_passed_or_does_not_depend_on_time_never_changes() {
    let object = json!({"at": "2026-03-01T11:50:00Z", "n": 1});
    for source in [
        "object.n == 1",
        "now - timestamp(object.at) > duration('5m')",
        "now > timestamp(object.gone)",
        "now - now == duration('0s')",
        "now == timestamp('2026-01-01T00:00:00Z')",
    ] {
        assert_eq!(next(source, &object), NextChange::default(), "{source}");
    }
    for source in [
        "crashLooping(object, 9, duration('10m'))",
        "crashLooping(object, 2, duration('1m'))",
        "notReadyFor(object, duration('1m'))",
    ] {
        assert_eq!(next(source, &crashing_pod()), NextChange::default(), "{source}");
    }
}

#[test]
fn what_a_term_that_stands_still_decides_never_changes() {
    let object = json!({"until": "2026-03-01T12:30:00Z", "n": 1, "l": [1]});
    let turns = "now > timestamp(object.until)";
    for source in [
        format!("object.n == 2 && {turns}"),
        format!("{turns} && object.n == 2"),
        format!("(object.n == 1 || {turns}) && object.n == 1"),
        format!("object.n == 2 && object.l.exists(x, {turns})"),
        format!("object.n == 1 ? object.n == 1 : {turns}"),
        format!("object.gone ? {turns} : {turns}"),
        "object.n == 2 && now.getHours() > 8".to_owned(),
    ] {
        assert_eq!(next(&source, &object), NextChange::default(), "{source}");
    }
    for source in [format!("object.n == 1 && {turns}"), format!("object.n == 1 ? {turns} : object.n == 1")] {
        check(&source, &object, "2026-03-01T12:30:00.000000001Z");
    }
}

/// A condition over the clock, over an object whose times lie up to two hours before and after now.
fn conditions() -> impl Strategy<Value = String> {
    let terms = vec![
        "object.n == 1",
        "object.gone == 1",
        "now > timestamp(object.a)",
        "now - timestamp(object.a) >= duration('30m')",
        "timestamp(object.b) + duration('10m') < now",
        "(object.n == 1 ? now : timestamp(object.b)) > timestamp(object.a)",
        "duration(string(now.getMinutes()) + 'm') > duration('30m')",
        "timestamp(object.gone) > now",
        "rolledOutWithin(object, duration('45m'))",
        "crashLooping(object, 3, duration('20m'))",
        "[object.a, object.b].exists(x, now > timestamp(x))",
    ];
    let term = prop::sample::select(terms).prop_map(str::to_owned);
    term.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

proptest! {
    /// Before the moment that was named, the answer is the same. The instant at which it turns is one before it.
    #[test]
    fn nothing_changes_before_its_time(
        source in conditions(),
        n in 0..3,
        times in prop::array::uniform3(-7200_i64..7200),
        later in 1_i64..10_000,
    ) {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let [a, b, c] = times.map(|seconds| (now + SignedDuration::from_secs(seconds)).to_string());
        let object = json!({"kind": "Pod", "n": n, "a": a, "b": b, "metadata": {"creationTimestamp": c},
            "status": {"containerStatuses": [{"restartCount": 5,
                "lastState": {"terminated": {"finishedAt": c}}}]}});
        let at = |now| Bindings::at(now).with("object", object.clone());
        let expression = compile(&source);
        let next = expression.next_change(&at(now));
        let then = now + SignedDuration::from_secs(later);
        let then = next.at.map_or(then, |moment| then.min(moment - SignedDuration::from_nanos(2)));
        if !next.unforeseen && then > now {
            let answer = |now| expression.matches(&at(now)).ok();
            prop_assert_eq!(answer(now), answer(then), "{} by {}", source, then);
        }
    }
}

#[test]
fn what_cannot_be_foreseen_says_so() {
    let object = json!({"at": "2026-03-01T11:50:00Z", "l": [1]});
    for source in [
        "now.getHours() >= 13",
        "string(now).startsWith('2026')",
        "object.l.exists(x, now > timestamp(object.at) + duration(string(x) + 'h'))",
        "int(now) % 60 == 0",
        "(now > timestamp(object.at) ? now : timestamp(object.at)) == timestamp(object.at)",
        "duration(string(now.getMinutes()) + 'm') > duration('30m')",
    ] {
        assert!(next(source, &object).unforeseen, "{source}");
    }
    let both = next("now.getHours() >= 13 || now > timestamp('2026-03-01T12:10:00Z')", &object);
    assert!(both.unforeseen && both.at.is_some(), "{both:?}");
}
