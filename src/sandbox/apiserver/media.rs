//! The form of an answer: whole objects, metadata only, or tables, as the `Accept` header asks.

use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::list::Page;
use super::query::Query;
use super::registry::Resource;
use super::store::Object;
use super::table::{self, Include};

/// What the client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Whole objects.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`.
    Table,
    /// Aggregated discovery in this version.
    Discovery(&'static str),
}

impl Accept {
    /// Chooses the first acceptable form; a path may be asked for in any form, and gets JSON.
    pub fn parse(headers: &HeaderMap, is_path: bool) -> ApiResult<Self> {
        let values: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let joined = values.join(",");
        if joined.trim().is_empty() {
            return Ok(Self::Whole);
        }
        let choices = joined.split(',').filter_map(Self::parse_one);
        choices.into_iter().next().or(is_path.then_some(Self::Whole)).ok_or_else(ApiError::not_acceptable)
    }

    fn parse_one(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | "*/*" | "application/*") {
            return None;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let get = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        match (get("as"), get("v")) {
            (None, _) => Some(Self::Whole),
            (Some("Table"), Some("v1") | None) => Some(Self::Table),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1") | None) => {
                Some(Self::Metadata)
            }
            (Some("APIGroupDiscoveryList"), Some("v2")) => Some(Self::Discovery("v2")),
            (Some("APIGroupDiscoveryList"), Some("v2beta1")) => Some(Self::Discovery("v2beta1")),
            _ => None,
        }
    }
}

/// Puts objects of a resource into the accepted form.
pub struct Renderer<'a> {
    resource: &'a Resource,
    accept: &'a Accept,
    include: Include,
    now: jiff::Timestamp,
}

impl<'a> Renderer<'a> {
    /// For one request.
    pub fn new(
        resource: &'a Resource,
        accept: &'a Accept,
        query: &Query,
        now: jiff::Timestamp,
    ) -> ApiResult<Self> {
        Ok(Self { resource, accept, include: Include::parse(query.get("includeObject"))?, now })
    }

    /// One object.
    pub fn object(&self, object: &Object) -> Value {
        match self.accept {
            Accept::Metadata => partial(object),
            Accept::Table => {
                let mut table = self.table(std::slice::from_ref(object), true);
                let version = &object["metadata"]["resourceVersion"];
                table["metadata"] =
                    if version.is_string() { json!({"resourceVersion": version}) } else { json!({}) };
                table
            }
            _ => (**object).clone(),
        }
    }

    /// A table of these objects, with or without its header.
    pub fn table(&self, objects: &[Object], header: bool) -> Value {
        table::render(self.resource, objects, (header, self.include), self.now)
    }

    /// The object of a watch event; a table's header goes with the first event only.
    pub fn event(&self, kind: &str, object: &Object, first: bool) -> Value {
        match (kind, self.accept) {
            ("ERROR", _) => (**object).clone(),
            // A bookmark, too: kubectl reads its row like any other.
            (_, Accept::Table) => {
                let mut table = self.table(std::slice::from_ref(object), first);
                table["metadata"] = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table
            }
            _ => self.object(object),
        }
    }

    /// An object in a list, which says for all of them what kind they are. Custom ones say it themselves too.
    fn item(&self, object: &Value) -> Value {
        let mut item = object.clone();
        if let (Value::Object(map), None) = (&mut item, &self.resource.custom) {
            map.remove("kind");
            map.remove("apiVersion");
        }
        item
    }

    /// A list.
    pub fn list(&self, page: &Page) -> Value {
        let mut metadata = json!({"resourceVersion": page.version.to_string()});
        // Lists of custom kinds say that nothing follows.
        if self.resource.custom.is_some() && *self.accept == Accept::Whole {
            metadata["continue"] = "".into();
        }
        if let Some(token) = &page.continue_token {
            metadata["continue"] = token.as_str().into();
            if let Some(remaining) = page.remaining {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        let resource = self.resource;
        match self.accept {
            Accept::Table => {
                let mut table = self.table(&page.items, true);
                table["metadata"] = metadata;
                table
            }
            Accept::Metadata => {
                let items: Vec<Value> = page.items.iter().map(|object| partial(object)).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                       "metadata": metadata, "items": items})
            }
            _ => {
                let kind = format!("{}List", resource.kind);
                let items: Vec<Value> = page.items.iter().map(|object| self.item(object)).collect();
                json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items})
            }
        }
    }
}

/// An object's metadata alone.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_is_chosen() {
        let cases = [
            ("application/json", Some(Accept::Whole)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(Accept::Table)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Accept::Whole)),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Some(Accept::Metadata)),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/json;as=Table;v=v9", None),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, text.parse().unwrap());
            assert_eq!(Accept::parse(&headers, false).ok(), expected, "{text}");
        }
    }
}
