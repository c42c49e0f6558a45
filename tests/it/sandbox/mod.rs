//! The sandbox's own tests.

mod client;
