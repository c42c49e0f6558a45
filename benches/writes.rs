//! What is written to the API server for one Execution, counted in its audit log.

use std::collections::BTreeMap;
use std::time::Duration;

use fother::api::Execution;
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::harbor::{Berth, Harbor, USER};
use crate::load::leaks;
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::support::audit::{AuditLog, Mark};
use crate::support::wait::eventually;

const LONG: Duration = Duration::from_mins(2);

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let berth = harbor.berth("writes").await;
    let log = harbor.plane.audit().expect("the control plane is our own");
    let controller = harbor.controller().await;
    berth.rule().await;
    leaks(&berth, "first", 1, None).await;
    all_run(&berth, 1).await;
    complete(&berth).await;
    all_let_go(&berth).await;
    let (mut begun, mut all) = (Writes::default(), Writes::default());
    for round in 0..scale.repetitions {
        let mark = log.mark().await;
        leaks(&berth, &format!("boat-{round}"), scale.executions, Some(10)).await;
        all_run(&berth, 1 + (round + 1) * scale.executions).await;
        begun.add(&count(&log, mark, scale).await);
        complete(&berth).await;
        all_let_go(&berth).await;
        all.add(&count(&log, mark, scale).await);
    }
    drop(controller);
    berth.leave().await;
    let mut rows = vec![
        Row::plain("until its Job runs", "writes", begun.total, Goal::AtMost(3.0)),
        Row::plain("over its life", "writes", all.total, Goal::AtMost(5.0)),
    ];
    rows.extend(
        all.by_kind
            .into_iter()
            .map(|(what, times)| Row::plain(format!("… of them {what}"), "writes", times, Goal::None)),
    );
    let method = format!(
        "{} times {} Executions of one rung without a verification, ten a second, whose Jobs complete later. Counted is what the API server's audit \
         log has of the controller, in its own name or a Rule's, without its Lease, divided by the Executions.",
        scale.repetitions, scale.executions
    );
    Section { title: "Writes for an Execution", method, rows }
}

/// Writes for an Execution, round by round.
#[derive(Default)]
struct Writes {
    total: Samples,
    by_kind: BTreeMap<String, Samples>,
}

impl Writes {
    fn add(&mut self, counted: &BTreeMap<String, f64>) {
        self.total.push(counted.values().sum());
        for (kind, times) in counted {
            self.by_kind.entry(kind.clone()).or_default().push(*times);
        }
    }
}

/// What the controller has written since, by resource, for each Execution.
async fn count(log: &AuditLog, mark: Mark, scale: &Scale) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let share = 1.0 / scale.executions as f64;
    for request in log.since(mark).await {
        if request.user == USER && request.is_write() && !request.resource.ends_with("/leases") {
            *found.entry(format!("{} {}", request.verb, request.resource)).or_default() += share;
        }
    }
    found
}

async fn all_run(berth: &Berth, wanted: usize) {
    settles(berth, "they run", wanted, |execution| {
        execution.status.as_ref().is_some_and(|status| !status.rungs.is_empty())
    })
    .await;
}

async fn all_let_go(berth: &Berth) {
    let count = berth.api::<Execution>().list(&ListParams::default()).await.unwrap().items.len();
    settles(berth, "they have let go", count, |execution| {
        execution.is_finished() && execution.finalizers().is_empty()
    })
    .await;
}

async fn settles(berth: &Berth, what: &str, wanted: usize, is: impl Fn(&Execution) -> bool) {
    eventually(what, LONG, || async {
        let found = berth.api::<Execution>().list(&ListParams::default()).await.unwrap().items;
        let count = found.iter().filter(|execution| is(execution)).count();
        if count == wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
    })
    .await;
}

/// Completes all Jobs, as their controller would.
async fn complete(berth: &Berth) {
    let jobs = berth.api::<Job>();
    let mut all = jobs.list(&ListParams::default()).await.unwrap().items;
    all.retain(|job| job.status.as_ref().is_none_or(|status| status.completion_time.is_none()));
    let at = "2026-01-01T00:00:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at, "reason": "CompletionsReached"});
    let status = json!({"status": {
        "startTime": at, "completionTime": at, "succeeded": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    }});
    join_all(all.iter().map(async |job| {
        jobs.patch_status(&job.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }))
    .await;
}
