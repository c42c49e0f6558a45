//! From rows to a table, and to docs/performance.md.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::machine::{self, Moment};
use crate::stats::Samples;
use crate::support::control_plane::built;

/// What the tables cannot say; goes into the document as it is.
const NOTES: &str = include_str!("notes.md");

/// One measurement.
pub struct Section {
    pub title: &'static str,
    /// How it is measured.
    pub method: String,
    pub rows: Vec<Row>,
}

/// One line of its table.
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    /// The least that it can take; empty where the goal is a number.
    pub floor: Samples,
    pub fother: Samples,
    pub goal: Goal,
}

/// What was aimed at.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times the floor.
    TimesFloor(f64),
    /// At least so much of the floor.
    OfFloor(f64),
    /// At most that.
    AtMost(f64),
    /// At most that on any machine, however slow or busy: a miss fails the run.
    Always(f64),
    /// Nothing: it is told because it explains the others.
    None,
}

impl Row {
    /// A row without a floor.
    pub fn plain(what: impl Into<String>, unit: &'static str, fother: Samples, goal: Goal) -> Self {
        Self { what: what.into(), unit, floor: Samples::default(), fother, goal }
    }

    fn line(&self) -> String {
        let ratio = self.fother.ratio_to(&self.floor);
        let (goal, met) = self.judged();
        let ratio = if self.floor.is_empty() { String::new() } else { format!("{ratio:.2} ×") };
        let met = match (self.goal, met) {
            (Goal::None, _) => "",
            (_, true) => "met",
            (_, false) => "**missed**",
        };
        let (floor, fother) = (self.cell(&self.floor), self.cell(&self.fother));
        format!("| {} | {floor} | {fother} | {ratio} | {goal} | {met} |", self.what)
    }

    /// The goal in words, and whether it is met.
    fn judged(&self) -> (String, bool) {
        let ratio = self.fother.ratio_to(&self.floor);
        match self.goal {
            Goal::TimesFloor(most) => (format!("≤ {most} × floor"), ratio <= most),
            Goal::OfFloor(least) => (format!("≥ {least} × floor"), ratio >= least),
            Goal::AtMost(most) | Goal::Always(most) => {
                (format!("≤ {} {}", number(most), self.unit), self.fother.median() <= most)
            }
            Goal::None => (String::new(), true),
        }
    }

    fn cell(&self, samples: &Samples) -> String {
        if samples.is_empty() {
            return String::new();
        }
        let (least, most) = samples.spread();
        let spread = if number(least) == number(most) {
            String::new()
        } else {
            format!(" ({}–{})", number(least), number(most))
        };
        format!("{} {}{spread}", number(samples.median()), self.unit)
    }
}

/// With three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Section {
    /// The section as Markdown.
    pub fn text(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.method);
        text.push_str("| | floor | fother | ratio | goal | |\n|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.line());
        }
        text
    }

    /// What holds on any machine and did not, each named with the row that it belongs to.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut about = String::new();
        for row in &self.rows {
            let what = if row.what.starts_with('…') {
                format!("{about} {}", row.what)
            } else {
                about.clone_from(&row.what);
                row.what.clone()
            };
            let (goal, met) = row.judged();
            if matches!(row.goal, Goal::Always(_)) && !met {
                let (is, goal) = (row.cell(&row.fother), goal.trim_end());
                faults.push(format!("{what}: {} where {goal} is the goal", is.trim_end()));
            }
        }
        faults
    }
}

/// How the run ends: a goal that is no matter of the machine's speed, and is missed, is named and fails it.
pub fn verdict(sections: &[Section]) -> ExitCode {
    let faults: Vec<_> = sections.iter().flat_map(Section::faults).collect();
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("missed, whatever the machine: {}", faults.join("; "));
    ExitCode::FAILURE
}

/// Writes docs/performance.md.
pub fn write(sections: &[Section], begun: &Moment, took: Duration) {
    let mut text = NOTES.replace("{{machine}}", &machine::hardware());
    text = text
        .replace("{{versions}}", &versions())
        .replace("{{day}}", &begun.day)
        .replace("{{load}}", &begun.load)
        .replace("{{minutes}}", &format!("{:.0}", took.as_secs_f64() / 60.0));
    let tables: Vec<_> = sections.iter().map(Section::text).collect();
    text = text.replace("{{tables}}", tables.join("\n").trim_end());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    std::fs::write(&path, text).unwrap();
    eprintln!("written: docs/performance.md");
}

fn versions() -> String {
    let parts = built(&["etcd", "kube-apiserver"]).expect("they have just run");
    let kubernetes = machine::said(Command::new(parts.join("kube-apiserver")).arg("--version"));
    let etcd = machine::said(Command::new(parts.join("etcd")).arg("--version"));
    let own = machine::said(Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]));
    let rustc = machine::said(Command::new("rustc").arg("--version"));
    let system = machine::said(Command::new("uname").args(["-s", "-r"]));
    format!("fother {} ({own}), {rustc}, {kubernetes}, {etcd}, {system}", env!("CARGO_PKG_VERSION"))
}
