//! Shell that remembers what happened and what was decided about it, to explain it later.
//!
//! Nothing depends on it: state that safety needs is in the Kubernetes API. So it is written off the hot path, bounded by
//! age and size, and where it cannot be written, fother goes on and says what is missing.
//!
//! - [`entry`]: what is remembered.
//! - [`redact`]: what of an event is not.
//! - [`file`]: the `SQLite` file.
//! - [`writer`]: the thread that writes it.

pub mod entry;
pub mod file;
pub mod redact;
pub mod writer;

pub use entry::{Decision, Entry, Event, Gap, Outcome};
pub use file::{File, Filter, JournalError, Limits, Place};
pub use writer::{Health, Journal};
