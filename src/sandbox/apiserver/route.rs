//! Reads a request's method, path and query into what is asked of which resource, as the real server's
//! `RequestInfo` does. Authorization comes before it is known whether there is such a resource.

use std::sync::Arc;

use http::Method;

use super::error::{ApiError, ApiResult};
use super::query::Query;
use super::registry::{Registry, Resource};

/// What a request about objects says of itself, whether or not there is such a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// API group, empty for core.
    pub group: String,
    /// Version in the group.
    pub version: String,
    /// Name of the resource in the path.
    pub plural: String,
    /// `status`, `scale`, … or nothing.
    pub subresource: Option<String>,
    /// The namespace of the path.
    pub namespace: Option<String>,
    /// The name of the path.
    pub name: Option<String>,
    /// What RBAC is asked for; empty for a method that means nothing.
    pub verb: &'static str,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Target {
    /// Discovery, health, OpenAPI.
    Path,
    /// Objects.
    Resource(ResourceRequest),
}

/// A request about objects.
#[derive(Clone, Debug)]
pub struct ResourceRequest {
    /// The resource.
    pub resource: Arc<Resource>,
    /// `status`, `scale`, … or nothing.
    pub subresource: Option<String>,
    /// The namespace of the path.
    pub namespace: Option<String>,
    /// The name of the path.
    pub name: Option<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
}

/// Reads what a request says; nothing where it is not about objects.
pub fn read(method: &Method, path: &str, query: &Query) -> Option<Asked> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // `/namespaces/x/status` is the namespace's own subresource.
        ["namespaces", namespace, inner, tail @ ..]
            if !(group.is_empty() && matches!(*inner, "status" | "finalize")) =>
        {
            (Some((*namespace).to_owned()), [&[*inner], tail].concat())
        }
        _ => (None, rest.to_vec()),
    };
    let name = rest.get(1).map(|name| (*name).to_owned());
    Some(Asked {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: rest[0].to_owned(),
        subresource: (rest.len() > 2).then(|| rest[2..].join("/")),
        verb: verb(method, name.is_some(), query),
        namespace,
        name,
    })
}

fn verb(method: &Method, named: bool, query: &Query) -> &'static str {
    match (method.as_str(), named) {
        ("GET", false) if query.flag("watch") => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "",
    }
}

/// Finds the resource that is meant. What names none is refused with 404, a verb that it lacks with 405.
pub fn resolve(registry: &Registry, asked: Asked) -> ApiResult<ResourceRequest> {
    let Some(resource) = registry.find(&asked.group, &asked.version, &asked.plural) else {
        return Err(unknown(registry, &asked.group, &asked.version));
    };
    let is_one = asked.name.is_some();
    let lacks_namespace = resource.namespaced && asked.namespace.is_none();
    if (!resource.namespaced && asked.namespace.is_some()) || (lacks_namespace && is_one) {
        return Err(ApiError::no_such_path());
    }
    check_verb(resource, asked.subresource.as_deref(), asked.verb)?;
    // A new object is posted to its collection, to a name only a subresource.
    let fits = match asked.verb {
        "create" => is_one == asked.subresource.is_some(),
        "update" | "patch" => is_one,
        _ => true,
    };
    if !fits || (lacks_namespace && !matches!(asked.verb, "list" | "watch")) {
        return Err(ApiError::method_not_allowed());
    }
    Ok(ResourceRequest {
        resource: resource.clone(),
        subresource: asked.subresource,
        namespace: asked.namespace,
        name: asked.name,
        verb: asked.verb,
    })
}

/// The refusal of what is below a version that is not served, or of a resource that it does not have.
pub fn unknown(registry: &Registry, group: &str, version: &str) -> ApiError {
    // A built-in group answers for all that is below it, as a custom one's version does.
    let is_known = |resource: &Arc<Resource>| {
        resource.group == group && (resource.custom.is_none() || resource.version == version)
    };
    if group.is_empty() || registry.all().any(is_known) {
        ApiError::no_such_path()
    } else {
        ApiError::page_not_found()
    }
}

fn check_verb(resource: &Resource, subresource: Option<&str>, verb: &str) -> ApiResult<()> {
    let verbs = match subresource {
        None => &resource.verbs,
        Some(name) => {
            let sub = resource.subresources.iter().find(|sub| sub.name == name);
            &sub.ok_or_else(ApiError::no_such_path)?.verbs
        }
    };
    if verbs.iter().any(|known| known == verb) { Ok(()) } else { Err(ApiError::method_not_allowed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        let cases = [
            ("GET", "/api/v1/namespaces/a/pods/p/log", "get pods/log a p"),
            ("GET", "/api/v1/pods?watch=true", "watch pods/ - -"),
            ("GET", "/api/v1/namespaces/a", "get namespaces/ - a"),
            ("PUT", "/api/v1/namespaces/a/status", "update namespaces/status - a"),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection deployments/ a -"),
            ("GET", "/apis/apps/v1/namespaces/a/nonesuch", "404"),
            ("GET", "/api/v1/namespaces/a/pods/p/exec", "404"),
            ("DELETE", "/api/v1/namespaces/a/pods/p/log", "405"),
            ("POST", "/api/v1/pods", "405"),
            ("POST", "/api/v1/nodes/x", "405"),
            ("GET", "/apis/apps/v1", "path"),
        ];
        for (method, uri, expected) in cases {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let query = Query::parse(query);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let registry = Registry::default();
            let seen = match read(&method, path, &query).map(|asked| resolve(&registry, asked)) {
                None => "path".to_owned(),
                Some(Ok(r)) => format!(
                    "{} {}/{} {} {}",
                    r.verb,
                    r.resource.plural,
                    r.subresource.unwrap_or_default(),
                    r.namespace.as_deref().unwrap_or("-"),
                    r.name.as_deref().unwrap_or("-")
                ),
                Some(Err(error)) => error.code.to_string(),
            };
            assert_eq!(seen, expected, "{uri}");
        }
    }
}
