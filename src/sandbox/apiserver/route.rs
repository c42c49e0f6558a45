//! Reads a request's method, path and query into what is asked of which resource, as the real server's
//! `RequestInfo` does. Authorization and dispatch read nothing but this.

use std::sync::Arc;

use http::Method;

use super::error::{ApiError, ApiResult};
use super::query::Query;
use super::registry::{Registry, Resource};

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

/// Finds out what a request asks for. A path under a served group version that names no resource is
/// refused with 404, a verb that the resource lacks with 405.
pub fn route(registry: &Registry, method: &Method, path: &str, query: &Query) -> ApiResult<Target> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Target::Path),
    };
    let (namespace, rest) = match rest {
        // `/namespaces/x/status` is the namespace's own subresource.
        ["namespaces", namespace, inner, tail @ ..]
            if !(group.is_empty() && matches!(*inner, "status" | "finalize")) =>
        {
            (Some(*namespace), [&[*inner], tail].concat())
        }
        _ => (None, rest.to_vec()),
    };
    let (plural, name, subresource) = match rest.as_slice() {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return Err(ApiError::no_such_path()),
    };
    let resource = registry.find(group, version, plural).ok_or_else(ApiError::no_such_path)?.clone();
    if !resource.namespaced && namespace.is_some() {
        return Err(ApiError::no_such_path());
    }
    let verb = verb(method, (name.is_some(), subresource.is_some()), query)?;
    check_verb(&resource, subresource, verb)?;
    if resource.namespaced && namespace.is_none() && !matches!(verb, "list" | "watch") {
        return Err(ApiError::method_not_allowed());
    }
    Ok(Target::Resource(ResourceRequest {
        resource,
        subresource: subresource.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        verb,
    }))
}

fn verb(method: &Method, (named, sub): (bool, bool), query: &Query) -> ApiResult<&'static str> {
    Ok(match (method.as_str(), named) {
        ("GET", false) if query.flag("watch") => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        // A new object is posted to its collection, to a name only a subresource.
        ("POST", _) if named == sub => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Err(ApiError::method_not_allowed()),
    })
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
            let seen = match route(&Registry::default(), &method, path, &query) {
                Ok(Target::Path) => "path".to_owned(),
                Ok(Target::Resource(r)) => format!(
                    "{} {}/{} {} {}",
                    r.verb,
                    r.resource.plural,
                    r.subresource.unwrap_or_default(),
                    r.namespace.as_deref().unwrap_or("-"),
                    r.name.as_deref().unwrap_or("-")
                ),
                Err(error) => error.code.to_string(),
            };
            assert_eq!(seen, expected, "{uri}");
        }
    }
}
