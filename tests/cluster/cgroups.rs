//! The control groups of a node's containers: in one group, in every hierarchy there is.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;

const ROOT: &str = "/sys/fs/cgroup";
/// A group can be removed a moment after its last process is gone.
const EMPTY: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Makes a group called `name` in every hierarchy.
pub fn create(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        std::fs::create_dir_all(&group).with_context(|| format!("failed to make {}", group.display()))?;
    }
    Ok(())
}

/// Removes the group called `name`, and those in it, wherever there is one.
pub fn remove(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        remove_all(&hierarchy.join(name))?;
    }
    Ok(())
}

/// Version 2 has one hierarchy, version 1 one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let is_hierarchy = |path: &PathBuf| path.join("cgroup.procs").exists();
    let root = PathBuf::from(ROOT);
    if is_hierarchy(&root) {
        return vec![root];
    }
    let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(is_hierarchy).collect()
}

fn remove_all(group: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_all(&entry.path())?;
        }
    }
    let since = Instant::now();
    loop {
        match std::fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if since.elapsed() > EMPTY => {
                return Err(error).with_context(|| format!("failed to remove {}", group.display()));
            }
            Err(_) => sleep(POLL_INTERVAL),
        }
    }
}
