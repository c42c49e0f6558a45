//! What a request asks for, without the names in it: what is the same in two remediations of different objects.

use std::fmt;

use http::{Method, Uri};

use super::is_watch;

/// A verb and what it is done to, as in `patch executions/status`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Kind(String);

impl Kind {
    /// The kind of a request.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let mut path = uri.path().trim_matches('/').split('/');
        let is_resource = match path.next() {
            Some("api") => path.next().is_some(),
            Some("apis") => path.nth(1).is_some(),
            _ => false,
        };
        let mut rest: Vec<_> = path.collect();
        // A namespace itself is a resource, too.
        if rest.len() > 2 && rest[0] == "namespaces" {
            rest.drain(..2);
        }
        let Some(resource) = rest.first().filter(|_| is_resource) else {
            return Self(format!("{} {}", method.as_str().to_lowercase(), uri.path()));
        };
        let verb = match uri.query().is_some_and(|query| query.contains("dryRun=All")) {
            true => "try",
            false => verb(method, rest.len() > 1, is_watch(uri)),
        };
        let part = rest.get(2).map(|part| format!("/{part}")).unwrap_or_default();
        Self(format!("{verb} {resource}{part}"))
    }

    /// The verb.
    pub fn verb(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// What it is done to.
    pub fn resource(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether it only asks.
    pub fn is_read(&self) -> bool {
        matches!(self.verb(), "get" | "list" | "watch" | "try") || self.resource().ends_with("reviews")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn verb(method: &Method, is_named: bool, is_watch: bool) -> &'static str {
    match (method, is_named) {
        (_, _) if is_watch => "watch",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        (_, true) => "get",
        (_, false) => "list",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_done_to_what() {
        let kinds: Vec<_> = [
            (Method::GET, "/api/v1/namespaces/a/configmaps/ark"),
            (Method::GET, "/api/v1/namespaces/a/configmaps?limit=5"),
            (Method::GET, "/api/v1/configmaps?watch=true"),
            (Method::GET, "/api/v1/namespaces/a"),
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs?"),
            (
                Method::PATCH,
                "/apis/fother.dev/v1alpha1/namespaces/a/executions/ark-1/status?fieldManager=fother",
            ),
            (Method::DELETE, "/apis/batch/v1/namespaces/a/jobs/ark-1"),
            (Method::PATCH, "/apis/fother.dev/v1alpha1/namespaces/a/rules/ark?&dryRun=All&force=true"),
            (Method::GET, "/openapi/v3/apis/fother.dev/v1alpha1"),
            (Method::GET, "/apis/batch/v1"),
        ]
        .into_iter()
        .map(|(method, uri)| Kind::of(&method, &Uri::from_static(uri)).to_string())
        .collect();
        let expected = [
            "get configmaps",
            "list configmaps",
            "watch configmaps",
            "get namespaces",
            "create jobs",
            "patch executions/status",
            "delete jobs",
            "try rules",
            "get /openapi/v3/apis/fother.dev/v1alpha1",
            "get /apis/batch/v1",
        ];
        assert_eq!(kinds, expected);
    }
}
