//! Why a stage failed, in the words of whoever has to mend it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::artifact::{ArtifactError, PathFault};

/// A place in an input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: PathBuf,
    /// 1-based; absent where the format has no lines.
    pub line: Option<usize>,
}

/// A stage's failure: one sentence, the place where it was seen, what lies behind it, and what would help.
#[derive(Debug)]
pub struct StageError {
    message: String,
    location: Option<Location>,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
    cancelled: bool,
}

impl StageError {
    /// A failure told in one sentence, without a full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            location: None,
            hint: None,
            source: None,
            cancelled: false,
        }
    }

    /// The run was asked to stop; nothing is wrong.
    pub fn cancelled() -> Self {
        Self {
            cancelled: true,
            ..Self::new("interrupted")
        }
    }

    /// A file that the stage wants and did not ask for.
    pub(crate) fn not_provided(name: &str) -> Self {
        Self::new(format!("the file `{name}` was not provided"))
    }

    /// Names the file, and the 1-based line if there is one, where the fault lies.
    #[must_use]
    pub fn at(mut self, file: impl Into<PathBuf>, line: Option<usize>) -> Self {
        self.location = Some(Location {
            file: file.into(),
            line,
        });
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the underlying error for the cause chain.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        if let Some(Location { file, line }) = &self.location {
            write!(formatter, " ({}", file.display())?;
            if let Some(line) = line {
                write!(formatter, ", line {line}")?;
            }
            formatter.write_str(")")?;
        }
        Ok(())
    }
}

impl Error for StageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl From<ArtifactError> for StageError {
    fn from(error: ArtifactError) -> Self {
        Self::new("an artifact could not be read or written").because(error)
    }
}

impl From<PathFault> for StageError {
    fn from(fault: PathFault) -> Self {
        Self::new(format!("a file of the output cannot be kept: {fault}"))
    }
}

impl From<candle_core::Error> for StageError {
    fn from(error: candle_core::Error) -> Self {
        Self::new("a tensor operation failed").because(error)
    }
}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> Self {
        Self::new("a file operation failed").because(error)
    }
}
