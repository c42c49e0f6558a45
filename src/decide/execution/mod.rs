//! The ladder of an Execution, as a state machine over what was observed.
//!
//! [`needs`] says what to look at, [`next`] says what to do, and the shell goes round. Where an Execution stands is read
//! from its status alone, so any process can go on at any point.

mod blind;
mod deserted;
mod ending;
mod needless;
pub mod rung;

#[cfg(test)]
mod tests;

pub use deserted::{Deserted, Trouble, deserted};

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::change;
use super::definition::Definition;
use super::job;
use super::operation::Operation;
use super::outcome::{JobSeen, LeftJob};
use super::pod::PodPolicy;
use super::verify::Look;
use crate::api::{
    ActionSpec, AttemptState, CollectRunner, Duration, Execution, ExecutionStatus, FreeForm, Mode, Reason,
    RungStatus, Runner,
};

/// The finalizer that keeps an Execution until no Job of it is live.
pub const EXECUTION_FINALIZER: &str = "fother.dev/execution";

/// An Execution of which nothing has begun, and that is so much younger than its decision, was put back from a backup.
const RESTORED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How long is waited for what cannot be looked at or used: a right that was granted or taken away a moment ago, a
/// binding that is applied anew, a server that starts.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked at what goes on.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(2);

/// How often is looked at a Job whose end would be heard of: in case it was not.
const LOOK_AT_HEARD: SignedDuration = SignedDuration::from_secs(30);

/// How soon is looked for the first time: most scripts are done in a moment.
const FIRST_LOOK: SignedDuration = SignedDuration::from_millis(500);

/// How long the API server may take to notice that a Job is over its deadline.
const DEADLINE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What has to be observed before the next step can be decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A rung is about to begin: its Job, if one of this name exists; whether the target still matches, and which
    /// object does; whether another Execution acts on the target; the live target.
    Begin {
        /// The name of the rung's Job; none if it does not run in one.
        job: Option<String>,
        /// Whether its Pods are to be looked at as well: an earlier rung has acted and was not verified.
        proof: bool,
    },
    /// The Job of this name and UID, and its Pods.
    Job(String, String),
    /// The live target, for an operation.
    Target,
    /// A look at the target: it, its Pods, whether anything matches.
    Look,
    /// The Execution has ended: the Jobs that belong to it.
    Jobs,
}

/// What was observed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The Job that was asked for, if it exists.
    pub job: Option<JobSeen>,
    /// Whether the end of the Job will be heard of.
    pub hears: bool,
    /// Pods that may still run of the Job that was asked for, if it is gone itself.
    pub stray_pods: usize,
    /// After the end: the Jobs that are still to be let go.
    pub left_jobs: Vec<LeftJob>,
    /// An object that matches, if one does and it was asked for; for an event the Event, if it still exists.
    pub object: Option<Arc<Value>>,
    /// What it has to wait for before it may begin.
    pub waits: Option<Waits>,
    /// The target, its Pods, and whether anything matches.
    pub look: Look,
    /// That nothing could be looked at, or that its Jobs could not be let go after the end: all else that is seen is unset
    /// then.
    pub blind: Option<Blind>,
    /// What Actions may say about their Pods.
    pub pods: PodPolicy,
    /// What an operation came to that was done since the last step.
    pub done: Option<Result<Done, String>>,
}

/// What an Execution waits for before it begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waits {
    /// Another Execution acts on the target.
    Target,
    /// A run by hand: as many Executions run in its namespace as may.
    Concurrency,
}

/// That nothing could be looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Blind {
    /// Why.
    pub why: String,
    /// Since when that has been so without a break, as far as is known.
    pub since: Timestamp,
}

/// What an operation gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// Its outputs.
    pub outputs: FreeForm,
    /// What happened, in a sentence.
    pub message: String,
    /// The UID of the object that took the target's place.
    pub replaced_by: Option<String>,
}

/// What the shell is to do, in order. If one fails, the rest is not done, and it starts again.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create a Job as the account; one that exists is looked at in the next round.
    CreateJob(Box<Job>),
    /// Take the name of a Job that may still be on its way with one that starts no Pod. If it has arrived, everything is
    /// looked at anew; if the account may not create any, the other could not be created either. What is refused for
    /// another reason is tried for a while.
    TakeName(Box<Job>),
    /// Delete a Job of this name and UID, with its Pods.
    DeleteJob(String, String),
    /// Drop the finalizer of a Job of this name and UID, which is recorded.
    UnholdJob(String, String),
    /// Drop the finalizer of a Job of this name and UID, if it still has it, and let it expire.
    ReleaseJob(String, String),
    /// Do an operation on the target as the account.
    Operate(Box<Operation>),
    /// Save evidence about the target as the account, for this rung.
    Collect(Box<CollectRunner>, usize),
    /// Write the status.
    Status(Box<ExecutionStatus>),
    /// Tell about it on the target.
    Event(Notice),
    /// Take the finalizer off the Execution.
    RemoveFinalizer,
}

/// A Kubernetes Event about the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// Reason, such as `RemediationVerified`.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// The text.
    pub note: String,
    /// Which rung it is about; none if it is about how the Execution ended.
    pub rung: Option<usize>,
    /// The UID that the target has by then, where its Execution's spec says none or that of an object that was replaced. It
    /// follows from the status that is written first, and is set in one place.
    pub target_uid: Option<String>,
}

impl Notice {
    /// The name of its Event: the same for the same news, so that telling twice tells once, and another for all other news.
    /// What the last rung came to and how the Execution ended may have one reason, and are told at the same moment.
    pub fn name(&self, execution: &str) -> String {
        let about = self.rung.map_or_else(|| "end".to_owned(), |rung| rung.to_string());
        format!("{execution}-{about}-{}", self.reason.to_lowercase())
    }
}

/// When to look again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Again {
    /// At once: the effects change what there is to see.
    Now,
    /// At a time, or earlier if something changes.
    At(Timestamp),
    /// When something changes.
    OnChange,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// What to do.
    pub effects: Vec<Effect>,
    /// When to look again.
    pub again: Again,
}

impl Next {
    fn of(effects: Vec<Effect>, again: Again) -> Self {
        Self { effects, again }
    }

    fn wait(again: Again) -> Self {
        Self { effects: Vec::new(), again }
    }
}

/// Where an Execution stands, read from its status.
enum Phase<'a> {
    Begin(usize),
    Launching(usize, &'a RungStatus),
    Running(usize, &'a RungStatus),
    Verifying(usize, &'a RungStatus),
    Ended,
    /// A later version of fother has brought it somewhere that this one does not know.
    Unknown,
}

fn phase<'a>(execution: &'a Execution, definition: &Definition) -> Phase<'a> {
    if execution.is_finished() {
        return Phase::Ended;
    }
    if unknown_value(execution).is_some() {
        return Phase::Unknown;
    }
    let rungs = execution.status.as_ref().map_or(&[][..], |s| s.rungs.as_slice());
    let Some((rung, index)) = rungs.last().map(|last| (last, rungs.len() - 1)) else {
        return Phase::Begin(0);
    };
    match rung.state {
        AttemptState::Launching => Phase::Launching(index, rung),
        AttemptState::Running => Phase::Running(index, rung),
        _ => {
            let open = rung.verify.as_ref().is_some_and(|v| v.held.is_none());
            let asked = definition.ladder.get(index).is_some_and(|r| r.verify.is_some());
            if open && asked { Phase::Verifying(index, rung) } else { Phase::Begin(index + 1) }
        }
    }
}

/// A step as seen from all functions below.
#[derive(Clone, Copy)]
struct Context<'a> {
    execution: &'a Execution,
    definition: &'a Definition,
    seen: &'a Seen,
    now: Timestamp,
}

impl Context<'_> {
    fn status(&self) -> ExecutionStatus {
        let mut status = self.execution.status.clone().unwrap_or_default();
        status.observed_generation = self.execution.metadata.generation;
        status
    }

    /// When to look again at what began then: soon at first, then less and less often.
    fn look_at(&self, began: Timestamp) -> Timestamp {
        let pause = self.now.duration_since(began).clamp(FIRST_LOOK, LOOK_EVERY);
        self.now.saturating_add(pause).unwrap_or(self.now)
    }

    /// How long the Action of a rung may take.
    fn timeout(&self, rung: &RungStatus) -> Duration {
        self.definition.actions.get(&rung.run).map(|action| action.timeout).unwrap_or_default()
    }

    /// When the Job of a rung is waited for no longer.
    fn deadline(&self, rung: &RungStatus) -> Timestamp {
        let limit = self.timeout(rung).signed() + DEADLINE_GRACE;
        rung.started_at.0.saturating_add(limit).unwrap_or(self.now)
    }

    fn action(&self, rung: usize) -> Option<&ActionSpec> {
        self.definition.ladder.get(rung).and_then(|r| self.definition.actions.get(&r.run))
    }

    fn runs_in_job(&self, rung: usize) -> bool {
        let runner = self.action(rung).and_then(ActionSpec::runner);
        matches!(runner, Some(Runner::Script(_) | Runner::Container(_)))
    }

    /// Whether there may be a Job that nobody has seen: the rung ended, or the Execution before it, while nothing could be
    /// looked at.
    fn may_have_unseen_job(&self) -> bool {
        let rungs = self.execution.status.as_ref().map_or(&[][..], |status| status.rungs.as_slice());
        let canceled = self.execution.reason() == Some(Reason::Canceled.as_str());
        let next = canceled.then_some(rungs.len());
        let unseen = rungs.iter().enumerate().filter(|(_, rung)| rung.job.is_none()).map(|(index, _)| index);
        unseen.chain(next).any(|rung| self.runs_in_job(rung))
    }

    /// Whether the rung's Job exists: not only one that takes its name.
    fn job_exists(&self, rung: usize) -> bool {
        self.runs_in_job(rung) && self.seen.job.as_ref().is_some_and(|job| !job.placeholder)
    }

    /// Whether the trigger is a state, which can be looked at again, rather than an event, which is over.
    fn has_state(&self) -> bool {
        self.definition.rule.as_ref().is_some_and(change::is_state)
    }

    /// Whether it is known to be an event. Where the definition is gone nobody knows, and nothing is taken for over.
    fn was_event(&self) -> bool {
        self.definition.rule.as_ref().is_some_and(|rule| !change::is_state(rule))
    }
}

/// Whether a person wants it to stop.
pub fn is_canceled(execution: &Execution) -> bool {
    execution.spec.cancel || execution.metadata.deletion_timestamp.is_some()
}

/// Says what to look at.
pub fn needs(execution: &Execution, definition: &Definition) -> Need {
    let context = Context { execution, definition, seen: &Seen::default(), now: Timestamp::UNIX_EPOCH };
    match phase(execution, definition) {
        Phase::Ended
            if ending::has_finalizer(execution)
                && (execution.has_jobs() || context.may_have_unseen_job()) =>
        {
            Need::Jobs
        }
        Phase::Ended | Phase::Unknown => Need::Nothing,
        Phase::Begin(_) if is_observed(execution) => Need::Nothing,
        Phase::Begin(rung) if rung >= definition.ladder.len() => Need::Nothing,
        Phase::Begin(rung) => {
            let job = context.runs_in_job(rung).then(|| job::name(execution, rung));
            Need::Begin { job, proof: needless::unproven(context, rung).is_some() }
        }
        Phase::Launching(..) => Need::Target,
        Phase::Running(_, rung) => {
            let job = rung.job.clone().unwrap_or_default();
            Need::Job(job.name, job.uid.unwrap_or_default())
        }
        Phase::Verifying(..) => Need::Look,
    }
}

/// The field of an Execution whose value this version does not know. A later one gave it, and only that one knows what
/// may be done: not even that it can be stopped is certain.
pub fn unknown_value(execution: &Execution) -> Option<String> {
    if execution.spec.decision.as_ref().is_some_and(|d| d.mode == Mode::Unknown) {
        return Some("spec.decision.mode".to_owned());
    }
    let rungs = execution.status.as_ref().map_or(&[][..], |status| status.rungs.as_slice());
    let unknown = rungs.iter().position(|rung| rung.state == AttemptState::Unknown);
    unknown.map(|index| format!("status.rungs[{index}].state"))
}

fn is_observed(execution: &Execution) -> bool {
    execution.spec.decision.as_ref().is_some_and(|d| d.mode == Mode::Observe)
}

/// Decides the next step.
pub fn next(execution: &Execution, definition: &Definition, seen: &Seen, now: Timestamp) -> Next {
    let mut next = step(Context { execution, definition, seen, now });
    let status = execution.status.as_ref();
    let mut target_uid = status.and_then(ExecutionStatus::target_uid).map(str::to_owned);
    for effect in &mut next.effects {
        match effect {
            Effect::Status(status) => {
                status.cut_messages();
                target_uid = status.target_uid().map(str::to_owned);
            }
            Effect::Event(notice) => notice.target_uid.clone_from(&target_uid),
            _ => {}
        }
    }
    next
}

fn step(context: Context<'_>) -> Next {
    let Context { execution, definition, seen, .. } = context;
    let phase = phase(execution, definition);
    if let Phase::Unknown = phase {
        return Next::wait(Again::OnChange);
    }
    if !matches!(phase, Phase::Ended) && is_restored(execution) {
        let message = "put back from a backup, long after it was decided: not run";
        return ending::finish(context, context.status(), Reason::Superseded, message);
    }
    if let Some(blind) = &seen.blind {
        return blind::next(context, &phase, blind);
    }
    if let Phase::Ended = phase {
        return ending::release(context);
    }
    if is_observed(execution) {
        return ending::observed(context);
    }
    if is_canceled(execution) {
        return ending::cancel(context, &phase);
    }
    match phase {
        Phase::Begin(index) => rung::begin(context, index),
        Phase::Launching(index, rung) => rung::launching(context, index, rung),
        Phase::Running(index, rung) => rung::running(context, index, rung),
        Phase::Verifying(index, rung) => rung::verifying(context, index, rung),
        Phase::Ended | Phase::Unknown => Next::wait(Again::OnChange),
    }
}

/// Whether it was created long after it was decided, and has not begun. What stands in its way may have been told by then: a
/// backup brings accounts back before their rights.
fn is_restored(execution: &Execution) -> bool {
    let decided = execution.spec.decision.as_ref().map(|d| d.time.0);
    let created = execution.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let untouched = execution.status.as_ref().is_none_or(|status| status.rungs.is_empty());
    match (decided, created) {
        (Some(decided), Some(created)) => untouched && created.duration_since(decided) > RESTORED_AFTER,
        _ => false,
    }
}
