//! Two replicas, and the one that leads is lost at the worst moment: frozen, killed or stopped while an Execution is
//! about to be created, a Job runs and an operation is on its way. The other takes over, and nothing happens twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fother::api::{AttemptState, Execution};
use http::Method;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt as _};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::controller::Controller;
use super::scenario::{CAULK, MEND, Scenario};
use crate::support::audit::{Mark, Request};
use crate::support::proxy::{Deed, Fault, Moment, Requests};
use crate::support::wait::{DEADLINE, eventually};

/// The boats, each with a rule of its name: the Execution for the first is about to be created, the Job for the second
/// runs, the operation on the third is on its way.
const BOATS: [&str; 3] = ["ark", "brig", "cog"];
/// For how long a Lease is good that nobody gives up.
const LEASE: Duration = Duration::from_secs(15);

/// A leader in the middle of everything, and who comes after it.
struct Fleet {
    leader: Controller,
    heir: Controller,
    /// What the leader has sent and nobody has received yet.
    late: [Fault; 2],
    began: Mark,
    /// Goes last: then another may use its control plane.
    scenario: Scenario,
}

impl Fleet {
    async fn underway(name: &str) -> Option<Self> {
        let scenario = Scenario::alone(name).await?;
        let began = scenario.audit().mark().await;
        for (boat, run) in BOATS.into_iter().zip([MEND, CAULK, MEND]) {
            scenario.rule_for(boat, run, json!({})).await;
        }
        let proxy = scenario.proxy().await;
        let leader = scenario.controller_through(&proxy).await;
        let mut heir = Controller::candidate(scenario.controller_access(), "two");
        heir.says("standing by").await;
        for boat in BOATS {
            scenario.watching(boat).await;
        }
        let hold = |method, what: &str| {
            let path = format!("/namespaces/{}/{what}(\\?|$)", scenario.stage.namespace);
            proxy.arm(Requests::new(method, &path).nth(1), Moment::BeforeSent, Deed::Hold)
        };
        scenario.boat("brig", "leaking").await;
        scenario.until_caulking(1).await;
        let runs =
            |e: &Execution| e.status.as_ref().is_some_and(|s| s.rungs[0].state == AttemptState::Running);
        scenario.only("brig", "its Job is recorded", runs).await;
        let operation = hold(Method::PATCH, "configmaps/cog");
        scenario.boat("cog", "leaking").await;
        operation.wait_until_hit(DEADLINE).await;
        let decision = hold(Method::POST, "executions");
        scenario.boat("ark", "leaking").await;
        decision.wait_until_hit(DEADLINE).await;
        Some(Self { leader, heir, late: [operation, decision], began, scenario })
    }

    /// The other takes over and brings everything to its end. Then arrives what the first had sent, and changes nothing.
    async fn comes_through(&mut self) {
        let scenario = &self.scenario;
        self.heir.ready().await;
        scenario.let_caulk_end();
        scenario.set_hull("brig", "tight").await;
        scenario.all_recover(&BOATS).await;
        let before = scenario.everything().await;
        assert_eq!(self.counts().await, "1 of cog patched, 3 Executions, 1 Jobs, 1 Pods created");
        for late in &self.late {
            late.release();
        }
        eventually("what was late has come", DEADLINE, || async {
            let counts = self.counts().await;
            let came = counts == "2 of cog patched, 3 Executions and 1 refused, 1 Jobs, 1 Pods created";
            if came { Ok(()) } else { Err(counts) }
        })
        .await;
        assert_eq!(scenario.everything().await, before, "the late ones changed nothing");
        scenario.has_run_one_job().await;
    }

    /// What the API server was asked to do, and did.
    async fn counts(&self) -> String {
        let namespace = Some(self.scenario.stage.namespace.clone());
        let mut asked = self.scenario.audit().since(self.began).await;
        asked.retain(|request| request.is_write() && request.namespace == namespace);
        // A patch by its object: rules of the same name have statuses.
        let what = |request: &Request| match (request.verb.as_str(), &request.name) {
            ("patch", Some(name)) => format!("{}/{name}", request.resource),
            _ => request.resource.clone(),
        };
        let count = |verb: &str, resource: &str, code: u16| {
            asked.iter().filter(|r| r.verb == verb && r.code == code && what(r) == resource).count()
        };
        let patched = count("patch", "configmaps/cog", 200);
        let refused = match count("create", "fother.dev/executions", 409) {
            0 => String::new(),
            refused => format!(" and {refused} refused"),
        };
        let (executions, jobs, pods) = (
            count("create", "fother.dev/executions", 201),
            count("create", "batch/jobs", 201),
            count("create", "pods", 201),
        );
        format!(
            "{patched} of cog patched, {executions} Executions{refused}, {jobs} Jobs, {pods} Pods created"
        )
    }
}

impl Scenario {
    /// The version of everything that a remediation touches.
    pub async fn everything(&self) -> BTreeMap<String, String> {
        let mut found = versions::<Execution>(self.stage.api()).await;
        found.extend(versions::<Job>(self.stage.api()).await);
        found.extend(versions::<ConfigMap>(self.stage.api()).await);
        found.retain(|name, _| !name.contains("canary"));
        found
    }
}

async fn versions<K>(api: Api<K>) -> BTreeMap<String, String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let found = api.list(&ListParams::default()).await.unwrap().items.into_iter();
    found.map(|o| (format!("{}/{}", K::kind(&()), o.name_any()), o.resource_version().unwrap())).collect()
}

#[tokio::test]
async fn a_leader_that_is_frozen_wakes_up_late_and_gives_way() {
    let Some(mut fleet) = Fleet::underway("frozen").await else { return };
    fleet.leader.signal(Signal::STOP);
    fleet.comes_through().await;

    let before = fleet.scenario.everything().await;
    fleet.leader.signal(Signal::CONT);
    let ended = fleet.leader.ends().await;
    assert_eq!(ended.code(), Some(2), "a Deployment starts it again");
    let log = fleet.leader.log();
    assert!(log.contains("the lease was lost: another controller may lead now"), "{log}");
    fleet.leader.start_again();
    fleet.leader.says("standing by").await;
    fleet.scenario.controller_catches_up().await;
    assert_eq!(fleet.scenario.everything().await, before, "it did nothing when it woke up");
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_when_its_lease_has_run_out() {
    let Some(mut fleet) = Fleet::underway("killed").await else { return };
    fleet.leader.kill();
    fleet.comes_through().await;
}

#[tokio::test]
async fn a_leader_that_is_stopped_gives_its_lease_up_at_once() {
    let Some(mut fleet) = Fleet::underway("stopped").await else { return };
    let began = Instant::now();
    fleet.leader.signal(Signal::TERM);
    fleet.heir.ready().await;
    assert!(began.elapsed() < LEASE, "it took {:?}", began.elapsed());
    // It still receives Webhooks for a while.
    assert!(fleet.leader.ends().await.success());
    fleet.comes_through().await;
}
