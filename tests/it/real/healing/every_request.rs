//! The controller is killed at every request of the main path, whether it changes something or only asks: before it is
//! sent, after it is committed, after it is answered. Always one Execution, one Job, the same end.

use fother::api::Execution;
use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::controller::Controller;
use super::points::{self, Counts, Point, Points};
use super::scenario::{CAULK, MEND, Scenario};
use crate::support::proxy::{Fault, Kind, Proxy};
use crate::support::wait::{DEADLINE, eventually};

/// What is not asked the same number of times on each walk, and why. What a walk has more of than another may be missed.
const BY_CHANCE: [(&str, &str); 11] = [
    ("get configmaps", "the boat is read when something of it is heard, and two things may be heard at once"),
    ("get jobs", "so is the Job"),
    ("list pods", "and its Pod, which may be gone or not be there yet"),
    ("get serviceaccounts", "the account is looked at each time that something is asked in its name"),
    ("create selfsubjectaccessreviews", "a changed Rule begins to watch before the boat breaks, or after"),
    ("list configmaps", "that is how it begins"),
    ("watch configmaps", "and how it goes on"),
    ("patch rules/status", "and what it says then"),
    (
        "list jobs",
        "Jobs are watched while something runs, and for up to half a minute after; that begins with a list",
    ),
    ("watch jobs", "and goes on with a watch"),
    ("list controllerrevisions", "it tidies up once it leads, which may be over before the walk, or not"),
];
/// All but one of the control planes that tests have where each is alone: the others do not wait for the end of this.
const LANES: usize = Scenario::LANES - 1;
/// The lanes whose walks are counted before the first kill. Others join when their control planes are free.
const COUNTED: usize = 3;

/// Whether it is on the main path: the Lease is renewed also when nothing happens.
fn is_on_the_path(kind: &Kind) -> bool {
    kind.resource() != "leases"
}

/// A rule whose ladder has both a Job and an operation, and a controller that can be stopped at any request.
struct Lane {
    proxy: Proxy,
    controller: Controller,
    boats: usize,
    /// Goes last: then another may use its control plane.
    scenario: Scenario,
}

impl Lane {
    async fn open(name: &str) -> Option<Self> {
        let scenario = Scenario::alone(name).await?;
        scenario.let_caulk_end();
        scenario.rule("mends", json!({"ladder": ladder(0)})).await;
        let proxy = scenario.proxy().await;
        let controller = scenario.controller_through(&proxy).await;
        scenario.watching("mends").await;
        Some(Self { proxy, controller, boats: 0, scenario })
    }

    /// Breaks a boat and lets the controller mend it; gives what it asks on the way.
    async fn walk(&mut self, anew: bool) -> Counts {
        self.prepare(anew).await;
        let counted = points::count(&self.proxy);
        let boat = self.breaks().await;
        self.is_mended(&boat, "a walk").await;
        counted.kinds()
    }

    /// Breaks a boat, kills the controller at the point, and says whether it came there.
    async fn killed_at(&mut self, point: &Point) -> bool {
        self.prepare(point.anew).await;
        let fault = point.arm(&self.proxy);
        let boat = self.breaks().await;
        let reached = self.reached(&fault, &boat).await;
        if reached {
            self.controller.kill();
            fault.release();
            self.controller.start_again();
            self.controller.ready().await;
        }
        drop(fault);
        self.is_mended(&boat, &point.to_string()).await;
        reached
    }

    /// If it is to be `anew`, changes the rule, so that the next Execution is of another definition than the last, and
    /// starts a controller that has seen none yet.
    async fn prepare(&mut self, anew: bool) {
        self.boats += 1;
        if anew {
            self.scenario.change_rule("mends", json!({"ladder": ladder(self.boats)})).await;
            self.controller.restart().await;
            self.scenario.watching("mends").await;
        }
    }

    async fn breaks(&self) -> String {
        let boat = format!("boat-{}", self.boats);
        self.scenario.boat(&boat, "leaking").await;
        boat
    }

    /// Waits until the fault has struck, or the boat is mended without.
    async fn reached(&self, fault: &Fault, boat: &str) -> bool {
        eventually("the controller is at the point, or past it", DEADLINE, || async {
            // The last write and the end are seen in the same moment: the end is looked at first.
            let over = self.execution(boat).await.is_some_and(|e| is_over(&e));
            match (fault.hits() > 0, over) {
                (true, _) => Ok(true),
                (false, true) => Ok(false),
                (false, false) => Err(format!("{} requests so far", fault.described())),
            }
        })
        .await
    }

    /// The only Execution for a boat.
    async fn execution(&self, boat: &str) -> Option<Execution> {
        let mut found = self.scenario.executions("mends").await;
        found.retain(|execution| execution.spec.target.as_ref().is_some_and(|target| target.name == boat));
        assert!(found.len() <= 1, "{found:#?}");
        found.pop()
    }

    async fn is_mended(&self, boat: &str, point: &str) {
        let execution = eventually("it comes to its end", DEADLINE, || async {
            let found = self.execution(boat).await;
            found.clone().filter(is_over).ok_or(format!("{point}: {found:#?}"))
        })
        .await;
        assert_eq!(end_of(&execution), the_end(), "{point}: {execution:#?}");
        let hull = self.scenario.stage.api::<ConfigMap>().get(boat).await.unwrap().data.unwrap();
        assert_eq!(hull["hull"], "tight", "{point}");
        let jobs = self.scenario.jobs().await;
        let held = jobs.iter().filter(|job| !job.finalizers().is_empty()).count();
        assert_eq!(
            (jobs.len(), self.scenario.caulked(), held),
            (self.boats, self.boats, 0),
            "{point}: one Job and one run a boat, and none is held"
        );
    }
}

/// A script, then an operation; never twice the same.
fn ladder(nth: usize) -> Value {
    let within = format!("{}s", 30 + nth);
    let verify = json!({"when": "target.data.hull == 'tight'", "within": within, "stableFor": "1s"});
    json!([{"run": CAULK}, {"run": MEND, "verify": verify}])
}

/// Whether nothing more is to come: it has ended and let go, and its episode is over.
fn is_over(execution: &Execution) -> bool {
    let closed = execution.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    execution.is_finished() && execution.finalizers().is_empty() && closed
}

/// What must be the same whatever happened: all but names and times.
fn end_of(execution: &Execution) -> Value {
    let rungs = execution.status.iter().flat_map(|status| &status.rungs);
    let rungs: Vec<_> = rungs.map(|rung| json!([rung.run, rung.state, rung.outputs])).collect();
    json!({"reason": execution.reason(), "rungs": rungs})
}

fn the_end() -> Value {
    let rungs = json!([[CAULK, "Succeeded", {"planks": 3}], [MEND, "Succeeded", {}]]);
    json!({"reason": "TargetRecovered", "rungs": rungs})
}

#[tokio::test]
async fn killed_at_every_request_it_comes_to_the_same_end() {
    let opening = (0..LANES).map(|lane| async move {
        let mut lane = Lane::open(&format!("every-request-{lane}")).await?;
        let walks = (lane.walk(true).await, lane.walk(false).await);
        Some((lane, walks))
    });
    let mut opening =
        stream::iter(opening).buffer_unordered(LANES).filter_map(std::future::ready).boxed_local();
    let first: Vec<_> = opening.by_ref().take(COUNTED).collect().await;
    if first.is_empty() {
        return;
    }
    let (anew, usual): (Vec<_>, Vec<_>) = first.iter().map(|(_, walks)| walks.clone()).unzip();
    let points = Points::of(&usual, &anew, is_on_the_path);
    let todo = &points;
    let killing = stream::select(stream::iter(first), opening);
    killing
        .for_each_concurrent(None, |(mut lane, _)| async move {
            todo.each(async |point| lane.killed_at(point).await).await;
        })
        .await;
    points.assert_reached(&BY_CHANCE);
}
