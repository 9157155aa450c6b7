//! `runner completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CliError, Exit};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell to complete for
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, CliError> {
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "runner", &mut std::io::stdout());
    Ok(Exit::Done)
}
