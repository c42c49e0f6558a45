//! What the tests stand on: a real control plane, its audit log, a proxy that misbehaves on demand, child
//! processes that never outlive the run, and waiting for a state instead of for a time.

pub mod access;
pub mod audit;
pub mod control_plane;
pub mod examples;
pub mod followed;
pub mod git_server;
pub mod helm;
pub mod http;
pub mod kubectl;
pub mod node;
pub mod pki;
pub mod process;
pub mod promtool;
pub mod proxy;
pub mod ssh_server;
pub mod wait;
