//! An in-memory Kubernetes API, a small world and a Job runner, for development and simulation.

pub mod apiserver;
pub mod clock;
pub mod kubelet;
pub mod logs;
pub mod openapi;
pub mod pki;
mod recorder;
pub mod world;
