//! The verbs on objects: reads what a request brings, lets the state do it, and puts the result into the
//! form that was asked for.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header;
use serde_json::{Value, json};

use super::Shared;
use super::error::{ApiError, ApiResult};
use super::http::{Answer, Call, Reply};
use super::lifecycle::DeleteOptions;
use super::list::Selection;
use super::media::{Accept, Renderer};
use super::meta;
use super::patch::Patch;
use super::query::{ListOptions, WriteOptions, dry_run};
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
    let object = {
        let state = shared.state.lock();
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

/// Reads the body as one JSON (or, where YAML may come, YAML) document.
pub fn body(call: &Call, yaml: bool) -> ApiResult<Value> {
    if let Ok(value) = serde_json::from_slice(&call.body) {
        return Ok(value);
    }
    if yaml
        && let Ok(text) = std::str::from_utf8(&call.body)
        && let Ok(value) = serde_saphyr::from_str(text)
    {
        return Ok(value);
    }
    let error = serde_json::from_slice::<Value>(&call.body).err().map(|error| error.to_string());
    let message = error.unwrap_or_default();
    Err(ApiError::bad_request(format!(
        "the object provided is unrecognized: couldn't get version/kind; json parse error: {message}"
    )))
}

/// The media type of the body.
pub fn content_type(call: &Call) -> &str {
    let value = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split(';').next()).map_or("application/json", str::trim)
}

/// A whole object from the body.
pub fn object_body(call: &Call) -> ApiResult<Value> {
    match content_type(call) {
        "application/json" => body(call, false),
        "application/yaml" => body(call, true),
        "application/vnd.kubernetes.protobuf" => protobuf::decode(&call.body)
            .ok_or_else(|| ApiError::bad_request("the body is no protobuf object of a kind that is served")),
        _ => Err(ApiError::unsupported_media_type()),
    }
}

/// Who writes: the parameter, else the client program's name.
pub fn manager(call: &Call, options: &WriteOptions) -> String {
    let agent =
        call.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    let program = agent.split('/').next().unwrap_or("unknown").to_owned();
    options.field_manager.clone().unwrap_or(program)
}

fn create(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let options = WriteOptions::from_query(&call.query)?;
    let mut object = object_body(call)?;
    if object["metadata"].is_object() {
        meta::remove(&mut object["metadata"], "managedFields");
    }
    if request.resource.plural == "namespaces" && object["metadata"]["namespace"].is_string() {
        meta::remove(&mut object["metadata"], "namespace");
    }
    let manager = manager(call, &options);
    let (namespace, _) = place(request);
    let mut write = Write {
        resource: &request.resource,
        subresource: "",
        namespace,
        options: &options,
        manager: &manager,
        warnings: Vec::new(),
    };
    let created = shared.state.lock().create(&mut write, object)?;
    let warnings = std::mem::take(&mut write.warnings);
    Ok(Reply { answer: Answer::Json(201, renderer(shared, call, request)?.object(&created)), warnings })
}

fn change(call: &Call, request: &ResourceRequest) -> ApiResult<Change> {
    if request.verb == "update" {
        return object_body(call).map(Change::Replace);
    }
    let patch = match content_type(call) {
        "application/json-patch+json" => Patch::Json(body(call, false)?),
        "application/merge-patch+json" => Patch::Merge(body(call, false)?),
        "application/strategic-merge-patch+json" => Patch::Strategic(body(call, false)?),
        "application/apply-patch+yaml" => Patch::Apply(body(call, true)?),
        _ => return Err(ApiError::unsupported_media_type()),
    };
    Ok(Change::Patch(patch))
}

fn update(shared: &Shared, call: &Call, request: &ResourceRequest) -> ApiResult<Reply> {
    let options = WriteOptions::from_query(&call.query)?;
    let change = change(call, request)?;
    let is_apply = matches!(change, Change::Patch(Patch::Apply(_)));
    if is_apply && options.field_manager.is_none() {
        let cause = super::error::Cause::required("fieldManager", "is required for apply patch");
        return Err(ApiError::invalid("PatchOptions", "meta.k8s.io", "", &[cause]));
    }
    let manager = manager(call, &options);
    let (namespace, name) = place(request);
    let mut write = Write {
        resource: &request.resource,
        subresource: request.subresource.as_deref().unwrap_or_default(),
        namespace,
        options: &options,
        manager: &manager,
        warnings: Vec::new(),
    };
    let (object, created) = shared.state.lock().update(&mut write, name, &change)?;
    let warnings = std::mem::take(&mut write.warnings);
    let code = if created { 201 } else { 200 };
    Ok(Reply { answer: Answer::Json(code, renderer(shared, call, request)?.object(&object)), warnings })
}

/// Options of a deletion come in the body, the query, or both.
fn delete_options(call: &Call) -> ApiResult<DeleteOptions> {
    let given = if call.body.is_empty() { Value::Null } else { body(call, false)? };
    let mut options = DeleteOptions::from_body(&given)?;
    if let Some(grace) = call.query.number("gracePeriodSeconds")? {
        options.grace = i64::try_from(grace).ok();
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        options.propagation = Some(super::lifecycle::Propagation::parse(policy)?);
    }
    options.dry_run |= dry_run(call.query.get("dryRun"))?;
    Ok(options)
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

/// A writer on behalf of a subresource that changes the object itself.
pub fn write_for<'a>(request: &'a ResourceRequest, options: &'a WriteOptions, manager: &'a str) -> Write<'a> {
    let (namespace, _) = place(request);
    Write { resource: arc(request), subresource: "", namespace, options, manager, warnings: Vec::new() }
}

fn arc(request: &ResourceRequest) -> &Arc<super::registry::Resource> {
    &request.resource
}
