//! Exit codes, the same for all verbs.

use std::process::ExitCode;

/// How a verb ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Yes; nothing to object to.
    Yes = 0,
    /// No: findings, a failed run.
    No = 1,
    /// The question could not be answered: usage, input or output, cluster.
    CouldNotAnswer = 2,
    /// The time was up.
    TimedOut = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
