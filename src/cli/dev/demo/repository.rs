//! A real git repository, made out of the example pack.

use std::path::{Path, PathBuf};

use anyhow::Context;
use git2::{IndexAddOption, Repository, Signature};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "examples"]
struct Example;

/// The folder of the pack that the demo is about.
pub const PACK: &str = "corrupted-cache";

/// A file of the examples.
pub fn text(path: &str) -> anyhow::Result<String> {
    let file = Example::get(path).with_context(|| format!("the example has no {path}"))?;
    String::from_utf8(file.data.into_owned()).with_context(|| format!("{path} is no text"))
}

/// The repository.
pub struct Demo {
    path: PathBuf,
    repository: Repository,
}

impl Demo {
    /// Makes it, with all files of the example.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let repository =
            Repository::init(path).with_context(|| format!("failed to make {}", path.display()))?;
        for file in Example::iter() {
            let target = path.join(&*file);
            let content = Example::get(&file).map(|f| f.data.into_owned()).unwrap_or_default();
            std::fs::create_dir_all(target.parent().unwrap_or(path))?;
            std::fs::write(&target, content)?;
        }
        Ok(Self { path: path.to_owned(), repository })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes one file.
    pub fn edit(&self, file: &str, edit: impl Fn(&str) -> String) -> anyhow::Result<()> {
        let path = self.path.join(file);
        let before = std::fs::read_to_string(&path).with_context(|| format!("failed to read {file}"))?;
        let after = edit(&before);
        anyhow::ensure!(before != after, "the edit of {file} changes nothing");
        Ok(std::fs::write(&path, after)?)
    }

    /// Commits everything, and returns the commit's hash.
    pub fn commit(&self, message: &str) -> anyhow::Result<String> {
        let mut index = self.repository.index()?;
        index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
        index.write()?;
        let tree = self.repository.find_tree(index.write_tree()?)?;
        let author = Signature::now("demo", "demo@example.com")?;
        let parent = self.repository.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        let commit = self.repository.commit(Some("HEAD"), &author, &author, message, &tree, &parents)?;
        Ok(commit.to_string())
    }
}
