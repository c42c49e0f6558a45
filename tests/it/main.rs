//! Integration tests, one binary.
//!
//! `support` holds what tests stand on, `tidy` holds the style, `real` the tests that need a real control plane, and
//! `real_node` those that need a whole cluster, so that `--skip real` is the fast part of this binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test and its helpers report; clippy's own exception ends at #[test] functions"
)]
#![allow(
    clippy::needless_pass_by_value,
    clippy::similar_names,
    reason = "tables of literals, and several of one thing, read best so"
)]

mod bad_inputs;
mod cli;
mod controller;
mod decisions;
mod dev;
mod dev_cluster;
mod docs;
mod examples;
mod git;
mod git_history;
mod git_signed;
mod git_ssh;
mod packs;
mod pods;
mod real;
mod real_node;
mod sandbox;
mod sandbox_healing;
mod sandbox_world;
mod schemas;
mod scripts;
mod support;
mod tidy;
mod validate;
mod webhooks;
