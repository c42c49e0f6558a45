//! What can go wrong between a Pack's URL and its files, and what follows from it.
//!
//! Errors cross the pipe between worker and controller, so they are plain data. Whoever makes one redacts it.

use serde::{Deserialize, Serialize};

/// Why a source could not be turned into a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The URL is not one that may be fetched.
    #[error("url {url:?}: {problem}")]
    InvalidUrl {
        /// The URL, redacted.
        url: String,
        /// What is wrong with it and what is right.
        problem: String,
    },
    /// The reference or the sub-path is malformed.
    #[error("{what} {value:?}: {problem}")]
    InvalidReference {
        /// Which input it is: branch, tag, semver, commit or path.
        what: String,
        /// The input.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The reference is well-formed and the repository does not have it.
    #[error("{what} not found{hint}")]
    ReferenceNotFound {
        /// What was looked for, such as `branch "main"`.
        what: String,
        /// What there is instead, or empty.
        hint: String,
    },
    /// The credentials cannot be used.
    #[error("secret: {problem}")]
    InvalidCredentials {
        /// What is wrong with them.
        problem: String,
    },
    /// The server wants other credentials, or any.
    #[error("failed to authenticate at {origin}: {hint}")]
    AuthenticationFailed {
        /// Scheme, host and port.
        origin: String,
        /// What to do.
        hint: String,
    },
    /// The server's certificate is not trusted.
    #[error("failed to verify the certificate of {origin}: {cause}")]
    CertificateInvalid {
        /// Scheme, host and port.
        origin: String,
        /// What the verifier said.
        cause: String,
    },
    /// The ssh server cannot be believed to be the one that was asked for.
    #[error("{origin}: {problem}")]
    HostKeyRefused {
        /// Scheme, host and port.
        origin: String,
        /// What is wrong with its key.
        problem: String,
    },
    /// The server redirects to another host or port.
    #[error("redirect to {to} refused: give the final url, credentials and trust belong to {origin} alone")]
    Redirected {
        /// Scheme, host and port of the source.
        origin: String,
        /// Where the server wanted to send us.
        to: String,
    },
    /// The transfer failed.
    #[error("failed to fetch {url}: {cause}")]
    FetchFailed {
        /// The URL, redacted.
        url: String,
        /// What the transport said.
        cause: String,
    },
    /// The server sends too much, over all its answers.
    #[error("failed to fetch {url}: the transfer exceeds {bytes} bytes")]
    TooLarge {
        /// The URL, redacted.
        url: String,
        /// The limit, for all of them together.
        bytes: u64,
    },
    /// The deadline passed.
    #[error("fetch timed out after {seconds}s")]
    TimedOut {
        /// The deadline.
        seconds: u64,
    },
    /// The revision's content is refused.
    #[error("{path}: {problem}")]
    ContentRefused {
        /// The file or folder, from the repository's root.
        path: String,
        /// Why.
        problem: String,
    },
    /// The revision is not signed by somebody who may.
    #[error("{what} {problem}")]
    SignatureInvalid {
        /// The commit or tag.
        what: String,
        /// What its signature lacks.
        problem: String,
    },
    /// The local cache cannot be used.
    #[error("failed to use the git cache: {cause}")]
    CacheFailed {
        /// What went wrong.
        cause: String,
    },
    /// The worker process ended without an answer.
    #[error("git worker failed: {cause}")]
    WorkerFailed {
        /// How it ended.
        cause: String,
    },
}

/// What the caller should do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Try again with growing delays: the cause may pass by itself.
    Retry,
    /// Try again at the next interval: the cause is outside, and somebody must act there.
    Wait,
    /// Do not try again until the definition changes.
    Stall,
}

impl Error {
    /// The condition reason, event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "InvalidURL",
            Self::InvalidReference { .. } => "InvalidReference",
            Self::ReferenceNotFound { .. } => "ReferenceNotFound",
            Self::AuthenticationFailed { .. } => "AuthenticationFailed",
            Self::CertificateInvalid { .. } => "CertificateInvalid",
            Self::HostKeyRefused { .. } => "HostKeyRefused",
            Self::InvalidCredentials { .. } => "InvalidCredentials",
            Self::ContentRefused { .. } => "InvalidRevision",
            Self::SignatureInvalid { .. } => "SignatureInvalid",
            Self::Redirected { .. } | Self::FetchFailed { .. } | Self::TooLarge { .. } => "FetchFailed",
            Self::TimedOut { .. } => "FetchTimedOut",
            Self::CacheFailed { .. } | Self::WorkerFailed { .. } => "FetchWorkerFailed",
        }
    }

    /// What follows.
    pub fn consequence(&self) -> Consequence {
        match self {
            Self::InvalidUrl { .. } | Self::InvalidReference { .. } => Consequence::Stall,
            Self::ReferenceNotFound { .. }
            | Self::AuthenticationFailed { .. }
            | Self::CertificateInvalid { .. }
            | Self::HostKeyRefused { .. }
            | Self::InvalidCredentials { .. }
            | Self::Redirected { .. }
            | Self::SignatureInvalid { .. }
            | Self::ContentRefused { .. } => Consequence::Wait,
            Self::FetchFailed { .. }
            | Self::TooLarge { .. }
            | Self::TimedOut { .. }
            | Self::CacheFailed { .. }
            | Self::WorkerFailed { .. } => Consequence::Retry,
        }
    }
}

/// Why an attempt with one cache directory failed: for good, or perhaps because the cache is damaged.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another cache would not help.
    Final(Error),
    /// The cache may be damaged; a fresh one is worth one more attempt.
    Cache(git2::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<git2::Error> for Failure {
    fn from(error: git2::Error) -> Self {
        Self::Cache(error)
    }
}
