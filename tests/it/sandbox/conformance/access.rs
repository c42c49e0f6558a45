//! Who may do what: RBAC, impersonation, reviews.

use serde_json::{Value, json};

use super::exchange::Exchange;
use super::objects::map;

const ACCOUNT: &str = "system:serviceaccount:{ns}:healer";
const RBAC: &str = "rbac.authorization.k8s.io";

async fn grant(x: &mut Exchange, name: &str, rules: &Value, subject: &Value) {
    let roles = format!("{RBAC}/v1/roles");
    x.prepare("POST", &roles, &json!({"metadata": {"name": name}, "rules": rules})).await;
    x.prepare(
        "POST",
        &format!("{RBAC}/v1/rolebindings"),
        &json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}, "subjects": [subject]}),
    )
    .await;
}

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// A real server hears of roles a little later.
async fn until_allowed(x: &mut Exchange, verb: &str, resource: &str) {
    let review = json!({"spec": {"user": ACCOUNT, "resourceAttributes": {"verb": verb, "resource": resource, "namespace": "{ns}"}}});
    x.until(REVIEWS, &review, |answer| answer.body["status"]["allowed"] == true).await;
}

fn healer() -> Value {
    json!({"kind": "ServiceAccount", "name": "healer", "namespace": "{ns}"})
}

pub async fn a_role_allows_what_it_names(x: &mut Exchange) {
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get", "list", "watch", "update", "patch"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}]);
    grant(x, "healer", &rules, &healer()).await;
    until_allowed(x, "get", "configmaps").await;
    x.with(&[("impersonate-user", ACCOUNT)]);
    x.get("configmaps?labelSelector=l").await;
    x.post("configmaps", &map("one", &json!({}))).await;
    x.get("configmaps/one").await;
    x.merge("configmaps/one", &json!({})).await;
    x.put("configmaps/one", &map("one", &json!({}))).await;
    x.delete("configmaps/one", &Value::Null).await;
    x.delete("configmaps", &Value::Null).await;
    x.get("configmaps?watch=1").await;
    x.apply("configmaps/one", "alice", &map("one", &json!({}))).await;
    x.apply(
        "secrets/one",
        "alice",
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}}),
    )
    .await;
    x.get("secrets/one").await;
    x.get("secrets/two").await;
    x.get("secrets").await;
    x.get("secrets?fieldSelector=metadata.name=one").await;
    x.get("secrets?fieldSelector=metadata.name=two").await;
    x.get("/api/v1/configmaps").await;
    x.get("/api/v1/namespaces/kube-system/configmaps").await;
    x.get("/api/v1/namespaces/{ns}").await;
    x.get("/api/v1/namespaces").await;
    x.get("/api/v1/nodes/n").await;
    x.get("pods/p/log").await;
    x.merge("apps/v1/deployments/web/scale", &json!({"spec": {"replicas": 1}})).await;
    x.get("apps/v1/deployments/web").await;
    x.get("/apis/nope.dev/v1/foos").await;
    x.get("/apis/nope.dev/v1/namespaces/{ns}/foos/a").await;
    x.get("/metrics").await;
}

pub async fn impersonation(x: &mut Exchange) {
    let may = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["healer"], "verbs": ["impersonate"]}]);
    grant(x, "may", &may, &json!({"kind": "User", "apiGroup": RBAC, "name": "bob-{ns}"})).await;
    grant(x, "healer", &json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]), &healer())
        .await;
    until_allowed(x, "list", "secrets").await;
    for headers in [
        vec![("impersonate-user", ACCOUNT)],
        vec![("impersonate-user", "bob-{ns}")],
        vec![("impersonate-user", "bob"), ("impersonate-group", "system:masters")],
        vec![("impersonate-group", "system:masters")],
        vec![("impersonate-user", "system:anonymous")],
        vec![("impersonate-user", "system:serviceaccount:{ns}")],
    ] {
        x.with(&headers);
        x.get("secrets").await;
        x.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await;
    }
}

pub async fn access_reviews(x: &mut Exchange) {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    grant(x, "healer", &rules, &healer()).await;
    const SELF: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = |verb: &str, resource: &str, namespace: &str| json!({"verb": verb, "resource": resource, "namespace": namespace});
    until_allowed(x, "get", "configmaps").await;
    for spec in [
        json!({"user": ACCOUNT, "resourceAttributes": asked("get", "configmaps", "{ns}")}),
        json!({"user": ACCOUNT, "resourceAttributes": asked("get", "configmaps", "")}),
        json!({"user": ACCOUNT, "resourceAttributes": asked("delete", "configmaps", "{ns}")}),
        json!({"user": "bob", "groups": ["system:masters"], "resourceAttributes": asked("delete", "nodes", "")}),
        json!({"user": "bob", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}}),
        json!({"user": "bob", "nonResourceAttributes": {"verb": "get", "path": "/version"}}),
        json!({"user": "bob"}),
        json!({"resourceAttributes": asked("get", "configmaps", "{ns}")}),
        json!({"user": "bob", "resourceAttributes": asked("get", "pods", "x"), "nonResourceAttributes": {"verb": "get", "path": "/"}}),
        json!({}),
    ] {
        x.post(REVIEWS, &json!({"spec": spec})).await;
    }
    x.post("authorization.k8s.io/v1/localsubjectaccessreviews", &json!({"metadata": {"namespace": "{ns}"}, "spec": {"user": ACCOUNT, "resourceAttributes": asked("get", "configmaps", "{ns}")}})).await;
    x.post("authorization.k8s.io/v1/localsubjectaccessreviews", &json!({"metadata": {"namespace": "{ns}"}, "spec": {"user": ACCOUNT, "resourceAttributes": asked("get", "configmaps", "other")}})).await;
    x.post(SELF, &json!({"spec": {"resourceAttributes": asked("delete", "nodes", "")}})).await;
    x.post(SELF, &json!({"spec": {}})).await;
    x.with(&[("impersonate-user", ACCOUNT)]);
    x.post(SELF, &json!({"spec": {"resourceAttributes": asked("get", "configmaps", "{ns}")}})).await;
    x.post(SELF, &json!({"spec": {"resourceAttributes": asked("get", "secrets", "{ns}")}})).await;
    x.post(SELF, &json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/api"}}})).await;
    x.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await;
    x.get(SELF).await;
}

pub async fn roles_and_bindings_are_checked(x: &mut Exchange) {
    let binding = |reference: Value, subjects: Value| json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects});
    let role = json!({"apiGroup": RBAC, "kind": "Role", "name": "r"});
    let bindings = format!("{RBAC}/v1/rolebindings");
    for object in [
        binding(role.clone(), json!([healer()])),
        binding(role.clone(), json!([{"kind": "User", "name": "bob"}])),
        binding(role.clone(), json!([{"kind": "Group", "name": "g", "apiGroup": RBAC}])),
        binding(json!({"kind": "ClusterRole", "name": "view"}), json!([])),
    ] {
        x.post(&format!("{bindings}?dryRun=All"), &object).await;
    }
    x.post(&bindings, &binding(role, json!([healer()]))).await;
    x.merge(&format!("{bindings}/b"), &json!({"roleRef": {"name": "other"}})).await;
    x.merge(&format!("{bindings}/b"), &json!({"subjects": []})).await;
    x.post(&format!("{RBAC}/v1/roles"), &json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})).await;
}
