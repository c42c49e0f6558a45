//! Logs and metrics.

mod log;
mod metrics;

pub use log::{Format, start, start_with};
pub use metrics::Metrics;
