//! Where the in-memory API answers otherwise than a real one, known and said why: `deviations.txt`.
//!
//! A line is a place, a colon and a reason. A place that no longer differs is no deviation and must go from the list.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One thing that differs, and where.
pub struct Difference {
    /// `theme/case/step`.
    pub place: String,
    pub text: String,
}

fn listed() -> BTreeMap<String, String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/sandbox/conformance/deviations.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (place, reason) = line.split_once(": ").expect("a place and a reason");
        assert!(!reason.trim().is_empty(), "{place} has no reason");
        (place.to_owned(), reason.to_owned())
    };
    lines.map(entry).collect()
}

/// Fails for what differs and is not listed, and for what is listed, was looked at, and does not differ.
pub fn judge(found: &[Difference], was_looked_at: impl Fn(&str) -> bool) {
    let listed = listed();
    let unexpected = found.iter().filter(|difference| !listed.contains_key(&difference.place));
    let mut complaints: Vec<String> =
        unexpected.map(|difference| format!("{}: {}", difference.place, difference.text)).collect();
    let differs = |place: &String| found.iter().any(|difference| difference.place == *place);
    let stale = listed.keys().filter(|place| was_looked_at(place) && !differs(place));
    complaints.extend(stale.map(|place| format!("{place}: listed as a deviation, and is none")));
    assert!(complaints.is_empty(), "{} answers:\n{}", complaints.len(), complaints.join("\n"));
}
