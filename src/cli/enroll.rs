//! `fother enroll`: what lets the controller act as accounts of a namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::connection::Connection;
use super::installed::ControllerAccount;
use super::{Exit, apply};
use crate::api::ANNOTATION;
use crate::cluster::error::optional;
use crate::cluster::objects::MANAGER;
use crate::cluster::rights;

/// How long the cluster may take to say who is enrolled, where its answer is only welcome.
const PATIENCE: Duration = Duration::from_secs(5);

/// Let the controller act as accounts of a namespace.
///
/// Prints the account's annotation, a Role that names it and the RoleBinding that gives the controller
/// this Role; with --apply they are put into the cluster instead. The Role names those that were enrolled
/// before, too, if the cluster can be asked who they are. What the account itself may do is not changed.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 printed or applied, 1 refused, 2 could not be applied.

Examples:
  fother enroll payments --service-account healer | kubectl apply --server-side -f -
  fother enroll payments --service-account healer --service-account packs --apply")]
pub struct Enroll {
    /// The namespace.
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    /// An account of the namespace that Rules or Packs name (repeatable).
    #[arg(long = "service-account", required = true, value_name = "NAME")]
    accounts: Vec<String>,
    /// The controller's own account.
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "fother/fother")]
    controller: ControllerAccount,
    /// Apply instead of printing.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Enroll {
    /// Prints or applies it.
    pub fn run(self) -> anyhow::Result<Exit> {
        if let Some(reason) = refusal(&self.namespace, &self.controller.namespace) {
            anstream::eprintln!("fother: refused: {reason}");
            return Ok(Exit::No);
        }
        super::on_runtime(async move { if self.apply { self.apply().await } else { self.print().await } })
    }

    /// The accounts that are enrolled now, and a Role that names those that were enrolled before, too.
    fn objects(&self, together: &[String]) -> serde_json::Result<Vec<Value>> {
        let mut objects = rights::enroll(&self.namespace, together, self.controller.parts())?;
        let is_named = |object: &Value| self.accounts.iter().any(|name| object["metadata"]["name"] == **name);
        objects.retain(|object| object["kind"] != "ServiceAccount" || is_named(object));
        Ok(objects)
    }

    async fn print(&self) -> anyhow::Result<Exit> {
        let asked =
            tokio::time::timeout(PATIENCE, async { self.together(&self.connection.client().await?).await });
        let together = match asked.await.context("no answer").flatten() {
            Ok(together) => together,
            Err(error) => {
                let namespace = &self.namespace;
                anstream::eprintln!(
                    "fother: warning: the cluster could not be asked who is enrolled in {namespace} already ({error:#}): \
                     applying this takes it from all that it does not name"
                );
                self.accounts.clone()
            }
        };
        for object in self.objects(&together)? {
            anstream::print!("---\n{}", serde_saphyr::to_string(&object)?);
        }
        Ok(Exit::Yes)
    }

    async fn apply(&self) -> anyhow::Result<Exit> {
        let client = self.connection.client().await?;
        if let Some(reason) = self.obstacle(&client).await? {
            anstream::eprintln!("fother: refused: {reason}");
            return Ok(Exit::No);
        }
        for name in &self.accounts {
            self.allow(&client, name).await?;
        }
        for object in self.objects(&self.together(&client).await?)? {
            // The accounts are there and annotated.
            if object["kind"] != "ServiceAccount" {
                apply::object(&client, &object).await?;
            }
        }
        anstream::println!("enrolled {} for {}", self.namespace, self.accounts.join(", "));
        Ok(Exit::Yes)
    }

    /// What in the cluster stands against it.
    async fn obstacle(&self, client: &Client) -> anyhow::Result<Option<String>> {
        let installed = ControllerAccount::find(client).await?;
        if let Some(other) = installed.filter(|installed| *installed != self.controller) {
            return Ok(Some(format!("the controller of this cluster is {other}: give --controller {other}")));
        }
        let namespace = &self.namespace;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        for name in &self.accounts {
            let found =
                optional(accounts.get(name).await).with_context(|| format!("failed to read {name}"))?;
            if found.is_none() {
                return Ok(Some(format!(
                    "there is no ServiceAccount {namespace}/{name}; create it, with a Role of what it may do"
                )));
            }
        }
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
        let bound =
            optional(bindings.get(rights::ENROLMENT_ROLE).await).context("failed to read bindings")?;
        Ok(bound.filter(|bound| bound.role_ref.kind != "Role").map(|_| {
            let name = rights::ENROLMENT_ROLE;
            format!("RoleBinding {namespace}/{name} enrolls all accounts of the namespace; delete it first")
        }))
    }

    /// Annotates an account.
    async fn allow(&self, client: &Client, name: &str) -> anyhow::Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &self.namespace);
        let patch = json!({"metadata": {"annotations": {ANNOTATION.allow: "true"}}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = accounts.patch_metadata(name, &params, &Patch::Merge(patch)).await;
        patched.map(drop).with_context(|| format!("failed to annotate ServiceAccount {name}"))
    }

    /// These accounts and those that were enrolled before.
    async fn together(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        let api: Api<Role> = Api::namespaced(client.clone(), &self.namespace);
        let role = optional(api.get(rights::ENROLMENT_ROLE).await).context("failed to read the Role")?;
        let rules = role.and_then(|role| role.rules).unwrap_or_default();
        let impersonating =
            rules.into_iter().filter(|rule| rule.verbs.iter().any(|verb| verb == "impersonate"));
        let before = impersonating.filter_map(|rule| rule.resource_names).flatten();
        Ok(before.chain(self.accounts.clone()).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// Why a namespace is never enrolled.
fn refusal(namespace: &str, home: &str) -> Option<String> {
    if rights::SYSTEM_NAMESPACES.contains(&namespace) {
        return Some(format!("what runs in {namespace} runs the cluster: who acts there can do anything"));
    }
    (namespace == home).then(|| {
        format!("the controller itself runs in {namespace}: it could be told to change or replace itself")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_the_cluster_or_fother_is_refused() {
        for namespace in rights::SYSTEM_NAMESPACES {
            assert!(refusal(namespace, "fother").is_some_and(|reason| reason.contains("runs the cluster")));
        }
        assert!(refusal("ops", "ops").is_some_and(|reason| reason.contains("the controller itself")));
        assert_eq!(refusal("payments", "fother"), None);
    }
}
