//! The journal's `SQLite` file: made, brought up to date, written, pruned and read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use super::entry::{Decision, Entry, Event, Gap};

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
];
/// The part of the oldest entries that goes when the journal is full.
const SHARE_THAT_GOES: u32 = 10;

/// Where the journal is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In memory: it ends with the process.
    Memory,
    /// In a file.
    File(PathBuf),
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Older entries go.
    pub age: SignedDuration,
    /// The size that the file never exceeds, in bytes.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { age: SignedDuration::from_hours(7 * 24), bytes: 64 << 20 }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It was written by a later fother, which may want it back.
    #[error(
        "{path} has schema {found}, this fother knows {known}: use the fother that wrote it, or another file"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// `SQLite` cannot read or write it.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: String,
        /// What `SQLite` says.
        source: rusqlite::Error,
    },
    /// A damaged file cannot be put aside.
    #[error("{path} is damaged and cannot be put aside: {source}")]
    Stuck {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl JournalError {
    fn is_damage(&self) -> bool {
        let Self::Sqlite { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

/// Which decisions to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this Rule.
    pub rule: Option<String>,
    /// About this target. Example: `Deployment/web`.
    pub target: Option<String>,
    /// Not older.
    pub since: Option<Timestamp>,
    /// So many of the newest, at the most.
    pub limit: u32,
}

/// An open journal.
#[derive(Debug)]
pub struct File {
    connection: Connection,
    name: String,
    limits: Limits,
}

impl File {
    /// Opens it or makes a new one. A damaged file is put aside, and its place noted as a gap.
    pub fn open(place: &Place, limits: Limits, now: Timestamp) -> Result<Self, JournalError> {
        let Place::File(path) = place else { return Self::prepare(":memory:".as_ref(), limits, MIGRATIONS) };
        match Self::prepare(path, limits, MIGRATIONS) {
            Err(error) if error.is_damage() => {
                let aside = put_aside(path)?;
                let mut file = Self::prepare(path, limits, MIGRATIONS)?;
                let reason = format!("the file was damaged and is now {}", aside.display());
                let (from, missing) = (now.saturating_sub(limits.age).unwrap_or(Timestamp::MIN), 0);
                file.note(&Gap { from, to: now, missing, reason })?;
                Ok(file)
            }
            other => other,
        }
    }

    /// Opens a file only to read it.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        let failed = |source| JournalError::Sqlite { path: name.clone(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        let file = Self { connection, name: name.clone(), limits: Limits::default() };
        match file.version()? {
            found if found == MIGRATIONS.len() => Ok(file),
            found => Err(JournalError::Newer { path: name, found, known: MIGRATIONS.len() }),
        }
    }

    fn prepare(path: &Path, limits: Limits, migrations: &[&str]) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        let failed = |source| JournalError::Sqlite { path: name.clone(), source };
        let connection = Connection::open(path).map_err(failed)?;
        let mut file = Self { connection, name: name.clone(), limits };
        file.configure().map_err(failed)?;
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

    fn configure(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(Duration::from_secs(5))?;
        // No WAL: it needs shared memory, which not every volume has, and people may read the file meanwhile.
        self.connection.pragma_update(None, "journal_mode", "TRUNCATE")?;
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        let page: u32 = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        // At least as much as the empty tables need.
        let pages = (self.limits.bytes / u64::from(page)).max(64);
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    fn version(&self) -> Result<usize, JournalError> {
        let version = self.connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        version.map(|version| version as usize).map_err(|source| self.failed(source))
    }

    fn migrate(&mut self, migrations: &[&str], version: usize) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        migrations.iter().try_for_each(|migration| transaction.execute_batch(migration))?;
        transaction.pragma_update(None, "user_version", i64::try_from(version).unwrap_or_default())?;
        transaction.commit()
    }

    fn failed(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.name.clone(), source }
    }

    /// Writes entries, all or none. If the journal is full, the oldest go first.
    pub fn write(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let full = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        match self.insert(entries) {
            Err(error) if full(&error) => {
                self.shrink().map_err(|source| self.failed(source))?;
                self.insert(entries).map_err(|source| self.failed(source))
            }
            other => other.map_err(|source| self.failed(source)),
        }
    }

    fn insert(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for entry in entries {
            match entry {
                Entry::Event(event) => insert_event(&transaction, event)?,
                Entry::Decision(decision) => insert_decision(&transaction, decision)?,
            }
        }
        transaction.commit()
    }

    /// Notes that something is missing.
    pub fn note(&mut self, gap: &Gap) -> Result<(), JournalError> {
        let missing = i64::try_from(gap.missing).unwrap_or(i64::MAX);
        let values = params![millis(gap.from), millis(gap.to), missing, gap.reason];
        self.connection
            .execute("INSERT INTO gaps (begin, end, missing, reason) VALUES (?, ?, ?, ?)", values)
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Lets go of what is too old.
    pub fn prune(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let oldest = millis(now.saturating_sub(self.limits.age).unwrap_or(Timestamp::MIN));
        for (table, time) in [("events", "time"), ("decisions", "time"), ("gaps", "end")] {
            self.connection
                .execute(&format!("DELETE FROM {table} WHERE {time} < ?"), [oldest])
                .map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Makes room inside the file: the oldest entries go, and their pages are used again.
    fn shrink(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for table in ["events", "decisions", "gaps"] {
            let some = format!(
                "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id
                 LIMIT (SELECT count(*) / {SHARE_THAT_GOES} + 1 FROM {table}))"
            );
            transaction.execute(&some, [])?;
        }
        transaction.commit()
    }

    /// Decisions, newest first.
    pub fn decisions(&self, filter: &Filter) -> Result<Vec<Decision>, JournalError> {
        let sql = "SELECT time, namespace, rule, target, event, outcome, reason, execution FROM decisions
             WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR rule = ?2) AND (?3 IS NULL OR target = ?3)
               AND (?4 IS NULL OR time >= ?4)
             ORDER BY id DESC LIMIT ?5";
        let since = filter.since.map(millis);
        let values = params![filter.namespace, filter.rule, filter.target, since, filter.limit];
        self.rows(sql, values, decision)
    }

    /// Events, newest first.
    pub fn events(&self, limit: u32) -> Result<Vec<Event>, JournalError> {
        let sql = "SELECT time, event, source, type, namespace, data FROM events ORDER BY id DESC LIMIT ?1";
        self.rows(sql, params![limit], event)
    }

    /// The times of which something is missing, newest first.
    pub fn gaps(&self) -> Result<Vec<Gap>, JournalError> {
        let sql = "SELECT begin, end, missing, reason FROM gaps ORDER BY id DESC LIMIT 100";
        self.rows(sql, params![], gap)
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
        of: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let read = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(values, of)?.collect()
        };
        read().map_err(|source| self.failed(source))
    }
}

fn insert_event(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events (time, event, source, type, namespace, data) VALUES (?, ?, ?, ?, ?, ?)";
    let Event { time, id, source, event_type, namespace, data } = event;
    let values = params![millis(*time), id, source, event_type, namespace, data.to_string()];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn insert_decision(connection: &Connection, decision: &Decision) -> rusqlite::Result<()> {
    let sql = "INSERT INTO decisions (time, namespace, rule, target, event, outcome, reason, execution)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let Decision { time, namespace, rule, target, event, outcome, reason, execution } = decision;
    let values =
        params![millis(*time), namespace, rule, target, event, outcome.to_string(), reason, execution];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn decision(row: &Row<'_>) -> rusqlite::Result<Decision> {
    Ok(Decision {
        time: time(row, 0)?,
        namespace: row.get(1)?,
        rule: row.get(2)?,
        target: row.get(3)?,
        event: row.get(4)?,
        outcome: parsed(row, 5)?,
        reason: row.get(6)?,
        execution: row.get(7)?,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        time: time(row, 0)?,
        id: row.get(1)?,
        source: row.get(2)?,
        event_type: row.get(3)?,
        namespace: row.get(4)?,
        data: parsed(row, 5)?,
    })
}

fn gap(row: &Row<'_>) -> rusqlite::Result<Gap> {
    let missing: i64 = row.get(2)?;
    let missing = u64::try_from(missing).unwrap_or_default();
    Ok(Gap { from: time(row, 0)?, to: time(row, 1)?, missing, reason: row.get(3)? })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let millis: i64 = row.get(column)?;
    Timestamp::from_millisecond(millis).map_err(|error| unreadable(column, &error))
}

fn parsed<T: std::str::FromStr<Err: ToString>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| unreadable(column, &error))
}

fn unreadable(column: usize, error: &impl ToString) -> rusqlite::Error {
    let error = std::io::Error::other(error.to_string());
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// Puts a damaged file out of the way, in the place of an earlier one: they do not pile up.
fn put_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    std::fs::rename(path, &aside)
        .map_err(|source| JournalError::Stuck { path: path.display().to_string(), source })?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Outcome;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn decided(rule: &str, second: i64) -> Entry {
        Entry::Decision(Decision {
            time: at(second),
            namespace: "a".into(),
            rule: rule.into(),
            target: "Deployment/web".into(),
            event: String::new(),
            outcome: Outcome::Held,
            reason: "Cooldown".into(),
            execution: String::new(),
        })
    }

    fn happened(second: i64, data: serde_json::Value) -> Entry {
        Entry::Event(Event {
            time: at(second),
            id: format!("u/{second}"),
            source: "events.k8s.io".into(),
            event_type: "FailedMount".into(),
            namespace: "a".into(),
            data,
        })
    }

    fn memory(limits: Limits) -> File {
        File::open(&Place::Memory, limits, at(0)).expect("opens")
    }

    fn rules(file: &File, filter: &Filter) -> Vec<String> {
        file.decisions(filter).expect("reads").into_iter().map(|decision| decision.rule).collect()
    }

    const ALL: Filter = Filter { namespace: None, rule: None, target: None, since: None, limit: 1000 };

    #[test]
    fn what_is_written_is_read() {
        let mut file = memory(Limits::default());
        let event = happened(1, json!({"note": "disk"}));
        file.write(&[event.clone(), decided("one", 2), decided("two", 3)]).expect("writes");
        assert_eq!(
            file.events(10).expect("reads").into_iter().map(Entry::Event).collect::<Vec<_>>(),
            [event]
        );
        assert_eq!(rules(&file, &ALL), ["two", "one"]);
        for (filter, expected) in [
            (Filter { rule: Some("one".into()), ..ALL }, vec!["one"]),
            (Filter { target: Some("Deployment/web".into()), limit: 1, ..ALL }, vec!["two"]),
            (Filter { since: Some(at(3)), ..ALL }, vec!["two"]),
            (Filter { namespace: Some("b".into()), ..ALL }, vec![]),
        ] {
            assert_eq!(rules(&file, &filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn the_old_goes() {
        let mut file = memory(Limits { age: SignedDuration::from_secs(10), ..Limits::default() });
        file.write(&[decided("old", 1), decided("new", 5)]).expect("writes");
        file.prune(at(12)).expect("prunes");
        assert_eq!(rules(&file, &ALL), ["new"]);
    }

    #[test]
    fn it_never_grows_beyond_its_size_and_keeps_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let limits = Limits { bytes: 512 << 10, ..Limits::default() };
        let mut file = File::open(&Place::File(path.clone()), limits, at(0)).expect("opens");
        let data = json!({"note": "x".repeat(1000)});
        for batch in 0..40 {
            let entries: Vec<_> = (0..50).map(|n| happened(batch * 50 + n, data.clone())).collect();
            file.write(&entries).expect("writes");
        }
        let size = std::fs::metadata(&path).expect("is there").len();
        assert!(size <= limits.bytes, "{size}");
        assert_eq!(file.events(1).expect("reads")[0].time, at(1_999));
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_the_gap_is_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let place = Place::File(path.clone());
        let mut file = File::open(&place, Limits::default(), at(0)).expect("opens");
        let entries: Vec<_> = (0..500).map(|second| happened(second, json!({"n": second}))).collect();
        file.write(&entries).expect("writes");
        drop(file);
        let whole = std::fs::read(&path).expect("reads");
        for damaged in
            [&whole[..whole.len() / 2], &whole[..100], b"this was never a database, but it is long enough"]
        {
            std::fs::write(&path, damaged).expect("writes");
            let file = File::open(&place, Limits::default(), at(1000)).expect("opens anew");
            let gaps = file.gaps().expect("reads");
            assert!(gaps[0].reason.starts_with("the file was damaged and is now "), "{gaps:?}");
            assert_eq!(file.events(10).expect("reads"), []);
        }
    }

    #[test]
    fn an_older_schema_is_brought_up_to_date_and_a_newer_one_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let mut old = File::prepare(&path, Limits::default(), &MIGRATIONS[..1]).expect("opens");
        old.write(&[decided("kept", 1)]).expect("writes");
        drop(old);
        let file = File::open(&Place::File(path.clone()), Limits::default(), at(0)).expect("opens");
        assert_eq!(rules(&file, &ALL), ["kept"]);
        drop(file);
        let newer = [MIGRATIONS, &["CREATE TABLE later (id INTEGER)"]].concat();
        drop(File::prepare(&path, Limits::default(), &newer).expect("opens"));
        let error = File::open(&Place::File(path), Limits::default(), at(0)).expect_err("left alone");
        assert!(matches!(error, JournalError::Newer { found: 3, known: 2, .. }), "{error}");
    }
}
