//! Shell around git2: fetches a revision and reads its files from the tree, without checkout.
//!
//! Place in the flow: git → Pack. The controller asks a [`Fetcher`] for a [`Source`] and gets a [`Snapshot`]:
//! the resolved [`Revision`] and the files below a path. What the files mean is not known here.
//!
//! Everything that touches libgit2 runs in a child process, the *worker* (`fother git-worker`), because that is the
//! only way to keep three promises at once: a fetch ends at its deadline whatever libgit2 is doing, since a process can be killed
//! and a thread cannot; hostile input, which libgit2 parses in C, meets limits on memory and files and finds no
//! secret but its own repository's; and no thread of the controller ever blocks.
//!
//! libgit2 speaks plain HTTP to a *gate* in the worker, and the gate speaks HTTPS, with rustls, to one host and port; or it speaks
//! git's own protocol in the clear, and the gate carries it over ssh, with russh. So credentials and trust are bound where every
//! request must pass, and libgit2 has no cryptography.
//!
//! ```text
//! Fetcher (async) ──request──▶ worker: lock → repository → remote → tree ──▶ Snapshot
//!                                                   └─▶ gate ─▶ the one allowed host:port
//! ```

mod address;
mod cache;
mod error;
mod fetcher;
mod gate;
mod history;
mod reference;
mod remote;
mod repository;
mod signature;
mod source;
mod tree;
mod worker;

pub use error::{Consequence, Error};
pub use fetcher::{Fetcher, FetcherOptions};
pub use history::Lineage;
pub use reference::{Reference, Revision};
pub use source::{Access, Credentials, Secret, Source, Transports, redact};
pub use tree::{File, Limits};
pub use worker::{COMMAND, Snapshot, run as run_worker};
