//! What the next step of an Execution has to know, read as the account and straight from the store.

use std::sync::Arc;

use futures::try_join;
use kube::ResourceExt;
use serde_json::Value;

use crate::api::{Decision, Execution, ObjectReference, RuleSpec, Target};
use crate::cluster::account::Account;
use crate::cluster::jobs::Jobs;
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result, evidence, owners};
use crate::controller::context::Context;
use crate::controller::heard::{self, From};
use crate::controller::{looks, recheck};
use crate::decide::change;
use crate::decide::definition::Definition;
use crate::decide::execution::{Need, Seen, Waits};
use crate::decide::lifecycle::is_lost;
use crate::decide::outcome::{JobSeen, LeftJob, live};
use crate::decide::verify::Look;
use crate::source::watch::now;

/// The object that matches, if one does, or the Event; and whether anything matches, if that can be looked at again.
type Matching = (Option<Arc<Value>>, Option<bool>);

/// Looks at what is needed, and has not been looked at earlier.
pub async fn observe(
    context: &Context,
    execution: &Execution,
    (definition, account): (&Definition, &Account),
    need: Need,
    earlier: Option<&looks::Look>,
) -> Result<Seen> {
    let namespace = execution.namespace().unwrap_or_default();
    let jobs = Jobs::of(&account.client(), &namespace);
    let mut seen = Seen { pods: context.pods, ..Seen::default() };
    match need {
        Need::Nothing => {}
        Need::Begin { job, proof } => {
            if let Some(name) = job.filter(|_| earlier.is_none()) {
                seen.job = look_at_job(&jobs, &name).await?;
            }
            // A Job that exists is recorded, whatever else there is to see; and whoever has to wait for another looks when it
            // is its turn, as that one changes what there is.
            if seen.job.as_ref().is_some_and(|job| !job.placeholder) {
                return Ok(seen);
            }
            seen.waits = waits(context, execution, account).await?;
            if seen.waits.is_some() {
                return Ok(seen);
            }
            let matching = async {
                match earlier.and_then(|look| look.object.clone()) {
                    Some(object) => Ok((Some(object), Some(true))),
                    None => matching(context, execution, definition, account, From::ApiServer).await,
                }
            };
            (seen.look.target, (seen.object, seen.look.matches)) =
                what_it_is_about(context, execution, account, matching).await?;
            if proof {
                seen.look = with_pods(execution, definition, account, seen.look).await?;
            }
        }
        Need::Job(name, uid) => {
            seen.job = look_at_job(&jobs, &name).await?;
            if seen.job.as_ref().is_none_or(|job| job.uid != uid) {
                seen.stray_pods = live(&jobs.pods(&name, &uid).await?);
            }
        }
        Need::Target => {
            seen.look.target = live_target(context, execution, account).await?;
            // Of an alert there is no object: one that cannot be judged does not stop what has begun.
            if definition.rule.as_ref().is_none_or(|rule| rule.trigger.alert.is_none()) {
                seen.object = matching(context, execution, definition, account, From::Store).await?.0;
            }
        }
        Need::Look => seen.look = look(context, execution, definition, account).await?,
        Need::Jobs => {
            let own = execution.metadata.uid.as_deref();
            let jobs = jobs.of_execution(&execution.name_any()).await?;
            seen.left_jobs = jobs.iter().filter_map(|job| LeftJob::of(job, own)).collect();
        }
    }
    Ok(seen)
}

/// What the Execution has to wait for before it may begin. Anybody can write a run by hand about anything: it stands in
/// nobody's way before its account has shown that it may see the target.
async fn waits(context: &Context, execution: &Execution, account: &Account) -> Result<Option<Waits>> {
    let is_busy = || context.turns.is_busy(&context.executions, execution).then_some(Waits::Target);
    if execution.spec.decision.is_some() {
        return Ok(is_busy());
    }
    live_target(context, execution, account).await?;
    let most = (context.caps.namespace, now());
    let Some(place) = context.places.begin(&context.executions, execution, most) else {
        return Ok(Some(Waits::Concurrency));
    };
    let busy = is_busy();
    if busy.is_none() {
        place.stay();
    }
    Ok(busy)
}

/// The live target and what matches: one look, where they are the same object.
async fn what_it_is_about(
    context: &Context,
    execution: &Execution,
    account: &Account,
    matching: impl Future<Output = Result<Matching>>,
) -> Result<(Option<Arc<Value>>, Matching)> {
    let (decision, target) = (execution.spec.decision.as_ref(), execution.spec.target.as_ref());
    let same = |decision: &Decision| target == Some(&decision.matched.object);
    if decision.is_none_or(|decision| !same(decision)) {
        return try_join!(live_target(context, execution, account), matching);
    }
    let matching = matching.await?;
    let found = matching.0.clone().filter(|object| is_it(object, target));
    match found {
        Some(object) => Ok((Some(object), matching)),
        None => Ok((live_target(context, execution, account).await?, matching)),
    }
}

fn is_it(object: &Value, target: Option<&ObjectReference>) -> bool {
    target.is_some_and(|target| owners::reference(object).uid == target.uid && target.uid.is_some())
}

async fn look_at_job(jobs: &Jobs, name: &str) -> Result<Option<JobSeen>> {
    Ok(jobs.get(name).await?.map(|(job, pods)| JobSeen::of(&job, &pods)))
}

/// What matches.
async fn matching(
    context: &Context,
    execution: &Execution,
    definition: &Definition,
    account: &Account,
    from: From,
) -> Result<Matching> {
    let (Some(rule), Some(target)) = (&definition.rule, &execution.spec.target) else {
        return Ok((None, None));
    };
    let is_state = change::is_state(rule);
    // A definition compiled when it was written; if it does not any more, nothing matches it.
    let Some(compiled) = context.definitions.rule_of(execution, definition) else {
        return Ok((None, is_state.then_some(false)));
    };
    if rule.trigger.is_about_ends() {
        let again = heard::fires_again(context, &compiled, execution, from).await?;
        return Ok((None, Some(again)));
    }
    if rule.trigger.alert.is_some() {
        let fires = heard::fires(context, &compiled, (execution, target), from).await?;
        return Ok((None, Some(fires)));
    }
    let object = match is_state {
        true => {
            recheck::matching(context, account, &compiled, target, execution.spec.decision.as_ref()).await?
        }
        false => the_event(context, execution, account).await?,
    };
    let matches = is_state.then_some(object.is_some());
    Ok((object, matches))
}

/// The Event that was decided about, for templates, if it still exists.
async fn the_event(
    context: &Context,
    execution: &Execution,
    account: &Account,
) -> Result<Option<Arc<Value>>> {
    match &execution.spec.decision {
        // What nobody keeps is in the decision itself.
        Some(decision) if decision.event.is_some() => Ok(None),
        Some(decision) => read(context, &decision.matched.object, account).await,
        None => Ok(None),
    }
}

async fn live_target(
    context: &Context,
    execution: &Execution,
    account: &Account,
) -> Result<Option<Arc<Value>>> {
    let Some(target) = execution.spec.target.as_ref().filter(|target| !target.is_key()) else {
        return Ok(None);
    };
    if execution.spec.decision.as_ref().is_some_and(|decision| is_lost(decision, target)) {
        return Ok(None);
    }
    read(context, target, account).await
}

async fn read(context: &Context, target: &ObjectReference, account: &Account) -> Result<Option<Arc<Value>>> {
    Objects::around(account.client(), &context.kinds, target).await?.get(&target.name).await
}

/// The target, its Pods, and whether anything still matches.
pub async fn look(
    context: &Context,
    execution: &Execution,
    definition: &Definition,
    account: &Account,
) -> Result<Look> {
    let target = live_target(context, execution, account).await?;
    let is_alert = definition.rule.as_ref().is_some_and(|rule| rule.trigger.alert.is_some());
    let matches = match matching(context, execution, definition, account, From::Store).await {
        // An alert that cannot be judged is not over, for all that is known; whatever else proves the remedy can be looked at.
        Err(Error::Unexpected(_)) if is_alert => Some(true),
        other => other?.1,
    };
    with_pods(execution, definition, account, Look { target, matches, ..Look::default() }).await
}

/// With the target's Pods.
async fn with_pods(
    execution: &Execution,
    definition: &Definition,
    account: &Account,
    look: Look,
) -> Result<Look> {
    let decision = execution.spec.decision.as_ref();
    let is_there = |target: &&ObjectReference| !decision.is_some_and(|decision| is_lost(decision, target));
    let (reference, live) = (execution.spec.target.as_ref().filter(is_there), look.target.as_deref());
    // Whoever says what proves it needs no right to list Pods.
    let mut asked = definition.ladder.iter().filter_map(|rung| rung.verify.as_ref());
    let pods = match reference.filter(|_| asked.any(|verify| verify.when.is_none())) {
        Some(reference) => evidence::pods_of(&account.client(), reference, live).await?,
        None => Vec::new(),
    };
    let names = |rule: &RuleSpec| matches!(rule.target, Some(Target::Ref(_) | Target::Key(_)));
    let is_named = definition.rule.as_ref().is_some_and(names);
    let has_pods = reference.is_some_and(|reference| evidence::has_pods(reference, live));
    let ended = definition.rule.as_ref().is_some_and(|rule| rule.trigger.is_about_ends());
    Ok(Look { pods, podless: is_named && !has_pods, ended, ..look })
}
