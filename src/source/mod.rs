//! Shell that watches the cluster and reads what webhooks receive, and delivers what it sees.
//!
//! - [`watch`]: one list-and-watch of one kind, for ever.
//! - [`shared`]: many subscribers of one such watch.
//! - [`webhook`]: from a request to events.
//! - [`dispatch`]: which of them is told what.

pub mod dispatch;
pub mod shared;
pub mod watch;
pub mod webhook;
