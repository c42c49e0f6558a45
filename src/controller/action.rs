//! Actions: said to be good or not, and why.

use std::sync::Arc;

use super::context::Context;
use super::queue::Requeue;
use super::strange::not_known;
use crate::api::{
    Action, ActionSpec, ActionStatus, ConditionStatus, ConditionType, Progress, Reason, Runner, ScriptRunner,
    set_condition, set_progress,
};
use crate::cluster::{Result, status};
use crate::decide::check;
use crate::decide::pod::PodPolicy;
use crate::decide::problem::Severity;
use crate::source::watch::now;

/// Reconciles one Action.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(action) = context.actions.get(namespace, name) else { return Ok(Requeue::OnChange) };
    let mut fresh = action.status.clone().unwrap_or_default();
    let unknown = context.actions.unknown_field(namespace, name);
    describe(&mut fresh, &action, unknown, context.pods);
    if let Some(written) = status::write(&context.home, &*action, action.status.as_ref(), &fresh).await? {
        context.actions.insert(Arc::new(written));
    }
    Ok(Requeue::OnChange)
}

fn describe(status: &mut ActionStatus, action: &Action, unknown: Option<String>, pods: PodPolicy) {
    let (generation, now) = (action.metadata.generation, now());
    let mistake = unknown.map(|field| not_known(&field)).or_else(|| mistake(action, pods));
    let unsupported = Reason::UnsupportedValue;
    let (state, ready, accepted, progress) = match mistake {
        None => (ConditionStatus::True, Reason::Active, Reason::Accepted, Progress::Settled),
        Some(_) => (ConditionStatus::False, unsupported, unsupported, Progress::Stalled),
    };
    let message = mistake.unwrap_or_else(|| "can be run".to_owned());
    set_progress(&mut status.conditions, (progress, ready), &message, generation, now);
    set_condition(
        &mut status.conditions,
        (ConditionType::Accepted, state, accepted),
        message.clone(),
        generation,
        now,
    );
    set_condition(&mut status.conditions, (ConditionType::Ready, state, ready), message, generation, now);
    status.runner = action.spec.runner().map(Runner::kind);
    status.image = image(&action.spec);
    status.observed_generation = generation;
}

fn image(spec: &ActionSpec) -> Option<String> {
    match spec.runner()? {
        Runner::Script(script) => Some(script.image.clone()),
        Runner::Container(container) => Some(container.image.clone()),
        Runner::Kubernetes(_) | Runner::Collect(_) => None,
    }
}

fn mistake(action: &Action, pods: PodPolicy) -> Option<String> {
    let Some(_) = action.spec.runner() else {
        return Some("exactly one of script, container, kubernetes and collect must be set".to_owned());
    };
    if let Some(ScriptRunner { file: Some(file), .. }) = &action.spec.script {
        return Some(format!(
            "spec.script.file {file:?} means something in a Pack only; use inline or configMap"
        ));
    }
    let problems = check::action(&action.spec, pods).into_iter().filter(|p| p.severity == Severity::Error);
    let texts: Vec<_> = problems.map(|problem| problem.to_string()).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
