//! Who may do what: RBAC evaluated over the stored roles and bindings.

use std::collections::BTreeSet;

use serde_json::Value;

use super::state::State;
use super::user::User;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, …
    pub verb: String,
    /// API group of the resource.
    pub group: String,
    /// Resource, or empty for a path.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty at cluster scope.
    pub namespace: String,
    /// Name, or empty.
    pub name: String,
    /// The path, where no resource is meant.
    pub path: String,
}

impl Attributes {
    /// `pods/log`, or `pods`.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

fn has(list: &Value, wanted: &str) -> bool {
    list.as_array().into_iter().flatten().any(|item| item == "*" || item == wanted)
}

/// Whether one rule allows what is asked.
pub fn rule_allows(rule: &Value, asked: &Attributes) -> bool {
    if !has(&rule["verbs"], &asked.verb) {
        return false;
    }
    if !asked.path.is_empty() {
        return rule["nonResourceURLs"].as_array().into_iter().flatten().filter_map(Value::as_str).any(
            |pattern| match pattern.strip_suffix('*') {
                Some(prefix) => asked.path.starts_with(prefix),
                None => asked.path == pattern,
            },
        );
    }
    let any_subresource = format!("*/{}", asked.subresource);
    let resource_fits = has(&rule["resources"], &asked.full_resource())
        || (!asked.subresource.is_empty() && has(&rule["resources"], &any_subresource));
    let names = &rule["resourceNames"];
    let name_fits = names.as_array().is_none_or(Vec::is_empty)
        || names.as_array().into_iter().flatten().any(|name| *name == *asked.name && !asked.name.is_empty());
    has(&rule["apiGroups"], &asked.group) && resource_fits && name_fits
}

fn is_subject(subject: &Value, user: &User, binding_namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == user.name || name == "*",
        Some("Group") => user.in_group(name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(binding_namespace);
            user.as_service_account() == Some((namespace, name))
        }
        _ => false,
    }
}

const GROUP: &str = "rbac.authorization.k8s.io";

impl State {
    /// The rules that a user has in a namespace, or at cluster scope.
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<Value> {
        self.grants(user, namespace).into_iter().flat_map(|grant| grant.rules).collect()
    }

    /// The bindings that give a user something in a namespace, or at cluster scope.
    fn grants(&self, user: &User, namespace: &str) -> Vec<Grant> {
        let everywhere = self.store.list(&format!("clusterrolebindings.{GROUP}"), None).map(|(_, b)| (b, ""));
        let storage = format!("rolebindings.{GROUP}");
        let here = (!namespace.is_empty()).then(|| self.store.list(&storage, Some(namespace)));
        let here = here.into_iter().flatten().map(|(_, binding)| (binding, namespace));
        let bound = everywhere.chain(here).filter_map(|(binding, namespace)| {
            let subject = subject_of(binding, user, namespace)?;
            let rules = self.role_rules(&binding["roleRef"], namespace);
            Some(Grant { reason: reason(binding, subject, namespace), rules })
        });
        bound.collect()
    }

    /// Whether the user may.
    pub fn allows(&self, user: &User, asked: &Attributes) -> bool {
        self.allowed_by(user, asked).is_some()
    }

    /// Why the user may; nothing where they may not. Who may do everything needs no reason.
    pub fn allowed_by(&self, user: &User, asked: &Attributes) -> Option<String> {
        if user.in_group("system:masters") {
            return Some(String::new());
        }
        let mut grants = self.grants(user, &asked.namespace).into_iter();
        grants.find(|grant| grant.rules.iter().any(|rule| rule_allows(rule, asked))).map(|grant| grant.reason)
    }

    fn role_rules(&self, reference: &Value, namespace: &str) -> Vec<Value> {
        let name = reference["name"].as_str().unwrap_or_default();
        match reference["kind"].as_str() {
            Some("ClusterRole") => self.cluster_role_rules(name, &mut BTreeSet::new()),
            Some("Role") => {
                let storage = format!("roles.{GROUP}");
                let mut roles = self.store.list(&storage, Some(namespace));
                let role = roles.find(|(key, _)| key.1 == name);
                role.and_then(|(_, role)| role["rules"].as_array().cloned()).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// A ClusterRole's own rules and those it aggregates.
    fn cluster_role_rules(&self, name: &str, seen: &mut BTreeSet<String>) -> Vec<Value> {
        if !seen.insert(name.to_owned()) {
            return Vec::new();
        }
        let storage = format!("clusterroles.{GROUP}");
        let Some((_, role)) = self.store.list(&storage, None).find(|(key, _)| key.1 == name) else {
            return Vec::new();
        };
        let mut rules = role["rules"].as_array().cloned().unwrap_or_default();
        for selector in role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten() {
            let wanted = selector["matchLabels"].as_object().into_iter().flatten();
            for (key, other) in self.store.list(&storage, None) {
                if wanted.clone().all(|(label, value)| other["metadata"]["labels"].get(label) == Some(value))
                {
                    rules.extend(self.cluster_role_rules(&key.1, seen));
                }
            }
        }
        rules
    }
}

/// The rules of one binding, and how a review names it.
struct Grant {
    reason: String,
    rules: Vec<Value>,
}

fn subject_of<'a>(binding: &'a Value, user: &User, namespace: &str) -> Option<&'a Value> {
    let mut subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects.find(|subject| is_subject(subject, user, namespace))
}

fn reason(binding: &Value, subject: &Value, namespace: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&binding["metadata"]["name"]);
    let (kind, name) = match namespace {
        "" => ("ClusterRoleBinding", name),
        namespace => ("RoleBinding", format!("{name}/{namespace}")),
    };
    let (role_kind, role) = (text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
    let subject_name = match subject["namespace"].as_str() {
        Some(namespace) => format!("{}/{namespace}", text(&subject["name"])),
        None => text(&subject["name"]),
    };
    let subject_kind = text(&subject["kind"]);
    format!("RBAC: allowed by {kind} {name:?} of {role_kind} {role:?} to {subject_kind} {subject_name:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_allow_what_they_name() {
        let rule =
            json!({"apiGroups": ["", "apps"], "resources": ["pods", "*/scale"], "verbs": ["get", "patch"]});
        let named = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"], "resourceNames": ["a"]});
        let paths = json!({"nonResourceURLs": ["/api", "/apis/*"], "verbs": ["get"]});
        let ask = |verb: &str, group: &str, resource: &str, subresource: &str, name: &str| Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let path = |path: &str| Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
        let cases = [
            (&rule, ask("get", "", "pods", "", "x"), true),
            (&rule, ask("get", "", "pods", "log", "x"), false),
            (&rule, ask("patch", "apps", "deployments", "scale", "x"), true),
            (&rule, ask("delete", "", "pods", "", "x"), false),
            (&rule, ask("get", "batch", "pods", "", "x"), false),
            (&named, ask("delete", "", "pods", "", "a"), true),
            (&named, ask("delete", "", "pods", "", "b"), false),
            (&named, ask("list", "", "pods", "", ""), false),
            (&paths, path("/apis/apps"), true),
            (&paths, path("/api/v1"), false),
        ];
        for (rule, asked, expected) in cases {
            assert_eq!(rule_allows(rule, &asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn subjects_are_users_groups_and_accounts() {
        let user = User::service_account("n", "healer");
        let cases = [
            (json!({"kind": "ServiceAccount", "name": "healer", "namespace": "n"}), true),
            (json!({"kind": "ServiceAccount", "name": "healer", "namespace": "m"}), false),
            (json!({"kind": "Group", "name": "system:serviceaccounts:n"}), true),
            (json!({"kind": "User", "name": "system:serviceaccount:n:healer"}), true),
            (json!({"kind": "User", "name": "other"}), false),
        ];
        for (subject, expected) in cases {
            assert_eq!(is_subject(&subject, &user, ""), expected, "{subject}");
        }
    }
}
