//! Why a call did not do its work: something is wrong in files, or something failed.

use std::fmt;

use contract::{Trouble, TroubleKind};

use crate::diagnostic::{AsTrouble, Diagnostics, SourceMap, indented};

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
    /// The caller asked for something that makes no sense.
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

impl<E: AsTrouble> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Trouble(error.to_trouble())
    }
}
