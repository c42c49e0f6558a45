//! A thousand Rules while nothing happens: requests, CPU time, memory.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harbor::{Harbor, USER};
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::sync::{apply_all, rules};
use crate::usage;

/// How long the start may take to settle.
const REST: Duration = Duration::from_secs(15);

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let berth = harbor.berth("idle").await;
    apply_all(&berth, &rules(scale.rules)).await;
    let controller = harbor.controller().await;
    berth.rules_are_ready(scale.rules).await;
    let rest = async |time| tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
    rest(REST.min(scale.idle)).await;
    let log = harbor.plane.audit().expect("the control plane is our own");
    let mark = log.mark().await;
    let mut cpu = Samples::default();
    for _ in 0..scale.repetitions {
        let share = scale.idle.div_f64(f64::from(u32::try_from(scale.repetitions).unwrap()));
        let before = usage::cpu(controller.id());
        rest(share).await;
        let used = usage::cpu(controller.id()).checked_sub(before).unwrap_or_default();
        cpu.push(100.0 * used.as_secs_f64() / share.as_secs_f64());
    }
    let requests = log.since(mark).await.into_iter().filter(|request| request.user == USER);
    let seconds = scale.idle.as_secs_f64();
    let mut by_kind = BTreeMap::<String, f64>::new();
    for request in requests {
        *by_kind.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1.0 / seconds;
    }
    let (memory, peak) = usage::memory(controller.id());
    drop(controller);
    berth.leave().await;
    let one = |value: f64| std::iter::once(value).collect::<Samples>();
    let mut rows = vec![
        Row::plain("requests to the API server", "a second", one(by_kind.values().sum()), Goal::AtMost(0.5)),
        Row::plain("CPU", "% of a core", cpu, Goal::AtMost(1.0)),
        Row::plain("memory", "MB", one(memory), Goal::AtMost(25.0)),
        Row::plain("… at its peak", "MB", one(peak), Goal::None),
    ];
    rows.extend(by_kind.iter().map(|(what, rate)| {
        Row::plain(format!("… of the requests {what}"), "a second", one(*rate), Goal::None)
    }));
    let method = format!(
        "{} Rules, each with a condition of its own on Pods of one namespace, and nothing that happens, for {} s: longer than the time \
         after which every Rule is looked at again. Requests are those of the audit log; CPU is that of {} parts of this time.",
        scale.rules,
        scale.idle.as_secs(),
        scale.repetitions
    );
    Section { title: "Nothing happens", method, rows }
}
