//! Transcripts as files: one heading a case, then for each request a line and for its answer another. And what two
//! of them differ in, as a person wants to read it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::deviations::Difference;
use super::exchange::Step;

/// What the cases of one theme came to.
pub type Transcript = Vec<(String, Vec<Step>)>;

/// Where the answers of a real server are kept.
pub fn file(theme: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/sandbox/conformance/recorded");
    folder.join(format!("{theme}.txt"))
}

pub fn write(transcript: &Transcript) -> String {
    let mut text = String::new();
    for (case, steps) in transcript {
        let _ = writeln!(text, "== {case}");
        for step in steps {
            let _ = writeln!(text, "> {}\n{} {}", step.request, step.code, step.answer);
        }
    }
    text
}

pub fn read(text: &str) -> Transcript {
    let mut transcript = Transcript::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(case) = line.strip_prefix("== ") {
            transcript.push((case.to_owned(), Vec::new()));
        } else if let (Some(request), Some((_, steps))) = (line.strip_prefix("> "), transcript.last_mut()) {
            let (code, answer) = lines.next().and_then(|line| line.split_once(' ')).expect("an answer");
            let (code, answer) = (code.parse().unwrap(), serde_json::from_str(answer).unwrap());
            steps.push(Step { request: request.to_owned(), code, answer });
        }
    }
    transcript
}

/// Every step of a theme that the second answers otherwise than the first.
pub fn differences(theme: &str, expected: &Transcript, seen: &Transcript) -> Vec<Difference> {
    let mut found = Vec::new();
    let names =
        |transcript: &Transcript| transcript.iter().map(|(case, _)| case.clone()).collect::<BTreeSet<_>>();
    for case in names(expected).symmetric_difference(&names(seen)) {
        let text = "only one side has this case".to_owned();
        found.push(Difference { place: format!("{theme}/{case}"), text });
    }
    for (case, steps) in expected {
        let Some((_, others)) = seen.iter().find(|(name, _)| name == case) else { continue };
        if steps.len() != others.len() {
            let text = format!("{} steps, and {}", steps.len(), others.len());
            found.push(Difference { place: format!("{theme}/{case}"), text });
        }
        for (index, (step, other)) in steps.iter().zip(others).enumerate() {
            if step != other {
                let place = format!("{theme}/{case}/{}", index + 1);
                found.push(Difference { place, text: difference(step, other) });
            }
        }
    }
    found
}

fn difference(expected: &Step, seen: &Step) -> String {
    let mut text = seen.request.clone();
    if expected.request != seen.request {
        let _ = write!(text, "\n    expected request: {}", expected.request);
    }
    if expected.code != seen.code {
        let _ = write!(text, "\n    code: expected {}, seen {}", expected.code, seen.code);
    }
    let mut places = Vec::new();
    compare("", &expected.answer, &seen.answer, &mut places);
    for place in places {
        let _ = write!(text, "\n    {place}");
    }
    text
}

fn compare(path: &str, expected: &Value, seen: &Value, places: &mut Vec<String>) {
    match (expected, seen) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let here = format!("{path}.{name}");
                match (left.get(name), right.get(name)) {
                    (Some(left), Some(right)) => compare(&here, left, right, places),
                    (Some(left), None) => places.push(format!("{here}: missing {left}")),
                    (None, Some(right)) => places.push(format!("{here}: extra {right}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{index}]"), left, right, places);
            }
        }
        _ if expected != seen => {
            places.push(format!("{path}:\n      expected {expected}\n      seen     {seen}"));
        }
        _ => {}
    }
}
