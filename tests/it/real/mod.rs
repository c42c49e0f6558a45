//! Tests against a real control plane: etcd, kube-apiserver, kube-controller-manager.
//!
//! Each starts with `let Some(plane) = ControlPlane::shared().await else { return };` and works in a namespace
//! of its own.

mod audit;
mod chart;
mod control_plane;
mod events;
mod examples;
pub mod healing;
mod kubectl;
mod pods;
mod proxy;
mod refusals;
