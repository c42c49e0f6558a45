//! Reads what is to be checked: each folder is a set of its own, all loose files together are one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::decide::pack;

/// The same limits as for a revision from git.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 32;
/// One byte more than a file may have, by which it is known to be too large: that is told among all else that is wrong.
const READ_AT_MOST: u64 = pack::MAX_FILE_BYTES as u64 + 1;

/// Files that are checked together.
#[derive(Debug)]
pub(super) struct Set {
    /// The pack's folder, as it was given; none for loose files.
    pub folder: Option<PathBuf>,
    /// The files, by path.
    pub files: Vec<File>,
}

/// A file, by its path in the set.
#[derive(Debug)]
pub(super) struct File {
    pub path: String,
    pub content: Vec<u8>,
}

impl Set {
    /// A file's path as a person can open it.
    pub(super) fn display(&self, path: &str) -> String {
        match &self.folder {
            Some(folder) if folder != Path::new(".") => folder.join(path).display().to_string(),
            _ => path.to_owned(),
        }
    }

    /// A file's text, to be drawn.
    pub(super) fn text(&self, path: &str) -> Cow<'_, str> {
        let file = self.files.iter().find(|file| file.path == path);
        file.map_or(Cow::Borrowed(""), |file| pack::drawn(&file.content))
    }
}

/// The sets for the given paths. Each of them has something to check: to find nothing wrong with what was not read would be
/// no answer.
pub(super) fn sets(paths: &[PathBuf]) -> anyhow::Result<Vec<Set>> {
    let (mut sets, mut loose, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    let (mut named, mut inside) = (BTreeSet::new(), BTreeSet::new());
    for path in paths {
        let place = path.canonicalize().unwrap_or_else(|_| path.clone());
        if path == Path::new("-") {
            loose.push((None, standard_input()?));
        } else if path.is_dir() {
            // What is named twice, however it is spelled, is read once: else its objects would be there twice.
            if !named.insert(place.clone()) {
                continue;
            }
            let set = folder(path)?;
            if !set.files.iter().any(|file| pack::is_yaml(&file.path) && !says_nothing(&file.content)) {
                empty.push(path.display().to_string());
            }
            inside.extend(set.files.iter().map(|file| place.join(&file.path)));
            sets.push(set);
        } else {
            let file = chosen(path)?;
            if named.insert(place.clone()) {
                loose.push((Some(place), file));
            }
        }
    }
    anyhow::ensure!(empty.is_empty(), "nothing to check in {}", empty.join(", "));
    // One that is in a folder that is given as well is judged there, where more is known of what is around it.
    loose.retain(|(place, _)| place.as_ref().is_none_or(|place| !inside.contains(place)));
    let files: Vec<File> = loose.into_iter().map(|(_, file)| file).collect();
    if !files.is_empty() {
        sets.push(Set { folder: None, files });
    }
    Ok(sets)
}

/// A folder with all that is below it.
fn folder(path: &Path) -> anyhow::Result<Set> {
    let mut files = Vec::new();
    walk(path, "", 1, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Set { folder: Some(path.to_owned()), files })
}

fn standard_input() -> anyhow::Result<File> {
    let mut content = Vec::new();
    std::io::stdin().lock().take(READ_AT_MOST).read_to_end(&mut content)?;
    // A command before the pipe has failed: to find nothing wrong with what it left out would be no answer.
    anyhow::ensure!(!says_nothing(&content), "standard input is empty");
    Ok(File { path: pack::STANDARD_INPUT.to_owned(), content })
}

/// A file that was named; whoever names one that is no manifest takes it for one.
fn chosen(path: &Path) -> anyhow::Result<File> {
    let name = path.display().to_string();
    // Of what is not there, that is said.
    anyhow::ensure!(pack::is_yaml(&name) || !path.exists(), "{name}: not a YAML file");
    let content = read(path)?;
    anyhow::ensure!(!says_nothing(&content), "{name}: nothing in it");
    Ok(File { path: name, content })
}

/// Whether there is no object in a file: nothing but comments and marks of YAML documents.
fn says_nothing(content: &[u8]) -> bool {
    let mut lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| line.is_empty() || line.starts_with(b"#") || line == b"---" || line == b"...")
}

fn walk(folder: &Path, below: &str, depth: usize, files: &mut Vec<File>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to read {}", folder.display()))?;
        let kind = entry.file_type().with_context(|| format!("failed to read {}", entry.path().display()))?;
        let Ok(name) = entry.file_name().into_string() else {
            anyhow::bail!("{}: the name is not UTF-8", entry.path().display());
        };
        // Git's and other tools' own folders are no part of a pack.
        if name.starts_with('.') {
            continue;
        }
        anyhow::ensure!(!kind.is_symlink(), "{}: symlink not allowed", entry.path().display());
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if kind.is_dir() {
            anyhow::ensure!(
                depth < MAX_DEPTH,
                "{}: folders are nested deeper than {MAX_DEPTH}",
                entry.path().display()
            );
            walk(&entry.path(), &path, depth + 1, files)?;
        } else {
            anyhow::ensure!(
                files.len() < MAX_FILES,
                "{}: more than {MAX_FILES} files",
                entry.path().display()
            );
            files.push(File { path, content: read(&entry.path())? });
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(READ_AT_MOST).read_to_end(&mut content))
        .with_context(|| format!("failed to read {}", path.display()))?;
    Ok(content)
}
