//! Where a container's paths are on this machine.
//!
//! A process has no mount namespace of its own here, so what the pod calls
//! `/var/cache/app` is a directory elsewhere. Whole values that name a mounted path
//! are rewritten; text that merely contains one is left alone, because guessing inside a
//! script would be worse than a plain "no such file".

use std::path::PathBuf;

/// The mounted paths of one container and the places they stand for.
#[derive(Debug, Clone, Default)]
pub struct Mounts(Vec<(String, PathBuf)>);

impl Mounts {
    /// Makes `mount_path` stand for `place`.
    pub fn add(&mut self, mount_path: &str, place: PathBuf) {
        self.0.push((trimmed(mount_path).to_owned(), place));
    }

    /// Where `value` is if it is a mounted path or lies below one.
    pub fn place(&self, value: &str) -> Option<PathBuf> {
        let below =
            |mount: &str| value.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let (rest, place) = self
            .0
            .iter()
            .filter_map(|(mount, place)| below(mount).map(|rest| (rest, place)))
            .min_by_key(|(rest, _)| rest.len())?;
        let inner = rest.trim_start_matches('/');
        Some(if inner.is_empty() { place.clone() } else { place.join(inner) })
    }

    /// `value` as a process on this machine has to see it.
    pub fn rewrite(&self, value: &str) -> String {
        self.place(value).map_or_else(|| value.to_owned(), |place| place.to_string_lossy().into_owned())
    }
}

fn trimmed(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_mounted_paths_are_rewritten() {
        let mut mounts = Mounts::default();
        mounts.add("/data", "/r/data".into());
        mounts.add("/data/deep/", "/r/deep".into());
        mounts.add("/etc/app.conf", "/r/cfg/app.conf".into());
        for (value, expected) in [
            ("/data", "/r/data"),
            ("/data/x", "/r/data/x"),
            ("/data/", "/r/data"),
            ("/data/deep/x", "/r/deep/x"),
            ("/data/deeper", "/r/data/deeper"),
            ("/database", "/database"),
            ("/etc/app.conf", "/r/cfg/app.conf"),
            ("cat /data/x", "cat /data/x"),
            ("", ""),
        ] {
            assert_eq!(mounts.rewrite(value), expected, "{value}");
        }
    }
}
