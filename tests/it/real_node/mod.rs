//! Tests on a real node: scheduler, kubelet, containerd and runc, and fother in two Pods of its own. Nobody plays
//! anything here, but other nodes that fail, and what an autoscaler wants.
//!
//! Each starts with `let Some(harbor) = Harbor::shared().await else { return };`, but for what replaces fother itself.

mod examples;
pub mod harbor;
mod image;
mod jobs;
mod kept;
mod lifecycle;
mod machine;
mod main_path;
mod port;
mod predicates;
mod records;
mod release;
mod sensor;
mod states;
mod versions;
