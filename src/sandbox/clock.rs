//! The wall clock of the sandbox, passed in so that a simulation can own it.
//!
//! Kubernetes' own times have whole seconds; objects written here must not be finer
//! than those that a real cluster writes.

use std::sync::Arc;

use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Says what time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that asks `now` each time.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The machine's clock.
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    /// The present moment, as fine as the clock has it.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// The present moment as Kubernetes writes it.
    pub fn time(&self) -> Time {
        Time(whole_seconds(self.now()))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    let options = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
    time.round(options).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_times_have_whole_seconds() {
        let fine: Timestamp = "2026-11-23T04:05:06.987654Z".parse().unwrap();
        let clock = Clock::new(move || fine);
        assert_eq!(clock.time().0.to_string(), "2026-11-23T04:05:06Z");
        assert_eq!(clock.now(), fine);
    }
}
