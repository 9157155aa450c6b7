//! Why a raw file cannot be used, and what can be done about it.

use std::error::Error as _;
use std::path::PathBuf;

use contract::{Trouble, TroubleKind};
use thiserror::Error;

use crate::diagnostic::AsTrouble;

/// A raw file or a list of data sets that cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    #[error("{} was not found", path.display())]
    NotFound {
        /// As it was asked for.
        path: PathBuf,
        /// Every place that was looked at, in order.
        tried: Vec<PathBuf>,
        hint: String,
    },
    #[error("{} is damaged: its {what} is {found}, but {expected} was expected", path.display())]
    Damaged {
        path: PathBuf,
        what: &'static str,
        found: String,
        expected: String,
        hint: String,
    },
    #[error("{url} could not be downloaded: {reason}")]
    Download {
        url: String,
        reason: String,
        hint: String,
    },
    #[error("the list of data sets {origin} cannot be used: {reason}")]
    Sources { origin: String, reason: String },
    #[error("there is no data set `{name}`")]
    UnknownDataSet { name: String, hint: String },
    #[error("{doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl DataError {
    /// Wraps an error of the file system: `doing` reads like "cannot read".
    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    /// Every place that was looked at, for a file that was not found.
    pub(super) fn tried(&self) -> &[PathBuf] {
        match self {
            Self::NotFound { tried, .. } => tried,
            _ => &[],
        }
    }
}

impl AsTrouble for DataError {
    fn kind(&self) -> TroubleKind {
        match self {
            Self::UnknownDataSet { .. } => TroubleKind::Wrong,
            _ => TroubleKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. }
            | Self::Damaged { hint, .. }
            | Self::Download { hint, .. }
            | Self::UnknownDataSet { hint, .. } => Some(hint.clone()),
            Self::Sources { .. } => {
                Some("compare it with the list in the documentation, or remove it".to_owned())
            }
            Self::Io { .. } => {
                Some("check that the path exists and that its permissions allow this".to_owned())
            }
            Self::Cancelled => None,
        }
    }

    fn to_trouble(&self) -> Trouble {
        let places = self.tried().iter();
        let places = places.map(|path| format!("not at {}", path.display()));
        Trouble::new(self.to_string())
            .of_kind(self.kind())
            .with_causes(places.collect())
            .with_chain(self.source())
            .maybe_hint(self.hint())
    }
}
