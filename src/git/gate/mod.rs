//! The worker's way out: a listener on loopback through which libgit2 reaches one server, and no other.
//!
//! Credentials and trust belong to a gate, not to libgit2, so that they are bound where every request must pass.

pub(super) mod https;

use std::io::{self, Read};

use http::StatusCode;

/// What went wrong at the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) enum Trouble {
    /// The server redirects to another origin.
    Elsewhere(String),
    /// The server's certificate is not trusted.
    Untrusted(String),
    /// The server could not be reached, or broke off.
    Unreachable(String),
    /// The server answered with this status.
    Status(StatusCode),
    /// One answer is larger than allowed.
    TooLarge(u64),
}

/// What only who was told it knows: without it another user of the machine could borrow the credentials.
fn random_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
