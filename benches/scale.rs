//! How much is measured: for the record, or only to see that everything still runs.

use std::time::Duration;

/// The numbers of one run.
pub struct Scale {
    /// How often floor and fother take turns.
    pub repetitions: usize,
    /// Changes a second, and how many of them.
    pub rates: &'static [(u32, usize)],
    /// Changes at once.
    pub burst: usize,
    /// Executions whose writes are counted.
    pub executions: usize,
    /// Rules of one commit, of the idle controller, files to validate.
    pub rules: usize,
    /// Rules that Events are matched against, and how long each number of them at least.
    pub matching: &'static [usize],
    pub matching_time: Duration,
    /// Pods that are watched, and the most memory that this may take, in MB.
    pub pods: &'static [(usize, f64)],
    /// Pods that are judged after a restart.
    pub restart: usize,
    /// How long an idle controller is looked at: longer than the time after which it looks at everything again.
    pub idle: Duration,
    /// Alerts that are sent, and within what time.
    pub flood: (usize, Duration),
}

impl Scale {
    pub const FULL: Self = Self {
        repetitions: 3,
        rates: &[(10, 150), (50, 500)],
        burst: 500,
        executions: 20,
        rules: 1000,
        matching: &[1, 10, 100, 1000, 10_000],
        matching_time: Duration::from_millis(300),
        pods: &[(10_000, 50.0), (100_000, 200.0)],
        restart: 10_000,
        idle: Duration::from_secs(310),
        flood: (100_000, Duration::from_secs(60)),
    };
    pub const SMOKE: Self = Self {
        repetitions: 1,
        rates: &[(10, 5)],
        burst: 10,
        executions: 2,
        rules: 10,
        matching: &[1, 10],
        matching_time: Duration::ZERO,
        pods: &[(20, 50.0)],
        restart: 20,
        idle: Duration::from_secs(2),
        flood: (500, Duration::from_secs(1)),
    };
}
