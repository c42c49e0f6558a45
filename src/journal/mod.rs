//! Shell that remembers what happened and what was decided about it, to explain it later.
//!
//! Nothing depends on it: state that safety needs is in the Kubernetes API. So it is written off the hot path, bounded by
//! age and size, and where it cannot be written, fother goes on and says what is missing.
//!
//! - [`entry`]: what is remembered.
//! - [`redact`]: what of it is not.
//! - [`place`], [`schema`], [`mod@file`]: where it is, how it is opened, what is in it.
//! - [`writer`]: the thread that writes it.

pub mod entry;
pub mod error;
pub mod file;
pub mod place;
pub mod redact;
pub mod schema;
pub mod writer;

pub use entry::{Decision, Entry, Event, Gap, Outcome};
pub use error::JournalError;
pub use file::{File, Filter};
pub use place::{Limits, Place, Size};
pub use schema::Keeping;
pub use writer::{Health, Journal};
