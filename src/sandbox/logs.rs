//! What a node's container logs look like from outside.
//!
//! The kubelet has the logs, an API server serves them; both meet in [`LogSource`].

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// One request for a container's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// The instance before the current one.
    pub previous: bool,
    /// Go on as the container writes.
    pub follow: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<usize>,
    /// Only lines written at this time or later.
    pub since: Option<Timestamp>,
    /// End after so many bytes.
    pub limit_bytes: Option<usize>,
}

/// Why there is no log. The messages are those that people know from `kubectl logs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The container has not started yet.
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    Waiting {
        /// The container.
        container: String,
        /// Its pod.
        pod: String,
        /// What it waits for.
        reason: String,
    },
    /// The container has not ended before.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The container.
        container: String,
        /// Its pod.
        pod: String,
    },
}

/// A log as it is read: pieces of bytes, the last of which may come much later.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// Something that has the logs of containers.
pub trait LogSource: Send + Sync {
    /// Opens the log that `query` asks for.
    ///
    /// # Errors
    /// When the asked instance of the container never ran here.
    fn open(&self, query: &LogQuery) -> Result<LogStream, LogError>;
}
