//! Typed parameters and outputs of Actions.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of a parameter or an output.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl ValueType {
    /// Its name, as users write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// One declared parameter of an Action.
///
/// A script finds it in the environment as `FOTHER_PARAM_` and its name in capitals (`olderThanDays` becomes
/// `FOTHER_PARAM_OLDER_THAN_DAYS`), and in the JSON file that `FOTHER_PARAMETERS` names.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.required) && self.required && has(self.default))")
    .message("a required parameter has no default"))]
pub struct Parameter {
    /// Name, in camelCase. Example: `olderThanDays`.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z][a-zA-Z0-9]{0,62}$"))]
    pub name: String,
    /// What it means, with its unit. Example: `Age in days above which a log is deleted.`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Type of the value. Default: `string`.
    #[serde(default, rename = "type")]
    pub value_type: ValueType,
    /// Whether a value must be given. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value when none is given, as text, whatever the type. Example: `"7"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub default: Option<String>,
    /// The least value of an integer or number. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
    /// The greatest value of an integer or number. Example: `365`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<i64>,
    /// The only texts allowed, for a string. Example: `[soft, hard]`.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub allowed: Vec<String>,
}

/// One declared output of an Action, written by it to the file that `FOTHER_OUTPUT` names, as `name=value` lines
/// or as one JSON object.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Name, in camelCase. Example: `freedBytes`.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z][a-zA-Z0-9]{0,62}$"))]
    pub name: String,
    /// What it means, with its unit. Example: `Bytes that were freed.`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Type of the value. Default: `string`.
    #[serde(default, rename = "type")]
    pub value_type: ValueType,
}
