//! Lists: selectors, pages, and the state at an older version.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::query::{ListOptions, Match};
use super::registry::Resource;
use super::selector::{FieldSelector, LabelSelector};
use super::state::{State, present};
use super::store::{Name, Object};

/// What a list or watch selects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// One namespace, or all.
    pub namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Parses the selectors of a request.
    pub fn parse(resource: &Resource, namespace: Option<&str>, options: &ListOptions) -> ApiResult<Self> {
        let labels = options.label_selector.as_deref().map(LabelSelector::parse).transpose()?;
        let fields = options.field_selector.as_deref();
        let fields = fields.map(|text| FieldSelector::parse(text, resource)).transpose()?;
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            labels: labels.unwrap_or_default(),
            fields: fields.unwrap_or_default(),
        })
    }

    /// Whether the object, as the resource shows it, is selected.
    pub fn matches(&self, name: &Name, object: &Value) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == name.0)
            && self.labels.matches(object)
            && self.fields.matches(object)
    }

    /// Whether only some objects are selected.
    pub fn is_partial(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// The single name that the field selector asks for.
    pub fn name(&self) -> Option<&str> {
        self.fields.name()
    }
}

/// One page of a list.
pub struct Page {
    /// The objects.
    pub items: Vec<Object>,
    /// The state they are from.
    pub version: u64,
    /// How to go on.
    pub continue_token: Option<String>,
    /// How many are left, where that is known without looking at them.
    pub remaining: Option<u64>,
}

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
                       start a new list without the continue parameter.";

impl State {
    /// Lists a resource.
    pub fn list(&self, resource: &Resource, selection: &Selection, options: &ListOptions) -> ApiResult<Page> {
        let current = self.store.version();
        let (version, start) = match &options.continue_token {
            Some(token) => read_token(token, selection.namespace.as_deref())?,
            None => (self.version_asked(options)?, None),
        };
        let objects = if version == current {
            None
        } else {
            let gone = if start.is_some() {
                EXPIRED
            } else {
                "The resourceVersion for the provided list is too old."
            };
            let at = self.store.list_at(&resource.storage, version);
            Some(at.ok_or_else(|| ApiError::expired(gone))?)
        };
        let names: Box<dyn Iterator<Item = (&Name, &Object)>> = match &objects {
            Some(objects) => Box::new(objects.iter()),
            None => Box::new(self.store.list(&resource.storage, selection.namespace.as_deref())),
        };
        let after = |name: &Name| start.as_ref().is_none_or(|start| name > start);
        let mut found: Vec<(Name, Object)> = names
            .filter(|(name, _)| after(name))
            .map(|(name, stored)| (name.clone(), present(resource, stored)))
            .filter(|(name, object)| selection.matches(name, object))
            .collect();
        // A list of whatever there is comes from a cache, which is not paged.
        let is_paged = options.resource_version != Some(0) || options.continue_token.is_some();
        let limit = options
            .limit
            .filter(|_| is_paged)
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX);
        let left = found.len().saturating_sub(limit);
        found.truncate(limit);
        let last = found
            .last()
            .filter(|_| left > 0)
            .map(|(name, _)| write_token(version, selection.namespace.as_deref(), name));
        Ok(Page {
            items: found.into_iter().map(|(_, object)| object).collect(),
            version,
            continue_token: last,
            remaining: u64::try_from(left).ok().filter(|_| !selection.is_partial()),
        })
    }

    /// The version that a list shows: the newest unless exactly another one is asked for.
    fn version_asked(&self, options: &ListOptions) -> ApiResult<u64> {
        let current = self.store.version();
        let Some(asked) = options.resource_version else { return Ok(current) };
        if asked > current {
            return Err(ApiError::too_large_resource_version(asked, current));
        }
        // A page of a named version means that very version.
        let is_page = options.version_match.is_none() && options.limit.is_some() && asked > 0;
        Ok(if options.version_match == Some(Match::Exact) || is_page { asked } else { current })
    }
}

/// The real server's form: where to go on is a path below the one that is listed, and its end.
fn write_token(version: u64, namespace: Option<&str>, last: &Name) -> String {
    let start = match namespace {
        Some(_) => format!("/{}\0", last.1),
        None => format!("{}/{}\0", last.0, last.1),
    };
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": start});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn read_token(token: &str, namespace: Option<&str>) -> ApiResult<(u64, Option<Name>)> {
    let bad = || ApiError::bad_request("invalid continue token: continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let start = token["start"].as_str().ok_or_else(bad)?.trim_start_matches('/').trim_end_matches('\0');
    let (space, name) = match namespace {
        Some(namespace) => (namespace, start),
        None => start.split_once('/').unwrap_or(("", start)),
    };
    Ok((token["rv"].as_u64().ok_or_else(bad)?, Some((space.to_owned(), name.to_owned()))))
}
