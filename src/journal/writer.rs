//! The thread that writes the journal, so that nobody who decides waits for a disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use super::entry::{Entry, Gap};
use super::file::File;
use super::place::Place;
use super::schema::Keeping;

/// Entries that wait to be written, at the most; what does not fit is dropped and counted. Most are well below a KiB, so
/// that a flood takes a few MiB.
const WAITING: usize = 4096;
/// Entries that are written at once, at the most.
const BATCH: usize = 500;
/// How long the thread waits for entries before it looks at the rest of its work.
const PAUSE: Duration = Duration::from_secs(1);
/// How often old entries are let go.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How long a file that cannot be used is left alone: opening it reads all of it.
const AGAIN: Duration = Duration::from_secs(2);
/// Gaps that wait to be noted, at the most; what is missing beyond them counts for the last one.
const GAPS: usize = 16;
/// Why entries are missing that came too fast.
const TOO_FAST: &str = "more came than could be written";

/// How the journal stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Entries that were written.
    pub written: u64,
    /// Entries that could not be.
    pub failed: u64,
    /// Entries that came too fast.
    pub dropped: u64,
    /// Its size, in bytes.
    pub size: u64,
    /// Why nothing is written at the moment.
    pub trouble: Option<String>,
}

/// A journal that is written in the background. Clones write into the same one.
#[derive(Clone, Debug)]
pub struct Journal {
    sender: SyncSender<Message>,
    health: Arc<Mutex<Health>>,
}

/// Asked of the file, if it is open.
type Question = Box<dyn FnOnce(Option<&File>) + Send>;

enum Message {
    Entry(Box<Entry>),
    Ask(Question),
    Close(SyncSender<()>),
}

impl Journal {
    /// Starts its thread, which opens it. If that fails it is tried again for as long as the journal is kept: an
    /// explanation that is missing is no reason to leave a leak open.
    pub fn start(keeping: Keeping, clock: fn() -> Timestamp) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let health = Arc::new(Mutex::new(Health::default()));
        let writer = Writer {
            keeping,
            clock,
            health: health.clone(),
            file: None,
            began: clock(),
            tried: None,
            pruned: Instant::now(),
            turned: clock(),
            told: 0,
            gaps: Vec::new(),
        };
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(receiver))?;
        Ok(Self { sender, health })
    }

    /// Remembers an entry. Never waits: if too many wait already, it is dropped and counted.
    pub fn record(&self, entry: Entry) {
        if self.sender.try_send(Message::Entry(Box::new(entry))).is_err() {
            self.health.lock().dropped += 1;
        }
    }

    /// Reads what was recorded so far. None if it is not open, or not answered in time.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&File) -> T + Send + 'static,
        patience: Duration,
    ) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        let ask = move |file: Option<&File>| drop(answer.send(file.map(question)));
        self.sender.try_send(Message::Ask(Box::new(ask))).ok()?;
        answered.recv_timeout(patience).ok().flatten()
    }

    /// Ends it in order: waits until what was recorded is written, or could not be, and for no longer than `patience`.
    pub fn close(&self, patience: Duration) {
        let (done, closed) = sync_channel(1);
        // A queue that is full at the very end is one that nobody empties.
        if self.sender.try_send(Message::Close(done)).is_ok() {
            let _ = closed.recv_timeout(patience);
        }
    }

    /// How it stands.
    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }
}

/// What one turn of the thread has to do.
#[derive(Default)]
struct Turn {
    entries: Vec<Entry>,
    questions: Vec<Question>,
    closing: Option<SyncSender<()>>,
}

impl Turn {
    /// What waits; none if nobody can record any more.
    fn next(receiver: &Receiver<Message>) -> Option<Self> {
        let mut turn = Self::default();
        match receiver.recv_timeout(PAUSE) {
            Ok(message) => turn.add(message),
            Err(RecvTimeoutError::Timeout) => return Some(turn),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        while turn.entries.len() < BATCH
            && turn.closing.is_none()
            && let Ok(message) = receiver.try_recv()
        {
            turn.add(message);
        }
        Some(turn)
    }

    fn add(&mut self, message: Message) {
        match message {
            Message::Entry(entry) => self.entries.push(*entry),
            Message::Ask(question) => self.questions.push(question),
            Message::Close(done) => self.closing = Some(done),
        }
    }
}

struct Writer {
    keeping: Keeping,
    clock: fn() -> Timestamp,
    health: Arc<Mutex<Health>>,
    /// None while it cannot be used.
    file: Option<File>,
    /// Since when it is kept.
    began: Timestamp,
    /// When opening it was last tried.
    tried: Option<Instant>,
    pruned: Instant,
    /// When the turn before ended.
    turned: Timestamp,
    /// Dropped entries of which is known that they are missing.
    told: u64,
    /// What is missing and not noted yet.
    gaps: Vec<Gap>,
}

impl Writer {
    /// Writes until it is closed, or nobody can record any more.
    fn run(mut self, receiver: Receiver<Message>) {
        self.open();
        while let Some(turn) = Turn::next(&receiver) {
            self.open();
            self.notice_dropped();
            self.write(&turn.entries);
            self.prune();
            self.turned = (self.clock)();
            turn.questions.into_iter().for_each(|question| question(self.file.as_ref()));
            if let Some(done) = turn.closing {
                self.end();
                // What comes from now on is dropped. Whoever waited may have gone.
                drop(receiver);
                let _ = done.send(());
                return;
            }
        }
        self.end();
    }

    fn open(&mut self) {
        if self.file.is_some() || self.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return;
        }
        self.tried = Some(Instant::now());
        match File::open(&self.keeping, self.began, (self.clock)()) {
            Ok(file) => {
                self.health.lock().trouble = None;
                self.file = Some(file);
            }
            Err(error) => self.trouble(&error.to_string()),
        }
    }

    fn notice_dropped(&mut self) {
        let dropped = self.health.lock().dropped;
        if dropped > self.told {
            self.miss(dropped - self.told, TOO_FAST.to_owned());
            self.told = dropped;
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        if entries.is_empty() && self.gaps.is_empty() {
            return;
        }
        let count = entries.len() as u64;
        let Some(file) = &mut self.file else {
            let why = self.health.lock().trouble.clone().unwrap_or_default();
            return self.fail(count, why);
        };
        match file.write(entries, &self.gaps) {
            Ok(()) => {
                self.gaps.clear();
                let size = file.size().unwrap_or_default();
                let mut health = self.health.lock();
                (health.written, health.size) = (health.written + count, size);
                if health.trouble.take().is_some() {
                    tracing::info!("the journal is written again");
                }
            }
            Err(error) => {
                if !error.is_passing() {
                    self.file = None;
                }
                self.fail(count, error.to_string());
            }
        }
    }

    fn fail(&mut self, count: u64, why: String) {
        self.trouble(&why);
        self.health.lock().failed += count;
        if count > 0 {
            self.miss(count, why);
        }
    }

    /// Says what is in the way, once.
    fn trouble(&self, why: &str) {
        let before = self.health.lock().trouble.replace(why.to_owned());
        if before.is_none_or(|before| before != why) {
            tracing::error!(why, "the journal cannot be written; fother goes on without it");
        }
    }

    fn miss(&mut self, missing: u64, reason: String) {
        let (from, to, full) = (self.turned, (self.clock)(), self.gaps.len() >= GAPS);
        match self.gaps.last_mut().filter(|gap| full || gap.reason == reason) {
            Some(gap) => (gap.to, gap.missing) = (to, gap.missing + missing),
            None => self.gaps.push(Gap { from, to, missing, reason }),
        }
    }

    fn prune(&mut self) {
        if self.pruned.elapsed() < PRUNE_EVERY {
            return;
        }
        self.pruned = Instant::now();
        // Where it was taken away, what is written goes nowhere.
        if let Place::File(path) = &self.keeping.place
            && self.file.is_some()
            && !path.exists()
        {
            self.file = None;
            return self.miss(0, format!("{} was taken away", path.display()));
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.prune(self.keeping.limits.age, (self.clock)())
        {
            tracing::warn!(%error, "old entries of the journal stay");
        }
    }

    fn end(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.end((self.clock)())
        {
            tracing::warn!(%error, "the journal does not say that it ended in order");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::journal::file::tests::{ALL, decided, rules};
    use crate::journal::{Filter, Limits, Size};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(place: Place, limits: Limits) -> Journal {
        Journal::start(Keeping { place, limits }, || Timestamp::UNIX_EPOCH).expect("starts")
    }

    fn open(path: &Path) -> Journal {
        start(Place::File(path.to_owned()), Limits::default())
    }

    fn flushed(journal: &Journal) -> Health {
        journal.ask(|_| (), PATIENCE);
        journal.health()
    }

    /// Records until the journal is written.
    fn written_again(journal: &Journal) -> Health {
        let began = Instant::now();
        loop {
            journal.record(decided("again", 0));
            let health = flushed(journal);
            if health.trouble.is_none() {
                return health;
            }
            assert!(began.elapsed() < PATIENCE, "{health:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_recorded_is_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = open(&path);
        for rule in ["one", "two"] {
            journal.record(decided(rule, 0));
        }
        journal.close(PATIENCE);
        let health = journal.health();
        assert_eq!(Health { size: 0, ..health.clone() }, Health { written: 2, ..Health::default() });
        assert_eq!(health.size, std::fs::metadata(&path).expect("is there").len());
        assert_eq!(rules(&File::read(&path).expect("opens"), &ALL), ["two", "one"]);
        journal.record(decided("late", 0));
        assert_eq!(journal.health().dropped, 1, "it is closed");
    }

    #[test]
    fn one_in_memory_answers() {
        let journal = start(Place::Memory, Limits::default());
        journal.record(decided("one", 0));
        assert_eq!(journal.ask(|file| rules(file, &ALL), PATIENCE), Some(vec!["one".to_owned()]));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_trouble_until_it_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("volume/journal.db");
        let journal = open(&path);
        journal.record(decided("lost", 0));
        let health = flushed(&journal);
        assert_eq!((health.written, health.failed, health.dropped), (0, 1, 0));
        assert!(health.trouble.expect("says so").starts_with(&format!("{}: ", path.display())));
        std::fs::create_dir(folder.path().join("volume")).expect("makes");
        let health = written_again(&journal);
        let gaps = File::read(&path).expect("opens").gaps(None).expect("reads");
        assert_eq!((gaps.len(), gaps[0].missing), (1, health.failed));
    }

    #[test]
    fn a_file_that_becomes_unusable_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = open(&path);
        journal.record(decided("before", 0));
        flushed(&journal);
        std::fs::write(&path, "").expect("truncates");
        let health = written_again(&journal);
        let read = File::read(&path).expect("opens");
        assert!(
            rules(&read, &Filter { rule: Some("again".into()), ..ALL }).len() as u64 == health.written - 1
        );
        let missing: u64 = read.gaps(None).expect("reads").iter().map(|gap| gap.missing).sum();
        assert_eq!(missing, health.failed, "what came meanwhile is missing, and said to be");
    }

    #[test]
    fn a_flood_is_cut_counted_and_told_and_nobody_waits() {
        let journal = start(Place::Memory, Limits { size: Size(16 << 20), ..Limits::default() });
        let ((hold, held), (busy, is_busy)) = (sync_channel::<()>(0), sync_channel(0));
        let asked = journal.clone();
        let slow = move |_: &File| busy.send(()).is_ok() && held.recv().is_ok();
        let slow = std::thread::spawn(move || asked.ask(slow, PATIENCE));
        is_busy.recv().expect("it answers");
        // While the disk does not answer, whoever decides goes on.
        let many = WAITING + 1000;
        let began = Instant::now();
        (0..many).for_each(|_| journal.record(decided("flood", 0)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        hold.send(()).expect("it waits");
        assert_eq!(slow.join().expect("ends"), Some(true));
        let gaps = loop {
            let answer = journal.ask(|file| file.gaps(None).expect("reads"), PATIENCE);
            if let Some(gaps) = answer.filter(|gaps| !gaps.is_empty()) {
                break gaps;
            }
            assert!(began.elapsed() < PATIENCE, "no gap");
        };
        let health = flushed(&journal);
        assert_eq!((health.written, health.dropped), (WAITING as u64, 1000));
        assert_eq!(
            gaps.iter().map(|gap| (gap.missing, gap.reason.as_str())).collect::<Vec<_>>(),
            [(health.dropped, TOO_FAST)]
        );
    }
}
