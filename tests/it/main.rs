//! Integration tests, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test and its helpers report; clippy's own exception ends at #[test] functions"
)]

mod git;
mod support;
