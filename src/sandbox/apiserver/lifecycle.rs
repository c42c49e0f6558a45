//! The end of objects: deletion with its preconditions, grace and propagation, finalizers, garbage
//! collection by owner references, and the end of namespaces and definitions. What in a real cluster
//! controllers do soon afterwards, the store does at once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::crd;
use super::error::{ApiError, ApiResult, Cause};
use super::managed;
use super::meta::{self, FOREGROUND, ORPHAN};
use super::query::{check_dry_run, refuse};
use super::registry::Resource;
use super::state::{State, present};
use super::store::{Key, Object, owner_uids};

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds of grace.
    pub grace: Option<i64>,
    /// The UID that the object must have.
    pub uid: Option<String>,
    /// The resourceVersion that the object must have.
    pub resource_version: Option<String>,
    /// What happens to dependents.
    pub propagation: Option<Propagation>,
    /// Nothing is deleted.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Checks that a body is of this kind, before anything is made of it.
    pub fn check_types(mut body: Value) -> ApiResult<Value> {
        const KNOWN: &[&str] = &[
            "kind",
            "apiVersion",
            "gracePeriodSeconds",
            "preconditions",
            "orphanDependents",
            "propagationPolicy",
            "dryRun",
        ];
        let kind = body["kind"].as_str().unwrap_or("DeleteOptions");
        if kind != "DeleteOptions" {
            let message = format!("converting (v1.{kind}) to (v1.DeleteOptions): unknown conversion");
            return Err(ApiError::bad_request(message));
        }
        if body["gracePeriodSeconds"].is_string() {
            let field = "DeleteOptions.gracePeriodSeconds of type int64";
            let message = format!("json: cannot unmarshal string into Go struct field {field}");
            return Err(ApiError::bad_request(message));
        }
        let Some(map) = body.as_object_mut() else {
            return Err(ApiError::bad_request(
                "couldn't get version/kind; json parse error: it is no object",
            ));
        };
        match map.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            Some(key) => Err(ApiError::bad_request(format!("unknown field {key:?} in DeleteOptions"))),
            None => Ok(body),
        }
    }

    /// Reads them from a body.
    pub fn from_body(body: &Value) -> ApiResult<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (policy, orphan) = (body["propagationPolicy"].as_str(), body["orphanDependents"].as_bool());
        let mut causes = Vec::new();
        if let (Some(policy), Some(_)) = (policy, orphan) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(Cause::invalid("propagationPolicy", &policy.into(), detail));
        }
        if let Some(policy) = policy.filter(|policy| Propagation::parse(policy).is_none()) {
            let allowed: Vec<Value> = ["Foreground", "Background", "Orphan", "nil"].map(Value::from).to_vec();
            causes.push(Cause::unsupported("propagationPolicy", &policy.into(), &allowed));
        }
        let dry_runs = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let dry_runs: Vec<&str> = dry_runs.collect();
        causes.extend(check_dry_run(&dry_runs));
        refuse("DeleteOptions", &causes)?;
        Ok(Self {
            grace: body["gracePeriodSeconds"].as_i64(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            propagation: match orphan {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => policy.and_then(Propagation::parse),
            },
            dry_run: !dry_runs.is_empty(),
        })
    }
}

impl Propagation {
    /// Reads a `propagationPolicy`.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            "Orphan" => Some(Self::Orphan),
            _ => None,
        }
    }
}

impl State {
    /// Deletes an object. Returns its last state and whether it is gone already.
    pub fn delete(
        &mut self,
        resource: &Resource,
        key: &Key,
        options: &DeleteOptions,
    ) -> ApiResult<(Object, bool)> {
        let missing = || ApiError::not_found(&resource.plural, &resource.group, &key.name.1);
        let object = self.store.get(key).ok_or_else(missing)?.clone();
        check_preconditions(resource, &object, options)?;
        if options.dry_run {
            return Ok((present(resource, &object), true));
        }
        self.delete_unchecked(key, &object, options);
        match self.store.get(key) {
            Some(left) => Ok((present(resource, left), false)),
            None => Ok((present(resource, &object), true)),
        }
    }

    fn delete_unchecked(&mut self, key: &Key, object: &Object, options: &DeleteOptions) {
        let propagation = options.propagation.unwrap_or(if key.storage == "jobs.batch" {
            // The real server keeps a Job's pods unless it is told otherwise.
            Propagation::Orphan
        } else {
            Propagation::Background
        });
        let mut finalizers = meta::finalizers(object);
        let uid = meta::text(object, "uid").to_owned();
        match propagation {
            Propagation::Orphan => self.release_dependents(&uid),
            Propagation::Foreground if !finalizers.iter().any(|name| name == FOREGROUND) => {
                finalizers.push(FOREGROUND.into());
            }
            _ => {}
        }
        if key.storage == crd::STORAGE && !finalizers.iter().any(|name| name == crd::FINALIZER) {
            finalizers.push(crd::FINALIZER.into());
        }
        let grace = grace(key, object, options);
        self.mark_deleted(key, object, &finalizers, grace);
        match key.storage.as_str() {
            "namespaces." => self.empty_namespace(&key.name.1),
            crd::STORAGE => self.empty_definition(object),
            _ => {}
        }
        if propagation == Propagation::Foreground {
            self.delete_dependents(&uid, Propagation::Foreground);
        }
        self.settle(key);
    }

    /// Sets the deletion timestamp and what holds the object.
    fn mark_deleted(&mut self, key: &Key, object: &Object, finalizers: &[String], grace: i64) {
        let now = self.clock.now();
        let mut marked = (**object).clone();
        meta::set_finalizers(&mut marked, finalizers);
        let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        let holds_itself = matches!(key.storage.as_str(), "namespaces.");
        if !meta::is_deleting(object) || before.is_some_and(|before| grace < before) {
            let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
            marked["metadata"]["deletionTimestamp"] = meta::time(at).into();
            // A namespace has a way of its own to go.
            if !holds_itself {
                marked["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            }
            if let Some(generation) =
                object["metadata"]["generation"].as_i64().filter(|_| !meta::is_deleting(object))
            {
                marked["metadata"]["generation"] = (generation + 1).into();
            }
        }
        if holds_itself {
            marked["status"] = json!({"phase": "Terminating"});
        }
        // An object that nothing holds is removed without a last modification, as the real server does.
        let is_held = !finalizers.is_empty() || grace > 0 || holds_itself;
        if is_held && marked != **object {
            self.store.put(key, marked);
        } else if !is_held {
            self.remove(key);
        }
    }

    /// Follows up a write: registers definitions, makes a namespace's account, ends what may end.
    pub(super) fn after_write(&mut self, key: &Key) {
        if key.storage == crd::STORAGE
            && let Some(definition) = self.store.get(key)
        {
            self.registry.set_custom(&key.name.1, crd::resources(definition));
        }
        if key.storage == "namespaces." {
            self.provide_account(&key.name.1);
        }
        self.settle(key);
        self.collect_if_orphaned(key);
    }

    fn provide_account(&mut self, namespace: &str) {
        let key = Key { storage: "serviceaccounts.".into(), name: (namespace.to_owned(), "default".into()) };
        let namespace_key =
            Key { storage: "namespaces.".into(), name: (String::new(), namespace.to_owned()) };
        let is_live = self.store.get(&namespace_key).is_some_and(|object| !meta::is_deleting(object));
        if is_live && self.store.get(&key).is_none() {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
                "name": "default", "namespace": namespace, "uid": self.names.uid(),
                "creationTimestamp": meta::time(self.clock.now())}});
            self.store.put(&key, account);
        }
    }

    /// Whether an update leaves nothing that holds an object that is being deleted: then it goes without a last version.
    pub(super) fn is_let_go(&self, key: &Key, new: &Value) -> bool {
        let waits = new["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|grace| grace > 0);
        meta::is_deleting(new) && meta::finalizers(new).is_empty() && !waits && key.storage != "namespaces."
    }

    /// Removes an object that is being deleted once nothing holds it.
    fn settle(&mut self, key: &Key) {
        let Some(object) = self.store.get(key) else { return };
        if !meta::is_deleting(object) {
            return;
        }
        let uid = meta::text(object, "uid").to_owned();
        let finalizers = meta::finalizers(object);
        let done = |name: &String| match name.as_str() {
            FOREGROUND => !self.has_blocking_dependents(&uid),
            ORPHAN => true,
            crd::FINALIZER => !self.has_instances(object),
            _ => false,
        };
        let left: Vec<String> = finalizers.iter().filter(|name| !done(name)).cloned().collect();
        let waits = object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|grace| grace > 0);
        let is_full = key.storage == "namespaces." && !self.store.keys_in_namespace(&key.name.1).is_empty();
        if left.is_empty() && !waits && !is_full {
            self.remove(key);
        } else if left.len() < finalizers.len() {
            let mut object = (**object).clone();
            meta::set_finalizers(&mut object, &left);
            self.store.put(key, object);
        }
    }

    /// Takes an object out and collects what depended on it. A queue, so that long chains of owners need
    /// no deep recursion.
    pub(super) fn remove(&mut self, key: &Key) {
        let mut queue = VecDeque::from([key.clone()]);
        while let Some(key) = queue.pop_front() {
            let Some(object) = self.store.remove(&key) else { continue };
            if key.storage == crd::STORAGE {
                self.registry.set_custom(&key.name.1, Vec::new());
            }
            let uid = meta::text(&object, "uid");
            for dependent in self.store.dependents(uid) {
                if !self.is_orphaned(&dependent) {
                    self.release(&dependent, uid);
                } else if self.begin_collection(&dependent) {
                    queue.push_back(dependent);
                }
            }
            for owner in owner_uids(&object) {
                if let Some(owner) = self.store.find_uid(&owner).cloned() {
                    self.settle(&owner);
                }
            }
            if !key.name.0.is_empty() {
                self.settle(&Key {
                    storage: "namespaces.".into(),
                    name: (String::new(), key.name.0.clone()),
                });
            }
            self.settle_definition(&key.storage);
        }
    }

    fn settle_definition(&mut self, storage: &str) {
        let key = Key { storage: crd::STORAGE.into(), name: (String::new(), storage.to_owned()) };
        self.settle(&key);
    }

    /// Starts the deletion of a dependent whose owners are gone; true when it can go at once.
    fn begin_collection(&mut self, key: &Key) -> bool {
        let Some(object) = self.store.get(key).cloned() else { return false };
        let options =
            DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        let grace = grace(key, &object, &options);
        let finalizers = meta::finalizers(&object);
        if finalizers.is_empty() && grace == 0 {
            return true;
        }
        self.mark_deleted(key, &object, &finalizers, grace);
        false
    }

    /// Whether the object names owners and none of them exists.
    fn is_orphaned(&self, key: &Key) -> bool {
        let Some(object) = self.store.get(key) else { return false };
        let owners = owner_uids(object);
        !owners.is_empty() && owners.iter().all(|uid| self.store.find_uid(uid).is_none())
    }

    fn collect_if_orphaned(&mut self, key: &Key) {
        if self.is_orphaned(key) && self.begin_collection(key) {
            self.remove(key);
        }
    }

    fn has_blocking_dependents(&self, uid: &str) -> bool {
        self.store.dependents(uid).iter().filter_map(|key| self.store.get(key)).any(|object| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners
                .into_iter()
                .flatten()
                .any(|owner| owner["uid"] == *uid && owner["blockOwnerDeletion"] == true)
        })
    }

    fn delete_dependents(&mut self, uid: &str, propagation: Propagation) {
        for key in self.store.dependents(uid) {
            // An owner that stays keeps its dependents.
            let stays = |other: &String| {
                other != uid
                    && self
                        .store
                        .find_uid(other)
                        .and_then(|key| self.store.get(key))
                        .is_some_and(|o| !meta::is_deleting(o))
            };
            let Some(object) = self.store.get(&key).cloned() else { continue };
            if !owner_uids(&object).iter().any(stays) && !meta::is_deleting(&object) {
                let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
                self.delete_unchecked(&key, &object, &options);
            }
        }
    }

    fn release_dependents(&mut self, uid: &str) {
        for key in self.store.dependents(uid) {
            self.release(&key, uid);
        }
    }

    /// Takes one owner from an object.
    fn release(&mut self, key: &Key, uid: &str) {
        let Some(old) = self.store.get(key).cloned() else { return };
        let mut object = (*old).clone();
        if let Some(Value::Array(owners)) = object["metadata"].get_mut("ownerReferences") {
            owners.retain(|owner| owner["uid"] != *uid);
            if owners.is_empty() {
                meta::remove(&mut object["metadata"], "ownerReferences");
            }
        }
        managed::forget(&old, &mut object, self.clock.now());
        self.store.put(key, object);
    }

    fn empty_namespace(&mut self, namespace: &str) {
        let keys: BTreeSet<Key> = self.store.keys_in_namespace(namespace).into_iter().collect();
        self.delete_all(keys);
    }

    fn empty_definition(&mut self, definition: &Value) {
        let storage = meta::text(definition, "name").to_owned();
        let names: Vec<_> = self.store.list(&storage, None).map(|(name, _)| name.clone()).collect();
        self.delete_all(names.into_iter().map(|name| Key { storage: storage.clone(), name }));
    }

    fn delete_all(&mut self, keys: impl IntoIterator<Item = Key>) {
        let options =
            DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        for key in keys {
            if let Some(object) = self.store.get(&key).cloned() {
                self.delete_unchecked(&key, &object, &options);
            }
        }
    }

    fn has_instances(&self, definition: &Value) -> bool {
        self.store.list(meta::text(definition, "name"), None).next().is_some()
    }
}

/// Only pods that run somewhere are given time to stop.
fn grace(key: &Key, object: &Arc<Value>, options: &DeleteOptions) -> i64 {
    if key.storage != "pods." {
        return 0;
    }
    let is_bound = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let is_over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !is_bound || is_over {
        return 0;
    }
    let declared = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    options.grace.unwrap_or(declared).max(0)
}

fn check_preconditions(resource: &Resource, object: &Value, options: &DeleteOptions) -> ApiResult<()> {
    let name = meta::text(object, "name");
    let complain = |what: &str, asked: &str, actual: &str| {
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({actual}). \
             The object might have been {}",
            if what == "UID" { "deleted and then recreated" } else { "modified" }
        );
        // Here the real server names the kind where it elsewhere names the resource.
        Err(ApiError::conflict(&resource.kind, &resource.group, name, &why))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::text(object, "uid")) {
        return complain("UID", uid, meta::text(object, "uid"));
    }
    let version = meta::text(object, "resourceVersion");
    match options.resource_version.as_deref() {
        Some(asked) if asked != version => complain("ResourceVersion", asked, version),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::super::query::WriteOptions;
    use super::super::state::Write;
    use super::*;

    fn state() -> State {
        let mut state = State::new(Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()), 1);
        create(&mut state, "namespaces", json!({"metadata": {"name": "n"}}));
        state
    }

    fn create(state: &mut State, plural: &str, object: Value) -> Object {
        let resource = state.registry.all().find(|resource| resource.plural == plural).unwrap().clone();
        let namespace = if resource.namespaced { "n" } else { "" };
        let options = WriteOptions::default();
        let mut write = Write {
            resource: &resource,
            subresource: "",
            namespace,
            options: &options,
            manager: "t",
            warnings: vec![],
        };
        state.create(&mut write, object).unwrap()
    }

    fn config(name: &str, owner: Option<&Value>, extra: &Value) -> Value {
        let mut object = json!({"metadata": {"name": name}});
        if let Some(owner) = owner {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap",
                "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
        }
        for (name, value) in extra.as_object().into_iter().flatten() {
            object["metadata"][name] = value.clone();
        }
        object
    }

    fn delete(state: &mut State, name: &str, body: &Value) -> ApiResult<(Object, bool)> {
        let resource = state.registry.find("", "v1", "configmaps").unwrap().clone();
        let key = Key { storage: "configmaps.".into(), name: ("n".into(), name.into()) };
        state.delete(&resource, &key, &DeleteOptions::from_body(body)?)
    }

    fn names(state: &State) -> Vec<&str> {
        state.store.list("configmaps.", None).map(|(name, _)| name.1.as_str()).collect()
    }

    #[test]
    fn dependents_follow_their_owners() {
        let cases = [
            (Value::Null, vec!["held"]),
            (json!({"propagationPolicy": "Orphan"}), vec!["child", "grandchild", "held"]),
            (json!({"propagationPolicy": "Foreground"}), vec!["held", "owner"]),
        ];
        for (body, left) in cases {
            let mut state = state();
            let owner = create(&mut state, "configmaps", config("owner", None, &Value::Null));
            let child = create(&mut state, "configmaps", config("child", Some(&owner), &Value::Null));
            create(&mut state, "configmaps", config("grandchild", Some(&child), &Value::Null));
            create(
                &mut state,
                "configmaps",
                config("held", Some(&owner), &json!({"finalizers": ["x.dev/y"]})),
            );
            delete(&mut state, "owner", &body).unwrap();
            assert_eq!(names(&state), left);
        }
    }

    #[test]
    fn an_object_whose_owner_never_was_is_collected() {
        let mut state = state();
        let ghost = json!({"metadata": {"name": "ghost", "uid": "gone"}});
        create(&mut state, "configmaps", config("child", Some(&ghost), &Value::Null));
        assert_eq!(names(&state), Vec::<&str>::new());
    }

    #[test]
    fn preconditions_and_finalizers_hold() {
        let mut state = state();
        create(&mut state, "configmaps", config("a", None, &json!({"finalizers": ["x.dev/y"]})));
        assert_eq!(
            delete(&mut state, "a", &json!({"preconditions": {"uid": "other"}})).unwrap_err().code,
            409
        );
        let (object, gone) = delete(&mut state, "a", &Value::Null).unwrap();
        assert!(!gone && meta::is_deleting(&object));
        assert_eq!(delete(&mut state, "b", &Value::Null).unwrap_err().code, 404);
    }

    #[test]
    fn a_namespace_goes_with_its_contents() {
        let mut state = state();
        create(&mut state, "configmaps", config("a", None, &Value::Null));
        let resource = state.registry.find("", "v1", "namespaces").unwrap().clone();
        let key = Key { storage: "namespaces.".into(), name: (String::new(), "n".into()) };
        let (_, gone) = state.delete(&resource, &key, &DeleteOptions::default()).unwrap();
        assert!(gone && names(&state).is_empty());
    }
}
