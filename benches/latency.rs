//! From a change to the Job with its durable Execution, at a steady rate, and the CPU time of whoever acts.

use crate::harbor::Harbor;
use crate::load::{Lookout, leaks};
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::usage;

/// Whose turn it is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Actor {
    Floor,
    Fother,
}

/// What one turn gave.
pub struct Turn {
    /// Milliseconds from each change to its Job.
    pub latencies: Samples,
    /// Jobs a second, from the first change to the last Job.
    pub throughput: f64,
    /// Milliseconds of CPU time an event.
    pub cpu: f64,
    /// How busy all processors of the machine were, in percent.
    pub busy: f64,
}

#[derive(Default)]
struct Columns {
    p50: Samples,
    p99: Samples,
    cpu: Samples,
    busy: Samples,
}

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let mut rows = Vec::new();
    for (rate, count) in scale.rates {
        let (mut floor, mut fother) = (Columns::default(), Columns::default());
        for _ in 0..scale.repetitions {
            floor.take(&turn(harbor, Actor::Floor, *count, Some(*rate)).await);
            fother.take(&turn(harbor, Actor::Fother, *count, Some(*rate)).await);
        }
        let row = |what: &str, unit, floor, fother, goal| Row {
            what: format!("{rate}/s, {what}"),
            unit,
            floor,
            fother,
            goal,
        };
        rows.push(row("p50", "ms", floor.p50, fother.p50, Goal::TimesFloor(1.3)));
        rows.push(row("p99", "ms", floor.p99, fother.p99, Goal::TimesFloor(2.0)));
        let goal = if *rate >= 50 { Goal::TimesFloor(1.5) } else { Goal::None };
        rows.push(row("CPU an event", "ms", floor.cpu, fother.cpu, goal));
        rows.push(row("all processors busy", "%", floor.busy, fother.busy, Goal::None));
    }
    let method = "ConfigMaps begin to match at a steady rate; it ends when the Job can be seen. Both moments are those at which a watch of \
                  the measuring process shows them. The floor is a bare loop that creates a small custom resource and a Job and writes the \
                  resource's status. CPU is what the kernel counts for the controller's process alone; busy is what \
                  all processes together keep the processors, with etcd, the API server and the program that measures.";
    Section { title: "From a change to the Job", method: method.to_owned(), rows }
}

impl Columns {
    fn take(&mut self, turn: &Turn) {
        self.p50.push(turn.latencies.percentile(0.5));
        self.p99.push(turn.latencies.percentile(0.99));
        self.cpu.push(turn.cpu);
        self.busy.push(turn.busy);
    }
}

/// One turn, in a namespace of its own.
pub async fn turn(harbor: &Harbor, actor: Actor, count: usize, rate: Option<u32>) -> Turn {
    let berth = harbor.berth("turn").await;
    // Each of them ends its process when it is dropped.
    let (controller, bare) = match actor {
        Actor::Fother => (Some(harbor.controller().await), None),
        Actor::Floor => (None, Some(harbor.bare_loop(&berth).await)),
    };
    if actor == Actor::Fother {
        berth.rule().await;
    }
    let pid = controller
        .as_ref()
        .map(crate::harbor::Controller::id)
        .or(bare.as_ref().map(crate::support::process::Process::id));
    let pid = pid.expect("one of them runs");
    let lookout = Lookout::start(&berth);
    leaks(&berth, "first", 1, None).await;
    lookout.jobs(1).await;
    let (before, busy) = (usage::cpu(pid), usage::Busy::now());
    let boats = leaks(&berth, "boat", count, rate).await;
    lookout.jobs(count + 1).await;
    let cpu = usage::cpu(pid).checked_sub(before).unwrap_or_default().as_secs_f64() * 1000.0;
    let busy = busy.share();
    let (latencies, took) = lookout.times(&boats).await;
    drop((controller, bare));
    berth.leave().await;
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let events = count as f64;
    Turn { latencies, throughput: events / took.as_secs_f64(), cpu: cpu / events, busy }
}
