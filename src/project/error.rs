//! Why a call did not do its work: something is wrong in files, or something failed.

use std::fmt;

use contract::{Trouble, TroubleKind};

use crate::audit::{LockError, SignError};
use crate::cache::{CacheError, RemoteError, RemoteFault, TransferError};
use crate::data::DataError;
use crate::diagnostic::{Diagnostics, SourceMap, indented};
use crate::engine::Failure;
use crate::report::ReportError;

/// Why a call did not do its work.
#[derive(Debug)]
pub enum Error {
    /// What files say is wrong; nothing was done.
    Faulty(Box<Faulty>),
    Trouble(Trouble),
}

/// Problems of files, all of them, with the texts that they point into.
#[derive(Debug)]
pub struct Faulty {
    pub diagnostics: Diagnostics,
    pub sources: SourceMap,
}

impl Error {
    /// It was asked for something that makes no sense.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self::Trouble(Trouble::wrong(message))
    }

    /// Something failed while it was done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Trouble(Trouble::new(message))
    }

    /// Something is not what it was when it was written down.
    pub fn different(message: impl Into<String>) -> Self {
        Self::Trouble(Trouble::different(message))
    }

    pub fn faulty(diagnostics: Diagnostics, sources: SourceMap) -> Self {
        Self::Faulty(Box::new(Faulty {
            diagnostics,
            sources,
        }))
    }

    /// Adds what lies behind it, outermost first.
    #[must_use]
    pub fn because(self, causes: Vec<String>) -> Self {
        match self {
            Self::Trouble(trouble) => Self::Trouble(trouble.with_causes(causes)),
            Self::Faulty(faulty) => Self::Faulty(faulty),
        }
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.maybe_hint(Some(hint.into()))
    }

    #[must_use]
    pub fn maybe_hint(self, hint: Option<String>) -> Self {
        match self {
            Self::Trouble(trouble) => Self::Trouble(trouble.maybe_hint(hint)),
            Self::Faulty(faulty) => Self::Faulty(faulty),
        }
    }

    pub fn kind(&self) -> TroubleKind {
        match self {
            Self::Faulty(_) => TroubleKind::Wrong,
            Self::Trouble(trouble) => trouble.kind(),
        }
    }
}

/// The message with its place before it, as compilers write it.
pub fn headline(trouble: &Trouble) -> String {
    let message = trouble.message();
    match trouble.location() {
        Some(location) => match location.line {
            Some(line) => format!("{}:{line}: {message}", location.file.display()),
            None => format!("{}: {message}", location.file.display()),
        },
        None => message.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trouble = match self {
            Self::Faulty(faulty) => return formatter.write_str(&faulty.diagnostics.summary()),
            Self::Trouble(trouble) => trouble,
        };
        // Further lines of a program's words never pass for lines of ours.
        let inside = |text: &str| indented(text, "    ");
        formatter.write_str(&inside(&headline(trouble)))?;
        for cause in trouble.causes() {
            write!(formatter, "\n  because: {}", inside(cause))?;
        }
        match trouble.hint_text() {
            Some(hint) => write!(formatter, "\n  hint: {}", inside(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message = match failure.location {
            Some(location) => format!("{location}: {}", failure.message),
            None => failure.message,
        };
        Self::failed(message)
            .because(failure.causes)
            .maybe_hint(failure.hint)
    }
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Self {
        let kind = match error.fault {
            RemoteFault::Address => TroubleKind::Wrong,
            RemoteFault::Interrupted => TroubleKind::Interrupted,
            _ => TroubleKind::Failed,
        };
        Trouble::new(error.message)
            .of_kind(kind)
            .with_causes(error.causes)
            .maybe_hint(error.hint)
            .into()
    }
}

impl From<TransferError> for Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Remote(error) => error.into(),
            TransferError::Local(error) => error.into(),
        }
    }
}

impl From<CacheError> for Error {
    fn from(error: CacheError) -> Self {
        let kind = match error {
            CacheError::NoSuchRun(_) | CacheError::NoRuns(_) | CacheError::ManyRuns { .. } => {
                TroubleKind::Wrong
            }
            _ => TroubleKind::Failed,
        };
        described(&error, kind, error.hint().map(str::to_owned))
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        let kind = match error {
            LockError::Missing(_) | LockError::Syntax { .. } => TroubleKind::Wrong,
            LockError::Io { .. } => TroubleKind::Failed,
            LockError::Tampered { .. } => TroubleKind::Different,
        };
        described(&error, kind, error.hint().map(str::to_owned))
    }
}

impl From<SignError> for Error {
    fn from(error: SignError) -> Self {
        let kind = if error.is_difference() {
            TroubleKind::Different
        } else {
            TroubleKind::Wrong
        };
        described(&error, kind, error.hint().map(str::to_owned))
    }
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Self {
        match error {
            DataError::UnknownDataSet { .. } => {
                Self::wrong(error.to_string()).maybe_hint(error.hint())
            }
            _ => Failure::from(&error).into(),
        }
    }
}

impl From<ReportError> for Error {
    fn from(error: ReportError) -> Self {
        let hint = error.hint();
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            causes.push(inner.to_string());
            cause = inner.source();
        }
        let base = match &error {
            ReportError::Damaged { .. } | ReportError::OtherRun(_) => {
                Self::different(error.to_string())
            }
            ReportError::Exists(_)
            | ReportError::NoSuchStage { .. }
            | ReportError::NoBundle { .. }
            | ReportError::BadAddress(_)
            | ReportError::Version { .. } => Self::wrong(error.to_string()),
            _ => Self::failed(error.to_string()),
        };
        base.because(causes).maybe_hint(hint)
    }
}

/// A typed error in its own words, with those behind it.
fn described(error: &dyn std::error::Error, kind: TroubleKind, hint: Option<String>) -> Error {
    Trouble::new(error.to_string())
        .of_kind(kind)
        .with_chain(error.source())
        .maybe_hint(hint)
        .into()
}
