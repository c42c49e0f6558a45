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
            Some(400 | 401 | 403 | 404 | 405 | 415 | 422) => Consequence::Wait(LOOK_AGAIN),
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
