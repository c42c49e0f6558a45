//! What a namespace needs: an enrolment, allowed accounts, and Roles for what its Rules do; and what else is not Ready.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::installation::{impersonation, questions, words};
use super::report::Report;
use crate::api::{Action, Condition, ConditionStatus, ConditionType, Pack, Reason, Rule, Webhook, condition};
use crate::cli::enroll::{enrolled_by, refusal};
use crate::cli::installed::ControllerAccount;
use crate::cli::names;
use crate::cluster::account::Account;
use crate::cluster::discovery::Kinds;
use crate::cluster::error::optional;
use crate::cluster::reviews::{Reviews, account_may};
use crate::cluster::rights;
use crate::controller::lacking;
use crate::decide::rights::{Right, needed};
use crate::text::printable;

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
    actions: BTreeMap<Key, Action>,
}

/// Namespace and name.
type Key = (String, String);

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
    let all = ListParams::default();
    let found = Found {
        packs: list(client, only, &all).await?,
        rules: list(client, only, &all).await?,
        webhooks: list(client, only, &all).await?,
        actions: list::<Action>(client, only, &all).await?.into_iter().map(keyed).collect(),
    };
    let standings = accounts(client, controller, &found, report).await?;
    if let Some(controller) = controller {
        unused(client, only, controller, &standings, report).await?;
    }
    let (kinds, reviews) = (Kinds::default(), Reviews::default());
    let looking = (client, &kinds, &reviews);
    for pack in &found.packs {
        let standing = standings.get(&(namespace_of(pack), pack.spec.service_account_name.clone()));
        self::pack(looking, pack, standing, report).await?;
    }
    for action in found.actions.values() {
        let conditions = action.status.as_ref().map(|status| &status.conditions[..]);
        not_ready(action, conditions, &[], report);
    }
    for rule in &found.rules {
        let standing = standings.get(&(namespace_of(rule), rule.spec.service_account_name.clone()));
        self::rule(looking, rule, &found.actions, standing, report).await?;
    }
    for webhook in &found.webhooks {
        let standing = standings.get(&(namespace_of(webhook), webhook.spec.service_account_name.clone()));
        self::webhook(client, webhook, standing, report).await?;
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

/// What an object is called in a finding.
fn title<K: kube::Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}/{}", K::kind(&()), namespace_of(object), object.name_any())
}

fn keyed(action: Action) -> (Key, Action) {
    ((namespace_of(&action), action.name_any()), action)
}

async fn list<K>(client: &Client, only: Option<&str>, params: &ListParams) -> anyhow::Result<Vec<K>>
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
    let mut params = params.clone().limit(PAGE);
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

/// The accounts that Rules, Packs and Webhooks name, by namespace, and what names each.
fn named(found: &Found) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let of_packs = found.packs.iter().map(|pack| naming(pack, &pack.spec.service_account_name));
    let of_rules = found.rules.iter().map(|rule| naming(rule, &rule.spec.service_account_name));
    let of_webhooks = found.webhooks.iter().map(|hook| naming(hook, &hook.spec.service_account_name));
    let mut named = BTreeMap::<_, BTreeMap<_, Vec<_>>>::new();
    for ((namespace, name), by) in of_packs.chain(of_rules).chain(of_webhooks) {
        named.entry(namespace).or_default().entry(name).or_default().push(by);
    }
    named
}

fn naming<K: kube::Resource<DynamicType = ()>>(object: &K, account: &str) -> (Key, String) {
    ((namespace_of(object), account.to_owned()), title(object))
}

/// What is known of an account that something names.
#[derive(Default)]
struct Standing {
    /// The account, if its owner allows that it is used.
    account: Option<Account>,
    is_enrolled: bool,
    /// Whether it was said why the controller may not act as it: nothing that names it says so once more.
    is_told: bool,
}

/// Looks at all accounts that something names, and at the enrolments of their namespaces.
async fn accounts(
    client: &Client,
    controller: Option<&ControllerAccount>,
    found: &Found,
    report: &mut Report,
) -> anyhow::Result<BTreeMap<Key, Standing>> {
    let mut standings = BTreeMap::new();
    for (namespace, accounts) in named(found) {
        let mut enrolled = Vec::new();
        for (name, by) in accounts {
            // No account can have such a name, so there is none to ask for.
            let standing = match names::account(&name) {
                Ok(_) => account(client, controller, (&namespace, &name), report).await?,
                Err(reason) => misnamed((&namespace, &reason), &by, report),
            };
            if standing.is_enrolled {
                enrolled.push(name.clone());
            }
            standings.insert((namespace.clone(), name), standing);
        }
        if let (Some(controller), false) = (controller, enrolled.is_empty()) {
            enrolment(client, controller, (&namespace, &enrolled), report).await?;
        }
    }
    Ok(standings)
}

/// Says that what is named cannot be an account: a slip of who wrote it, whom no enrolment helps.
fn misnamed((namespace, reason): (&str, &str), by: &[String], report: &mut Report) -> Standing {
    let fix = format!(
        "correct spec.serviceAccountName; kubectl -n {namespace} get serviceaccounts lists what there is"
    );
    report.error(format!("{}: {reason}", by.join(", ")), fix);
    Standing { is_told: true, ..Standing::default() }
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
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            let found =
                optional(accounts.get(name).await).with_context(|| format!("failed to read {name}"))?;
            let fix = match found {
                Some(_) => enroll(controller, namespace, &[name]),
                None => create(controller, namespace, name),
            };
            report.error(error.to_string(), fix);
            return Ok(Standing { is_told: true, ..Standing::default() });
        }
        Err(error) => return Err(error.into()),
    };
    let Some(controller) = controller else { return Ok(Standing { account, ..Standing::default() }) };
    let is_enrolled = account_may(client, controller.parts(), impersonation(namespace, Some(name))).await?;
    let account_is = format!("ServiceAccount {namespace}/{name} is");
    match is_enrolled {
        true => report.good(format!("{account_is} enrolled and allowed")),
        false => {
            report.error(format!("{account_is} not enrolled"), enroll(Some(controller), namespace, &[name]));
        }
    }
    Ok(Standing { account, is_enrolled, is_told: !is_enrolled })
}

/// Names the accounts that are enrolled though nothing names them, as right after `fother enroll`. One that is gone or not
/// allowed any more is nobody's trouble then.
async fn unused(
    client: &Client,
    only: Option<&str>,
    controller: &ControllerAccount,
    used: &BTreeMap<Key, Standing>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let roles = ListParams::default().fields(&format!("metadata.name={}", rights::ENROLMENT_ROLE));
    // That is only welcome: whoever may not read Roles is told nothing of them.
    for role in list::<Role>(client, only, &roles).await.unwrap_or_default() {
        let namespace = namespace_of(&role);
        for name in enrolled_by(role) {
            let is_new = !used.contains_key(&(namespace.clone(), name.clone()));
            if !is_new || names::account(&name).is_err() {
                continue;
            }
            match Account::read(client, &namespace, &name).await {
                Ok(_) => {}
                Err(error) if error.is_forbidden() => continue,
                Err(error) => return Err(error.into()),
            }
            let asked = impersonation(&namespace, Some(&name));
            if account_may(client, controller.parts(), asked).await? {
                report.good(format!(
                    "ServiceAccount {namespace}/{name} is enrolled and allowed; no Rule, Pack or Webhook names it yet"
                ));
            }
        }
    }
    Ok(())
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
    standing: Option<&Standing>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (namespace, of) = (namespace_of(pack), &pack.spec.service_account_name);
    let name = title(pack);
    let mut is_told = standing.is_some_and(|standing| standing.is_told);
    if let Some(account) = standing.and_then(|standing| standing.account.as_ref()) {
        let mut lacks = Vec::new();
        lacks.extend(lacking(looking, needed_by(pack), account).await?);
        if let Some(secret) = &pack.spec.secret_ref {
            lacks.extend(secret_withheld(looking.0, (&namespace, of), &secret.name).await?);
        }
        if lacks.is_empty() {
            report.good(format!("{name}: its account may do what it needs"));
        }
        is_told |= !lacks.is_empty();
        for text in lacks {
            report.error(format!("{name}: {text}"), "docs/how-to/grant-rights.md lists what");
        }
    }
    let told: &[Reason] = if is_told { &[Reason::Forbidden] } else { &[] };
    not_ready(pack, pack.status.as_ref().map(|status| &status.conditions[..]), told, report);
    Ok(())
}

/// Whether a Webhook's account may read the secret that its senders have to know.
async fn webhook(
    client: &Client,
    webhook: &Webhook,
    standing: Option<&Standing>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (namespace, account) = (namespace_of(webhook), &webhook.spec.service_account_name);
    let name = title(webhook);
    let mut is_told = standing.is_some_and(|standing| standing.is_told);
    let is_allowed = standing.is_some_and(|standing| standing.account.is_some());
    if let Some(secret) = webhook.spec.secret().filter(|_| is_allowed) {
        match secret_withheld(client, (&namespace, account), &secret.name).await? {
            None => report.good(format!("{name}: its account may do what it needs")),
            Some(text) => {
                report.error(format!("{name}: {text}"), "docs/how-to/receive-alerts.md has the Role");
                is_told = true;
            }
        }
    }
    let told: &[Reason] = if is_told { &[Reason::MissingPermissions] } else { &[] };
    not_ready(webhook, webhook.status.as_ref().map(|status| &status.conditions[..]), told, report);
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

/// The same for an account that does not exist, and so is refused as it is.
fn create(controller: Option<&ControllerAccount>, namespace: &str, name: &str) -> String {
    let enrolled = enroll(controller, namespace, &[name]);
    match refusal(namespace, controller) {
        Some(_) => enrolled,
        None => format!("kubectl -n {namespace} create serviceaccount {name} && {enrolled}"),
    }
}

/// Whether a Rule's Actions exist and its account may do what they need.
async fn rule(
    looking: (&Client, &Kinds, &Reviews),
    rule: &Rule,
    actions: &BTreeMap<Key, Action>,
    standing: Option<&Standing>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (namespace, name) = (namespace_of(rule), title(rule));
    let (mut named, mut told) = (BTreeMap::new(), Vec::new());
    for rung in &rule.spec.ladder {
        let Some(action) = actions.get(&(namespace.clone(), rung.run.clone())) else {
            report.error(format!("{name} runs Action {:?}, which does not exist", rung.run), "create it");
            told.push(Reason::ActionNotFound);
            continue;
        };
        named.insert(rung.run.clone(), action.spec.clone());
    }
    if standing.is_some_and(|standing| standing.is_told) {
        told.push(Reason::MissingPermissions);
    }
    // What the account lacks was said already if it cannot be used at all.
    if let Some(account) = standing.and_then(|standing| standing.account.as_ref()) {
        match lacking(looking, needed(&rule.spec, named.values()), account).await {
            Ok(None) => report.good(format!("{name}: its account may do what it needs")),
            Ok(Some(text)) => {
                report.error(format!("{name}: {text}"), "docs/how-to/grant-rights.md lists what");
                told.push(Reason::MissingPermissions);
            }
            Err(error @ crate::cluster::Error::UnknownKind { .. }) => {
                report.error(format!("{name}: {error}"), "install that kind, or correct the Rule");
                told.push(Reason::SourceUnavailable);
            }
            Err(error) => return Err(error.into()),
        }
    }
    not_ready(rule, rule.status.as_ref().map(|status| &status.conditions[..]), &told, report);
    Ok(())
}

/// Repeats why the controller does not use an object, unless that was `told`, as by what its account lacks. What it said
/// before the object's last change may not hold any more.
fn not_ready<K: kube::Resource<DynamicType = ()>>(
    object: &K,
    conditions: Option<&[Condition]>,
    told: &[Reason],
    report: &mut Report,
) {
    let ready = conditions.and_then(|conditions| condition(conditions, ConditionType::Ready));
    let Some(ready) = ready.filter(|ready| ready.status == ConditionStatus::False.as_str()) else { return };
    let is = |reason: &Reason| reason.as_str() == ready.reason;
    let is_current = ready.observed_generation.is_none_or(|of| Some(of) == object.meta().generation);
    if !is_current || told.iter().any(is) {
        return;
    }
    // One line a finding; a Pack's mistakes have one each.
    let message = ready.message.lines().collect::<Vec<_>>().join(" ");
    let said = format!("{}: {message}", ready.reason);
    let what = format!("{} is not Ready: {}", title(object), printable(&said));
    if is(&Reason::MissingPermissions) {
        let fix = "nothing, if the right was given just now: the controller looks again within ten seconds";
        report.warning(what, fix);
    } else if is(&Reason::Progressing) {
        report.warning(what, "nothing, if it passes");
    } else if is(&Reason::Suspended) {
        report.warning(what, "nothing, if it is meant to rest");
    } else {
        let page = K::kind(&()).to_lowercase();
        report.error(what, format!("docs/reference/{page}.md says what to do"));
    }
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
    fn an_account_that_is_not_there_is_created_first() {
        let remedy = "kubectl -n payments create serviceaccount healer && fother enroll payments --service-account healer --apply";
        assert_eq!(create(None, "payments", "healer"), remedy);
        let moved = create(None, "kube-system", "healer");
        assert!(moved.starts_with("move the Rules") && !moved.contains("create serviceaccount"), "{moved}");
    }

    fn rule_named(name: &str) -> Rule {
        let spec = json!({"serviceAccountName": "Healer", "trigger": {}, "ladder": []});
        let metadata = json!({"name": name, "namespace": "payments", "generation": 2});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a Rule")
    }

    #[test]
    fn what_cannot_be_an_account_is_told_of_with_what_names_it() {
        let rules = vec![rule_named("leak"), rule_named("stuck")];
        let found = Found { packs: Vec::new(), rules, webhooks: Vec::new(), actions: BTreeMap::new() };
        let named = named(&found);
        let reason = names::account("Healer").expect_err("no name of an account");
        let mut report = Report::default();
        assert!(misnamed(("payments", &reason), &named["payments"]["Healer"], &mut report).is_told);
        let text = report.text();
        let said =
            "✗ Rule payments/leak, Rule payments/stuck: \"Healer\" cannot be a ServiceAccount: use at most ";
        assert!(text.starts_with(said), "{text}");
        let fix =
            "\n    fix: correct spec.serviceAccountName; kubectl -n payments get serviceaccounts lists ";
        assert!(text.contains(fix) && !text.contains("fother enroll"), "{text}");
    }

    #[test]
    fn why_something_is_not_ready_is_told_once() {
        let rule = rule_named("leak");
        let said = |status: &str, reason: &str, generation: Value, told: &[Reason]| {
            let condition = json!([{
                "type": "Ready", "status": status, "reason": reason, "message": "it has:\nmistakes\u{1b}[2J",
                "observedGeneration": generation, "lastTransitionTime": "2026-06-01T03:02:11Z",
            }]);
            let conditions: Vec<Condition> = serde_json::from_value(condition).expect("conditions");
            let mut report = Report::default();
            not_ready(&rule, Some(&conditions[..]), told, &mut report);
            report.text().lines().next().unwrap_or_default().to_owned()
        };
        let line = |mark: &str, reason: &str| {
            format!("{mark} Rule payments/leak is not Ready: {reason}: it has: mistakes\\u{{1b}}[2J")
        };
        let mistake = "InvalidExpression";
        assert_eq!(said("False", mistake, json!(2), &[]), line("✗", mistake));
        assert_eq!(said("False", mistake, json!(null), &[Reason::MissingPermissions]), line("✗", mistake));
        for passing in ["MissingPermissions", "Progressing", "Suspended"] {
            assert_eq!(said("False", passing, json!(2), &[]), line("!", passing));
        }
        assert_eq!(said("False", "MissingPermissions", json!(2), &[Reason::MissingPermissions]), "");
        assert_eq!(said("False", mistake, json!(1), &[]), "", "it was changed since");
        assert_eq!(said("True", "Active", json!(2), &[]), "");
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
