//! Logs: for people or as JSON, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging. The variable `FOTHER_LOG` says what is logged, in the syntax of `RUST_LOG`; the default is `info`.
pub fn start(format: Format) {
    start_with(format, "info");
}

/// The same with another default.
pub fn start_with(format: Format, default: &str) {
    let filter = EnvFilter::try_from_env("FOTHER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A file shows colors as what they are made of.
    let colors =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = builder.with_ansi(colors);
    let started = match format {
        Format::Human => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        anstream::eprintln!("fother: logging was started already: {error}");
    }
}
