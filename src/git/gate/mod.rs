//! The worker's way out: a listener on loopback through which libgit2 reaches one server, and no other.
//!
//! Credentials and trust belong to a gate, not to libgit2, so that they are bound where every request must pass.

mod budget;
mod https;
mod known_hosts;
mod ssh;

use std::error::Error as StdError;
use std::io::{self, Read};

use http::StatusCode;

use super::error::Error;
use super::source::{Credentials, Location, Source};

/// Requests list what is wanted and what is there; a megabyte is twenty thousand commits.
const REQUEST_BYTES: usize = 1 << 20;

/// What went wrong at the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server redirects to another origin.
    Elsewhere(String),
    /// The server's certificate is not trusted.
    Untrusted(String),
    /// The server could not be reached, or broke off.
    Unreachable(String),
    /// The server answered with this status.
    Status(StatusCode),
    /// The server's ssh key is not one that it may show.
    HostKey(String),
    /// The server does not take the ssh key.
    Unauthenticated,
    /// The server's git gave up, with these words.
    Complaint(String),
    /// The server's answers are larger, together, than so many bytes.
    TooLarge(u64),
}

/// An open gate; dropping it closes it.
pub(super) enum Gate {
    /// To a web server.
    Https { gate: https::Gate, path: String },
    /// To an ssh server.
    Ssh(ssh::Gate),
}

impl Gate {
    /// Opens the gate to a place; none where there is no server. All answers together may have `transfer_bytes`.
    pub(super) fn open(
        location: &Location,
        source: &Source,
        transfer_bytes: u64,
    ) -> Result<Option<Self>, Error> {
        let access = &source.access;
        let failed =
            |error: io::Error| Error::FetchFailed { url: location.to_string(), cause: error.to_string() };
        match (location, &access.credentials) {
            (Location::Local(_), _) => Ok(None),
            (Location::Https(origin), credentials) => {
                let authorization = credentials.as_ref().and_then(Credentials::authorization);
                let ca_bundle = access.ca_bundle.as_deref();
                let opening = https::Opening { origin, authorization, ca_bundle, transfer_bytes };
                let gate = https::Gate::open(opening).map_err(failed)?;
                Ok(Some(Self::Https { gate, path: origin.path().to_owned() }))
            }
            (Location::Ssh(server), Some(Credentials::Key { identity, passphrase })) => {
                let known_hosts = access.known_hosts.as_deref().unwrap_or_default();
                let passphrase = passphrase.as_ref();
                let opening = ssh::Opening { server, identity, passphrase, known_hosts, transfer_bytes };
                let gate = ssh::Gate::open(&opening).map_err(|error| match error {
                    ssh::OpenError::Secret(problem) => Error::InvalidCredentials { problem },
                    ssh::OpenError::Io(error) => failed(error),
                })?;
                Ok(Some(Self::Ssh(gate)))
            }
            (Location::Ssh(_), _) => Err(Error::InvalidCredentials { problem: "identity is missing".into() }),
        }
    }

    /// Where libgit2 finds the repository.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Https { gate, path } => gate.url(path),
            Self::Ssh(gate) => gate.url(),
        }
    }

    /// What went wrong since this was asked last.
    pub(super) fn take_trouble(&self) -> Option<Trouble> {
        match self {
            Self::Https { gate, .. } => gate.take_trouble(),
            Self::Ssh(gate) => gate.take_trouble(),
        }
    }
}

/// What only who was told it knows: without it another user of the machine could borrow the credentials.
fn random_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Follows the causes to the last one. An `io::Error` shows what it wraps as itself, not as its cause.
fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source()) {
        Some(cause) => innermost(cause),
        None => error,
    }
}
