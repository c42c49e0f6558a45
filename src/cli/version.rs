//! `fother version`.

use clap::{Args, ValueEnum};

use super::Exit;

/// Print the version.
#[derive(Args, Debug)]
pub struct Version {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One line.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl Version {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<Exit> {
        let (version, api) =
            (env!("CARGO_PKG_VERSION"), format!("{}/{}", crate::api::GROUP, crate::api::VERSION));
        super::say(|out| match self.output {
            Format::Text => writeln!(out, "fother {version} ({api})"),
            Format::Json => writeln!(out, "{}", serde_json::json!({"version": version, "api": api})),
        })?;
        Ok(Exit::Yes)
    }
}
