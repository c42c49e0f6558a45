//! Where a Pack comes from: URL, reference, sub-path, credentials and trust, checked before anything is opened.
//!
//! Only `https://` leaves the machine; local repositories are for development and need the caller's consent.
//! Git's other transports are refused: `http` and `git` are unauthenticated, `ext` and `fd` run programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::Error;
use super::reference::Reference;

/// A string that does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
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
}

/// What a Pack's Secret gives: how to authenticate and whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `username` and `password`, or `bearerToken`.
    pub credentials: Option<Credentials>,
    /// `ca.crt`.
    pub ca_bundle: Option<String>,
}

impl Access {
    /// Reads a Secret's texts; the message of an error names keys and never a value.
    pub fn from_secret(texts: &BTreeMap<String, String>) -> Result<Self, String> {
        // Tools and editors end files with a line break that is no part of a password.
        let text = |key: &str| texts.get(key).map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
        let credentials = match (text("username"), text("password"), text("bearerToken")) {
            (None, None, None) => None,
            (None, None, Some(token)) => Some(Credentials::Bearer(Secret::new(token))),
            (Some(username), Some(password), None) => {
                Some(Credentials::Basic { username, password: Secret::new(password) })
            }
            _ => return Err("set username and password, or bearerToken alone".to_owned()),
        };
        Ok(Self { credentials, ca_bundle: text("ca.crt") })
    }
}

impl Credentials {
    /// The value of the `Authorization` header.
    pub(super) fn authorization(&self) -> String {
        match self {
            Self::Basic { username, password } => {
                let pair = format!("{username}:{}", password.0);
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            Self::Bearer(token) => format!("Bearer {}", token.0),
        }
    }

    /// A token with a line break would end the header and begin another.
    fn check(&self, url: &str) -> Result<(), Error> {
        let Self::Bearer(token) = self else { return Ok(()) };
        if token.0.is_empty() || token.0.chars().any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii())
        {
            return Err(invalid(url, "the bearer token must be one word of printable ASCII"));
        }
        Ok(())
    }
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
    /// Credentials for the URL's host.
    pub credentials: Option<Credentials>,
    /// PEM certificates to trust instead of the system's.
    pub ca_bundle: Option<String>,
}

/// Which transports the caller allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transports {
    /// Only `https://`.
    Https,
    /// Also absolute paths and `file://`, for development.
    HttpsAndLocal,
}

/// A checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A repository on a server.
    Https(Url),
    /// A repository in the file system.
    Local(PathBuf),
}

impl Location {
    /// Scheme, host and port, or the path.
    pub(super) fn origin(&self) -> String {
        match self {
            Self::Https(url) => url.origin().ascii_serialization(),
            Self::Local(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https(url) => url.fmt(formatter),
            Self::Local(path) => path.display().fmt(formatter),
        }
    }
}

impl Source {
    /// Checks everything that can be checked without opening a connection.
    pub(super) fn locate(&self, transports: Transports) -> Result<Location, Error> {
        self.reference.check()?;
        super::tree::check_path(&self.path)?;
        if let Some(credentials) = &self.credentials {
            credentials.check(&self.url)?;
        }
        let location = parse(&self.url, transports)?;
        if matches!(location, Location::Local(_)) && self.credentials.is_some() {
            return Err(invalid(&self.url, "a local repository takes no credentials"));
        }
        Ok(location)
    }
}

fn parse(url: &str, transports: Transports) -> Result<Location, Error> {
    let local = transports == Transports::HttpsAndLocal;
    let supported = if local { "use https://, file:// or an absolute path" } else { "use https://" };
    if url.starts_with('/') {
        return if local {
            local_path(url, url)
        } else {
            Err(invalid(url, format!("local paths are not allowed; {supported}")))
        };
    }
    let Ok(parsed) = Url::parse(url) else {
        return Err(invalid(url, format!("not a url; {supported}")));
    };
    match parsed.scheme() {
        "https" => https(url, &parsed),
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
            credentials: None,
            ca_bundle: None,
        }
    }

    #[test]
    fn accepts_https_and_local() {
        let https = source("https://git.example.com/a/b.git").locate(Transports::Https).unwrap();
        assert_eq!(https.origin(), "https://git.example.com");
        let local = source("/srv/pack").locate(Transports::HttpsAndLocal).unwrap();
        assert_eq!(local, Location::Local("/srv/pack".into()));
        assert_eq!(source("file:///srv/pack").locate(Transports::HttpsAndLocal).unwrap(), local);
    }

    #[test]
    fn refuses_everything_else_without_echoing_secrets() {
        let cases = [
            ("http://h/x", r#"url "http://h/x": transport "http" is not supported; use https://"#),
            ("git://h/x", r#"url "git://h/x": transport "git" is not supported; use https://"#),
            ("ssh://git@h/x", r#"url "ssh://h/x": transport "ssh" is not supported; use https://"#),
            ("git@h:a/b.git", r#"url "h:a/b.git": not a url; use https://"#),
            ("ext::sh -c id", r#"url "ext::sh -c id": transport "ext" is not supported; use https://"#),
            ("file:///srv", r#"url "file:///srv": transport "file" is not supported; use https://"#),
            ("/srv/x", r#"url "/srv/x": local paths are not allowed; use https://"#),
            ("../x", r#"url "../x": not a url; use https://"#),
            ("", r#"url "": not a url; use https://"#),
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
            let error = source(url).locate(Transports::Https).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!error.to_string().contains("hunter2"));
            assert_eq!(error.reason(), "InvalidURL");
        }
    }

    #[test]
    fn a_token_cannot_smuggle_headers() {
        let mut source = source("https://h/x");
        source.credentials = Some(Credentials::Bearer(Secret::new("abc\r\nX-Evil: 1")));
        let error = source.locate(Transports::Https).unwrap_err().to_string();
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
            assert_eq!(read(mixed).unwrap_err(), "set username and password, or bearerToken alone");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let basic = Credentials::Basic { username: "me".into(), password: Secret::new("hunter2") };
        assert!(!format!("{basic:?}").contains("hunter2"));
        assert_eq!(basic.authorization(), "Basic bWU6aHVudGVyMg==");
    }
}
