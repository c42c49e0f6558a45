//! Tidying up: finished Executions that nothing needs any more, and definitions that no Execution names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, ResourceExt};

use super::context::Context;
use crate::api::Execution;
use crate::cluster::Result;
use crate::cluster::error::{Error, optional};
use crate::cluster::objects::MANAGER;
use crate::decide::retention::expired;
use crate::source::watch::now;

/// How often it is tidied up: what is kept is counted in hours and days.
const EVERY: Duration = Duration::from_mins(10);
/// A definition is written before its Execution; a younger one may be waiting for it.
const DEFINITION_AGE: SignedDuration = SignedDuration::from_mins(10);

/// Tidies up for ever.
pub async fn run(context: &Context) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        executions(context).await;
        definitions(context).await;
        context.turns.tidy(&context.executions);
        context.accounts.tidy();
    }
}

/// Deletes the Executions that nothing needs any more, rule by rule: where it is enrolled, as the chart's policies have it.
async fn executions(context: &Context) {
    let mut of_rules = BTreeMap::<(String, String), Vec<Arc<Execution>>>::new();
    for execution in context.executions.filter(|_| true) {
        let rule = execution.rule().unwrap_or_default().to_owned();
        of_rules.entry((execution.namespace().unwrap_or_default(), rule)).or_default().push(execution);
    }
    for ((namespace, name), executions) in of_rules {
        let rule = context.rules.get(&namespace, &name);
        let memory = rule.as_ref().map(|rule| rule.spec.memory()).unwrap_or_default();
        let references: Vec<&Execution> = executions.iter().map(AsRef::as_ref).collect();
        for old in expired(&references, (rule.is_some(), memory), now()) {
            match delete(context, old).await {
                Ok(()) => tracing::info!(namespace, execution = old.name_any(), "deleted, it is old"),
                Err(error) if error.is_forbidden() => {
                    tracing::debug!(namespace, %error, "an old Execution is left to others");
                    break;
                }
                // The others may go nevertheless.
                Err(error) => tracing::warn!(namespace, %error, "an old Execution was not deleted"),
            }
        }
    }
}

/// Deletes this very Execution: one that was deleted and decided anew meanwhile has the same name and is another.
async fn delete(context: &Context, execution: &Execution) -> Result<()> {
    let (namespace, name) = (execution.namespace().unwrap_or_default(), execution.name_any());
    let api: Api<Execution> = Api::namespaced(context.home.clone(), &namespace);
    let deleted = optional(api.delete(&name, &exactly(execution.uid())).await);
    deleted.map(drop).map_err(Error::request(format!("delete Execution {name}")))
}

fn exactly(uid: Option<String>) -> DeleteParams {
    let preconditions = Some(Preconditions { uid, resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::background() }
}

/// Deletes the definitions that no Execution names, namespace by namespace: the controller may read ControllerRevisions
/// only where it is enrolled.
async fn definitions(context: &Context) {
    for namespace in namespaces(context) {
        match definitions_in(context, &namespace).await {
            Err(error) if !error.is_forbidden() => {
                tracing::warn!(namespace, %error, "old definitions were not deleted");
            }
            _ => {}
        }
    }
}

/// The namespaces in which a definition may have been kept.
fn namespaces(context: &Context) -> BTreeSet<String> {
    let of_rules = context.rules.filter(|_| true).into_iter().filter_map(|rule| rule.namespace());
    let of_executions = context.executions.filter(|_| true).into_iter().filter_map(|e| e.namespace());
    let of_actions = context.actions.filter(|_| true).into_iter().filter_map(|action| action.namespace());
    let known = context.definitions.namespaces();
    of_rules.chain(of_executions).chain(of_actions).chain(known).collect()
}

async fn definitions_in(context: &Context, namespace: &str) -> Result<()> {
    let api: Api<ControllerRevision> = Api::namespaced(context.home.clone(), namespace);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let found = api.list(&ours).await.map_err(Error::request("list definitions"))?;
    for revision in found.items {
        let name = revision.name_any();
        let old = revision.creation_timestamp().is_some_and(|at| now().duration_since(at.0) > DEFINITION_AGE);
        let is_named = || {
            context.executions.is_any(|execution| {
                execution.namespace().as_deref() == Some(namespace) && execution.definition() == Some(&name)
            })
        };
        if !old || is_named() {
            continue;
        }
        let Some(_going) = context.definitions.give_up(namespace, &name) else { continue };
        // From here on nobody begins to need it, so what names it is in the store by now.
        if is_named() {
            continue;
        }
        let deleted = optional(api.delete(&name, &exactly(revision.uid())).await);
        if let Err(error) = deleted.map_err(Error::request(format!("delete definition {name}"))) {
            tracing::warn!(namespace, %error, "an old definition was not deleted");
        }
    }
    Ok(())
}
