//! The control groups of a node's containers: in one group, in every hierarchy there is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::support::wait::eventually;

const ROOT: &str = "/sys/fs/cgroup";
/// A group can be removed a moment after its last process is gone.
const EMPTY: Duration = Duration::from_secs(10);

/// Makes a group called `name` in every hierarchy.
pub fn create(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        std::fs::create_dir_all(&group).with_context(|| format!("failed to make {}", group.display()))?;
    }
    Ok(())
}

/// Removes the group called `name`, and those in it, wherever there is one.
pub async fn remove(name: &str) {
    for hierarchy in hierarchies() {
        remove_all(&hierarchy.join(name)).await;
    }
}

/// Version 2 has one hierarchy, version 1 one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let is_hierarchy = |path: &PathBuf| path.join("cgroup.procs").exists();
    let root = PathBuf::from(ROOT);
    if is_hierarchy(&root) {
        return vec![root];
    }
    children(&root).into_iter().filter(is_hierarchy).collect()
}

async fn remove_all(group: &Path) {
    for inner in children(group) {
        Box::pin(remove_all(&inner)).await;
    }
    eventually(&format!("{} is removed", group.display()), EMPTY, || async {
        match std::fs::remove_dir(group) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    })
    .await;
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
