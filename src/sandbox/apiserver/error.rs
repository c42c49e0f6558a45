//! Failures as Kubernetes `Status` objects, with the texts that the real API server uses, because people
//! and clients know them. Every refusal of this API is made here.

use serde_json::{Value, json};

/// The result of everything that may be refused.
pub type ApiResult<T> = Result<T, ApiError>;

/// A refusal: what becomes the HTTP code and the `Status` body.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP code.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The text people read.
    pub message: String,
    /// What it is about, with its causes.
    pub details: Option<Box<Value>>,
}

/// One field's complaint inside an `Invalid` refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    /// Path of the field, such as `spec.replicas`.
    pub field: String,
    /// What is wrong, beginning with the type of complaint.
    pub message: String,
}

impl Cause {
    fn new(reason: &'static str, kind: &str, field: &str, detail: &str) -> Self {
        let message = if detail.is_empty() { kind.to_owned() } else { format!("{kind}: {detail}") };
        Self { reason, field: field.to_owned(), message }
    }

    /// Whether an object of which this is true may not have the shape that rules rely on.
    pub fn blocks_rules(&self) -> bool {
        const BLOCKING: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        BLOCKING.contains(&self.reason)
    }

    /// `Invalid value: <value>: <detail>`.
    pub fn invalid(field: &str, value: &Value, detail: &str) -> Self {
        Self::new("FieldValueInvalid", "Invalid value", field, &format!("{}: {detail}", show(value)))
    }

    /// `Invalid value: <detail>`, where the value itself says nothing.
    pub fn invalid_bare(field: &str, detail: &str) -> Self {
        Self::new("FieldValueInvalid", "Invalid value", field, detail)
    }

    /// A value of the wrong JSON type.
    pub fn wrong_type(field: &str, value: &Value, detail: &str) -> Self {
        Self::new("FieldValueTypeInvalid", "Invalid value", field, &format!("{}: {detail}", show_type(value)))
    }

    /// `Required value`.
    pub fn required(field: &str, detail: &str) -> Self {
        Self::new("FieldValueRequired", "Required value", field, detail)
    }

    /// `Forbidden: <detail>`.
    pub fn forbidden(field: &str, detail: &str) -> Self {
        Self::new("FieldValueForbidden", "Forbidden", field, detail)
    }

    /// `Duplicate value: <value>`.
    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self::new("FieldValueDuplicate", "Duplicate value", field, &show(value))
    }

    /// `Unsupported value: <value>: supported values: …`.
    pub fn unsupported(field: &str, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(show).collect();
        let detail = format!("{}: supported values: {}", show(value), allowed.join(", "));
        Self::new("FieldValueNotSupported", "Unsupported value", field, &detail)
    }

    /// `Too long: may not be more than <max> bytes`.
    pub fn too_long(field: &str, max: u64) -> Self {
        Self::new("FieldValueTooLong", "Too long", field, &format!("may not be more than {max} bytes"))
    }

    /// `Too many: <count>: must have at most <max> items`.
    pub fn too_many(field: &str, count: usize, max: u64) -> Self {
        let detail = format!("{count}: must have at most {max} {}", if max == 1 { "item" } else { "items" });
        Self::new("FieldValueTooMany", "Too many", field, &detail)
    }
}

fn show(value: &Value) -> String {
    value.to_string()
}

fn show_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "\"null\"",
        Value::Bool(_) => "\"boolean\"",
        Value::Number(n) if n.is_f64() => "\"number\"",
        Value::Number(_) => "\"integer\"",
        Value::String(_) => "\"string\"",
        Value::Array(_) => "\"array\"",
        Value::Object(_) => "\"object\"",
    }
}

/// `deployments.apps`, or `pods` in the core group.
pub fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = json!({});
    if !kind.is_empty() {
        details["kind"] = kind.into();
    }
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details
}

impl ApiError {
    fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// 404 for an object.
    pub fn not_found(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Self::plain(404, "NotFound", message).about(details(name, group, resource))
    }

    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self::plain(404, "NotFound", "the server could not find the requested resource").about(json!({}))
    }

    /// 404 for a path outside of the API, which is answered with a bare text.
    pub fn page_not_found() -> Self {
        Self::plain(404, "", "404 page not found\n")
    }

    /// 500 that the real server gives no reason for, although it is the request that is wrong.
    pub fn unexplained(message: impl Into<String>) -> Self {
        Self::plain(500, "", message)
    }

    /// 409 because the name is taken.
    pub fn already_exists(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        Self::plain(409, "AlreadyExists", message).about(details(name, group, resource))
    }

    /// 409 with the given explanation.
    pub fn conflict(resource: &str, group: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group));
        Self::plain(409, "Conflict", message).about(details(name, group, resource))
    }

    /// 409 because the caller's resourceVersion is not the newest.
    pub fn stale(resource: &str, group: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, group, name, why)
    }

    /// 409 from server-side apply: other managers own these fields. Each pair is (field, owner).
    pub fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(field, owner)| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {owner}"), "field": field})
            })
            .collect();
        let noun = if conflicts.len() == 1 { "conflict" } else { "conflicts" };
        let message =
            format!("Apply failed with {} {noun}: {}", conflicts.len(), summarize_conflicts(conflicts));
        Self::plain(409, "Conflict", message).about(json!({"causes": causes}))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// 403 with a complete message; `what` is (resource, group, name), empty for a path.
    pub fn forbidden(message: String, what: Option<(&str, &str, &str)>) -> Self {
        let about = what.map_or(json!({}), |(resource, group, name)| details(name, group, resource));
        Self::plain(403, "Forbidden", message).about(about)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::plain(405, "MethodNotAllowed", message).about(json!({}))
    }

    /// 406.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/json;as=Table;g=meta.k8s.io;v=v1, \
                       application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        Self::plain(406, "NotAcceptable", message)
    }

    /// 410 for a resourceVersion or continue token that is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::plain(410, "Expired", message)
    }

    /// 415, with what may come instead.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::plain(415, "UnsupportedMediaType", message)
    }

    /// 415 for a patch of a built-in kind, which the real server's router refuses before the API sees it.
    pub fn unknown_patch() -> Self {
        Self::plain(415, "UnsupportedMediaType", "415: Unsupported Media Type").about(json!({}))
    }

    /// 422 for a patch after which an object is no longer one of its kind.
    pub fn invalid_patch(patch: &Value, complaint: &str) -> Self {
        Self::invalid("", "", "", &[Cause::invalid("patch", &patch.to_string().into(), complaint)])
    }

    /// 422 with its causes; `kind` and `group` are those of the object.
    pub fn invalid(kind: &str, group: &str, name: &str, causes: &[Cause]) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for cause in causes {
            let line = format!("{}: {}", cause.field, cause.message);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let text = if lines.len() == 1 { lines.remove(0) } else { format!("[{}]", lines.join(", ")) };
        let message = format!("{} {name:?} is invalid: {text}", qualified(kind, group));
        let mut about = details(name, group, kind);
        about["causes"] = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        Self::plain(422, "Invalid", message).about(about)
    }

    /// 422 for a patch that does not fit the object.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::plain(422, "Invalid", message).about(json!({}))
    }

    /// 504 for a resourceVersion from the future.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::plain(504, "Timeout", message).about(json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self::plain(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 429, sent when a disruption budget refuses an eviction.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::plain(429, "TooManyRequests", message)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = (**details).clone();
        }
        status
    }
}

/// The real server groups the fields by owner: `conflict with "x": .a`, or a list below the owner.
fn summarize_conflicts(conflicts: &[(String, String)]) -> String {
    if let [(field, owner)] = conflicts {
        return format!("conflict with {owner}: {field}");
    }
    let mut owners: Vec<&String> = conflicts.iter().map(|(_, owner)| owner).collect();
    owners.sort();
    owners.dedup();
    let blocks: Vec<String> = owners
        .into_iter()
        .map(|owner| {
            let fields: Vec<String> =
                conflicts.iter().filter(|(_, o)| o == owner).map(|(field, _)| format!("- {field}")).collect();
            format!("conflicts with {owner}:\n{}", fields.join("\n"))
        })
        .collect();
    blocks.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_real_server() {
        let cases = [
            (ApiError::not_found("configmaps", "", "nope"), 404, "configmaps \"nope\" not found"),
            (
                ApiError::already_exists("deployments", "apps", "x"),
                409,
                "deployments.apps \"x\" already exists",
            ),
            (
                ApiError::invalid("Foo", "x.dev", "a", &[Cause::required("spec.b", "")]),
                422,
                "Foo.x.dev \"a\" is invalid: spec.b: Required value",
            ),
            (
                ApiError::apply_conflict(&[(".data.x".into(), "\"alice\"".into())]),
                409,
                "Apply failed with 1 conflict: conflict with \"alice\": .data.x",
            ),
        ];
        for (error, code, message) in cases {
            assert_eq!((error.code, error.message.as_str()), (code, message));
            assert_eq!(error.status()["code"], code);
        }
    }
}
