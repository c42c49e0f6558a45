//! An object as a rule sees it, read from what the API server sends: without the record of who set which field, which is
//! half of its size and read by nobody. It is skipped as it is read, so that it takes no memory either.

use std::fmt;

use kube::api::ApiResource;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An object without its managed fields. Anything but an object has none.
#[derive(Clone, Debug)]
pub struct Slim(pub Value);

impl Slim {
    /// The object, with its kind, which items of lists lack.
    pub fn of(mut self, resource: &ApiResource) -> Value {
        if let Some(members) = self.0.as_object_mut() {
            members.entry("apiVersion").or_insert_with(|| resource.api_version.clone().into());
            members.entry("kind").or_insert_with(|| resource.kind.clone().into());
        }
        self.0
    }
}

impl<'de> Deserialize<'de> for Slim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole).map(Self)
    }
}

/// The object as a whole.
struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = if name == "metadata" { map.next_value::<Metadata>()?.0 } else { map.next_value()? };
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

/// Its metadata.
struct Metadata(Value);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Self)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "managedFields" {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.insert(name, map.next_value()?);
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::GroupVersionKind;
    use serde_json::json;

    #[test]
    fn an_object_is_as_it_was_sent_but_for_its_managed_fields() {
        let labels = json!({"managedFields": "a label"});
        let sent = json!({"metadata": {"name": "p", "labels": labels, "managedFields": [{"fieldsV1": {"f:spec": {}}}]},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "x": 1.5, "y": null}});
        let pods = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let read = serde_json::from_str::<Slim>(&sent.to_string()).expect("an object").of(&pods);
        let mut expected = sent;
        expected["metadata"].as_object_mut().expect("metadata").remove("managedFields");
        (expected["apiVersion"], expected["kind"]) = ("v1".into(), "Pod".into());
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["null", "[]", "7", r#"{"metadata": null}"#] {
            assert!(serde_json::from_str::<Slim>(text).is_err(), "{text}");
        }
    }
}
