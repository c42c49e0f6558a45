//! The controller's own rights: everything that it does by itself, and nothing else. What it does for a rule it does
//! as the rule's account, which an administrator enrolls.
//!
//! The chart and `docs/how-to/grant-rights.md` repeat what is here; tests compare them.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::ANNOTATION;

/// Name of the role that the controller has in the whole cluster.
pub const CONTROLLER_ROLE: &str = "fother-controller";
/// Name of the role that the controller has in its own namespace.
pub const LEASE_ROLE: &str = "fother-lease";
/// Name of the role that is bound in each enrolled namespace.
pub const ENROLMENT_ROLE: &str = "fother-impersonate";
/// Name of the Lease, and of the controller's account where the chart installs it.
pub const LEASE: &str = "fother";

/// Where nobody may enroll an account: what runs there runs the cluster.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

const RBAC: &str = "rbac.authorization.k8s.io";

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

fn named(names: Vec<String>, rule: PolicyRule) -> PolicyRule {
    PolicyRule { resource_names: Some(names), ..rule }
}

fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        rules: Some(rules),
        ..ClusterRole::default()
    }
}

fn namespaced(namespace: &str, name: &str, rules: Vec<PolicyRule>) -> Role {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    Role { metadata, rules: Some(rules) }
}

/// What the controller may do by itself in the whole cluster.
pub fn controller() -> ClusterRole {
    role(
        CONTROLLER_ROLE,
        vec![
            rule(
                "fother.dev",
                &["packs", "rules", "actions", "executions", "webhooks", "eventbatches"],
                &["get", "list", "watch"],
            ),
            rule(
                "fother.dev",
                &[
                    "packs/status",
                    "rules/status",
                    "actions/status",
                    "executions/status",
                    "webhooks/status",
                    "eventbatches/status",
                ],
                &["patch"],
            ),
            rule("fother.dev", &["executions"], &["patch", "delete"]),
            rule("fother.dev", &["eventbatches"], &["delete"]),
            rule("events.k8s.io", &["events"], &["create", "patch"]),
            rule("", &["serviceaccounts"], &["get"]),
        ],
    )
}

/// What the controller may do by itself in its own namespace. A new Lease has no name yet that could be required.
pub fn lease(namespace: &str) -> Role {
    let leases = |verbs: &[&str]| rule("coordination.k8s.io", &["leases"], verbs);
    let renew = named(vec![LEASE.to_owned()], leases(&["get", "update"]));
    namespaced(namespace, LEASE_ROLE, vec![renew, leases(&["create"])])
}

/// What the controller keeps by itself in an enrolled namespace: Executions, what they run, and what Webhooks received.
pub fn kept() -> [PolicyRule; 2] {
    [
        rule("fother.dev", &["executions", "eventbatches"], &["create"]),
        rule("apps", &["controllerrevisions"], &["get", "list", "create", "delete"]),
    ]
}

fn impersonate() -> PolicyRule {
    rule("", &["serviceaccounts"], &["impersonate"])
}

/// What lets the controller act as any account of a namespace, by a `RoleBinding` there.
pub fn enrolment() -> ClusterRole {
    role(ENROLMENT_ROLE, [vec![impersonate()], kept().to_vec()].concat())
}

/// What lets the controller act as these accounts of a namespace, and no others.
pub fn enrolment_of(namespace: &str, accounts: Vec<String>) -> Role {
    let rules = [vec![named(accounts, impersonate())], kept().to_vec()].concat();
    namespaced(namespace, ENROLMENT_ROLE, rules)
}

/// All that enrolls accounts of a namespace for a controller: their annotation, the role, and who has it.
pub fn enroll(
    namespace: &str,
    accounts: &[String],
    controller: (&str, &str),
) -> serde_json::Result<Vec<Value>> {
    let mut objects: Vec<_> = accounts
        .iter()
        .map(|name| {
            let annotations = json!({ANNOTATION.allow: "true"});
            let metadata = json!({"name": name, "namespace": namespace, "annotations": annotations});
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        })
        .collect();
    objects.push(typed("Role", &enrolment_of(namespace, accounts.to_vec()))?);
    objects.push(binding(Some(namespace), ENROLMENT_ROLE, "Role", controller));
    Ok(objects)
}

/// All that an administrator installs for the controller's account, and the role to enroll namespaces with.
pub fn installation(namespace: &str, account: &str) -> serde_json::Result<Vec<Value>> {
    let controller = (namespace, account);
    Ok(vec![
        typed("ClusterRole", &self::controller())?,
        typed("ClusterRole", &enrolment())?,
        typed("Role", &lease(namespace))?,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}),
        binding(None, CONTROLLER_ROLE, "ClusterRole", controller),
        binding(Some(namespace), LEASE_ROLE, "Role", controller),
    ])
}

fn typed(kind: &str, role: &impl Serialize) -> serde_json::Result<Value> {
    let mut role = serde_json::to_value(role)?;
    role["apiVersion"] = json!(format!("{RBAC}/v1"));
    role["kind"] = json!(kind);
    Ok(role)
}

/// Binds a role under its own name.
fn binding(namespace: Option<&str>, role: &str, kind: &str, (home, account): (&str, &str)) -> Value {
    let mut metadata = json!({"name": role});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home}],
    })
}
