//! Shell around git2: fetches a revision and reads its files from the tree, without checkout.
//!
//! Place in the flow: git → Pack. The controller asks a [`Fetcher`] for a [`Source`] and gets a [`Snapshot`]:
//! the resolved [`Revision`] and the files below a path. What the files mean is not known here.
//!
//! Everything that touches libgit2 runs in a child process, the *worker* (`fother git-worker`), because that is the only
//! way to keep four promises at once. libgit2 has no deadline for a server that accepts and never answers,
//! but a process can be killed. Its settings for time-outs and certificates are process-wide and unsafe to change, but a
//! child's environment can be chosen before it starts. It parses hostile input in C, but a
//! child's memory, file size and network destination can be limited. And no thread of the controller ever blocks.
//!
//! ```text
//! Fetcher (async) ──request──▶ worker: lock → repository → remote → tree ──▶ Snapshot
//!                                                   └─▶ gate ─▶ the one allowed host:port
//! ```

mod error;
mod fetcher;
mod gate;
mod reference;
mod remote;
mod repository;
mod source;
mod tree;
mod worker;

pub use error::{Consequence, Error};
pub use fetcher::{Fetcher, FetcherOptions};
pub use reference::{Reference, Revision};
pub use source::{Credentials, Secret, Source, Transports, redact};
pub use tree::{File, Limits};
pub use worker::{COMMAND, Snapshot, run as run_worker};
