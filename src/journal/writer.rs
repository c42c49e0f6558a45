//! The thread that writes the journal, so that nobody who decides waits for a disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use super::entry::{Entry, Gap};
use super::file::{File, JournalError, Limits, Place};

/// Entries that wait to be written, at the most; what does not fit is dropped and counted.
const WAITING: usize = 10_000;
/// Entries that are written at once, at the most.
const BATCH: usize = 500;
/// How long the thread waits for entries before it looks at the rest of its work.
const PAUSE: Duration = Duration::from_secs(1);
/// How often old entries are let go.
const PRUNE_EVERY: i64 = 60;

/// How the journal stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Entries that were written.
    pub written: u64,
    /// Entries that are missing: the disk was full, or they came too fast.
    pub missing: u64,
    /// Why nothing is written at the moment, or why it is kept in memory only.
    pub trouble: Option<String>,
}

/// A journal that is written in the background. Clones write into the same one.
#[derive(Clone, Debug)]
pub struct Journal {
    sender: SyncSender<Message>,
    health: Arc<Mutex<Health>>,
}

#[derive(Debug)]
enum Message {
    Entry(Box<Entry>),
    Flush(SyncSender<()>),
}

impl Journal {
    /// Opens it and starts its thread. If it cannot be opened, the journal is kept in memory, and says so: an
    /// explanation that is missing is no reason to leave a leak open.
    pub fn open(place: &Place, limits: Limits, clock: fn() -> Timestamp) -> Result<Self, JournalError> {
        let (file, trouble) = match File::open(place, limits, clock()) {
            Ok(file) => (file, None),
            Err(error) => {
                tracing::error!(%error, "the journal is kept in memory only");
                let trouble = format!("kept in memory only: {error}");
                (File::open(&Place::Memory, limits, clock())?, Some(trouble))
            }
        };
        let (sender, receiver) = sync_channel(WAITING);
        let health = Arc::new(Mutex::new(Health { trouble, ..Health::default() }));
        let writer = Writer { file, health: health.clone(), clock, pruned: clock(), gap: None };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| JournalError::Stuck { path: "the journal's thread".to_owned(), source })?;
        Ok(Self { sender, health })
    }

    /// Remembers an entry. Never waits: if too many wait already, it is dropped and counted.
    pub fn record(&self, entry: Entry) {
        if self.sender.try_send(Message::Entry(Box::new(entry))).is_err() {
            self.health.lock().missing += 1;
        }
    }

    /// Waits until what was recorded so far is written, or could not be, and for no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }

    /// How it stands.
    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }
}

struct Writer {
    file: File,
    health: Arc<Mutex<Health>>,
    clock: fn() -> Timestamp,
    pruned: Timestamp,
    /// What could not be written and is still to be noted.
    gap: Option<Gap>,
}

impl Writer {
    /// Writes until nobody records any more.
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let (mut entries, mut waiting) = (Vec::new(), Vec::new());
            match receiver.recv_timeout(PAUSE) {
                Ok(message) => sort(message, &mut entries, &mut waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while entries.len() < BATCH
                && let Ok(message) = receiver.try_recv()
            {
                sort(message, &mut entries, &mut waiting);
            }
            self.write(&entries);
            self.prune();
            drop(waiting);
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        if entries.is_empty() && self.gap.is_none() {
            return;
        }
        let count = entries.len() as u64;
        let written = self.file.write(entries).and_then(|()| self.close_gap());
        let now = (self.clock)();
        let mut health = self.health.lock();
        match written {
            Ok(()) => {
                health.written += count;
                if health.trouble.as_ref().is_some_and(|trouble| trouble.starts_with(FAILED)) {
                    health.trouble = None;
                }
            }
            Err(error) => {
                health.missing += count;
                let reason = format!("{FAILED}: {error}");
                if health.trouble.replace(reason.clone()).is_none_or(|known| known != reason) {
                    tracing::error!(%error, "the journal cannot be written; fother goes on without it");
                }
                let gap = self.gap.get_or_insert(Gap { from: now, to: now, missing: 0, reason });
                gap.to = now;
                gap.missing += count;
            }
        }
    }

    fn close_gap(&mut self) -> Result<(), JournalError> {
        if let Some(gap) = &self.gap {
            self.file.note(gap)?;
            self.gap = None;
        }
        Ok(())
    }

    fn prune(&mut self) {
        let now = (self.clock)();
        if now.as_second() - self.pruned.as_second() < PRUNE_EVERY {
            return;
        }
        self.pruned = now;
        if let Err(error) = self.file.prune(now) {
            tracing::warn!(%error, "old entries of the journal stay");
        }
    }
}

/// How the trouble begins that the next write may end.
const FAILED: &str = "cannot be written";

fn sort(message: Message, entries: &mut Vec<Entry>, waiting: &mut Vec<SyncSender<()>>) {
    match message {
        Message::Entry(entry) => entries.push(*entry),
        // Dropped once the entries before it are written, which wakes who waits.
        Message::Flush(done) => waiting.push(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Decision, Filter, Outcome};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn decided(rule: &str) -> Entry {
        Entry::Decision(Decision {
            time: Timestamp::UNIX_EPOCH,
            namespace: "a".into(),
            rule: rule.into(),
            target: "Deployment/web".into(),
            event: String::new(),
            outcome: Outcome::Fired,
            reason: String::new(),
            execution: "x".into(),
        })
    }

    fn open(path: &std::path::Path) -> Journal {
        let place = Place::File(path.to_owned());
        let limits = Limits { age: k8s_openapi::jiff::SignedDuration::MAX, ..Limits::default() };
        Journal::open(&place, limits, || Timestamp::UNIX_EPOCH).expect("opens")
    }

    #[test]
    fn what_is_recorded_is_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = open(&path);
        ["one", "two"].iter().for_each(|rule| journal.record(decided(rule)));
        journal.flush(PATIENCE);
        assert_eq!(journal.health(), Health { written: 2, missing: 0, trouble: None });
        let read = File::read(&path).expect("opens").decisions(&Filter { limit: 10, ..Filter::default() });
        assert_eq!(read.expect("reads").len(), 2);
    }

    #[test]
    fn a_place_that_cannot_be_written_leaves_a_journal_in_memory_that_says_so() {
        let journal = open("/dev/null/journal.db".as_ref());
        journal.record(decided("one"));
        journal.flush(PATIENCE);
        let health = journal.health();
        assert_eq!(health.written, 1);
        assert!(health.trouble.expect("says so").starts_with("kept in memory only: /dev/null/journal.db: "));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_trouble_until_it_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = open(&path);
        let other = rusqlite::Connection::open(&path).expect("opens");
        let hide = "ALTER TABLE decisions RENAME TO hidden; ALTER TABLE gaps RENAME TO hidden_gaps";
        other.execute_batch(hide).expect("renames");
        journal.record(decided("lost"));
        journal.flush(PATIENCE);
        let health = journal.health();
        assert_eq!((health.written, health.missing), (0, 1));
        assert!(health.trouble.expect("says so").starts_with(FAILED));
        let show = "ALTER TABLE hidden RENAME TO decisions; ALTER TABLE hidden_gaps RENAME TO gaps";
        other.execute_batch(show).expect("renames");
        journal.record(decided("kept"));
        journal.flush(PATIENCE);
        assert_eq!(journal.health(), Health { written: 1, missing: 1, trouble: None });
        let gaps = File::read(&path).expect("opens").gaps().expect("reads");
        assert_eq!((gaps.len(), gaps[0].missing), (1, 1));
    }
}
