//! What a fresh cluster has: namespaces and the default ClusterRoles.

use serde_json::{Value, json};

use super::query::WriteOptions;
use super::state::{State, Write};

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates the objects of a fresh cluster.
pub fn fill(state: &mut State) {
    for name in NAMESPACES {
        create(state, "namespaces", json!({"metadata": {"name": name}}));
    }
    for role in roles() {
        create(state, "clusterroles", role);
    }
    for (name, role, group) in [
        ("cluster-admin", "cluster-admin", "system:masters"),
        ("system:basic-user", "system:basic-user", "system:authenticated"),
        ("system:discovery", "system:discovery", "system:authenticated"),
        ("system:public-info-viewer", "system:public-info-viewer", "system:authenticated"),
        ("system:public-info-viewer:unauthenticated", "system:public-info-viewer", "system:unauthenticated"),
    ] {
        let binding = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
        });
        create(state, "clusterrolebindings", binding);
    }
}

fn create(state: &mut State, plural: &str, object: Value) {
    let resource = state.registry.all().find(|resource| resource.plural == plural).cloned();
    let resource = resource.expect("the kinds of a fresh cluster are built in");
    let options = WriteOptions::default();
    let mut write = Write {
        resource: &resource,
        subresource: "",
        namespace: "",
        options: &options,
        manager: "kube-apiserver",
        warnings: Vec::new(),
    };
    state.create(&mut write, object).expect("the objects of a fresh cluster are valid");
}

fn role(name: &str, rules: &Value) -> Value {
    let labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    json!({"metadata": {"name": name, "labels": labels}, "rules": rules})
}

/// A role that collects the rules of those labelled for it.
fn aggregate(name: &str) -> Value {
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}");
    let mut role = role(name, &json!([]));
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    role
}

fn part(name: &str, into: &str, rules: &Value) -> Value {
    let mut role = role(name, rules);
    role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] = "true".into();
    role
}

fn roles() -> Vec<Value> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
    let core = [
        "bindings",
        "configmaps",
        "events",
        "limitranges",
        "persistentvolumeclaims",
        "pods",
        "pods/log",
        "pods/status",
        "resourcequotas",
        "serviceaccounts",
        "services",
        "namespaces",
    ];
    let apps = [
        "controllerrevisions",
        "daemonsets",
        "deployments",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
    ];
    let workloads = |verbs: &[&str]| {
        json!([
            {"apiGroups": [""], "resources": core, "verbs": verbs},
            {"apiGroups": ["apps"], "resources": apps, "verbs": verbs},
            {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": verbs},
            {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": verbs},
            {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": verbs},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": verbs},
        ])
    };
    let all = [&READ[..], &WRITE[..]].concat();
    let edit_more = json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": all},
        {"apiGroups": [""], "resources": ["pods/eviction", "serviceaccounts/token"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": all},
    ]);
    let admin_more = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "roles"],
         "verbs": all},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]},
    ]);
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    vec![
        role(
            "cluster-admin",
            &json!([
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]),
        ),
        part("system:aggregate-to-view", "view", &workloads(&READ)),
        part("system:aggregate-to-edit", "edit", &workloads(&WRITE)),
        part("system:aggregate-to-edit-more", "edit", &edit_more),
        part("system:aggregate-to-admin", "admin", &admin_more),
        aggregate("view"),
        {
            let mut edit = aggregate("edit");
            edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] = "true".into();
            extend(&mut edit, "view");
            edit
        },
        {
            let mut admin = aggregate("admin");
            extend(&mut admin, "edit");
            extend(&mut admin, "view");
            admin
        },
        role(
            "system:basic-user",
            &json!([
                {"apiGroups": ["authorization.k8s.io"],
                 "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
                {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
            ]),
        ),
        role("system:discovery", &json!([{"nonResourceURLs": discovery, "verbs": ["get"]}])),
        role(
            "system:public-info-viewer",
            &json!([{
                "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"],
            }]),
        ),
    ]
}

fn extend(role: &mut Value, with: &str) {
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{with}");
    if let Value::Array(selectors) = &mut role["aggregationRule"]["clusterRoleSelectors"] {
        selectors.push(json!({"matchLabels": {label: "true"}}));
    }
}
