//! What a Rule's episodes, cooldown and deduplication count by.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{GROUP, VERSION};
use crate::text::printable;

/// How the object that matched leads to the target of the remediation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// The matching object itself (for an event, the object it regards). The default, except for Pods.
    Object,
    /// The topmost controller of the matching object: a Pod's Deployment, not its `ReplicaSet`. The default for Pods.
    Workload,
    /// The nearest owner of a given kind.
    Owner(OwnerKind),
    /// An object that an alert, an event or the matching object names.
    Ref(ObjectTemplate),
    /// A name that an alert, an event or the matching object gives to what is wrong: a CEL expression that is a string.
    /// No object of it exists.
    Key(String),
}

/// An object that an alert, an event or the matching object names. Name and namespace may hold `${{ … }}` templates over
/// `alert`, `event` or `object`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectTemplate {
    /// Group and version. Example: `apps/v1`.
    pub api_version: String,
    /// Kind. Example: `Deployment`.
    pub kind: String,
    /// Namespace. It has to be the Rule's own: an alert about another one does not match. Default: the Rule's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name. Example: `${{ alert.labels.deployment }}`.
    pub name: String,
}

/// The kind that stands in a reference to a target that is only a name.
pub const KEY_KIND: &str = "Key";

/// A kind of owner.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerKind {
    /// Group and version. Example: `apps/v1`.
    pub api_version: String,
    /// Kind. Example: `StatefulSet`.
    pub kind: String,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selected {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerKind>,
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    object: Option<ObjectTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Selected {
    fn target(self) -> Option<Target> {
        match (self.owner, self.object, self.key) {
            (Some(owner), None, None) => Some(Target::Owner(owner)),
            (None, Some(object), None) => Some(Target::Ref(object)),
            (None, None, Some(key)) => Some(Target::Key(key)),
            _ => None,
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object => serializer.serialize_str("object"),
            Self::Workload => serializer.serialize_str("workload"),
            Self::Owner(owner) => {
                Selected { owner: Some(owner.clone()), ..Selected::default() }.serialize(serializer)
            }
            Self::Ref(object) => {
                Selected { object: Some(object.clone()), ..Selected::default() }.serialize(serializer)
            }
            Self::Key(key) => {
                Selected { key: Some(key.clone()), ..Selected::default() }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match value.as_str() {
            Some("object") => Ok(Self::Object),
            Some("workload") => Ok(Self::Workload),
            Some(other) => Err(de::Error::custom(format!(
                "\"{other}\" is not a target: use object, workload or owner: {{apiVersion, kind}}"
            ))),
            None => serde_json::from_value::<Selected>(value.clone())
                .map_err(|error| de::Error::custom(wanted(&value, &error)))?
                .target()
                .ok_or_else(|| de::Error::custom("exactly one of owner, ref and key must be set")),
        }
    }
}

/// What is wrong with a map that is no target, and what is wanted instead.
fn wanted(value: &serde_json::Value, error: &serde_json::Error) -> String {
    let members = [
        ("owner", "{apiVersion: apps/v1, kind: StatefulSet}"),
        ("ref", "{apiVersion: apps/v1, kind: Deployment, name: api}"),
    ];
    let of = members.iter().find(|(name, _)| value.get(name).is_some());
    of.map_or_else(
        || error.to_string(),
        |(name, example)| format!("{name}: {error}; write such as {name}: {example}"),
    )
}

impl JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// A structural schema has no "string or object". Untyped with value validations does it: a string has to be one
    /// of the words (any other is too long for the second branch), an object has to have just the one member.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            "anyOf": [
                {"enum": ["object", "workload"]},
                {"maxLength": 0, "required": ["owner"], "maxProperties": 1},
                {"maxLength": 0, "required": ["ref"], "maxProperties": 1},
                {"maxLength": 0, "required": ["key"], "maxProperties": 1},
            ],
        })
    }
}

/// One object of the cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Group and version. Example: `apps/v1`.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Kind. Example: `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Namespace; absent for kinds that have none. Example: `web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Name. Example: `payments-api`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the object that was meant; an operation refuses to touch another one of the same name. Default: any. Example:
    /// `0a6fba5f-7ed5-4c0b-9a5c-6b0f3ab5f3b1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

impl ObjectReference {
    /// What stands for a target that is only a name: no object of it exists.
    pub fn key(namespace: &str, name: String) -> Self {
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KEY_KIND.to_owned(),
            namespace: Some(namespace.to_owned()),
            name,
            uid: None,
        }
    }

    /// Whether it is only a name.
    pub fn is_key(&self) -> bool {
        self.kind == KEY_KIND && self.group() == GROUP
    }

    /// The API group, empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl std::fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Who creates an Execution by hand may name anything.
        write!(f, "{}/{}", printable(&self.kind), printable(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_target_is_told_on_one_line() {
        let target =
            ObjectReference { kind: "Key".into(), name: "a\nb\u{1b}[2J".into(), ..Default::default() };
        assert_eq!(target.to_string(), r"Key/a\nb\u{1b}[2J");
    }

    #[test]
    fn a_word_or_an_owner() {
        for (json, target) in [
            (json!("object"), Target::Object),
            (json!("workload"), Target::Workload),
            (
                json!({"owner": {"apiVersion": "apps/v1", "kind": "StatefulSet"}}),
                Target::Owner(OwnerKind { api_version: "apps/v1".into(), kind: "StatefulSet".into() }),
            ),
            (
                json!({"ref": {"apiVersion": "v1", "kind": "Pod", "name": "x"}}),
                Target::Ref(ObjectTemplate {
                    api_version: "v1".into(),
                    kind: "Pod".into(),
                    namespace: None,
                    name: "x".into(),
                }),
            ),
            (json!({"key": "alert.labels.job"}), Target::Key("alert.labels.job".into())),
        ] {
            assert_eq!(serde_json::from_value::<Target>(json.clone()).expect("parses"), target);
            assert_eq!(serde_json::to_value(&target).expect("writes"), json);
        }
    }

    #[test]
    fn refuses_anything_else() {
        let error = serde_json::from_value::<Target>(json!("workloads")).expect_err("refused").to_string();
        assert_eq!(error, "\"workloads\" is not a target: use object, workload or owner: {apiVersion, kind}");
        assert!(serde_json::from_value::<Target>(json!({"own": {}})).is_err());
        let error = serde_json::from_value::<Target>(json!({"owner": {"kind": "Job"}})).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "owner: missing field `apiVersion`; write such as owner: {apiVersion: apps/v1, kind: StatefulSet}"
        );
        assert!(serde_json::from_value::<Target>(json!({})).is_err());
    }
}
