//! Shell that watches the cluster and delivers what it sees.
//!
//! - [`watch`]: one list-and-watch of one kind, for ever.
//! - [`shared`]: many subscribers of one such watch.
//! - [`dispatch`]: which of them is told what.

pub mod dispatch;
pub mod shared;
pub mod watch;
