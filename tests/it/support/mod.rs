//! What the tests stand on.

pub mod git_server;
