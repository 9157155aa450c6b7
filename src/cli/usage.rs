//! What is said about a command line that cannot be parsed, or that asks for help.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Error, Exit};
use crate::diagnostic::{is_control, visible_lines};
use crate::ui::{Colours, screen};

/// Prints help, the version or what is wrong; gives the exit code.
pub(super) fn answer(error: &clap::Error) -> Exit {
    let text = error.render();
    if !error.use_stderr() {
        screen::raw(
            if Colours::of_stdout().0 {
                text.ansi().to_string()
            } else {
                text.to_string()
            }
            .as_bytes(),
        );
        return Exit::Done;
    }
    if json_is_asked_for() {
        super::error::print(&as_error(error), true);
    } else if std::env::args().any(|argument| argument.chars().any(is_control)) {
        // What was typed, or came out of a pattern such as `*`, is quoted in the message.
        screen::report(&visible_lines(&text.to_string()));
    } else {
        screen::report_coloured(&if Colours::of_stderr().0 {
            text.ansi().to_string()
        } else {
            text.to_string()
        });
    }
    Exit::Wrong
}

/// Whether `--json` is among the arguments: they could not be parsed, but what was meant is plain.
fn json_is_asked_for() -> bool {
    std::env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// The message in the form of all others.
fn as_error(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Error::wrong("a command is missing")
            .maybe_hint(Some(usage(&text)).filter(|usage| !usage.is_empty()));
    }
    let first = text.split("\n\n").next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first).trim();
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "))
        .map(str::to_owned);
    let hint = tip
        .or_else(|| choices(error))
        .unwrap_or_else(|| usage(&text));
    Error::wrong(message).maybe_hint((!hint.is_empty()).then_some(hint))
}

/// The values that there are, where one of them was asked for.
fn choices(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::ValidValue, ContextKind::ValidSubcommand];
    match kinds.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::Strings(values) if !values.is_empty() => {
            Some(format!("choose from {}", values.join(", ")))
        }
        _ => None,
    }
}

/// The line that says how the command is written.
fn usage(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("Usage: "));
    line.map(|line| line.replace("Usage: ", "usage: "))
        .unwrap_or_default()
}
