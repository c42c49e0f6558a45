//! Talks to the server: lists its references and downloads commits, bounded in bytes and bound to one origin.

use git2::{AutotagOption, ErrorClass, ErrorCode, FetchOptions, RemoteRedirect, Repository};
use http::StatusCode;

use super::error::{Error, Failure};
use super::gate::{Gate, Trouble};
use super::reference::Head;
use super::source::{Location, Source};

/// A reference that no repository has: asking for it lists what there is and downloads nothing.
const NOTHING: &str = "refs/fother/nothing:refs/fother/nothing";

/// How much history to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The last so many commits, where the transport can.
    Last(i32),
    /// Everything.
    Full,
}

/// One repository, ready to be asked.
pub(super) struct Remote<'a> {
    location: &'a Location,
    authenticated: bool,
    gate: Option<Gate>,
}

impl<'a> Remote<'a> {
    /// Prepares, without connecting. Everything that the server sends may have `transfer_bytes` together.
    pub(super) fn new(location: &'a Location, source: &Source, transfer_bytes: u64) -> Result<Self, Error> {
        let authenticated = source.access.credentials.is_some();
        let gate = Gate::open(location, source, transfer_bytes)?;
        Ok(Self { location, authenticated, gate })
    }

    /// Lists the server's references.
    pub(super) fn list(&self, repository: &Repository) -> Result<Vec<Head>, Failure> {
        let mut remote = repository.remote_anonymous(&self.url())?;
        // libgit2 keeps the list after a fetch, and a fetch is the same path that the download takes.
        self.fetch(&mut remote, &[NOTHING], 0)?;
        let heads = remote.list().map_err(|error| self.explain(error))?;
        let owned = |head: &git2::RemoteHead<'_>| Head {
            name: head.name().to_owned(),
            oid: head.oid().to_string(),
            target: head.symref_target().map(str::to_owned),
        };
        Ok(heads.iter().map(owned).collect())
    }

    /// Downloads what the refspecs name.
    pub(super) fn download(
        &self,
        repository: &Repository,
        refspecs: &[&str],
        depth: Depth,
    ) -> Result<(), Failure> {
        let mut remote = repository.remote_anonymous(&self.url())?;
        let depth = match (self.location, depth) {
            // libgit2's local transport knows no shallow fetch.
            (Location::Local(_), _) => 0,
            (_, Depth::Last(commits)) => commits,
            // What git calls unshallow: 0 would keep the boundary of an earlier shallow fetch.
            (_, Depth::Full) => i32::MAX,
        };
        self.fetch(&mut remote, refspecs, depth)
    }

    fn fetch(&self, remote: &mut git2::Remote<'_>, refspecs: &[&str], depth: i32) -> Result<(), Failure> {
        let mut options = FetchOptions::new();
        options.download_tags(AutotagOption::None).update_fetchhead(false).depth(depth);
        // Redirects within the gate are allowed even so; the gate lets through only those that stay with the server.
        options.follow_redirects(RemoteRedirect::None);
        remote.fetch(refspecs, Some(&mut options), None).map_err(|error| self.explain(error))
    }

    fn url(&self) -> String {
        self.gate.as_ref().map_or_else(|| self.location.to_string(), Gate::url)
    }

    /// Turns libgit2's error into ours: the gate knows more than it does.
    fn explain(&self, error: git2::Error) -> Failure {
        let (origin, url) = (self.location.origin(), self.location.to_string());
        let trouble = self.gate.as_ref().and_then(Gate::take_trouble);
        let error = match trouble {
            // Another cache would not help.
            _ if error.class() == ErrorClass::NoMemory => {
                let cause = "it takes too much memory to unpack; keep large files out of the repository";
                Error::FetchFailed { url, cause: cause.to_owned() }
            }
            Some(Trouble::Elsewhere(to)) => Error::Redirected { origin, to },
            Some(Trouble::Untrusted(cause)) => Error::CertificateInvalid { origin, cause },
            Some(Trouble::Unreachable(cause)) => Error::FetchFailed { url, cause },
            Some(Trouble::TooLarge(bytes)) => Error::TooLarge { url, bytes },
            Some(Trouble::HostKey(problem)) => Error::HostKeyRefused { origin, problem },
            Some(Trouble::Complaint(words)) => {
                Error::FetchFailed { url, cause: format!("the server says: {words}") }
            }
            Some(
                Trouble::Unauthenticated | Trouble::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            ) => Error::AuthenticationFailed { origin, hint: self.authentication_hint().into() },
            Some(Trouble::Status(status)) => {
                Error::FetchFailed { url, cause: format!("the server answered {status}") }
            }
            // Nothing wrong on the way, so that it may be the cache; but not a local origin that is missing or another user's.
            None if self.gate.is_none() && matches!(error.code(), ErrorCode::NotFound | ErrorCode::Owner) => {
                Error::FetchFailed { url, cause: error.message().to_owned() }
            }
            None => return Failure::Cache(error),
        };
        error.into()
    }

    fn authentication_hint(&self) -> &'static str {
        if self.authenticated {
            "the server refused the credentials"
        } else {
            "the repository needs credentials or does not exist"
        }
    }
}
