//! Query parameters: what each verb accepts, and nothing else, so that a parameter that is not understood
//! is refused instead of ignored.

use serde_json::Value;

use super::error::{ApiError, ApiResult, Cause};

/// The parsed query of a request.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Splits and decodes the text after the question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Self { pairs }
    }

    /// The last value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Whether a boolean parameter is set.
    pub fn flag(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, value)| key == name && !matches!(value.as_str(), "0" | "false"))
    }

    /// A boolean parameter that may be absent.
    pub fn flag_option(&self, name: &str) -> Option<bool> {
        self.get(name).map(|_| self.flag(name))
    }

    /// A number.
    pub fn number(&self, name: &str) -> ApiResult<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        text.parse().map(Some).map_err(|_| bad())
    }

    /// Refuses parameters that are not in the list. How long a client waits (`timeout`) is its own matter
    /// here, where nothing takes long.
    pub fn only(&self, known: &[&str]) -> ApiResult<()> {
        match self
            .pairs
            .iter()
            .find(|(key, _)| !matches!(key.as_str(), "pretty" | "timeout") && !known.contains(&key.as_str()))
        {
            None => Ok(()),
            Some((key, _)) => Err(ApiError::bad_request(format!("unknown query parameter {key:?}"))),
        }
    }
}

/// How strictly unknown fields are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Nothing is stored.
    pub dry_run: bool,
    /// Who writes, for managed fields.
    pub field_manager: Option<String>,
    /// What happens to unknown fields.
    pub field_validation: FieldValidation,
    /// Server-side apply takes fields that others own.
    pub force: bool,
}

impl WriteOptions {
    /// Reads them from the query.
    pub fn from_query(query: &Query) -> ApiResult<Self> {
        query.only(&["dryRun", "fieldManager", "fieldValidation", "force"])?;
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let allowed: Vec<Value> = ["Ignore", "Strict", "Warn"].map(Value::from).to_vec();
                let cause = Cause::unsupported("fieldValidation", &other.into(), &allowed);
                return Err(ApiError::invalid("CreateOptions", "meta.k8s.io", "", &[cause]));
            }
        };
        Ok(Self {
            dry_run: dry_run(query.get("dryRun"))?,
            field_manager: query.get("fieldManager").map(str::to_owned),
            field_validation,
            force: query.flag("force"),
        })
    }
}

/// `All` is the only dry run there is.
pub fn dry_run(value: Option<&str>) -> ApiResult<bool> {
    match value {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => {
            let cause = Cause::unsupported("dryRun", &other.into(), &["All".into()]);
            Err(ApiError::invalid("CreateOptions", "meta.k8s.io", "", &[cause]))
        }
    }
}

/// How a resourceVersion is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// This state or a later one.
    NotOlderThan,
    /// This very state.
    Exact,
}

/// Options of list and watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector text.
    pub label_selector: Option<String>,
    /// Field selector text.
    pub field_selector: Option<String>,
    /// Page size.
    pub limit: Option<u64>,
    /// Where the last page ended.
    pub continue_token: Option<String>,
    /// State asked for.
    pub resource_version: Option<u64>,
    /// How that state is meant.
    pub version_match: Option<Match>,
    /// Watch: how long.
    pub timeout_seconds: Option<u64>,
    /// Watch: with bookmarks.
    pub bookmarks: bool,
    /// Watch: the present state first.
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Parameters of list, watch and deletecollection.
    pub const KNOWN: &[&str] = &[
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "timeoutSeconds",
        "allowWatchBookmarks",
        "sendInitialEvents",
        "watch",
    ];

    /// Reads them from the query; whoever calls has checked for unknown parameters.
    pub fn from_query(query: &Query) -> ApiResult<Self> {
        let version_match = match query.get("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(Match::NotOlderThan),
            Some("Exact") => Some(Match::Exact),
            Some(other) => {
                let allowed: Vec<Value> = ["Exact", "NotOlderThan", ""].map(Value::from).to_vec();
                let cause = Cause::unsupported("resourceVersionMatch", &other.into(), &allowed);
                return Err(ApiError::invalid("ListOptions", "meta.k8s.io", "", &[cause]));
            }
        };
        let options = Self {
            label_selector: query.get("labelSelector").map(str::to_owned),
            field_selector: query.get("fieldSelector").map(str::to_owned),
            limit: query.number("limit")?.filter(|limit| *limit > 0),
            continue_token: query.get("continue").map(str::to_owned),
            resource_version: query.get("resourceVersion").map(parse_version).transpose()?,
            version_match,
            timeout_seconds: query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.flag_option("sendInitialEvents"),
        };
        options.check(query.flag("watch"))?;
        Ok(options)
    }

    fn check(&self, watch: bool) -> ApiResult<()> {
        let exact = self.version_match == Some(Match::Exact);
        let (field, why) = if self.send_initial_events.is_some() && !watch {
            ("sendInitialEvents", "sendInitialEvents is forbidden for list")
        } else if self.send_initial_events.is_some() && self.version_match != Some(Match::NotOlderThan) {
            (
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )
        } else if watch && self.version_match.is_some() && self.send_initial_events.is_none() {
            (
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        } else if !watch && self.version_match.is_some() && self.resource_version.is_none() {
            ("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
        } else if exact && self.resource_version == Some(0) {
            ("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        } else {
            return Ok(());
        };
        Err(ApiError::invalid("ListOptions", "meta.k8s.io", "", &[Cause::forbidden(field, why)]))
    }
}

/// Reads a resourceVersion.
pub fn parse_version(text: &str) -> ApiResult<u64> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = [
            "limit=x",
            "resourceVersion=x",
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=Nope&resourceVersion=1",
            "watch=1&sendInitialEvents=true",
            "sendInitialEvents=true",
            "resourceVersion=0&resourceVersionMatch=Exact",
        ];
        for text in refused {
            assert!(ListOptions::from_query(&Query::parse(text)).is_err(), "{text}");
        }
        for text in ["dryRun=Some", "fieldValidation=Nope", "watch=1"] {
            assert!(WriteOptions::from_query(&Query::parse(text)).is_err(), "{text}");
        }
        let query = Query::parse("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        assert_eq!(ListOptions::from_query(&query).unwrap().send_initial_events, Some(true));
    }
}
