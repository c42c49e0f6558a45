//! Questions instead of objects: who am I, and may someone do something.

use serde_json::{Value, json};

use super::Shared;
use super::error::{ApiError, ApiResult};
use super::handler::object_body;
use super::http::{Answer, Call, Reply};
use super::query::WriteOptions;
use super::rbac::Attributes;
use super::route::ResourceRequest;
use super::user::User;

/// Answers a review.
pub fn answer(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    WriteOptions::from_query(&call.query)?;
    let mut review = object_body(call)?;
    review["kind"] = request.resource.kind.as_str().into();
    review["apiVersion"] = request.resource.api_version().into();
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    let state = shared.state.lock();
    review["status"] = match request.resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": {"username": call.user.name, "groups": call.user.groups}}),
        "SelfSubjectAccessReview" => {
            access_status(state.allows(&call.user, &attributes(&review["spec"], None)))
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let user = subject(&review["spec"])?;
            access_status(state.allows(&user, &attributes(&review["spec"], request.namespace.as_deref())))
        }
        "SelfSubjectRulesReview" => {
            let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
            rules_status(rules(&state.rules_of(&call.user, namespace), &call.user))
        }
        _ => return Err(ApiError::method_not_allowed()),
    };
    Ok(Answer::Json(201, review).into())
}

fn access_status(allowed: bool) -> Value {
    json!({"allowed": allowed})
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

fn subject(spec: &Value) -> ApiResult<User> {
    let name = spec["user"].as_str().unwrap_or_default();
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups: Vec<String> = groups.filter_map(|group| group.as_str().map(str::to_owned)).collect();
    if name.is_empty() && groups.is_empty() {
        return Err(ApiError::bad_request("at least one of user or group must be specified"));
    }
    Ok(User { name: name.to_owned(), groups })
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
