//! Which kinds are served, under which names, with which verbs: recorded for the built-in kinds, derived
//! for custom resources. Discovery and routing read nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;

use super::crd::CustomVersion;
use crate::sandbox::openapi;

/// A resource that is served in one version.
#[derive(Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Version in the group.
    pub version: String,
    /// Kind of its objects.
    pub kind: String,
    /// Name in paths.
    pub plural: String,
    /// Name for one.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What may be done.
    pub verbs: Vec<String>,
    /// `status`, `scale`, …
    pub subresources: Vec<Subresource>,
    /// Where objects are kept: versions of a kind, and both kinds of Event, share one.
    pub storage: String,
    /// For a custom resource: its version's schema and columns.
    pub custom: Option<Arc<CustomVersion>>,
}

/// A subresource of a resource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Name in paths.
    pub name: String,
    /// Group, version and kind of what is sent and answered; empty group and version mean the parent's.
    pub kind: (String, String, String),
    /// What may be done.
    pub verbs: Vec<String>,
}

impl Resource {
    /// `apps/v1`, or `v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Whether the resource has the subresource.
    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|sub| sub.name == name)
    }

    /// Whether it is this built-in resource, in whatever version.
    pub fn is(&self, plural: &str, group: &str) -> bool {
        self.plural == plural && self.group == group
    }
}

/// `group/version`, or the version alone in the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Group and version of an `apiVersion`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Everything served: the built-in kinds and the registered custom ones.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    custom: BTreeMap<String, Vec<Arc<Resource>>>,
}

impl Registry {
    /// Replaces the versions served for one CustomResourceDefinition; none unregisters it.
    pub fn set_custom(&mut self, definition: &str, resources: Vec<Arc<Resource>>) {
        if resources.is_empty() {
            self.custom.remove(definition);
        } else {
            self.custom.insert(definition.to_owned(), resources);
        }
    }

    /// All served resources, built-in first, each group's versions together.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        BUILT_IN.iter().chain(self.custom.values().flatten())
    }

    /// The resource at a group, version and plural name.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.all().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// Whether any kind is served in the group and version.
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.all().any(|r| r.group == group && r.version == version)
    }
}

static BUILT_IN: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let groups: Vec<Group> = serde_json::from_slice(&openapi::discovery())
        .expect("the recorded discovery document is well-formed");
    groups.into_iter().flat_map(Group::resources).collect()
});

#[derive(Deserialize)]
struct Group {
    metadata: Value,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    resource: String,
    response_kind: Kind,
    scope: String,
    singular_resource: String,
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    subresources: Vec<SubEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubEntry {
    subresource: String,
    response_kind: Option<Kind>,
    verbs: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Kind {
    group: String,
    version: String,
    #[serde(rename = "kind")]
    name: String,
}

impl Group {
    fn resources(self) -> Vec<Arc<Resource>> {
        let group = self.metadata["name"].as_str().unwrap_or_default().to_owned();
        let entries = self.versions.into_iter().flat_map(|v| {
            let version = v.version;
            v.resources.into_iter().map(move |entry| (version.clone(), entry))
        });
        entries.map(|(version, entry)| Arc::new(entry.resource(&group, version))).collect()
    }
}

impl Entry {
    fn resource(self, group: &str, version: String) -> Resource {
        // Both groups serve the same Events.
        let home = if group == "events.k8s.io" { "" } else { group };
        let subresources = self.subresources.into_iter().map(|sub| {
            let kind = sub.response_kind.unwrap_or_default();
            Subresource {
                name: sub.subresource,
                kind: (kind.group, kind.version, kind.name),
                verbs: sub.verbs,
            }
        });
        Resource {
            storage: format!("{}.{home}", self.resource),
            group: group.to_owned(),
            version,
            kind: self.response_kind.name,
            plural: self.resource,
            singular: self.singular_resource,
            short_names: self.short_names,
            categories: self.categories,
            namespaced: self.scope == "Namespaced",
            verbs: self.verbs,
            subresources: subresources.collect(),
            custom: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_kinds_are_found() {
        let registry = Registry::default();
        let pods = registry.find("", "v1", "pods").unwrap();
        assert_eq!((pods.kind.as_str(), pods.namespaced), ("Pod", true));
        assert!(pods.has_subresource("log") && !pods.has_subresource("exec"));
        let deployments = registry.find("apps", "v1", "deployments").unwrap();
        assert_eq!(deployments.storage, "deployments.apps");
        assert!(deployments.has_subresource("scale"));
        assert_eq!(registry.find("events.k8s.io", "v1", "events").unwrap().storage, "events.");
    }
}
