//! The make-believe node and controllers, tried as users see them.
//!
//! Each scenario is written once, against a [`stage::Stage`], and runs wherever there is an API server.

mod kubelet;
mod real;
pub mod stage;
mod world;
