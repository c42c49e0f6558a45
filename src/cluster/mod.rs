//! Shell that writes to the cluster: apply, status, impersonation, operations, lease.
//!
//! Everything that is done for a rule is done as the rule's `ServiceAccount`: see [`account`].

pub mod account;
pub mod client;
pub mod discovery;
pub mod error;
pub mod events;
pub mod evidence;
pub mod installed;
pub mod jobs;
pub mod lease;
pub mod objects;
pub mod open_api;
pub mod owners;
pub mod reviews;
pub mod rights;
pub mod secrets;
mod series;
pub mod status;

pub use error::{Error, Result};
