//! Exit codes, and how errors that end a command are printed.

use std::process::ExitCode;

use contract::TroubleKind;
use serde_json::json;

use super::Error;
use crate::cache::RunStatus;
use crate::diagnostic::{Diagnostics, SourceMap};
use crate::project::headline;
use crate::ui::{Colours, Paint, err, print_json, screen};

/// How the process ends. These codes are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// A stage failed.
    Failed = 1,
    /// The command line or the pipeline is wrong; nothing ran.
    Wrong = 2,
    /// A comparison found a difference.
    Different = 3,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<RunStatus> for Exit {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Done => Self::Done,
            RunStatus::Interrupted => Self::Interrupted,
            RunStatus::Failed | RunStatus::Running => Self::Failed,
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error.kind() {
            TroubleKind::Failed => Self::Failed,
            TroubleKind::Wrong => Self::Wrong,
            TroubleKind::Different => Self::Different,
            TroubleKind::Interrupted => Self::Interrupted,
        }
    }
}

/// Prints why a command could not do its work.
pub(super) fn print(error: &Error, json: bool) {
    match error {
        Error::Faulty(faulty) => print_diagnostics(&faulty.diagnostics, &faulty.sources, json),
        Error::Trouble(trouble) if json => {
            print_json(&json!({
                "error": headline(trouble),
                "causes": trouble.causes(),
                "hint": trouble.hint_text(),
            }));
        }
        Error::Trouble(_) => err!("{}: {error}\n", Paint::Bad.on("error")),
    }
}

/// Prints what is wrong in files, or looks as if it were.
pub(super) fn print_diagnostics(diagnostics: &Diagnostics, sources: &SourceMap, json: bool) {
    if !json {
        screen::report_coloured(&diagnostics.render(sources, Colours::of_stderr().0));
        return;
    }
    let list = diagnostics.to_json(sources);
    if diagnostics.has_errors() {
        print_json(&json!({"error": diagnostics.summary(), "diagnostics": list}));
    } else {
        // Standard output has one document: warnings become part of the result.
        screen::beside(list.as_array().cloned().unwrap_or_default());
    }
}
