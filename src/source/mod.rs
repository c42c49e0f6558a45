//! Shell that watches the cluster and reads what webhooks receive, and delivers what it sees.
//!
//! - [`watch`]: one list-and-watch of one kind, for ever.
//! - [`shared`]: many subscribers of one such watch.
//! - [`webhook`]: from a request to events.
//! - [`dispatch`]: which of them is told what.
//! - [`slim`]: an object, as it is read from what the server sends.

pub mod dispatch;
pub mod shared;
pub mod slim;
pub mod watch;
pub mod webhook;
