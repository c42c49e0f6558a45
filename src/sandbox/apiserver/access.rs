//! Authorization of a request, and the texts of its refusal.

use super::error::{ApiError, ApiResult, qualified};
use super::rbac::Attributes;
use super::route::Asked;
use super::state::State;
use super::user::User;

/// What a request about objects asks of RBAC. A list of one name asks for that name, as the real one does.
pub fn attributes(asked: &Asked, selected_name: Option<&str>) -> Attributes {
    let is_namespace = asked.plural == "namespaces" && asked.group.is_empty();
    let name = asked.name.clone().or_else(|| selected_name.map(str::to_owned)).unwrap_or_default();
    Attributes {
        verb: asked.verb.to_owned(),
        group: asked.group.clone(),
        resource: asked.plural.clone(),
        subresource: asked.subresource.clone().unwrap_or_default(),
        // A namespace counts as inside itself.
        namespace: match &asked.namespace {
            Some(namespace) => namespace.clone(),
            None if is_namespace => name.clone(),
            None => String::new(),
        },
        name,
        path: String::new(),
    }
}

/// Refuses with 403 what the user may not.
pub fn authorize(state: &State, user: &User, asked: &Attributes) -> ApiResult<()> {
    if state.allows(user, asked) { Ok(()) } else { Err(refusal(user, asked)) }
}

fn refusal(user: &User, asked: &Attributes) -> ApiError {
    if !asked.path.is_empty() {
        let message = format!("forbidden: User {:?} cannot {} path {:?}", user.name, asked.verb, asked.path);
        return ApiError::forbidden(message, None);
    }
    let scope = if asked.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", asked.namespace)
    };
    let what = qualified(&asked.resource, &asked.group);
    let what = if asked.name.is_empty() { what } else { format!("{what} {:?}", asked.name) };
    let message = format!(
        "{what} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {scope}",
        user.name,
        asked.verb,
        asked.full_resource(),
        asked.group,
    );
    ApiError::forbidden(message, Some((&asked.resource, &asked.group, &asked.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_like_the_real_ones() {
        let user = User::new("bob", &[]);
        let asked =
            |resource: &str, group: &str, sub: &str, verb: &str, namespace: &str, name: &str| Attributes {
                verb: verb.into(),
                group: group.into(),
                resource: resource.into(),
                subresource: sub.into(),
                namespace: namespace.into(),
                name: name.into(),
                path: String::new(),
            };
        let cases = [
            (
                asked("pods", "", "log", "get", "default", "ab"),
                "pods \"ab\" is forbidden: User \"bob\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"default\"",
            ),
            (
                asked("deployments", "apps", "", "list", "", ""),
                "deployments.apps is forbidden: User \"bob\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope",
            ),
        ];
        for (asked, message) in cases {
            assert_eq!(refusal(&user, &asked).message, message);
        }
        let path = Attributes { verb: "get".into(), path: "/foo".into(), ..Attributes::default() };
        assert_eq!(refusal(&user, &path).message, "forbidden: User \"bob\" cannot get path \"/foo\"");
    }
}
