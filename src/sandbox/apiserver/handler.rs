//! The verbs on objects: reads what a request brings, lets the state do it, and puts the result into the
//! form that was asked for.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header;
use serde_json::{Value, json};

use super::Shared;
use super::access::authorize;
use super::error::{ApiError, ApiResult};
use super::http::{Answer, Call, Reply};
use super::lifecycle::DeleteOptions;
use super::list::Selection;
use super::media::{Accept, Renderer};
use super::meta;
use super::patch::Patch;
use super::query::{ListOptions, WriteOptions, parse_version};
use super::rbac::Attributes;
use super::route::ResourceRequest;
use super::state::{Change, Write, present};
use super::store::{Key, Object};
use super::watch::watch;
use super::{protobuf, reviews, subresource};

/// Answers a request about objects.
pub fn answer(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    if !request.resource.verbs.iter().any(|verb| verb == "get") {
        return reviews::answer(shared, call, request);
    }
    match (request.subresource.as_deref(), request.verb) {
        (None | Some("status"), "get") => get(shared, call, request),
        (None, "list") => list(shared, call, request),
        (None, "watch") => begin_watch(shared, call, request),
        (None, "create") => create(shared, call, request),
        (None | Some("status"), "update" | "patch") => update(shared, call, request),
        (None, "delete") => delete(shared, call, request),
        (None, "deletecollection") => delete_collection(shared, call, request),
        (Some(_), _) => subresource::answer(shared, call, request),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn renderer<'a>(shared: &Shared, call: &'a Call, request: &'a ResourceRequest) -> ApiResult<Renderer<'a>> {
    Renderer::new(&request.resource, &call.accept, &call.query, shared.state.lock().clock.now())
}

/// The namespace and name that a request names.
pub fn place(request: &ResourceRequest) -> (&str, &str) {
    (request.namespace.as_deref().unwrap_or_default(), request.name.as_deref().unwrap_or_default())
}

fn get(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    call.query.only(&["resourceVersion", "includeObject"])?;
    let (namespace, name) = place(request);
    let asked = call.query.get("resourceVersion").map(parse_version).transpose()?.unwrap_or(0);
    let object = {
        let state = shared.state.lock();
        if asked > state.store.version() {
            return Err(ApiError::too_large_resource_version(asked, state.store.version()));
        }
        present(&request.resource, state.find(&request.resource, namespace, name)?)
    };
    Ok(Answer::Json(200, renderer(shared, call, request)?.object(&object)).into())
}

fn list_options(call: &Call) -> ApiResult<ListOptions> {
    call.query.only(&[ListOptions::KNOWN, &["includeObject"]].concat())?;
    ListOptions::from_query(&call.query)
}

fn list(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let options = list_options(call)?;
    let selection = Selection::parse(&request.resource, request.namespace.as_deref(), &options)?;
    let page = shared.state.lock().list(&request.resource, &selection, &options)?;
    Ok(Answer::Json(200, renderer(shared, call, request)?.list(&page)).into())
}

fn begin_watch(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let options = list_options(call)?;
    let selection = Selection::parse(&request.resource, request.namespace.as_deref(), &options)?;
    let events = watch(&shared.state, &request.resource, selection, &options)?;
    let (state, resource) = (shared.state.clone(), request.resource.clone());
    let (accept, query) = (call.accept.clone(), call.query.clone());
    renderer(shared, call, request)?;
    let mut is_first = true;
    let lines = events.filter_map(move |event| {
        let now = state.lock().clock.now();
        let line = Renderer::new(&resource, &accept, &query, now).ok().map(|renderer| {
            let object = renderer.event(event.kind, &event.object, is_first);
            is_first = false;
            Bytes::from(format!("{}\n", json!({"type": event.kind, "object": object})))
        });
        futures::future::ready(line)
    });
    let media = if call.accept == Accept::Table {
        "application/json;as=Table;g=meta.k8s.io;v=v1"
    } else {
        "application/json"
    };
    Ok(Answer::Stream(Box::pin(lines), media).into())
}

/// The body as one JSON document.
fn json_body(call: &Call) -> Result<Value, String> {
    serde_json::from_slice(&call.body).map_err(|error| error.to_string())
}

/// The body as one document of JSON or YAML.
pub fn yaml_body(call: &Call) -> Result<Value, String> {
    json_body(call).or_else(|_| {
        let text = std::str::from_utf8(&call.body).map_err(|error| error.to_string())?;
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    })
}

/// A patch from the body.
pub fn patch_body(call: &Call) -> ApiResult<Value> {
    json_body(call).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

/// The media type of the body.
pub fn content_type(call: &Call) -> &str {
    let value = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split(';').next()).map_or("application/json", str::trim)
}

const OBJECTS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// A whole object from the body; `kind` is what it should be.
pub fn object_body(call: &Call, kind: &str) -> ApiResult<Value> {
    let unrecognized = |error: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"
        ))
    };
    let object = match content_type(call) {
        "application/json" => json_body(call).map_err(|error| unrecognized(&error))?,
        "application/yaml" => yaml_body(call).map_err(|error| unrecognized(&error))?,
        "application/vnd.kubernetes.protobuf" => protobuf::decode(&call.body).ok_or_else(|| {
            ApiError::bad_request("the body is no protobuf object of a kind that is served")
        })?,
        _ => return Err(ApiError::unsupported_media_type(OBJECTS)),
    };
    if object.is_object() { Ok(object) } else { Err(unrecognized("it is no object")) }
}

/// Who writes: the parameter, else the client program's name.
pub fn manager(call: &Call, options: &WriteOptions) -> String {
    let agent =
        call.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    let program = agent.split('/').next().unwrap_or("unknown").to_owned();
    options.field_manager.clone().unwrap_or(program)
}

fn create(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let options = WriteOptions::from_query(&call.query, "CreateOptions")?;
    let mut object = object_body(call, &request.resource.kind)?;
    if object["metadata"].is_object() {
        meta::remove(&mut object["metadata"], "managedFields");
    }
    if request.resource.plural == "namespaces" && object["metadata"]["namespace"].is_string() {
        meta::remove(&mut object["metadata"], "namespace");
    }
    let manager = manager(call, &options);
    let mut write = write_for(request, &options, &manager);
    let created = shared.state.lock().create(&mut write, object)?;
    let warnings = std::mem::take(&mut write.warnings);
    Ok(Reply { answer: Answer::Json(201, renderer(shared, call, request)?.object(&created)), warnings })
}

/// Custom kinds have no struct to merge along.
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

fn change(call: &Call, request: &ResourceRequest) -> ApiResult<Change> {
    let is_custom = request.resource.custom.is_some();
    if request.verb == "update" {
        return object_body(call, &request.resource.kind).map(Change::Replace);
    }
    let patch = match content_type(call) {
        "application/json-patch+json" => Patch::Json(patch_body(call)?),
        "application/merge-patch+json" => Patch::Merge(patch_body(call)?),
        "application/strategic-merge-patch+json" if !is_custom => Patch::Strategic(patch_body(call)?),
        "application/apply-patch+yaml" => Patch::Apply(
            yaml_body(call)
                .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?,
        ),
        _ if is_custom => return Err(ApiError::unsupported_media_type(CUSTOM_PATCHES)),
        _ => return Err(ApiError::unknown_patch()),
    };
    Ok(Change::Patch(patch))
}

fn update(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let kind = if request.verb == "update" { "UpdateOptions" } else { "PatchOptions" };
    let options = WriteOptions::from_query(&call.query, kind)?;
    let change = change(call, request)?;
    let is_apply = matches!(change, Change::Patch(Patch::Apply(_)));
    if request.verb == "patch" {
        options.check_patch(&call.query, is_apply)?;
    }
    let manager = manager(call, &options);
    let (namespace, name) = place(request);
    let mut write = write_for(request, &options, &manager);
    write.subresource = request.subresource.as_deref().unwrap_or_default();
    let mut state = shared.state.lock();
    if is_apply && write.subresource.is_empty() && state.find(&request.resource, namespace, name).is_err() {
        authorize(&state, &call.user, &creation(request))?;
    }
    let (object, created) = state.update(&mut write, name, &change)?;
    drop(state);
    let warnings = std::mem::take(&mut write.warnings);
    let code = if created { 201 } else { 200 };
    Ok(Reply { answer: Answer::Json(code, renderer(shared, call, request)?.object(&object)), warnings })
}

/// What an apply needs to be allowed as well, where there is nothing yet.
fn creation(request: &ResourceRequest) -> Attributes {
    let (namespace, name) = place(request);
    Attributes {
        verb: "create".into(),
        group: request.resource.group.clone(),
        resource: request.resource.plural.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    }
}

/// Options of a deletion come in the body, the query, or both.
fn delete_options(call: &Call) -> ApiResult<DeleteOptions> {
    let given = if call.body.is_empty() {
        json!({})
    } else {
        json_body(call).map_err(|error| {
            ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
        })?
    };
    let mut given = DeleteOptions::check_types(given)?;
    if let Some(grace) = call.query.number("gracePeriodSeconds")? {
        given["gracePeriodSeconds"] = grace.into();
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        given["propagationPolicy"] = policy.into();
    }
    let dry_runs = call.query.all("dryRun");
    if !dry_runs.is_empty() && given["dryRun"].is_null() {
        given["dryRun"] = dry_runs.into_iter().collect();
    }
    DeleteOptions::from_body(&given)
}

const DELETE_PARAMETERS: &[&str] = &["gracePeriodSeconds", "propagationPolicy", "dryRun"];

fn delete(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    call.query.only(DELETE_PARAMETERS)?;
    let options = delete_options(call)?;
    let (namespace, name) = place(request);
    let key =
        Key { storage: request.resource.storage.clone(), name: (namespace.to_owned(), name.to_owned()) };
    let (object, gone) = shared.state.lock().delete(&request.resource, &key, &options)?;
    let mut reply = Reply::from(Answer::Json(200, deleted(request, &object, gone)));
    if request.resource.storage == "jobs.batch" && options.propagation.is_none() {
        let text = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to \
                    remove them or set propagationPolicy=Orphan to suppress this warning";
        reply.warnings.push(text.into());
    }
    Ok(reply)
}

/// Pods and a few others answer with the object, the rest with a Status, as the real server does.
fn deleted(request: &ResourceRequest, object: &Object, gone: bool) -> Value {
    const WITH_OBJECT: &[&str] = &[
        "pods.",
        "services.",
        "serviceaccounts.",
        "persistentvolumeclaims.",
        "persistentvolumes.",
        "resourcequotas.",
    ];
    let resource = &request.resource;
    if !gone || WITH_OBJECT.contains(&resource.storage.as_str()) {
        return (**object).clone();
    }
    let mut details = json!({"name": meta::text(object, "name"), "kind": resource.plural, "uid": meta::text(object, "uid")});
    if !resource.group.is_empty() {
        details["group"] = resource.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn delete_collection(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    call.query.only(&[ListOptions::KNOWN, DELETE_PARAMETERS].concat())?;
    let list_options = ListOptions::from_query(&call.query)?;
    let options = delete_options(call)?;
    let selection = Selection::parse(&request.resource, request.namespace.as_deref(), &list_options)?;
    let mut state = shared.state.lock();
    let page = state.list(&request.resource, &selection, &list_options)?;
    for object in &page.items {
        let name = (meta::text(object, "namespace").to_owned(), meta::text(object, "name").to_owned());
        let key = Key { storage: request.resource.storage.clone(), name };
        match state.delete(&request.resource, &key, &options) {
            // An earlier deletion of this very collection may have collected it.
            Err(error) if error.code == 404 => {}
            other => {
                other?;
            }
        }
    }
    drop(state);
    Ok(Answer::Json(200, renderer(shared, call, request)?.list(&page)).into())
}

/// A writer on behalf of a request.
pub fn write_for<'a>(request: &'a ResourceRequest, options: &'a WriteOptions, manager: &'a str) -> Write<'a> {
    let (namespace, _) = place(request);
    Write { resource: arc(request), subresource: "", namespace, options, manager, warnings: Vec::new() }
}

fn arc(request: &ResourceRequest) -> &Arc<super::registry::Resource> {
    &request.resource
}
