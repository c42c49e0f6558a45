//! Logs and metrics.

mod log;
mod metrics;

pub use log::{Format, start};
pub use metrics::Metrics;
