//! fother: event-driven remediation for Kubernetes.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod decide;
pub mod expr;
pub mod git;
pub mod sandbox;
pub mod server;
pub mod source;
pub mod telemetry;
