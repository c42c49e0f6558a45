//! Talks to the server: lists its references and downloads commits, bounded in bytes and bound to one host.

use std::cell::Cell;

use git2::cert::Cert;
use git2::{
    AutotagOption, CertificateCheckStatus, ErrorClass, ErrorCode, FetchOptions, ProxyOptions, RemoteCallbacks,
};
use git2::{RemoteRedirect, Repository};

use super::error::{Error, Failure};
use super::gate::{Gate, Trouble};
use super::reference::Head;
use super::source::{Credentials, Location, redact};

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

/// One server, ready to be asked.
pub(super) struct Remote<'a> {
    location: &'a Location,
    authorization: Option<String>,
    gate: Option<Gate>,
    transfer_bytes: u64,
    too_large: Cell<bool>,
}

impl<'a> Remote<'a> {
    /// Prepares, without connecting.
    pub(super) fn new(
        location: &'a Location,
        credentials: Option<&Credentials>,
        transfer_bytes: u64,
    ) -> Result<Self, Error> {
        let gate = match location {
            Location::Https { host, port, .. } => Some(
                Gate::open(host, *port).map_err(|error| Error::CacheFailed { cause: error.to_string() })?,
            ),
            Location::Local(_) => None,
        };
        let authorization =
            credentials.map(|credentials| format!("Authorization: {}", credentials.authorization()));
        Ok(Self { location, authorization, gate, transfer_bytes, too_large: Cell::new(false) })
    }

    /// Lists the server's references.
    pub(super) fn list(&self, repository: &Repository) -> Result<Vec<Head>, Failure> {
        let mut remote = repository.remote_anonymous(&self.location.url())?;
        // `Remote::connect_auth` takes no headers, a fetch does; and libgit2 keeps the list after it.
        self.run(&mut remote, &[NOTHING], Depth::Full)?;
        let heads = remote.list().map_err(|error| self.explain(&error))?;
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
        let mut remote = repository.remote_anonymous(&self.location.url())?;
        self.run(&mut remote, refspecs, depth)
    }

    fn run(&self, remote: &mut git2::Remote<'_>, refspecs: &[&str], depth: Depth) -> Result<(), Failure> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|progress| {
            let within = progress.received_bytes() as u64 <= self.transfer_bytes;
            self.too_large.set(!within);
            within
        });
        // Explicit, so that no later default can weaken it: what OpenSSL does not trust is not trusted.
        callbacks.certificate_check(|_: &Cert<'_>, _| Ok(CertificateCheckStatus::CertificatePassthrough));
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
        // A redirect within the host is followed (a renamed repository), one elsewhere is not; the gate closes what this leaves open.
        options.follow_redirects(RemoteRedirect::None);
        if let Some(gate) = &self.gate {
            let mut proxy = ProxyOptions::new();
            proxy.url(&gate.url());
            options.proxy_options(proxy);
        }
        if let Some(header) = &self.authorization {
            options.custom_headers(&[header]);
        }
        options.depth(self.depth(depth, refspecs));
        remote.fetch(refspecs, Some(&mut options), None).map_err(|error| self.explain(&error))
    }

    /// libgit2's local transport knows no shallow fetch.
    fn depth(&self, depth: Depth, refspecs: &[&str]) -> i32 {
        match (self.location, depth) {
            (Location::Local(_), _) => 0,
            (_, Depth::Last(commits)) => commits,
            (_, Depth::Full) if refspecs == [NOTHING] => 0,
            // What git calls unshallow: 0 would keep the boundary of an earlier shallow fetch.
            (_, Depth::Full) => i32::MAX,
        }
    }

    /// Turns libgit2's error into ours: the gate and the byte count know more than it does.
    fn explain(&self, error: &git2::Error) -> Failure {
        let (origin, url) = (self.location.origin(), redact(&self.location.url()));
        if self.too_large.get() {
            let cause = format!("the transfer exceeds {} bytes", self.transfer_bytes);
            return Error::FetchFailed { url, cause }.into();
        }
        match self.gate.as_ref().and_then(Gate::take_trouble) {
            Some(Trouble::Elsewhere(to)) => {
                return Error::Redirected { origin, to: format!("https://{to}") }.into();
            }
            Some(Trouble::Unreachable(cause)) => return Error::FetchFailed { url, cause }.into(),
            None => {}
        }
        let cause = self.scrub(error.message());
        if let Some(to) = redirect_target(&cause) {
            return Error::Redirected { origin, to }.into();
        }
        match (error.code(), error.class()) {
            (ErrorCode::Auth, _) => {
                Error::AuthenticationFailed { origin, hint: self.authentication_hint().into() }.into()
            }
            (ErrorCode::Certificate, _) | (_, ErrorClass::Ssl) => {
                Error::CertificateInvalid { origin, cause }.into()
            }
            (_, ErrorClass::Http) if cause.ends_with("403") => {
                Error::AuthenticationFailed { origin, hint: "the server answered 403".into() }.into()
            }
            (_, ErrorClass::Http | ErrorClass::Net | ErrorClass::Callback | ErrorClass::Invalid) => {
                Error::FetchFailed { url, cause }.into()
            }
            (ErrorCode::NotFound | ErrorCode::Owner, _) | (_, ErrorClass::Config) if self.gate.is_none() => {
                Error::FetchFailed { url, cause }.into()
            }
            _ => Failure::Cache(git2::Error::new(error.code(), error.class(), cause)),
        }
    }

    fn authentication_hint(&self) -> &'static str {
        match self.authorization {
            None => "the repository needs credentials or does not exist",
            Some(_) => "the server refused the credentials",
        }
    }

    /// A message never carries the header, whatever libgit2 chose to quote.
    fn scrub(&self, message: &str) -> String {
        match &self.authorization {
            Some(header) if message.contains(header.as_str()) => {
                message.replace(header.as_str(), "[redacted]")
            }
            _ => message.to_owned(),
        }
    }
}

/// The host in libgit2's refusal of a redirect: `cannot redirect from 'a' to 'b'`.
fn redirect_target(message: &str) -> Option<String> {
    let (_, target) = message.strip_prefix("cannot redirect from '")?.split_once("' to '")?;
    Some(target.trim_end_matches('\'').to_owned())
}
