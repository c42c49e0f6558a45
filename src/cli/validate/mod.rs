//! `fother validate`: everything that is wrong with packs and manifests, without a cluster.

mod input;
mod render;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::input::Set;
use super::Exit;
use crate::decide::pack::{self, Reading, Source, Surroundings};
use crate::decide::pod::PodPolicy;
use crate::decide::problem::Severity;
use crate::expr::Schemas;

/// Check packs and manifests, offline: syntax, fields, expressions, references.
#[derive(Args, Debug)]
#[command(
    after_help = "A folder is checked as a pack: all it refers to must be in it. Files and standard input are
checked together as parts of something larger: an Action that is not among them is a warning.
Expressions over custom kinds are checked against the CustomResourceDefinitions among what is
given.

Exit codes: 0 nothing wrong (warnings are allowed), 1 errors found, 2 could not check.

Examples:
  fother validate packs/payments
  fother validate packs/payments crds
  fother validate rules/*.yaml
  git show HEAD:rules/a.yaml | fother validate -"
)]
pub struct Validate {
    /// Folders, files, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The namespace that the objects go to.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// An Action that is in the namespace already (repeatable).
    #[arg(long = "external-action", value_name = "NAME")]
    external_actions: Vec<String>,
    /// A Webhook that Rules may name although it is not among the files. Can be given more than once.
    #[arg(long = "external-webhook", value_name = "NAME")]
    external_webhooks: Vec<String>,
    /// Whether the controller lets Actions say anything about their Pods (its flag of the same name).
    #[arg(long)]
    allow_pod_overlays: bool,
    /// Whether the controller requires a digest of every image (its flag of the same name).
    #[arg(long)]
    require_image_digests: bool,
    /// How to write the findings.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// What one set of files came to.
struct Checked {
    set: Set,
    reading: Reading,
}

/// How much was found, in how many files, and how long that took.
struct Totals {
    errors: usize,
    warnings: usize,
    files: usize,
    took: Duration,
}

impl Validate {
    /// Checks them all.
    pub fn run(self) -> anyhow::Result<Exit> {
        let started = Instant::now();
        let sets = input::sets(&self.paths)?;
        let schemas = schemas(&sets);
        let checked: Vec<Checked> = sets.into_iter().map(|set| self.check(set, &schemas)).collect();
        let count = |severity| checked.iter().map(|checked| checked.reading.count(severity)).sum::<usize>();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let files = checked.iter().map(|checked| checked.reading.files).sum::<usize>();
        let totals = Totals { errors, warnings, files, took: started.elapsed() };
        super::say(|out| self.report(out, &checked, &totals))?;
        Ok(if errors > 0 { Exit::No } else { Exit::Yes })
    }

    /// Writes what was found.
    fn report(&self, out: &mut dyn Write, checked: &[Checked], totals: &Totals) -> std::io::Result<()> {
        let Totals { errors, warnings, files, took } = *totals;
        let findings =
            checked.iter().flat_map(|one| one.reading.findings.iter().map(|finding| (finding, &one.set)));
        match self.output {
            Output::Text => {
                let colors = std::io::stdout().is_terminal();
                for (finding, set) in findings {
                    writeln!(out, "{}\n", render::draw(finding, set, colors))?;
                }
                writeln!(out, "{}", render::summary(errors, warnings, files, took, colors))
            }
            Output::Json => {
                let findings: Vec<_> = findings.map(|(finding, set)| render::json(finding, set)).collect();
                let all =
                    json!({"findings": findings, "errors": errors, "warnings": warnings, "files": files});
                writeln!(out, "{all}")
            }
        }
    }

    fn check(&self, set: Set, schemas: &Schemas) -> Checked {
        let sources = sources(&set);
        let surroundings = Surroundings {
            namespace: self.namespace.as_deref(),
            external_actions: self.external_actions.iter().map(String::as_str).collect(),
            external_webhooks: self.external_webhooks.iter().map(String::as_str).collect(),
            // A folder of definitions alone is no pack.
            partial: set.folder.is_none() || pack::custom_kinds(&sources).1,
            pods: PodPolicy { overlays: self.allow_pod_overlays, digests: self.require_image_digests },
        };
        let reading = pack::read_chosen(&sources, &surroundings).check(schemas);
        Checked { set, reading }
    }
}

fn sources(set: &Set) -> Vec<Source<'_>> {
    set.files.iter().map(|file| Source { path: &file.path, content: &file.content }).collect()
}

/// The schemas of all kinds that are known offline: those in the binary, and the custom ones among what is checked.
fn schemas(sets: &[Set]) -> Schemas {
    let custom = sets.iter().flat_map(|set| pack::custom_kinds(&sources(set)).0);
    custom.fold(Schemas::built_in(), |schemas, crd| schemas.with_crd(&crd))
}
