//! `make bench`: what fother costs and how fast it is, beside the least that the same work can cost.
//!
//! ```text
//! main ─▶ one file a measurement ─▶ rows (floor, fother, goal) ─▶ report ─▶ docs/performance.md
//!              └─▶ harbor: a real control plane, the chart, controllers and bare loops as processes
//! ```
//!
//! A floor and fother are measured in turns, so that a machine that becomes slower is slower for both. A goal that holds on
//! any machine, and is missed, fails the run once the report is written. `--smoke` runs the same machinery with tiny numbers
//! and judges nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is test equipment: a panic is how it reports")]

mod burst;
mod flood;
mod floor;
mod following;
mod harbor;
mod idle;
mod latency;
mod load;
mod local;
mod machine;
mod matching;
mod memory;
mod report;
mod restart;
mod scale;
mod stats;
#[path = "../tests/it/support"]
#[expect(dead_code, unused_imports, reason = "most of it is for tests")]
mod support {
    pub mod access;
    pub mod audit;
    pub mod control_plane;
    pub mod helm;
    pub mod http;
    pub mod kubectl;
    pub mod pki;
    pub mod process;
    pub mod wait;
}
mod sync;
mod usage;
mod writes;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use harbor::Harbor;
use machine::Moment;
use report::Section;
use scale::Scale;

/// Measures fother beside its floors.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    /// Only these; docs/performance.md is written only after all of them.
    #[arg(value_enum)]
    only: Vec<Measurement>,
    /// Tiny numbers: does everything still run?
    #[arg(long)]
    smoke: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured, in the order in which it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Measurement {
    /// An Event against many rules; and what the rules take.
    Matching,
    /// From a change to the Job, at a steady rate; and the CPU time that it takes.
    Latency,
    /// Five hundred changes at once.
    Burst,
    /// What is written to the API server for one Execution.
    Writes,
    /// A thousand Rules from one commit, and again without a change.
    Sync,
    /// Memory while many Pods are watched.
    Memory,
    /// A Rule that reads the status of many Pods, after a restart.
    Restart,
    /// Requests, CPU time and memory of a thousand Rules while nothing happens.
    Idle,
    /// A hundred thousand alerts within a minute, for a Rule that may act on a few.
    Flood,
    /// `fother dev --demo` and `fother validate`.
    Local,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if arguments.next().as_deref() == Some(floor::VERB) {
        runtime.block_on(floor::run(&arguments.collect::<Vec<_>>()));
        return ExitCode::SUCCESS;
    }
    runtime.block_on(measure(&Cli::parse()))
}

async fn measure(cli: &Cli) -> ExitCode {
    let scale = if cli.smoke { Scale::SMOKE } else { Scale::FULL };
    let wanted = |measurement: &Measurement| cli.only.is_empty() || cli.only.contains(measurement);
    let (moment, started) = (Moment::now(), Instant::now());
    let mut sections = Vec::new();
    for measurement in Measurement::value_variants().iter().filter(|measurement| wanted(measurement)) {
        let begun = Instant::now();
        eprintln!("measuring: {measurement:?}");
        let Some(section) = one(*measurement, &scale).await else { return ExitCode::SUCCESS };
        println!("{}", section.text());
        eprintln!("{measurement:?} took {:.0} s", begun.elapsed().as_secs_f64());
        sections.push(section);
    }
    if cli.smoke {
        return ExitCode::SUCCESS;
    }
    if cli.only.is_empty() {
        report::write(&sections, &moment, started.elapsed());
    }
    report::verdict(&sections)
}

/// None where there is no control plane to be had.
async fn one(measurement: Measurement, scale: &Scale) -> Option<Section> {
    match measurement {
        Measurement::Matching => return Some(matching::measure(scale)),
        Measurement::Local => return Some(local::measure(scale).await),
        _ => {}
    }
    let harbor = Harbor::open().await?;
    Some(match measurement {
        Measurement::Latency => latency::measure(&harbor, scale).await,
        Measurement::Burst => burst::measure(&harbor, scale).await,
        Measurement::Writes => writes::measure(&harbor, scale).await,
        Measurement::Sync => sync::measure(&harbor, scale).await,
        Measurement::Memory => memory::measure(&harbor, scale).await,
        Measurement::Restart => restart::measure(&harbor, scale).await,
        Measurement::Idle => idle::measure(&harbor, scale).await,
        Measurement::Flood => flood::measure(&harbor, scale).await,
        Measurement::Matching | Measurement::Local => unreachable!("they need no harbor"),
    })
}
