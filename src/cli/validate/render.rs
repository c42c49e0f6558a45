//! Draws findings: for people as rustc does, for programs as JSON.

use std::time::Duration;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::input::Set;
use crate::decide::pack::finding::Finding;
use crate::decide::problem::Severity;
use crate::text::printable;

/// One finding with the lines it is about. What a file names may hold what a terminal takes for a command.
pub(super) fn draw(finding: &Finding, set: &Set, colors: bool) -> String {
    let path = set.display(&finding.file);
    let path = printable(&path);
    let text = set.text(&finding.file);
    let level = match finding.problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let label = printable(finding.problem.help.as_deref().unwrap_or_default());
    let annotation = AnnotationKind::Primary.span(finding.span.clone()).label(label);
    let snippet = Snippet::source(&*text).path(path).annotation(annotation);
    let title = printable(&finding.problem.message);
    let mut group = Group::with_title(level.primary_title(title)).element(snippet);
    let note = note(finding);
    if !note.is_empty() {
        group = group.element(Level::NOTE.no_name().message(printable(&note).into_owned()));
    }
    let renderer = if colors { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// `spec.when of Rule crashloop`.
fn note(finding: &Finding) -> String {
    match (&finding.object, finding.problem.path.as_str()) {
        (Some(object), "") => format!("in {object}"),
        (Some(object), path) => format!("{path} of {object}"),
        (None, path) => path.to_owned(),
    }
}

/// One finding as JSON.
pub(super) fn json(finding: &Finding, set: &Set) -> Value {
    json!({
        "severity": match finding.problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "file": set.display(&finding.file),
        "line": finding.line,
        "column": finding.column,
        "bytes": [finding.span.start, finding.span.end],
        "object": finding.object,
        "path": finding.problem.path,
        "pointer": finding.pointer(),
        "message": finding.problem.message,
        "help": finding.problem.help,
    })
}

/// `✗ 1 error, 1 warning · 14 files · 38 ms`.
pub(super) fn summary(errors: usize, warnings: usize, files: usize, took: Duration, colors: bool) -> String {
    let (mark, color) = match (errors, warnings) {
        (0, 0) => ("✓", AnsiColor::Green),
        (0, _) => ("!", AnsiColor::Yellow),
        _ => ("✗", AnsiColor::Red),
    };
    let found: Vec<String> = [(errors, "error"), (warnings, "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| counted(count, what))
        .collect();
    let found = if found.is_empty() { "nothing wrong".to_owned() } else { found.join(", ") };
    let style = if colors { Style::new().fg_color(Some(color.into())).bold() } else { Style::new() };
    format!("{style}{mark}{style:#} {found} · {} · {} ms", counted(files, "file"), took.as_millis())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        let line =
            |errors, warnings, files| summary(errors, warnings, files, Duration::from_millis(38), false);
        assert_eq!(line(1, 1, 14), "✗ 1 error, 1 warning · 14 files · 38 ms");
        assert_eq!(line(2, 0, 1), "✗ 2 errors · 1 file · 38 ms");
        assert_eq!(line(0, 3, 2), "! 3 warnings · 2 files · 38 ms");
        assert_eq!(line(0, 0, 2), "✓ nothing wrong · 2 files · 38 ms");
        assert_eq!(
            summary(1, 0, 1, Duration::ZERO, true),
            "\u{1b}[1m\u{1b}[31m✗\u{1b}[0m 1 error · 1 file · 0 ms"
        );
    }
}
