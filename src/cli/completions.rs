//! `runner completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::{Error, Exit, Global};
use crate::ui::{print_json, screen};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner completions bash > ~/.local/share/bash-completion/completions/runner\n  \
    runner completions zsh > ~/.zfunc/_runner\n  \
    runner completions fish > ~/.config/fish/completions/runner.fish")]
pub(super) struct Arguments {
    /// The shell to complete for
    shell: Shell,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let mut command = super::Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "runner", &mut script);
    if global.json {
        let script = String::from_utf8_lossy(&script);
        print_json(&json!({"shell": arguments.shell.to_string(), "script": script}));
    } else {
        screen::raw(&script);
    }
    Ok(Exit::Done)
}
