//! Hundreds of changes at once.

use crate::harbor::Harbor;
use crate::latency::{Actor, turn};
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let mut throughput = [Samples::default(), Samples::default()];
    let mut cpu = [Samples::default(), Samples::default()];
    for _ in 0..scale.repetitions {
        for (at, actor) in [Actor::Floor, Actor::Fother].into_iter().enumerate() {
            let turn = turn(harbor, actor, scale.burst, None).await;
            throughput[at].push(turn.throughput);
            cpu[at].push(turn.cpu);
        }
    }
    let row = |what: &str, unit, [floor, fother]: [Samples; 2], goal| Row {
        what: what.to_owned(),
        unit,
        floor,
        fother,
        goal,
    };
    let rows = vec![
        row("throughput", "Jobs/s", throughput, Goal::OfFloor(0.85)),
        row("CPU an event", "ms", cpu, Goal::None),
    ];
    let method = format!(
        "{} ConfigMaps begin to match as fast as they can be created, and each gets its Job; the rate is that from the first change to \
         the last Job. The controller's caps on what may run at once are raised.",
        scale.burst
    );
    Section { title: "A burst", method, rows }
}
