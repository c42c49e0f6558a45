//! Subresources that are not simply a part of their object: scale, binding, eviction, token and log.

use serde_json::{Value, json};

use super::Shared;
use super::error::{ApiError, ApiResult};
use super::handler::{content_type, manager, object_body, patch_body, place};
use super::http::{Answer, Call, Reply};
use super::lifecycle::DeleteOptions;
use super::logs;
use super::meta;
use super::patch::{Patch, patched};
use super::query::WriteOptions;
use super::registry::Resource;
use super::route::ResourceRequest;
use super::selector::LabelSelector;
use super::state::{Change, State, present};
use super::store::{Key, Object};
use super::user::User;

/// Answers a request about a subresource.
pub fn answer(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    match (request.subresource.as_deref(), request.verb) {
        (Some("scale"), "get") => {
            call.query.only(&["resourceVersion"])?;
            let object = find(shared, request)?;
            Ok(Answer::Json(200, scale(&request.resource, &object)).into())
        }
        (Some("scale"), "update" | "patch") => rescale(shared, call, request),
        (Some("log"), "get") => logs::answer(shared, call, &*find(shared, request)?),
        (Some("binding"), "create") => bind(shared, call, request),
        (Some("eviction"), "create") => evict(shared, call, request),
        (Some("token"), "create") => issue_token(shared, call, request),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn find(shared: &Shared, request: &ResourceRequest) -> ApiResult<Object> {
    let (namespace, name) = place(request);
    let state = shared.state.lock();
    Ok(present(&request.resource, state.find(&request.resource, namespace, name)?))
}

/// Where an object keeps (wanted replicas, actual replicas, selector).
fn scale_paths(resource: &Resource) -> (String, String, Option<String>) {
    let custom = resource.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    let pointer = |value: &Value| value.as_str().map(|path| path.replace('.', "/"));
    match custom {
        Some(scale) => (
            pointer(&scale["specReplicasPath"]).unwrap_or_default(),
            pointer(&scale["statusReplicasPath"]).unwrap_or_default(),
            pointer(&scale["labelSelectorPath"]),
        ),
        None => ("/spec/replicas".into(), "/status/replicas".into(), None),
    }
}

fn scale(resource: &Resource, object: &Value) -> Value {
    let (wanted, actual, selector_path) = scale_paths(resource);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let selector = if let Some(path) = selector_path {
        object.pointer(&path).and_then(Value::as_str).map(str::to_owned)
    } else {
        let labels = object["spec"]["selector"]["matchLabels"].as_object();
        labels.map(|labels| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let terms = labels.iter().map(|(key, value)| format!("{key}={}", text(value)));
            terms.collect::<Vec<_>>().join(",")
        })
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta::copy(&object["metadata"], &mut metadata, field);
    }
    let mut status = json!({"replicas": number(&actual)});
    if let Some(selector) = selector {
        status["selector"] = selector.into();
    }
    // Zero is left out here, as Go does with a field that may be empty.
    let wanted = Some(number(&wanted)).filter(|replicas| *replicas != 0);
    let spec = wanted.map_or_else(|| json!({}), |replicas| json!({"replicas": replicas}));
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

fn rescale(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let kind = if request.verb == "update" { "UpdateOptions" } else { "PatchOptions" };
    let options = WriteOptions::from_query(&call.query, kind)?;
    let resource = &request.resource;
    let (namespace, name) = place(request);
    let mut state = shared.state.lock();
    let object = present(resource, state.find(resource, namespace, name)?);
    let old = scale(resource, &object);
    let is_apply = content_type(call) == "application/apply-patch+yaml";
    let new = match (request.verb, content_type(call)) {
        ("update", _) | (_, "application/apply-patch+yaml") => apply_or_object(call)?,
        (_, "application/merge-patch+json" | "application/strategic-merge-patch+json") => {
            patched(None, &old, &Patch::Merge(patch_body(call)?))?
        }
        (_, "application/json-patch+json") => patched(None, &old, &Patch::Json(patch_body(call)?))?,
        _ => return Err(ApiError::unknown_patch()),
    };
    let replicas = new["spec"]["replicas"].as_i64().or(new["spec"]["replicas"].is_null().then_some(0));
    let Some(replicas) = replicas.filter(|replicas| *replicas >= 0) else {
        let detail = "must be greater than or equal to 0";
        let cause = super::error::Cause::invalid("spec.replicas", &new["spec"]["replicas"], detail);
        return Err(ApiError::invalid("Scale", "autoscaling", name, &[cause]));
    };
    let manager = manager(call, &options);
    let mut write = super::handler::write_for(request, &options, &manager);
    write.subresource = "scale";
    let change = replicas_change(resource, (name, replicas), &new, is_apply);
    let (object, _) = state.update(&mut write, name, &Change::Patch(change))?;
    Ok(Answer::Json(200, scale(resource, &object)).into())
}

fn apply_or_object(call: &Call) -> ApiResult<Value> {
    if content_type(call) == "application/apply-patch+yaml" {
        return super::handler::yaml_body(call)
            .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")));
    }
    object_body(call, "Scale")
}

/// What a change of the scale means to the object itself, in which managers own the same field.
fn replicas_change(
    resource: &Resource,
    (name, replicas): (&str, i64),
    scale: &Value,
    is_apply: bool,
) -> Patch {
    let (wanted, _, _) = scale_paths(resource);
    let mut patch = if is_apply {
        json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": name}})
    } else {
        json!({"metadata": {"resourceVersion": meta::text(scale, "resourceVersion")}})
    };
    set_pointer(&mut patch, &wanted, replicas.into());
    if is_apply { Patch::Apply(patch) } else { Patch::Merge(patch) }
}

fn set_pointer(value: &mut Value, pointer: &str, new: Value) {
    let place =
        pointer.split('/').filter(|part| !part.is_empty()).fold(value, |place, part| &mut place[part]);
    *place = new;
}

/// What a scheduler sends: the pod's node.
fn bind(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let options = WriteOptions::from_query(&call.query, "CreateOptions")?;
    let binding = object_body(call, "Binding")?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let (namespace, name) = place(request);
    let mut state = shared.state.lock();
    let pod = state.find(&request.resource, namespace, name)?.clone();
    let bound = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !bound.is_empty() {
        let why = format!("pod {name} is already assigned to node {bound:?}");
        return Err(ApiError::conflict("pods/binding", "", name, &why));
    }
    let manager = manager(call, &options);
    let mut write = super::handler::write_for(request, &options, &manager);
    write.subresource = "binding";
    let patch = json!({"spec": {"nodeName": node}});
    state.update(&mut write, name, &Change::Patch(Patch::Merge(patch)))?;
    let now = meta::time(state.clock.now());
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let patch = json!({"status": {"conditions": [condition]}});
    write.subresource = "status";
    state.update(&mut write, name, &Change::Patch(Patch::Strategic(patch)))?;
    Ok(Answer::Json(201, success()).into())
}

fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Deletes the pod unless a disruption budget forbids it.
fn evict(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let query_options = WriteOptions::from_query(&call.query, "CreateOptions")?;
    let eviction = object_body(call, "Eviction")?;
    let (namespace, name) = place(request);
    let mut options = DeleteOptions::from_body(&eviction["deleteOptions"])?;
    options.dry_run |= query_options.dry_run;
    let mut state = shared.state.lock();
    let pod = state.find(&request.resource, namespace, name)?.clone();
    check_budgets(&state, namespace, &pod)?;
    let key =
        Key { storage: request.resource.storage.clone(), name: (namespace.to_owned(), name.to_owned()) };
    state.delete(&request.resource, &key, &options)?;
    Ok(Answer::Json(201, success()).into())
}

fn check_budgets(state: &State, namespace: &str, pod: &Value) -> ApiResult<()> {
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending")) {
        return Ok(());
    }
    for (name, budget) in state.store.list("poddisruptionbudgets.policy", Some(namespace)) {
        let labels = budget["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
        let text: Vec<String> =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let selects = LabelSelector::parse(&text.join(",")).is_ok_and(|selector| selector.matches(pod));
        if selects && budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0) <= 0 {
            let mut error = ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
            );
            let message = format!("The disruption budget {} does not allow evicting pods currently", name.1);
            error.details =
                Some(Box::new(json!({"causes": [{"reason": "DisruptionBudget", "message": message}]})));
            return Err(error);
        }
    }
    Ok(())
}

/// A bearer token for a ServiceAccount. It is a random text that this API knows, not a signed one.
fn issue_token(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    WriteOptions::from_query(&call.query, "CreateOptions")?;
    let mut review = object_body(call, "TokenRequest")?;
    let (namespace, name) = place(request);
    let mut state = shared.state.lock();
    state.find(&request.resource, namespace, name)?;
    let seconds = review["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    let expires = state.clock.now().checked_add(jiff::SignedDuration::from_secs(seconds));
    let token = format!("sandbox.{}.{}", state.names.uid(), state.names.uid());
    drop(state);
    shared.tokens.lock().insert(token.clone(), User::service_account(namespace, name));
    review["kind"] = "TokenRequest".into();
    review["apiVersion"] = "authentication.k8s.io/v1".into();
    review["spec"]["expirationSeconds"] = seconds.into();
    let expires = expires.unwrap_or(jiff::Timestamp::MAX);
    review["status"] = json!({"token": token, "expirationTimestamp": meta::time(expires)});
    review["metadata"] = json!({"name": name, "namespace": namespace});
    Ok(Answer::Json(201, review).into())
}
