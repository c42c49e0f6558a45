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

/// Deletes the definitions that no Execution names.
async fn definitions(context: &Context) -> Result<()> {
    let named: BTreeSet<(String, String)> = context
        .executions
        .filter(|_| true)
        .iter()
        .filter_map(|e| Some((e.namespace()?, e.definition()?.to_owned())))
        .collect();
    let api: Api<ControllerRevision> = Api::all(context.home.clone());
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let found = api.list(&ours).await.map_err(Error::request("list definitions"))?;
    for revision in found.items {
        let (namespace, name) = (revision.namespace().unwrap_or_default(), revision.name_any());
        let old = revision.creation_timestamp().is_some_and(|at| now().duration_since(at.0) > DEFINITION_AGE);
        let key = (namespace.clone(), name.clone());
        if !old || named.contains(&key) {
            continue;
        }
        context.definitions.lock().remove(&key);
        let preconditions = Some(Preconditions { uid: revision.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let api: Api<ControllerRevision> = Api::namespaced(context.home.clone(), &namespace);
        let deleted = optional(api.delete(&name, &params).await);
        deleted.map_err(Error::request(format!("delete definition {name}")))?;
    }
    Ok(())
}
