//! What an administrator installs once a cluster: is it there, is it of this version, may it do what it must?

use anyhow::Context;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::report::Report;
use crate::cli::installed::ControllerAccount;
use crate::cluster::error::optional;
use crate::cluster::reviews::account_may;
use crate::cluster::rights;

/// The first minor version of Kubernetes 1 that has all that is needed.
const OLDEST_MINOR: u32 = 30;
const INSTALL: &str = "helm upgrade --install fother charts/fother -n fother --create-namespace";
/// The admission policies of the chart.
const POLICIES: [&str; 6] = [
    "fother-packs",
    "fother-rules",
    "fother-executions",
    "fother-eventbatches",
    "fother-controller",
    "fother-enrolment",
];

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
pub async fn kinds(client: &Client, report: &mut Report) -> anyhow::Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut usable = true;
    for wanted in crate::api::crds() {
        let name = wanted.name_any();
        let found = optional(api.get(&name).await).with_context(|| format!("failed to read {name}"))?;
        match found.as_ref().map(|found| (is_established(found), age(&wanted, found))) {
            None => report.error(format!("kind {name} is not installed"), INSTALL),
            Some((false, _)) => {
                report.error(format!("kind {name} is not served"), format!("kubectl describe crd {name}"));
            }
            Some((true, Age::Other)) => {
                let what = format!("kind {name} is of another version than this fother");
                report.error(what, "fother crds | kubectl apply --server-side -f -, or upgrade the chart");
            }
            Some((true, Age::Later)) => {
                let what = format!("kind {name} is of a later version than this fother");
                report.warning(what, "right after a rollback; otherwise upgrade this fother");
            }
            Some((true, Age::Same)) => report.good(format!("kind {name}")),
        }
        usable &= found.is_some_and(|found| is_established(&found));
    }
    Ok(usable)
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

/// Looks at the controller, its rights and what guards them. None if there is no controller.
pub async fn controller(client: &Client, report: &mut Report) -> anyhow::Result<Option<ControllerAccount>> {
    let Some(account) = ControllerAccount::find(client).await? else {
        report.error(format!("no account has the ClusterRole {}", rights::CONTROLLER_ROLE), INSTALL);
        return Ok(None);
    };
    deployment(client, &account.namespace, report).await?;
    own_rights(client, &account, report).await?;
    policies(client, report).await?;
    Ok(Some(account))
}

async fn deployment(client: &Client, namespace: &str, report: &mut Report) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let ours = "app.kubernetes.io/name=fother,app.kubernetes.io/component=controller";
    let found = api.list(&ListParams::default().labels(ours)).await.context("failed to list Deployments")?;
    let Some(deployment) = found.items.first() else {
        report.error(format!("no controller is deployed in namespace {namespace}"), INSTALL);
        return Ok(());
    };
    let name = format!("Deployment {namespace}/{}", deployment.name_any());
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let what = format!("{name}: {ready} of {wanted} replicas ready");
    let look = format!("kubectl -n {namespace} get pods,events");
    match ready {
        0 => report.error(what, look),
        some if some < wanted => report.warning(what, look),
        _ => report.good(what),
    }
    let version = deployment.labels().get("app.kubernetes.io/version").cloned().unwrap_or_default();
    if version != env!("CARGO_PKG_VERSION") {
        let what = format!("{name} is of version {version}, this fother of {}", env!("CARGO_PKG_VERSION"));
        report.warning(what, "use the same version, or believe `fother version` of the controller");
    }
    Ok(())
}

/// Asks for each of the rights that the controller needs, and for those that it must not have.
async fn own_rights(client: &Client, account: &ControllerAccount, report: &mut Report) -> anyhow::Result<()> {
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
        false => report.error(format!("{name} may not {}", lacking.join(", ")), INSTALL),
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

/// Whether a policy refuses; one that only warns keeps nobody from anything.
fn denies(binding: &ValidatingAdmissionPolicyBinding) -> bool {
    let spec = binding.spec.as_ref();
    spec.and_then(|spec| spec.validation_actions.as_ref())
        .is_some_and(|all| all.iter().any(|one| one == "Deny"))
}

async fn policies(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let api: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let mut missing = Vec::new();
    for name in POLICIES {
        let found = optional(api.get(name).await).context("failed to read the admission policies")?;
        if !found.is_some_and(|binding| denies(&binding)) {
            missing.push(name);
        }
    }
    match missing.is_empty() {
        true => report.good("admission policies"),
        false => report.warning(
            format!("admission policies are missing, or refuse nothing: {}", missing.join(", ")),
            format!("{INSTALL} --set admissionPolicies.enabled=true"),
        ),
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
}
