//! References and how they resolve against what a server advertises. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::api::GitReference;

/// Which commit of a repository is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// The branch that the repository itself names.
    Default,
    /// The tip of a branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// The highest tag in a semantic version range, such as `>=1.2, <2`; a leading `v` of the tag is ignored.
    Semver(String),
    /// A commit by its full 40-digit hash.
    Commit(String),
}

/// The commit that a reference stood for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The full hash.
    pub commit: String,
    /// The branch or tag it came by, short; none for a commit.
    pub name: Option<String>,
}

/// `main@sha1:4c1e9a2…` with the full hash.
impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(formatter, "{name}@")?;
        }
        write!(formatter, "sha1:{}", self.commit)
    }
}

/// One advertised reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The full name, such as `refs/heads/main`.
    pub name: String,
    /// What it points to: a commit or an annotated tag.
    pub oid: String,
    /// What a symbolic reference stands for.
    pub target: Option<String>,
}

/// What to fetch for a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An advertised reference; `object` is what it points to, `commit` what that peels to.
    Advertised { reference: String, object: String, commit: String },
    /// A commit that no advertised reference points to.
    Hidden { commit: String },
}

impl TryFrom<Option<&GitReference>> for Reference {
    type Error = Error;

    /// What a Pack follows; the API server has seen to it that at most one field is set, other clients may not have.
    fn try_from(wanted: Option<&GitReference>) -> Result<Self, Error> {
        let Some(wanted) = wanted else { return Ok(Self::Default) };
        match (&wanted.branch, &wanted.tag, &wanted.semver, &wanted.commit) {
            (Some(branch), None, None, None) => Ok(Self::Branch(branch.clone())),
            (None, Some(tag), None, None) => Ok(Self::Tag(tag.clone())),
            (None, None, Some(range), None) => Ok(Self::Semver(range.clone())),
            (None, None, None, Some(commit)) => Ok(Self::Commit(commit.clone())),
            _ => Err(invalid("ref", "", "exactly one of branch, tag, semver and commit must be set")),
        }
    }
}

impl Reference {
    /// Checks the form.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Default => Ok(()),
            Self::Branch(name) => check_name("branch", name, "refs/heads/"),
            Self::Tag(name) => check_name("tag", name, "refs/tags/"),
            Self::Semver(range) => semver::VersionReq::parse(range).map(|_| ()).map_err(|error| {
                invalid("semver", range, format!("{error}; use a range such as \">=1.2, <2\""))
            }),
            Self::Commit(hash) if hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(()),
            Self::Commit(hash) => Err(invalid("commit", hash, "give the full 40 hexadecimal digits")),
        }
    }

    /// What a person reads.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Default => "default branch".into(),
            Self::Branch(name) => format!("branch {name:?}"),
            Self::Tag(name) => format!("tag {name:?}"),
            Self::Semver(range) => format!("tag in range {range:?}"),
            Self::Commit(hash) => format!("commit {}", hash.to_ascii_lowercase()),
        }
    }

    /// Finds the reference among those a server advertises.
    pub(super) fn resolve(&self, heads: &[Head]) -> Result<Target, Error> {
        if heads.is_empty() && !matches!(self, Self::Commit(_)) {
            return Err(self.not_found("; the repository is empty".into()));
        }
        let found = match self {
            Self::Default => default_branch(heads),
            Self::Branch(name) => Some(format!("refs/heads/{name}")),
            Self::Tag(name) => Some(format!("refs/tags/{name}")),
            Self::Semver(range) => highest(range, heads),
            // Asked for by its hash, though a branch may be there now: that one may move before it is fetched.
            Self::Commit(hash) => return Ok(Target::Hidden { commit: hash.to_ascii_lowercase() }),
        };
        let target = found.and_then(|reference| {
            let (object, commit) = peeled(&reference, heads)?;
            Some(Target::Advertised { reference, object, commit })
        });
        target.ok_or_else(|| self.not_found(self.hint(heads)))
    }

    pub(super) fn not_found(&self, hint: String) -> Error {
        Error::ReferenceNotFound { what: self.describe(), hint }
    }

    fn hint(&self, heads: &[Head]) -> String {
        let (prefix, plural) = match self {
            Self::Default | Self::Branch(_) => ("refs/heads/", "branches"),
            _ => ("refs/tags/", "tags"),
        };
        let names: Vec<&str> = heads
            .iter()
            .filter_map(|head| head.name.strip_prefix(prefix))
            .filter(|name| !name.ends_with("^{}"))
            .collect();
        match names.len() {
            0 => format!("; the repository has no {plural}"),
            // A handful helps against a typo; a list of hundreds buries the message.
            1..=8 => format!("; {plural}: {}", names.join(", ")),
            many if matches!(self, Self::Semver(_)) => format!("; {many} {plural}, none in this range"),
            many => format!("; {many} {plural}, none of this name"),
        }
    }
}

fn invalid(what: &str, value: &str, problem: impl Into<String>) -> Error {
    Error::InvalidReference { what: what.into(), value: value.into(), problem: problem.into() }
}

fn check_name(what: &str, name: &str, prefix: &str) -> Result<(), Error> {
    if name.starts_with("refs/") {
        return Err(invalid(what, name, format!("give the short name, without {prefix:?}")));
    }
    if name.is_empty() || !git2::Reference::is_valid_name(&format!("{prefix}{name}")) {
        return Err(invalid(what, name, "not a valid name"));
    }
    Ok(())
}

/// What the reference points to, and the tag's commit if the server told it.
fn peeled(reference: &str, heads: &[Head]) -> Option<(String, String)> {
    let of = |name: &str| heads.iter().find(|head| head.name == name).map(|head| head.oid.clone());
    let direct = of(reference)?;
    let commit = of(&format!("{reference}^{{}}")).unwrap_or_else(|| direct.clone());
    Some((direct, commit))
}

fn default_branch(heads: &[Head]) -> Option<String> {
    let head = heads.iter().find(|head| head.name == "HEAD")?;
    if let Some(target) = &head.target {
        return Some(target.clone());
    }
    // A server without symbolic references: a branch at the same commit, the usual names first.
    let at_head = |name: &str| heads.iter().any(|other| other.name == name && other.oid == head.oid);
    ["refs/heads/main", "refs/heads/master"]
        .into_iter()
        .find(|name| at_head(name))
        .map(str::to_owned)
        .or_else(|| {
            let mut branches = heads.iter().filter(|other| other.name.starts_with("refs/heads/"));
            branches.find(|other| other.oid == head.oid).map(|other| other.name.clone())
        })
}

fn highest(range: &str, heads: &[Head]) -> Option<String> {
    let range = semver::VersionReq::parse(range).ok()?;
    let version = |head: &Head| {
        let tag = head.name.strip_prefix("refs/tags/")?;
        semver::Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
    };
    let matching = heads.iter().filter_map(|head| Some((version(head)?, &head.name)));
    matching.filter(|(version, _)| range.matches(version)).max().map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn heads() -> Vec<Head> {
        let head = |name: &str, digit: char, target: Option<&str>| Head {
            name: name.into(),
            oid: oid(digit),
            target: target.map(str::to_owned),
        };
        vec![
            head("HEAD", '1', Some("refs/heads/main")),
            head("refs/heads/main", '1', None),
            head("refs/heads/dev", '2', None),
            head("refs/tags/v1.2.0", '3', None),
            head("refs/tags/v1.10.0", '4', None),
            head("refs/tags/v1.10.0^{}", '5', None),
            head("refs/tags/2.0.0-rc.1", '6', None),
            head("refs/tags/latest", '7', None),
        ]
    }

    fn advertised(reference: &str, digit: char) -> Target {
        annotated(reference, digit, digit)
    }

    fn annotated(reference: &str, object: char, commit: char) -> Target {
        Target::Advertised { reference: reference.into(), object: oid(object), commit: oid(commit) }
    }

    #[test]
    fn resolves() {
        let cases = [
            (Reference::Default, advertised("refs/heads/main", '1')),
            (Reference::Branch("dev".into()), advertised("refs/heads/dev", '2')),
            (Reference::Tag("v1.10.0".into()), annotated("refs/tags/v1.10.0", '4', '5')),
            (Reference::Semver("1".into()), annotated("refs/tags/v1.10.0", '4', '5')),
            (Reference::Semver("~1.2".into()), advertised("refs/tags/v1.2.0", '3')),
            (Reference::Semver("1.2.0".into()), annotated("refs/tags/v1.10.0", '4', '5')),
            (Reference::Semver("=1.2.0".into()), advertised("refs/tags/v1.2.0", '3')),
            (Reference::Semver(">=2.0.0-rc.0".into()), advertised("refs/tags/2.0.0-rc.1", '6')),
            (Reference::Commit(oid('2')), Target::Hidden { commit: oid('2') }),
            (Reference::Commit(oid('A')), Target::Hidden { commit: oid('a') }),
        ];
        for (reference, expected) in cases {
            reference.check().unwrap();
            assert_eq!(reference.resolve(&heads()).unwrap(), expected, "{reference:?}");
        }
    }

    #[test]
    fn default_without_symbolic_reference() {
        let mut heads = heads();
        heads[0].target = None;
        assert_eq!(Reference::Default.resolve(&heads).unwrap(), advertised("refs/heads/main", '1'));
    }

    #[test]
    fn says_what_there_is_instead() {
        let cases = [
            (Reference::Branch("mian".into()), r#"branch "mian" not found; branches: main, dev"#),
            (
                Reference::Semver("^3".into()),
                r#"tag in range "^3" not found; tags: v1.2.0, v1.10.0, 2.0.0-rc.1, latest"#,
            ),
        ];
        for (reference, expected) in cases {
            assert_eq!(reference.resolve(&heads()).unwrap_err().to_string(), expected);
        }
        // A pre-release is in a range only if that names one of the same version.
        for range in [">=1.11", "^2.0.0", ">=1.11.0-rc.1"] {
            assert!(Reference::Semver(range.into()).resolve(&heads()).is_err(), "{range}");
        }
        let many = (0..9).map(|minor| format!("refs/tags/v0.{minor}.0"));
        let many: Vec<_> = many.map(|name| Head { name, oid: oid('1'), target: None }).collect();
        for (reference, expected) in [
            (Reference::Semver("^3".into()), r#"tag in range "^3" not found; 9 tags, none in this range"#),
            (Reference::Tag("v3.0.0".into()), r#"tag "v3.0.0" not found; 9 tags, none of this name"#),
        ] {
            assert_eq!(reference.resolve(&many).unwrap_err().to_string(), expected);
        }
        let empty = Reference::Default.resolve(&[]).unwrap_err();
        assert_eq!(empty.to_string(), "default branch not found; the repository is empty");
    }

    #[test]
    fn refuses_malformed() {
        let cases = [
            (Reference::Branch(String::new()), r#"branch "": not a valid name"#),
            (Reference::Branch("a..b".into()), r#"branch "a..b": not a valid name"#),
            (Reference::Branch("a:b".into()), r#"branch "a:b": not a valid name"#),
            (Reference::Branch("*".into()), r#"branch "*": not a valid name"#),
            (
                Reference::Branch("refs/heads/main".into()),
                r#"branch "refs/heads/main": give the short name, without "refs/heads/""#,
            ),
            (Reference::Commit("4c1e9a2".into()), r#"commit "4c1e9a2": give the full 40 hexadecimal digits"#),
        ];
        for (reference, expected) in cases {
            assert_eq!(reference.check().unwrap_err().to_string(), expected);
        }
        let range = Reference::Semver("latest".into()).check().unwrap_err();
        assert!(range.to_string().contains("use a range such as"), "{range}");
    }

    #[test]
    fn a_pack_follows_one_thing() {
        let of = |wanted: GitReference| Reference::try_from(Some(&wanted));
        assert_eq!(Reference::try_from(None), Ok(Reference::Default));
        let branch = GitReference { branch: Some("main".into()), ..GitReference::default() };
        assert_eq!(of(branch.clone()), Ok(Reference::Branch("main".into())));
        assert!(of(GitReference { tag: Some("v1".into()), ..branch }).is_err());
        assert!(of(GitReference::default()).is_err());
    }

    #[test]
    fn displays_like_flux() {
        let named = Revision { commit: oid('1'), name: Some("main".into()) };
        assert_eq!(named.to_string(), format!("main@sha1:{}", oid('1')));
        assert_eq!(Revision { name: None, ..named }.to_string(), format!("sha1:{}", oid('1')));
    }
}
