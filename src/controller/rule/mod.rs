//! Rules: compile, check, watch, and decide about every target that matches.

mod checks;
mod evaluator;
mod fire;
mod received;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::context::Context;
use super::queue::Requeue;
use crate::api::{Execution, LABEL, Mode, Rule, RuleStatus};
use crate::cluster::account::Account;
use crate::cluster::{Error, Result, status};
use crate::decide::episode::{self, Held, Load, Past, Question, Verdict};
use crate::decide::identity::TargetKey;
use crate::decide::matching::CompiledRule;
use crate::decide::view::TargetView;
use crate::source::watch::now;
use checks::Checked;
use evaluator::{Evaluator, Seen};

/// How often a rule is looked at although nothing changed: an account's annotation may be gone.
const RESYNC: Duration = Duration::from_secs(300);
/// How often a rule whose account lacks something is looked at: somebody is about to mend it.
const LOOK_FOR_RIGHTS: Duration = Duration::from_secs(10);
/// How often a target that is held without a known end is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The evaluators that run, by rule.
#[derive(Default)]
pub struct Evaluators {
    running: Mutex<BTreeMap<(String, String), Arc<Evaluator>>>,
}

impl Evaluators {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Evaluator>> {
        self.running.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn set(&self, namespace: &str, name: &str, evaluator: Option<Arc<Evaluator>>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut running = self.running.lock();
        match evaluator {
            Some(evaluator) => drop(running.insert(key, evaluator)),
            None => drop(running.remove(&key)),
        }
    }
}

/// Reconciles one rule.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(rule) = context.rules.get(namespace, name) else {
        context.evaluators.set(namespace, name, None);
        return Ok(Requeue::OnChange);
    };
    let checked = checks::check(context, &rule);
    let (checked, account) = checks::authorize(context, &rule, checked).await?;
    let (Some(compiled), Some(account)) = (checked.compiled.clone(), account) else {
        context.evaluators.set(namespace, name, None);
        write_status(context, &rule, &checked, None, &Outcome::default()).await?;
        let mended_soon = checked.forbidden.is_some() || checked.unserved.is_some();
        let pause = if mended_soon { LOOK_FOR_RIGHTS } else { RESYNC };
        return Ok(Requeue::After(pause));
    };
    if compiled.spec.trigger.webhook_name().is_some() {
        context.evaluators.set(namespace, name, None);
        return received::reconcile(context, &rule, &checked, (&compiled, &account)).await;
    }
    let evaluator = evaluator_for(context, &rule, compiled.clone(), account.clone()).await?;
    let mut seen = evaluator.seen();
    let case = Case { rule: &rule, compiled: &compiled, account: &account, seen: &seen };
    let mut fired = decide(context, case, &evaluator).await;
    if let Some((target, error)) = fired.failed.as_ref().filter(|(_, error)| error.is_lasting()) {
        seen.mistake = Some(format!("{}/{}: {error}", target.kind, target.name));
    }
    write_status(context, &rule, &checked, Some(&seen), &fired).await?;
    if let Some((_, error)) = fired.failed.take() {
        return Err(error);
    }
    Ok(fired.wake.map_or(Requeue::After(RESYNC), |wake| Requeue::After(wake.min(RESYNC))))
}

/// The running evaluator, or a new one if the rule or its account is another.
async fn evaluator_for(
    context: &Context,
    rule: &Rule,
    compiled: Arc<CompiledRule>,
    account: Account,
) -> Result<Arc<Evaluator>> {
    let (namespace, name) = (rule.namespace().unwrap_or_default(), rule.name_any());
    let generation = rule.metadata.generation.unwrap_or_default();
    let wanted = (generation, account.user().to_owned());
    if let Some(running) = context.evaluators.get(&namespace, &name)
        && running.started_for == wanted
        && !running.is_over()
    {
        return Ok(running);
    }
    let evaluator = Arc::new(Evaluator::start(context, compiled, account, generation).await?);
    context.evaluators.set(&namespace, &name, Some(evaluator.clone()));
    Ok(evaluator)
}

/// What a round of decisions came to.
#[derive(Default)]
struct Outcome {
    wake: Option<Duration>,
    fired_at: Option<Timestamp>,
    /// Targets that match and are not recorded: the rule observes, and has as many open records as are kept.
    unrecorded: usize,
    /// The first target about which nothing could be done: it does not stop the others.
    failed: Option<(TargetKey, Error)>,
}

impl Outcome {
    fn wake_in(&mut self, pause: Duration) {
        self.wake = Some(self.wake.map_or(pause, |known| known.min(pause)));
    }
}

/// A rule and what it sees.
#[derive(Clone, Copy)]
struct Case<'a> {
    rule: &'a Rule,
    compiled: &'a CompiledRule,
    account: &'a Account,
    seen: &'a Seen,
}

async fn decide(context: &Context, case: Case<'_>, evaluator: &Evaluator) -> Outcome {
    let Case { rule, compiled, seen, .. } = case;
    let mut outcome = Outcome::default();
    let executions = executions_of(context, compiled);
    for target in targets(seen, &executions) {
        let view = seen.targets.get(&target);
        if let Err(error) = decide_target(context, case, (&target, view), &mut outcome).await {
            outcome.failed.get_or_insert((target, error));
        }
    }
    for edge in &seen.edges {
        match fire::edge(context, rule, compiled, edge).await {
            Ok(fired_at) => outcome.fired_at = fired_at.or(outcome.fired_at),
            Err(error) if error.is_lasting() => {
                fire::tell_suppressed(context, rule, edge, &error.to_string()).await;
            }
            // It stays, and is tried again with the rule.
            Err(error) => {
                outcome.failed.get_or_insert((TargetKey::from(&edge.target), error));
                continue;
            }
        }
        evaluator.decided(&edge.occurrence);
    }
    outcome
}

async fn decide_target(
    context: &Context,
    case: Case<'_>,
    (target, view): (&TargetKey, Option<&TargetView>),
    outcome: &mut Outcome,
) -> Result<()> {
    let Case { compiled, seen, .. } = case;
    let executions = executions_of(context, compiled);
    let past = past_of(&executions, target);
    let (fresh_at, all_resolved) = (seen.fresh_at, seen.all_resolved);
    let question = Question { rule: &compiled.facts, target, view, fresh_at, all_resolved, past: &past };
    let now = now();
    match episode::decide(question, load(context, compiled, target), context.caps, now) {
        Verdict::Fire { .. } => {
            if let Some(view) = view {
                outcome.fired_at = fire::state(context, case, view).await?.or(outcome.fired_at);
            }
        }
        Verdict::Close => fire::close(context, &executions, target).await?,
        Verdict::Prove => {
            if let Some(evaluator) = context.evaluators.get(&compiled.facts.namespace, &compiled.facts.name) {
                evaluator.relist();
            }
            outcome.wake_in(LOOK_AGAIN);
        }
        Verdict::Held(held, until) => {
            context.metrics.suppressed(held, &compiled.facts.namespace, &compiled.facts.name);
            let pause = until.map_or(LOOK_AGAIN, |until| {
                // A little late rather than a little early: timestamps have whole microseconds.
                Duration::try_from(until.duration_since(now)).unwrap_or_default() + Duration::from_millis(5)
            });
            match held {
                Held::ObservedLimit => outcome.unrecorded += 1,
                _ => outcome.wake_in(pause),
            }
        }
        Verdict::Clear | Verdict::InEpisode => {}
    }
    Ok(())
}

/// The targets that match, and those with an Execution that holds its episode.
fn targets(seen: &Seen, executions: &[Arc<Execution>]) -> BTreeSet<TargetKey> {
    let open = executions.iter().filter(|e| e.status.as_ref().is_none_or(|s| s.episode_closed_at.is_none()));
    let open = open.filter_map(|e| e.spec.target.as_ref()).map(TargetKey::from);
    seen.targets.keys().cloned().chain(open).collect()
}

fn executions_of(context: &Context, compiled: &CompiledRule) -> Vec<Arc<Execution>> {
    let facts = &compiled.facts;
    context.executions.filter(|execution| {
        execution.metadata.namespace.as_deref() == Some(&facts.namespace)
            && execution.labels().get(LABEL.rule).is_some_and(|rule| *rule == facts.name)
    })
}

fn past_of(executions: &[Arc<Execution>], target: &TargetKey) -> Vec<Past> {
    let of_target =
        |e: &&Arc<Execution>| e.spec.target.as_ref().is_some_and(|t| TargetKey::from(t) == *target);
    executions.iter().filter(of_target).filter_map(|execution| Past::of(execution)).collect()
}

/// How much is going on.
fn load(context: &Context, compiled: &CompiledRule, target: &TargetKey) -> Load {
    let facts = &compiled.facts;
    let mut load = Load::default();
    for execution in context.executions.filter(|_| true) {
        let decision = execution.spec.decision.as_ref();
        let same_namespace = execution.metadata.namespace.as_deref() == Some(&facts.namespace);
        let of_rule = same_namespace && decision.is_some_and(|d| d.rule.name == facts.name);
        if decision.is_some_and(|d| d.mode == Mode::Observe) {
            let open = execution.status.as_ref().is_none_or(|s| s.episode_closed_at.is_none());
            load.observed_open += usize::from(open && of_rule);
            continue;
        }
        if execution.is_finished() {
            continue;
        }
        load.total += 1;
        load.namespace += usize::from(same_namespace);
        load.rule += usize::from(of_rule);
        load.target +=
            usize::from(execution.spec.target.as_ref().is_some_and(|t| TargetKey::from(t) == *target));
    }
    load
}

async fn write_status(
    context: &Context,
    rule: &Arc<Rule>,
    checked: &Checked,
    seen: Option<&Seen>,
    outcome: &Outcome,
) -> Result<()> {
    let mut fresh: RuleStatus = rule.status.clone().unwrap_or_default();
    checks::conditions(&mut fresh.conditions, checked, seen, rule.metadata.generation, now());
    fresh.observed_generation = rule.metadata.generation;
    fresh.unrecorded = i32::try_from(outcome.unrecorded).ok().filter(|count| *count > 0);
    if let Some(at) = outcome.fired_at {
        fresh.last_fired_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    }
    if let Some(written) = status::write(&context.home, &**rule, rule.status.as_ref(), &fresh).await? {
        context.rules.insert(Arc::new(written));
    }
    Ok(())
}
