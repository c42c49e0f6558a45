//! What goes wrong at the API server, by consequence.

use std::time::Duration;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("failed to {action}: {}", said(.source))]
    Request {
        /// What was tried.
        action: String,
        /// What came back.
        source: kube::Error,
    },
    /// Nobody may act as this account.
    #[error("{0}")]
    NotAllowed(String),
    /// The cluster does not serve this kind.
    #[error("kind {kind} of {api_version} is not served here")]
    UnknownKind {
        /// Group and version.
        api_version: String,
        /// Kind.
        kind: String,
    },
    /// A later version of fother wrote it, and it says more than this one understands.
    #[error("{0}")]
    Unknown(String),
    /// Something else has to end first.
    #[error("{0}")]
    Busy(String),
    /// What was read makes no sense.
    #[error("{0}")]
    Unexpected(String),
}

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// What follows from an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consequence {
    /// It may work in a moment.
    Retry,
    /// It may work when a person has changed something; look again from time to time.
    Wait(Duration),
}

/// How often to look whether a person has changed something.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Error {
    /// Wraps what a request gave, with what was tried.
    pub fn request(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Request { action, source }
    }

    /// What follows from it.
    pub fn consequence(&self) -> Consequence {
        match self.code() {
            // Not 401: nothing was looked at, and a server that starts anew says so of whoever it does not know yet.
            Some(400 | 403 | 404 | 405 | 415 | 422) => Consequence::Wait(LOOK_AGAIN),
            None if !matches!(self, Self::Request { .. } | Self::Busy(_)) => Consequence::Wait(LOOK_AGAIN),
            _ => Consequence::Retry,
        }
    }

    /// Whether it stays until a person has changed something.
    pub fn is_lasting(&self) -> bool {
        matches!(self.consequence(), Consequence::Wait(_))
    }

    /// The HTTP status, if the API server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source: kube::Error::Api(status), .. } => Some(status.code),
            _ => None,
        }
    }

    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403) || matches!(self, Self::NotAllowed(_))
    }

    /// Whether it is a right that is missing. The API server says 403 as well when a quota is used up or a site's admission
    /// refuses an object, which no Role mends; the policies of fother's chart do ask for rights.
    pub fn lacks_a_right(&self) -> bool {
        match self {
            Self::Request { source: kube::Error::Api(status), .. } if status.code == 403 => {
                let why = status.message.split_once("forbidden: ").map_or("", |(_, why)| why);
                why.starts_with("User \"") || why.starts_with("ValidatingAdmissionPolicy 'fother-")
            }
            Self::NotAllowed(_) => true,
            _ => false,
        }
    }

    /// Whether what was sent was looked at and refused, for a reason of its own. (500 is what an admission webhook that
    /// does not answer comes to.)
    pub fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| (400..=500).contains(&code) && !matches!(code, 401 | 429))
    }

    /// Whether it is the namespace that goes away: nothing is created there any more, by anybody.
    pub fn loses_its_namespace(&self) -> bool {
        match self {
            Self::Request { source: kube::Error::Api(status), .. } => {
                status.code == 403 && status.message.contains("because it is being terminated")
            }
            _ => false,
        }
    }

    /// Whether a quota has no room for it.
    pub fn exceeds_a_quota(&self) -> bool {
        matches!(self, Self::Request { source: kube::Error::Api(status), .. }
            if status.code == 403 && status.message.contains(" exceeded quota: "))
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether somebody else was faster: the object exists already, or is another version.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
}

/// The API server's own words, without the client's framing.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// A missing object is an answer, not a failure.
pub fn optional<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn not_all_that_is_forbidden_is_a_right_that_is_missing() {
        let lacks = |message: &str| {
            let status = Status::failure(message, "Forbidden").with_code(403);
            Error::request("apply Rule a")(kube::Error::Api(status.boxed())).lacks_a_right()
        };
        let rule = "rules.fother.dev \"a\" is forbidden";
        for (message, expected) in [
            (
                format!("{rule}: User \"bob\" cannot patch resource \"rules\" in API group \"fother.dev\""),
                true,
            ),
            ("forbidden: User \"bob\" cannot get path \"/version\"".to_owned(), true),
            (
                format!(
                    "{rule}: ValidatingAdmissionPolicy 'fother-rules' with binding 'fother-rules' denied request"
                ),
                true,
            ),
            (
                format!(
                    "{rule}: ValidatingAdmissionPolicy 'site' with binding 'site' denied request: User \"a\""
                ),
                false,
            ),
            (format!("{rule}: exceeded quota: few, requested: count/rules.fother.dev=1"), false),
            ("admission webhook \"policy.example\" denied the request: no".to_owned(), false),
            (
                format!("{rule}: unable to create new content in namespace a because it is being terminated"),
                false,
            ),
        ] {
            assert_eq!(lacks(&message), expected, "{message}");
        }
        assert!(Error::NotAllowed("no".into()).lacks_a_right());
    }

    #[test]
    fn a_full_quota_is_told_from_what_else_is_forbidden() {
        let exceeds = |message: &str| {
            let status = Status::failure(message, "Forbidden").with_code(403);
            Error::request("create ConfigMap a")(kube::Error::Api(status.boxed())).exceeds_a_quota()
        };
        let refused = "configmaps \"a\" is forbidden";
        assert!(exceeds(&format!("{refused}: exceeded quota: few, requested: count/configmaps=1")));
        assert!(!exceeds(&format!("{refused}: User \"bob\" cannot create resource \"configmaps\"")));
    }

    #[test]
    fn who_is_not_known_for_a_moment_is_refused_nothing() {
        for (code, lasts, refused) in [
            (401, false, false),
            (403, true, true),
            (422, true, true),
            (429, false, false),
            (503, false, false),
        ] {
            let status = Status::failure("no", "").with_code(code);
            let error = Error::request("create Job j")(kube::Error::Api(status.boxed()));
            assert_eq!((error.is_lasting(), error.is_refusal()), (lasts, refused), "{code}");
            assert!(!error.lacks_a_right() && !error.loses_its_namespace(), "{code}");
        }
    }
}
