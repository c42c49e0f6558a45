//! The `fother` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    fother::cli::run()
}
