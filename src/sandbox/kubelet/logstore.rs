//! All logs of a node: of each container the current instance and the one before it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::logfile::{LogFile, Record};
use crate::sandbox::clock::Clock;
use crate::sandbox::logs::{LogError, LogQuery, LogSource, LogStream};

/// Names a pod for as long as it has its name.
pub type PodKey = (String, String);

/// The logs of a node's pods.
pub struct LogStore {
    root: PathBuf,
    clock: Clock,
    pods: Mutex<HashMap<PodKey, PodLogs>>,
}

struct PodLogs {
    uid: String,
    containers: HashMap<String, Instances>,
}

#[derive(Default)]
struct Instances {
    started: u64,
    current: Option<Arc<LogFile>>,
    previous: Option<Arc<LogFile>>,
}

impl LogStore {
    /// Keeps its files below `root`.
    pub fn new(root: PathBuf, clock: Clock) -> Self {
        Self { root, clock, pods: Mutex::default() }
    }

    /// A log for the next instance of a container.
    pub fn begin(&self, pod: &PodKey, uid: &str, container: &str) -> io::Result<Arc<LogFile>> {
        let mut pods = self.pods.lock();
        let fresh = || PodLogs { uid: uid.to_owned(), containers: HashMap::new() };
        let logs = match pods.entry(pod.clone()) {
            Entry::Occupied(mut entry) => {
                if entry.get().uid != uid {
                    entry.insert(fresh());
                }
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(fresh()),
        };
        let instances = logs.containers.entry(container.to_owned()).or_default();
        let path = self.root.join(uid).join(container).join(format!("{}.log", instances.started));
        let file = Arc::new(LogFile::create(&path, self.clock.clone())?);
        instances.started += 1;
        let ended = instances.current.replace(file.clone());
        if let Some(old) = std::mem::replace(&mut instances.previous, ended) {
            // Whoever still follows it has it open.
            let _ = std::fs::remove_file(old.path());
        }
        Ok(file)
    }

    /// Forgets a pod and its logs.
    pub fn forget(&self, pod: &PodKey, uid: &str) {
        let mut pods = self.pods.lock();
        if pods.get(pod).is_some_and(|logs| logs.uid == uid) {
            pods.remove(pod);
        }
        let _ = std::fs::remove_dir_all(self.root.join(uid));
    }

    fn find(&self, query: &LogQuery) -> Result<Arc<LogFile>, LogError> {
        let pods = self.pods.lock();
        let key = (query.namespace.clone(), query.pod.clone());
        let instances = pods.get(&key).and_then(|logs| logs.containers.get(&query.container));
        let (container, pod) = (query.container.clone(), query.pod.clone());
        if query.previous {
            let previous = instances.and_then(|instances| instances.previous.clone());
            return previous.ok_or(LogError::NoPrevious { container, pod });
        }
        let current = instances.and_then(|instances| instances.current.clone());
        let reason = "ContainerCreating".to_owned();
        current.ok_or(LogError::Waiting { container, pod, reason })
    }
}

impl LogSource for LogStore {
    fn open(&self, query: &LogQuery) -> Result<LogStream, LogError> {
        let reader = Reader { log: self.find(query)?, query: query.clone(), next: 0, sent: 0, begun: false };
        Ok(stream::unfold(Some(reader), step).boxed())
    }
}

/// One request being answered.
struct Reader {
    log: Arc<LogFile>,
    query: LogQuery,
    next: u64,
    sent: usize,
    begun: bool,
}

async fn step(reader: Option<Reader>) -> Option<(io::Result<Bytes>, Option<Reader>)> {
    let mut reader = reader?;
    match reader.more().await {
        Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

impl Reader {
    async fn more(&mut self) -> io::Result<Option<Bytes>> {
        if !self.begun {
            self.begun = true;
            let (mut records, end) = self.log.read(0)?;
            self.next = end;
            records.retain(|record| self.query.since.is_none_or(|since| record.time >= since));
            return Ok(
                self.limited(render(last_lines(&records, self.query.tail_lines), self.query.timestamps))
            );
        }
        if !self.query.follow {
            return Ok(None);
        }
        let mut progress = self.log.progress();
        let start = self.next;
        // The sender lives in the log that this reader holds.
        let Ok(seen) = progress.wait_for(|progress| progress.end > start || progress.closed).await else {
            return Ok(None);
        };
        if seen.end <= start {
            return Ok(None);
        }
        drop(seen);
        let (records, end) = self.log.read(start)?;
        self.next = end;
        Ok(self.limited(render(&records, self.query.timestamps)))
    }

    /// What may still be sent, or none if that is nothing.
    fn limited(&mut self, mut bytes: Vec<u8>) -> Option<Bytes> {
        if let Some(limit) = self.query.limit_bytes {
            if self.sent >= limit {
                return None;
            }
            bytes.truncate(limit - self.sent);
            self.sent += bytes.len();
        }
        Some(bytes.into())
    }
}

/// The records of the last `count` lines; parts of a line stay together.
fn last_lines(records: &[Record], count: Option<usize>) -> &[Record] {
    let Some(count) = count else { return records };
    if count == 0 {
        return &[];
    }
    let ends_before =
        |(index, record): (usize, &Record)| (record.whole && index + 1 < records.len()).then_some(index + 1);
    let starts = records.iter().enumerate().rev().filter_map(ends_before).nth(count - 1);
    &records[starts.unwrap_or(0)..]
}

fn render(records: &[Record], timestamps: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line_start = true;
    for record in records {
        if timestamps && line_start {
            out.extend_from_slice(format!("{} ", record.time).as_bytes());
        }
        out.extend_from_slice(&record.text);
        if record.whole {
            out.push(b'\n');
        }
        line_start = record.whole;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    fn store() -> (tempfile::TempDir, LogStore, PodKey) {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::new(dir.path().to_owned(), Clock::system());
        (dir, store, ("ns".to_owned(), "p".to_owned()))
    }

    fn query() -> LogQuery {
        let (namespace, pod, container) = ("ns".to_owned(), "p".to_owned(), "c".to_owned());
        LogQuery { namespace, pod, container, ..LogQuery::default() }
    }

    async fn read(store: &LogStore, query: &LogQuery) -> String {
        let bytes: Vec<Bytes> = store.open(query).unwrap().try_collect().await.unwrap();
        String::from_utf8(bytes.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_query_selects_what_is_sent() {
        let (_dir, store, pod) = store();
        let log = store.begin(&pod, "u", "c").unwrap();
        log.pump(&b"one\ntwo\nthree\n"[..]).await.unwrap();
        let all = query();
        for (query, expected) in [
            (all.clone(), "one\ntwo\nthree\n"),
            (LogQuery { tail_lines: Some(2), ..all.clone() }, "two\nthree\n"),
            (LogQuery { tail_lines: Some(0), ..all.clone() }, ""),
            (LogQuery { tail_lines: Some(9), ..all.clone() }, "one\ntwo\nthree\n"),
            (LogQuery { limit_bytes: Some(5), ..all.clone() }, "one\nt"),
            (LogQuery { since: Some(jiff::Timestamp::MAX), ..all.clone() }, ""),
        ] {
            assert_eq!(read(&store, &query).await, expected, "{query:?}");
        }
        let stamped = read(&store, &LogQuery { timestamps: true, ..all }).await;
        assert!(stamped.lines().all(|line| line.split_once("Z ").is_some()), "{stamped}");
    }

    #[tokio::test]
    async fn the_instance_before_is_kept_and_only_that() {
        let (_dir, store, pod) = store();
        let previous = LogQuery { previous: true, ..query() };
        assert!(matches!(store.open(&query()), Err(LogError::Waiting { .. })));
        for text in ["first", "second", "third"] {
            store.begin(&pod, "u", "c").unwrap().write(text.as_bytes(), true).unwrap();
        }
        assert_eq!(read(&store, &query()).await, "third\n");
        assert_eq!(read(&store, &previous).await, "second\n");
        store.begin(&pod, "another-uid", "c").unwrap();
        assert!(matches!(store.open(&previous), Err(LogError::NoPrevious { .. })));
        store.forget(&pod, "another-uid");
        assert!(matches!(store.open(&query()), Err(LogError::Waiting { .. })));
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes_until_the_log_is_closed() {
        let (_dir, store, pod) = store();
        let log = store.begin(&pod, "u", "c").unwrap();
        log.write(b"before", true).unwrap();
        let mut stream = store.open(&LogQuery { follow: true, ..query() }).unwrap();
        assert_eq!(stream.try_next().await.unwrap().as_deref(), Some(&b"before\n"[..]));
        log.write(b"after", true).unwrap();
        assert_eq!(stream.try_next().await.unwrap().as_deref(), Some(&b"after\n"[..]));
        log.write(b"last", true).unwrap();
        log.close();
        assert_eq!(stream.try_next().await.unwrap().as_deref(), Some(&b"last\n"[..]));
        assert_eq!(stream.try_next().await.unwrap(), None);
    }
}
