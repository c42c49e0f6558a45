//! Discovery: which groups, versions and resources there are, in the old and the aggregated form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::registry::{Registry, Resource, api_version};

/// The verbs that make a kind storable; reviews have `create` alone.
fn resource_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs, "storageVersionHash": "",
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    entry
}

/// `/api/v1`, `/apis/apps/v1`: an `APIResourceList`.
pub fn resource_list(registry: &Registry, group: &str, version: &str) -> Value {
    let mut entries = Vec::new();
    for resource in registry.all().filter(|r| r.group == group && r.version == version) {
        entries.push(resource_entry(resource));
        for sub in &resource.subresources {
            let (sub_group, sub_version, kind) = &sub.kind;
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": kind, "verbs": sub.verbs,
            });
            if !sub_version.is_empty() && (sub_group, sub_version) != (&resource.group, &resource.version) {
                entry["group"] = json!(sub_group);
                entry["version"] = json!(sub_version);
            }
            entries.push(entry);
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1",
           "groupVersion": api_version(group, version), "resources": entries})
}

/// Groups and their versions, in the order they are served.
fn groups(registry: &Registry) -> Vec<(String, Vec<String>)> {
    let mut order: Vec<(String, Vec<String>)> = Vec::new();
    let mut places = BTreeMap::new();
    for resource in registry.all() {
        let place = *places.entry(resource.group.clone()).or_insert_with(|| {
            order.push((resource.group.clone(), Vec::new()));
            order.len() - 1
        });
        let versions = &mut order[place].1;
        if !versions.contains(&resource.version) {
            versions.push(resource.version.clone());
        }
    }
    order
}

/// `/api`: `APIVersions`.
pub fn core_versions(host: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
           "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]})
}

fn group_entry(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// `/apis`: an `APIGroupList`.
pub fn group_list(registry: &Registry) -> Value {
    let entries = groups(registry).into_iter().filter(|(group, _)| !group.is_empty());
    let entries: Vec<Value> = entries.map(|(group, versions)| group_entry(&group, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": entries})
}

/// `/apis/apps`: an `APIGroup`.
pub fn group(registry: &Registry, name: &str) -> Option<Value> {
    let (name, versions) =
        groups(registry).into_iter().find(|(group, _)| group == name && !group.is_empty())?;
    let mut entry = group_entry(&name, &versions);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

/// Aggregated discovery of `/api` (`core`) or `/apis`, in version `v2` or `v2beta1`.
pub fn aggregated(registry: &Registry, core: bool, version: &str) -> Value {
    let items: Vec<Value> = groups(registry)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let served = registry.all().filter(|r| r.group == group && r.version == *version);
                    let resources: Vec<Value> =
                        served.map(|resource| aggregated_resource(resource)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
           "metadata": {}, "items": items})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let mut entry = json!({
        "resource": resource.plural, "responseKind": kind, "singularResource": resource.singular,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subs: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, kind) = &sub.kind;
            json!({"subresource": sub.name, "verbs": sub.verbs,
                   "responseKind": {"group": group, "version": version, "kind": kind}})
        })
        .collect();
    if !subs.is_empty() {
        entry["subresources"] = Value::Array(subs);
    }
    entry
}

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.3+sandbox", "gitCommit": "", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "sandbox",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_lists_what_is_served() {
        let registry = Registry::default();
        let apps = resource_list(&registry, "apps", "v1");
        let names: Vec<&str> =
            apps["resources"].as_array().unwrap().iter().filter_map(|entry| entry["name"].as_str()).collect();
        assert!(names.contains(&"deployments") && names.contains(&"deployments/scale"));
        assert!(group(&registry, "batch").is_some() && group(&registry, "nope").is_none());
        let core = aggregated(&registry, true, "v2");
        assert_eq!(core["items"][0]["versions"][0]["version"], "v1");
    }
}
