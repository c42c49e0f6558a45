//! The log of one container instance: a bounded file that can be followed.
//!
//! Each record is the time, `F` for a whole line or `P` for a part of one, and the text,
//! as container runtimes write it. When the file is full its older half goes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use crate::sandbox::clock::Clock;

/// Enough for any evidence, and small enough that a chatty container fills no disk.
const LIMIT: u64 = 4 << 20;
/// Longer lines are kept in parts, so that a line without end is not held in memory.
const LONGEST_LINE: u64 = 16 << 10;

/// A log file.
pub struct LogFile {
    path: PathBuf,
    clock: Clock,
    inner: Mutex<Inner>,
    changed: watch::Sender<Progress>,
}

struct Inner {
    file: File,
    /// How much was dropped before the file's first byte.
    dropped: u64,
    length: u64,
}

/// How far a log has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written since the beginning.
    pub end: u64,
    /// Nothing more will come.
    pub closed: bool,
}

/// One line, or part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was written.
    pub time: Timestamp,
    /// Whether the line ends here.
    pub whole: bool,
    /// The text, without the line's end.
    pub text: Vec<u8>,
}

impl LogFile {
    /// Starts an empty log at `path`.
    pub fn create(path: &Path, clock: Clock) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let inner = Mutex::new(Inner { file, dropped: 0, length: 0 });
        Ok(Self { path: path.to_owned(), clock, inner, changed: watch::channel(Progress::default()).0 })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line or, if not `whole`, part of one.
    pub fn write(&self, text: &[u8], whole: bool) -> io::Result<()> {
        let mut record = format!("{} {} ", self.clock.now(), if whole { 'F' } else { 'P' }).into_bytes();
        record.extend_from_slice(text);
        record.push(b'\n');
        let mut inner = self.inner.lock();
        let added = u64::try_from(record.len()).unwrap_or(LIMIT);
        if inner.length + added > LIMIT {
            inner.drop_older_half()?;
        }
        inner.file.seek(SeekFrom::End(0))?;
        inner.file.write_all(&record)?;
        inner.length += added;
        let end = inner.dropped + inner.length;
        drop(inner);
        self.changed.send_modify(|progress| progress.end = end);
        Ok(())
    }

    /// Says that nothing more will be written.
    pub fn close(&self) {
        self.changed.send_modify(|progress| progress.closed = true);
    }

    /// Copies what `output` gives, until it ends.
    pub async fn pump(&self, output: impl AsyncRead + Unpin) -> io::Result<()> {
        use tokio::io::AsyncReadExt;
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut output).take(LONGEST_LINE).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let whole = line.last() == Some(&b'\n');
            self.write(line.strip_suffix(b"\n").unwrap_or(&line), whole)?;
        }
    }

    /// The records from the byte `start` on, and where the next ones will begin.
    pub fn read(&self, start: u64) -> io::Result<(Vec<Record>, u64)> {
        let mut bytes = Vec::new();
        let mut inner = self.inner.lock();
        let skip = start.saturating_sub(inner.dropped);
        inner.file.seek(SeekFrom::Start(skip))?;
        inner.file.read_to_end(&mut bytes)?;
        let end = inner.dropped + inner.length;
        drop(inner);
        Ok((bytes.split(|&byte| byte == b'\n').filter_map(parse).collect(), end))
    }

    /// Tells when there is more to read.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.changed.subscribe()
    }

    /// The end of the log as a termination message: at most 80 lines and 2048 bytes.
    pub fn tail(&self) -> String {
        let (records, _) = self.read(0).unwrap_or_default();
        let last = &records[records.len().saturating_sub(80)..];
        let mut text = Vec::new();
        for record in last {
            text.extend_from_slice(&record.text);
            if record.whole {
                text.push(b'\n');
            }
        }
        String::from_utf8_lossy(&text[text.len().saturating_sub(2048)..]).into_owned()
    }
}

impl Inner {
    fn drop_older_half(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.length / 2))?;
        self.file.read_to_end(&mut bytes)?;
        let line_end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let kept = &bytes[line_end..];
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(kept)?;
        let length = u64::try_from(kept.len()).unwrap_or_default();
        self.file.set_len(length)?;
        self.dropped += self.length - length;
        self.length = length;
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<Record> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let whole = parts.next()? == b"F";
    Some(Record { time, whole, text: parts.next()?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, LogFile) {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::create(&dir.path().join("a/0.log"), Clock::system()).unwrap();
        (dir, log)
    }

    fn texts(records: &[Record]) -> Vec<String> {
        records.iter().map(|record| String::from_utf8(record.text.clone()).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_pumped_is_read_back_line_by_line() {
        let (_dir, log) = log();
        log.pump(&b"one\n\ntwo  words\nrest"[..]).await.unwrap();
        let (records, end) = log.read(0).unwrap();
        assert_eq!(texts(&records), ["one", "", "two  words", "rest"]);
        assert_eq!(records.iter().map(|record| record.whole).collect::<Vec<_>>(), [true, true, true, false]);
        log.write(b"later", true).unwrap();
        assert_eq!(texts(&log.read(end).unwrap().0), ["later"]);
        assert_eq!(log.tail(), "one\n\ntwo  words\nrestlater\n");
    }

    #[test]
    fn a_full_log_loses_its_older_half_and_stays_readable() {
        let (_dir, log) = log();
        let line = vec![b'x'; 10_000];
        let mut seen = 0;
        for count in 0..1000 {
            log.write(
                format!("{count} ").as_bytes().iter().chain(&line).copied().collect::<Vec<_>>().as_slice(),
                true,
            )
            .unwrap();
            let (records, end) = log.read(seen).unwrap();
            assert_eq!(records.len(), 1, "line {count}");
            seen = end;
        }
        assert!(std::fs::metadata(log.path()).unwrap().len() <= LIMIT);
        let (records, _) = log.read(0).unwrap();
        assert!(texts(&records).first().is_some_and(|line| !line.starts_with("0 ")));
        assert!(texts(&records).last().is_some_and(|line| line.starts_with("999 ")));
    }

    #[tokio::test]
    async fn endless_lines_are_kept_in_parts() {
        let (_dir, log) = log();
        log.pump(vec![b'y'; 40_000].as_slice()).await.unwrap();
        let (records, _) = log.read(0).unwrap();
        assert_eq!(
            records.iter().map(|record| record.text.len()).collect::<Vec<_>>(),
            [16_384, 16_384, 7_232]
        );
    }
}
