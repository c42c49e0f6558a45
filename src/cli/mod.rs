//! The command line: one file per verb.

use std::process::ExitCode;

/// Runs the verb that the arguments name.
pub fn run() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|verb| verb == crate::git::COMMAND) {
        return crate::git::run_worker();
    }
    ExitCode::from(2)
}
