//! What is wrong with a pipeline, where, and what would be right: problems are collected and reported together.
//! It does not know what a pipeline is.

mod as_trouble;
mod collection;
mod counted;
mod quantity;
mod render;
mod shown_path;
mod source;
mod suggest;
mod visible;

pub use as_trouble::AsTrouble;
pub use collection::Diagnostics;
pub use counted::{counted, plural};
pub use quantity::{bytes, duration, number};
pub use shown_path::shown_path;
pub use source::{FileId, Location, SourceMap, Span, Spanned};
pub use suggest::{did_you_mean, list, suggestion};
pub use visible::{indented, is_control, visible, visible_json, visible_lines};

/// Whether work can continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in a file, and what there is to say about it (possibly nothing).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    pub span: Span,
    pub text: Box<str>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    pub severity: Severity,
    /// A stable name of this sort of problem, such as `unknown-key`.
    pub code: &'static str,
    /// One sentence without a full stop.
    pub message: String,
    pub primary: Option<Label>,
    pub secondary: Vec<Label>,
    pub hint: Option<Box<str>>,
}

impl Diagnostic {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        Self {
            severity,
            code,
            message,
            primary: None,
            secondary: Vec::new(),
            hint: None,
        }
    }

    /// The place at fault.
    #[must_use]
    pub fn at(self, span: Span) -> Self {
        self.at_with(span, "")
    }

    /// The place at fault, with a few words that stand beside it.
    #[must_use]
    pub fn at_with(mut self, span: Span, text: impl Into<Box<str>>) -> Self {
        self.primary = Some(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Another place that matters.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<Box<str>>) -> Self {
        self.secondary.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// What would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// [`Diagnostic::hint`], if there is one to give.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }
}
