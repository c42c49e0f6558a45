//! Tidying up: finished Executions that nothing needs any more, and definitions that no Execution names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, ResourceExt};

use super::context::Context;
use crate::api::{Execution, LABEL};
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
        if let Err(error) = executions(context).await {
            tracing::warn!(%error, "old Executions were not deleted");
        }
        if let Err(error) = definitions(context).await {
            tracing::warn!(%error, "old definitions were not deleted");
        }
    }
}

/// Deletes the Executions that nothing needs any more, rule by rule.
async fn executions(context: &Context) -> Result<()> {
    let mut of_rules = BTreeMap::<(String, String), Vec<Arc<Execution>>>::new();
    for execution in context.executions.filter(|_| true) {
        let rule = execution.labels().get(LABEL.rule).cloned().unwrap_or_default();
        of_rules.entry((execution.namespace().unwrap_or_default(), rule)).or_default().push(execution);
    }
    for ((namespace, rule), executions) in of_rules {
        let cooldown =
            context.rules.get(&namespace, &rule).map(|rule| rule.spec.cooldown()).unwrap_or_default();
        let references: Vec<&Execution> = executions.iter().map(AsRef::as_ref).collect();
        for name in expired(&references, cooldown, now()) {
            let api: Api<Execution> = Api::namespaced(context.home.clone(), &namespace);
            // One that was deleted and decided anew meanwhile has the same name and is another.
            let uid = references.iter().find(|e| e.name_any() == name).and_then(|e| e.uid());
            let preconditions = Some(Preconditions { uid, resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::background() };
            let deleted = optional(api.delete(&name, &params).await);
            deleted.map_err(Error::request(format!("delete Execution {name}")))?;
            tracing::info!(namespace, execution = name, "deleted, it is old");
        }
    }
    Ok(())
}

/// Deletes the definitions that no Execution names, namespace by namespace: the controller may read ControllerRevisions
/// only where it is enrolled.
async fn definitions(context: &Context) -> Result<()> {
    for namespace in namespaces(context) {
        match definitions_in(context, &namespace).await {
            Err(error) if error.is_forbidden() => {}
            other => other?,
        }
    }
    Ok(())
}

/// The namespaces in which a definition may have been kept.
fn namespaces(context: &Context) -> BTreeSet<String> {
    let of_rules = context.rules.filter(|_| true).into_iter().filter_map(|rule| rule.namespace());
    let of_executions = context.executions.filter(|_| true).into_iter().filter_map(|e| e.namespace());
    let of_actions = context.actions.filter(|_| true).into_iter().filter_map(|action| action.namespace());
    let known: Vec<_> = context.definitions.lock().keys().map(|(namespace, _)| namespace.clone()).collect();
    of_rules.chain(of_executions).chain(of_actions).chain(known).collect()
}

async fn definitions_in(context: &Context, namespace: &str) -> Result<()> {
    let here = context.executions.filter(|e| e.namespace().as_deref() == Some(namespace));
    let named: BTreeSet<&str> = here.iter().filter_map(|execution| execution.definition()).collect();
    let api: Api<ControllerRevision> = Api::namespaced(context.home.clone(), namespace);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let found = api.list(&ours).await.map_err(Error::request("list definitions"))?;
    for revision in found.items {
        let name = revision.name_any();
        let old = revision.creation_timestamp().is_some_and(|at| now().duration_since(at.0) > DEFINITION_AGE);
        if !old || named.contains(name.as_str()) {
            continue;
        }
        context.definitions.lock().remove(&(namespace.to_owned(), name.clone()));
        let preconditions = Some(Preconditions { uid: revision.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let deleted = optional(api.delete(&name, &params).await);
        deleted.map_err(Error::request(format!("delete definition {name}")))?;
    }
    Ok(())
}
