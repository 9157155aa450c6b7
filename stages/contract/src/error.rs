//! Why a stage failed, in the words of whoever has to mend it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::Fault;
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
    pub fn not_provided(name: &str) -> Self {
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

    /// The error that lies behind this one.
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
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

/// Any error becomes a failure with a general sentence and that error behind it. For this the type is no `Error` itself:
/// errors of crates that this one does not know, such as those of tensors, could not be converted otherwise.
impl<E: Error + Send + Sync + 'static> From<E> for StageError {
    fn from(error: E) -> Self {
        let source: Box<dyn Error + Send + Sync> = Box::new(error);
        if let Some(fault) = source.downcast_ref::<PathFault>() {
            return Self::new(format!("a file of the output cannot be kept: {fault}"));
        }
        let message = if source.is::<ArtifactError>() {
            "an artifact could not be read or written"
        } else if source.is::<std::io::Error>() {
            "a file operation failed"
        } else {
            "a computation failed"
        };
        Self::new(message).because(source)
    }
}

/// Parameters that do not fit, where a stage or a file of a model has them.
impl From<Fault> for StageError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.to_string())
    }
}
