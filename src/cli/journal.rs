//! `fother journal`: what a controller's journal remembers.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Exit;
use crate::api::{Duration, KEY_KIND};
use crate::journal::{Decision, Event, File, Filter, Gap};
use crate::source::watch::now;
use crate::text::printable;

/// Read a journal: what was decided, and why.
///
/// The controller writes it with --journal FILE. It explains; what was done is in the Executions. Times of
/// which something is missing are named on standard error.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fother journal journal.db --rule crashloop --since 2h
  fother journal journal.db --target Deployment/web -o json
  fother journal journal.db --events --rule crashloop -o json")]
pub struct Journal {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Of Rules in this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Of this Rule.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// About this target, such as Deployment/web; its kind may be in any case.
    #[arg(long, value_name = "KIND/NAME", value_parser = kind_and_name)]
    target: Option<String>,
    /// Not older than this.
    #[arg(long, value_name = "DURATION")]
    since: Option<Duration>,
    /// So many of the newest, at the most.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Events instead of decisions: those that such decisions name, and all of a namespace.
    #[arg(long)]
    events: bool,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One line each, under a heading.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

impl Journal {
    /// Prints what was asked for, oldest first.
    pub fn run(self) -> anyhow::Result<Exit> {
        anyhow::ensure!(self.file.exists(), "{}: there is no such file", self.file.display());
        let file = File::read(&self.file)?;
        let filter = self.filter();
        let found = match self.events {
            true => self.print(&file.events(&filter)?, &EVENT_HEADING, event_row)?,
            false => self.print(&file.decisions(&filter)?, &DECISION_HEADING, decision_row)?,
        };
        if found == 0 {
            anstream::eprintln!("{}", self.nothing());
        }
        file.gaps(filter.since)?.iter().rev().for_each(tell_gap);
        Ok(Exit::Yes)
    }

    fn filter(&self) -> Filter {
        Filter {
            namespace: self.namespace.clone(),
            rule: self.rule.clone(),
            target: self.target.clone(),
            since: self.since.and_then(|since| now().saturating_sub(since.signed()).ok()),
            limit: self.limit,
        }
    }

    /// That there is nothing of what was asked for: a misspelled name looks like peace.
    fn nothing(&self) -> String {
        let asked = [("--namespace", &self.namespace), ("--rule", &self.rule), ("--target", &self.target)];
        let asked = asked.into_iter().filter_map(|(flag, value)| Some(format!("{flag} {}", value.as_ref()?)));
        let since = self.since.map(|since| format!("--since {since}"));
        let asked: Vec<_> = asked.chain(since).collect();
        let what = if self.events { "event" } else { "decision" };
        match asked.is_empty() {
            true => format!("there are no {what}s in it"),
            false => format!("no {what} matches {}{}", asked.join(" "), self.written_out()),
        }
    }

    /// How the target is written whose kind was given as kubectl takes it, and a journal does not.
    fn written_out(&self) -> String {
        let target = self.target.as_deref().and_then(|target| target.split_once('/'));
        let written = target.and_then(|(kind, name)| Some((kind_of(kind)?, name)));
        written.map_or_else(String::new, |(kind, name)| format!("; kinds are written out: {kind}/{name}"))
    }

    /// Returns how many there are.
    fn print<T: serde::Serialize, const N: usize>(
        &self,
        entries: &[T],
        heading: &[&str; N],
        row: fn(&T) -> [String; N],
    ) -> anyhow::Result<usize> {
        match self.output {
            Format::Table => {
                let rows: Vec<_> = entries.iter().rev().map(row).collect();
                super::say(|out| write!(out, "{}", table(heading, &rows)))?;
            }
            Format::Json => {
                let lines = entries.iter().rev().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
                let lines = lines.context("not printable")?;
                super::say(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
            }
        }
        Ok(entries.len())
    }
}

/// What kubectl calls a kind beside its name: the plural, and what is short for it. Only those of Kubernetes itself, and only
/// to help somebody out; what another kind is called only a cluster knows.
const OTHER_NAMES: [(&str, &[&str]); 14] = [
    ("ConfigMap", &["cm", "configmaps"]),
    ("CronJob", &["cj", "cronjobs"]),
    ("DaemonSet", &["ds", "daemonsets"]),
    ("Deployment", &["deploy", "deployments"]),
    ("HorizontalPodAutoscaler", &["hpa", "horizontalpodautoscalers"]),
    ("Job", &["jobs"]),
    ("Namespace", &["ns", "namespaces"]),
    ("Node", &["no", "nodes"]),
    ("PersistentVolume", &["pv", "persistentvolumes"]),
    ("PersistentVolumeClaim", &["pvc", "persistentvolumeclaims"]),
    ("Pod", &["po", "pods"]),
    ("ReplicaSet", &["rs", "replicasets"]),
    ("Service", &["svc", "services"]),
    ("StatefulSet", &["sts", "statefulsets"]),
];

/// The kind that has another name in [`OTHER_NAMES`].
fn kind_of(other: &str) -> Option<&'static str> {
    let is_called = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(other));
    OTHER_NAMES.iter().find(|(_, names)| is_called(names)).map(|(kind, _)| *kind)
}

/// A target as decisions name it. Only the name of a key, which is no object, may have a slash in it.
fn kind_and_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_kind = |kind: &str| !kind.is_empty() && kind.chars().all(is_plain);
    let is_name = |kind: &str, name: &str| {
        !name.is_empty() && (kind.eq_ignore_ascii_case(KEY_KIND) || !name.contains('/'))
    };
    match text.split_once('/') {
        Some((kind, name)) if is_kind(kind) && is_name(kind, name) => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is not a target: use KIND/NAME, as Deployment/web; the kind goes without its group, \
             and a namespace is for --namespace"
        )),
    }
}

const DECISION_HEADING: [&str; 7] = ["TIME", "NAMESPACE", "RULE", "TARGET", "OUTCOME", "REASON", "EXECUTION"];
const EVENT_HEADING: [&str; 5] = ["TIME", "NAMESPACE", "SOURCE", "TYPE", "ID"];

fn decision_row(decision: &Decision) -> [String; 7] {
    let Decision { time, namespace, rule, target, outcome, reason, execution, .. } = decision.clone();
    [time.to_string(), namespace, rule, target, outcome.to_string(), reason, execution]
}

fn event_row(event: &Event) -> [String; 5] {
    let Event { time, id, source, event_type, namespace, .. } = event.clone();
    [time.to_string(), namespace, source, event_type, id]
}

/// Columns as wide as what is in them, as kubectl has them. What was received may have anything in it.
fn table<const N: usize>(heading: &[&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| printable(cell).into_owned())).collect();
    let heading = heading.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    std::iter::once(&heading).chain(&rows).map(line).collect()
}

fn tell_gap(gap: &Gap) {
    let count = if gap.missing == 0 { String::new() } else { format!("{} entries ", gap.missing) };
    anstream::eprintln!("missing: {count}from {} to {}: {}", gap.from, gap.to, printable(&gap.reason));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_kind_and_a_name() {
        for good in ["Deployment/web", "deployment/web", "ClusterRole/system:node", "Key/rack/7", "key/a b"] {
            assert_eq!(kind_and_name(good), Ok(good.to_owned()));
        }
        for bad in
            ["", "web", "/web", "Deployment/", "Deployment web", "deployments.apps/web", "Deployment/a/web"]
        {
            let said = kind_and_name(bad).expect_err(bad);
            let expected = format!("{bad:?} is not a target: use KIND/NAME, as Deployment/web; ");
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn a_kind_that_kubectl_takes_and_a_journal_does_not_is_written_out() {
        let nothing = |target: &str| {
            let (file, output) = (PathBuf::from("journal.db"), Format::Table);
            let target = Some(target.to_owned());
            let (namespace, rule, since) = (None, None, None);
            Journal { file, namespace, rule, target, since, limit: 50, events: false, output }.nothing()
        };
        for (target, written) in [
            ("deploy/api", "Deployment/api"),
            ("Deployments/api", "Deployment/api"),
            ("po/api-0", "Pod/api-0"),
            ("cj/nightly", "CronJob/nightly"),
            ("hpa/api", "HorizontalPodAutoscaler/api"),
        ] {
            let said = format!("no decision matches --target {target}; kinds are written out: {written}");
            assert_eq!(nothing(target), said);
        }
        for target in ["Deployment/api", "pod/api-0", "job/nightly", "widgets/api", "key/rack/7"] {
            assert_eq!(nothing(target), format!("no decision matches --target {target}"));
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = vec![["a".to_owned(), "long value".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(&["ONE", "TWO"], &rows), "ONE      TWO\na        long value\nlonger\n");
    }

    #[test]
    fn what_was_received_neither_begins_a_line_nor_moves_the_cursor() {
        let rows = vec![["a\u{1b}[2J".to_owned(), "x\nforged".to_owned()]];
        assert_eq!(table(&["ONE", "TWO"], &rows), "ONE          TWO\na\\u{1b}[2J   x\\nforged\n");
    }
}
