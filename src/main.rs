//! The `fother` binary: controller, command line and development server in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    fother::cli::run()
}
