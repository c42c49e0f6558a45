//! What an administrator installs once a cluster: is it there, is it of this version, may it do what it must?

use anyhow::Context;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use k8s_openapi::jiff::SignedDuration;
use kube::api::Api;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::release::{Installed, Release};
use super::report::Report;
use crate::cli::installed::ControllerAccount;
use crate::cluster::error::optional;
use crate::cluster::reviews::account_may;
use crate::cluster::rights;
use crate::source::watch::now;

/// The first minor version of Kubernetes 1 that has all that is needed.
const OLDEST_MINOR: u32 = 30;
/// Who has not renewed the Lease for so long does not lead, whatever the clocks here and there say.
const LONG_DEAD: SignedDuration = SignedDuration::from_mins(1);
/// The admission policies of the chart.
const POLICIES: [&str; 6] = [
    "fother-packs",
    "fother-rules",
    "fother-executions",
    "fother-eventbatches",
    "fother-controller",
    "fother-enrolment",
];
/// Those of them that name the controller. One that names another account refuses what the controller does, or holds it
/// back from nothing.
const NAMING: [&str; 4] =
    ["fother-executions", "fother-eventbatches", "fother-controller", "fother-enrolment"];

/// Looks at the cluster's version.
pub async fn cluster(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let version = client.apiserver_version().await.context("failed to reach the API server")?;
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    let what = format!("kubernetes {}", version.git_version);
    match digits.parse::<u32>() {
        Ok(minor) if version.major == "1" && minor < OLDEST_MINOR => {
            report.error(what, format!("use Kubernetes 1.{OLDEST_MINOR} or later"));
        }
        _ => report.good(what),
    }
    Ok(())
}

/// Looks at fother's own kinds, and says whether they can be used.
pub fn kinds(Installed { kinds, release, .. }: &Installed, report: &mut Report) -> bool {
    let mut usable = true;
    for (wanted, found) in kinds {
        let name = wanted.name_any();
        match found.as_ref().map(|found| (is_established(found), age(wanted, found))) {
            None => report.error(format!("kind {name} is not installed"), release.install_kinds()),
            Some((false, _)) => {
                report.error(format!("kind {name} is not served"), format!("kubectl describe crd {name}"));
            }
            Some((true, Age::Other)) => {
                let what = format!("kind {name} is of another version than this fother");
                report.error(what, release.install_kinds());
            }
            Some((true, Age::Later)) => {
                let what = format!("kind {name} is of a later version than this fother");
                report.warning(what, "right after a rollback; otherwise upgrade this fother");
            }
            Some((true, Age::Same)) => report.good(format!("kind {name}")),
        }
        usable &= found.as_ref().is_some_and(is_established);
    }
    usable
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
}

/// How a kind in the cluster compares with this version's.
#[derive(Debug, Eq, PartialEq)]
enum Age {
    /// It is the same.
    Same,
    /// It has all that this version's has, and more.
    Later,
    /// It lacks something.
    Other,
}

/// The API server adds nothing to a schema. An older one (1.30) drops selectable fields, all of them, whoever installs
/// the kind; only people select by them.
fn age(wanted: &CustomResourceDefinition, found: &CustomResourceDefinition) -> Age {
    let selects = found.spec.versions.iter().any(|version| version.selectable_fields.is_some());
    let fields = |crd: &CustomResourceDefinition| {
        let versions = crd.spec.versions.iter();
        let selectable =
            |v: &CustomResourceDefinitionVersion| json!(v.selectable_fields.as_ref().filter(|_| selects));
        versions.map(|v| json!([v.name, v.schema, selectable(v)])).collect::<Value>()
    };
    let (wanted, found) = (fields(wanted), fields(found));
    match wanted == found {
        true => Age::Same,
        false if has_all(&wanted, &found) => Age::Later,
        false => Age::Other,
    }
}

/// Whether one schema has every member and item of the other; texts may differ.
fn has_all(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().all(|(name, wanted)| {
            name == "description" || found.get(name).is_some_and(|found| has_all(wanted, found))
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.iter().all(|wanted| found.iter().any(|found| has_all(wanted, found)))
        }
        _ => wanted == found,
    }
}

/// Looks at the controller, its rights and what guards them.
pub async fn controller(client: &Client, installed: &Installed, report: &mut Report) -> anyhow::Result<()> {
    let release = &installed.release;
    let Some(account) = &installed.account else {
        report
            .error(format!("no account has the ClusterRole {}", rights::CONTROLLER_ROLE), release.install());
        return Ok(());
    };
    if let Some(found) = &installed.deployment {
        deployment(found, &account.namespace, report);
    } else {
        let what = format!("no controller is deployed in namespace {}", account.namespace);
        match leader(client, &account.namespace).await {
            Some(leader) => report.warning(
                format!("{what}, but {leader} leads"),
                "nothing, if it is meant to run outside of the cluster",
            ),
            None => report.error(what, release.install()),
        }
    }
    own_rights(client, account, release, report).await?;
    policies(client, account, release, report).await
}

/// Who holds the Lease, wherever he runs; none, too, if that may not be read.
async fn leader(client: &Client, namespace: &str) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let spec = leases.get_opt(rights::LEASE).await.ok().flatten()?.spec?;
    let is_alive = now().duration_since(spec.renew_time?.0) < LONG_DEAD;
    spec.holder_identity.filter(|holder| is_alive && !holder.is_empty())
}

fn deployment(deployment: &Deployment, namespace: &str, report: &mut Report) {
    let of = deployment.name_any();
    let name = format!("Deployment {namespace}/{of}");
    let wanted = replicas(deployment);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let what = format!("{name}: {ready} of {wanted} replicas ready");
    let look = format!("kubectl -n {namespace} get pods,events");
    match ready {
        0 => report.error(what, look),
        some if some < wanted => report.warning(what, look),
        _ if !is_rolled_out(deployment) => report.warning(
            format!("{what}, but not all are of its newest version"),
            format!("kubectl -n {namespace} rollout status deployment/{of}"),
        ),
        _ => report.good(what),
    }
    let version = deployment.labels().get("app.kubernetes.io/version").cloned().unwrap_or_default();
    if version != env!("CARGO_PKG_VERSION") {
        let what = format!("{name} is of version {version}, this fother of {}", env!("CARGO_PKG_VERSION"));
        report.warning(what, "use the same version, or believe `fother version` of the controller");
    }
}

/// How many replicas a Deployment is to have.
fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether all replicas are what the Deployment says now. Those of before stay until the new ones are ready, so that after
/// an upgrade that fails as many are ready as are wanted, and none of them is new.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let updated = status.updated_replicas.unwrap_or(0);
    status.observed_generation >= deployment.metadata.generation
        && updated >= replicas(deployment)
        && status.replicas.unwrap_or(0) <= updated
}

/// Asks for each of the rights that the controller needs, and for those that it must not have.
async fn own_rights(
    client: &Client,
    account: &ControllerAccount,
    release: &Release,
    report: &mut Report,
) -> anyhow::Result<()> {
    let who = account.parts();
    let home = rights::lease(&account.namespace);
    let mut lacking = Vec::new();
    for (place, rules) in [("", rights::controller().rules), (account.namespace.as_str(), home.rules)] {
        for asked in rules.iter().flatten().flat_map(|rule| questions(rule, place)) {
            if !account_may(client, who, asked.clone()).await? {
                lacking.push(words(&asked));
            }
        }
    }
    let name = format!("the controller, ServiceAccount {account},");
    match lacking.is_empty() {
        true => report.good(format!("{name} has its rights")),
        false => report.error(format!("{name} may not {}", lacking.join(", ")), release.install()),
    }
    for namespace in ["", "kube-system", account.namespace.as_str()] {
        let asked = impersonation(namespace, None);
        if account_may(client, who, asked).await? {
            let place = if namespace.is_empty() { "the whole cluster" } else { namespace };
            let what = format!("{name} may act as any account of {place}");
            report.error(what, "delete the binding that says so; enroll one namespace at a time");
        }
    }
    Ok(())
}

/// Whether somebody may act as an account of a namespace; as any, without a name.
pub fn impersonation(namespace: &str, name: Option<&str>) -> ResourceAttributes {
    ResourceAttributes {
        verb: Some("impersonate".to_owned()),
        resource: Some("serviceaccounts".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

/// The single questions that a rule of a role answers.
pub fn questions(rule: &PolicyRule, namespace: &str) -> Vec<ResourceAttributes> {
    let mut asked = Vec::new();
    let name = rule.resource_names.iter().flatten().next();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            asked.extend(rule.verbs.iter().map(|verb| ResourceAttributes {
                verb: Some(verb.clone()),
                group: Some(group.clone()),
                resource: Some(resource.to_owned()),
                subresource: Some(subresource.to_owned()),
                namespace: Some(namespace.to_owned()),
                name: name.cloned(),
                ..ResourceAttributes::default()
            }));
        }
    }
    asked
}

/// A question as people ask it.
pub fn words(asked: &ResourceAttributes) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let subresource = text(&asked.subresource);
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{} {}{slash}{subresource}", text(&asked.verb), text(&asked.resource))
}

/// Whether a binding has its policy refuse; one that only warns keeps nobody from anything.
fn denies(binding: &ValidatingAdmissionPolicyBinding, policy: &str) -> bool {
    binding.spec.as_ref().is_some_and(|spec| {
        spec.policy_name.as_deref() == Some(policy)
            && spec.validation_actions.iter().flatten().any(|action| action == "Deny")
    })
}

/// Whether a policy speaks of an account, by the name that the API server has for it.
fn names(policy: &ValidatingAdmissionPolicy, account: &ControllerAccount) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let user = format!("'system:serviceaccount:{}:{}'", account.namespace, account.name);
    let conditions = spec.match_conditions.iter().flatten().map(|condition| &condition.expression);
    let validations = spec.validations.iter().flatten().map(|validation| &validation.expression);
    conditions.chain(validations).any(|expression| expression.contains(&user))
}

async fn policies(
    client: &Client,
    account: &ControllerAccount,
    release: &Release,
    report: &mut Report,
) -> anyhow::Result<()> {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let failed = "failed to read the admission policies";
    let (mut missing, mut foreign) = (Vec::new(), Vec::new());
    for name in POLICIES {
        let binding = optional(bindings.get(name).await).context(failed)?;
        let policy = optional(policies.get(name).await).context(failed)?;
        match policy.filter(|_| binding.is_some_and(|binding| denies(&binding, name))) {
            None => missing.push(name),
            Some(policy) if NAMING.contains(&name) && !names(&policy, account) => foreign.push(name),
            Some(_) => {}
        }
    }
    if missing.is_empty() && foreign.is_empty() {
        report.good("admission policies");
    }
    if !missing.is_empty() {
        let what = format!("admission policies are missing, or refuse nothing: {}", missing.join(", "));
        report.warning(what, release.install_with("admissionPolicies.enabled=true"));
    }
    if !foreign.is_empty() {
        let what = format!(
            "admission policies do not name the controller, ServiceAccount {account}: {}",
            foreign.join(", ")
        );
        report.error(what, release.install());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_of_a_rule_is_asked_for() {
        let rule: PolicyRule = serde_json::from_value(json!({
            "apiGroups": ["fother.dev"], "resources": ["rules", "rules/status"], "verbs": ["get", "patch"],
        }))
        .expect("a rule");
        let asked: Vec<_> = questions(&rule, "").iter().map(words).collect();
        assert_eq!(asked, ["get rules", "patch rules", "get rules/status", "patch rules/status"]);
    }

    #[test]
    fn a_kind_that_lacks_a_field_is_not_a_later_one() {
        let wanted = &crate::api::crds()[0];
        let other = |change: fn(&mut Value)| {
            let mut other = serde_json::to_value(wanted).expect("plain data");
            change(
                &mut other["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"],
            );
            age(wanted, &serde_json::from_value(other).expect("a kind"))
        };
        assert_eq!(other(|_| ()), Age::Same);
        assert_eq!(other(|fields| fields["pace"] = json!({"type": "string"})), Age::Later);
        assert_eq!(other(|fields| fields["url"]["maxLength"] = json!(1)), Age::Other);
        assert_eq!(
            other(|fields| drop(fields.as_object_mut().map(|fields| fields.remove("url")))),
            Age::Other
        );
    }

    /// Kubernetes 1.30 stores a kind without them.
    #[test]
    fn a_kind_without_any_selectable_field_is_the_same() {
        let wanted = crate::api::crds().into_iter().find(|crd| crd.spec.names.kind == "Execution");
        let wanted = wanted.expect("Executions");
        let with = |fields: &[&str]| {
            let mut other = serde_json::to_value(&wanted).expect("plain data");
            let fields = fields.iter().map(|path| json!({"jsonPath": path})).collect::<Vec<_>>();
            other["spec"]["versions"][0]["selectableFields"] =
                if fields.is_empty() { Value::Null } else { json!(fields) };
            age(&wanted, &serde_json::from_value(other).expect("a kind"))
        };
        let own = [".spec.decision.rule.name", ".spec.target.kind", ".spec.target.name"];
        assert_eq!(with(&own), Age::Same);
        assert_eq!(with(&[]), Age::Same);
        assert_eq!(with(&own[..1]), Age::Other);
        assert_eq!(with(&[&own[..], &[".spec.run"]].concat()), Age::Later);
    }

    #[test]
    fn a_rollout_that_is_not_over_is_noticed() {
        let with = |replicas: i32, status: Value| {
            let spec = json!({"replicas": replicas, "selector": {}, "template": {}});
            let deployment = json!({"metadata": {"generation": 3}, "spec": spec, "status": status});
            is_rolled_out(&serde_json::from_value(deployment).expect("a Deployment"))
        };
        let status = |seen: i64, replicas: i32, updated: i32| json!({"observedGeneration": seen, "replicas": replicas, "readyReplicas": 2, "updatedReplicas": updated});
        assert!(with(2, status(3, 2, 2)));
        assert!(!with(2, status(2, 2, 2)), "what it was changed to is not begun");
        assert!(!with(2, status(3, 3, 1)), "a new one is there, of two");
        assert!(!with(1, status(3, 2, 1)), "the one of before is there, too");
        assert!(!with(2, json!({"replicas": 2, "readyReplicas": 2})), "nobody has said anything");
    }

    #[test]
    fn a_policy_names_the_controller_in_its_expressions() {
        let account: ControllerAccount = "ops/fother".parse().expect("an account");
        let policy = |spec: Value| -> ValidatingAdmissionPolicy {
            serde_json::from_value(json!({"spec": spec})).expect("a policy")
        };
        let named = |user: &str| format!("request.userInfo.username == 'system:serviceaccount:{user}'");
        let validation = |user: &str| policy(json!({"validations": [{"expression": named(user)}]}));
        assert!(names(&validation("ops:fother"), &account));
        assert!(!names(&validation("fother:fother"), &account));
        assert!(!names(&validation("ops:fother-2"), &account));
        let condition = json!([{"name": "is-the-controller", "expression": named("ops:fother")}]);
        assert!(names(&policy(json!({"matchConditions": condition})), &account));
        let message = json!([{"expression": "false", "message": named("ops:fother")}]);
        assert!(!names(&policy(json!({"validations": message})), &account));
    }

    /// What is asked of them is what the chart's say.
    #[test]
    fn the_policies_that_name_the_controller_are_those_of_the_chart() {
        let chart = include_str!("../../../charts/fother/templates/policies.yaml");
        let policies =
            chart.split("\n---\n").filter(|policy| policy.contains("kind: ValidatingAdmissionPolicy\n"));
        let naming = policies.filter(|policy| policy.contains("'{{ include \"fother.user\" . }}'"));
        let name =
            |policy: &str| policy.lines().find_map(|line| line.strip_prefix("  name: ")).map(str::to_owned);
        assert_eq!(naming.filter_map(name).collect::<Vec<_>>(), NAMING);
    }
}
