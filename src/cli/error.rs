//! Exit codes, and the errors that end a command.

use std::fmt;
use std::process::ExitCode;

use contract::StageError;

use crate::audit::{LockError, SignError};
use crate::cache::{CacheError, RemoteError, RemoteFault, TransferError};
use crate::diagnostic::indented;
use crate::engine::Failure;
use crate::ui::{Paint, err, print_json};

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

/// Why a command could not do its work.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// Printed already, as diagnostics are.
    told: bool,
}

impl CliError {
    /// The command line asks for something that makes no sense.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Wrong,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            told: false,
        }
    }

    /// Something outside the command line failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            ..Self::wrong(message)
        }
    }

    /// Something is not what it was when it was written down.
    pub fn different(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Different,
            ..Self::wrong(message)
        }
    }

    /// The diagnostics were printed; nothing is left to say.
    pub(super) fn told(exit: Exit) -> Self {
        Self {
            exit,
            told: true,
            ..Self::wrong("")
        }
    }

    /// What lies behind it, outermost first.
    #[must_use]
    pub(super) fn because(mut self, causes: Vec<String>) -> Self {
        self.causes = causes;
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn print(&self, json: bool) {
        if self.told {
            return;
        }
        if json {
            let object = serde_json::json!({"error": self.message, "causes": self.causes, "hint": self.hint});
            print_json(&object);
            return;
        }
        err!("{}: {self}\n", Paint::Bad.on("error"));
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Further lines of a program's words never pass for lines of ours.
        let inside = |text: &str| indented(text, "    ");
        formatter.write_str(&inside(&self.message))?;
        for cause in &self.causes {
            write!(formatter, "\n  because: {}", inside(cause))?;
        }
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {}", inside(hint)),
            None => Ok(()),
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let message = match failure.location {
            Some(location) => format!("{location}: {}", failure.message),
            None => failure.message,
        };
        Self {
            causes: failure.causes,
            hint: failure.hint,
            ..Self::failed(message)
        }
    }
}

impl From<StageError> for CliError {
    fn from(error: StageError) -> Self {
        Failure::from(&error).into()
    }
}

impl From<RemoteError> for CliError {
    fn from(error: RemoteError) -> Self {
        let exit = match error.fault {
            RemoteFault::Address => Exit::Wrong,
            RemoteFault::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        };
        Self {
            exit,
            causes: error.causes,
            hint: error.hint,
            ..Self::failed(error.message)
        }
    }
}

impl From<TransferError> for CliError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Remote(error) => error.into(),
            TransferError::Local(error) => error.into(),
        }
    }
}

impl From<CacheError> for CliError {
    fn from(error: CacheError) -> Self {
        let is_name = matches!(
            error,
            CacheError::NoSuchRun(_) | CacheError::NoRuns(_) | CacheError::ManyRuns { .. }
        );
        let exit = if is_name { Exit::Wrong } else { Exit::Failed };
        Self {
            exit,
            ..Failure::from(&error).into()
        }
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        let exit = match error {
            LockError::Missing(_) | LockError::Syntax { .. } => Exit::Wrong,
            LockError::Io { .. } => Exit::Failed,
            LockError::Tampered { .. } => Exit::Different,
        };
        let causes = std::error::Error::source(&error)
            .map(ToString::to_string)
            .into_iter()
            .collect();
        Self {
            exit,
            causes,
            ..Self::wrong(error.to_string()).maybe_hint(error.hint().map(str::to_owned))
        }
    }
}

impl From<SignError> for CliError {
    fn from(error: SignError) -> Self {
        let exit = if error.is_difference() {
            Exit::Different
        } else {
            Exit::Wrong
        };
        let causes = std::error::Error::source(&error)
            .map(ToString::to_string)
            .into_iter()
            .collect();
        Self {
            exit,
            causes,
            ..Self::wrong(error.to_string()).maybe_hint(error.hint().map(str::to_owned))
        }
    }
}
