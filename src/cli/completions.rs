//! `runner completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CliError, Exit};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner completions bash > ~/.local/share/bash-completion/completions/runner\n  \
    runner completions zsh > ~/.zfunc/_runner\n  \
    runner completions fish > ~/.config/fish/completions/runner.fish")]
pub(super) struct Arguments {
    /// The shell to complete for
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, CliError> {
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "runner", &mut std::io::stdout());
    Ok(Exit::Done)
}
