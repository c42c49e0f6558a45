//! `fother completion SHELL`.

use clap::{Args, CommandFactory};
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
    pub fn run(self) -> Exit {
        clap_complete::generate(
            self.shell,
            &mut super::Arguments::command(),
            "fother",
            &mut std::io::stdout(),
        );
        Exit::Yes
    }
}
