//! One cached repository: locked, opened or rebuilt, brought to the wanted commit, read.
//!
//! Runs in the worker. The cache is only a cache: it is thrown away when it is damaged (a worker may have been
//! killed at any point), when it has grown too large, and when [`cache::sweep`] has no more room for it.

use std::collections::BTreeSet;
use std::io;
use std::iter;
use std::path::Path;

use git2::{Oid, Repository};
use sha2::{Digest, Sha256};

use super::cache;
use super::error::{Error, Failure};
use super::history::{self, Lineage};
use super::reference::{Head, Reference, Revision, Target};
use super::remote::{Depth, Remote};
use super::signature::Signers;
use super::source::{Location, Source, Transports};
use super::tree::{self, Limits};
use super::worker::Snapshot;

/// Where commits are kept that were fetched completely.
const KEPT: &str = "refs/fother/commits/";
/// Where a fetch puts its result first.
const INCOMING: &str = "refs/fother/incoming";
/// How deep to search all branches for a commit before asking for everything.
const SEARCH_DEPTH: i32 = 100;
/// Below what a server's references are searched for a commit.
const SEARCHED: [&str; 2] = ["refs/heads/", "refs/tags/"];
/// How many files and folders such a search may make. Every reference becomes a file, each part of its name a folder, and each of them
/// takes a block of the disk; real repositories with more of them are on servers that serve a commit by its hash.
const MAX_SEARCHED: usize = 5_000;

/// Brings the source's revision into the cache and reads it.
pub(super) fn sync(
    cache: &Path,
    source: &Source,
    transports: Transports,
    limits: &Limits,
) -> Result<Snapshot, Error> {
    let location = source.locate(transports)?;
    let folder = cache.join(key(source));
    let _lock = cache::lock(cache, &folder).map_err(cache_failed)?;
    cache::sweep(cache, &folder, limits.caches_bytes).map_err(cache_failed)?;
    let attempt = || attempt(&folder, source, &location, limits);
    let result = match attempt() {
        Err(Failure::Cache(_)) => {
            cache::remove(&folder).map_err(cache_failed)?;
            attempt()
        }
        other => other,
    };
    result.map_err(|failure| match failure {
        Failure::Final(error) => error,
        // With a fresh cache it was not the cache: what remains is the other side or the disk.
        Failure::Cache(error) => {
            Error::FetchFailed { url: super::source::redact(&source.url), cause: error.message().to_owned() }
        }
    })
}

fn attempt(
    folder: &Path,
    source: &Source,
    location: &Location,
    limits: &Limits,
) -> Result<Snapshot, Failure> {
    let repository = open(folder, limits)?;
    let Found { revision, object, lineage } = find(&repository, source, location, limits)?;
    let commit = Oid::from_str(&revision.commit)?;
    // Before anything of the content is looked at.
    let signer = signer(&repository, source, (&revision, object, commit))?;
    let files = tree::read(&repository, commit, &source.path, limits)?;
    Ok(Snapshot { revision, files, signer, lineage })
}

/// What a reference stood for.
struct Found {
    revision: Revision,
    /// What the reference itself points to: the commit, or an annotated tag.
    object: Oid,
    lineage: Lineage,
}

fn find(
    repository: &Repository,
    source: &Source,
    location: &Location,
    limits: &Limits,
) -> Result<Found, Failure> {
    if let Reference::Commit(hash) = &source.reference {
        let commit = hash.to_ascii_lowercase();
        if kept(repository, &commit) {
            // A hash never means anything else: no need to ask.
            return found_commit(commit);
        }
    }
    let remote = Remote::new(location, source, limits.transfer_bytes)?;
    let heads = remote.list(repository)?;
    match source.reference.resolve(&heads)? {
        Target::Advertised { reference, object, commit } => {
            find_advertised(repository, source, &remote, (&reference, &object, &commit))
        }
        Target::Hidden { commit } => {
            fetch_commit(repository, &remote, &heads, &commit)?;
            if !kept(repository, &commit) {
                return Err(source.reference.not_found(unsearchable(&heads).unwrap_or_default()).into());
            }
            found_commit(commit)
        }
    }
}

fn found_commit(commit: String) -> Result<Found, Failure> {
    let object = Oid::from_str(&commit)?;
    Ok(Found { revision: Revision { commit, name: None }, object, lineage: Lineage::Unasked })
}

fn find_advertised(
    repository: &Repository,
    source: &Source,
    remote: &Remote<'_>,
    (reference, object, commit): (&str, &str, &str),
) -> Result<Found, Failure> {
    let ancestor = source.ancestor.as_deref().map(Oid::from_str).transpose()?;
    let refspec = format!("+{reference}:{INCOMING}");
    let (mut object, mut commit) = (Oid::from_str(object)?, Oid::from_str(commit)?);
    let is_there = kept(repository, &commit.to_string()) && repository.odb()?.exists(object);
    if !is_there {
        let depth = if ancestor.is_some() { history::DEPTHS[0] } else { 1 };
        remote.download(repository, &[&refspec], Depth::Last(depth))?;
        // What arrived counts, should it have moved since it was listed.
        let arrived = repository.find_reference(INCOMING)?;
        object = arrived.target().unwrap_or(object);
        commit = arrived.peel_to_commit()?.id();
        keep(repository, commit)?;
    }
    let lineage = match ancestor {
        None => Lineage::Unasked,
        Some(ancestor) => history::lineage(repository, (commit, ancestor), (remote, &refspec))?,
    };
    let name = short_name(&source.reference, reference);
    Ok(Found { revision: Revision { commit: commit.to_string(), name }, object, lineage })
}

/// Who signed the revision, if somebody had to.
fn signer(
    repository: &Repository,
    source: &Source,
    (revision, object, commit): (&Revision, Oid, Oid),
) -> Result<Option<String>, Failure> {
    let Some(listed) = &source.signers else { return Ok(None) };
    let signers = Signers::read(listed)?;
    let signer = match (&source.reference, &revision.name) {
        (Reference::Tag(_) | Reference::Semver(_), Some(tag)) => {
            signers.of_tag(repository, object, tag, commit)?
        }
        _ => signers.of_commit(repository, commit)?,
    };
    Ok(Some(signer))
}

fn short_name(wanted: &Reference, found: &str) -> Option<String> {
    let short =
        found.strip_prefix("refs/heads/").or_else(|| found.strip_prefix("refs/tags/")).unwrap_or(found);
    (!matches!(wanted, Reference::Commit(_))).then(|| short.to_owned())
}

/// Fetches a commit that no reference points to: by its hash where the server serves those, else by deepening.
fn fetch_commit(
    repository: &Repository,
    remote: &Remote<'_>,
    heads: &[Head],
    commit: &str,
) -> Result<(), Failure> {
    let wanted = Oid::from_str(commit)?;
    let by_hash = remote.download(repository, &[&format!("+{commit}:{INCOMING}")], Depth::Last(1));
    match by_hash {
        Ok(()) if repository.find_commit(wanted).is_ok() => return Ok(keep(repository, wanted)?),
        Err(failure @ Failure::Final(Error::TooLarge { .. })) => return Err(failure),
        // Not every server serves those, and each has its own words for that.
        _ => {}
    }
    if heads.is_empty() || unsearchable(heads).is_some() {
        return Ok(());
    }
    let all = ["+refs/heads/*:refs/fother/search/heads/*", "+refs/tags/*:refs/fother/search/tags/*"];
    for depth in [Depth::Last(SEARCH_DEPTH), Depth::Full] {
        remote.download(repository, &all, depth)?;
        if repository.find_commit(wanted).is_ok() {
            return Ok(keep(repository, wanted)?);
        }
    }
    Ok(())
}

/// What to tell where the references are too many to search, as names on the disk; none where they are not.
fn unsearchable(heads: &[Head]) -> Option<String> {
    let mut paths = BTreeSet::new();
    // What a tag peels to is listed as well, and is not downloaded as a reference.
    for name in heads.iter().map(|head| head.name.as_str()).filter(|name| !name.ends_with("^{}")) {
        let Some(root) = SEARCHED.iter().find(|root| name.starts_with(**root)) else { continue };
        let with_folders = iter::successors(Some(name), |path| Some(path.rsplit_once('/')?.0));
        for path in with_folders.take_while(|path| path.len() > root.len()) {
            // With a folder those above it are known.
            if !paths.insert(path) {
                break;
            }
        }
        if paths.len() > MAX_SEARCHED {
            return Some(format!(
                "; the server has more than {MAX_SEARCHED} branches, tags and folders of them to look through; \
                 name a branch or tag"
            ));
        }
    }
    None
}

fn kept(repository: &Repository, commit: &str) -> bool {
    repository.find_reference(&format!("{KEPT}{commit}")).is_ok()
}

fn keep(repository: &Repository, commit: Oid) -> Result<(), git2::Error> {
    repository.reference(&format!("{KEPT}{commit}"), commit, true, "fetched").map(|_| ())
}

fn open(folder: &Path, limits: &Limits) -> Result<Repository, Failure> {
    if cache::oversized(folder, limits) {
        cache::remove(folder).map_err(cache_failed)?;
    }
    if folder.exists() {
        return Ok(Repository::open_bare(folder)?);
    }
    Ok(Repository::init_bare(folder)?)
}

/// Owner and URL, length-prefixed so that no two pairs look alike.
fn key(source: &Source) -> String {
    let mut hash = Sha256::new();
    for part in [&source.owner, &source.url] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut start = [0; 16];
    start.copy_from_slice(&digest[..16]);
    format!("{:032x}.git", u128::from_be_bytes(start))
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn cache_failed(error: io::Error) -> Error {
    Error::CacheFailed { cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::source::Access;
    use super::*;

    /// An origin repository and a cache next to it.
    struct Fixture {
        dir: tempfile::TempDir,
        origin: Repository,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut options = git2::RepositoryInitOptions::new();
            options.bare(true).initial_head("main");
            let origin = Repository::init_opts(dir.path().join("origin"), &options).unwrap();
            Self { dir, origin }
        }

        /// Commits one file to a branch and returns the hash.
        fn commit(&self, branch: &str, path: &str, content: &str) -> String {
            let reference = format!("refs/heads/{branch}");
            let parent = self.origin.find_reference(&reference).ok().map(|r| r.peel_to_commit().unwrap());
            let mut index = git2::Index::new().unwrap();
            if let Some(parent) = &parent {
                index.read_tree(&parent.tree().unwrap()).unwrap();
            }
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: 0o100_644,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: self.origin.blob(content.as_bytes()).unwrap(),
                flags: 0,
                flags_extended: 0,
                path: path.into(),
            };
            index.add(&entry).unwrap();
            let tree = self.origin.find_tree(index.write_tree_to(&self.origin).unwrap()).unwrap();
            let author = git2::Signature::now("a", "a@example.com").unwrap();
            let parents: Vec<_> = parent.iter().collect();
            self.origin.commit(Some(&reference), &author, &author, "m", &tree, &parents).unwrap().to_string()
        }

        fn source(&self, reference: Reference) -> Source {
            Source {
                owner: "ns/pack".into(),
                url: self.dir.path().join("origin").to_str().unwrap().into(),
                reference,
                path: String::new(),
                access: Access::default(),
                signers: None,
                ancestor: None,
            }
        }

        fn cache(&self) -> PathBuf {
            self.dir.path().join("cache")
        }

        fn sync(&self, source: &Source) -> Result<Snapshot, Error> {
            sync(&self.cache(), source, Transports::RemoteAndLocal, &Limits::default())
        }

        fn folder(&self, source: &Source) -> PathBuf {
            self.cache().join(key(source))
        }
    }

    fn contents(snapshot: &Snapshot) -> Vec<(&str, &str)> {
        snapshot.files.iter().map(|f| (f.path.as_str(), std::str::from_utf8(&f.content).unwrap())).collect()
    }

    #[test]
    fn follows_a_branch() {
        let fixture = Fixture::new();
        let first = fixture.commit("main", "rules/a.yaml", "1");
        let source = fixture.source(Reference::Default);
        let snapshot = fixture.sync(&source).unwrap();
        assert_eq!(snapshot.revision.to_string(), format!("main@sha1:{first}"));
        assert_eq!(contents(&snapshot), [("rules/a.yaml", "1")]);
        let second = fixture.commit("main", "rules/b.yaml", "2");
        let snapshot = fixture.sync(&source).unwrap();
        assert_eq!(snapshot.revision.commit, second);
        assert_eq!(contents(&snapshot), [("rules/a.yaml", "1"), ("rules/b.yaml", "2")]);
    }

    #[test]
    fn finds_tags_ranges_and_old_commits() {
        let fixture = Fixture::new();
        let first = fixture.commit("main", "a", "1");
        let second = fixture.commit("main", "a", "2");
        let author = git2::Signature::now("a", "a@example.com").unwrap();
        let object = fixture.origin.revparse_single(&second).unwrap();
        fixture.origin.tag("v1.4.0", &object, &author, "annotated", false).unwrap();
        fixture.commit("main", "a", "3");
        for (reference, commit, name) in [
            (Reference::Tag("v1.4.0".into()), &second, Some("v1.4.0")),
            (Reference::Semver("^1.2".into()), &second, Some("v1.4.0")),
            (Reference::Commit(first.to_uppercase()), &first, None),
        ] {
            let revision = fixture.sync(&fixture.source(reference)).unwrap().revision;
            assert_eq!((&revision.commit, revision.name.as_deref()), (commit, name));
        }
        let missing = fixture.sync(&fixture.source(Reference::Commit("a".repeat(40)))).unwrap_err();
        assert_eq!(missing.to_string(), format!("commit {} not found", "a".repeat(40)));
        assert_eq!(missing.reason(), "ReferenceNotFound");
    }

    #[test]
    fn a_kept_commit_needs_no_origin_and_a_branch_does() {
        let fixture = Fixture::new();
        let commit = fixture.commit("main", "a", "1");
        fixture.sync(&fixture.source(Reference::Default)).unwrap();
        fs::rename(fixture.dir.path().join("origin"), fixture.dir.path().join("gone")).unwrap();
        let pinned = fixture.sync(&fixture.source(Reference::Commit(commit))).unwrap();
        assert_eq!(contents(&pinned), [("a", "1")]);
        let error = fixture.sync(&fixture.source(Reference::Default)).unwrap_err();
        assert_eq!(error.reason(), "FetchFailed", "{error}");
    }

    #[test]
    fn owners_share_nothing() {
        let fixture = Fixture::new();
        let commit = fixture.commit("main", "a", "1");
        fixture.sync(&fixture.source(Reference::Default)).unwrap();
        fs::rename(fixture.dir.path().join("origin"), fixture.dir.path().join("gone")).unwrap();
        let mut other = fixture.source(Reference::Commit(commit));
        other.owner = "other/pack".into();
        assert!(fixture.sync(&other).is_err());
    }

    type Damage = fn(&Path);

    #[test]
    fn rebuilds_a_damaged_cache() {
        let fixture = Fixture::new();
        fixture.commit("main", "a", "1");
        let source = fixture.source(Reference::Default);
        let damages: [(&str, Damage); 5] = [
            ("no HEAD", |folder| fs::remove_file(folder.join("HEAD")).unwrap()),
            ("no objects", |folder| fs::remove_dir_all(folder.join("objects")).unwrap()),
            ("stale lock", |folder| fs::write(folder.join("refs/fother/incoming.lock"), "").unwrap()),
            ("garbage packs", |folder| {
                for entry in fs::read_dir(folder.join("objects/pack")).unwrap().flatten() {
                    fs::remove_file(entry.path()).unwrap();
                    fs::write(entry.path(), "garbage").unwrap();
                }
            }),
            ("a file", |folder| {
                fs::remove_dir_all(folder).unwrap();
                fs::write(folder, "?").unwrap();
            }),
        ];
        for (round, (name, damage)) in damages.into_iter().enumerate() {
            fixture.sync(&source).unwrap();
            damage(&fixture.folder(&source));
            let commit = fixture.commit("main", "a", &format!("round {round}"));
            let snapshot = fixture.sync(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(snapshot.revision.commit, commit, "{name}");
        }
    }

    #[test]
    fn starts_afresh_when_the_cache_has_grown() {
        let fixture = Fixture::new();
        fixture.commit("main", "a", "1");
        let source = fixture.source(Reference::Default);
        fixture.sync(&source).unwrap();
        let marker = fixture.folder(&source).join("objects/pack/old.keep");
        let small = Limits { cache_bytes: 4 << 20, ..Limits::default() };
        for (bytes, stays) in [(1 << 20, true), (5 << 20, false)] {
            fs::write(&marker, vec![0; bytes]).unwrap();
            sync(&fixture.cache(), &source, Transports::RemoteAndLocal, &small).unwrap();
            assert_eq!(marker.exists(), stays, "{bytes} bytes");
        }
    }

    #[test]
    fn makes_room_among_all_repositories() {
        let fixture = Fixture::new();
        fixture.commit("main", "a", "1");
        let first = fixture.source(Reference::Default);
        fixture.sync(&first).unwrap();
        let second = Source { owner: "other/pack".into(), ..first.clone() };
        let small = Limits { caches_bytes: 1000, ..Limits::default() };
        sync(&fixture.cache(), &second, Transports::RemoteAndLocal, &small).unwrap();
        assert!(!fixture.folder(&first).exists());
        assert!(fixture.folder(&second).exists());
    }

    #[test]
    fn too_many_references_are_not_searched() {
        let head = |name: String| Head { name, oid: String::new(), target: None };
        let mut flat: Vec<Head> =
            (0..MAX_SEARCHED).map(|number| head(format!("refs/tags/{number}"))).collect();
        flat.extend((0..MAX_SEARCHED).map(|number| head(format!("refs/tags/{number}^{{}}"))));
        flat.extend((0..MAX_SEARCHED).map(|number| head(format!("refs/pull/{number}/head"))));
        assert_eq!(unsearchable(&flat), None);
        flat.push(head("refs/heads/main".into()));
        let hint = "; the server has more than 5000 branches, tags and folders of them to look through; \
                    name a branch or tag";
        assert_eq!(unsearchable(&flat).as_deref(), Some(hint));

        let shared: Vec<Head> =
            (1..MAX_SEARCHED).map(|number| head(format!("refs/heads/team/{number}"))).collect();
        assert_eq!(unsearchable(&shared), None, "one folder for all");
        let nested = head(format!("refs/heads{}", "/x".repeat(MAX_SEARCHED + 1)));
        assert!(unsearchable(&[nested]).is_some(), "one name of many folders");
    }

    #[test]
    fn an_empty_repository_is_not_an_accident() {
        let fixture = Fixture::new();
        let error = fixture.sync(&fixture.source(Reference::Default)).unwrap_err();
        assert_eq!(error.to_string(), "default branch not found; the repository is empty");
    }
}
