//! The controller of an earlier commit is replaced by this one, comes back, and is replaced again. What each has begun the
//! other finds and brings to its end: no Execution is lost, none is doubled.
//!
//! The kinds are those of the earlier commit at first. This build does not begin with them; they are replaced before it
//! takes over, and stay when the earlier one comes back, as `docs/how-to/upgrade.md` says.

use std::process::Command;

use fother::api::{AttemptState, Execution};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use rustix::process::Signal;
use serde_json::json;

use super::controller::{Build, Controller};
use super::scenario::{MEND, Scenario};
use super::upgrade::replaced;
use crate::support::kubectl::run;
use crate::support::wait::{DEADLINE, eventually};

/// A script that notes for which boat it runs, and ends when it is told to for that boat.
const TOW: &str = "tow";
const TOW_SCRIPT: &str = r#"
echo "$FOTHER_TARGET_NAME" >>"$FOTHER_PARAM_HOLD/log"
while ! test -e "$FOTHER_PARAM_HOLD/$FOTHER_TARGET_NAME"; do sleep 0.1; done
echo fathoms=4 >"$FOTHER_OUTPUT"
"#;

/// How an Execution's first rung stands.
fn stands(execution: &Execution, wanted: AttemptState) -> bool {
    execution.status.as_ref().is_some_and(|s| s.rungs.first().is_some_and(|rung| rung.state == wanted))
}

impl Scenario {
    /// Has the API server know the kinds as a build has them.
    async fn has_kinds_of(&self, build: &Build) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(build.program());
        command.arg("crds").arg("--output-dir").arg(folder.path());
        let answer = run(command, "").await;
        assert!(answer.code == 0, "{answer:#?}");
        self.stage.kubectl(&["replace", "-f", folder.path().to_str().unwrap()]).await;
    }

    async fn tow_action(&self) {
        let script = json!({
            "image": "debian", "inline": TOW_SCRIPT, "volumes": [{"claimName": "hold", "mountPath": "/hold"}],
        });
        let parameter = json!([{"name": "hold", "default": "/hold"}]);
        // The earlier build takes a script for failed that gives nothing back.
        let outputs = json!([{"name": "fathoms", "type": "integer"}]);
        self.action(TOW, json!({"script": script, "parameters": parameter, "outputs": outputs})).await;
    }

    /// Breaks three boats, each with a rule of its name: of the first the Job runs, the second is watched after it was
    /// mended, the third waits for its `for`.
    async fn begin(&self, controller: &Controller, leg: &str) {
        let [tow, proof, wait] = boats(leg);
        let proven = json!({"when": "'proven' in target.data", "within": "3m", "stableFor": "1s"});
        self.rule_for(&tow, TOW, json!({})).await;
        self.rule_for(&proof, MEND, json!({"ladder": [{"run": MEND, "verify": proven}]})).await;
        self.rule_for(&wait, MEND, json!({"for": "4s"})).await;
        for rule in [&tow, &proof, &wait] {
            self.watching(rule).await;
        }
        self.boat(&tow, "leaking").await;
        self.boat(&proof, "leaking").await;
        self.only(&tow, "its Job is recorded", |e| stands(e, AttemptState::Running)).await;
        self.only(&proof, "it is watched", |e| stands(e, AttemptState::Succeeded)).await;
        self.boat(&wait, "leaking").await;
        self.is_held(controller, &wait).await;
    }

    /// Lets what was begun come to its end, whoever leads by now.
    async fn end(&self, leg: &str) {
        let [tow, proof, wait] = boats(leg);
        self.tow_ends(&tow).await;
        self.stage.kubectl(&["patch", "configmap", &proof, "-p", r#"{"data":{"proven":"yes"}}"#]).await;
        self.all_recover(&[&tow, &proof, &wait]).await;
    }

    async fn tow_ends(&self, boat: &str) {
        self.set_hull(boat, "tight").await;
        std::fs::write(self.stage.claim("hold").join(boat), "").unwrap();
    }

    /// One rule for two boats, of which it may treat one at a time: the second waits for the first.
    async fn queue(&self) {
        let when = "object.metadata.name.startsWith('queue-') && object.data.hull == 'leaking'";
        let verify = json!({"when": "target.data.hull == 'tight'", "within": "1m", "stableFor": "1s"});
        self.rule("queue", json!({"when": when, "ladder": [{"run": TOW, "verify": verify}]})).await;
        self.watching("queue").await;
        self.boat("queue-1", "leaking").await;
        self.only("queue", "its Job is recorded", |e| stands(e, AttemptState::Running)).await;
        self.boat("queue-2", "leaking").await;
    }

    /// The Execution for the second begins when that for the first has ended.
    async fn queue_ends(&self) {
        assert_eq!(self.targets("queue").await, ["queue-1"], "the other waits");
        for boat in ["queue-1", "queue-2"] {
            // Mended before its Job, it would have nothing left to do.
            self.one_of_queue(boat, "is towed", |e| stands(e, AttemptState::Running)).await;
            self.tow_ends(boat).await;
            self.one_of_queue(boat, "is done with", |e| e.reason() == Some("TargetRecovered")).await;
        }
    }

    /// Waits until the one Execution of a boat that waits with others is `so`.
    async fn one_of_queue(&self, boat: &str, what: &str, so: impl Fn(&Execution) -> bool) {
        eventually(&format!("{boat} {what}"), DEADLINE, || async {
            let mut found = self.executions("queue").await;
            found.retain(|e| e.spec.target.as_ref().is_some_and(|target| target.name == boat));
            if let [one] = &found[..]
                && so(one)
            {
                Ok(())
            } else {
                Err(format!("{found:#?}"))
            }
        })
        .await;
    }

    /// Each boat has had one Execution, and each that was towed one Job, one Pod and one run.
    async fn each_has_had_one(&self, legs: &[&str]) {
        for boat in legs.iter().flat_map(|leg| boats(leg)) {
            assert_eq!(self.targets(&boat).await, [boat], "once");
        }
        let mut towed: Vec<_> = legs.iter().map(|leg| boats(leg)[0].clone()).collect();
        towed.extend(["queue-1".to_owned(), "queue-2".to_owned()]);
        towed.sort();
        let log = std::fs::read_to_string(self.stage.claim("hold").join("log")).unwrap();
        let mut ran: Vec<_> = log.lines().map(str::to_owned).collect();
        ran.sort();
        assert_eq!(ran, towed);
        let (jobs, pods) = (self.jobs().await, self.stage.api::<Pod>());
        let pods = pods.list(&ListParams::default()).await.unwrap().items.len();
        let held = jobs.iter().filter(|job| !job.finalizers().is_empty()).count();
        assert_eq!((jobs.len(), pods, held), (towed.len(), towed.len(), 0), "{jobs:#?}");
    }
}

/// The boats of one leg: they are broken under one build, and come to their end under the next.
fn boats(leg: &str) -> [String; 3] {
    ["tow", "proof", "wait"].map(|what| format!("{what}-{leg}"))
}

/// This build does not begin with the earlier kinds. It does as soon as they are replaced, and then it follows.
async fn upgraded(scenario: &Scenario, mut earlier: Controller) -> Controller {
    let mut this = Controller::candidate(scenario.controller_access(), "two");
    this.says("or upgrade the chart").await;
    scenario.has_kinds_of(&Build::This).await;
    this.says("standing by").await;
    earlier.signal(Signal::TERM);
    assert!(earlier.ends().await.success());
    this.ready().await;
    this
}

#[tokio::test]
async fn an_earlier_build_is_replaced_and_comes_back_and_nothing_is_lost_or_doubled() {
    let Some(other) = Build::other() else { return };
    let Some(scenario) = Scenario::alone("earlier").await else { return };
    let began = scenario.audit().mark().await;
    scenario.tow_action().await;
    scenario.has_kinds_of(&other).await;
    let mut earlier = Controller::of_build(other.clone(), scenario.controller_access(), "one");
    earlier.ready().await;
    scenario.begin(&earlier, "all-the-way").await;
    scenario.queue().await;
    scenario.begin(&earlier, "out").await;

    let this = upgraded(&scenario, earlier).await;
    scenario.end("out").await;
    scenario.begin(&this, "back").await;
    let earlier = replaced(&scenario, this, other, "three").await;
    scenario.end("back").await;
    scenario.begin(&earlier, "out-again").await;
    let _this = replaced(&scenario, earlier, Build::This, "four").await;
    scenario.end("out-again").await;
    scenario.end("all-the-way").await;
    scenario.queue_ends().await;

    scenario.controller_catches_up().await;
    scenario.each_has_had_one(&["all-the-way", "out", "back", "out-again"]).await;
    let asked = scenario.audit().since(began).await;
    let namespace = Some(scenario.stage.namespace.clone());
    let made = |resource: &str| {
        asked
            .iter()
            .filter(|r| {
                r.namespace == namespace && r.verb == "create" && r.code == 201 && r.resource == resource
            })
            .count()
    };
    assert_eq!((made("batch/jobs"), made("pods")), (6, 6), "none was made and removed again");
}
