//! One rung: begin, launch, run, verify.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Again, Context, Effect, LOOK_AT_HEARD, LOOK_EVERY, Next, Notice, Seen, Waits, ending, needless};
use crate::api::{
    ActionSpec, AnyValue, AttemptState, ConditionStatus, ConditionType, Execution, ExecutionStatus, FreeForm,
    LONGEST_MESSAGE, ObjectReference, Reason, Rung, RungStatus, Runner, VerifyStatus, set_condition,
};
use crate::decide::capture::with_captured;
use crate::decide::change::OLD;
use crate::decide::keeping::unread;
use crate::decide::matching::{envelope, with_received};
use crate::decide::operation::{self, Operation};
use crate::decide::outcome::{JobEnd, read_outputs};
use crate::decide::parameters::{Inputs, resolve};
use crate::decide::{job, verify};
use crate::expr::{Bindings, Scope, TemplateTree};
use crate::text::without_secrets;

/// The variables of a rung's `with`.
pub const VARIABLES: [&str; 9] =
    ["object", OLD, "event", "alert", "events", "captured", "target", "ladder", "now"];

/// Begins a rung, if there still is something to do.
pub(super) fn begin(context: Context<'_>, index: usize) -> Next {
    let Some(rung) = context.definition.ladder.get(index) else { return ending::exhausted(context) };
    if context.job_exists(index) {
        return adopt(context, index);
    }
    if let Some(Err(message)) = &context.seen.done {
        return failed(context, index, message);
    }
    if let Some(waits) = context.seen.waits {
        return pending(context, waits);
    }
    if let Some(why) = needless::why(context, index) {
        return ending::superseded(context, index, &why);
    }
    let Some(action) = context.definition.actions.get(&rung.run) else {
        return failed(context, index, &format!("Action {} is not part of the definition", rung.run));
    };
    let inputs = match inputs(context, rung, action) {
        Ok(inputs) => inputs,
        Err(message) => return failed(context, index, &message),
    };
    match job::build(context.execution, index, (action, &inputs), context.seen.pods) {
        Err(message) => failed(context, index, &message),
        // Whoever gave the rung up could not say so any more.
        Ok(Some(_)) if context.seen.job.is_some() => {
            failed(context, index, "it was given up before its Job was created")
        }
        Ok(Some(job)) => Next::of(vec![Effect::CreateJob(Box::new(job))], Again::Now),
        Ok(None) => record(context, index, AttemptState::Launching, None),
    }
}

/// Waits, and says for what.
fn pending(context: Context<'_>, waits: Waits) -> Next {
    let mut status = context.status();
    let unknown = (ConditionType::Succeeded, ConditionStatus::Unknown, Reason::Pending);
    let message = match waits {
        Waits::Target => "waits: another Execution acts on the target",
        Waits::Concurrency => "waits: as many Executions run in the namespace as may",
    };
    set_condition(
        &mut status.conditions,
        unknown,
        message,
        context.execution.metadata.generation,
        context.now,
    );
    let again = Again::At(context.now.saturating_add(LOOK_EVERY).unwrap_or(context.now));
    Next::of(vec![Effect::Status(Box::new(status))], again)
}

/// Records a Job that exists: created just now, or by a process that died before it could say so.
pub(super) fn adopt(context: Context<'_>, index: usize) -> Next {
    let Some(seen) = &context.seen.job else { return Next::wait(Again::Now) };
    let name = job::name(context.execution, index);
    if seen.owner.as_deref() != context.execution.metadata.uid.as_deref() {
        return failed(context, index, &format!("a Job {name} exists that belongs to someone else"));
    }
    let job = ObjectReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        namespace: context.execution.metadata.namespace.clone(),
        name: name.clone(),
        uid: Some(seen.uid.clone()),
    };
    let mut next = record(context, index, AttemptState::Running, Some(job));
    let run = context.definition.ladder.get(index).map_or("", |rung| rung.run.as_str());
    next.effects.push(Effect::Event(Notice {
        reason: "ExecutionJobCreated",
        warning: false,
        note: format!("{run} runs as Job {name}"),
        rung: Some(index),
        target_uid: None,
    }));
    next
}

/// The parameters of a rung, templates filled in.
fn inputs(context: Context<'_>, rung: &Rung, action: &ActionSpec) -> Result<Inputs, String> {
    let tree = TemplateTree::compile(&rung.with.to_value(), &Scope::of(VARIABLES))
        .map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())?;
    let captured = context.execution.spec.decision.as_ref().map_or(&[][..], |decision| &decision.captured);
    if let Some(unread) = tree.expressions().into_iter().find_map(|read| unread(read, captured)) {
        return Err(unread);
    }
    let given = tree.render(&bindings(context)).map_err(|error| error.to_string())?;
    let given = given.as_object().cloned().unwrap_or_default();
    resolve(&action.parameters, &given).map_err(|mistakes| mistakes.join("; "))
}

fn bindings(context: Context<'_>) -> Bindings {
    let earlier = context.status().rungs;
    let ladder: Vec<Value> =
        earlier.iter().map(|r| json!({"run": r.run, "state": r.state, "outputs": r.outputs})).collect();
    let mut bindings = Bindings::at(context.now).with("ladder", Value::Array(ladder));
    // What there is not stays unset, so that a template that reads it says so.
    let decision = context.execution.spec.decision.as_ref();
    if let Some(decision) = decision {
        bindings = with_captured(bindings, &decision.captured);
    }
    if let Some(event) = decision.and_then(|decision| decision.event.as_ref()) {
        let trigger = context.definition.rule.as_ref().map(|rule| rule.trigger.clone()).unwrap_or_default();
        bindings = with_received(bindings, &json!(event), &trigger);
    } else if let Some(matched) = &context.seen.object {
        bindings = match context.has_state() {
            true => bindings.with("object", matched.clone()),
            false => bindings.with("event", envelope(matched)),
        };
    }
    match &context.seen.look.target {
        Some(target) => bindings.with("target", target.clone()),
        None => bindings,
    }
}

/// An operation without a Job: it may be repeated, so it is recorded first and done then.
pub(super) fn launching(context: Context<'_>, index: usize, rung: &RungStatus) -> Next {
    let Some(action) = context.definition.actions.get(&rung.run) else {
        return failed(context, index, "the Action is not part of the definition");
    };
    match &context.seen.done {
        Some(Ok(done)) => {
            let mut status = context.status();
            let current = &mut status.rungs[index];
            current.outputs = done.outputs.clone();
            current.message.clone_from(&done.message);
            current.replaced_by.clone_from(&done.replaced_by);
            return over(context, status, index, AttemptState::Succeeded);
        }
        Some(Err(message)) => return refused(context, index, (rung, action), message),
        None => {}
    }
    if is_late(context, rung) && old_object(context, rung) == OldObject::There {
        return late(context, index, &format!("not done within {}", action.timeout));
    }
    match action.runner() {
        Some(Runner::Collect(collect)) => {
            Next::of(vec![Effect::Collect(Box::new(collect.clone()), index)], Again::Now)
        }
        Some(Runner::Kubernetes(runner)) if runner.delete.is_some() && is_gone(context) => {
            let mut status = context.status();
            "it is gone".clone_into(&mut status.rungs[index].message);
            over(context, status, index, AttemptState::Succeeded)
        }
        Some(Runner::Kubernetes(runner)) => match resolved(context, index, action, runner) {
            Ok(operation) => operate(context, index, rung, operation),
            Err(message) => failed(context, index, &message),
        },
        _ => failed(context, index, "the Action has no single runner"),
    }
}

/// Whether the time is over that an operation has.
pub(super) fn is_late(context: Context<'_>, rung: &RungStatus) -> bool {
    rung.started_at.0.checked_add(context.timeout(rung).signed()).is_ok_and(|end| context.now > end)
}

/// An operation that was refused fails its rung, unless the old object is gone already and only its successor was: that is
/// tried again until the deadline, as a quota may count the old one for a moment, and a right may come back.
fn refused(
    context: Context<'_>,
    index: usize,
    (rung, action): (&RungStatus, &ActionSpec),
    why: &str,
) -> Next {
    if old_object(context, rung) == OldObject::There {
        return failed(context, index, why);
    }
    let missing = ending::missing(context);
    let deadline = rung.started_at.0.saturating_add(action.timeout.signed()).unwrap_or(context.now);
    if context.now >= deadline {
        let kept = format!("its manifest is in status.rungs[{index}].replacement of the Execution");
        let name = context.execution.metadata.name.as_deref().unwrap_or_default();
        let within = action.timeout;
        return failed(
            context,
            index,
            &format!("{missing} and was not created again within {within}; {kept} {name}: {why}"),
        );
    }
    let mut status = context.status();
    let message: String = format!("{missing}; to create it again is tried until {deadline:.0}: {why}");
    let message: String = without_secrets(&message).chars().take(LONGEST_MESSAGE).collect();
    let is_new = rung.message != message;
    status.rungs[index].message = message;
    let write = is_new.then(|| Effect::Status(Box::new(status)));
    let soon = context.now.saturating_add(LOOK_EVERY).unwrap_or(deadline);
    Next::of(write.into_iter().collect(), Again::At(soon.min(deadline)))
}

fn resolved(
    context: Context<'_>,
    index: usize,
    action: &ActionSpec,
    runner: &crate::api::KubernetesRunner,
) -> Result<Operation, String> {
    let rung = context.status().rungs[index].clone();
    let target = context.execution.spec.target.as_ref().ok_or("an operation needs a target")?;
    if let (Some(manifest), true) = (&rung.replacement, runner.recreate.is_some()) {
        return Ok(Operation::Recreate { target: current(context, target), manifest: manifest.to_value() });
    }
    if let Some(AnyValue(body)) = rung.change {
        return Ok(operation::resolved_before(runner, current(context, target), body));
    }
    let live = context.seen.look.target.clone().ok_or_else(|| format!("{target} does not exist"))?;
    let with = context.definition.ladder.get(index).ok_or("the rung is not part of the definition")?;
    let inputs = inputs(context, with, action)?;
    let bindings = bindings(context).with("inputs", json!(inputs));
    let mut target = current(context, target);
    // Without a UID from before, the request is at least for the object that was looked at.
    target.uid = target.uid.or_else(|| Some(live["metadata"]["uid"].as_str()?.to_owned()));
    let context = operation::Context {
        live: &live,
        target: &target,
        bindings: &bindings,
        began: rung.started_at.0,
        execution: context.execution.metadata.uid.as_deref().unwrap_or_default(),
    };
    operation::resolve(runner, context)
}

/// Whether the very object that was to be deleted is gone, perhaps by an earlier try whose outcome was not recorded.
fn is_gone(context: Context<'_>) -> bool {
    let Some(target) = &context.execution.spec.target else { return false };
    let wanted = current(context, target).uid;
    let live = context.seen.look.target.as_ref().and_then(|live| live["metadata"]["uid"].as_str());
    live.is_none() || wanted.is_some_and(|wanted| live != Some(wanted.as_str()))
}

/// The target with the UID that it has by now: an earlier rung may have replaced it. Where none was given, it is the one
/// that was there when the rung began.
fn current(context: Context<'_>, target: &ObjectReference) -> ObjectReference {
    let known = context.execution.status.as_ref().and_then(ExecutionStatus::target_uid);
    ObjectReference { uid: known.map(str::to_owned).or_else(|| target.uid.clone()), ..target.clone() }
}

/// The UID of the live target, for a rung that is about to begin, if nothing else says which object is meant. Recorded
/// first, it keeps an operation that is repeated after a crash from meeting another object of the name.
fn live_uid(context: Context<'_>) -> Option<String> {
    let target = context.execution.spec.target.as_ref()?;
    let live = context.seen.look.target.as_ref()?;
    let uid = live["metadata"]["uid"].as_str()?;
    current(context, target).uid.is_none().then(|| uid.to_owned())
}

/// How far the object is on its way out that a rung replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OldObject {
    /// It is there, or the rung replaces nothing: nothing is lost if the rung ends.
    There,
    /// It is being deleted: it will be missing when it is gone.
    Going,
    /// It is gone, and its successor is not there yet.
    Gone,
}

/// Where the object stands that the rung replaces. A replacement that has begun has to be brought to its end: nobody
/// else would create what is missing then.
pub(super) fn old_object(context: Context<'_>, rung: &RungStatus) -> OldObject {
    let going = |live: &Value| live.pointer("/metadata/deletionTimestamp").is_some();
    match (&rung.replacement, &context.seen.look.target) {
        (Some(_), None) => OldObject::Gone,
        (Some(_), Some(live)) if going(live) => OldObject::Going,
        _ => OldObject::There,
    }
}

/// Does an operation. What it is made from is another afterwards, so it is saved first: the manifest that replaces the target,
/// of which nothing else is left then, and a patch that a template made of it. A replacement takes several looks until the old
/// object is gone.
fn operate(context: Context<'_>, index: usize, rung: &RungStatus, operation: Operation) -> Next {
    let mut status = context.status();
    match &operation {
        Operation::Recreate { manifest, .. } if rung.replacement.is_none() => {
            status.rungs[index].replacement = manifest.as_object().cloned().map(FreeForm);
            return Next::of(vec![Effect::Status(Box::new(status))], Again::Now);
        }
        Operation::Patch { body, .. } if rung.change.is_none() && is_saved(context, rung) => {
            status.rungs[index].change = Some(AnyValue(body.clone()));
            return Next::of(vec![Effect::Status(Box::new(status))], Again::Now);
        }
        Operation::Recreate { .. } => {}
        Operation::Patch { .. } | Operation::Delete { .. } => {
            return Next::of(vec![Effect::Operate(Box::new(operation))], Again::Now);
        }
    }
    let mut effects = vec![Effect::Operate(Box::new(operation))];
    let waits = "waits until the old object is gone; finalizers may hold it";
    if old_object(context, rung) == OldObject::Going && rung.message != waits {
        waits.clone_into(&mut status.rungs[index].message);
        effects.push(Effect::Status(Box::new(status)));
    }
    Next::of(effects, Again::At(context.look_at(rung.started_at.0)))
}

/// Whether the patch of a rung is saved before it is sent. What is in a Secret is not for whoever reads Executions.
fn is_saved(context: Context<'_>, rung: &RungStatus) -> bool {
    let target = context.execution.spec.target.as_ref();
    let is_secret = target.is_some_and(|target| (target.group(), target.kind.as_str()) == ("", "Secret"));
    let runner = context.definition.actions.get(&rung.run).and_then(|action| action.kubernetes.as_ref());
    !is_secret && runner.is_some_and(operation::is_template)
}

/// A Job that is known to exist.
pub(super) fn running(context: Context<'_>, index: usize, rung: &RungStatus) -> Next {
    let ObjectReference { name, uid, .. } = rung.job.clone().unwrap_or_default();
    let uid = uid.unwrap_or_default();
    let Some(seen) = context.seen.job.as_ref().filter(|job| job.uid == uid) else {
        return vanished(context, index, rung);
    };
    if let Some(end) = &seen.end {
        let mut next = ended(context, index, end);
        next.effects.push(Effect::ReleaseJob(name, uid));
        return next;
    }
    let Some(mut next) = wait_for_job(context, rung) else {
        // Recorded first: what is done to the Job may be refused.
        let message = format!("neither ended nor was stopped within {}", context.timeout(rung));
        let mut next = late(context, index, &message);
        next.effects.push(Effect::DeleteJob(name.clone(), uid.clone()));
        next.effects.push(Effect::ReleaseJob(name, uid));
        return next;
    };
    // It is recorded: should it vanish from now on, it is lost. Held longer, it would hold its namespace, if that is
    // deleted, and the account with it that could let go.
    if seen.held {
        next.effects.push(Effect::UnholdJob(name, uid));
    }
    next
}

/// Looks again soon, or when it is heard of; none if the deadline has passed.
fn wait_for_job(context: Context<'_>, rung: &RungStatus) -> Option<Next> {
    let deadline = context.deadline(rung);
    let soon = match context.seen.hears {
        true => context.now.saturating_add(LOOK_AT_HEARD).unwrap_or(deadline),
        false => context.look_at(rung.started_at.0),
    };
    (context.now < deadline).then(|| Next::wait(Again::At(soon.min(deadline))))
}

/// A Job that was recorded and is not there any more. Its Pods may still be on their way out, and nothing else is begun
/// beside them.
fn vanished(context: Context<'_>, index: usize, rung: &RungStatus) -> Next {
    // Of the Pods nothing is heard.
    let seen = Seen { hears: false, ..context.seen.clone() };
    let wait = wait_for_job(Context { seen: &seen, ..context }, rung).filter(|_| context.seen.stray_pods > 0);
    wait.unwrap_or_else(|| lost(context, index))
}

fn ended(context: Context<'_>, index: usize, end: &JobEnd) -> Next {
    let mut status = context.status();
    let action = context.definition.actions.get(&status.rungs[index].run);
    if !end.completed {
        let said = end.message.trim();
        if end.reason == "DeadlineExceeded" {
            let timeout = action.map(|a| a.timeout).unwrap_or_default();
            return late(context, index, &format!("killed after {timeout}: {said}"));
        }
        let code = end.exit_code.map(|code| format!("exit code {code}: ")).unwrap_or_default();
        return failed(context, index, &format!("{code}{said}"));
    }
    let declared = action.map_or(&[][..], |a| a.outputs.as_slice());
    match read_outputs(declared, &end.message) {
        Ok(outputs) => {
            status.rungs[index].outputs = outputs.values;
            status.rungs[index].message = outputs.notes.join("; ");
            over(context, status, index, AttemptState::Succeeded)
        }
        Err(message) => failed(context, index, &message),
    }
}

fn lost(context: Context<'_>, index: usize) -> Next {
    let message = "its Job vanished before its outcome was recorded; it is not repeated";
    ended_badly(context, index, AttemptState::Lost, message)
}

fn late(context: Context<'_>, index: usize, message: &str) -> Next {
    ended_badly(context, index, AttemptState::DeadlineExceeded, message)
}

pub(super) fn failed(context: Context<'_>, index: usize, message: &str) -> Next {
    ended_badly(context, index, AttemptState::Failed, message)
}

/// Ends the rung badly, beginning it first if it had not begun.
fn ended_badly(context: Context<'_>, index: usize, state: AttemptState, message: &str) -> Next {
    // It is what a script printed, or a server answered; status and Event have more readers than a log.
    let message: &str = &without_secrets(message);
    let mut status = context.status();
    let unrecorded = status.rungs.len() <= index;
    if unrecorded {
        begun(context, &mut status, index, state, None);
    }
    message.clone_into(&mut status.rungs[index].message);
    let run = status.rungs[index].run.clone();
    let mut next = over(context, status, index, state);
    let reason = match state {
        AttemptState::DeadlineExceeded => "ExecutionDeadlineExceeded",
        _ => "ExecutionStepFailed",
    };
    let note = format!("{run} failed: {message}");
    next.effects.push(Effect::Event(Notice {
        reason,
        warning: true,
        note,
        rung: Some(index),
        target_uid: None,
    }));
    next.effects.extend(escalated(context, index));
    if unrecorded {
        ending::take_name(context, index, &mut next);
    }
    next
}

/// Writes that a rung has begun.
fn record(context: Context<'_>, index: usize, state: AttemptState, job: Option<ObjectReference>) -> Next {
    let mut status = context.status();
    begun(context, &mut status, index, state, job);
    Next::of(vec![Effect::Status(Box::new(status))], Again::Now)
}

fn begun(
    context: Context<'_>,
    status: &mut ExecutionStatus,
    index: usize,
    state: AttemptState,
    job: Option<ObjectReference>,
) {
    let run = context.definition.ladder.get(index).map(|rung| rung.run.clone()).unwrap_or_default();
    status.started_at.get_or_insert(Time(context.now));
    status.step = Some(format!("{run} ({}/{})", index + 1, context.definition.ladder.len()));
    let message = format!("{run} is rung {} of {}", index + 1, context.definition.ladder.len());
    let generation = context.execution.metadata.generation;
    let running = (ConditionType::Succeeded, ConditionStatus::Unknown, Reason::Running);
    set_condition(&mut status.conditions, running, &message, generation, context.now);
    let unfinished = (ConditionType::Finished, ConditionStatus::False, Reason::Running);
    set_condition(&mut status.conditions, unfinished, &message, generation, context.now);
    status.rungs.push(RungStatus {
        run,
        state,
        started_at: Time(context.now),
        finished_at: None,
        job,
        outputs: FreeForm::default(),
        message: String::new(),
        target_uid: live_uid(context).filter(|_| state == AttemptState::Launching),
        replacement: None,
        change: None,
        replaced_by: None,
        verify: None,
    });
}

/// The Action of a rung has ended: verify if it went well and proof is asked for, else go on.
fn over(context: Context<'_>, mut status: ExecutionStatus, index: usize, state: AttemptState) -> Next {
    let rung = &mut status.rungs[index];
    rung.state = state;
    rung.finished_at = Some(Time(context.now));
    let asked = context.definition.ladder.get(index).and_then(|r| r.verify.as_ref());
    if let (Some(_), AttemptState::Succeeded) = (asked, state) {
        rung.verify = Some(VerifyStatus {
            started_at: Time(context.now),
            holding_since: None,
            held: None,
            message: String::new(),
        });
        let verifying = (ConditionType::Verified, ConditionStatus::Unknown, Reason::Verifying);
        let message = format!("watching what {} has done", rung.run);
        set_condition(
            &mut status.conditions,
            verifying,
            message,
            context.execution.metadata.generation,
            context.now,
        );
    }
    if status.rungs[index].verify.is_some() { advance(status) } else { climb(context, status, index) }
}

/// A remedy whose effect could not be looked at in time.
pub(super) fn unproven(context: Context<'_>, index: usize, message: &str) -> Next {
    let mut status = context.status();
    let current = &mut status.rungs[index];
    if let Some(verify) = &mut current.verify {
        verify.held = Some(false);
        message.clone_into(&mut verify.message);
    }
    let note = format!("{} could not be verified: {message}", current.run);
    ineffective(context, status, index, note)
}

/// A remedy that did not help.
fn ineffective(context: Context<'_>, status: ExecutionStatus, index: usize, note: String) -> Next {
    let mut next = climb(context, status, index);
    next.effects.push(Effect::Event(Notice {
        reason: "RemediationIneffective",
        warning: true,
        note,
        rung: Some(index),
        target_uid: None,
    }));
    next.effects.extend(escalated(context, index));
    next
}

/// That a remedy which was to prove itself gives way to the next; a rung that asks for no proof is one step of several.
fn escalated(context: Context<'_>, index: usize) -> Option<Effect> {
    let ladder = &context.definition.ladder;
    let (given_up, next) = (ladder.get(index)?, ladder.get(index + 1)?);
    given_up.verify.as_ref()?;
    Some(Effect::Event(Notice {
        reason: "RemediationEscalated",
        warning: true,
        note: format!(
            "{} did not help: {} is next, rung {} of {}",
            given_up.run,
            next.run,
            index + 2,
            ladder.len()
        ),
        rung: Some(index + 1),
        target_uid: None,
    }))
}

/// Goes on to the next rung, or ends if there is none: one write instead of two.
fn climb(context: Context<'_>, status: ExecutionStatus, index: usize) -> Next {
    if index + 1 < context.definition.ladder.len() {
        return advance(status);
    }
    let last = Execution { status: Some(status), ..context.execution.clone() };
    ending::exhausted(Context { execution: &last, ..context })
}

fn advance(status: ExecutionStatus) -> Next {
    Next::of(vec![Effect::Status(Box::new(status))], Again::Now)
}

/// Watches what a rung has done.
pub(super) fn verifying(context: Context<'_>, index: usize, rung: &RungStatus) -> Next {
    let asked = context.definition.ladder.get(index).and_then(|r| r.verify.as_ref());
    let (Some(asked), Some(known)) = (asked, &rung.verify) else { return Next::wait(Again::Now) };
    let check = verify::check(asked, &context.seen.look, context.now);
    let mut status = context.status();
    let current = &mut status.rungs[index];
    let mut verdict = VerifyStatus { message: check.message.chars().take(1024).collect(), ..known.clone() };
    let is_unbroken = |since: &Time| check.turned_at.is_none_or(|turned| turned <= since.0);
    let unbroken = known.holding_since.clone().filter(is_unbroken);
    verdict.holding_since = check.holds.then(|| unbroken.unwrap_or(Time(context.now)));
    let deadline = known.started_at.0.saturating_add(asked.within.signed()).unwrap_or(context.now);
    let stable_at =
        verdict.holding_since.as_ref().and_then(|t| t.0.saturating_add(asked.stable_for.signed()).ok());
    if stable_at.is_some_and(|at| at <= context.now) {
        verdict.held = Some(true);
        let message = format!("{}, stable for {}", verdict.message, asked.stable_for);
        current.verify = Some(verdict);
        return ending::finish(context, status, Reason::TargetRecovered, &message);
    }
    if !check.holds && context.now >= deadline {
        verdict.held = Some(false);
        let note = format!("{} did not help within {}: {}", current.run, asked.within, check.message);
        current.verify = Some(verdict);
        return ineffective(context, status, index, note);
    }
    let look_at = context.look_at(known.started_at.0);
    let again = Again::At(look_at.min(stable_at.unwrap_or(deadline.max(context.now)).max(context.now)));
    let flipped = verdict.holding_since != known.holding_since;
    current.verify = Some(verdict);
    let write = flipped.then(|| Effect::Status(Box::new(status)));
    Next::of(write.into_iter().collect(), again)
}
