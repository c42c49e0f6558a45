//! Rules: compile, check, watch, and decide about every target that matches.

mod checks;
mod concern;
mod evaluator;
mod fire;
mod held;
mod load;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use parking_lot::Mutex;

use super::context::Context;
use super::queue::Requeue;
use crate::api::{Execution, LABEL, Rule, RuleStatus};
use crate::cluster::account::Account;
use crate::cluster::{Error, Result, status};
use crate::decide::episode::{self, Held, Load, Past, Question, Verdict};
use crate::decide::identity::TargetKey;
use crate::decide::matching::CompiledRule;
use crate::decide::view::TargetView;
use crate::source::watch::now;
use checks::Checked;
use evaluator::{Evaluator, Seen};
use fire::Fired;
use held::{Hold, Holds};
use load::Counted;
pub use load::Places;

/// How often a rule is looked at although nothing changed: an account's annotation may be gone.
const RESYNC: Duration = Duration::from_secs(300);
/// How often a rule whose account lacks something is looked at: somebody is about to mend it.
const LOOK_FOR_RIGHTS: Duration = Duration::from_secs(10);
/// How often a target that is held without a known end is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The least time between two lists that are to prove that a target is clear: where targets flap, one serves many.
const PROVE_EVERY: SignedDuration = SignedDuration::from_secs(5);

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
    let evaluator = evaluator_for(context, &rule, compiled.clone(), account.clone()).await?;
    let mut seen = evaluator.seen();
    let case = Case { rule: &rule, compiled: &compiled, account: &account, seen: &seen };
    let mut fired = decide(context, case, &evaluator).await;
    for held in evaluator.waiting.take_in(&fired.holds, rule.status.as_ref(), now()) {
        context.metrics.suppressed(held, namespace, name);
    }
    if let Some((target, error)) = fired.failed.as_ref().filter(|(_, error)| error.is_lasting()) {
        seen.mistake = Some(format!("{}/{}: {error}", target.kind, target.name));
    }
    write_status(context, &rule, &checked, Some((&seen, &evaluator)), &fired).await?;
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
    /// Targets that match and have to wait.
    holds: Holds,
    /// Whether the watch was too old to say anything.
    is_blind: bool,
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
    let known = |target: &TargetKey| executions.get(target).map_or(&[][..], Vec::as_slice);
    for target in targets(seen, &executions) {
        let about = (&target, seen.targets.get(&target), known(&target));
        if let Err(error) = decide_target(context, case, about, &mut outcome).await {
            outcome.failed.get_or_insert((target, error));
        }
    }
    for edge in &seen.edges {
        let known = known(&TargetKey::from(&edge.target));
        match fire::edge(context, rule, compiled, (edge, known)).await {
            Ok(fired_at) => outcome.fired_at = fired_at.or(outcome.fired_at),
            Err(error) if error.is_lasting() => {
                told::suppressed(context, rule, edge, &error.to_string()).await;
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
    (target, view, executions): (&TargetKey, Option<&TargetView>, &[Arc<Execution>]),
    outcome: &mut Outcome,
) -> Result<()> {
    let Case { compiled, seen, .. } = case;
    let past = past_of(executions);
    let question = Question { rule: &compiled.facts, target, view, sight: seen.sight, past: &past };
    let now = now();
    // What goes on elsewhere is counted only for who would fire else.
    let mut verdict = episode::decide(question, Load::default(), context.caps, now);
    if let Verdict::Fire { .. } = verdict {
        let counted = Counted { rule: &compiled.facts, target, since: None };
        let load = context.places.load(&context.executions, counted);
        verdict = episode::decide(question, load, context.caps, now);
    }
    if let (Verdict::Fire { .. }, Some(view)) = (&verdict, view) {
        verdict = match fire::state(context, case, view).await? {
            Fired::Done(fired_at) => {
                outcome.fired_at = fired_at.or(outcome.fired_at);
                return Ok(());
            }
            Fired::Changed => {
                outcome.wake_in(LOOK_AGAIN);
                return Ok(());
            }
            Fired::Decided(verdict) => verdict,
        };
    }
    match verdict {
        Verdict::Close => fire::close(context, executions).await?,
        Verdict::Prove => outcome.wake_in(prove(context, case, now)),
        Verdict::Held(held, until) => {
            outcome.is_blind |= held == Held::Blind;
            if let Some(view) = view {
                outcome.holds.insert(target.clone(), Hold { target: view.target.clone(), held, until });
            }
            let pause = until.map_or(LOOK_AGAIN, |until| {
                // A little late rather than a little early: timestamps have whole microseconds.
                Duration::try_from(until.duration_since(now)).unwrap_or_default() + Duration::from_millis(5)
            });
            match held {
                Held::ObservedLimit => outcome.unrecorded += 1,
                _ => outcome.wake_in(pause),
            }
        }
        Verdict::Clear | Verdict::InEpisode | Verdict::Fire { .. } => {}
    }
    Ok(())
}

/// Asks for a complete view that is newer than this moment, if the last one is not from just now. Says when to look for it.
fn prove(context: &Context, case: Case<'_>, now: Timestamp) -> Duration {
    let facts = &case.compiled.facts;
    let age = case.seen.sight.complete_at.map(|complete| now.duration_since(complete));
    let left = age.and_then(|age| Duration::try_from(PROVE_EVERY - age).ok()).unwrap_or_default();
    if let Some(evaluator) = context.evaluators.get(&facts.namespace, &facts.name).filter(|_| left.is_zero())
    {
        evaluator.relist();
    }
    left.max(LOOK_AGAIN)
}

/// The Executions of a rule, by target.
type Executions = BTreeMap<TargetKey, Vec<Arc<Execution>>>;

/// The targets that match, and those with an Execution that holds its episode.
fn targets(seen: &Seen, executions: &Executions) -> BTreeSet<TargetKey> {
    let is_open = |e: &Arc<Execution>| e.status.as_ref().is_none_or(|s| s.episode_closed_at.is_none());
    let open = executions.iter().filter(|(_, executions)| executions.iter().any(is_open));
    seen.targets.keys().chain(open.map(|(target, _)| target)).cloned().collect()
}

fn executions_of(context: &Context, compiled: &CompiledRule) -> Executions {
    let facts = &compiled.facts;
    let found = context.executions.filter(|execution| {
        execution.metadata.namespace.as_deref() == Some(&facts.namespace)
            && execution.labels().get(LABEL.rule).is_some_and(|rule| *rule == facts.name)
    });
    let mut executions = Executions::new();
    for execution in found {
        if let Some(target) = execution.spec.target.as_ref().map(TargetKey::from) {
            executions.entry(target).or_default().push(execution);
        }
    }
    executions
}

fn past_of(executions: &[Arc<Execution>]) -> Vec<Past> {
    executions.iter().filter_map(|execution| Past::of(execution)).collect()
}

async fn write_status(
    context: &Context,
    rule: &Arc<Rule>,
    checked: &Checked,
    watched: Option<(&Seen, &Evaluator)>,
    outcome: &Outcome,
) -> Result<()> {
    let mut fresh: RuleStatus = rule.status.clone().unwrap_or_default();
    let seen = watched.map(|(seen, _)| seen);
    checks::conditions(&mut fresh.conditions, checked, seen, rule.metadata.generation, now());
    fresh.trigger = Some(checks::trigger(&rule.spec.trigger));
    if let Some((seen, evaluator)) = watched {
        let is_blind = outcome.is_blind || seen.sight.heard_at.is_none();
        evaluator.waiting.show(&outcome.holds, is_blind, &mut fresh);
    } else {
        // What is not watched is not held.
        (fresh.held, fresh.held_count) = (Vec::new(), None);
    }
    fresh.observed_generation = rule.metadata.generation;
    fresh.unrecorded = i32::try_from(outcome.unrecorded).ok().filter(|count| *count > 0);
    if let Some(at) = outcome.fired_at {
        fresh.last_fired_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    }
    if let Some(written) = status::write(&context.home, &**rule, rule.status.as_ref(), &fresh).await? {
        context.rules.insert(Arc::new(written));
        told::trouble(context, rule, &fresh, now()).await;
    }
    Ok(())
}
