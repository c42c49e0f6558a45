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
    pub fn run(self) -> Exit {
        let (version, api) =
            (env!("CARGO_PKG_VERSION"), format!("{}/{}", crate::api::GROUP, crate::api::VERSION));
        match self.output {
            Format::Text => anstream::println!("fother {version} ({api})"),
            Format::Json => anstream::println!("{}", serde_json::json!({"version": version, "api": api})),
        }
        Exit::Yes
    }
}
