//! Reads files from a commit's tree, within limits, without checkout.
//!
//! Nothing from the repository ever becomes a path of the local file system: that is what rules out traversal. Names are still
//! checked, because they end up in messages, annotations and, by way of `ConfigMap`s, in the file systems of pods.

use git2::{ObjectType, Oid, Repository, Tree};
use serde::{Deserialize, Serialize};

use super::error::{Error, Failure};

/// One file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the source's path.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// What a revision may weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Files below the path.
    pub files: usize,
    /// Bytes of one file. Not above 1 MiB, which is what a `ConfigMap` can hold.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Folders within folders.
    pub depth: usize,
    /// Bytes of all answers of the server in one sync; a cache that turns out to be damaged has it begin anew.
    pub transfer_bytes: u64,
    /// Bytes of the disk that one cached repository may take; beyond, it is thrown away and fetched again.
    pub cache_bytes: u64,
    /// Bytes of the disk that all cached repositories may take together when a sync begins; beyond, those unused for longest go. What
    /// the syncs that run transfer comes on top: the chart's volume for the caches has room for that of four.
    pub caches_bytes: u64,
    /// Bytes of memory that a worker may have of its own, which no file backs. libgit2 unpacks there what a server sends as a small
    /// change of something large; and as many workers as fetch at a time have to fit into the controller's limit, beside itself.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            files: 10_000,
            file_bytes: MIB,
            total_bytes: 16 * MIB,
            depth: 32,
            transfer_bytes: 256 * MIB,
            cache_bytes: 512 * MIB,
            caches_bytes: 768 * MIB,
            memory_bytes: 96 * MIB,
        }
    }
}

/// Checks a sub-path: relative, clean, UTF-8 by type.
pub(super) fn check_path(path: &str) -> Result<(), Error> {
    let problem = match path {
        "" => None,
        _ if path.starts_with('/') || path.ends_with('/') => Some("no slash at the start or end".to_owned()),
        _ => {
            path.split('/').find_map(|part| name_problem(part).map(|problem| format!("{part:?}: {problem}")))
        }
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Error::InvalidReference { what: "path".into(), value: path.into(), problem }),
    }
}

/// All files below `path` in the commit, sorted by path.
pub(super) fn read(
    repository: &Repository,
    commit: Oid,
    path: &str,
    limits: &Limits,
) -> Result<Vec<File>, Failure> {
    let root = repository.find_commit(commit)?.tree()?;
    let start = descend(repository, root, path)?;
    let mut reader = Reader { repository, limits, files: Vec::new(), total: 0 };
    let mut pending = vec![(start, String::new(), 1)];
    while let Some((tree, below, depth)) = pending.pop() {
        for entry in &tree {
            let name = join(&below, entry.name_bytes());
            let full = join(path, name.as_bytes());
            let kind = entry_kind(&entry, &full)?;
            match kind {
                ObjectType::Tree if depth >= limits.depth => {
                    return Err(refused(&full, format!("folders are nested deeper than {}", limits.depth)));
                }
                ObjectType::Tree => pending.push((repository.find_tree(entry.id())?, name, depth + 1)),
                _ => reader.take(entry.id(), name, &full)?,
            }
        }
    }
    let mut files = reader.files;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

struct Reader<'a> {
    repository: &'a Repository,
    limits: &'a Limits,
    files: Vec<File>,
    total: u64,
}

impl Reader<'_> {
    fn take(&mut self, blob: Oid, path: String, full: &str) -> Result<(), Failure> {
        if self.files.len() >= self.limits.files {
            return Err(refused(full, format!("more than {} files", self.limits.files)));
        }
        // The header tells the size before the content is inflated.
        let (size, _) = self.repository.odb()?.read_header(blob)?;
        let size = size as u64;
        if size > self.limits.file_bytes {
            return Err(refused(full, format!("{size} bytes; a file may have {}", self.limits.file_bytes)));
        }
        self.total += size;
        if self.total > self.limits.total_bytes {
            return Err(refused(
                full,
                format!("all files together exceed {} bytes", self.limits.total_bytes),
            ));
        }
        let content = self.repository.find_blob(blob)?.content().to_vec();
        self.files.push(File { path, content });
        Ok(())
    }
}

/// Follows `path` from the root to the tree it names.
fn descend<'r>(repository: &'r Repository, root: Tree<'r>, path: &str) -> Result<Tree<'r>, Failure> {
    let mut tree = root;
    let mut walked = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        walked = join(&walked, part.as_bytes());
        let id = match tree.get_name(part) {
            None => return Err(refused(&walked, "no such folder in this revision".into())),
            Some(entry) => match entry_kind(&entry, &walked)? {
                ObjectType::Tree => entry.id(),
                _ => return Err(refused(&walked, "not a folder".into())),
            },
        };
        tree = repository.find_tree(id)?;
    }
    Ok(tree)
}

/// Tree or blob; everything else is refused.
fn entry_kind(entry: &git2::TreeEntry<'_>, full: &str) -> Result<ObjectType, Failure> {
    match std::str::from_utf8(entry.name_bytes()) {
        Err(_) => return Err(refused(full, "the name is not UTF-8".into())),
        Ok(name) => {
            if let Some(problem) = name_problem(name) {
                return Err(refused(full, problem.into()));
            }
        }
    }
    match entry.filemode() {
        0o040_000 => Ok(ObjectType::Tree),
        0o100_644 | 0o100_755 | 0o100_664 => Ok(ObjectType::Blob),
        0o120_000 => Err(refused(full, "symlink not allowed".into())),
        0o160_000 => Err(refused(full, "submodule not allowed".into())),
        mode => Err(refused(full, format!("file mode {mode:o} not allowed"))),
    }
}

fn name_problem(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("the name is empty"),
        "." | ".." => Some("the name is not allowed"),
        _ if name.len() > 255 => Some("the name is longer than 255 bytes"),
        _ if name.contains(['/', '\\']) => Some("the name contains a slash"),
        _ if name.chars().any(char::is_control) => Some("the name contains a control character"),
        _ => None,
    }
}

fn join(folder: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") }
}

fn refused(path: &str, problem: String) -> Failure {
    // A name may hold terminal control sequences; the message may reach a terminal.
    let path = path
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    Failure::Final(Error::ContentRefused { path, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree object with arbitrary entries: libgit2's own builder would refuse the malicious ones.
    fn raw_tree(repository: &Repository, entries: &[(&str, &[u8], Oid)]) -> Oid {
        let mut data = Vec::new();
        for (mode, name, oid) in entries {
            data.extend_from_slice(mode.as_bytes());
            data.push(b' ');
            data.extend_from_slice(name);
            data.push(0);
            data.extend_from_slice(oid.as_bytes());
        }
        repository.odb().unwrap().write(ObjectType::Tree, &data).unwrap()
    }

    fn commit(repository: &Repository, tree: Oid) -> Oid {
        let author = git2::Signature::now("a", "a@example.com").unwrap();
        let tree = repository.find_tree(tree).unwrap();
        repository.commit(None, &author, &author, "m", &tree, &[]).unwrap()
    }

    fn repository() -> (tempfile::TempDir, Repository) {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        (dir, repository)
    }

    fn refusal(result: Result<Vec<File>, Failure>) -> String {
        match result.unwrap_err() {
            Failure::Final(error) => error.to_string(),
            Failure::Cache(error) => panic!("blames the cache: {error}"),
        }
    }

    #[test]
    fn reads_below_a_path_sorted() {
        let (_dir, repository) = repository();
        let blob = repository.blob(b"x").unwrap();
        let inner = raw_tree(&repository, &[("100755", b"run.sh", blob)]);
        let rules = raw_tree(&repository, &[("100644", b"b.yaml", blob), ("40000", b"a", inner)]);
        let root = raw_tree(&repository, &[("100644", b"README", blob), ("40000", b"rules", rules)]);
        let commit = commit(&repository, root);
        let paths = |path| {
            let files = read(&repository, commit, path, &Limits::default()).unwrap();
            files.into_iter().map(|file| file.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(""), ["README", "rules/a/run.sh", "rules/b.yaml"]);
        assert_eq!(paths("rules"), ["a/run.sh", "b.yaml"]);
        assert_eq!(paths("rules/a"), ["run.sh"]);
    }

    #[test]
    fn refuses_malicious_entries() {
        let (_dir, repository) = repository();
        let blob = repository.blob(b"../../etc/passwd").unwrap();
        let tree = raw_tree(&repository, &[]);
        let cases: [(&str, &[u8], Oid, &str); 8] = [
            ("120000", b"x", blob, "rules/x: symlink not allowed"),
            ("160000", b"x", blob, "rules/x: submodule not allowed"),
            ("100644", b"..", blob, "rules/..: the name is not allowed"),
            ("40000", b".", tree, "rules/.: the name is not allowed"),
            ("100644", b"a/../b", blob, "rules/a/../b: the name contains a slash"),
            ("100644", b"a\\b", blob, "rules/a\\b: the name contains a slash"),
            ("100644", b"a\x1b[2J", blob, "rules/a\\u{1b}[2J: the name contains a control character"),
            ("100644", b"a\xff", blob, "rules/a\u{fffd}: the name is not UTF-8"),
        ];
        for (mode, name, oid, expected) in cases {
            let rules = raw_tree(&repository, &[(mode, name, oid)]);
            let root = raw_tree(&repository, &[("40000", b"rules", rules)]);
            let commit = commit(&repository, root);
            assert_eq!(refusal(read(&repository, commit, "", &Limits::default())), expected);
            assert_eq!(refusal(read(&repository, commit, "rules", &Limits::default())), expected);
        }
    }

    #[test]
    fn refuses_paths_that_are_no_folder() {
        let (_dir, repository) = repository();
        let blob = repository.blob(b"elsewhere").unwrap();
        let root = raw_tree(&repository, &[("100644", b"file", blob), ("120000", b"link", blob)]);
        let commit = commit(&repository, root);
        for (path, expected) in [
            ("link", "link: symlink not allowed"),
            ("link/a", "link: symlink not allowed"),
            ("file", "file: not a folder"),
            ("rules/a", "rules: no such folder in this revision"),
        ] {
            assert_eq!(refusal(read(&repository, commit, path, &Limits::default())), expected);
        }
    }

    #[test]
    fn holds_limits() {
        let (_dir, repository) = repository();
        let blob = repository.blob(b"12345").unwrap();
        let c = raw_tree(&repository, &[("100644", b"f", blob)]);
        let b = raw_tree(&repository, &[("40000", b"c", c)]);
        let root = raw_tree(&repository, &[("100644", b"a", blob), ("40000", b"b", b)]);
        let commit = commit(&repository, root);
        let base = Limits::default();
        let cases = [
            (Limits { files: 1, ..base }, "b/c/f: more than 1 files"),
            (Limits { file_bytes: 4, ..base }, "a: 5 bytes; a file may have 4"),
            (Limits { total_bytes: 9, ..base }, "b/c/f: all files together exceed 9 bytes"),
            (Limits { depth: 2, ..base }, "b/c: folders are nested deeper than 2"),
        ];
        for (limits, expected) in cases {
            assert_eq!(refusal(read(&repository, commit, "", &limits)), expected);
        }
        let exact = Limits { files: 2, file_bytes: 5, total_bytes: 10, depth: 3, ..base };
        assert_eq!(read(&repository, commit, "", &exact).unwrap().len(), 2);
    }

    #[test]
    fn checks_paths() {
        for good in ["", "rules", "a/b c/d.e"] {
            check_path(good).unwrap();
        }
        for (bad, expected) in [
            ("/a", r#"path "/a": no slash at the start or end"#),
            ("a/", r#"path "a/": no slash at the start or end"#),
            ("a/../b", r#"path "a/../b": "..": the name is not allowed"#),
            ("a//b", r#"path "a//b": "": the name is empty"#),
            ("a\0b", r#"path "a\0b": "a\0b": the name contains a control character"#),
        ] {
            assert_eq!(check_path(bad).unwrap_err().to_string(), expected);
        }
    }
}
