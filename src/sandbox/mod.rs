//! An in-memory Kubernetes API, a small world and a Job runner, for development and simulation.

pub mod apiserver;
mod openapi;
pub mod pki;
