//! Integration tests, one binary.
//!
//! `support` holds what tests stand on, `tidy` holds the style, and `real` the tests that need a real control
//! plane, so that `--skip real::` is the fast part of this binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test and its helpers report; clippy's own exception ends at #[test] functions"
)]

mod dev;
mod docs;
mod git;
mod packs;
mod real;
mod sandbox;
mod sandbox_world;
mod support;
mod tidy;
mod validate;
