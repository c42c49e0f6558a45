//! How the journal's file is opened: made, brought up to date, checked, made smaller when it was allowed to be larger, and
//! put aside when it is damaged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::entry::Gap;
use super::error::JournalError;
use super::file::{File, millis, time_of};
use super::place::{Limits, MEMORY, Place, Size};

/// How to come from one version of the schema to the next; `user_version` says how many were done.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE events (
         id INTEGER PRIMARY KEY, time INTEGER NOT NULL, event TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL,
         namespace TEXT NOT NULL, data TEXT NOT NULL);
     CREATE TABLE decisions (
         id INTEGER PRIMARY KEY, time INTEGER NOT NULL, namespace TEXT NOT NULL, rule TEXT NOT NULL,
         target TEXT NOT NULL, event TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
         execution TEXT NOT NULL);
     CREATE TABLE gaps (
         id INTEGER PRIMARY KEY, begin INTEGER NOT NULL, end INTEGER NOT NULL, missing INTEGER NOT NULL,
         reason TEXT NOT NULL);",
    "CREATE INDEX decisions_by_rule ON decisions (namespace, rule, time);
     CREATE INDEX decisions_by_target ON decisions (namespace, target, time);
     CREATE INDEX events_by_time ON events (time);
     CREATE INDEX decisions_by_time ON decisions (time);",
    "DELETE FROM events WHERE id NOT IN (SELECT min(id) FROM events GROUP BY source, namespace, event);
     CREATE UNIQUE INDEX events_by_identity ON events (source, namespace, event);
     CREATE TABLE keeper (one INTEGER PRIMARY KEY CHECK (one = 1), began INTEGER NOT NULL, ended INTEGER);",
];
/// Why a time is missing in which a process that was killed may have decided.
const KILLED: &str = "the controller before did not end in order: what it had not written yet is missing";
/// Why a time is missing in which no process wrote.
const NOBODY: &str = "no controller wrote this journal: another one may have led";

/// Where a journal is kept, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Keeping {
    /// Where.
    pub place: Place,
    /// How much.
    pub limits: Limits,
}

impl File {
    /// Opens it or makes a new one, for a controller that began to keep it at a time. A damaged file is put aside. What
    /// is missing is noted: what was in a damaged file, and what happened while nobody wrote.
    pub fn open(keeping: &Keeping, began: Timestamp, now: Timestamp) -> Result<Self, JournalError> {
        let limits = keeping.limits;
        let mut file = match &keeping.place {
            Place::Memory => Self::prepare(MEMORY.as_ref(), limits, MIGRATIONS)?,
            Place::File(path) => {
                let prepared = Self::prepare(path, limits, MIGRATIONS);
                match prepared.and_then(|file| file.within(path, limits, now)) {
                    Err(error) if error.is_damage() => Self::renew(path, limits, now)?,
                    other => other?,
                }
            }
        };
        file.begin(began)?;
        Ok(file)
    }

    /// Opens a file only to read it.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        match Self::read_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            Err(error) if error.is_unfinished() => {
                Self::read_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|_| error)
            }
            other => other,
        }
    }

    fn read_with(path: &Path, how: OpenFlags) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        let failed = |source| JournalError::Sqlite { path: name.clone(), source };
        let flags = how | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        let file = Self { connection, name: name.clone() };
        match file.version()? {
            0 => Err(JournalError::Foreign { path: name }),
            found if found <= MIGRATIONS.len() => Ok(file),
            found => Err(JournalError::Newer { path: name, found, known: MIGRATIONS.len() }),
        }
    }

    fn prepare(path: &Path, limits: Limits, migrations: &[&str]) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        let failed = |source| JournalError::Sqlite { path: name.clone(), source };
        let connection = Connection::open(path).map_err(failed)?;
        let mut file = Self { connection, name: name.clone() };
        file.configure(fitting(path, limits.size)).map_err(failed)?;
        let found = file.version()?;
        if found > migrations.len() {
            return Err(JournalError::Newer { path: name, found, known: migrations.len() });
        }
        let sound: String =
            file.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if sound != "ok" {
            let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(failed(rusqlite::Error::SqliteFailure(damage, Some(sound))));
        }
        file.migrate(&migrations[found..], migrations.len()).map_err(failed)?;
        Ok(file)
    }

    fn configure(&self, size: Size) -> rusqlite::Result<()> {
        self.connection.busy_timeout(Duration::from_secs(5))?;
        // No WAL: it needs shared memory, which not every volume has, and people may read the file meanwhile.
        self.connection.pragma_update(None, "journal_mode", "TRUNCATE")?;
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        let pages = self.pages(size)?;
        self.number(&format!("max_page_count = {pages}")).map(drop)
    }

    /// How many pages make this size; at least as many as the empty tables need.
    fn pages(&self, size: Size) -> rusqlite::Result<u64> {
        Ok((size.0 / self.number("page_size")?).max(64))
    }

    /// What a pragma answers that answers with a number.
    fn number(&self, pragma: &str) -> rusqlite::Result<u64> {
        let number = self.connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u32>(0));
        number.map(u64::from)
    }

    /// Makes a file smaller that was allowed to be larger than it is now: `SQLite` keeps no file below the pages that it
    /// has. The oldest entries go, and the rest is written anew beside it; where there is no room for that, all of it goes.
    fn within(mut self, path: &Path, limits: Limits, now: Timestamp) -> Result<Self, JournalError> {
        let pages = |file: &Self| -> rusqlite::Result<(u64, u64)> {
            Ok((file.number("page_count")?, file.pages(limits.size)?))
        };
        let (has, may) = pages(&self).map_err(|source| self.failed(source))?;
        if has <= may {
            return Ok(self);
        }
        tracing::warn!(path = %path.display(), pages = has, may, "the journal is too large: its oldest entries go");
        let stuck = |error: std::io::Error| {
            let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
            let why = format!("it is larger than its size, and cannot be made smaller: {error}");
            let source = rusqlite::Error::SqliteFailure(failure, Some(why));
            JournalError::Sqlite { path: path.display().to_string(), source }
        };
        let smaller = beside(path, ".smaller");
        remove(&smaller).map_err(stuck)?;
        let gap = match self.rewrite(&smaller, may).map_err(|source| self.failed(source)) {
            Ok(()) => {
                std::fs::rename(&smaller, path).map_err(stuck)?;
                None
            }
            Err(error) if error.is_full() => {
                let gone =
                    [smaller.as_path(), &beside(path, "-journal"), path].into_iter().try_for_each(remove);
                gone.map_err(stuck)?;
                let reason = "it was larger than its size, and there was no room to make it smaller";
                let from = now.saturating_sub(limits.age).unwrap_or(Timestamp::MIN);
                Some(Gap { from, to: now, missing: 0, reason: reason.to_owned() })
            }
            Err(error) => return Err(error),
        };
        // Until here nobody else could write into what is no longer there.
        drop(self);
        let mut file = Self::prepare(path, limits, MIGRATIONS)?;
        file.write(&[], gap.as_slice())?;
        Ok(file)
    }

    /// Lets the oldest entries go until the rest needs no more than so many pages, and writes it into another file.
    /// Nobody else writes into this one meanwhile, nor later as long as it is open.
    fn rewrite(&mut self, into: &Path, pages: u64) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        self.connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        // Some are left for what comes next: the new one is not to be full at once.
        while self.number("page_count")? - self.number("freelist_count")? > pages - pages / 10 {
            if !self.lighten()? {
                let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
                return Err(rusqlite::Error::SqliteFailure(full, None));
            }
        }
        self.connection.execute("VACUUM INTO ?", [into.display().to_string()]).map(drop)
    }

    /// Lets some of the oldest entries go, few enough that there is room for what would have to be undone. False if there
    /// were none. Gaps are small, and stay.
    fn lighten(&mut self) -> rusqlite::Result<bool> {
        let transaction = self.connection.transaction()?;
        let mut gone = 0;
        for table in ["events", "decisions"] {
            let some = format!(
                "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id
                 LIMIT (SELECT count(*) / 10 + 1 FROM {table}))"
            );
            gone += transaction.execute(&some, [])?;
        }
        transaction.commit()?;
        Ok(gone > 0)
    }

    fn version(&self) -> Result<usize, JournalError> {
        let version = self.connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        version.map(|version| version as usize).map_err(|source| self.failed(source))
    }

    fn migrate(&mut self, migrations: &[&str], version: usize) -> rusqlite::Result<()> {
        if migrations.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        migrations.iter().try_for_each(|migration| transaction.execute_batch(migration))?;
        transaction.pragma_update(None, "user_version", i64::try_from(version).unwrap_or_default())?;
        transaction.commit()
    }

    /// Puts a damaged file aside and makes a new one.
    fn renew(path: &Path, limits: Limits, now: Timestamp) -> Result<Self, JournalError> {
        let aside = put_aside(path)?;
        let mut file = Self::prepare(path, limits, MIGRATIONS)?;
        let reason = format!("the file was damaged and is now {}", aside.display());
        let from = now.saturating_sub(limits.age).unwrap_or(Timestamp::MIN);
        file.write(&[], &[Gap { from, to: now, missing: 0, reason }])?;
        Ok(file)
    }

    /// Notes who keeps it from now on, and what is missing since the one before.
    fn begin(&mut self, began: Timestamp) -> Result<(), JournalError> {
        let gap = self.since_before(began).map_err(|source| self.failed(source))?;
        self.write(&[], gap.as_slice())?;
        let sql = "INSERT OR REPLACE INTO keeper (one, began, ended) VALUES (1, ?, NULL)";
        let kept = self.connection.execute(sql, [millis(began)]);
        kept.map(drop).map_err(|source| self.failed(source))
    }

    fn since_before(&self, began: Timestamp) -> rusqlite::Result<Option<Gap>> {
        let mut keeper = self.connection.prepare("SELECT began, ended FROM keeper")?;
        let before = keeper.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).optional()?;
        let (from, reason) = match before {
            None => return Ok(None),
            Some((before, None)) if before == millis(began) => return Ok(None),
            Some((before, None)) => (self.newest()?.max(before), KILLED),
            Some((_, Some(ended))) => (ended, NOBODY),
        };
        Ok(Some(Gap { from: time_of(from), to: began, missing: 0, reason: reason.to_owned() }))
    }

    /// When the last entry was written.
    fn newest(&self) -> rusqlite::Result<i64> {
        let sql = "SELECT max(ifnull((SELECT max(time) FROM decisions), 0), ifnull((SELECT max(time) FROM events), 0))";
        self.connection.query_row(sql, [], |row| row.get(0))
    }

    /// Notes that who keeps it has written everything and goes.
    pub fn end(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let ended = self.connection.execute("UPDATE keeper SET ended = ?", params![millis(now)]);
        ended.map(drop).map_err(|source| self.failed(source))
    }
}

/// What fits into the volume: while it writes, `SQLite` needs room for what it would have to undo.
fn fitting(path: &Path, wanted: Size) -> Size {
    if path.as_os_str() == MEMORY {
        return wanted;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    let Ok(volume) = rustix::fs::statvfs(folder) else { return wanted };
    let own = std::fs::metadata(path).map_or(0, |file| file.len());
    let fits = volume.f_bavail.saturating_mul(volume.f_frsize).saturating_add(own) / 2;
    if fits >= wanted.0 {
        return wanted;
    }
    tracing::warn!(path = %path.display(), wanted = wanted.0, fits, "the volume is too small for the journal's size");
    Size(fits)
}

/// Puts a damaged file out of the way, in the place of an earlier one: they do not pile up. What was to be undone in it
/// goes with it, as it would spoil a new one.
fn put_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let stuck = |source| JournalError::Stuck { path: path.display().to_string(), source };
    let aside = beside(path, ".damaged");
    remove(&beside(path, "-journal")).and_then(|()| std::fs::rename(path, &aside)).map_err(stuck)?;
    Ok(aside)
}

/// The path of a file that belongs to the journal's.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::entry::Entry;
    use crate::journal::file::Filter;
    use crate::journal::file::tests::{ALL, at, decided, happened, rules};

    fn keeping(path: &Path) -> Keeping {
        Keeping { place: Place::File(path.to_owned()), limits: Limits::default() }
    }

    fn open(path: &Path, second: i64) -> File {
        File::open(&keeping(path), at(second), at(second)).expect("opens")
    }

    fn gaps(file: &File) -> Vec<(Timestamp, Timestamp, String)> {
        file.gaps(None).expect("reads").into_iter().map(|gap| (gap.from, gap.to, gap.reason)).collect()
    }

    fn many() -> Vec<Entry> {
        (0..500).map(|second| happened(second, json!({"n": second}))).collect()
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_the_gap_is_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let mut file = open(&path, 0);
        file.write(&many(), &[]).expect("writes");
        drop(file);
        let whole = std::fs::read(&path).expect("reads");
        for damaged in
            [&whole[..whole.len() / 2], &whole[..100], b"this was never a database, but it is long enough"]
        {
            std::fs::write(&path, damaged).expect("writes");
            std::fs::write(folder.path().join("journal.db-journal"), "what was to be undone")
                .expect("writes");
            let file = open(&path, 1000);
            let expected = format!("the file was damaged and is now {}.damaged", path.display());
            assert_eq!(gaps(&file), [(at(1000 - 7 * 24 * 3600), at(1000), expected)]);
            assert_eq!(file.events(&ALL).expect("reads"), []);
            assert_eq!(std::fs::read(folder.path().join("journal.db.damaged")).expect("reads"), damaged);
        }
    }

    #[test]
    fn an_older_schema_is_brought_up_to_date_and_a_newer_one_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        for known in 1..=MIGRATIONS.len() {
            let path = folder.path().join(format!("{known}.db"));
            let old = File::prepare(&path, Limits::default(), &MIGRATIONS[..known]).expect("opens");
            let kept = "INSERT INTO decisions VALUES (1, 1000, 'a', 'kept', 'Pod/p', '', 'Fired', '', 'x')";
            // Before they had to be different, an event could be there twice.
            let event =
                "INSERT OR IGNORE INTO events VALUES (?, 1000, 'u/1', 'events.k8s.io', 'BackOff', 'a', '{}')";
            old.connection.execute(kept, []).expect("writes");
            for id in 1..3 {
                old.connection.execute(event, [id]).expect("writes");
            }
            drop(old);
            let read = File::read(&path).expect("an older one can be read");
            assert_eq!(rules(&read, &ALL), ["kept"]);
            let mut file = open(&path, 2);
            assert_eq!(rules(&file, &ALL), ["kept"]);
            assert_eq!(file.events(&ALL).expect("reads").len(), 1, "{known}");
            file.write(&[decided("new", 2)], &[]).expect("writes");
            assert_eq!(rules(&file, &ALL), ["new", "kept"]);
        }
        let path = folder.path().join("later.db");
        let newer = [MIGRATIONS, &["CREATE TABLE later (id INTEGER)"]].concat();
        drop(File::prepare(&path, Limits::default(), &newer).expect("opens"));
        let before = std::fs::read(&path).expect("reads");
        for error in [
            File::open(&keeping(&path), at(0), at(0)).expect_err("left alone"),
            File::read(&path).expect_err("not understood"),
        ] {
            assert!(matches!(error, JournalError::Newer { found: 4, known: 3, .. }), "{error}");
        }
        assert_eq!(std::fs::read(&path).expect("reads"), before);
    }

    #[test]
    fn what_nobody_wrote_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let mut first = open(&path, 10);
        first.write(&[decided("one", 20)], &[]).expect("writes");
        let again = File::open(&keeping(&path), at(10), at(25)).expect("opens");
        assert_eq!(gaps(&again), [], "the same controller goes on");
        drop((first, again));
        let mut second = open(&path, 30);
        let killed = (at(20), at(30), KILLED.to_owned());
        assert_eq!(gaps(&second), std::slice::from_ref(&killed));
        second.end(at(40)).expect("writes");
        drop(second);
        assert_eq!(gaps(&open(&path, 50)), [(at(40), at(50), NOBODY.to_owned()), killed]);
    }

    #[test]
    fn what_a_killed_process_left_half_written_is_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, killed) = (folder.path().join("journal.db"), folder.path().join("killed"));
        let mut file = open(&path, 0);
        file.write(&many(), &[]).expect("writes");
        // So little is kept in memory that most of what follows is in the file before it is committed.
        file.connection.pragma_update(None, "cache_size", 1).expect("small");
        let open = file.connection.transaction().expect("begins");
        open.execute("UPDATE events SET data = 'half'", []).expect("writes");
        std::fs::create_dir(&killed).expect("makes");
        let left = killed.join("journal.db");
        for name in ["journal.db", "journal.db-journal"] {
            std::fs::copy(folder.path().join(name), killed.join(name)).expect("copies");
        }
        drop(open);
        let bytes = std::fs::read(&left).expect("reads");
        assert!(bytes.windows(4).any(|window| window == b"half"), "it is half written");
        let read = File::read(&left).expect("can be read").events(&ALL).expect("reads");
        assert_eq!(read.len(), 500);
        assert!(read.iter().all(|event| event.data["n"].is_number()));
    }

    /// The same journal, allowed to have so many KiB.
    fn sized(path: &Path, kib: u64) -> Keeping {
        let limits = Limits { size: Size(kib << 10), ..Limits::default() };
        Keeping { place: Place::File(path.to_owned()), limits }
    }

    /// A journal of more than 2 MiB.
    fn large(path: &Path) -> File {
        let entries: Vec<_> =
            (0..2000).map(|second| happened(second, json!({"note": "x".repeat(1000)}))).collect();
        let mut file = File::open(&sized(path, 8192), at(10), at(10)).expect("opens");
        file.write(&entries, &[]).expect("writes");
        assert!(std::fs::metadata(path).expect("is there").len() > 2 << 20);
        file
    }

    #[test]
    fn one_that_was_allowed_to_be_larger_is_made_smaller_and_keeps_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let length = || std::fs::metadata(&path).expect("is there").len();
        let mut before = large(&path);
        let gap = (at(2), at(5), "full".to_owned());
        let told = Gap { from: gap.0, to: gap.1, missing: 1, reason: gap.2.clone() };
        before.write(&[], &[told]).expect("writes");
        // What was left by one that was killed meanwhile is in nobody's way.
        std::fs::write(beside(&path, ".smaller"), "half").expect("writes");
        let mut file = File::open(&sized(&path, 512), at(10), at(10)).expect("opens");
        assert!(length() <= 512 << 10, "{}", length());
        assert_eq!(file.size().expect("says so"), length());
        assert!(!beside(&path, ".smaller").exists());
        assert_eq!(gaps(&file), [gap], "what was missing is, and the oldest go as they always do");
        let kept = file.events(&Filter { limit: 10_000, ..ALL }).expect("reads");
        assert_eq!(kept[0].time, at(1999));
        assert!(kept.len() > 200, "{}", kept.len());
        file.write(&many(), &[]).expect("writes");
        assert!(length() <= 512 << 10, "{}", length());
        // Who had it open before is told, and opens it anew.
        let error = before.write(&[decided("late", 20)], &[]).expect_err("it is another file");
        assert!(!error.is_passing(), "{error}");
        before = File::open(&sized(&path, 512), at(10), at(10)).expect("opens");
        before.write(&[decided("late", 20)], &[]).expect("writes");
        assert_eq!(rules(&file, &ALL), ["late"]);
    }

    #[test]
    fn one_that_cannot_be_made_smaller_begins_anew_with_a_gap() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let file = large(&path);
        // As it would be if there was no room to write it anew.
        let other = "CREATE TABLE other (data BLOB); INSERT INTO other VALUES (zeroblob(2000000))";
        file.connection.execute_batch(other).expect("writes");
        drop(file);
        let mut file = File::open(&sized(&path, 512), at(10), at(2000)).expect("opens");
        let expected = "it was larger than its size, and there was no room to make it smaller";
        assert_eq!(gaps(&file), [(at(2000 - 7 * 24 * 3600), at(2000), expected.to_owned())]);
        assert_eq!(file.events(&ALL).expect("reads"), []);
        assert!(file.size().expect("says so") <= 512 << 10);
        file.write(&[decided("new", 2000)], &[]).expect("writes");
        assert_eq!(rules(&file, &ALL), ["new"]);
        assert!(!beside(&path, ".smaller").exists());
    }

    #[test]
    fn a_volume_that_is_too_small_sets_the_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        assert_eq!(fitting(&path, Size(1 << 20)), Size(1 << 20));
        assert!(fitting(&path, Size(u64::MAX)) < Size(u64::MAX));
        assert_eq!(fitting(MEMORY.as_ref(), Size(u64::MAX)), Size(u64::MAX));
    }
}
