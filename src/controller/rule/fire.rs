//! From a verdict to a durable Execution: the one place where an edge becomes an object.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::evaluator::Edge;
use super::load::{Counted, Taken};
use super::{Case, checks, past_of, told};
use crate::api::{
    ANNOTATION, Decision, Execution, ExecutionSpec, Guard, LABEL, MatchedObject, ObjectReference, Rule,
    RuleReference,
};
use crate::cluster::events::{Telling, tell};
use crate::cluster::objects::MANAGER;
use crate::cluster::{Error, Result, status};
use crate::controller::context::Context;
use crate::controller::{definitions, recheck};
use crate::decide::definition::Definition;
use crate::decide::episode::{self, EdgeQuestion, Past, Question, Suppressed, Verdict};
use crate::decide::execution::EXECUTION_FINALIZER;
use crate::decide::guards::asked;
use crate::decide::identity::{TargetKey, execution_name};
use crate::decide::matching::CompiledRule;
use crate::decide::view::TargetView;
use crate::source::watch::now;

/// What a decision is made of.
struct Making<'a> {
    rule: &'a Rule,
    id: String,
    occurrence: String,
    target: &'a ObjectReference,
    matched: &'a MatchedObject,
    since: Option<Timestamp>,
    passed: Vec<Guard>,
}

/// What came of firing for a target that matches.
pub enum Fired {
    /// It has its Execution; since when, if it was created just now.
    Done(Option<Timestamp>),
    /// It is decided otherwise, by what the store has.
    Decided(Verdict),
    /// What matched does not match any more; the watch will say so.
    Changed,
}

/// Fires for a target that matches, after a last look at what the store itself has of it.
pub async fn state(context: &Context, case: Case<'_>, view: &TargetView) -> Result<Fired> {
    let Case { rule, compiled, account, seen } = case;
    let target = TargetKey::from(&view.target);
    let past = stored(context, compiled, &target).await?;
    let question =
        Question { rule: &compiled.facts, target: &target, view: Some(view), sight: seen.sight, past: &past };
    let counted = Counted { rule: &compiled.facts, target: &target, since: None };
    let now = now();
    let taken = context.places.take(&context.executions, counted, now, |load| {
        match episode::decide(question, load, context.caps, now) {
            Verdict::Fire { id, occurrence } => Ok((id, occurrence)),
            verdict => Err(verdict),
        }
    });
    let (id, occurrence, place) = match taken {
        Ok(taken) => taken,
        Err(verdict) => return Ok(Fired::Decided(verdict)),
    };
    if !recheck::still(context, account, compiled, &view.object).await? {
        return Ok(Fired::Changed);
    }
    let (target, matched) = (&view.target, &view.object);
    let (since, passed) = (Some(view.since), asked(&compiled.facts));
    let making = Making { rule, id, occurrence, target, matched, since, passed };
    create(context, making, place).await.map(Fired::Done)
}

/// Fires for an event, or records why not.
pub async fn edge(
    context: &Context,
    rule: &Rule,
    compiled: &CompiledRule,
    (edge, known): (&Edge, &[Arc<Execution>]),
) -> Result<Option<Timestamp>> {
    let target = TargetKey::from(&edge.target);
    let mut past = past_of(known);
    past.extend(stored(context, compiled, &target).await?);
    let question = EdgeQuestion {
        rule: &compiled.facts,
        rule_created_at: compiled.created_at,
        target: &target,
        occurrence: &edge.occurrence,
        time: edge.time,
        past: &past,
    };
    let counted = Counted { rule: &compiled.facts, target: &target, since: Some(edge.time) };
    let taken = context.places.take(&context.executions, counted, now(), |load| {
        episode::decide_edge(question, load, context.caps).map(|id| (id, ()))
    });
    match taken {
        Ok((id, ..)) if past.iter().any(|past| past.id == id) => Ok(None),
        Ok((id, (), place)) => {
            let occurrence = edge.occurrence.clone();
            let (target, matched) = (&edge.target, &edge.event);
            let (since, passed) = (Some(edge.time), asked(&compiled.facts));
            let making = Making { rule, id, occurrence, target, matched, since, passed };
            create(context, making, place).await
        }
        Err(suppressed) => {
            context.metrics.suppressed(suppressed, &rule.namespace().unwrap_or_default(), &rule.name_any());
            if suppressed != Suppressed::BeforeRule {
                told::suppressed(context, rule, edge, &format!("{suppressed:?}")).await;
            }
            Ok(None)
        }
    }
}

/// The Executions of a rule and target, by a quorum read: what a cache shows may be old.
async fn stored(context: &Context, compiled: &CompiledRule, target: &TargetKey) -> Result<Vec<Past>> {
    let api: Api<Execution> = Api::namespaced(context.home.clone(), &compiled.facts.namespace);
    let selector = format!("{}={},{}={}", LABEL.rule, compiled.facts.name, LABEL.target_hash, target.hash());
    let found = api
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::request("list Executions"))?;
    Ok(found.items.iter().filter_map(Past::of).collect())
}

async fn create(context: &Context, making: Making<'_>, place: Taken<'_>) -> Result<Option<Timestamp>> {
    let actions = checks::actions(context, making.rule).map_err(Error::Unexpected)?;
    let definition = Definition::of_rule(&making.rule.spec, actions);
    let (namespace, rule_name) = (making.rule.namespace().unwrap_or_default(), making.rule.name_any());
    let definition_name = definition.name(&rule_name);
    let _kept = definitions::keep(context, &namespace, &definition_name, &definition).await?;
    let time = now();
    let execution = build(&making, &definition_name, time);
    let api: Api<Execution> = Api::namespaced(context.home.clone(), &namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &execution).await {
        Ok(created) => {
            tracing::info!(rule = %rule_name, target = %making.target, execution = %created.name_any(), "fired");
            context.metrics.evaluated(&namespace, &rule_name, "fired");
            let created = Arc::new(created);
            context.executions.insert(created.clone());
            announce(context, &making, &created).await;
            Ok(Some(time))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            context.executions.insert(Arc::new(adopt(&api, &making, &execution.name_any()).await?));
            Ok(None)
        }
        Err(source) => {
            // Without an answer, or with one from between, nobody knows whether it was created.
            if !matches!(&source, kube::Error::Api(status) if status.code < 500) {
                place.lose();
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

fn build(making: &Making<'_>, definition: &str, time: Timestamp) -> Execution {
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
    let mut execution = Execution::new(&execution_name(&rule.name_any(), &making.id), spec);
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
    if let Err(error) = tell(&context.home, &telling, now()).await {
        tracing::warn!(%error, "event not written");
    }
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
            context.executions.insert(Arc::new(written));
        }
    }
    Ok(())
}
