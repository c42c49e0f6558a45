//! The controller is killed at every request of its start and of the main path, whether it changes something or only asks:
//! before it is sent, after it is committed, after it is answered; and once more at what the next one writes first. Always
//! one Execution, one Job, the same end.

use std::collections::BTreeSet;
use std::fmt::Display;

use fother::api::Execution;
use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::controller::{Controller, HOME};
use super::points::{self, Counts, Fate, Point, Points, Stands};
use super::scenario::{CAULK, MEND, Scenario};
use crate::support::proxy::{Deed, Fault, Kind, Proxy, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// What is not asked the same number of times on each walk, and why. What a walk has more of than another may be missed.
const BY_CHANCE: [(&str, &str); 6] = [
    ("get configmaps", "the boat is read when something of it is heard, and two things may be heard at once"),
    ("list configmaps", "so are all boats that match"),
    ("get jobs", "so is the Job"),
    ("list pods", "and its Pod, which may be gone or not be there yet"),
    ("get serviceaccounts", "the account is looked at each time that something is asked in its name"),
    ("patch rules/status", "a changed Rule may be told of before it watches, and when it does"),
];
/// With it an Execution is let go.
const LAST_WRITE: &str = "patch executions";
/// All but two of the control planes that tests have where each is alone: the others do not wait for the end of this, and the
/// longest of them, which is one after the other by nature, goes on beside it.
const LANES: usize = Scenario::LANES - 2;
/// The lanes whose walks are counted before the first kill. Others join when their control planes are free.
const COUNTED: usize = 3;

/// Whether it is on the main path: the Lease is renewed also when nothing happens.
fn is_on_the_path(kind: &Kind) -> bool {
    kind.resource() != "leases"
}

/// Whether the next process does it if this one did not. Events only tell, and nobody else tells what one has not.
fn is_made_up_for(kind: &Kind) -> bool {
    !kind.is_read() && kind.resource() != "events"
}

/// Whether it changes what comes next.
fn is_of_effect(kind: &Kind) -> bool {
    is_made_up_for(kind) && is_on_the_path(kind)
}

/// Whether every fate befalls every request (`make crash`), which takes as long again. Otherwise a request that changes
/// something is never sent, late, or done without an answer or with one, and nobody dies twice.
fn is_thorough() -> bool {
    std::env::var_os("FOTHER_CRASH_ALL").is_some()
}

/// What becomes of a request, and of the first that the next process writes.
fn fates(kind: &Kind, stands: Stands) -> Vec<(Fate, Option<Fate>)> {
    let first: &[Fate] = match (kind.is_read(), stands) {
        (true, _) if is_thorough() => &[Fate::NeverSent, Fate::Answered],
        // Right after the answer everything is as it is right before the next request is sent: one kill there a kind will do.
        (true, Stands::Certain { is_last: true }) => &[Fate::NeverSent, Fate::Answered],
        (true, _) => &[Fate::NeverSent],
        (false, Stands::ByChance) if !is_thorough() => &[Fate::NeverSent, Fate::Unanswered],
        (false, _) => &[Fate::NeverSent, Fate::Late, Fate::Unanswered, Fate::Answered],
    };
    let mut fates: Vec<_> = first.iter().map(|fate| (*fate, None)).collect();
    let is_certain = stands != Stands::ByChance && is_thorough();
    if is_certain && is_made_up_for(kind) {
        fates.push((Fate::Overtaking, None));
    }
    if is_certain && is_of_effect(kind) {
        fates.push((Fate::NeverSent, Some(Fate::Unanswered)));
        // After the last there is nothing left to write.
        let is_followed = kind.to_string() != LAST_WRITE;
        fates.extend(is_followed.then_some((Fate::Unanswered, Some(Fate::NeverSent))));
    }
    fates
}

/// A rule whose ladder has both a Job and an operation, and a controller that can be stopped at any request.
struct Lane {
    proxy: Proxy,
    controller: Controller,
    boats: usize,
    /// Whether the last boat waits for a controller that comes to its end.
    is_adrift: bool,
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
        Some(Self { proxy, controller, boats: 0, is_adrift: false, scenario })
    }

    /// Starts the controller, which is dead, until it leads and does what it does then; gives what it asks on the way.
    async fn starts(&mut self) -> Counts {
        let counted = points::count(&self.proxy, &self.namespaces());
        self.controller.start_again();
        self.controller.ready().await;
        eventually("it watches the boats, and has swept", DEADLINE, || async {
            let asked: Vec<_> = counted.kinds().keys().map(ToString::to_string).collect();
            let waits = ["watch configmaps", "list controllerrevisions"];
            if waits.iter().all(|wait| asked.iter().any(|kind| kind == wait)) {
                Ok(())
            } else {
                Err(asked.join(", "))
            }
        })
        .await;
        counted.kinds()
    }

    /// Starts the controller anew; gives what it asks on the way.
    async fn starts_anew(&mut self) -> Counts {
        self.controller.kill();
        self.starts().await
    }

    /// Breaks a boat and lets a controller mend it that has just started; gives what it asks on the way.
    async fn walk(&mut self) -> Counts {
        self.starts_anew().await;
        let counted = points::count(&self.proxy, &self.namespaces());
        self.boats += 1;
        self.comes_to_pass("a walk").await;
        self.is_mended("a walk").await;
        counted.kinds()
    }

    /// Breaks a boat, kills the controller at the point, and says whether it came there.
    async fn killed_at(&mut self, point: &Point, attempts: usize) -> bool {
        if attempts > 0 {
            self.starts_anew().await;
        }
        self.boats += 1;
        let fault = point.arm(&self.proxy, &self.namespaces());
        let reached = tokio::select! {
            biased;
            () = fault.struck() => true,
            () = self.comes_to_pass(point) => false,
        };
        let came = reached && self.dies_at(point, &fault).await;
        self.is_mended(&point.to_string()).await;
        if came && point.fate == Fate::Late {
            self.stays_so(&fault, point).await;
        }
        came
    }

    /// Starts the controller while a boat leaks, kills it at the point, and says whether it came there. After a kill where it
    /// only asks, the next one is killed while it starts, too.
    async fn killed_at_its_start(&mut self, point: &Point) -> bool {
        self.controller.kill();
        if !self.is_adrift {
            self.boats += 1;
            self.breaks().await;
            self.is_adrift = true;
        }
        let fault = point.arm(&self.proxy, &self.namespaces());
        self.controller.start_again();
        let reached = tokio::select! {
            biased;
            () = fault.struck() => true,
            () = self.is_over(point) => false,
        };
        if reached && point.kind.is_read() {
            self.controller.kill();
            point.fate.befalls(&fault);
            return true;
        }
        let came = reached && self.dies_at(point, &fault).await;
        self.comes_home(&point.to_string()).await;
        if came && point.fate == Fate::Late {
            self.stays_so(&fault, point).await;
        }
        came
    }

    /// The last boat is mended, whoever was killed while it leaked.
    async fn comes_home(&mut self, point: &str) {
        if std::mem::take(&mut self.is_adrift) {
            if self.controller.is_killed() {
                self.starts().await;
            }
            self.is_mended(point).await;
        }
    }

    /// Kills the controller where the point's request stands still, and lets another follow, which may be killed, too. Says
    /// whether everything was as the point has it.
    async fn dies_at(&mut self, point: &Point, fault: &Fault) -> bool {
        self.controller.kill();
        point.fate.befalls(fault);
        self.breaks().await;
        let next = match (point.fate, point.then) {
            (_, Some(fate)) => Some((Requests::those(is_of_effect), fate)),
            (Fate::Overtaking, None) => Some((Requests::of(&point.kind), Fate::Overtaking)),
            _ => None,
        };
        let Some((requests, fate)) = next else {
            self.starts().await;
            return true;
        };
        let requests = requests.within(&self.namespaces()).nth(1);
        let again = self.proxy.arm(requests, fate.moment(), Deed::Hold);
        self.controller.start_again();
        let came = tokio::select! {
            biased;
            () = again.struck() => true,
            () = self.is_over(point) => false,
        };
        if fate == Fate::Overtaking {
            fault.release();
            fault.wait_until_arrived(DEADLINE).await;
            again.release();
            self.controller.ready().await;
        } else {
            self.controller.kill();
            fate.befalls(&again);
            self.starts().await;
        }
        came
    }

    /// What arrives when everything is over changes nothing.
    async fn stays_so(&self, fault: &Fault, point: &Point) {
        let before = self.scenario.everything().await;
        fault.release();
        fault.wait_until_arrived(DEADLINE).await;
        assert_eq!(self.scenario.everything().await, before, "{point}");
    }

    /// The rule becomes another, whose next Execution is of a definition of its own; then a boat breaks, and is mended.
    async fn comes_to_pass(&self, point: impl Display) {
        self.scenario.change_rule("mends", json!({"ladder": ladder(self.boats)})).await;
        self.scenario.watching("mends").await;
        self.breaks().await;
        self.is_over(point).await;
    }

    /// Where everything happens, and where the controller is.
    fn namespaces(&self) -> [&str; 2] {
        [&self.scenario.stage.namespace, HOME]
    }

    fn boat(&self) -> String {
        format!("boat-{}", self.boats)
    }

    /// Breaks the last boat, if that was not done yet.
    async fn breaks(&self) {
        let name = self.boat();
        if self.scenario.stage.api::<ConfigMap>().get_opt(&name).await.unwrap().is_none() {
            self.scenario.boat(&name, "leaking").await;
        }
    }

    /// Waits until nothing more is to come for the last boat.
    async fn is_over(&self, point: impl Display) {
        // Asked for by its name: a list of all is long, and asked for often.
        let name = self.scenario.name_of("mends", &self.boat(), "");
        let executions = self.scenario.stage.api::<Execution>();
        eventually(&format!("{point}: it comes to its end"), DEADLINE, || async {
            let found = executions.get_opt(&name).await.map_err(|error| error.to_string())?;
            if found.as_ref().is_some_and(is_over) { Ok(()) } else { Err(format!("{found:#?}")) }
        })
        .await;
    }

    /// All boats are tight, each by one Execution, one Job and one run, and nothing holds or is held.
    async fn is_mended(&self, point: &str) {
        self.is_over(point).await;
        let stage = &self.scenario.stage;
        let (executions, jobs) = (self.scenario.executions("mends").await, self.scenario.jobs().await);
        for execution in &executions {
            assert!(is_over(execution) && end_of(execution) == the_end(), "{point}: {execution:#?}");
        }
        let targets: BTreeSet<_> =
            executions.iter().filter_map(|execution| Some(&execution.spec.target.as_ref()?.name)).collect();
        let all = ListParams::default();
        let pods = stage.api::<Pod>().list(&all).await.unwrap().items;
        let boats = stage.api::<ConfigMap>().list(&all.labels("kind=boat")).await.unwrap().items;
        let is_tight = |boat: &&ConfigMap| boat.data.as_ref().is_some_and(|data| data["hull"] == "tight");
        let found = [
            boats.iter().filter(is_tight).count(),
            targets.len(),
            executions.len(),
            jobs.len(),
            pods.len(),
            self.scenario.caulked(),
        ];
        assert_eq!(found, [self.boats; 6], "{point}: one Execution, one Job, one Pod and one run a boat");
        let is_held = |finalizers: &[String]| !finalizers.is_empty();
        let held = jobs.iter().any(|job| is_held(job.finalizers()))
            || pods.iter().any(|pod| is_held(pod.finalizers()));
        assert!(!held, "{point}: {jobs:#?} {pods:#?}");
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
        let starts = [lane.starts_anew().await, lane.starts_anew().await];
        let walks = [lane.walk().await, lane.walk().await];
        Some((lane, starts, walks))
    });
    let mut opening =
        stream::iter(opening).buffer_unordered(LANES).filter_map(std::future::ready).boxed_local();
    let first: Vec<_> = opening.by_ref().take(COUNTED).collect().await;
    if first.is_empty() {
        return;
    }
    let starts: Vec<_> = first.iter().flat_map(|(_, starts, _)| starts.clone()).collect();
    let walks: Vec<_> = first.iter().flat_map(|(_, _, walks)| walks.clone()).collect();
    let chances = if is_thorough() { 4 } else { 1 };
    // Nothing of its start is left to chance.
    let starts = Points::of(&starts, chances, |kind, stands| {
        let is_last = stands == Stands::Certain { is_last: true };
        fates(kind, Stands::Certain { is_last })
    });
    let on_the_path =
        |kind: &Kind, stands| if is_on_the_path(kind) { fates(kind, stands) } else { Vec::new() };
    let walks = Points::of(&walks, chances, on_the_path);
    let (at_start, on_the_way) = (&starts, &walks);
    let killing = stream::select(stream::iter(first), opening);
    killing
        .for_each_concurrent(None, |(mut lane, ..)| async move {
            on_the_way.each(async |point, attempts| lane.killed_at(point, attempts).await).await;
            at_start.each(async |point, _| lane.killed_at_its_start(point).await).await;
            lane.comes_home("killed at its start").await;
        })
        .await;
    starts.assert_reached("start", &[]);
    walks.assert_reached("way", &BY_CHANCE);
}
