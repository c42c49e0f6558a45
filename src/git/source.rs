//! Where a Pack comes from: URL, reference, sub-path, credentials and trust, checked before anything is opened.
//!
//! Only https and ssh leave the machine; local repositories are for development and need the caller's consent.
//! Git's other transports are refused: `http` and `git` are unauthenticated, `ext` and `fd` run programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use serde::{Deserialize, Serialize};
use url::Url;

use super::address::Address;
use super::error::Error;
use super::reference::Reference;
use crate::api::Signer;

/// A string that does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for whoever sends it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// How to authenticate at the URL's host, and at no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentials {
    /// HTTP basic authentication; a forge's access token goes where the password is.
    Basic {
        /// The user.
        username: String,
        /// The password or token.
        password: Secret,
    },
    /// An HTTP bearer token.
    Bearer(Secret),
    /// An ssh key.
    Key {
        /// The private key, as ssh-keygen writes it.
        identity: Secret,
        /// What it is encrypted with, if it is.
        passphrase: Option<Secret>,
    },
}

/// What a Pack's Secret gives: how to authenticate and whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// `username` and `password`, or `bearerToken`, or `identity` and perhaps `password`.
    pub credentials: Option<Credentials>,
    /// `ca.crt`: PEM certificates to trust instead of the system's.
    pub ca_bundle: Option<String>,
    /// `known_hosts`: the keys that an ssh server may show.
    pub known_hosts: Option<String>,
}

impl Access {
    /// Reads a Secret's texts; the message of an error names keys and never a value.
    pub fn from_secret(texts: &BTreeMap<String, String>) -> Result<Self, String> {
        // Tools and editors end files with a line break that is no part of a password.
        let text = |key: &str| texts.get(key).map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
        let given = (text("username"), text("password"), text("bearerToken"), texts.get("identity"));
        let credentials = match given {
            (None, None, None, None) => None,
            (None, None, Some(token), None) => Some(Credentials::Bearer(Secret::new(token))),
            (Some(username), Some(password), None, None) => {
                Some(Credentials::Basic { username, password: Secret::new(password) })
            }
            (None, passphrase, None, Some(identity)) => Some(Credentials::Key {
                identity: Secret::new(identity),
                passphrase: passphrase.map(Secret::new),
            }),
            _ => {
                let message = "set username and password, or bearerToken alone, or identity and its password";
                return Err(message.to_owned());
            }
        };
        Ok(Self { credentials, ca_bundle: text("ca.crt"), known_hosts: text("known_hosts") })
    }
}

impl Credentials {
    /// The value of the `Authorization` header; a key has none.
    pub(super) fn authorization(&self) -> Option<String> {
        match self {
            Self::Basic { username, password } => {
                let pair = format!("{username}:{}", password.0);
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            }
            Self::Bearer(token) => Some(format!("Bearer {}", token.0)),
            Self::Key { .. } => None,
        }
    }

    /// Whether these are credentials for the place, in a form that can be sent there.
    fn check(&self, url: &str, location: &Location) -> Result<(), Error> {
        match (self, location) {
            (_, Location::Local(_)) => Err(invalid(url, "a local repository takes no credentials")),
            (Self::Key { .. }, Location::Https(_)) => {
                Err(credentials("an https url takes username and password, or bearerToken"))
            }
            (Self::Basic { .. } | Self::Bearer(_), Location::Ssh(_)) => Err(credentials(NO_IDENTITY)),
            // A token with a line break would end the header and begin another.
            (Self::Bearer(token), Location::Https(_)) if !is_word(&token.0) => {
                Err(credentials("bearerToken must be one word of printable ASCII"))
            }
            _ => Ok(()),
        }
    }
}

/// What ssh needs of a Secret.
const NO_IDENTITY: &str = "an ssh url needs a Secret with identity and known_hosts";

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

fn credentials(problem: &str) -> Error {
    Error::InvalidCredentials { problem: problem.to_owned() }
}

/// One place in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Whose cache this is, such as `namespace/name` of the Pack: sources of different owners never share a
    /// cache, so that nobody reads what another owner's credentials fetched.
    pub owner: String,
    /// The repository.
    pub url: String,
    /// Which commit of it.
    pub reference: Reference,
    /// The folder to read, empty for the whole tree.
    pub path: String,
    /// Credentials for the URL's host, and whom to trust there.
    pub access: Access,
    /// Who must have signed the revision, if anybody.
    pub signers: Option<Vec<Signer>>,
    /// The commit that the revision should descend from: how it does is said in the snapshot.
    pub ancestor: Option<String>,
}

/// Which transports the caller allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transports {
    /// https and ssh.
    Remote,
    /// Also absolute paths and `file://`, for development.
    RemoteAndLocal,
}

/// A checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A repository on a web server.
    Https(Url),
    /// A repository that a user of a server may read.
    Ssh(Address),
    /// A repository in the file system.
    Local(PathBuf),
}

impl Location {
    /// Scheme, host and port, or the path.
    pub(super) fn origin(&self) -> String {
        match self {
            Self::Https(url) => url.origin().ascii_serialization(),
            Self::Ssh(address) => address.origin(),
            Self::Local(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https(url) => url.fmt(formatter),
            Self::Ssh(address) => address.fmt(formatter),
            Self::Local(path) => path.display().fmt(formatter),
        }
    }
}

impl Source {
    /// Checks everything that can be checked without opening a connection.
    pub(super) fn locate(&self, transports: Transports) -> Result<Location, Error> {
        self.reference.check()?;
        if let Some(ancestor) = &self.ancestor {
            Reference::Commit(ancestor.clone()).check()?;
        }
        super::tree::check_path(&self.path)?;
        let location = parse(&self.url, transports)?;
        if let Some(credentials) = &self.access.credentials {
            credentials.check(&self.url, &location)?;
        }
        if matches!(location, Location::Ssh(_)) {
            match (&self.access.credentials, &self.access.known_hosts) {
                (None, _) => return Err(credentials(NO_IDENTITY)),
                (_, None) => {
                    let message = "known_hosts is missing: without it anybody could be the server; \
                                   ssh-keyscan prints its lines, compare them with what the host publishes";
                    return Err(credentials(message));
                }
                _ => {}
            }
        }
        Ok(location)
    }
}

fn parse(url: &str, transports: Transports) -> Result<Location, Error> {
    let local = transports == Transports::RemoteAndLocal;
    let supported =
        if local { "use https://, ssh://, file:// or an absolute path" } else { "use https:// or ssh://" };
    if url.starts_with('/') {
        return if local {
            local_path(url, url)
        } else {
            Err(invalid(url, format!("local paths are not allowed; {supported}")))
        };
    }
    if let Some(address) = Address::from_short(url) {
        return address.map(Location::Ssh).map_err(|problem| invalid(url, problem));
    }
    let Ok(parsed) = Url::parse(url) else {
        return Err(invalid(url, format!("not a url; {supported}")));
    };
    match parsed.scheme() {
        "https" => https(url, &parsed),
        "ssh" => Address::from_url(&parsed).map(Location::Ssh).map_err(|problem| invalid(url, problem)),
        "file" if local => local_path(url, parsed.path()),
        scheme => Err(invalid(url, format!("transport {scheme:?} is not supported; {supported}"))),
    }
}

fn https(given: &str, url: &Url) -> Result<Location, Error> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(given, "credentials do not belong in a url; put them into a Secret"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(given, "a query or fragment is not allowed"));
    }
    Ok(Location::Https(url.clone()))
}

fn local_path(given: &str, path: &str) -> Result<Location, Error> {
    if path.contains('\0') || !path.starts_with('/') {
        return Err(invalid(given, "the path must be absolute"));
    }
    Ok(Location::Local(PathBuf::from(path)))
}

fn invalid(url: &str, problem: impl Into<String>) -> Error {
    Error::InvalidUrl { url: redact(url), problem: problem.into() }
}

/// The URL without anything that may be a secret: user information, query and fragment.
pub fn redact(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let start = url.find("://").map_or(0, |at| at + 3).min(end);
    let (scheme, rest) = url[..end].split_at(start);
    // An at sign may be part of the password too, so that the last one counts; in a path it costs a few letters of a message.
    let rest = rest.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    format!("{scheme}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str) -> Source {
        Source {
            owner: "a/b".into(),
            url: url.into(),
            reference: Reference::Default,
            path: String::new(),
            access: Access::default(),
            signers: None,
            ancestor: None,
        }
    }

    #[test]
    fn accepts_https_and_local() {
        let https = source("https://git.example.com/a/b.git").locate(Transports::Remote).unwrap();
        assert_eq!(https.origin(), "https://git.example.com");
        let local = source("/srv/pack").locate(Transports::RemoteAndLocal).unwrap();
        assert_eq!(local, Location::Local("/srv/pack".into()));
        assert_eq!(source("file:///srv/pack").locate(Transports::RemoteAndLocal).unwrap(), local);
    }

    #[test]
    fn refuses_everything_else_without_echoing_secrets() {
        let cases = [
            ("http://h/x", r#"url "http://h/x": transport "http" is not supported; use https:// or ssh://"#),
            ("git://h/x", r#"url "git://h/x": transport "git" is not supported; use https:// or ssh://"#),
            (
                "ssh://git:hunter2@h/x",
                r#"url "ssh://h/x": a password does not belong in a url; ssh takes a key"#,
            ),
            ("ssh://h/x", r#"url "ssh://h/x": name the user, as in ssh://git@…"#),
            ("git@h:-x", r#"url "h:-x": the path must not begin with a dash"#),
            ("h:a/b.git", r#"url "h:a/b.git": transport "h" is not supported; use https:// or ssh://"#),
            (
                "ext::sh -c id",
                r#"url "ext::sh -c id": transport "ext" is not supported; use https:// or ssh://"#,
            ),
            (
                "file:///srv",
                r#"url "file:///srv": transport "file" is not supported; use https:// or ssh://"#,
            ),
            ("/srv/x", r#"url "/srv/x": local paths are not allowed; use https:// or ssh://"#),
            ("../x", r#"url "../x": not a url; use https:// or ssh://"#),
            ("", r#"url "": not a url; use https:// or ssh://"#),
            (
                "https://me:hunter2@h/x",
                r#"url "https://h/x": credentials do not belong in a url; put them into a Secret"#,
            ),
            (
                "https://me:hun@ter2@h/x?t=hunter2",
                r#"url "https://h/x": credentials do not belong in a url; put them into a Secret"#,
            ),
            ("https://h/x?token=hunter2", r#"url "https://h/x": a query or fragment is not allowed"#),
        ];
        for (url, expected) in cases {
            let error = source(url).locate(Transports::Remote).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!error.to_string().contains("hunter2"));
            assert_eq!(error.reason(), "InvalidURL");
        }
    }

    #[test]
    fn a_token_cannot_smuggle_headers() {
        let mut source = source("https://h/x");
        source.access.credentials = Some(Credentials::Bearer(Secret::new("abc\r\nX-Evil: 1")));
        let error = source.locate(Transports::Remote).unwrap_err().to_string();
        assert!(error.contains("one word") && !error.contains("Evil"), "{error}");
    }

    #[test]
    fn reads_secrets() {
        let read = |pairs: &[(&str, &str)]| {
            let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Access::from_secret(&data.collect())
        };
        let basic = Credentials::Basic { username: "me".into(), password: Secret::new("hunter2") };
        let access = read(&[("username", "me"), ("password", "hunter2\n"), ("ca.crt", "PEM")]).unwrap();
        assert_eq!((access.credentials, access.ca_bundle.as_deref()), (Some(basic), Some("PEM")));
        let bearer = Credentials::Bearer(Secret::new("t"));
        assert_eq!(read(&[("bearerToken", "t")]).unwrap().credentials, Some(bearer));
        assert_eq!(read(&[]).unwrap(), Access::default());
        for mixed in [&[("username", "hunter2")][..], &[("bearerToken", "hunter2"), ("password", "hunter2")]]
        {
            let expected = "set username and password, or bearerToken alone, or identity and its password";
            assert_eq!(read(mixed).unwrap_err(), expected);
        }
    }

    #[test]
    fn ssh_needs_a_key_and_known_hosts() {
        let key = Credentials::Key { identity: Secret::new("hunter2"), passphrase: None };
        let bearer = Credentials::Bearer(Secret::new("hunter2"));
        let known_hosts = Some("h ssh-ed25519 AAAA".to_owned());
        for (url, credentials, known_hosts, expected) in [
            ("ssh://git@h/x", None, known_hosts.clone(), "secret: an ssh url needs a Secret with identity"),
            ("git@h:x", Some(bearer), known_hosts.clone(), "secret: an ssh url needs a Secret with identity"),
            ("git@h:x", Some(key.clone()), None, "secret: known_hosts is missing"),
            ("https://h/x", Some(key.clone()), known_hosts.clone(), "secret: an https url takes username"),
        ] {
            let access = Access { credentials, known_hosts, ca_bundle: None };
            let error = Source { access, ..source(url) }.locate(Transports::Remote).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let access = Access { credentials: Some(key), known_hosts, ca_bundle: None };
        let location = Source { access, ..source("git@h:x") }.locate(Transports::Remote).unwrap();
        assert_eq!(location.origin(), "ssh://h");
    }

    #[test]
    fn secrets_do_not_show() {
        let basic = Credentials::Basic { username: "me".into(), password: Secret::new("hunter2") };
        assert!(!format!("{basic:?}").contains("hunter2"));
        assert_eq!(basic.authorization().as_deref(), Some("Basic bWU6aHVudGVyMg=="));
    }
}
