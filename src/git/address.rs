//! Where an ssh repository is: user, host, port and path, from both ways to write it. Pure.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The port of ssh.
const DEFAULT_PORT: u16 = 22;

/// A repository that a user of a server may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Whom to log in as: `git` at most forges.
    pub user: String,
    /// The host's name or address; one of version 6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path on the server; relative to the user's home unless it begins with a slash.
    pub path: String,
}

impl Address {
    /// Reads `user@host:path`; none if it is not of that form.
    pub(super) fn from_short(text: &str) -> Option<Result<Self, &'static str>> {
        let (user, rest) = text.split_once('@')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if user.is_empty() || !user.chars().all(is_name) {
            return None;
        }
        let (host, path) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once("]:")?,
            None => rest.split_once(':')?,
        };
        Some(Self::new(user, host, DEFAULT_PORT, path))
    }

    /// Reads `ssh://user@host[:port]/path`.
    pub(super) fn from_url(url: &Url) -> Result<Self, &'static str> {
        if url.password().is_some() {
            return Err("a password does not belong in a url; ssh takes a key");
        }
        if url.username().is_empty() {
            return Err("name the user, as in ssh://git@…");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a query or fragment is not allowed");
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err("the host is missing"),
        };
        let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| "not UTF-8");
        let path = decoded(url.path())?;
        // As git does: `/~user/x` is below that user's home.
        let path = path.strip_prefix('/').filter(|rest| rest.starts_with('~')).unwrap_or(&path);
        Self::new(&decoded(url.username())?, &host, url.port().unwrap_or(DEFAULT_PORT), path)
    }

    fn new(user: &str, host: &str, port: u16, path: &str) -> Result<Self, &'static str> {
        let host = host.to_lowercase();
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_host) {
            return Err("the host is not a name or an address");
        }
        // What begins with a dash would be an option of the server's git.
        if path.starts_with('-') {
            return Err("the path must not begin with a dash");
        }
        if path.trim_matches('/').is_empty() {
            return Err("the path is missing");
        }
        if path.chars().chain(user.chars()).any(char::is_control) {
            return Err("control characters are not allowed");
        }
        Ok(Self { user: user.to_owned(), host, port, path: path.to_owned() })
    }

    /// What the server's shell is to run; the path is quoted as git does.
    pub(super) fn command(&self) -> String {
        let path = self.path.replace('\'', "'\\''").replace('!', "'\\!'");
        format!("git-upload-pack '{path}'")
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == DEFAULT_PORT {
            format!("ssh://{host}")
        } else {
            format!("ssh://{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        write!(formatter, "{}{slash}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, &'static str> {
        Address::from_short(text).unwrap_or_else(|| Address::from_url(&Url::parse(text).unwrap()))
    }

    #[test]
    fn both_forms_are_read() {
        for (text, user, host, port, path) in [
            ("git@git.example.com:ops/packs.git", "git", "git.example.com", 22, "ops/packs.git"),
            ("git@git.example.com:/srv/packs.git", "git", "git.example.com", 22, "/srv/packs.git"),
            ("me@[::1]:x", "me", "::1", 22, "x"),
            ("ssh://git@git.example.com/ops/packs.git", "git", "git.example.com", 22, "/ops/packs.git"),
            ("ssh://git@GIT.example.com:2222/a%20b", "git", "git.example.com", 2222, "/a b"),
            ("ssh://git@[::1]:2222/x", "git", "::1", 2222, "/x"),
            ("ssh://git@h/~me/x", "git", "h", 22, "~me/x"),
        ] {
            let expected = Address { user: user.into(), host: host.into(), port, path: path.into() };
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for other in ["ext::sh -c id", "https://me@h:1/x", "h:x", "@h:x", "git@h"] {
            assert_eq!(Address::from_short(other), None, "{other}");
        }
    }

    #[test]
    fn what_could_be_something_else_is_refused() {
        for (text, problem) in [
            ("git@h:-x", "the path must not begin with a dash"),
            ("git@-oProxyCommand=id:x", "the host is not a name or an address"),
            ("git@h:", "the path is missing"),
            ("ssh://git@h", "the path is missing"),
            ("ssh://git@h/a%0Ab", "control characters are not allowed"),
            ("ssh://git@h/x?y", "a query or fragment is not allowed"),
        ] {
            assert_eq!(read(text).err().unwrap_or_default(), problem, "{text}");
        }
    }

    #[test]
    fn a_path_is_one_word_of_the_servers_shell() {
        let address = read("git@h:it's;id $(id)!").unwrap();
        assert_eq!(address.command(), r"git-upload-pack 'it'\''s;id $(id)'\!''");
    }

    #[test]
    fn addresses_show_no_user() {
        assert_eq!(read("ssh://token@h:2222/x").unwrap().to_string(), "ssh://h:2222/x");
        assert_eq!(read("token@[::1]:x").unwrap().to_string(), "ssh://[::1]/x");
    }
}
