//! What is said about a command line that cannot be parsed, or that asks for help.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Error, Exit};
use crate::diagnostic::{is_control, visible_lines};
use crate::ui::{Colours, screen};

/// Prints help, the version or what is wrong; gives the exit code.
pub(super) fn answer(error: &clap::Error) -> Exit {
    let text = error.render();
    if !error.use_stderr() {
        screen::raw(coloured(&text, Colours::of_stdout().0).as_bytes());
        return Exit::Done;
    }
    if json_is_asked_for() {
        super::error::print(&as_error(error), true);
    } else if std::env::args().any(|argument| argument.chars().any(is_control)) {
        // What was typed, or came out of a pattern such as `*`, is quoted in the message.
        screen::report(&visible_lines(&text.to_string()));
    } else {
        screen::report_coloured(&coloured(&text, Colours::of_stderr().0));
    }
    Exit::Wrong
}

fn coloured(text: &clap::builder::StyledStr, with_colours: bool) -> String {
    if with_colours {
        text.ansi().to_string()
    } else {
        text.to_string()
    }
}

/// Whether `--json` is among the arguments: they could not be parsed, but what was meant is plain.
fn json_is_asked_for() -> bool {
    let arguments = std::env::args_os().skip(1);
    let mut options = arguments.take_while(|argument| argument != "--");
    options.any(|argument| argument == "--json")
}

/// The message in the form of all others.
fn as_error(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let usage = usage(&text);
        let hint = (!usage.is_empty()).then_some(usage);
        return Error::wrong("a command is missing").maybe_hint(hint);
    }
    let first = text.split("\n\n").next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first).trim();
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "));
    let hint = match (tip, choices(error)) {
        (Some(tip), _) => tip.to_owned(),
        (None, Some(choices)) => choices,
        (None, None) => usage(&text),
    };
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
    match text.lines().find(|line| line.starts_with("Usage: ")) {
        Some(line) => line.replace("Usage: ", "usage: "),
        None => String::new(),
    }
}
