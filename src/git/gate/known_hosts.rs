//! Whether a server may be believed to be the one that was asked for: its key against a `known_hosts` text. Pure.
//!
//! As in OpenSSH: patterns with `*` and `?`, negations, `[host]:port`, hashed names, `@revoked`. Host certificates are not
//! supported, so that an `@cert-authority` line vouches for nothing; it is said where that is why no key is known.

use ring::hmac;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// The port whose hosts stand without it.
const DEFAULT_PORT: u16 = 22;

/// The lines that speak of one host.
#[derive(Debug)]
pub(in crate::git) struct KnownHost {
    name: String,
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    authorities: usize,
}

impl KnownHost {
    /// Reads a `known_hosts` text; a line that cannot be read is an error, lest it be the one that revokes.
    pub(in crate::git) fn read(text: &str, host: &str, port: u16) -> Result<Self, String> {
        let host = host.to_lowercase();
        let name = if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") };
        let mut known = Self { name, keys: Vec::new(), revoked: Vec::new(), authorities: 0 };
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.first().is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            let entry: Entry = words
                .join(" ")
                .parse()
                .map_err(|error| format!("known_hosts line {}: {error}", index + 1))?;
            known.take(&entry);
        }
        Ok(known)
    }

    fn take(&mut self, entry: &Entry) {
        let key = entry.public_key();
        match (entry.marker(), speaks_of(entry.host_patterns(), &self.name)) {
            (_, false) => {}
            (None, true) => self.keys.push(key.clone()),
            (Some(Marker::Revoked), true) => self.revoked.push(key.clone()),
            (Some(Marker::CertAuthority), true) => self.authorities += 1,
        }
    }

    /// The algorithms to ask the server for: those whose keys are known come first, so that it shows a key that can be compared.
    pub(in crate::git) fn order(&self, supported: &[Algorithm]) -> Vec<Algorithm> {
        let known =
            |algorithm: &Algorithm| self.keys.iter().any(|key| same_type(&key.algorithm(), algorithm));
        // An RSA signature over SHA-1 proves nothing any more.
        let strong = supported.iter().filter(|algorithm| !matches!(algorithm, Algorithm::Rsa { hash: None }));
        let (mut first, rest): (Vec<_>, Vec<_>) = strong.cloned().partition(known);
        first.extend(rest);
        first
    }

    /// Why the key is not believed, if it is not.
    pub(in crate::git) fn check(&self, key: &PublicKey) -> Result<(), String> {
        let is = |other: &PublicKey| other.key_data() == key.key_data();
        let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        if self.revoked.iter().any(is) {
            return Err(format!("host key {shown} is revoked; refusing"));
        }
        if self.keys.iter().any(is) {
            return Ok(());
        }
        if !self.keys.is_empty() {
            return Err(format!("host key mismatch; refusing: the server shows {shown}"));
        }
        let name = &self.name;
        let authorities =
            if self.authorities > 0 { " but @cert-authority, which is not supported" } else { "" };
        Err(format!(
            "host key unknown; refusing: known_hosts has no line for {name}{authorities}; the server shows {shown}"
        ))
    }
}

/// RSA keys are one type, whichever hash they sign with.
fn same_type(one: &Algorithm, other: &Algorithm) -> bool {
    let is_rsa = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Rsa { .. });
    one == other || (is_rsa(one) && is_rsa(other))
}

fn speaks_of(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            // The file's format has SHA-1; it hides names from onlookers and vouches for nothing.
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let negated =
                |pattern: &String| pattern.strip_prefix('!').is_some_and(|rest| matches(rest, name));
            !patterns.iter().any(negated) && patterns.iter().any(|pattern| matches(pattern, name))
        }
    }
}

/// Whether a pattern with `*` and `?` is the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.as_bytes());
    let pattern = pattern.as_bytes();
    let (mut at, mut from) = (0, 0);
    // Where the last star stands, and the first byte that it does not cover yet.
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, from));
                at += 1;
            }
            (Some(wanted), _) if *wanted == b'?' || *wanted == name[from] => {
                at += 1;
                from += 1;
            }
            (_, Some((place, covered))) => {
                star = Some((place, covered + 1));
                at = place + 1;
                from = covered + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFxiYb3Bvj9jSZY1v0dbl+EMv7UKg7XNEFa033781R+s";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICJC1Yn38/Z3AlY9j6bUo+eUtKGLDvDzTrx/56U61zNI";
    /// `ssh-keygen -H` of `[git.example.com]:2222` is not reproducible; this is one of its answers.
    const HASHED: &str = "|1|+NC+tagTvqZw665QDoO2A5UPVaE=|uSRk92xVfxMStU7G+0KLFrgB9jc=";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBC4sPL7JX+Vwrwml8PQCyAXZsstrJFm3EclbvxYuUPhyq68kn6AyDYUsTg0EZk0KdOOsNpor3su8V1wSpOHa/HA=";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn check(text: &str, host: &str, port: u16) -> Result<(), String> {
        KnownHost::read(text, host, port)?.check(&key(ED25519))
    }

    #[test]
    fn a_key_is_believed_for_its_host_and_port() {
        for (names, host, port) in [
            ("git.example.com", "git.example.com", 22),
            ("git.example.com", "GIT.example.com", 22),
            ("a.example.com,git.example.com", "git.example.com", 22),
            ("*.example.com", "git.example.com", 22),
            ("g?t.*.com", "git.example.com", 22),
            ("[git.example.com]:2222", "git.example.com", 2222),
            (HASHED, "git.example.com", 2222),
        ] {
            check(&format!("# a comment\n\n{names}\t{ED25519} root@build\n"), host, port).unwrap();
        }
        for (names, host, port) in [
            ("git.example.com", "git.example.com", 2222),
            ("[git.example.com]:2222", "git.example.com", 22),
            ("git.example.com", "git.example.com.evil", 22),
            ("*.example.com,!git.example.com", "git.example.com", 22),
            ("*.example.com", "example.com", 22),
            (HASHED, "git.example.com", 22),
        ] {
            let error = check(&format!("{names} {ED25519}"), host, port).unwrap_err();
            assert!(error.starts_with("host key unknown; refusing: known_hosts has no line for "), "{error}");
        }
    }

    #[test]
    fn another_key_is_refused_whatever_else_is_known() {
        let error = check(&format!("h {OTHER}\nh {ECDSA}"), "h", 22).unwrap_err();
        assert!(
            error.starts_with("host key mismatch; refusing: the server shows ssh-ed25519 SHA256:"),
            "{error}"
        );
        check(&format!("h {OTHER}\nh {ED25519}"), "h", 22).unwrap();
    }

    #[test]
    fn markers_take_trust_away_and_never_give_it() {
        let error = check(&format!("h {ED25519}\n@revoked * {ED25519}"), "h", 22).unwrap_err();
        assert!(error.contains("is revoked; refusing"), "{error}");
        let error = check(&format!("@cert-authority h {ED25519}"), "h", 22).unwrap_err();
        assert!(error.contains("no line for h but @cert-authority, which is not supported"), "{error}");
        check(&format!("h {ED25519}\n@revoked * {OTHER}"), "h", 22).unwrap();
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for broken in ["h", "h ssh-ed25519 AAAA", "@sometimes h ssh-ed25519 AAAA", "|1|x h"] {
            let error = check(&format!("h {ED25519}\n{broken}"), "h", 22).unwrap_err();
            assert!(error.starts_with("known_hosts line 2: "), "{error}");
        }
    }

    #[test]
    fn known_types_are_asked_for_first_and_sha1_never() {
        let known = KnownHost::read(&format!("h {ECDSA}"), "h", 22).unwrap();
        let supported = russh::Preferred::DEFAULT.key;
        let order: Vec<String> = known.order(&supported).iter().map(ToString::to_string).collect();
        assert_eq!(order[0], "ecdsa-sha2-nistp256");
        assert_eq!(order.len(), supported.len() - 1);
        assert!(!order.contains(&"ssh-rsa".to_owned()), "{order:?}");
    }
}
