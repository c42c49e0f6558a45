//! Time as the store sees it: a start and what tokio's clock says has passed since, so that a paused
//! runtime has a paused API.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A clock that follows tokio's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Timestamp,
    since: Instant,
}

impl Clock {
    /// Starts at the given time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, since: Instant::now() }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.start.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}
