//! The ladder against a small world: effects change it, and it is looked at again.

mod blind;
mod halves;
mod needless;
mod secrets;
mod stability;
mod told;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::api::{
    AttemptState, ConditionStatus, ConditionType, LONGEST_MESSAGE, Reason, condition, set_condition,
};
use crate::decide::outcome::JobEnd;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// A world with one Execution in it.
struct World {
    execution: Execution,
    definition: Definition,
    now: i64,
    jobs: BTreeMap<String, JobSeen>,
    created: usize,
    released: Vec<String>,
    stopped: Vec<String>,
    /// Live Pods of a Job that is gone, and its UID.
    strays: (usize, String),
    operations: Vec<Operation>,
    notices: Vec<&'static str>,
    /// The same in full.
    told: Vec<Notice>,
    matches: bool,
    ready: bool,
    /// When the Pod's condition last turned, if it says so.
    turned: Option<i64>,
    result: Result<Done, String>,
    writes: usize,
    refuses_jobs: bool,
    /// How often an operation comes to nothing yet.
    steps_to_come: usize,
    /// UID of the live target; null if there is none.
    live_uid: Value,
    /// When the live target was deleted, if it is only about to go.
    deleted_at: Option<&'static str>,
    /// Its replicas.
    replicas: i64,
    /// Other Executions that act on the target.
    others: usize,
}

const COLLECT: &str = "collect";
const CLEAN: &str = "clean";
const RESTART: &str = "restart";

impl World {
    /// A Rule's Execution with these rungs: name of the Action, and whether it is verified.
    fn new(ladder: &[(&str, bool)]) -> Self {
        let ladder: Vec<_> = ladder
            .iter()
            .map(|(run, verified)| match verified {
                true => json!({"run": run, "verify": {"within": "60s", "stableFor": "10s"}}),
                false => json!({"run": run}),
            })
            .collect();
        let rule = json!({
            "serviceAccountName": "healer", "when": "true", "mode": "Enforce",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}, "ladder": ladder,
        });
        let definition = json!({"rule": rule, "ladder": ladder, "actions": {
            COLLECT: {"collect": {}},
            CLEAN: {"script": {"image": "i", "inline": "true"}, "outputs": [{"name": "freed", "type": "integer"}]},
            RESTART: {"kubernetes": {"restart": {}}},
            "recreate": {"kubernetes": {"recreate": {}}},
            "delete": {"kubernetes": {"delete": {}}},
        }});
        let execution = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": "crashloop-1", "namespace": "a", "uid": "x", "generation": 1,
                "creationTimestamp": "1970-01-01T00:00:00Z", "finalizers": [EXECUTION_FINALIZER]},
            "spec": {"serviceAccountName": "healer",
                "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "a", "name": "web", "uid": "d"},
                "decision": {"id": "0", "time": "1970-01-01T00:00:00Z", "rule": {"name": "crashloop"}, "mode": "Enforce",
                    "matched": {"object": {"apiVersion": "v1", "kind": "Pod", "name": "web-1"}}, "definition": "d-1"}},
        });
        Self {
            execution: serde_json::from_value(execution).expect("an Execution"),
            definition: serde_json::from_value(definition).expect("a definition"),
            now: 1,
            jobs: BTreeMap::new(),
            created: 0,
            released: Vec::new(),
            stopped: Vec::new(),
            strays: (0, String::new()),
            operations: Vec::new(),
            notices: Vec::new(),
            told: Vec::new(),
            matches: true,
            ready: false,
            turned: None,
            result: Ok(Done::default()),
            writes: 0,
            refuses_jobs: false,
            steps_to_come: 0,
            live_uid: json!("d"),
            deleted_at: None,
            replicas: 2,
            others: 0,
        }
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen { waits: (self.others > 0).then_some(Waits::Target), ..Seen::default() };
        match needs(&self.execution, &self.definition) {
            Need::Begin { job, .. } => seen.job = job.and_then(|name| self.jobs.get(&name).cloned()),
            Need::Job(name, uid) => {
                seen.job = self.jobs.get(&name).cloned();
                seen.stray_pods = if seen.job.is_none() { self.strays(&uid) } else { 0 };
            }
            Need::Jobs => {
                let left = self
                    .jobs
                    .iter()
                    .filter(|(name, job)| !job.placeholder && (job.held || !self.released.contains(name)));
                let left = left.map(|(name, job)| LeftJob {
                    name: name.clone(),
                    uid: job.uid.clone(),
                    is_live: job.end.is_none(),
                });
                seen.left_jobs = left.collect();
            }
            Need::Nothing | Need::Target | Need::Look => {}
        }
        let mut ready = json!({"type": "Ready", "status": if self.ready { "True" } else { "False" }});
        if let Some(turned) = self.turned {
            ready["lastTransitionTime"] = json!(at(turned));
        }
        let pod = json!({"status": {"conditions": [ready]}});
        let mut live = json!({"metadata": {"name": "web", "uid": self.live_uid}, "kind": "Deployment",
            "spec": {"replicas": self.replicas}});
        if let Some(at) = self.deleted_at {
            live["metadata"]["deletionTimestamp"] = json!(at);
        }
        seen.look = Look {
            target: (!self.live_uid.is_null()).then(|| Arc::new(live)),
            pods: vec![serde_json::from_value::<Pod>(pod).expect("a Pod")],
            matches: Some(self.matches),
            ..Look::default()
        };
        seen
    }

    fn collect_garbage(&mut self) {
        self.jobs.retain(|_, job| !job.deleting || job.held);
    }

    fn strays(&self, uid: &str) -> usize {
        if self.strays.1 == uid { self.strays.0 } else { 0 }
    }

    fn act(&mut self, effect: Effect) -> Option<Result<Done, String>> {
        match effect {
            Effect::CreateJob(_) if self.refuses_jobs => return Some(Err("exceeded quota".to_owned())),
            Effect::TakeName(_) if self.refuses_jobs => {}
            Effect::CreateJob(job) | Effect::TakeName(job) => {
                let name = job.metadata.name.clone().expect("a name");
                self.created += usize::from(!self.jobs.contains_key(&name));
                let uid = format!("job-{}", self.created);
                let held = job.metadata.finalizers.is_some();
                self.jobs.entry(name).or_insert(JobSeen {
                    uid,
                    owner: Some("x".into()),
                    held,
                    placeholder: !held,
                    ..JobSeen::default()
                });
            }
            Effect::DeleteJob(name, _) => {
                self.stopped.push(name.clone());
                if let Some(job) = self.jobs.get_mut(&name) {
                    job.deleting = true;
                }
                self.collect_garbage();
            }
            Effect::UnholdJob(name, _) => {
                if let Some(job) = self.jobs.get_mut(&name) {
                    job.held = false;
                }
                self.collect_garbage();
            }
            Effect::ReleaseJob(name, _) => {
                if let Some(job) = self.jobs.get_mut(&name) {
                    job.held = false;
                }
                self.released.push(name);
                self.collect_garbage();
            }
            Effect::Operate(operation) => {
                if let Operation::Patch { body, .. } = &*operation {
                    self.replicas = body["spec"]["replicas"].as_i64().unwrap_or(self.replicas);
                }
                self.operations.push(*operation);
                let unfinished = self.steps_to_come > 0;
                self.steps_to_come = self.steps_to_come.saturating_sub(1);
                return (!unfinished).then(|| self.result.clone());
            }
            Effect::Collect(..) => return Some(self.result.clone()),
            Effect::Status(status) => {
                self.writes += 1;
                self.execution.status = Some(*status);
            }
            Effect::Event(notice) => {
                self.notices.push(notice.reason);
                self.told.push(notice);
            }
            Effect::RemoveFinalizer => self.execution.metadata.finalizers = None,
        }
        None
    }

    /// Goes round until there is nothing more to do now. `None` for a crash: only so many effects are done.
    fn step_at_most(&mut self, effects: usize) -> Again {
        let (mut left, mut done) = (effects, None);
        for _ in 0..50 {
            let mut seen = self.seen();
            seen.done = done.take();
            let next = next(&self.execution, &self.definition, &seen, at(self.now));
            for effect in next.effects {
                if left == 0 {
                    return Again::OnChange;
                }
                left -= 1;
                done = self.act(effect).or(done);
            }
            if done.is_none() && next.again != Again::Now {
                return next.again;
            }
        }
        panic!("it goes round for ever: {:?}", self.execution.status);
    }

    fn step(&mut self) -> Again {
        self.step_at_most(usize::MAX)
    }

    fn end_job(&mut self, completed: bool, message: &str) {
        let job = self.jobs.values_mut().last().expect("a Job");
        let code = i32::from(!completed);
        job.end =
            Some(JobEnd { completed, reason: String::new(), exit_code: Some(code), message: message.into() });
    }

    fn status(&self) -> &ExecutionStatus {
        self.execution.status.as_ref().expect("a status")
    }

    fn outcome(&self) -> &str {
        if self.execution.is_finished() { self.execution.reason().expect("a reason") } else { "" }
    }

    fn states(&self) -> Vec<AttemptState> {
        self.status().rungs.iter().map(|rung| rung.state).collect()
    }
}

#[test]
fn a_job_heals_and_is_verified() {
    let mut world = World::new(&[(COLLECT, false), (CLEAN, true)]);
    world.step();
    assert_eq!(world.states(), [AttemptState::Succeeded, AttemptState::Running]);
    world.end_job(true, "freed=42");
    assert_eq!(world.step(), Again::At(at(1) + FIRST_LOOK), "looks again soon");
    assert_eq!(world.status().rungs[1].outputs.to_value(), json!({"freed": 42}));
    (world.now, world.ready, world.matches) = (20, true, false);
    assert_eq!(world.step(), Again::At(at(22)));
    world.now = 29;
    world.step();
    assert_eq!(world.outcome(), "", "not stable yet");
    world.now = 30;
    world.step();
    assert_eq!(world.outcome(), "TargetRecovered");
    assert_eq!(
        world.status().episode_closed_at.as_ref().map(|t| t.0),
        Some(at(30)),
        "the last look proved it"
    );
    assert_eq!((world.created, world.execution.metadata.finalizers.clone()), (1, None));
    assert_eq!(world.released.len(), 1);
    assert_eq!(world.notices, ["ExecutionJobCreated", "RemediationVerified"]);
}

#[test]
fn wherever_it_is_interrupted_it_goes_on_to_the_same_end() {
    for interruption in 0..12 {
        let mut world = World::new(&[(COLLECT, false), (CLEAN, true)]);
        world.step_at_most(interruption);
        world.step();
        world.end_job(true, "freed=42");
        world.step_at_most(interruption);
        (world.ready, world.matches) = (true, false);
        for now in [10, 21, 40] {
            world.now = now;
            world.step_at_most(interruption);
            world.step();
        }
        assert_eq!((world.outcome(), world.created), ("TargetRecovered", 1), "after {interruption} effects");
        assert!(world.jobs.values().all(|job| !job.held), "after {interruption} effects");
    }
}

#[test]
fn a_second_look_at_the_same_world_writes_nothing() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    let writes = world.writes;
    world.step();
    world.end_job(true, "");
    world.step();
    assert_eq!(world.writes, writes + 1);
    world.step();
    assert_eq!((world.writes, world.created), (writes + 1, 1));
}

#[test]
fn what_does_not_help_leads_up_the_ladder_and_to_quarantine() {
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    world.step();
    world.end_job(false, "disk is read-only");
    world.step();
    assert_eq!(world.states(), [AttemptState::Failed, AttemptState::Succeeded]);
    assert_eq!(world.status().rungs[0].message, "exit code 1: disk is read-only");
    world.now = 62;
    world.step();
    assert_eq!(world.outcome(), "Quarantined");
    assert_eq!(world.status().episode_closed_at, None, "it still matches: the episode is held");
    assert_eq!(
        world.notices,
        [
            "ExecutionJobCreated",
            "ExecutionStepFailed",
            "RemediationEscalated",
            "RemediationIneffective",
            "RemediationIneffective"
        ]
    );
}

#[test]
fn the_first_rung_replaced_the_pods_and_they_match_again() {
    let mut world = World::new(&[(RESTART, true), (CLEAN, true)]);
    world.step();
    (world.now, world.matches) = (10, false);
    world.step();
    (world.now, world.matches) = (62, true);
    world.step();
    assert_eq!(
        world.states(),
        [AttemptState::Succeeded, AttemptState::Running],
        "the target counts, not its old pods"
    );
}

#[test]
fn nothing_is_done_when_nothing_matches_any_more() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.matches = false;
    world.step();
    assert_eq!(world.outcome(), "Superseded");
    assert!(world.status().episode_closed_at.is_some());
    let placeholder = world.jobs.values().next().expect("its name is taken");
    assert!(!placeholder.held, "by a Job that nobody waits for");
}

#[test]
fn what_has_just_begun_is_looked_at_sooner() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    for (now, pause) in [(1, 500), (2, 1000), (3, 2000), (30, 2000)] {
        let next = next(&world.execution, &world.definition, &world.seen(), at(now));
        assert_eq!(next.again, Again::At(at(now) + SignedDuration::from_millis(pause)), "after {now} s");
    }
}

#[test]
fn a_job_that_was_created_but_not_recorded_is_adopted() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step_at_most(1);
    assert_eq!((world.created, world.execution.status.is_none()), (1, true));
    world.matches = false;
    world.step();
    assert_eq!(
        world.states(),
        [AttemptState::Running],
        "it runs, so it is waited for even if nothing matches now"
    );
}

#[test]
fn a_job_that_is_refused_fails_its_rung() {
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    world.refuses_jobs = true;
    world.step();
    assert_eq!(world.states(), [AttemptState::Failed, AttemptState::Succeeded]);
    assert_eq!((world.status().rungs[0].message.as_str(), world.created), ("exceeded quota", 0));
}

#[test]
fn an_overlay_without_the_flag_fails_its_rung() {
    let mut world = World::new(&[(CLEAN, false)]);
    let script = json!({"image": "i", "inline": "true", "pod": {"overlay": {"hostNetwork": true}}});
    let action = serde_json::from_value(json!({"script": script})).expect("an Action");
    world.definition.actions.insert(CLEAN.into(), action);
    world.step();
    assert_eq!(world.states(), [AttemptState::Failed]);
    assert!(world.jobs.values().all(|job| job.placeholder), "nothing runs");
    let message = &world.status().rungs[0].message;
    assert!(message.contains("pod.overlay: field not settable here"), "{message}");
}

#[test]
fn a_foreign_job_of_the_same_name_is_refused() {
    let mut world = World::new(&[(CLEAN, true)]);
    let name = job::name(&world.execution, 0);
    world.jobs.insert(name, JobSeen { owner: Some("other".into()), ..JobSeen::default() });
    world.step();
    assert!(world.status().rungs[0].message.ends_with("belongs to someone else"));
}

#[test]
fn a_job_that_vanished_is_lost_and_not_repeated() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    world.jobs.clear();
    world.step();
    assert_eq!((world.states(), world.created), (vec![AttemptState::Lost], 1));
    assert_eq!(world.outcome(), "Quarantined");
}

#[test]
fn the_last_rung_says_why_a_ladder_without_verification_failed() {
    for (job_says, outcome, event) in [
        (Some("BackoffLimitExceeded"), "ActionFailed", "ExecutionStepFailed"),
        (Some("DeadlineExceeded"), "DeadlineExceeded", "ExecutionDeadlineExceeded"),
        (None, "Lost", "ExecutionStepFailed"),
    ] {
        let mut world = World::new(&[(CLEAN, false)]);
        world.step();
        world.end_job(false, "half way");
        match job_says {
            Some(reason) => world.jobs.values_mut().filter_map(|job| job.end.as_mut()).for_each(|end| {
                reason.clone_into(&mut end.reason);
            }),
            None => world.jobs.clear(),
        }
        world.step();
        assert_eq!(
            (world.outcome(), world.notices.as_slice()),
            (outcome, &["ExecutionJobCreated", event][..])
        );
    }
}

#[test]
fn waiting_for_the_target_is_said_once() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.others = 1;
    world.step();
    let succeeded = condition(&world.status().conditions, ConditionType::Succeeded).expect("set");
    assert_eq!((succeeded.status.as_str(), succeeded.reason.as_str()), ("Unknown", "Pending"));
    assert_eq!(world.created, 0);
    world.others = 0;
    world.step();
    assert_eq!((world.states(), world.created), (vec![AttemptState::Running], 1));
}

#[test]
fn canceling_stops_the_job_and_waits_for_its_pods() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    world.jobs.values_mut().for_each(|job| job.live_pods = 1);
    world.execution.spec.cancel = true;
    world.step();
    assert!(world.jobs.values().all(|job| job.deleting));
    assert_eq!(world.outcome(), "");
    world.jobs.values_mut().for_each(|job| job.live_pods = 0);
    world.step();
    assert_eq!(world.outcome(), "Canceled");
    assert!(world.jobs.values().all(|job| !job.held));
}

#[test]
fn a_job_that_was_stopped_half_way_is_stopped_again() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    world.jobs.values_mut().for_each(|job| (job.deleting, job.live_pods) = (true, 1));
    world.execution.spec.cancel = true;
    let next = next(&world.execution, &world.definition, &world.seen(), at(world.now));
    assert!(matches!(next.effects[..], [Effect::DeleteJob(..)]), "its Pods may still run: {next:?}");
}

#[test]
fn deleting_is_canceling() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.execution.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    world.step();
    assert_eq!((world.outcome(), world.execution.metadata.finalizers.clone()), ("Canceled", None));
    assert!(world.jobs.values().all(|job| !job.held), "only the placeholder");
}

#[test]
fn observing_does_nothing_and_says_what_it_would_have_done() {
    let mut world = World::new(&[(COLLECT, false), (CLEAN, true)]);
    world.execution.spec.decision.as_mut().expect("a decision").mode = Mode::Observe;
    world.step();
    assert_eq!((world.outcome(), world.created, world.writes), ("Observed", 0, 1));
    world.execution.metadata.finalizers = Some(vec![EXECUTION_FINALIZER.to_owned()]);
    assert_eq!(
        needs(&world.execution, &world.definition),
        Need::Nothing,
        "it needs no right to look at Jobs"
    );
    assert_eq!(world.status().episode_closed_at, None);
    let succeeded = condition(&world.status().conditions, ConditionType::Succeeded).expect("set");
    assert_eq!(succeeded.message, "would have run collect, then clean on Deployment/web");
}

#[test]
fn templates_read_what_matched() {
    for (trigger, template, path) in [
        (json!({"resource": {"apiVersion": "v1", "kind": "Pod"}}), "${{ object.note }}", "seen"),
        (json!({"event": {}}), "${{ event.data.note }}", "seen"),
    ] {
        let mut world = World::new(&[(CLEAN, true)]);
        world.definition.rule.as_mut().expect("a rule").trigger =
            serde_json::from_value(trigger).expect("a trigger");
        world.definition.ladder[0].with =
            serde_json::from_value(json!({"path": template})).expect("parameters");
        let action = world.definition.actions.get_mut(CLEAN).expect("there");
        action.parameters = serde_json::from_value(json!([{"name": "path"}])).expect("parameters");
        let mut seen = world.seen();
        seen.object = Some(Arc::new(json!({"note": path, "metadata": {"uid": "u"}})));
        let next = next(&world.execution, &world.definition, &seen, at(1));
        let [Effect::CreateJob(job)] = next.effects.as_slice() else { panic!("a Job: {:?}", next.effects) };
        assert!(
            serde_json::to_string(job)
                .expect("JSON")
                .contains(r#""name":"FOTHER_PARAM_PATH","value":"seen""#)
        );
    }
}

#[test]
fn an_event_closes_its_episode_with_its_execution() {
    let mut world = World::new(&[(COLLECT, false)]);
    let rule = world.definition.rule.as_mut().expect("a rule");
    rule.trigger = serde_json::from_value(json!({"event": {}})).expect("a trigger");
    world.step();
    assert_eq!(world.outcome(), "Completed");
    assert!(world.status().episode_closed_at.is_some());
}

#[test]
fn what_only_a_later_version_knows_is_left_to_it() {
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    world.step();
    let mut status = world.status().clone();
    status.rungs[0].state = serde_json::from_value(json!("Resting")).expect("some state");
    world.execution.status = Some(status);
    assert_eq!(unknown_value(&world.execution).as_deref(), Some("status.rungs[0].state"));
    let mut mode = World::new(&[(CLEAN, true)]);
    let decision = mode.execution.spec.decision.as_mut().expect("decided");
    decision.mode = serde_json::from_value(json!("Suggest")).expect("some mode");
    assert_eq!(unknown_value(&mode.execution).as_deref(), Some("spec.decision.mode"));
    for mut world in [world, mode] {
        let blind = Blind { why: "forbidden".to_owned(), since: at(0) };
        let blind = Seen { blind: Some(blind), ..Seen::default() };
        for cancel in [false, true] {
            world.execution.spec.cancel = cancel;
            for seen in [&Seen::default(), &blind] {
                assert_eq!(needs(&world.execution, &world.definition), Need::Nothing);
                let next = next(&world.execution, &world.definition, seen, at(1_000_000));
                assert_eq!(next, Next::wait(Again::OnChange), "whatever happens");
            }
        }
    }
}
