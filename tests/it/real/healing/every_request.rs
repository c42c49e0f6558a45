//! The controller is killed at every request of the main path: before it is sent, after it is committed, after it is
//! answered. Always one Execution, one Job, the same end.
//!
//! Where a request that only reads stands does not matter to the cluster, so it is killed at those before they are sent.

use std::sync::atomic::{AtomicUsize, Ordering};

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

/// What the controller asks for also when nothing happens.
const IDLE: &str = "/leases|/openapi/|watch=";
/// All but one of the control planes that tests have where each is alone: the others do not wait for the end of this.
const LANES: usize = Scenario::LANES - 1;

/// The nth request of those, at a moment.
#[derive(Clone, Copy, Debug)]
struct Point {
    writes: bool,
    nth: usize,
    moment: Moment,
}

impl Point {
    fn arm(self, proxy: &Proxy) -> Fault {
        let requests = if self.writes { Requests::writes(".") } else { Requests::any(".") };
        proxy.arm(requests.except(IDLE).nth(self.nth), self.moment, Deed::Hold)
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
        let verify = json!({"when": "target.data.hull == 'tight'", "within": "30s", "stableFor": "1s"});
        let ladder = json!([{"run": CAULK}, {"run": MEND, "verify": verify}]);
        scenario.rule("mends", json!({"ladder": ladder})).await;
        let proxy = scenario.proxy().await;
        let controller = scenario.controller_through(&proxy).await;
        scenario.watching("mends").await;
        Some(Self { proxy, controller, boats: 0, scenario })
    }

    /// Breaks a boat, kills the controller at the point, and says whether it came there.
    async fn killed_at(&mut self, point: Point) -> bool {
        let fault = point.arm(&self.proxy);
        self.boats += 1;
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
            match (fault.hits() > 0, self.execution(boat).await.is_some_and(|e| is_over(&e))) {
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

/// How many requests, and how many writes, one remediation takes.
async fn count(lane: &mut Lane) -> (usize, usize) {
    let never = |writes| Point { writes, nth: usize::MAX, moment: Moment::BeforeSent };
    let all = never(false).arm(&lane.proxy);
    let reached = lane.killed_at(never(true)).await;
    assert!(!reached);
    let requests = all.described();
    let writes = never(true).arm(&lane.proxy);
    lane.killed_at(never(false)).await;
    (requests, writes.described())
}

fn points((requests, writes): (usize, usize)) -> Vec<Point> {
    let of = |writes, count, moment| (1..=count).map(move |nth| Point { writes, nth, moment });
    of(false, requests, Moment::BeforeSent)
        .chain(of(true, writes, Moment::Committed))
        .chain(of(true, writes, Moment::Answered))
        .rev()
        .collect()
}

#[tokio::test]
async fn killed_at_every_request_it_comes_to_the_same_end() {
    let Some(mut first) = Lane::open("every-request-0").await else { return };
    let counted = count(&mut first).await;
    let (all, todo) = (points(counted).len(), Mutex::new(points(counted)));
    let reached = AtomicUsize::new(0);
    let walk = async |mut lane: Lane| {
        while let Some(point) = { todo.lock().pop() } {
            let hit = lane.killed_at(point).await;
            reached.fetch_add(usize::from(hit), Ordering::Relaxed);
        }
    };
    let others = (1..LANES).map(|lane| async move { Lane::open(&format!("every-request-{lane}")).await });
    let others = join_all(others).await.into_iter().flatten();
    join_all(others.chain([first]).map(walk)).await;
    let reached = reached.into_inner();
    println!("{counted:?} requests and writes: killed at {reached} of {all} points");
    // A remediation may look once more or less often while it waits; what it writes is always the same.
    assert!(reached * 10 >= all * 9, "killed at {reached} of {all} points only");
}
