//! Rules: compile, check, watch, and decide about every target that matches.

mod before;
mod cache;
mod checks;
mod concern;
#[cfg(test)]
mod deliveries;
mod evaluator;
mod evaluators;
mod fire;
mod happening;
mod held;
mod later;
mod lives;
mod load;
mod objection;
mod origin;
mod passed_over;
mod received;
mod seen;
mod told;
mod unwatched;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::context::Context;
use super::published;
use super::queue::Requeue;
use crate::api::{Execution, ObjectedEvent, Rule, RuleStatus, ScheduleStatus, Take};
use crate::cluster::account::Account;
use crate::cluster::{Error, Result, status};
use crate::decide::check;
use crate::decide::ends::OLDEST;
use crate::decide::episode::{self, Held, KEPT, Load, Past, Question, Suppressed, Verdict};
use crate::decide::guard::{Chosen, choose};
use crate::decide::identity::TargetKey;
use crate::decide::matching::CompiledRule;
use crate::decide::unless::Objection;
use crate::decide::view::{Sight, TargetView};
use crate::source::watch::now;
use checks::Checked;
use evaluator::Evaluator;
pub use evaluators::Evaluators;
use fire::{Decided, Fired};
use held::{Hold, Holds, Waiting};
use load::Counted;
pub use load::Places;
use origin::Origin;
use seen::{Edge, Looked, Seen, handled_by};

/// How often a rule is looked at although nothing changed: an account's annotation may be gone.
const RESYNC: Duration = Duration::from_secs(300);
/// How often a rule is looked at that something around it keeps from being used: somebody is about to mend it.
const LOOK_FOR_RIGHTS: Duration = Duration::from_secs(10);
/// How often a target that is held without a known end is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Events that something spoke against and that are remembered, at the most.
const OBJECTED: usize = 100;
/// The least time between two lists that are to prove that a target is clear: where targets flap, one serves many.
const PROVE_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Targets of a rule that are decided at a time: each that fires waits for the API server.
const DECIDING: usize = 16;
/// How often it is noted in a rule's status that it fired: a storm is not to write it once for each target.
const NOTE_FIRED: Duration = Duration::from_secs(10);

/// Reconciles one rule.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Requeue> {
    let Some(rule) = context.rules.get(namespace, name) else {
        context.evaluators.forget(namespace, name);
        return Ok(Requeue::OnChange);
    };
    let checked = checked(context, &rule).await;
    let (checked, account) = checks::authorize(context, &rule, checked).await?;
    let (Some(compiled), Some(account)) = (checked.compiled.clone(), account) else {
        context.evaluators.set(namespace, name, None);
        write_status(context, &rule, &checked, None, &mut Outcome::default()).await?;
        let mended_soon =
            checked.forbidden.is_some() || checked.unserved.is_some() || checked.mistake.is_some();
        let pause = if mended_soon { LOOK_FOR_RIGHTS } else { RESYNC };
        return Ok(Requeue::After(pause));
    };
    if compiled.spec.trigger.webhook_name().is_some() {
        context.evaluators.looks_elsewhere(namespace, name, now());
        return received::reconcile(context, &rule, &checked, (&compiled, &account)).await;
    }
    let origin = Origin::of(context, (&rule, &compiled, &account)).await?;
    let mut seen = origin.seen();
    let case = Case { rule: &rule, compiled: &compiled, account: &account, seen: &seen };
    let mut fired = decide(context, case).await;
    context.evaluators.object(namespace, name, std::mem::take(&mut fired.objected));
    origin.decided(context, case, &mut fired).await;
    told::held(context, case, origin.begun(&fired.holds, &rule)).await;
    if let Some((target, error)) = fired.failed.as_ref().filter(|(_, error)| error.is_lasting()) {
        seen.mistake = Some(format!("{}/{}: {error}", target.kind, target.name));
    }
    seen.mistake = seen.mistake.or_else(|| fired.mistake.take());
    seen.held = fired.held.take();
    let is_told = fired.failed.is_none() && context.evaluators.objected(namespace, name).is_empty();
    match origin.settles_in().filter(|_| is_told) {
        Some(pause) => fired.wake_in(pause),
        None => write_status(context, &rule, &checked, Some((&seen, origin.waiting())), &mut fired).await?,
    }
    if let Some((_, error)) = fired.failed.take() {
        return Err(error);
    }
    let pause = if checked.is_partial { LOOK_FOR_RIGHTS } else { RESYNC };
    Ok(Requeue::After(fired.wake.map_or(pause, |wake| wake.min(pause))))
}

/// Checks the text and what it names. Before the text is refused it is looked whether its kinds have changed.
async fn checked(context: &Context, rule: &Rule) -> Checked {
    let versions = check::api_versions(&rule.spec);
    let look = async |age| {
        let fields = context.published.of(&context.home, &versions, age).await;
        let is_partial = fields.is_partial;
        Checked { is_partial, ..context.evaluators.good.check(context, rule, fields) }
    };
    let checked = look(published::BELIEVED).await;
    if checked.mistake.is_none() { checked } else { look(published::DOUBTED).await }
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
    // Whoever led before this process has looked for all rules that there were.
    let led = context.unled.filter(|(_, began)| compiled.created_at < *began);
    let led = led.map(|(from, _)| Looked { until: Some(from), settled: context.settled }.for_rule(rule));
    let looked = context.evaluators.looked(&namespace, &name).or(led).unwrap_or_default();
    let before = (objected_until(rule), looked);
    let started_for = (generation, account);
    let evaluator = Arc::new(Evaluator::start(context, compiled, started_for, before).await?);
    context.evaluators.set(&namespace, &name, Some(evaluator.clone()));
    Ok(evaluator)
}

/// What a round of decisions came to.
#[derive(Default)]
struct Outcome {
    wake: Option<Duration>,
    /// Targets that match and are not recorded: the rule observes, and has as many open records as are kept.
    unrecorded: usize,
    /// Targets that match and have to wait.
    holds: Holds,
    /// Whether the watch was too old to say anything.
    is_blind: bool,
    /// The first target about which nothing could be done: it does not stop the others.
    failed: Option<(TargetKey, Error)>,
    /// The events that are done with.
    decided: Vec<String>,
    /// Those of them that something spoke against.
    objected: Vec<ObjectedEvent>,
    /// The first target that is held because something speaks against acting.
    held: Option<String>,
    /// Something about which it cannot be told whether it speaks against acting.
    mistake: Option<String>,
    /// How far the schedule has come.
    schedule: Option<ScheduleStatus>,
}

impl Outcome {
    fn wake_in(&mut self, pause: Duration) {
        self.wake = Some(self.wake.map_or(pause, |known| known.min(pause)));
    }

    /// A little late rather than a little early: timestamps have whole microseconds.
    fn wake_at(&mut self, time: Timestamp) {
        let pause = Duration::try_from(time.duration_since(now())).unwrap_or_default();
        self.wake_in(pause + Duration::from_millis(5));
    }

    /// Takes in what came of an event.
    fn edge(&mut self, edge: &Edge, decided: Decided) {
        self.decided.push(edge.occurrence.clone());
        match decided {
            Decided::Suppressed(_, Some(objection)) => {
                self.objected.push(ObjectedEvent { id: edge.occurrence.clone(), time: Time(edge.time) });
                self.mistake = self.mistake.take().or(objection.mistake);
            }
            Decided::Fired(_) | Decided::Suppressed(_, None) | Decided::Failed(_) => {}
        }
    }

    /// Takes in what is decided about a target, where nothing is to be done at the moment.
    fn judged(
        &mut self,
        context: &Context,
        case: Case<'_>,
        (target, view): (&TargetKey, Option<&TargetView>),
        verdict: &Verdict,
    ) {
        match *verdict {
            Verdict::Prove => self.wake_in(prove(context, case, now())),
            Verdict::Held(held, until) => {
                self.is_blind |= held == Held::Blind;
                if let Some(view) = view {
                    self.holds.insert(target.clone(), Hold { target: view.target.clone(), held, until });
                }
                match (held, until) {
                    (Held::ObservedLimit, _) => self.unrecorded += 1,
                    (_, Some(until)) => self.wake_at(until),
                    (_, None) => self.wake_in(LOOK_AGAIN),
                }
            }
            Verdict::Clear | Verdict::InEpisode | Verdict::Close | Verdict::Fire { .. } => {}
        }
    }

    fn object(&mut self, target: &TargetKey, objection: &Objection) {
        self.held.get_or_insert_with(|| format!("{}/{}: {}", target.kind, target.name, objection.reason));
        if let Some(mistake) = &objection.mistake {
            self.mistake.get_or_insert_with(|| format!("unless {}: {mistake}", objection.reason));
        }
    }

    /// Takes in what came of one target, whatever is new in it.
    fn add(&mut self, one: Self) {
        let Self { wake, unrecorded, holds, is_blind, failed, decided, objected, held, mistake, schedule } =
            one;
        if let Some(pause) = wake {
            self.wake_in(pause);
        }
        self.unrecorded += unrecorded;
        self.holds.extend(holds);
        self.is_blind |= is_blind;
        self.failed = self.failed.take().or(failed);
        self.decided.extend(decided);
        self.objected.extend(objected);
        self.held = self.held.take().or(held);
        self.mistake = self.mistake.take().or(mistake);
        self.schedule = self.schedule.take().or(schedule);
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

async fn decide(context: &Context, case: Case<'_>) -> Outcome {
    let Case { compiled, seen, .. } = case;
    let mut outcome = Outcome::default();
    let open = context.executions.open_beside(&compiled.facts, &seen.targets);
    let matching = seen.targets.iter().map(|(target, view)| (&**target, Some(&**view)));
    let targets = matching.chain(open.iter().map(|target| (target, None)));
    let mut rounds = FuturesOrdered::new();
    for (target, view) in targets {
        let executions = context.executions.of_target(&compiled.facts, target);
        // Most targets are as they were: only who has something to wait for becomes a future, which is large.
        match judge(context, case, (target, view, &executions)) {
            verdict @ (Verdict::Fire { .. } | Verdict::Close) => {
                if rounds.len() == DECIDING
                    && let Some(round) = rounds.next().await
                {
                    outcome.add(round);
                }
                rounds.push_back(decide_target(context, case, (target, view, executions), verdict));
            }
            verdict => outcome.judged(context, case, (target, view), &verdict),
        }
    }
    while let Some(round) = rounds.next().await {
        outcome.add(round);
    }
    let chosen = chosen(compiled, seen);
    for edge in &seen.edges {
        let (target, wish) = (TargetKey::from(&edge.target), chosen.get(edge.occurrence.as_str()).copied());
        let known = context.executions.of_target(&compiled.facts, &target);
        match decide_edge(context, case, (edge, &known, wish), &mut outcome).await {
            Ok(Some(decided)) => outcome.edge(edge, decided),
            Ok(None) => {}
            // It stays, and is tried again with the rule.
            Err(error) => drop(outcome.failed.get_or_insert((target, error))),
        }
    }
    outcome
}

/// Decides about an event; nothing comes of it as long as a later one may be the one that counts.
async fn decide_edge(
    context: &Context,
    case: Case<'_>,
    (edge, known, chosen): (&Edge, &[Arc<Execution>], Option<Chosen>),
    outcome: &mut Outcome,
) -> Result<Option<Decided>> {
    match chosen {
        Some(Chosen::Wait(until)) => {
            match until < now() {
                true => outcome.wake_in(prove(context, case, now())),
                false => outcome.wake_at(until),
            }
            return Ok(None);
        }
        Some(Chosen::Drop) => {
            return Ok(Some(fire::suppress(context, case, edge, Suppressed::Superseded, None).await));
        }
        Some(Chosen::Take) | None => {}
    }
    match fire::edge(context, case, (edge, known)).await {
        Err(error) if error.is_lasting() => {
            Ok(Some(fire::fail(context, case, edge, error.to_string()).await))
        }
        decided => decided.map(Some),
    }
}

/// Which of several events are acted on, where that is known only when the last one is.
fn chosen<'a>(compiled: &CompiledRule, seen: &'a Seen) -> BTreeMap<&'a str, Chosen> {
    let mut chosen = BTreeMap::new();
    let Some(once) = compiled.facts.once.as_ref().filter(|once| once.take == Take::Last) else {
        return chosen;
    };
    let mut targets = BTreeMap::<TargetKey, Vec<_>>::new();
    for edge in &seen.edges {
        targets.entry(TargetKey::from(&edge.target)).or_default().push((edge.time, edge.occurrence.as_str()));
    }
    let Sight { heard_at, complete_at, .. } = seen.sight;
    let known_by = complete_at.max(heard_at.map(handled_by)).unwrap_or(Timestamp::MIN);
    for events in targets.into_values() {
        chosen.extend(choose(once, events, known_by));
    }
    chosen
}

/// What is to be done about one target, by what is known.
fn judge(
    context: &Context,
    case: Case<'_>,
    (target, view, executions): (&TargetKey, Option<&TargetView>, &[Arc<Execution>]),
) -> Verdict {
    let Case { compiled, seen, .. } = case;
    let (past, now) = (past_of(executions), now());
    let sight = seen.sight_of(target);
    let question = Question { rule: &compiled.facts, target, view, sight, past: &past };
    let verdict = episode::decide(question, Load::default(), context.caps, now);
    let Verdict::Fire { id, .. } = &verdict else { return verdict };
    // What goes on elsewhere is counted only for who would fire else.
    let counted = Counted { rule: &compiled.facts, target, since: None, now };
    let load = context.places.load(&context.executions, counted, id);
    episode::decide(question, load, context.caps, now)
}

/// Does what is to be done about one target.
async fn decide_target(
    context: &Context,
    case: Case<'_>,
    (target, view, executions): (&TargetKey, Option<&TargetView>, Vec<Arc<Execution>>),
    verdict: Verdict,
) -> Outcome {
    let mut outcome = Outcome::default();
    let done = match (&verdict, view) {
        (Verdict::Close, _) => fire::close(context, &executions).await.map(|()| Fired::Done),
        (_, Some(view)) => fire::state(context, case, (view, &executions)).await,
        (_, None) => Ok(Fired::Done),
    };
    match done {
        Ok(Fired::Done) => {}
        Ok(Fired::Changed) => outcome.wake_in(LOOK_AGAIN),
        Ok(Fired::Objected(objection)) => {
            outcome.object(target, &objection);
            outcome.judged(context, case, (target, view), &Verdict::Held(Held::Unless, None));
        }
        Ok(Fired::Decided(otherwise)) => outcome.judged(context, case, (target, view), &otherwise),
        Err(error) => outcome.failed = Some((target.clone(), error)),
    }
    outcome
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
fn targets<'a>(
    matching: impl Iterator<Item = &'a TargetKey>,
    executions: &'a Executions,
) -> BTreeSet<&'a TargetKey> {
    let is_open = |e: &Arc<Execution>| e.status.as_ref().is_none_or(|s| s.episode_closed_at.is_none());
    let open = executions.iter().filter(|(_, executions)| executions.iter().any(is_open));
    matching.chain(open.map(|(target, _)| target)).collect()
}

fn executions_of(context: &Context, compiled: &CompiledRule) -> Executions {
    let mut executions = Executions::new();
    for execution in context.executions.of_rule(&compiled.facts.namespace, &compiled.facts.name) {
        if let Some(target) = execution.spec.target.as_ref().map(TargetKey::from) {
            executions.entry(target).or_default().push(execution);
        }
    }
    executions
}

fn past_of(executions: &[Arc<Execution>]) -> Vec<Past> {
    executions.iter().filter_map(|execution| Past::of(execution)).collect()
}

/// Until when events happened that are decided, and of which no more is known.
fn objected_until(rule: &Rule) -> Option<Timestamp> {
    rule.status.as_ref().and_then(|status| status.objected_until.as_ref()).map(|until| until.0)
}

/// Keeps the newest events that may come again, and of the others until when they happened.
fn remember(status: &mut RuleStatus, now: Timestamp) {
    let objected = &mut status.objected;
    objected.sort_by(|a, b| (a.time.0, &a.id).cmp(&(b.time.0, &b.id)));
    objected.dedup_by(|a, b| a.id == b.id);
    let old = objected.partition_point(|event| now.duration_since(event.time.0) >= OLDEST + OLDEST);
    let many = objected.len().saturating_sub(OBJECTED).max(old);
    if let Some(newest) = objected.drain(..many).next_back() {
        // It is a whole second: what happened within it is before its end.
        let until = newest.time.0.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let known = status.objected_until.take();
        status.objected_until = Some(Time(known.map_or(until, |known| known.0.max(until))));
    }
}

/// Notes when the rule fired last; if that was noted a moment ago, says in how long it is to be noted.
fn note_fired(noted: &mut Option<Time>, fired: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let before = noted.as_ref().map(|noted| noted.0);
    let fired = fired.filter(|fired| before.is_none_or(|before| before < *fired))?;
    let passed = before.map_or(NOTE_FIRED, |before| now.duration_since(before).unsigned_abs());
    let left = NOTE_FIRED.saturating_sub(passed);
    if left.is_zero() {
        *noted = Some(Time(fired));
    }
    (!left.is_zero()).then_some(left)
}

async fn write_status(
    context: &Context,
    rule: &Arc<Rule>,
    checked: &Checked,
    watched: Option<(&Seen, Option<&Waiting>)>,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut fresh: RuleStatus = rule.status.clone().unwrap_or_default();
    let seen = watched.map(|(seen, _)| seen);
    checks::conditions(&mut fresh.conditions, rule, checked, seen, now());
    fresh.trigger = Some(checks::trigger(&rule.spec.trigger));
    if let Some((seen, Some(waiting))) = watched {
        let is_blind = outcome.is_blind || seen.sight.heard_at.is_none();
        waiting.show(&outcome.holds, is_blind, &mut fresh);
    } else {
        // What is not watched is not held.
        (fresh.held, fresh.held_count) = (Vec::new(), None);
    }
    fresh.observed_generation = rule.metadata.generation;
    fresh.dropped = seen.and_then(|seen| i64::try_from(seen.dropped).ok()).filter(|count| *count > 0);
    if rule.spec.trigger.schedule.is_none() {
        fresh.schedule = None;
    } else if outcome.schedule.is_some() {
        fresh.schedule.clone_from(&outcome.schedule);
    }
    let (namespace, name) = (rule.namespace().unwrap_or_default(), rule.name_any());
    let objected = context.evaluators.objected(&namespace, &name);
    fresh.objected.extend(objected.iter().cloned());
    remember(&mut fresh, now());
    fresh.unrecorded = i32::try_from(outcome.unrecorded).ok().filter(|count| *count > 0);
    let fired = checked.compiled.as_ref().and_then(|compiled| context.executions.last_fired(&compiled.facts));
    if let Some(left) = note_fired(&mut fresh.last_fired_at, fired, now()) {
        outcome.wake_in(left);
    }
    if let Some(written) = status::write(&context.home, &**rule, rule.status.as_ref(), &fresh).await? {
        context.rules.insert(Arc::new(written));
        told::trouble(context, rule, &fresh, now());
    }
    context.evaluators.noted(&namespace, &name, &objected);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_noted_once_in_a_while_and_its_end_too() {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let mut noted = None;
        let mut note = |fired, now| {
            let left = note_fired(&mut noted, fired, at(now));
            (noted.as_ref().map(|noted: &Time| noted.0), left)
        };
        assert_eq!(note(None, 100), (None, None), "it has never fired");
        assert_eq!(note(Some(at(100)), 100), (Some(at(100)), None));
        assert_eq!(note(Some(at(103)), 104), (Some(at(100)), Some(Duration::from_secs(6))));
        assert_eq!(note(Some(at(103)), 110), (Some(at(103)), None), "the last one is not forgotten");
        assert_eq!(note(Some(at(103)), 150), (Some(at(103)), None), "nothing new");
        assert_eq!(
            note(Some(at(90)), 150),
            (Some(at(103)), None),
            "of the newest nothing is left but the note"
        );
    }

    #[test]
    fn of_events_that_something_spoke_against_none_is_decided_anew() {
        let at = |milliseconds| Timestamp::UNIX_EPOCH + SignedDuration::from_millis(milliseconds);
        let event = |number: i64| ObjectedEvent { id: number.to_string(), time: Time(at(number * 300)) };
        // As the API server gives it back.
        let stored = |status: &RuleStatus| -> RuleStatus {
            serde_json::from_value(serde_json::json!(status)).expect("a status")
        };
        let mut status = RuleStatus::default();
        for batch in [0..40, 90..130, 40..90] {
            status.objected.extend(batch.map(event));
            remember(&mut status, at(60_000));
            status = stored(&status);
        }
        let until = status.objected_until.clone().expect("some are not listed").0;
        for number in 0..130 {
            let is_listed = status.objected.iter().any(|known| known.id == number.to_string());
            assert!(is_listed || event(number).time.0 < until, "{number}");
        }
        assert!(event(129).time.0 > until, "{until}: what comes later is decided");
        let mut old = RuleStatus { objected: vec![event(0)], ..RuleStatus::default() };
        remember(&mut old, at(0) + OLDEST + OLDEST);
        assert_eq!((old.objected.len(), old.objected_until.map(|until| until.0)), (0, Some(at(1000))));
    }
}
