//! What a namespace needs: an enrolment, allowed accounts, and Roles for what its Rules do.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::installation::{impersonation, questions, words};
use super::report::Report;
use crate::api::{Action, ActionSpec, Pack, Rule, Webhook};
use crate::cli::enroll::refusal;
use crate::cli::installed::ControllerAccount;
use crate::cluster::account::Account;
use crate::cluster::discovery::Kinds;
use crate::cluster::error::optional;
use crate::cluster::reviews::{Reviews, account_may};
use crate::cluster::rights;
use crate::controller::lacking;
use crate::decide::rights::{Right, needed};

/// The most objects of a kind that are asked for at a time.
const PAGE: u32 = 500;
const VERSION: &str = "fother.dev/v1alpha1";
/// What each Pack's account has to be allowed to keep, and how. `docs/how-to/grant-rights.md` says the same.
const KEPT: [(&str, &str); 3] = [(VERSION, "Rule"), (VERSION, "Action"), ("v1", "ConfigMap")];
const KEEPING: [&str; 4] = ["list", "create", "patch", "delete"];

/// What there is of fother's own kinds.
struct Found {
    packs: Vec<Pack>,
    rules: Vec<Rule>,
    webhooks: Vec<Webhook>,
    actions: BTreeMap<(String, String), ActionSpec>,
}

/// Looks at all namespaces, or at one.
pub async fn look(
    client: &Client,
    only: Option<&str>,
    controller: Option<&ControllerAccount>,
    report: &mut Report,
) -> anyhow::Result<()> {
    if let Some(namespace) = only
        && !exists(client, namespace, report).await?
    {
        return Ok(());
    }
    let found = Found {
        packs: list(client, only).await?,
        rules: list(client, only).await?,
        webhooks: list(client, only).await?,
        actions: list::<Action>(client, only).await?.into_iter().map(key_and_spec).collect(),
    };
    let mut allowed = BTreeMap::new();
    for (namespace, names) in accounts(&found) {
        let mut enrolled = Vec::new();
        for name in names {
            let standing = account(client, controller, (&namespace, &name), report).await?;
            if standing.is_enrolled {
                enrolled.push(name.clone());
            }
            if let Some(account) = standing.account {
                allowed.insert((namespace.clone(), name), account);
            }
        }
        if let (Some(controller), false) = (controller, enrolled.is_empty()) {
            enrolment(client, controller, (&namespace, &enrolled), report).await?;
        }
    }
    let (kinds, reviews) = (Kinds::default(), Reviews::default());
    for pack in &found.packs {
        let of = (namespace_of(pack), pack.spec.service_account_name.clone());
        if let Some(account) = allowed.get(&of) {
            self::pack((client, &kinds, &reviews), pack, account, report).await?;
        }
    }
    for rule in &found.rules {
        let of = (namespace_of(rule), rule.spec.service_account_name.clone());
        self::rule((client, &kinds, &reviews), rule, &found.actions, allowed.get(&of), report).await?;
    }
    for webhook in &found.webhooks {
        let of = (namespace_of(webhook), webhook.spec.service_account_name.clone());
        if allowed.contains_key(&of) {
            self::webhook(client, webhook, report).await?;
        }
    }
    Ok(())
}

/// Whether there is such a namespace.
async fn exists(client: &Client, namespace: &str, report: &mut Report) -> anyhow::Result<bool> {
    let found = optional(Api::<Namespace>::all(client.clone()).get(namespace).await);
    let exists = found.with_context(|| format!("failed to read namespace {namespace}"))?.is_some();
    if !exists {
        let fix = format!("kubectl create namespace {namespace}, or give the name of another");
        report.error(format!("namespace {namespace} does not exist"), fix);
    }
    Ok(exists)
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

/// The accounts that Rules, Packs and Webhooks name, by namespace.
fn accounts(found: &Found) -> BTreeMap<String, BTreeSet<String>> {
    let of_packs = found.packs.iter().map(|pack| (namespace_of(pack), &pack.spec.service_account_name));
    let of_rules = found.rules.iter().map(|rule| (namespace_of(rule), &rule.spec.service_account_name));
    let of_webhooks =
        found.webhooks.iter().map(|webhook| (namespace_of(webhook), &webhook.spec.service_account_name));
    let mut accounts = BTreeMap::<_, BTreeSet<_>>::new();
    for (namespace, name) in of_packs.chain(of_rules).chain(of_webhooks) {
        accounts.entry(namespace).or_default().insert(name.clone());
    }
    accounts
}

/// What is known of an account that something names.
#[derive(Default)]
struct Standing {
    /// The account, if its owner allows that it is used.
    account: Option<Account>,
    is_enrolled: bool,
}

/// Whether the controller may act as an account: enrolled by an administrator, annotated by its owner.
async fn account(
    client: &Client,
    controller: Option<&ControllerAccount>,
    (namespace, name): (&str, &str),
    report: &mut Report,
) -> anyhow::Result<Standing> {
    let account = match Account::read(client, namespace, name).await {
        Ok(account) => Some(account),
        Err(error) if error.is_forbidden() && error.code().is_none() => {
            report.error(error.to_string(), enroll(controller, namespace, &[name]));
            return Ok(Standing::default());
        }
        Err(error) => return Err(error.into()),
    };
    let Some(controller) = controller else { return Ok(Standing { account, is_enrolled: false }) };
    let is_enrolled = account_may(client, controller.parts(), impersonation(namespace, Some(name))).await?;
    let account_is = format!("ServiceAccount {namespace}/{name} is");
    match is_enrolled {
        true => report.good(format!("{account_is} enrolled and allowed")),
        false => {
            report.error(format!("{account_is} not enrolled"), enroll(Some(controller), namespace, &[name]));
        }
    }
    Ok(Standing { account, is_enrolled })
}

/// Whether the enrolment gives all that this version needs: it stays as it was when it was applied.
async fn enrolment(
    client: &Client,
    controller: &ControllerAccount,
    (namespace, accounts): (&str, &[String]),
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut lacking = Vec::new();
    for asked in rights::kept().iter().flat_map(|rule| questions(rule, namespace)) {
        if !account_may(client, controller.parts(), asked.clone()).await? {
            lacking.push(words(&asked));
        }
    }
    if !lacking.is_empty() {
        let accounts: Vec<_> = accounts.iter().map(String::as_str).collect();
        let what = format!(
            "the enrolment of {namespace} is not of this version: the controller may not {} there",
            lacking.join(", ")
        );
        report.error(what, enroll(Some(controller), namespace, &accounts));
    }
    Ok(())
}

/// What a Pack's account needs: Webhooks are none of its business until the Pack has some.
fn needed_by(pack: &Pack) -> Vec<Right> {
    let mut inventory = pack.status.iter().flat_map(|status| &status.inventory);
    let webhooks = inventory.any(|entry| entry.kind == "Webhook").then_some((VERSION, "Webhook"));
    let kinds = KEPT.into_iter().chain(webhooks);
    kinds.flat_map(|kind| KEEPING.map(|verb| Right::to(verb, kind))).collect()
}

/// Whether a Pack's account may keep what the Pack brings, and read what its repository asks for.
async fn pack(
    looking: (&Client, &Kinds, &Reviews),
    pack: &Pack,
    account: &Account,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (namespace, of) = (namespace_of(pack), &pack.spec.service_account_name);
    let name = format!("Pack {namespace}/{}", pack.name_any());
    let mut lacks = Vec::new();
    lacks.extend(lacking(looking, needed_by(pack), account).await?);
    if let Some(secret) = &pack.spec.secret_ref {
        lacks.extend(secret_withheld(looking.0, (&namespace, of), &secret.name).await?);
    }
    if lacks.is_empty() {
        report.good(format!("{name}: its account may do what it needs"));
    }
    for text in lacks {
        report.error(format!("{name}: {text}"), "docs/how-to/grant-rights.md lists what");
    }
    Ok(())
}

/// Whether a Webhook's account may read the secret that its senders have to know.
async fn webhook(client: &Client, webhook: &Webhook, report: &mut Report) -> anyhow::Result<()> {
    let (namespace, account) = (namespace_of(webhook), &webhook.spec.service_account_name);
    let Some(secret) = webhook.spec.secret() else { return Ok(()) };
    let name = format!("Webhook {namespace}/{}", webhook.name_any());
    match secret_withheld(client, (&namespace, account), &secret.name).await? {
        None => report.good(format!("{name}: its account may do what it needs")),
        Some(text) => {
            report.error(format!("{name}: {text}"), "docs/how-to/receive-alerts.md has the Role");
        }
    }
    Ok(())
}

/// That an account may not read a Secret of its namespace; none if it may.
async fn secret_withheld(
    client: &Client,
    (namespace, account): (&str, &str),
    secret: &str,
) -> anyhow::Result<Option<String>> {
    let asked = ResourceAttributes {
        verb: Some("get".to_owned()),
        resource: Some("secrets".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(secret.to_owned()),
        ..ResourceAttributes::default()
    };
    let may = account_may(client, (namespace, account), asked).await?;
    Ok((!may).then(|| format!("{account} cannot get Secret {secret} in namespace {namespace}")))
}

/// What lets the controller act as accounts of a namespace; where nobody is enrolled, what to do instead.
fn enroll(controller: Option<&ControllerAccount>, namespace: &str, names: &[&str]) -> String {
    if let Some(reason) = refusal(namespace, controller) {
        return format!(
            "move the Rules, Packs and Webhooks of {namespace} to another namespace; they do not belong there, as {reason}"
        );
    }
    format!("fother enroll {namespace} --service-account {} --apply", names.join(" --service-account "))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn nobody_is_sent_to_enroll_what_is_never_enrolled() {
        let ops: ControllerAccount = "ops/fother".parse().expect("an account");
        let applied = "fother enroll payments --service-account healer --service-account packs --apply";
        for controller in [None, Some(&ops)] {
            assert_eq!(enroll(controller, "payments", &["healer", "packs"]), applied);
            let moved = enroll(controller, "kube-system", &["healer"]);
            let said = "move the Rules, Packs and Webhooks of kube-system to another namespace";
            assert!(moved.starts_with(said) && !moved.contains("fother enroll"), "{moved}");
        }
        let moved = enroll(Some(&ops), "ops", &["healer"]);
        assert!(
            moved.ends_with(
                "as the controller itself runs in ops: it could be told to change or replace itself"
            )
        );
    }

    #[test]
    fn a_pack_needs_rights_to_webhooks_once_it_has_some() {
        let lines = |inventory: Value| {
            let spec = json!({"url": "https://git.example/packs", "serviceAccountName": "packs"});
            let pack = json!({"metadata": {"name": "web"}, "spec": spec, "status": {"inventory": inventory}});
            let pack = serde_json::from_value(pack).expect("a Pack");
            let kinds = needed_by(&pack).into_iter().map(|Right { verb, any_of }| {
                format!("{verb} {}", any_of.iter().map(|kind| kind.kind.as_str()).collect::<String>())
            });
            kinds.collect::<Vec<_>>()
        };
        let always = lines(json!([{"kind": "Rule", "name": "leak"}]));
        assert_eq!(always.len(), 12, "{always:?}");
        for right in ["list Rule", "create Action", "patch ConfigMap", "delete Rule"] {
            assert!(always.iter().any(|line| line == right), "{right}: {always:?}");
        }
        let more = lines(json!([{"kind": "Webhook", "name": "alerts"}]));
        assert_eq!(more.iter().filter(|line| line.ends_with(" Webhook")).count(), 4, "{more:?}");
        assert_eq!(more.len(), 16, "{more:?}");
    }
}
