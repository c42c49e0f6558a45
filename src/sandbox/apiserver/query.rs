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

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
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

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> ApiResult<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        text.parse().map(Some).map_err(|_| bad())
    }

    /// A number for which anything below one means that there is no limit.
    fn limit(&self, name: &str) -> ApiResult<Option<u64>> {
        let number = self.number(name)?.and_then(|number| u64::try_from(number).ok());
        Ok(number.filter(|number| *number > 0))
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

/// The longest name of a field manager.
const MANAGER_BYTES: usize = 128;

impl WriteOptions {
    /// Reads them from the query; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn from_query(query: &Query, kind: &str) -> ApiResult<Self> {
        query.only(&["dryRun", "fieldManager", "fieldValidation", "force"])?;
        let mut causes = check_dry_run(&query.all("dryRun"));
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let allowed: Vec<Value> = ["", "Ignore", "Strict", "Warn"].map(Value::from).to_vec();
                causes.push(Cause::unsupported("fieldValidation", &other.into(), &allowed));
                FieldValidation::Warn
            }
        };
        if query.get("fieldManager").is_some_and(|name| name.len() > MANAGER_BYTES) {
            causes.push(Cause::too_long("fieldManager", 128));
        }
        refuse(kind, &causes)?;
        Ok(Self {
            dry_run: query.get("dryRun").is_some(),
            field_manager: query.get("fieldManager").map(str::to_owned),
            field_validation,
            force: query.flag("force"),
        })
    }

    /// What a patch demands of its parameters: apply a manager, and others no force.
    pub fn check_patch(&self, query: &Query, is_apply: bool) -> ApiResult<()> {
        let mut causes = Vec::new();
        if is_apply && self.field_manager.is_none() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
        if !is_apply && query.get("force").is_some() {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        refuse("PatchOptions", &causes)
    }
}

/// Refuses options that have something against them.
pub fn refuse(kind: &str, causes: &[Cause]) -> ApiResult<()> {
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(kind, "meta.k8s.io", "", causes)) }
}

/// `All` is the only dry run there is.
pub fn check_dry_run(values: &[&str]) -> Vec<Cause> {
    if values.iter().all(|value| *value == "All") {
        return Vec::new();
    }
    vec![Cause::unsupported("dryRun", &values.iter().copied().collect::<Value>(), &["All".into()])]
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
        let watch = query.flag("watch");
        let version = query.get("resourceVersion");
        let options = Self {
            label_selector: query.get("labelSelector").map(str::to_owned),
            field_selector: query.get("fieldSelector").map(str::to_owned),
            limit: query.limit("limit")?,
            continue_token: query.get("continue").map(str::to_owned),
            resource_version: None,
            version_match: match query.get("resourceVersionMatch") {
                Some("Exact") => Some(Match::Exact),
                Some("NotOlderThan") => Some(Match::NotOlderThan),
                _ => None,
            },
            timeout_seconds: query.limit("timeoutSeconds")?,
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.flag_option("sendInitialEvents"),
        };
        let causes = if watch { options.against_watch(query) } else { options.against_list(query) };
        refuse("ListOptions", &causes)?;
        if options.continue_token.is_some() && version.is_some_and(|version| version != "0") && !watch {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let resource_version = match version {
            None => None,
            Some(text) if watch => Some(parse_version(text)?),
            Some(text) => Some(parse_version(text).map_err(|error| {
                ApiError::bad_request(format!("invalid resource version: {}", error.message))
            })?),
        };
        Ok(Self { resource_version, ..options })
    }

    fn against_list(&self, query: &Query) -> Vec<Cause> {
        let mut causes = Vec::new();
        let mut forbid = |field: &str, why: &str| causes.push(Cause::forbidden(field, why));
        let (given, version) = (query.get("resourceVersionMatch"), query.get("resourceVersion"));
        if given.is_some() && version.is_none() {
            forbid(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if given.is_some() && self.continue_token.is_some() {
            forbid(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
        if self.version_match == Some(Match::Exact) && version == Some("0") {
            forbid(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if self.send_initial_events.is_some() {
            forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if let (Some(other), None) = (given, self.version_match) {
            let allowed: Vec<Value> = ["Exact", "NotOlderThan", ""].map(Value::from).to_vec();
            causes.push(Cause::unsupported(MATCH, &other.into(), &allowed));
        }
        causes
    }

    fn against_watch(&self, query: &Query) -> Vec<Cause> {
        let mut causes = Vec::new();
        let given = query.get("resourceVersionMatch");
        let is_newest = self.version_match == Some(Match::NotOlderThan);
        if self.send_initial_events.is_some() && !is_newest {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(MATCH, why));
        }
        if given.is_some() && self.send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden(MATCH, why));
        }
        if let Some(other) = given.filter(|_| !is_newest) {
            causes.push(Cause::unsupported(MATCH, &other.into(), &["NotOlderThan".into()]));
        }
        if self.continue_token.is_some() {
            causes
                .push(Cause::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        causes
    }
}

const MATCH: &str = "resourceVersionMatch";

/// Reads a resourceVersion.
pub fn parse_version(text: &str) -> ApiResult<u64> {
    text.parse().map_err(|_| {
        ApiError::unexplained(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
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
            assert!(WriteOptions::from_query(&Query::parse(text), "CreateOptions").is_err(), "{text}");
        }
        let query = Query::parse("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        assert_eq!(ListOptions::from_query(&query).unwrap().send_initial_events, Some(true));
    }
}
