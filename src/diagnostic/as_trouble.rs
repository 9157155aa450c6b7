//! The one door from a typed error to the [`Trouble`] that people, logs and records get.

use std::error::Error;

use contract::{Trouble, TroubleKind};

/// A typed error that knows what sort of end it means and what would help.
pub trait AsTrouble: Error {
    /// What the exit code follows from.
    fn kind(&self) -> TroubleKind {
        TroubleKind::Failed
    }

    /// What the user can do.
    fn hint(&self) -> Option<String>;

    /// The error in its own words, with those behind it.
    fn to_trouble(&self) -> Trouble {
        Trouble::new(self.to_string())
            .of_kind(self.kind())
            .with_chain(self.source())
            .maybe_hint(self.hint())
    }
}
