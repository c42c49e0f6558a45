//! The in-memory API server, as its users see it.

mod client;
mod conformance;
mod kubectl;
mod stage;
