//! From a verdict to a durable Execution: the one place where an edge becomes an object.

use std::sync::Arc;
use std::time::Instant;

use futures::try_join;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::load::{Counted, Places, Taken};
use super::seen::Edge;
use super::{Case, checks, objection, past_of, told};
use crate::api::{
    ANNOTATION, CapturedEvent, Decision, Execution, ExecutionSpec, Guard, LABEL, MatchedObject, Mode,
    ObjectReference, Rule, RuleReference, TriggerEvent,
};
use crate::cluster::account::Account;
use crate::cluster::events::Telling;
use crate::cluster::objects::{MANAGER, Objects};
use crate::cluster::{Error, Result, owners, status};
use crate::controller::context::Context;
use crate::controller::definitions;
use crate::controller::executions::Executions;
use crate::controller::lead::matched;
use crate::controller::looks::Look;
use crate::controller::queue::Kind;
use crate::controller::recheck::{self, Standing};
use crate::decide::definition::Definition;
use crate::decide::ended::{self, End};
use crate::decide::episode::{self, Caps, EdgeQuestion, Question, Suppressed, Verdict};
use crate::decide::execution::EXECUTION_FINALIZER;
use crate::decide::guards::asked;
use crate::decide::identity::{TargetKey, execution_name, occurrence};
use crate::decide::matching::{CompiledRule, received};
use crate::decide::unless::Objection;
use crate::decide::view::TargetView;
use crate::expr::Bindings;
use crate::source::watch::now;

/// What a decision is made of.
pub struct Making<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Identity of the decision.
    pub id: String,
    /// What tells it from the one before.
    pub occurrence: String,
    /// What is to be remedied.
    pub target: &'a ObjectReference,
    /// What matched.
    pub matched: &'a MatchedObject,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The event, if the API server does not keep it.
    pub event: Option<&'a TriggerEvent>,
    /// The events that led to it together.
    pub captured: &'a [CapturedEvent],
    /// How many Executions it follows from.
    pub depth: u32,
    /// The guards that let it pass.
    pub passed: Vec<Guard>,
}

impl Making<'_> {
    /// The name of its Execution.
    pub fn name(&self) -> String {
        execution_name(&self.rule.name_any(), &self.id)
    }
}

/// What came of firing for a target that matches.
pub enum Fired {
    /// It has its Execution.
    Done,
    /// It is decided otherwise, by what the store has.
    Decided(Verdict),
    /// Something speaks against acting now.
    Objected(Objection),
    /// What matched does not match any more; the watch will say so.
    Changed,
}

/// Fires for a target that matches, after a last look at it. What is known of its Executions may be a moment old: the name
/// of the next follows from the one before, so that where there is one already the creation is refused.
pub async fn state(
    context: &Context,
    case: Case<'_>,
    (view, known): (&TargetView, &[Arc<Execution>]),
) -> Result<Fired> {
    let Case { rule, compiled, account, seen } = case;
    let target = TargetKey::from(&view.target);
    let past = past_of(known);
    let question =
        Question { rule: &compiled.facts, target: &target, view: Some(view), sight: seen.sight, past: &past };
    let now = now();
    let counted = Counted { rule: &compiled.facts, target: &target, since: None, now };
    let taken = context.places.take(&context.executions, counted, |load| {
        match episode::decide(question, load, context.caps, now) {
            Verdict::Fire { id, occurrence } => Ok((id, occurrence)),
            verdict => Err(verdict),
        }
    });
    let (id, occurrence, place) = match taken {
        Ok(taken) => taken,
        Err(verdict) => return Ok(Fired::Decided(verdict)),
    };
    let began = Instant::now();
    let looked = recheck::still(context, account, compiled, view);
    let Some(Standing { object, captured }) = try_join!(looked, permitted(context, account))?.0 else {
        return Ok(Fired::Changed);
    };
    let matched = matched(&object);
    context.journal.object(&matched, &object);
    let bindings = Bindings::at(now).with("object", object.clone());
    if let Some(objection) = objection::raised(context, case, (bindings, &captured), &view.target).await? {
        return Ok(Fired::Objected(objection));
    }
    let making = Making {
        rule,
        id,
        occurrence,
        target: &view.target,
        matched: &matched,
        since: Some(view.since),
        event: None,
        captured: &captured,
        depth: 0,
        passed: passed(compiled),
    };
    let look = Some(Look { began, object: Some(object) });
    create(context, making, (place, look)).await.map(|()| Fired::Done)
}

/// Fires for an event, or records why not.
pub async fn edge(
    context: &Context,
    case: Case<'_>,
    (edge, known): (&Edge, &[Arc<Execution>]),
) -> Result<Decided> {
    let Case { rule, compiled, account, .. } = case;
    note(context, compiled, edge);
    let mut objected = context.evaluators.objected(&compiled.facts.namespace, &compiled.facts.name);
    objected.extend(rule.status.iter().flat_map(|status| &status.objected).cloned());
    let is_forgotten = case.seen.forgotten.is_some_and(|until| edge.since < until);
    if is_forgotten || objected.iter().any(|event| event.id == edge.occurrence) {
        return Ok(Decided::Suppressed(Suppressed::Unless, None));
    }
    let stores = (&context.places, &context.executions);
    let (id, place) = match ask(stores, compiled, (edge, known), (context.caps, now())) {
        Ok(Asked::Has(name)) => return Ok(Decided::Fired(name)),
        Ok(Asked::Fires(id, place)) => (id, place),
        Err(suppressed) => return Ok(suppress(context, case, edge, suppressed, None).await),
    };
    // Only for who would fire: in a flood hardly anybody does.
    let Some(live) = live(context, account, &edge.target).await? else {
        return Ok(fail(context, case, edge, format!("{} does not exist", edge.target)).await);
    };
    let bindings = received(&edge.data, &compiled.spec.trigger, now());
    let began = Instant::now();
    let raised = objection::raised(context, case, (bindings, &edge.captured), &live);
    if let Some(objection) = try_join!(raised, permitted(context, account))?.0 {
        return Ok(suppress(context, case, edge, Suppressed::Unless, Some(objection)).await);
    }
    answer(context, case, (edge, &live), (id, place, began)).await.map(Decided::Fired)
}

/// Makes the Execution of an event, for which a place is taken, on its target as it was looked at, and gives its name.
pub async fn answer(
    context: &Context,
    case: Case<'_>,
    (edge, live): (&Edge, &ObjectReference),
    (id, place, began): (String, Taken<'_>, Instant),
) -> Result<String> {
    let making = Making {
        rule: case.rule,
        id,
        occurrence: edge.occurrence.clone(),
        target: live,
        matched: &edge.event,
        since: Some(edge.since),
        event: edge.recorded.as_ref(),
        captured: &edge.captured,
        depth: edge.depth,
        passed: passed(case.compiled),
    };
    let name = making.name();
    create(context, making, (place, Some(Look { began, object: None }))).await?;
    Ok(name)
}

/// What an event comes to that is not suppressed, by what is known of Executions.
pub enum Asked<'p> {
    /// The Execution of this name was made of it.
    Has(String),
    /// It gets one with this identity, for which a place is taken.
    Fires(String, Taken<'p>),
}

/// Asks what an event comes to, given the Executions of the rule and its target.
///
/// # Errors
/// Why it comes to nothing.
pub fn ask<'p>(
    (places, executions): (&'p Places, &Executions),
    compiled: &CompiledRule,
    (edge, known): (&Edge, &[Arc<Execution>]),
    (caps, now): (Caps, Timestamp),
) -> std::result::Result<Asked<'p>, Suppressed> {
    let (facts, target, past) = (&compiled.facts, TargetKey::from(&edge.target), past_of(known));
    if let Some(id) = executions.made_of(facts, &edge.occurrence) {
        return Ok(Asked::Has(execution_name(&facts.name, &id)));
    }
    let counted = Counted { rule: facts, target: &target, since: Some(edge.since), now };
    let question = EdgeQuestion {
        rule: facts,
        rule_created_at: compiled.created_at,
        target: &target,
        occurrence: &edge.occurrence,
        time: edge.since,
        depth: edge.depth,
        past: &past,
    };
    let decide = |load| episode::decide_edge(question, load, caps).map(|id| (id, ()));
    let (id, (), place) = places.take(executions, counted, decide)?;
    if past.iter().any(|past| past.id == id) {
        return Ok(Asked::Has(execution_name(&facts.name, &id)));
    }
    // Its own record may be gone: of those of a rule that observes only so many are kept.
    if facts.mode == Mode::Enforce && executions.observed_at(facts, edge.since) {
        return Err(Suppressed::BeforeRule);
    }
    Ok(Asked::Fires(id, place))
}

/// Asks what is to be done about the end of an alert, given the Executions of the rule and its target: a place is taken for
/// the one that is to be created, of this identity.
///
/// # Errors
/// What is to be done otherwise.
pub fn ask_end<'p>(
    (places, executions): (&'p Places, &Executions),
    compiled: &CompiledRule,
    (edge, known): (&Edge, &[Arc<Execution>]),
    (caps, now): (Caps, Timestamp),
) -> std::result::Result<(String, Taken<'p>), ended::Verdict> {
    let (facts, target, past) = (&compiled.facts, TargetKey::from(&edge.target), past_of(known));
    let (rule_created_at, occurrence, time) = (compiled.created_at, &edge.occurrence, edge.time);
    if let Some(id) = executions.made_of(facts, occurrence) {
        return Err(ended::Verdict::Fired(id));
    }
    let end = End { rule: facts, rule_created_at, target: &target, occurrence, time, past: &past };
    let counted = Counted { rule: facts, target: &target, since: None, now };
    let decide = |load| match ended::decide(end, load, caps, now) {
        ended::Verdict::Fire(id) => Ok((id, ())),
        otherwise => Err(otherwise),
    };
    let (id, (), place) = places.take(executions, counted, decide)?;
    // Its own record may be gone: of those of a rule that observes only so many are kept.
    if facts.mode == Mode::Enforce && executions.observed_at(facts, edge.time) {
        return Err(ended::Verdict::Dropped(Suppressed::BeforeRule));
    }
    Ok((id, place))
}

/// The target with its UID; none if there is none. A name needs no object.
pub async fn live(
    context: &Context,
    account: &Account,
    target: &ObjectReference,
) -> Result<Option<ObjectReference>> {
    if target.is_key() || target.uid.is_some() {
        return Ok(Some(target.clone()));
    }
    let objects = Objects::around(account.client(), &context.kinds, target).await?;
    let found = objects.get(&target.name).await?;
    Ok(found.map(|object| ObjectReference { uid: owners::reference(&object).uid, ..target.clone() }))
}

/// Fails if the account is not allowed any more at this moment. What is about to fire waits then: the rule says so when it
/// is looked at again.
pub async fn permitted(context: &Context, account: &Account) -> Result<()> {
    let (namespace, name) = account.namespace_and_name();
    match context.accounts.live(&context.home, namespace, name).await {
        Err(error) if error.is_forbidden() => Err(Error::Busy(error.to_string())),
        read => read.map(drop),
    }
}

/// Tells the journal of an event that matches. What a Webhook received is told with its outcome.
fn note(context: &Context, compiled: &CompiledRule, edge: &Edge) {
    match &edge.recorded {
        None => context.journal.kubernetes_event(&edge.event, (&edge.occurrence, edge.time), &edge.data),
        Some(event) if compiled.spec.trigger.webhook_name().is_none() => {
            context.journal.told(event, &compiled.facts.namespace);
        }
        Some(_) => {}
    }
}

/// The guards that let a decision of the rule pass.
pub fn passed(compiled: &CompiledRule) -> Vec<Guard> {
    let unless = (!compiled.unless.is_empty()).then_some(Guard::Unless);
    asked(&compiled.facts).into_iter().chain(unless).collect()
}

/// What came of an event that was decided.
pub enum Decided {
    /// It has the Execution of this name.
    Fired(String),
    /// It leads to nothing, maybe because something spoke against it.
    Suppressed(Suppressed, Option<Objection>),
    /// It leads to nothing, because something is wrong that will not be better the next time.
    Failed(String),
}

/// Counts and records that an event leads to nothing.
pub async fn suppress(
    context: &Context,
    case: Case<'_>,
    edge: &Edge,
    suppressed: Suppressed,
    objection: Option<Objection>,
) -> Decided {
    let rule = case.rule;
    context.metrics.suppressed(suppressed, &rule.namespace().unwrap_or_default(), &rule.name_any());
    let why = objection
        .as_ref()
        .map_or_else(|| format!("{suppressed:?}"), |found| format!("{suppressed:?} {found}"));
    context.journal.suppressed(rule, &edge.target, &identity(edge), &why);
    if suppressed != Suppressed::BeforeRule {
        told::suppressed(context, case, edge, &why).await;
    }
    Decided::Suppressed(suppressed, objection)
}

/// Records that an event leads to nothing because something is wrong. Of what a Webhook received that is its outcome, which the
/// journal has anyway.
pub async fn fail(context: &Context, case: Case<'_>, edge: &Edge, why: String) -> Decided {
    if case.compiled.spec.trigger.webhook_name().is_none() {
        context.journal.failed(case.rule, Some(&edge.target), &identity(edge), &why);
    }
    told::suppressed(context, case, edge, &why).await;
    Decided::Failed(why)
}

/// What an event is known by in the journal.
fn identity(edge: &Edge) -> String {
    edge.recorded.as_ref().map_or_else(|| edge.occurrence.clone(), occurrence)
}

/// Makes the Execution of a decision, for which a place is taken, after a look that it may begin with, unless it is there.
pub async fn create(
    context: &Context,
    making: Making<'_>,
    (place, look): (Taken<'_>, Option<Look>),
) -> Result<()> {
    let actions = checks::actions(context, making.rule).map_err(Error::Unexpected)?;
    let definition = Definition::of_rule(&making.rule.spec, actions);
    let (namespace, rule_name) = (making.rule.namespace().unwrap_or_default(), making.rule.name_any());
    let definition_name = definition.name(&rule_name);
    let _kept = definitions::keep(context, &namespace, &definition_name, &definition).await?;
    let execution = build(&making, &definition_name, now());
    let api: Api<Execution> = Api::namespaced(context.home.clone(), &namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &execution).await {
        Ok(created) => {
            tracing::info!(rule = %rule_name, target = %making.target, execution = %created.name_any(), "fired");
            context.metrics.evaluated(&namespace, &rule_name, "fired");
            context.journal.fired(&created);
            if let (Some(look), Some(uid)) = (look, &created.metadata.uid) {
                context.looks.keep(uid, look);
            }
            let created = Arc::new(created);
            context.executions.insert(created.clone());
            context.queue.add(Kind::Execution, &namespace, &created.name_any());
            announce(context, &making, &created).await;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = adopt(&api, &making, &execution.name_any()).await?;
            context.executions.insert(Arc::new(found));
            // What the watch brings of it is no news any more.
            context.queue.add(Kind::Execution, &namespace, &execution.name_any());
            Ok(())
        }
        Err(source) => {
            // Without an answer, or with one from between, nobody knows whether it was created.
            if !matches!(&source, kube::Error::Api(status) if status.code < 500) {
                place.stay();
            }
            Err(Error::Request { action: format!("create Execution {}", execution.name_any()), source })
        }
    }
}

/// An Execution of this name exists: it is ours if its whole identity is the same.
async fn adopt(api: &Api<Execution>, making: &Making<'_>, name: &str) -> Result<Execution> {
    let found = api.get(name).await.map_err(Error::request(format!("read Execution {name}")))?;
    if found.spec.decision.as_ref().is_some_and(|decision| decision.id == making.id) {
        return Ok(found);
    }
    Err(Error::Unexpected(format!("Execution {name} exists with another identity; refusing to take it over")))
}

/// The Execution of a decision that is made at a time.
pub(super) fn build(making: &Making<'_>, definition: &str, time: Timestamp) -> Execution {
    let rule = making.rule;
    let annotation = |key: &str| rule.annotations().get(key).cloned();
    let decision = Decision {
        id: making.id.clone(),
        time: Time(time),
        rule: RuleReference {
            name: rule.name_any(),
            generation: rule.metadata.generation,
            revision: annotation(ANNOTATION.revision),
            source: annotation(ANNOTATION.source),
        },
        mode: rule.spec.mode,
        occurrence: making.occurrence.clone(),
        matched: making.matched.clone(),
        event: making.event.cloned(),
        captured: making.captured.to_vec(),
        depth: i32::try_from(making.depth).ok().filter(|depth| *depth > 0),
        since: making.since.map(Time),
        passed: making.passed.clone(),
        definition: definition.to_owned(),
    };
    let spec = ExecutionSpec {
        service_account_name: rule.spec.service_account_name.clone(),
        target: Some(making.target.clone()),
        decision: Some(decision),
        ..ExecutionSpec::default()
    };
    let mut execution = Execution::new(&making.name(), spec);
    execution.metadata.namespace = rule.namespace();
    execution.metadata.finalizers = Some(vec![EXECUTION_FINALIZER.to_owned()]);
    let labels = [
        ("app.kubernetes.io/managed-by", MANAGER.to_owned()),
        (LABEL.rule, rule.name_any()),
        (LABEL.target_hash, TargetKey::from(making.target).hash()),
    ];
    execution.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value)).into());
    execution
}

async fn announce(context: &Context, making: &Making<'_>, execution: &Execution) {
    let mode = making.rule.spec.mode;
    let related = crate::controller::reference_to(execution);
    let telling = Telling {
        name: format!("{}-fired", execution.name_any()),
        reason: "RuleFired",
        warning: false,
        note: format!("Rule {} matched {} ({mode:?})", making.rule.name_any(), making.matched.object),
        regarding: making.target,
        related: Some(&related),
    };
    context.teller.tell(&telling, now()).await;
}

/// Records that the episode of a target's Executions is over.
pub async fn close(context: &Context, executions: &[Arc<Execution>]) -> Result<()> {
    let open = executions
        .iter()
        .filter(|e| e.is_finished() && e.status.as_ref().is_some_and(|s| s.episode_closed_at.is_none()));
    for execution in open {
        let mut fresh = execution.status.clone().unwrap_or_default();
        fresh.episode_closed_at = Some(Time(now()));
        if let Some(written) =
            status::write(&context.home, &**execution, execution.status.as_ref(), &fresh).await?
        {
            context.journal.closed(&written);
            context.executions.insert(Arc::new(written));
        }
    }
    Ok(())
}
