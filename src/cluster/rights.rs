//! The controller's own rights: everything that it does by itself, and nothing else. What it does for a rule it does
//! as the rule's account, which an administrator enrols by a `RoleBinding` to [`enrolment`].

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Name of the role that the controller has in the whole cluster.
pub const CONTROLLER_ROLE: &str = "fother-controller";
/// Name of the role that is bound in each enrolled namespace.
pub const ENROLMENT_ROLE: &str = "fother-impersonate";

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        rules: Some(rules),
        ..ClusterRole::default()
    }
}

/// What the controller may do by itself.
pub fn controller() -> ClusterRole {
    role(
        CONTROLLER_ROLE,
        vec![
            rule("fother.dev", &["packs", "rules", "actions", "executions"], &["get", "list", "watch"]),
            rule(
                "fother.dev",
                &["packs/status", "rules/status", "actions/status", "executions/status"],
                &["get", "patch", "update"],
            ),
            rule("fother.dev", &["executions"], &["create", "patch", "update", "delete"]),
            rule("apps", &["controllerrevisions"], &["get", "list", "create", "delete"]),
            rule("events.k8s.io", &["events"], &["create", "patch"]),
            rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"]),
            rule("", &["serviceaccounts"], &["get"]),
        ],
    )
}

/// What lets the controller act as the accounts of a namespace, by a `RoleBinding` there.
pub fn enrolment() -> ClusterRole {
    role(ENROLMENT_ROLE, vec![rule("", &["serviceaccounts"], &["impersonate"])])
}

/// All that an administrator installs for the controller's account: its cluster-wide role and binding, and the role
/// to enrol namespaces with.
pub fn installation(namespace: &str, account: &str) -> serde_json::Result<Vec<Value>> {
    let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": namespace});
    let mut roles = Vec::new();
    for role in [controller(), enrolment()] {
        let mut role = serde_json::to_value(role)?;
        role["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        role["kind"] = json!("ClusterRole");
        roles.push(role);
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": CONTROLLER_ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": CONTROLLER_ROLE},
        "subjects": [subject],
    });
    roles.extend([account, binding]);
    Ok(roles)
}
