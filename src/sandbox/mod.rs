//! An in-memory Kubernetes API, a small world and a Job runner, for development and simulation.

pub mod clock;
pub mod kubelet;
pub mod logs;
mod recorder;
pub mod world;
