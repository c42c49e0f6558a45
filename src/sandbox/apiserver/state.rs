//! The API's state and every write to it: create, update and delete of one object, with what all kinds
//! share. Synchronous and under one lock; HTTP and watches are elsewhere.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::clock::Clock;
use super::crd;
use super::decode::{complaint, decode};
use super::error::{ApiError, ApiResult, Cause};
use super::events;
use super::managed::{self, Manager};
use super::meta::{self, Names};
use super::patch::{Patch, patched};
use super::query::WriteOptions;
use super::registry::{Registry, Resource, split_api_version};
use super::schema;
use super::store::{Key, Object, Store};
use super::strategy;
use super::typed;
use super::validate;

/// Everything the API knows.
pub struct State {
    /// The objects.
    pub store: Store,
    /// The kinds.
    pub registry: Registry,
    /// The time.
    pub clock: Clock,
    pub(super) names: Names,
}

/// A write that was asked for.
pub struct Write<'a> {
    /// To which resource.
    pub resource: &'a Arc<Resource>,
    /// To which subresource, or empty.
    pub subresource: &'a str,
    /// In which namespace, empty at cluster scope.
    pub namespace: &'a str,
    /// How.
    pub options: &'a WriteOptions,
    /// By which field manager.
    pub manager: &'a str,
    /// What the caller should be told.
    pub warnings: Vec<String>,
}

/// What an update does to the present object.
pub enum Change {
    /// Replaces it.
    Replace(Value),
    /// Patches it.
    Patch(Patch),
}

impl Write<'_> {
    fn key(&self, name: &str) -> Key {
        Key { storage: self.resource.storage.clone(), name: (self.namespace.to_owned(), name.to_owned()) }
    }

    fn manager(&self, now: Timestamp) -> Manager<'_> {
        Manager {
            name: self.manager,
            api_version: self.resource.api_version(),
            subresource: self.subresource,
            now,
        }
    }

    fn is_status(&self) -> bool {
        self.subresource == "status"
    }
}

/// A stored object in the form that a resource shows it.
pub fn present(resource: &Resource, stored: &Object) -> Object {
    if resource.storage == "events." {
        let is_old = resource.group.is_empty();
        return Arc::new(if is_old { events::filled(stored) } else { events::to_regarding(stored) });
    }
    let api_version = resource.api_version();
    if resource.custom.is_none() || stored["apiVersion"] == *api_version {
        return stored.clone();
    }
    let mut shown = (**stored).clone();
    shown["apiVersion"] = api_version.into();
    Arc::new(shown)
}

fn to_stored(resource: &Resource, object: Value) -> Value {
    if resource.storage == "events." && !resource.group.is_empty() {
        events::to_involved(&object)
    } else {
        object
    }
}

impl State {
    /// An empty state.
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self { store: Store::default(), registry: Registry::default(), clock, names: Names::new(seed) }
    }

    /// The key of an object of a resource.
    pub fn find(&self, resource: &Resource, namespace: &str, name: &str) -> ApiResult<&Object> {
        let key = Key { storage: resource.storage.clone(), name: (namespace.to_owned(), name.to_owned()) };
        self.store.get(&key).ok_or_else(|| ApiError::not_found(&resource.plural, &resource.group, name))
    }

    /// Creates an object.
    pub fn create(&mut self, write: &mut Write<'_>, mut object: Value) -> ApiResult<Object> {
        let resource = write.resource.clone();
        write.warnings.extend(decode(&resource, &mut object, write.options.field_validation)?);
        self.check_namespace(write, &mut object)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(ApiError::unexplained("resourceVersion should not be set on objects to be created"));
        }
        let name = self.name_new(&resource, &mut object)?;
        let now = self.clock.now();
        self.stamp_new(&resource, &mut object, now);
        strategy::apply_defaults(&resource, &mut object);
        if resource.has_subresource("status") && !strategy::keeps_status_on_create(&resource) {
            meta::remove(&mut object, "status");
        }
        if resource.storage == crd::STORAGE {
            crd::apply_defaults(&mut object);
        }
        // What the API itself adds from here on belongs to nobody.
        let written = object.clone();
        strategy::prepare_create(&resource, &mut object);
        if resource.storage == crd::STORAGE {
            crd::establish(&mut object, now);
        }
        self.check(&resource, &object, None)?;
        if resource.is("pods", "") {
            self.check_account(&object)?;
        }
        let key = write.key(&name);
        if let Some(other) = self.store.get(&key) {
            let mut error = ApiError::already_exists(&resource.plural, &resource.group, &name);
            if meta::is_deleting(other) {
                error.message = format!("object is being deleted: {}", error.message);
            }
            return Err(error);
        }
        let applies = object["metadata"]["managedFields"].is_array();
        if !applies {
            let mut owned = written;
            managed::record_update(schema::of(&resource), None, &mut owned, &write.manager(now));
            meta::copy(&owned["metadata"], &mut object["metadata"], "managedFields");
        }
        if write.options.dry_run {
            return Ok(Arc::new(object));
        }
        let stored = self.store.put(&key, to_stored(&resource, object));
        self.after_write(&key);
        Ok(present(&resource, &stored))
    }

    /// A pod's ServiceAccount must be there, which in a real cluster an admission plugin sees to.
    fn check_account(&self, pod: &Value) -> ApiResult<()> {
        let (namespace, name) = (meta::text(pod, "namespace"), meta::text(pod, "name"));
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let key =
            Key { storage: "serviceaccounts.".into(), name: (namespace.to_owned(), account.to_owned()) };
        if self.store.get(&key).is_some() {
            return Ok(());
        }
        let message = format!(
            "pods {name:?} is forbidden: error looking up service account {namespace}/{account}: serviceaccount \
             {account:?} not found"
        );
        Err(ApiError::forbidden(message, Some(("pods", "", name))))
    }

    fn check_namespace(&self, write: &Write<'_>, object: &mut Value) -> ApiResult<()> {
        let given = meta::text(object, "namespace").to_owned();
        if !write.resource.namespaced {
            meta::remove(&mut object["metadata"], "namespace");
            return Ok(());
        }
        if !given.is_empty() && given != write.namespace {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(message));
        }
        object["metadata"]["namespace"] = write.namespace.into();
        let key = Key { storage: "namespaces.".into(), name: (String::new(), write.namespace.to_owned()) };
        match self.store.get(&key) {
            None => Err(ApiError::not_found("namespaces", "", write.namespace)),
            Some(namespace) if meta::is_deleting(namespace) => {
                let name = meta::text(object, "name").to_owned();
                let (plural, group) = (&write.resource.plural, &write.resource.group);
                let namespace = write.namespace;
                let message = format!(
                    "{} {name:?} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
                    super::error::qualified(plural, group),
                );
                let mut error = ApiError::forbidden(message, Some((plural, group, &name)));
                if let Some(details) = &mut error.details {
                    details["causes"] = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace",
                        "message": format!("namespace {namespace} is being terminated")}]);
                }
                Err(error)
            }
            Some(_) => Ok(()),
        }
    }

    fn name_new(&mut self, resource: &Resource, object: &mut Value) -> ApiResult<String> {
        let prefix = meta::text(object, "generateName").to_owned();
        if meta::text(object, "name").is_empty() {
            if prefix.is_empty() {
                let cause = Cause::required("metadata.name", "name or generateName is required");
                return Err(ApiError::invalid(&resource.kind, &resource.group, "", &[cause]));
            }
            object["metadata"]["name"] = format!("{prefix}{}", self.names.suffix()).into();
        }
        Ok(meta::text(object, "name").to_owned())
    }

    fn stamp_new(&mut self, resource: &Resource, object: &mut Value, now: Timestamp) {
        let uid = self.names.uid();
        let metadata = &mut object["metadata"];
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            meta::remove(metadata, field);
        }
        metadata["uid"] = uid.into();
        metadata["creationTimestamp"] = meta::time(now).into();
        if strategy::has_generation(resource) {
            metadata["generation"] = 1.into();
        }
    }

    /// All checks of an object; complaints about every field come together.
    fn check(&self, resource: &Resource, new: &Value, old: Option<&Value>) -> ApiResult<()> {
        let mut causes = meta::validate(new, strategy::name_rule(resource));
        causes.extend(old.and_then(|old| new_finalizers(old, new)));
        if let (Some(custom), Some(schema)) = (&resource.custom, schema::of(resource)) {
            let before = causes.len();
            validate::validate(schema, new, "", &mut causes);
            // Rules may rely on the shape that the schema promises.
            if !causes[before..].iter().any(Cause::blocks_rules) {
                custom.rules.check(schema, (new, old), "", &mut causes);
            } else if !custom.rules.is_empty() {
                let detail = "some validation rules were not checked because the object was invalid; correct the \
                              existing errors to complete validation";
                causes.push(Cause::invalid("<nil>", &Value::Null, detail));
            }
            // What was wrong before and is as it was may stay.
            if let Some(old) = old {
                let at = |object: &Value, field: &str| meta::at(object, field).cloned();
                causes.retain(|cause| {
                    at(new, &cause.field).is_none_or(|value| at(old, &cause.field).as_ref() != Some(&value))
                });
            }
        } else if resource.storage == crd::STORAGE {
            causes.extend(crd::validate(new, &self.registry));
        } else {
            causes.extend(meta::validate_finalizers(new));
            causes.extend(strategy::validate(resource, new, old));
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(&resource.kind, &resource.group, meta::text(new, "name"), &causes))
    }

    /// Replaces or patches an object. Server-side apply creates a missing one.
    pub fn update(
        &mut self,
        write: &mut Write<'_>,
        name: &str,
        change: &Change,
    ) -> ApiResult<(Object, bool)> {
        let resource = write.resource.clone();
        let key = write.key(name);
        let now = self.clock.now();
        let Some(stored) = self.store.get(&key).cloned() else {
            if let Change::Patch(Patch::Apply(config)) = change
                && write.subresource.is_empty()
            {
                let mut config = prepare_config(write, config, name)?;
                if meta::text(&config, "name").is_empty() {
                    let message =
                        "the name of the object (one based on URL) was undeterminable: name must be provided";
                    return Err(ApiError::bad_request(message.to_owned()));
                }
                for field in ["resourceVersion", "uid"] {
                    meta::remove(&mut config["metadata"], field);
                }
                let (schema, manager) = (schema::of(&resource), write.manager(now));
                let fresh = managed::apply(schema, None, &config, &manager, write.options.force)?;
                return self.create(write, fresh).map(|object| (object, true));
            }
            return Err(ApiError::not_found(&resource.plural, &resource.group, name));
        };
        let old = present(&resource, &stored);
        let is_apply = matches!(change, Change::Patch(Patch::Apply(_)));
        let mut new = changed(write, &old, name, change, now)?;
        let decoded = decode(&resource, &mut new, write.options.field_validation);
        write.warnings.extend(decoded.map_err(|error| undecodable(change, &error))?);
        check_preconditions(&resource, &old, &new, (name, matches!(change, Change::Replace(_))))?;
        prepare_update(write, &old, &mut new, now);
        self.check(&resource, &new, Some(&old))?;
        // Who binds a pod owns nothing of it.
        let is_binding = write.subresource == "binding";
        if !is_apply && !is_binding {
            managed::record_update(schema::of(&resource), Some(&old), &mut new, &write.manager(now));
        }
        if unchanged(&old, &new) {
            return Ok((old, false));
        }
        if strategy::has_generation(&resource)
            && !write.is_status()
            && !is_binding
            && (desired(&resource, &old) != desired(&resource, &new)
                || strategy::counts_annotations(&resource)
                    && old["metadata"]["annotations"] != new["metadata"]["annotations"])
        {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            new["metadata"]["generation"] = generation.into();
        }
        if write.options.dry_run {
            return Ok((Arc::new(new), false));
        }
        if Self::is_let_go(&key, &new) {
            self.remove(&key);
            return Ok((Arc::new(new), false));
        }
        let stored = self.store.put(&key, to_stored(&resource, new));
        let shown = present(&resource, &stored);
        self.after_write(&key);
        Ok((shown, false))
    }
}

/// The object after a change, before checks.
fn changed(write: &Write<'_>, old: &Value, name: &str, change: &Change, now: Timestamp) -> ApiResult<Value> {
    let resource = write.resource;
    let schema = schema::of(resource);
    match change {
        Change::Replace(new) => Ok(new.clone()),
        Change::Patch(Patch::Apply(config)) => {
            let config = prepare_config(write, config, name)?;
            managed::apply(schema, Some(old), &config, &write.manager(now), write.options.force)
        }
        Change::Patch(patch) => patched(schema, old, patch),
    }
}

/// What is wrong with the result of a patch is wrong with the patch.
fn undecodable(change: &Change, error: &ApiError) -> ApiError {
    match change {
        Change::Patch(Patch::Json(patch) | Patch::Merge(patch) | Patch::Strategic(patch)) => {
            ApiError::invalid_patch(patch, complaint(error))
        }
        _ => error.clone(),
    }
}

/// Metadata that is the API's own.
const KEPT: [&str; 7] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

/// Keeps what an update may not touch.
fn prepare_update(write: &Write<'_>, old: &Value, new: &mut Value, now: Timestamp) {
    let resource = write.resource;
    let has_status = resource.has_subresource("status");
    if write.is_status() {
        let status = new.get("status").cloned();
        let metadata = new["metadata"].clone();
        *new = old.clone();
        match status {
            Some(status) => new["status"] = status,
            None => {
                meta::remove(new, "status");
            }
        }
        meta::copy(&metadata, &mut new["metadata"], "managedFields");
        if resource.custom.is_none() {
            for field in strategy::status_metadata(resource) {
                meta::copy(&metadata, &mut new["metadata"], field);
            }
        }
    } else if has_status {
        meta::copy(old, new, "status");
    }
    let metadata = &mut new["metadata"];
    for field in KEPT {
        meta::copy(&old["metadata"], metadata, field);
    }
    meta::remove(metadata, "selfLink");
    meta::copy(&old["metadata"], metadata, "resourceVersion");
    strategy::apply_defaults(resource, new);
    if resource.storage == "jobs.batch" && new["spec"]["selector"].is_null() {
        // A replaced Job need not repeat what the API generated.
        new["spec"]["selector"] = old["spec"]["selector"].clone();
        let labels = old["spec"]["template"]["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        for (name, value) in labels
            .into_iter()
            .filter(|(name, _)| name.contains("job-name") || name.contains("controller-uid"))
        {
            new["spec"]["template"]["metadata"]["labels"][name] = value;
        }
    }
    if resource.storage == crd::STORAGE && !write.is_status() {
        crd::apply_defaults(new);
        crd::establish(new, now);
    }
}

/// What the object asks for: all but metadata and status.
fn desired(resource: &Resource, object: &Value) -> Map<String, Value> {
    let mut map = object.as_object().cloned().unwrap_or_default();
    map.remove("metadata");
    if resource.has_subresource("status") || resource.custom.is_none() {
        map.remove("status");
    }
    map
}

/// Managed fields' times alone make no change.
fn unchanged(old: &Value, new: &Value) -> bool {
    if old == new {
        return true;
    }
    let timeless = |object: &Value| {
        let mut copy = object.clone();
        for entry in copy["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            meta::remove(entry, "time");
        }
        if copy["metadata"]["managedFields"].is_null() {
            meta::remove(&mut copy["metadata"], "managedFields");
        }
        copy
    };
    timeless(old) == timeless(new)
}

/// Checks an applied configuration as it was written, for only what was written is owned; and leaves out what may
/// not be owned through it.
fn prepare_config(write: &Write<'_>, given: &Value, name: &str) -> ApiResult<Value> {
    let resource = write.resource;
    check_applied_name(resource, given, name)?;
    let problems = typed::problems(schema::of(resource), given);
    if !problems.is_empty() {
        let namespace = meta::text(given, "namespace");
        let text = match problems.as_slice() {
            [problem] => problem.clone(),
            several => format!("errors:\n  {}", several.join("\n  ")),
        };
        let api_version =
            if resource.group.is_empty() { format!("/{}", resource.version) } else { resource.api_version() };
        let kind = &resource.kind;
        return Err(ApiError::unexplained(format!(
            "failed to create typed patch object ({namespace}/{name}; {api_version}, Kind={kind}): {text}"
        )));
    }
    let mut config = given.clone();
    if resource.has_subresource("status") {
        meta::remove(&mut config, if write.is_status() { "spec" } else { "status" });
    }
    Ok(config)
}

fn check_applied_name(resource: &Resource, config: &Value, name: &str) -> ApiResult<()> {
    let text = |field: &str| config[field].as_str().unwrap_or_default();
    if text("kind") != resource.kind || text("apiVersion") != resource.api_version() {
        let (group, version) = split_api_version(text("apiVersion"));
        let message = format!("invalid object type: {group}/{version}, Kind={}", text("kind"));
        return Err(ApiError::bad_request(message));
    }
    if config["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let given = meta::text(config, "name");
    // What is there has its name already.
    if given == name || given.is_empty() {
        return Ok(());
    }
    let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
    Err(ApiError::bad_request(message))
}

/// What only the API itself changes; an update that leaves it out keeps it.
fn immutable_metadata(old: &Value, new: &Value, is_replace: bool) -> Vec<Cause> {
    let fields = ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"];
    let differs = |field: &&str| {
        let given = &new["metadata"][*field];
        !given.is_null() && *given != "" && *given != old["metadata"][*field]
    };
    let fields =
        fields.iter().filter(|field| !(is_replace && **field == "uid")).filter(|field| differs(field));
    let cause = |field: &&str| {
        Cause::invalid(&format!("metadata.{field}"), &new["metadata"][*field], "field is immutable")
    };
    fields.map(cause).collect()
}

fn check_preconditions(
    resource: &Resource,
    old: &Value,
    new: &Value,
    (name, is_replace): (&str, bool),
) -> ApiResult<()> {
    let given = meta::text(new, "name");
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let namespace = meta::text(new, "namespace");
    if !namespace.is_empty() && namespace != meta::text(old, "namespace") {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    let causes = immutable_metadata(old, new, is_replace);
    if !causes.is_empty() {
        return Err(ApiError::invalid(&resource.kind, &resource.group, name, &causes));
    }
    let (uid, actual) = (meta::text(new, "uid"), meta::text(old, "uid"));
    if !uid.is_empty() && uid != actual {
        let place = [meta::text(old, "namespace"), name]
            .iter()
            .filter(|part| !part.is_empty())
            .fold(String::new(), |place, part| format!("{place}/{part}"));
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{}{place}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}",
            resource.plural
        );
        return Err(ApiError::conflict(&resource.plural, &resource.group, name, &why));
    }
    let version = meta::text(new, "resourceVersion");
    if is_replace && version.is_empty() && resource.custom.is_some() {
        let detail = "must be specified for an update";
        let cause = Cause::invalid("metadata.resourceVersion", &0.into(), detail);
        return Err(ApiError::invalid(&resource.plural, &resource.group, name, &[cause]));
    }
    if !version.is_empty() && version != meta::text(old, "resourceVersion") {
        return Err(ApiError::stale(&resource.plural, &resource.group, name));
    }
    Ok(())
}

/// Whoever is being deleted is held by nobody new.
fn new_finalizers(old: &Value, new: &Value) -> Option<Cause> {
    let before = meta::finalizers(old);
    let added = meta::finalizers(new).into_iter().filter(|name| !before.contains(name));
    let added: Vec<String> =
        added.filter(|_| meta::is_deleting(old)).map(|name| format!("{name:?}")).collect();
    let detail = "no new finalizers can be added if the object is being deleted, found new finalizers";
    let detail = format!("{detail} []string{{{}}}", added.join(", "));
    (!added.is_empty()).then(|| Cause::forbidden("metadata.finalizers", &detail))
}
