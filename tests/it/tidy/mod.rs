//! The style as a test: who may import whom, and what no file may contain. Each finding names its place, the rule
//! and the reason; CONTRIBUTING.md says what to do about one.

mod layers;
mod source;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use source::Source;

/// Where a rule is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// All findings in one file, named by its path in the repository.
fn check(file: &str, content: &str) -> Vec<Finding> {
    let mut findings = text::check_any(file, content);
    if has_extension(file, "rs") {
        let source = Source::parse(file, content);
        findings.extend(text::check_rust(file, content, &source));
        findings.extend(layers::check(file, &source));
    }
    findings
}

fn has_extension(file: &str, wanted: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == wanted)
}

/// The files of the repository, without what git does not keep.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && name != ".git" {
                files(&entry.path(), found);
            }
        } else if name != "Cargo.lock" && name != ".git" {
            found.push(entry.path());
        }
    }
}

#[test]
fn the_repository_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(root, &mut paths);
    let mut findings = Vec::new();
    for path in paths {
        let file = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        // What is not text has no style.
        if let Ok(content) = String::from_utf8(std::fs::read(&path).unwrap()) {
            findings.extend(check(&file, &content));
        }
    }
    findings.sort();
    let report: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "{} broken rules:\n{}", report.len(), report.join("\n"));
}

/// The lines of what `check` finds in a file called `file` that opens properly and goes on with `code`.
#[cfg(test)]
fn lines(file: &str, code: &str) -> Vec<usize> {
    check(file, &format!("//! A file.\n{code}\n")).into_iter().map(|finding| finding.line).collect()
}
