//! Questions instead of objects: who am I, and may someone do something.

use serde_json::{Value, json};

use super::Shared;
use super::error::{ApiError, ApiResult, Cause};
use super::handler::object_body;
use super::http::{Answer, Call, Reply};
use super::meta;
use super::query::WriteOptions;
use super::rbac::Attributes;
use super::route::ResourceRequest;
use super::user::User;

/// Answers a review.
pub fn answer(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    WriteOptions::from_query(&call.query, "CreateOptions")?;
    let mut review = object_body(call, &request.resource.kind)?;
    drop_empty_texts(&mut review["spec"]);
    check(&request.resource.kind, &review, request.namespace.as_deref())?;
    review["kind"] = request.resource.kind.as_str().into();
    review["apiVersion"] = request.resource.api_version().into();
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    let state = shared.state.lock();
    review["status"] = match request.resource.kind.as_str() {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = meta::time(state.clock.now()).into();
            json!({"userInfo": {"username": call.user.name, "groups": call.user.groups}})
        }
        "SelfSubjectAccessReview" => {
            access_status(state.allowed_by(&call.user, &attributes(&review["spec"], None)))
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let asked = attributes(&review["spec"], request.namespace.as_deref());
            access_status(state.allowed_by(&subject(&review["spec"]), &asked))
        }
        "SelfSubjectRulesReview" => {
            let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
            rules_status(rules(&state.rules_of(&call.user, namespace), &call.user))
        }
        _ => return Err(ApiError::method_not_allowed()),
    };
    Ok(Answer::Json(201, review).into())
}

fn access_status(reason: Option<String>) -> Value {
    let mut status = json!({"allowed": reason.is_some()});
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        status["reason"] = reason.into();
    }
    status
}

/// An empty text is as good as none.
fn drop_empty_texts(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, child| *child != "");
        map.values_mut().for_each(drop_empty_texts);
    }
}

/// What must be said of whom and of what.
fn check(kind: &str, review: &Value, namespace: Option<&str>) -> ApiResult<()> {
    let spec = &review["spec"];
    if !kind.ends_with("SubjectAccessReview") {
        return Ok(());
    }
    let mut causes = Vec::new();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() && path.is_object() {
        let detail = "cannot be specified in combination with resourceAttributes";
        causes.push(Cause::invalid("spec.nonResourceAttributes", path, detail));
    } else if !resource.is_object() && !path.is_object() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        causes.push(Cause::invalid("spec.resourceAttributes", &Value::Null, detail));
    }
    let has_groups = spec["groups"].as_array().is_some_and(|groups| !groups.is_empty());
    if kind != "SelfSubjectAccessReview" && spec["user"].is_null() && !has_groups {
        let detail = "at least one of user or group must be specified";
        causes.push(Cause::invalid("spec.user", &"".into(), detail));
    }
    if namespace.is_some_and(|namespace| resource.is_object() && resource["namespace"] != *namespace) {
        let field = "spec.resourceAttributes.namespace";
        causes.push(Cause::invalid(field, &resource["namespace"], "must match metadata.namespace"));
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("", "authorization.k8s.io", "", &causes)) }
}

fn attributes(spec: &Value, namespace: Option<&str>) -> Attributes {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let path = &spec["nonResourceAttributes"];
    if path.is_object() {
        return Attributes { verb: text(&path["verb"]), path: text(&path["path"]), ..Attributes::default() };
    }
    let asked = &spec["resourceAttributes"];
    Attributes {
        verb: text(&asked["verb"]),
        group: text(&asked["group"]),
        resource: text(&asked["resource"]),
        subresource: text(&asked["subresource"]),
        namespace: namespace.map_or_else(|| text(&asked["namespace"]), str::to_owned),
        name: text(&asked["name"]),
        path: String::new(),
    }
}

fn subject(spec: &Value) -> User {
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups = groups.filter_map(|group| group.as_str().map(str::to_owned)).collect();
    User { name: spec["user"].as_str().unwrap_or_default().to_owned(), groups }
}

fn rules(found: &[Value], user: &User) -> Vec<Value> {
    let mut rules = found.to_vec();
    if user.in_group("system:masters") {
        rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    rules
}

fn rules_status(rules: Vec<Value>) -> Value {
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        rules.into_iter().partition(|rule| rule["nonResourceURLs"].is_array());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
