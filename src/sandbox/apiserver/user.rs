//! Who asks: a user as authentication or impersonation leaves it.

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its name, such as `alice` or `system:serviceaccount:default:healer`.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl User {
    /// A member of `system:masters`, whom nothing is refused.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    /// A user with these groups and `system:authenticated`.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&["system:authenticated"]).map(ToString::to_string).collect();
        Self { name: name.to_owned(), groups }
    }

    /// The user that a ServiceAccount is.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Self::new(&user, &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")])
    }

    /// The (namespace, name) of the ServiceAccount that this user is.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}
