//! What can be wrong with an expression: [`ExprError`] when it is compiled, [`EvalError`] when it
//! is evaluated. Both say in plain words what is wrong and carry the byte span it is about.

use std::ops::Range;

/// A mistake in the text of an expression or a template, found without any data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", hint(.suggestion.as_deref()))]
pub struct ExprError {
    /// What is wrong: lower case, one line, without a final dot.
    pub message: String,
    /// The bytes of the source that it is about; empty at the end of the source.
    pub span: Range<usize>,
    /// What was probably meant, to be written instead of the span.
    pub suggestion: Option<String>,
}

impl ExprError {
    pub(super) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span, suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.span = self.span.start + by..self.span.end + by;
        self
    }

    /// One line that says where: `when:1:14 unexpected ")"`.
    pub fn located(&self, field: &str, source: &str) -> String {
        let (line, column) = position(source, self.span.start);
        format!("{field}:{line}:{column} {self}")
    }
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map(|text| format!("; did you mean {text:?}?")).unwrap_or_default()
}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// Which kind of failure it is.
    pub kind: EvalErrorKind,
    /// What happened: lower case, one line, without a final dot.
    pub message: String,
    /// The bytes of the source that failed; the whole expression where that is not known.
    pub span: Range<usize>,
}

/// The kinds of [`EvalError`] that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalErrorKind {
    /// A field, key, element or variable is not there. `has()` and `.?` ask first.
    Absent,
    /// A value has a type that its operator, function or field does not take.
    Type,
    /// The evaluation was stopped by a limit.
    Limit,
    /// Anything else: a division by zero, an overflow, a function that refused its arguments.
    Failed,
}

impl EvalError {
    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.span = self.span.start + by..self.span.end + by;
        self
    }

    /// One line that says where: `when:1:14 object.status.phase is absent`.
    pub fn located(&self, field: &str, source: &str) -> String {
        let (line, column) = position(source, self.span.start);
        format!("{field}:{line}:{column} {self}")
    }
}

/// The line and column, both from 1, of a byte offset; columns count characters.
pub fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The candidate that `word` was probably meant to be, if one is close enough.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, substitutions and swaps of neighbors.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        for (source, offset, expected) in [
            ("", 0, (1, 1)),
            ("abc", 3, (1, 4)),
            ("é)", 2, (1, 2)),
            ("é)", 1, (1, 1)),
            ("a\n b", 3, (2, 2)),
            ("a\n", 2, (2, 1)),
            ("a", 99, (1, 2)),
        ] {
            assert_eq!(position(source, offset), expected, "{source:?} at {offset}");
        }
    }

    #[test]
    fn the_closest_name_is_suggested_only_when_close() {
        let names = ["object", "oldObject", "target", "event"];
        for (word, expected) in [
            ("objet", Some("object")),
            ("ojbect", Some("object")),
            ("Object", Some("object")),
            ("oldobject", Some("oldObject")),
            ("x", None),
            ("wholly", None),
        ] {
            assert_eq!(closest(word, names), expected, "{word}");
        }
    }

    #[test]
    fn an_error_says_where_and_what_was_meant() {
        let error = ExprError::new("unknown variable \"objet\"", 3..8).suggest(Some("object"));
        assert_eq!(
            error.located("when", "1\n objet"),
            "when:2:2 unknown variable \"objet\"; did you mean \"object\"?"
        );
    }
}
