//! Logs and metrics.

mod log;
mod metrics;
mod work;

pub use log::{Format, start, start_with};
pub use metrics::Metrics;
pub use work::{Backlog, Work};
