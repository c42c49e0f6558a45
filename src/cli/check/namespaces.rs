//! What a namespace needs: an enrolment, allowed accounts, and Roles for what its Rules do.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::installation::impersonation;
use super::report::Report;
use crate::api::{Action, ActionSpec, Pack, Rule};
use crate::cli::installed::ControllerAccount;
use crate::cluster::account::Account;
use crate::cluster::discovery::Kinds;
use crate::cluster::reviews::{Reviews, account_may};
use crate::controller::lacking;
use crate::decide::rights::needed;

/// The most objects of a kind that are asked for at a time.
const PAGE: u32 = 500;

/// What there is of fother's own kinds.
struct Found {
    packs: Vec<Pack>,
    rules: Vec<Rule>,
    actions: BTreeMap<(String, String), ActionSpec>,
}

/// Looks at all namespaces, or at one.
pub async fn look(
    client: &Client,
    only: Option<&str>,
    controller: Option<&ControllerAccount>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let found = Found {
        packs: list(client, only).await?,
        rules: list(client, only).await?,
        actions: list::<Action>(client, only).await?.into_iter().map(key_and_spec).collect(),
    };
    let mut allowed = BTreeMap::new();
    for (namespace, name) in accounts(&found) {
        if let Some(account) = account(client, controller, (&namespace, &name), report).await? {
            allowed.insert((namespace, name), account);
        }
    }
    let (kinds, reviews) = (Kinds::default(), Reviews::default());
    for rule in &found.rules {
        let of = (namespace_of(rule), rule.spec.service_account_name.clone());
        self::rule((client, &kinds, &reviews), rule, &found.actions, allowed.get(&of), report).await?;
    }
    Ok(())
}

fn namespace_of(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_default()
}

fn key_and_spec(action: Action) -> ((String, String), ActionSpec) {
    ((namespace_of(&action), action.name_any()), action.spec)
}

async fn list<K>(client: &Client, only: Option<&str>) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = match only {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&params).await.with_context(|| format!("failed to list {}", K::plural(&())))?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// The accounts that Rules and Packs name.
fn accounts(found: &Found) -> BTreeSet<(String, String)> {
    let of_packs =
        found.packs.iter().map(|pack| (namespace_of(pack), pack.spec.service_account_name.clone()));
    let of_rules =
        found.rules.iter().map(|rule| (namespace_of(rule), rule.spec.service_account_name.clone()));
    of_packs.chain(of_rules).collect()
}

/// Whether the controller may act as an account: enrolled by an administrator, annotated by its owner.
async fn account(
    client: &Client,
    controller: Option<&ControllerAccount>,
    (namespace, name): (&str, &str),
    report: &mut Report,
) -> anyhow::Result<Option<Account>> {
    let account = match Account::read(client, namespace, name).await {
        Ok(account) => account,
        Err(error) if error.is_forbidden() && error.code().is_none() => {
            report.error(error.to_string(), enroll(namespace, name));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let Some(controller) = controller else { return Ok(Some(account)) };
    if account_may(client, controller.parts(), impersonation(namespace, Some(name))).await? {
        report.good(format!("ServiceAccount {namespace}/{name} is enrolled and allowed"));
    } else {
        report.error(format!("ServiceAccount {namespace}/{name} is not enrolled"), enroll(namespace, name));
    }
    Ok(Some(account))
}

fn enroll(namespace: &str, name: &str) -> String {
    format!("fother enroll {namespace} --service-account {name} --apply")
}

/// Whether a Rule's Actions exist and its account may do what they need.
async fn rule(
    looking: (&Client, &Kinds, &Reviews),
    rule: &Rule,
    actions: &BTreeMap<(String, String), ActionSpec>,
    account: Option<&Account>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = namespace_of(rule);
    let name = format!("Rule {namespace}/{}", rule.name_any());
    let mut named = BTreeMap::new();
    for rung in &rule.spec.ladder {
        let Some(spec) = actions.get(&(namespace.clone(), rung.run.clone())) else {
            report.error(format!("{name} runs Action {:?}, which does not exist", rung.run), "create it");
            continue;
        };
        named.insert(rung.run.clone(), spec.clone());
    }
    // What the account lacks was said already if it cannot be used at all.
    let Some(account) = account else { return Ok(()) };
    match lacking(looking, needed(&rule.spec, named.values()), account).await {
        Ok(None) => report.good(format!("{name}: its account may do what it needs")),
        Ok(Some(text)) => report.error(format!("{name}: {text}"), "docs/how-to/grant-rights.md lists what"),
        Err(error @ crate::cluster::Error::UnknownKind { .. }) => {
            report.error(format!("{name}: {error}"), "install that kind, or correct the Rule");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
