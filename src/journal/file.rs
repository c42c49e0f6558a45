//! The journal's `SQLite` file: written, pruned and read.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, params};

use super::entry::{Decision, EVENTS, Entry, Event, Gap, OBJECTS};
use super::error::JournalError;
use super::redact::{redact, scrub};

/// The part of the oldest entries that goes when the journal is full.
const SHARE_THAT_GOES: u32 = 10;

/// Which decisions are meant: of a namespace (?1) and a Rule (?2), about a target (?3), whose kind may be in any case.
const MEANT: &str = "(?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR rule = ?2)
    AND (?3 IS NULL OR (target = ?3 COLLATE NOCASE
        AND substr(target, instr(target, '/')) = substr(?3, instr(?3, '/'))))";

/// Which decisions to read, or which events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of Rules in this namespace.
    pub namespace: Option<String>,
    /// Of this Rule.
    pub rule: Option<String>,
    /// About this target. Example: `Deployment/web`; its kind may be in any case.
    pub target: Option<String>,
    /// Not older.
    pub since: Option<Timestamp>,
    /// So many of the newest, at the most.
    pub limit: u32,
}

/// An open journal.
#[derive(Debug)]
pub struct File {
    pub(super) connection: Connection,
    pub(super) name: String,
}

impl File {
    pub(super) fn failed(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.name.clone(), source }
    }

    /// Writes entries and what is missing before them, without secrets. If the journal is full, the oldest go first; and
    /// what does not fit at once is written in parts.
    pub fn write(&mut self, entries: &[Entry], gaps: &[Gap]) -> Result<(), JournalError> {
        let Err(error) = self.insert(entries, gaps) else { return Ok(()) };
        if !error.is_full() {
            return Err(error);
        }
        self.shrink().map_err(|source| self.failed(source))?;
        match self.insert(entries, gaps) {
            Err(error) if error.is_full() && entries.len() > 1 => {
                let (older, newer) = entries.split_at(entries.len() / 2);
                self.write(older, gaps)?;
                self.write(newer, &[])
            }
            other => other,
        }
    }

    /// All or nothing.
    fn insert(&mut self, entries: &[Entry], gaps: &[Gap]) -> Result<(), JournalError> {
        let insert = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            gaps.iter().try_for_each(|gap| insert_gap(&transaction, gap))?;
            for entry in entries {
                match entry {
                    Entry::Event(event) => insert_event(&transaction, event)?,
                    Entry::Decision(decision) => insert_decision(&transaction, decision)?,
                }
            }
            transaction.commit()
        };
        insert(&mut self.connection).map_err(|source| self.failed(source))
    }

    /// Lets go of what is older than the age.
    pub fn prune(&mut self, age: SignedDuration, now: Timestamp) -> Result<(), JournalError> {
        let oldest = millis(now.saturating_sub(age).unwrap_or(Timestamp::MIN));
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

    /// How large it is, in bytes.
    pub fn size(&self) -> Result<u64, JournalError> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let size: i64 =
            self.connection.query_row(sql, [], |row| row.get(0)).map_err(|source| self.failed(source))?;
        Ok(u64::try_from(size).unwrap_or_default())
    }

    /// Decisions, newest first.
    pub fn decisions(&self, filter: &Filter) -> Result<Vec<Decision>, JournalError> {
        let sql = format!(
            "SELECT time, namespace, rule, target, event, outcome, reason, execution FROM decisions
             WHERE {MEANT} AND (?4 IS NULL OR time >= ?4) ORDER BY id DESC LIMIT ?5"
        );
        self.filtered(&sql, filter, decision)
    }

    /// Events, newest first. They know of no Rule and of no target: they are those that such decisions name, whenever these were
    /// made, and of a namespace also its own.
    pub fn events(&self, filter: &Filter) -> Result<Vec<Event>, JournalError> {
        // What has a UID in its name is told from all others, and may be of another namespace than the Rule, or of none. The
        // same alert may have been received in several namespaces.
        let sql = format!(
            "WITH named AS (SELECT DISTINCT namespace, event FROM decisions WHERE {MEANT})
             SELECT time, event, source, type, namespace, data FROM events
             WHERE (?4 IS NULL OR time >= ?4)
               AND ((?2 IS NULL AND ?3 IS NULL AND (?1 IS NULL OR namespace = ?1))
                 OR (namespace, event) IN (SELECT namespace, event FROM named)
                 OR (source IN ('{OBJECTS}', '{EVENTS}') AND event IN (SELECT event FROM named)))
             ORDER BY id DESC LIMIT ?5"
        );
        self.filtered(&sql, filter, event)
    }

    fn filtered<T>(
        &self,
        sql: &str,
        filter: &Filter,
        of: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let since = filter.since.map(millis);
        let values = params![filter.namespace, filter.rule, filter.target, since, filter.limit];
        self.rows(sql, values, of)
    }

    /// The times of which something is missing, newest first.
    pub fn gaps(&self, since: Option<Timestamp>) -> Result<Vec<Gap>, JournalError> {
        let sql = "SELECT begin, end, missing, reason FROM gaps WHERE (?1 IS NULL OR end >= ?1)
             ORDER BY id DESC LIMIT 100";
        self.rows(sql, params![since.map(millis)], gap)
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

/// The same event again says nothing new.
fn insert_event(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR IGNORE INTO events (time, event, source, type, namespace, data) VALUES (?, ?, ?, ?, ?, ?)";
    let Event { time, id, source, event_type, namespace, data } = event;
    let values = params![millis(*time), id, source, event_type, namespace, redact(data).to_string()];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn insert_decision(connection: &Connection, decision: &Decision) -> rusqlite::Result<()> {
    let sql = "INSERT INTO decisions (time, namespace, rule, target, event, outcome, reason, execution)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let Decision { time, namespace, rule, target, event, outcome, reason, execution } = decision;
    let (outcome, reason) = (outcome.to_string(), scrub(reason));
    let values = params![millis(*time), namespace, rule, target, event, outcome, reason, execution];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn insert_gap(connection: &Connection, gap: &Gap) -> rusqlite::Result<()> {
    let sql = "INSERT INTO gaps (begin, end, missing, reason) VALUES (?, ?, ?, ?)";
    let missing = i64::try_from(gap.missing).unwrap_or(i64::MAX);
    let values = params![millis(gap.from), millis(gap.to), missing, gap.reason];
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
        data: Arc::new(parsed(row, 5)?),
    })
}

fn gap(row: &Row<'_>) -> rusqlite::Result<Gap> {
    let missing: i64 = row.get(2)?;
    let missing = u64::try_from(missing).unwrap_or_default();
    Ok(Gap { from: time(row, 0)?, to: time(row, 1)?, missing, reason: row.get(3)? })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(time_of)
}

fn parsed<T: std::str::FromStr<Err: ToString>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| {
        let error = std::io::Error::other(error.to_string());
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(super) fn time_of(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::{Keeping, Limits, Outcome, Place, Size};

    pub const ALL: Filter = Filter { namespace: None, rule: None, target: None, since: None, limit: 1000 };

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    pub fn decided(rule: &str, second: i64) -> Entry {
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

    pub fn happened(second: i64, data: serde_json::Value) -> Entry {
        Entry::Event(Event {
            time: at(second),
            id: format!("u/{second}"),
            source: "events.k8s.io".into(),
            event_type: "FailedMount".into(),
            namespace: "a".into(),
            data: Arc::new(data),
        })
    }

    pub fn rules(file: &File, filter: &Filter) -> Vec<String> {
        file.decisions(filter).expect("reads").into_iter().map(|decision| decision.rule).collect()
    }

    fn open(place: Place, size: Size) -> File {
        let limits = Limits { size, ..Limits::default() };
        File::open(&Keeping { place, limits }, at(0), at(0)).expect("opens")
    }

    fn memory() -> File {
        open(Place::Memory, Limits::default().size)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut file = memory();
        let event = happened(1, json!({"note": "disk"}));
        let again = happened(1, json!({"note": "the same once more"}));
        file.write(&[event.clone(), decided("one", 2), again, decided("two", 3)], &[]).expect("writes");
        assert_eq!(
            file.events(&ALL).expect("reads").into_iter().map(Entry::Event).collect::<Vec<_>>(),
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
    fn the_kind_of_a_target_is_found_in_any_case_and_its_name_as_it_is() {
        let mut file = memory();
        let about = |target: &str| {
            let Entry::Decision(decided) = decided("one", 1) else { unreachable!("it is one") };
            Entry::Decision(Decision { target: target.to_owned(), ..decided })
        };
        let targets = ["Deployment/web", "Deployment/Web", "Key/rack/7", "Key/RACK/7", ""];
        file.write(&targets.map(about), &[]).expect("writes");
        for (target, expected) in [
            ("Deployment/web", vec!["Deployment/web"]),
            ("deployment/web", vec!["Deployment/web"]),
            ("DEPLOYMENT/Web", vec!["Deployment/Web"]),
            ("Deployment/WEB", vec![]),
            ("key/rack/7", vec!["Key/rack/7"]),
            ("StatefulSet/web", vec![]),
            ("web", vec![]),
        ] {
            let found = file.decisions(&Filter { target: Some(target.to_owned()), ..ALL }).expect("reads");
            let found: Vec<_> = found.iter().map(|decision| decision.target.as_str()).collect();
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn events_are_those_that_decisions_name() {
        let mut file = memory();
        let event = |second: i64, (source, namespace): (&str, &str), id: &str| {
            let Entry::Event(happened) = happened(second, json!({})) else { unreachable!("it is one") };
            let (source, namespace) = (source.to_owned(), namespace.to_owned());
            Entry::Event(Event { id: id.to_owned(), source, namespace, ..happened })
        };
        let about = |rule: &str, namespace: &str, target: &str, event: &str| {
            let Entry::Decision(decided) = decided(rule, 9) else { unreachable!("it is one") };
            let (target, event) = (target.to_owned(), event.to_owned());
            Entry::Decision(Decision { namespace: namespace.to_owned(), target, event, ..decided })
        };
        let entries = [
            event(1, (OBJECTS, ""), "node/1"),
            event(2, (EVENTS, "default"), "event/2"),
            event(3, ("webhook/am", "a"), "am 3"),
            event(4, ("webhook/am", "b"), "am 3"),
            event(5, ("webhook/am", "a"), "am 5"),
            about("nodes", "a", "Node/n", "node/1"),
            about("nodes", "a", "Node/m", "event/2"),
            about("alerts", "a", "", "am 3"),
            about("alerts", "b", "Node/n", "am 3"),
            // The state of an object has no event.
            about("states", "a", "Node/n", ""),
        ];
        file.write(&entries, &[]).expect("writes");
        let some = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (ALL, vec![5, 4, 3, 2, 1]),
            (Filter { limit: 2, ..ALL }, vec![5, 4]),
            (Filter { since: Some(at(4)), ..ALL }, vec![5, 4]),
            (Filter { namespace: some("a"), ..ALL }, vec![5, 3, 2, 1]),
            (Filter { namespace: some("b"), ..ALL }, vec![4]),
            (Filter { rule: some("nodes"), ..ALL }, vec![2, 1]),
            (Filter { rule: some("nodes"), since: Some(at(2)), ..ALL }, vec![2]),
            (Filter { rule: some("alerts"), ..ALL }, vec![4, 3]),
            (Filter { rule: some("alerts"), namespace: some("a"), ..ALL }, vec![3]),
            (Filter { target: some("node/n"), ..ALL }, vec![4, 1]),
            (Filter { rule: some("nodes"), target: some("Node/m"), ..ALL }, vec![2]),
            (Filter { rule: some("states"), ..ALL }, vec![]),
        ] {
            let found = file.events(&filter).expect("reads");
            let found: Vec<_> = found.iter().map(|event| event.time.as_second()).collect();
            assert_eq!(found, expected, "{filter:?}");
        }
    }

    #[test]
    fn the_old_goes() {
        let mut file = memory();
        let gap = |second| Gap { from: at(0), to: at(second), missing: 1, reason: "full".into() };
        file.write(&[happened(1, json!({})), decided("old", 1), decided("new", 5)], &[gap(1), gap(5)])
            .expect("writes");
        file.prune(SignedDuration::from_secs(10), at(12)).expect("prunes");
        assert_eq!(rules(&file, &ALL), ["new"]);
        assert_eq!(file.events(&ALL).expect("reads"), []);
        assert_eq!(file.gaps(None).expect("reads"), [gap(5)]);
        assert_eq!(file.gaps(Some(at(6))).expect("reads"), []);
    }

    #[test]
    fn it_never_grows_beyond_its_size_and_keeps_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let limit = Size(512 << 10);
        let mut file = open(Place::File(path.clone()), limit);
        let data = json!({"note": "x".repeat(1000)});
        // The last ones are more than fit at once.
        for (first, count) in [(0, 50), (50, 50), (100, 300), (400, 1_600)] {
            let entries: Vec<_> = (first..first + count).map(|n| happened(n, data.clone())).collect();
            file.write(&entries, &[]).expect("writes");
        }
        let size = std::fs::metadata(&path).expect("is there").len();
        assert!(size <= limit.0 && size == file.size().expect("says so"), "{size}");
        let kept = file.events(&Filter { limit: 10_000, ..ALL }).expect("reads");
        assert_eq!(kept[0].time, at(1_999));
        assert!(kept.len() > 200, "{}", kept.len());
    }

    #[test]
    fn no_secret_reaches_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let mut file = open(Place::File(path.clone()), Limits::default().size);
        let secret = json!({"kind": "Secret", "data": {"password": "canary"}});
        let Entry::Decision(decided) = decided("one", 2) else { unreachable!("it is one") };
        let reason = "GET https://user:canary@host/: Authorization: Bearer canary.canary".to_owned();
        file.write(&[happened(1, secret), Entry::Decision(Decision { reason, ..decided })], &[])
            .expect("writes");
        let bytes = std::fs::read(&path).expect("reads");
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        assert!(bytes.windows(6).any(|window| window == b"Secret"));
    }
}
