//! What failed, in the words of the person who has to mend it. What is wrong in a pipeline file is a diagnostic instead.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::Fault;
use crate::artifact::{ArtifactError, PathFault};

/// What sort of end it is. The exit code of a command follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TroubleKind {
    /// Something failed while it was done.
    #[default]
    Failed,
    /// It was asked for something that makes no sense, and nothing was done.
    Wrong,
    /// Something is not what it was when it was written down.
    Different,
    /// It was asked to stop; nothing is wrong.
    Interrupted,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: PathBuf,
    /// 1-based; absent where the format has no lines.
    pub line: Option<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.display().fmt(formatter)?;
        match self.line {
            Some(line) => write!(formatter, ", line {line}"),
            None => Ok(()),
        }
    }
}

/// A failure: one sentence, the place where it was seen, what lies behind it, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    kind: TroubleKind,
    message: String,
    location: Option<Location>,
    /// Outermost first.
    causes: Vec<String>,
    hint: Option<String>,
}

impl Trouble {
    /// A failure told in one sentence, without a full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            kind: TroubleKind::Failed,
            message: message.into(),
            location: None,
            causes: Vec::new(),
            hint: None,
        }
    }

    /// A request that makes no sense.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self::new(message).of_kind(TroubleKind::Wrong)
    }

    /// A difference from what was written down.
    pub fn different(message: impl Into<String>) -> Self {
        Self::new(message).of_kind(TroubleKind::Different)
    }

    /// The run was asked to stop; nothing is wrong.
    pub fn cancelled() -> Self {
        Self::new("interrupted").of_kind(TroubleKind::Interrupted)
    }

    /// A file that a stage wants and did not ask for.
    pub fn not_provided(name: &str) -> Self {
        Self::new(format!("the file `{name}` was not provided"))
    }

    #[must_use]
    pub fn of_kind(mut self, kind: TroubleKind) -> Self {
        self.kind = kind;
        self
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

    /// Adds what the user can do about it, if that is known.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Adds an error that lies behind it, and those behind that one, but nothing that was said already.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        self.with_chain(Some(source.as_ref()))
    }

    /// Adds a chain of errors that lies behind it, as [`Error::source`] gives it.
    #[must_use]
    pub fn with_chain(mut self, first: Option<&dyn Error>) -> Self {
        let mut said = self.message.clone();
        let mut next = first;
        while let Some(cause) = next {
            let text = cause.to_string();
            let is_told = said == text || said.ends_with(&format!(": {text}"));
            if !is_told && !self.causes.contains(&text) {
                self.causes.push(text.clone());
            }
            said = text;
            next = cause.source();
        }
        self
    }

    /// Adds what lies behind it, outermost first.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<String>) -> Self {
        self.causes.extend(causes);
        self
    }

    pub fn kind(&self) -> TroubleKind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    /// What lies behind it, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub fn is_cancelled(&self) -> bool {
        self.kind == TroubleKind::Interrupted
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.location {
            Some(location) => write!(formatter, " ({location})"),
            None => Ok(()),
        }
    }
}

/// Any error becomes a failure with a general sentence and that error behind it. For this the type is no `Error` itself:
/// errors of crates that this one does not know, such as those of tensors, could not be converted otherwise.
impl<E: Error + Send + Sync + 'static> From<E> for Trouble {
    fn from(error: E) -> Self {
        let source: Box<dyn Error + Send + Sync> = Box::new(error);
        if let Some(fault) = source.downcast_ref::<PathFault>() {
            return Self::new(format!("a file of the output cannot be kept: {fault}"));
        }
        let message = if source.is::<ArtifactError>() {
            "an artifact could not be read or written"
        } else if source.is::<std::io::Error>() {
            "a file operation failed"
        } else if std::any::type_name::<E>().starts_with("candle_core::") {
            "a tensor operation failed"
        } else {
            "a computation failed"
        };
        Self::new(message).because(source)
    }
}

/// Parameters that do not fit, where a stage or a file of a model has them.
impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::new(fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_say_nothing_twice() {
        let io = std::io::Error::other("no");
        let trouble = Trouble::new("cannot read x: no").because(io);
        assert_eq!(trouble.causes(), [""; 0]);
        let trouble = Trouble::from(std::io::Error::other("no"));
        assert_eq!(trouble.message(), "a file operation failed");
        assert_eq!(trouble.causes(), ["no"]);
        let placed = Trouble::new("a gap").at("data.csv", Some(3));
        assert_eq!(placed.to_string(), "a gap (data.csv, line 3)");
    }
}
