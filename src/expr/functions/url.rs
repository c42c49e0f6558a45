//! Kubernetes' `url` library: what Go's `net/url` reads as an absolute URL or an absolute path. The
//! crate `url` follows the browsers' standard instead, which drops ports and rewrites paths.

use super::library::{Library, read, reads, string, value, written};
use cel::common::types::{CelList, CelMap, CelMapKey, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env};
use percent_encoding::percent_decode_str;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write};

static URL: Type = Type::new_unspecified_type("url");

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    written: String,
    scheme: String,
    /// With its port, without user and password.
    host: String,
    path: String,
    query: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Library for Url {
    fn cel() -> &'static Type {
        &URL
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn read(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| "is not an absolute URL or path".to_owned())
    }
}

fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control()) {
        return None;
    }
    let (rest, _fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = split_scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let at = rest.find('/').unwrap_or(rest.len());
            (host_of(&rest[..at])?, &rest[at..])
        }
        // `mailto:someone` is absolute and has no path.
        None if rest.starts_with('/') => ("", rest),
        None if !scheme.is_empty() => ("", ""),
        None => return None,
    };
    is_escaped_well(path).then(|| Url {
        written: text.to_owned(),
        scheme,
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

/// The scheme in lower case, empty for a path; none if what stands there is none.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    match end {
        Some(0) if text.starts_with(':') => None,
        Some(end) if text[end..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            Some((text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ => Some((String::new(), text)),
    }
}

fn host_of(authority: &str) -> Option<&str> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = split_port(host);
    let bad =
        |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '}' | '|');
    let brackets =
        name.starts_with('[') == name.ends_with(']') && !name.trim_matches(['[', ']']).contains(['[', ']']);
    let colons = name.starts_with('[') || !name.contains(':');
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    (!host.contains(bad) && brackets && colons && digits).then_some(host)
}

/// A host's name, brackets included, and its port.
fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

fn is_escaped_well(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

/// The path as it was written, if that is a valid way to write it; else with escapes.
fn escaped_path(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]/%".contains(&b);
    if path.bytes().all(plain) {
        return path.to_owned();
    }
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    let mut escaped = String::new();
    for byte in percent_decode_str(path) {
        if kept(byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn query_of(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // As in Go, what is not well-formed is left out.
    for pair in
        query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';') && is_escaped_well(pair))
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        found.entry(decode(key)).or_default().push(decode(value));
    }
    found
}

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let url = || URL.to_owned();
    env.add_overload("url", "string_to_url", vec![STRING_TYPE], read::<Url>)?;
    env.add_overload("isURL", "is_url", vec![STRING_TYPE], reads::<Url>)?;
    env.add_overload("string", "url_to_string", vec![url()], written::<Url>)?;
    env.add_member_overload("getScheme", "url_scheme", url(), vec![], |args| {
        Ok(string(value::<Url>(&args, 0)?.scheme.clone()))
    })?;
    env.add_member_overload("getHost", "url_host", url(), vec![], |args| {
        Ok(string(value::<Url>(&args, 0)?.host.clone()))
    })?;
    env.add_member_overload("getHostname", "url_hostname", url(), vec![], |args| {
        let (name, _) = split_port(&value::<Url>(&args, 0)?.host);
        Ok(string(name.trim_matches(['[', ']']).to_owned()))
    })?;
    env.add_member_overload("getPort", "url_port", url(), vec![], |args| {
        Ok(string(split_port(&value::<Url>(&args, 0)?.host).1.to_owned()))
    })?;
    env.add_member_overload("getEscapedPath", "url_path", url(), vec![], |args| {
        Ok(string(escaped_path(&value::<Url>(&args, 0)?.path)))
    })?;
    env.add_member_overload("getQuery", "url_query", url(), vec![], |args| {
        Ok(query_map(&value::<Url>(&args, 0)?.query))
    })
}

fn query_map<'b, 'v>(query: &str) -> CowVal<'b, 'v> {
    let boxed = |text: String| Box::new(CelString::from(text)) as Box<dyn Val>;
    let entries = query_of(query).into_iter().map(|(key, values)| {
        let values = CelList::from(values.into_iter().map(boxed).collect::<Vec<_>>());
        (CelMapKey::String(CelString::from(key)), Box::new(values) as Box<dyn Val>)
    });
    CowVal::owned(CelMap::from(entries.collect::<HashMap<_, _>>()))
}
