//! `fother completion SHELL`.

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::Exit;

/// Print a shell's completion script.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(fother completion bash)
  fother completion zsh > ~/.zfunc/_fother")]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<Exit> {
        // Not straight to the output: where that fails, clap panics.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut visible(), "fother", &mut script);
        super::say(|out| out.write_all(&script))?;
        Ok(Exit::Yes)
    }
}

/// The command line without what is hidden, which some of the scripts would offer.
fn visible() -> Command {
    let all = super::Arguments::command();
    let shown = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    Command::new("fother").version(env!("CARGO_PKG_VERSION")).subcommands(shown)
}
