//! Shell that watches the cluster and delivers what it sees.
//!
//! - [`watch`]: one list-and-watch of one kind, for ever.
//! - [`shared`]: many subscribers of one such watch.

pub mod shared;
pub mod watch;
