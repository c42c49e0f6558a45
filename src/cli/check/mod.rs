//! `fother check`: what is missing for fother to work in a cluster, and what to do about it.

mod installation;
mod namespaces;
mod release;
mod report;

use clap::{Args, ValueEnum};
use kube::Client;

use self::release::Installed;
use self::report::Report;
use super::Exit;
use super::connection::Connection;

/// Say what is missing in a cluster for fother to work.
///
/// Looks at the cluster's version, the kinds, the controller and its rights, and at every namespace with
/// Rules, Packs or Webhooks: whether it is enrolled, its accounts are allowed, what their Roles lack, and
/// what else the controller says of what is not Ready.
#[derive(Args, Debug)]
#[command(after_help = "Reads with your rights: an administrator sees everything.

Exit codes: 0 nothing missing (warnings are allowed), 1 something is missing, 2 could not check.

Examples:
  fother check
  fother check -n payments            # Rules and accounts of one namespace
  fother check -o json | jq '.findings[] | select(.severity == \"error\")'")]
pub struct Check {
    #[command(flatten)]
    connection: Connection,
    /// Only Rules and accounts of this namespace. Default: of all.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How to write the findings.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

impl Check {
    /// Looks at everything.
    pub fn run(self) -> anyhow::Result<Exit> {
        super::on_runtime(self.answer())
    }

    async fn answer(self) -> anyhow::Result<Exit> {
        let client = self.connection.client().await?;
        let report = look(&client, self.namespace.as_deref()).await?;
        super::say(|out| match self.output {
            Output::Text => write!(out, "{}", report.text()),
            Output::Json => writeln!(out, "{}", report.json()),
        })?;
        Ok(if report.errors() > 0 { Exit::No } else { Exit::Yes })
    }
}

async fn look(client: &Client, namespace: Option<&str>) -> anyhow::Result<Report> {
    let mut report = Report::default();
    installation::cluster(client, &mut report).await?;
    // Without the kinds there is nothing else to look at, and whoever installs them installs the rest.
    let installed = Installed::find(client).await?;
    if !installation::kinds(&installed, &mut report) {
        return Ok(report);
    }
    installation::controller(client, &installed, &mut report).await?;
    namespaces::look(client, namespace, installed.account.as_ref(), &mut report).await?;
    Ok(report)
}
