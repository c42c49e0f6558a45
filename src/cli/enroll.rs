//! `fother enroll`: what lets the controller act as accounts of a namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::connection::Connection;
use super::installed::ControllerAccount;
use super::{Exit, apply, names};
use crate::api::ANNOTATION;
use crate::cluster::error::optional;
use crate::cluster::objects::MANAGER;
use crate::cluster::rights;

/// How long the cluster may take to say who is enrolled, where its answer is only welcome.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the documents call the controller's account and its namespace.
const USUAL: &str = "fother";

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
    #[arg(value_name = "NAMESPACE", value_parser = names::namespace)]
    namespace: String,
    /// An account of the namespace that Rules or Packs name (repeatable).
    #[arg(long = "service-account", required = true, value_name = "NAME", value_parser = names::account)]
    accounts: Vec<String>,
    /// The controller's own account. Default: the one that the cluster has, else fother/fother.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    controller: Option<ControllerAccount>,
    /// Apply instead of printing.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Enroll {
    /// Prints or applies it.
    pub fn run(self) -> anyhow::Result<Exit> {
        super::on_runtime(async move {
            // What needs no cluster to be refused is refused first.
            if let Some(reason) = refusal(&self.namespace, self.controller.as_ref()) {
                return Ok(refused(&reason));
            }
            if self.apply { self.apply().await } else { self.print().await }
        })
    }

    /// The accounts that are enrolled now, and a Role that names those that were enrolled before, too.
    fn objects(&self, together: &[String], controller: &ControllerAccount) -> serde_json::Result<Vec<Value>> {
        let mut objects = rights::enroll(&self.namespace, together, controller.parts())?;
        let is_named = |object: &Value| self.accounts.iter().any(|name| object["metadata"]["name"] == **name);
        objects.retain(|object| object["kind"] != "ServiceAccount" || is_named(object));
        Ok(objects)
    }

    async fn print(&self) -> anyhow::Result<Exit> {
        let asked = tokio::time::timeout(PATIENCE, async {
            let client = self.connection.client().await?;
            anyhow::Ok((ControllerAccount::find(&client).await, self.together(&client).await))
        });
        let (installed, together) = match asked.await.context("no answer").flatten() {
            Ok(answers) => answers,
            Err(error) => (Err(anyhow!("{error:#}")), Err(error)),
        };
        let (controller, doubt) = chosen(self.controller.as_ref(), installed);
        if let Some(reason) = refusal(&self.namespace, Some(&controller)) {
            return Ok(refused(&reason));
        }
        if let Some(doubt) = doubt {
            anstream::eprintln!("fother: warning: {doubt}");
        }
        let together = together.unwrap_or_else(|error| {
            let namespace = &self.namespace;
            anstream::eprintln!(
                "fother: warning: the cluster could not be asked who is enrolled in {namespace} already ({error:#}): \
                 applying this takes it from all that it does not name"
            );
            self.accounts.clone()
        });
        let objects = self.objects(&together, &controller)?;
        let documents = objects.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
        super::say(|out| documents.iter().try_for_each(|document| write!(out, "---\n{document}")))?;
        Ok(Exit::Yes)
    }

    async fn apply(&self) -> anyhow::Result<Exit> {
        let client = self.connection.client().await?;
        let installed = ControllerAccount::find(&client).await?;
        if let Some(other) = other_than(self.controller.as_ref(), installed.as_ref()) {
            let reason = format!(
                "the controller of this cluster is {other}: give --controller {other}, or leave it out"
            );
            return Ok(refused(&reason));
        }
        let (controller, doubt) = chosen(self.controller.as_ref(), Ok(installed));
        let obstacle = match refusal(&self.namespace, Some(&controller)) {
            Some(reason) => Some(reason),
            None => self.obstacle(&client).await?,
        };
        if let Some(reason) = obstacle {
            return Ok(refused(&reason));
        }
        if let Some(doubt) = doubt {
            anstream::eprintln!("fother: warning: {doubt}");
        }
        for name in &self.accounts {
            self.allow(&client, name).await?;
        }
        for object in self.objects(&self.together(&client).await?, &controller)? {
            // The accounts are there and annotated.
            if object["kind"] != "ServiceAccount" {
                apply::object(&client, &object).await?;
            }
        }
        super::say(|out| writeln!(out, "enrolled {} for {}", self.namespace, self.accounts.join(", ")))?;
        Ok(Exit::Yes)
    }

    /// What in the cluster stands against it.
    async fn obstacle(&self, client: &Client) -> anyhow::Result<Option<String>> {
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
        let before = role.map(enrolled_by).unwrap_or_default();
        Ok(before.into_iter().chain(self.accounts.clone()).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// The accounts that the Role of an enrolment names.
pub(super) fn enrolled_by(role: Role) -> BTreeSet<String> {
    let rules = role.rules.unwrap_or_default();
    let impersonating = rules.into_iter().filter(|rule| rule.verbs.iter().any(|verb| verb == "impersonate"));
    impersonating.filter_map(|rule| rule.resource_names).flatten().collect()
}

/// Says why nothing is enrolled.
fn refused(reason: &str) -> Exit {
    anstream::eprintln!("fother: refused: {reason}");
    Exit::No
}

/// The controller of a cluster, if another one was given.
fn other_than<'a>(
    given: Option<&ControllerAccount>,
    installed: Option<&'a ControllerAccount>,
) -> Option<&'a ControllerAccount> {
    installed.filter(|installed| given.is_some_and(|given| given != *installed))
}

/// The controller to enroll for, and what may be wrong with it: it cannot be asked everywhere who that is.
fn chosen(
    given: Option<&ControllerAccount>,
    installed: anyhow::Result<Option<ControllerAccount>>,
) -> (ControllerAccount, Option<String>) {
    let usual = || ControllerAccount { namespace: USUAL.to_owned(), name: USUAL.to_owned() };
    let remedy = "if that is not the controller, give --controller NAMESPACE/NAME";
    match (given, installed) {
        (Some(given), installed) => {
            let installed = installed.unwrap_or_default();
            let doubt = other_than(Some(given), installed.as_ref()).map(|other| {
                format!("this is for {given}, and the controller of this cluster is {other}: give --controller {other}, or leave it out")
            });
            (given.clone(), doubt)
        }
        (None, Ok(Some(found))) => (found, None),
        (None, Ok(None)) => {
            let doubt =
                format!("this cluster has no controller yet, so this is for {USUAL}/{USUAL}; {remedy}");
            (usual(), Some(doubt))
        }
        (None, Err(error)) => {
            let doubt = format!(
                "the cluster could not be asked who its controller is ({error:#}), so this is for {USUAL}/{USUAL}; {remedy}"
            );
            (usual(), Some(doubt))
        }
    }
}

/// Why a namespace is never enrolled; of its own the controller has to be known.
pub(super) fn refusal(namespace: &str, controller: Option<&ControllerAccount>) -> Option<String> {
    if rights::SYSTEM_NAMESPACES.contains(&namespace) {
        return Some(format!("what runs in {namespace} runs the cluster: who acts there can do anything"));
    }
    controller.is_some_and(|controller| controller.namespace == namespace).then(|| {
        format!("the controller itself runs in {namespace}: it could be told to change or replace itself")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(text: &str) -> ControllerAccount {
        text.parse().expect("an account")
    }

    #[test]
    fn what_runs_the_cluster_or_fother_is_refused() {
        let ops = account("ops/fother");
        for namespace in rights::SYSTEM_NAMESPACES {
            for controller in [None, Some(&ops)] {
                let reason = refusal(namespace, controller);
                assert!(reason.is_some_and(|reason| reason.contains("runs the cluster")), "{namespace}");
            }
        }
        assert!(refusal("ops", Some(&ops)).is_some_and(|reason| reason.contains("the controller itself")));
        assert_eq!(refusal("payments", Some(&ops)), None);
        assert_eq!(refusal("ops", None), None, "it is not known yet where it runs");
    }

    #[test]
    fn the_controller_is_the_one_that_is_given_or_that_the_cluster_has() {
        let (ops, usual) = (account("ops/fother"), account("fother/fother"));
        let unknown = || Err(anyhow!("no answer"));
        for (given, installed, expected, doubts) in [
            (None, Ok(Some(ops.clone())), &ops, None),
            (None, Ok(None), &usual, Some("has no controller yet")),
            (None, unknown(), &usual, Some("(no answer)")),
            (Some(&ops), Ok(Some(ops.clone())), &ops, None),
            (Some(&ops), Ok(None), &ops, None),
            (Some(&ops), unknown(), &ops, None),
            (Some(&usual), Ok(Some(ops.clone())), &usual, Some("give --controller ops/fother")),
        ] {
            let (account, doubt) = chosen(given, installed);
            assert_eq!(&account, expected);
            match doubts {
                None => assert_eq!(doubt, None),
                Some(text) => assert!(doubt.as_ref().is_some_and(|doubt| doubt.contains(text)), "{doubt:?}"),
            }
        }
    }
}
