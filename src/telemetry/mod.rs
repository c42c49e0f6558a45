//! Logs and metrics.

mod journal;
mod log;
mod metrics;
mod series;
mod work;

pub use log::{Format, start, start_with};
pub use metrics::Metrics;
pub use work::{Backlog, Work};
