//! The folder of cached repositories: locked, swept, bounded.
//!
//! Every repository is a folder `<hash>.git` with a lock file `<hash>.lock` next to it, whose time says when it was last used. The
//! disk below may end the controller when it is full (an `emptyDir` has a size limit), so that all together have a bound. Workers that
//! run add to it: each as much as [`Limits`] let it transfer, with the index.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::tree::Limits;

/// Repositories that were not used for so long are removed.
const UNUSED: Duration = Duration::from_hours(24);
/// Every fetch leaves a pack behind; libgit2 cannot repack.
const MAX_PACKS: usize = 64;
/// What `stat` counts in, in bytes, whatever the blocks of the file system are.
const BLOCK_BYTES: u64 = 512;
/// Digits of a hash, of which the names are made.
const NAME_DIGITS: usize = 32;

/// One worker at a time for one repository, across processes: the kernel drops the lock of a killed one.
pub(super) fn lock(cache: &Path, folder: &Path) -> io::Result<fs::File> {
    fs::create_dir_all(cache)?;
    let path = lock_path(folder);
    loop {
        let file = fs::File::create(&path)?;
        if is_won(&file, &path)? {
            file.set_modified(SystemTime::now())?;
            return Ok(file);
        }
    }
}

/// Waits for the lock of an open file. The file may have been swept away meanwhile: then it is not won, as the next would not see it.
fn is_won(file: &fs::File, path: &Path) -> io::Result<bool> {
    file.lock()?;
    is_at(file, path)
}

/// Removes repositories that nobody used for a day, and then those unused for longest until all weigh no more than `caches_bytes`.
/// The current one, whose lock is held, goes only if those that others hold leave it no room.
pub(super) fn sweep(cache: &Path, current: &Path, caches_bytes: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for (used, folder) in others(cache, current)? {
        if is_old(used) && is_discarded(&folder) {
            continue;
        }
        kept.push((used, weight(&folder), folder));
    }
    let mut total = weight(current) + kept.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
    kept.sort_unstable();
    for (_, bytes, folder) in kept {
        if total <= caches_bytes {
            return Ok(());
        }
        if is_discarded(&folder) {
            total -= bytes;
        }
    }
    if total > caches_bytes {
        // Otherwise each of the workers that run could begin with as much as one repository may have.
        remove(current)?;
    }
    Ok(())
}

/// Whether a repository is to be thrown away: it weighs more than `cache_bytes`, or has so many packs that it gets slow.
pub(super) fn oversized(folder: &Path, limits: &Limits) -> bool {
    let packs = fs::read_dir(folder.join("objects/pack")).into_iter().flatten().flatten().count();
    packs > 2 * MAX_PACKS || weight(folder) > limits.cache_bytes
}

/// Removes a repository, or whatever has its name; its lock has to be held.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Something else than a folder sits there.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(folder),
        other => other,
    }
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

/// Whether the path leads to the open file, and not to another or to none.
fn is_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// All repositories but the current one, with when they were used; a folder that has lost its lock file has no time.
fn others(cache: &Path, current: &Path) -> io::Result<Vec<(Option<SystemTime>, PathBuf)>> {
    let paths = fs::read_dir(cache)?.flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> =
        paths.filter(|path| is_ours(path)).map(|path| path.with_extension("git")).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.retain(|folder| folder != current);
    let used = |folder: &Path| fs::metadata(lock_path(folder)).and_then(|metadata| metadata.modified()).ok();
    Ok(folders.into_iter().map(|folder| (used(&folder), folder)).collect())
}

/// Whether it is a repository or a lock file by its name: who runs the controller may have chosen a folder with other things in it.
fn is_ours(path: &Path) -> bool {
    let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    let is_hash = name.len() == NAME_DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash && path.extension().is_some_and(|extension| extension == "git" || extension == "lock")
}

fn is_old(used: Option<SystemTime>) -> bool {
    used.is_none_or(|used| SystemTime::now().duration_since(used).is_ok_and(|age| age > UNUSED))
}

/// Discards a repository, and says whether it is gone. One that cannot be removed stops only the Pack whose it is, and is told of in
/// the controller's log.
fn is_discarded(folder: &Path) -> bool {
    discard(folder).unwrap_or_else(|error| {
        eprintln!("the cached repository {} cannot be removed: {error}", folder.display());
        false
    })
}

/// Removes a repository and its lock file, and says so, unless somebody uses it.
fn discard(folder: &Path) -> io::Result<bool> {
    let path = lock_path(folder);
    // Made where it is missing, so that nobody begins in a folder that is on its way out.
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
    if file.try_lock().is_err() || !is_at(&file, &path)? {
        return Ok(false);
    }
    remove(folder)?;
    fs::remove_file(&path)?;
    Ok(true)
}

/// What a folder takes of the disk with everything in it, in bytes: by blocks, since a reference of 41 bytes takes a whole one.
fn weight(folder: &Path) -> u64 {
    let (mut bytes, mut left) = (0, vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        // What is gone meanwhile weighs nothing; a link weighs what it takes itself.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes += metadata.blocks() * BLOCK_BYTES;
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    /// A folder for repositories.
    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn folder(&self, number: u32) -> PathBuf {
            self.dir.path().join(format!("{number:032x}.git"))
        }

        /// A repository of 64 KiB that was used so many minutes ago.
        fn repository(&self, number: u32, minutes: u64) -> PathBuf {
            let folder = self.folder(number);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("pack"), "x".repeat(64 << 10)).unwrap();
            let used = SystemTime::now() - Duration::from_secs(60 * minutes);
            fs::File::create(lock_path(&folder)).unwrap().set_modified(used).unwrap();
            folder
        }

        fn sweep(&self, current: &Path, caches_bytes: u64) {
            sweep(self.dir.path(), current, caches_bytes).unwrap();
        }
    }

    /// Holds a repository's lock, as a worker does, without using it anew.
    fn hold(folder: &Path) -> fs::File {
        let file = fs::File::open(lock_path(folder)).unwrap();
        file.lock().unwrap();
        file
    }

    fn is_whole(folder: &Path) -> bool {
        folder.join("pack").exists() && lock_path(folder).exists()
    }

    fn is_gone(folder: &Path) -> bool {
        !folder.exists() && !lock_path(folder).exists()
    }

    #[test]
    fn removes_what_nobody_uses() {
        let fixture = Fixture::new();
        let day = 24 * 60 + 1;
        let (current, old, fresh) =
            (fixture.repository(1, day), fixture.repository(2, day), fixture.repository(3, 1));
        let held = fixture.repository(4, day);
        let _lock = hold(&held);
        let lost = fixture.repository(5, 1);
        fs::remove_file(lock_path(&lost)).unwrap();
        let only_lock = fixture.repository(6, day);
        fs::remove_dir_all(&only_lock).unwrap();
        let foreign = fixture.dir.path().join("mine.git");
        fs::create_dir(&foreign).unwrap();
        fixture.sweep(&current, u64::MAX);
        for folder in [&current, &fresh, &held] {
            assert!(is_whole(folder), "{folder:?}");
        }
        for folder in [&old, &lost, &only_lock] {
            assert!(is_gone(folder), "{folder:?}");
        }
        assert!(foreign.exists());
    }

    #[test]
    fn all_together_are_bounded() {
        let fixture = Fixture::new();
        let (current, held) = (fixture.repository(1, 50), fixture.repository(2, 40));
        let _lock = hold(&held);
        // By their names the other way round.
        let (newest, middle, oldest) =
            (fixture.repository(3, 10), fixture.repository(4, 20), fixture.repository(5, 30));
        fixture.sweep(&current, 1000 * KIB);
        assert!([&newest, &middle, &oldest].into_iter().all(|folder| is_whole(folder)), "there is room");
        fixture.sweep(&current, 310 * KIB);
        assert!(is_gone(&oldest) && is_whole(&middle), "no more than has to go");
        fixture.sweep(&current, 240 * KIB);
        assert!(is_gone(&middle));
        for folder in [&current, &held, &newest] {
            assert!(is_whole(folder), "{folder:?}");
        }
    }

    #[test]
    fn begins_anew_where_others_that_run_leave_no_room() {
        let fixture = Fixture::new();
        let (current, one, two) =
            (fixture.repository(1, 0), fixture.repository(2, 0), fixture.repository(3, 0));
        let _locks = (hold(&current), hold(&one), hold(&two));
        fixture.sweep(&current, 160 * KIB);
        assert!(!current.exists());
        assert!(lock_path(&current).exists() && is_whole(&one) && is_whole(&two));
    }

    #[test]
    fn what_cannot_be_removed_stops_nobody() {
        let fixture = Fixture::new();
        let (current, stuck, other) =
            (fixture.repository(1, 0), fixture.repository(2, 40), fixture.repository(3, 30));
        fs::remove_file(lock_path(&stuck)).unwrap();
        fs::create_dir(lock_path(&stuck)).unwrap();
        fixture.sweep(&current, 150 * KIB);
        assert!(stuck.exists() && is_gone(&other) && is_whole(&current));
    }

    #[test]
    fn small_files_count_as_what_they_take() {
        let fixture = Fixture::new();
        let folder = fixture.folder(1);
        let limits = Limits { cache_bytes: 200 * KIB, ..Limits::default() };
        assert!(!oversized(&folder, &limits), "it is not there yet");
        let references = folder.join("refs/heads");
        fs::create_dir_all(&references).unwrap();
        assert!(!oversized(&folder, &limits));
        for number in 0..100 {
            fs::write(references.join(number.to_string()), "x").unwrap();
        }
        assert!(oversized(&folder, &limits));
        fs::write(lock_path(&folder), "").unwrap();
        fixture.sweep(&fixture.folder(2), 200 * KIB);
        assert!(is_gone(&folder));
    }

    #[test]
    fn many_packs_are_too_many() {
        let fixture = Fixture::new();
        let packs = fixture.folder(1).join("objects/pack");
        fs::create_dir_all(&packs).unwrap();
        for number in 0..=2 * MAX_PACKS {
            assert!(!oversized(&fixture.folder(1), &Limits::default()), "{number}");
            fs::write(packs.join(number.to_string()), "").unwrap();
        }
        assert!(oversized(&fixture.folder(1), &Limits::default()));
    }

    #[test]
    fn links_lead_nowhere() {
        let fixture = Fixture::new();
        let (folder, heavy) = (fixture.folder(1), fixture.repository(2, 0));
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&heavy, folder.join("link")).unwrap();
        assert!(weight(&folder) < 64 * KIB && weight(&heavy) >= 64 * KIB);
    }

    #[test]
    fn a_lock_that_was_swept_away_is_not_won() {
        let fixture = Fixture::new();
        let (cache, folder) = (fixture.dir.path(), fixture.repository(1, 0));
        let path = lock_path(&folder);
        let waiting = fs::File::create(&path).unwrap();
        assert!(discard(&folder).unwrap());
        assert!(!is_won(&waiting, &path).unwrap(), "there is none");
        let next = lock(cache, &folder).unwrap();
        assert!(!is_at(&waiting, &path).unwrap(), "there is another");
        assert!(is_at(&next, &path).unwrap());
        assert!(!discard(&folder).unwrap(), "what is held stays");
        assert!(path.exists());
    }
}
