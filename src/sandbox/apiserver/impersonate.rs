//! Impersonation: acting as another user by header, where RBAC allows it.

use http::HeaderMap;

use super::access::authorize;
use super::error::{ApiError, ApiResult};
use super::rbac::Attributes;
use super::state::State;
use super::user::User;

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

/// The user that a request acts as.
pub fn effective(state: &State, user: User, headers: &HeaderMap) -> ApiResult<User> {
    let name = values(headers, "impersonate-user").into_iter().next();
    let groups = values(headers, "impersonate-group");
    let extra = headers.keys().any(|name| name.as_str().starts_with("impersonate-extra-"));
    if extra || headers.contains_key("impersonate-uid") {
        return Err(ApiError::bad_request("impersonation of uid and extra is not modelled by this API"));
    }
    let Some(name) = name else {
        if groups.is_empty() {
            return Ok(user);
        }
        let message = "requested groups without impersonating a user name";
        return Err(ApiError::bad_request(message));
    };
    let mut target = User { name, groups };
    let asked = |resource: &str, namespace: &str, name: &str| Attributes {
        verb: "impersonate".into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let account =
        target.as_service_account().map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    match &account {
        Some((namespace, name)) => authorize(state, &user, &asked("serviceaccounts", namespace, name))?,
        None => authorize(state, &user, &asked("users", "", &target.name))?,
    }
    for group in &target.groups {
        authorize(state, &user, &asked("groups", "", group))?;
    }
    if let Some((namespace, name)) = &account
        && target.groups.is_empty()
    {
        target.groups = User::service_account(namespace, name).groups;
    }
    let implied =
        if target.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !target.in_group(implied) {
        target.groups.push(implied.to_owned());
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::clock::Clock;
    use super::*;

    #[test]
    fn impersonation_needs_the_right_and_adds_groups() {
        let state = State::new(Clock::starting_at(Timestamp::UNIX_EPOCH), 1);
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", "system:serviceaccount:n:healer".parse().unwrap());
        let healer = effective(&state, User::admin(), &headers).unwrap();
        assert_eq!(healer, User::service_account("n", "healer"));
        let refused = effective(&state, User::new("bob", &[]), &headers).unwrap_err();
        assert_eq!(
            refused.message,
            "serviceaccounts \"healer\" is forbidden: User \"bob\" cannot impersonate resource \"serviceaccounts\" in \
             API group \"\" in the namespace \"n\""
        );
    }
}
