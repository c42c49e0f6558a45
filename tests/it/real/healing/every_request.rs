//! The controller is killed at every request of the main path that changes something: before it is sent, after it is
//! committed, after it is answered. Always one Execution, one Job, the same end.
//!
//! Killed at a request that only reads, it leaves the cluster as it does right after the answer to the write before.

use fother::api::Execution;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::controller::Controller;
use super::scenario::{CAULK, MEND, Scenario};
use crate::support::proxy::{Deed, Fault, Moment, Proxy, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// What the controller asks also when nothing happens, or which changes nothing.
const IDLE: &str = "/leases|reviews$";
/// What it writes on the main path. How often, and what comes first, may differ from one time to the next: that each of
/// them happens does not.
const WRITES: [&str; 9] = [
    DEFINITION,
    "/executions(\\?|$)",
    "/executions/[^/?]+(\\?|$)",
    "/executions/[^/]+/status",
    "/jobs(\\?|$)",
    "/jobs/[^/?]+(\\?|$)",
    "/events(\\?|$)",
    STANDING,
    "/configmaps/[^/?]+(\\?|$)",
];
/// Written when a Rule fires for the first time as it is now.
const DEFINITION: &str = "/controllerrevisions(\\?|$)";
/// Written when a Rule stands otherwise than before, which it need not after a remediation.
const STANDING: &str = "/rules/[^/]+/status";
/// All but one of the control planes that tests have where each is alone: the others do not wait for the end of this.
const LANES: usize = Scenario::LANES - 1;

/// The nth write of a kind, at a moment.
#[derive(Clone, Copy, Debug)]
struct Point {
    write: &'static str,
    nth: usize,
    moment: Moment,
}

impl Point {
    /// One that no remediation comes to.
    fn never(write: &'static str) -> Self {
        Self { write, nth: usize::MAX, moment: Moment::BeforeSent }
    }

    fn arm(self, proxy: &Proxy) -> Fault {
        proxy.arm(Requests::writes(self.write).except(IDLE).nth(self.nth), self.moment, Deed::Hold)
    }
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

    /// Breaks a boat, kills the controller at the point, and says whether it came there.
    async fn killed_at(&mut self, point: Point) -> bool {
        self.boats += 1;
        if point.write == DEFINITION {
            self.scenario.change_rule("mends", json!({"ladder": ladder(self.boats)})).await;
            self.scenario.watching("mends").await;
        }
        let fault = point.arm(&self.proxy);
        let boat = format!("boat-{}", self.boats);
        self.scenario.boat(&boat, "leaking").await;
        let reached = self.reached(&fault, &boat).await;
        if reached {
            self.controller.kill();
            fault.release();
            self.controller.start_again();
            self.controller.ready().await;
        }
        drop(fault);
        self.is_mended(&boat, point).await;
        reached
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

    async fn is_mended(&self, boat: &str, point: Point) {
        let execution = eventually("it comes to its end", DEADLINE, || async {
            let found = self.execution(boat).await;
            found.clone().filter(is_over).ok_or(format!("{point:?}: {found:#?}"))
        })
        .await;
        assert_eq!(end_of(&execution), the_end(), "{point:?}: {execution:#?}");
        let hull = self.scenario.stage.api::<ConfigMap>().get(boat).await.unwrap().data.unwrap();
        assert_eq!(hull["hull"], "tight", "{point:?}");
        let jobs = self.scenario.jobs().await;
        let held = jobs.iter().filter(|job| !job.finalizers().is_empty()).count();
        assert_eq!(
            (jobs.len(), self.scenario.caulked(), held),
            (self.boats, self.boats, 0),
            "{point:?}: one Job and one run a boat, and none is held"
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

/// What one remediation writes, and each moment of it.
async fn points(lane: &mut Lane) -> Vec<Point> {
    let counts = WRITES.map(|write| (write, Point::never(write).arm(&lane.proxy)));
    let all = Point::never(".").arm(&lane.proxy);
    assert!(!lane.killed_at(Point::never(".")).await);
    let sum: usize = counts.iter().map(|(_, count)| count.described()).sum();
    assert_eq!(sum, all.described(), "each is of one of the kinds that are listed here");
    let moments = [Moment::BeforeSent, Moment::Committed, Moment::Answered];
    let of_kind = |(write, count): &(&'static str, Fault)| {
        assert!(count.described() > 0, "{write} is written");
        let (write, count) = (*write, count.described());
        (1..=count).flat_map(move |nth| moments.map(|moment| Point { write, nth, moment }))
    };
    counts.iter().flat_map(of_kind).collect()
}

#[tokio::test]
async fn killed_at_every_request_it_comes_to_the_same_end() {
    let Some(mut first) = Lane::open("every-request-0").await else { return };
    let all = points(&mut first).await;
    let (todo, missed) = (Mutex::new(all.clone()), Mutex::new(Vec::new()));
    let walk = async |mut lane: Lane| {
        while let Some(point) = { todo.lock().pop() } {
            // Somebody may have been faster, and may not be the next time.
            if !lane.killed_at(point).await && !lane.killed_at(point).await {
                missed.lock().push(point);
            }
        }
    };
    let others = (1..LANES).map(|lane| async move { Lane::open(&format!("every-request-{lane}")).await });
    let others = join_all(others).await.into_iter().flatten();
    join_all(others.chain([first]).map(walk)).await;
    let missed = missed.into_inner();
    println!("killed at {} of {} points, not at {missed:?}", all.len() - missed.len(), all.len());
    // What is written twice, because somebody was faster, need not be the next time.
    assert!(missed.iter().all(|point| point.nth > 1 || point.write == STANDING), "{missed:#?}");
}
