//! fother: event-driven remediation for Kubernetes.

#![cfg_attr(
    test,
    allow(
        clippy::needless_pass_by_value,
        clippy::similar_names,
        reason = "tables of literals, and several of one thing, read best so"
    )
)]

pub mod api;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod decide;
pub mod expr;
pub mod git;
pub mod journal;
pub mod sandbox;
pub mod server;
pub mod source;
pub mod telemetry;
pub mod text;
