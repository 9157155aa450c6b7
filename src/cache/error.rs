//! What can go wrong with the store, always with the path and a way out.

use std::io;
use std::path::{Path, PathBuf};

use contract::TroubleKind;
use contract::artifact::{ArtifactError, Digest};
use thiserror::Error;

use crate::diagnostic::AsTrouble;

/// A failure of the store.
#[derive(Debug, Error)]
pub enum CacheError {
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("object {object} is damaged: {reason}")]
    Damaged { object: Digest, reason: String },
    #[error("object {object} is missing from the store")]
    Missing { object: Digest },
    #[error("an artifact could not be encoded or decoded")]
    Artifact(#[from] ArtifactError),
    #[error("{} is not a record that this version can read: {reason}", path.display())]
    Record { path: PathBuf, reason: String },
    #[error("{} is not a folder, and nothing in a store is followed", path.display())]
    Foreign { path: PathBuf },
    #[error("another collection is at work in this store")]
    Collecting,
    #[error("what lies here is the record of the run {found}: {}", path.display())]
    Misplaced { path: PathBuf, found: super::RunId },
    #[error("no run matches `{0}`")]
    NoSuchRun(String),
    #[error("no run matches `{0}`: the store has no runs yet")]
    NoRuns(String),
    #[error("`{name}` matches {} runs: {}", .runs.len(), first_of(.runs))]
    ManyRuns {
        name: String,
        runs: Vec<super::RunId>,
    },
}

impl CacheError {
    /// Wraps an error of the operating system: `cannot VERB PATH`.
    pub fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }

    /// The object that is damaged or missing, if it is that.
    pub(super) fn object(&self) -> Option<Digest> {
        match self {
            Self::Damaged { object, .. } | Self::Missing { object } => Some(*object),
            _ => None,
        }
    }

    /// Whether a file was not there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether a record was read and is not what it should be.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Record { .. } | Self::Misplaced { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            _ => false,
        }
    }

    /// Whether recomputing the stage that made the object would mend it.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Missing { .. } | Self::Artifact(_)
        )
    }
}

impl AsTrouble for CacheError {
    fn kind(&self) -> TroubleKind {
        match self {
            Self::NoSuchRun(_) | Self::NoRuns(_) | Self::ManyRuns { .. } => TroubleKind::Wrong,
            _ => TroubleKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io {
                verb: "read" | "list",
                source,
                ..
            } if source.kind() == io::ErrorKind::PermissionDenied => {
                "somebody else may have written it: see who may read the store"
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "the store must be writable: choose another with --store DIR or RUNNER_STORE"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "the disk is full: free space with `runner cache gc --max-size 10GiB`, or use --store DIR"
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                    "the store is a folder, and a file is in its way: choose another with --store DIR or RUNNER_STORE"
                }
                _ => return None,
            },
            Self::Damaged { .. } | Self::Missing { .. } | Self::Artifact(_) => {
                "`runner cache verify` sets damaged objects aside; the next run recomputes them"
            }
            Self::Foreign { .. } => {
                "`runner cache verify` sets it aside; a store may lie elsewhere as a whole: use --store DIR or RUNNER_STORE"
            }
            Self::Collecting => "try again when it has ended",
            Self::Record { .. } => {
                "`runner cache verify` sets it aside if it is damaged; an intact one comes from a newer version of runner"
            }
            Self::Misplaced { .. } => "it was moved or forged; `runner verify` says more",
            Self::ManyRuns { .. } => "write more of its name",
            Self::NoRuns(_) => {
                "`runner run PIPELINE` makes one; choose another store with --store DIR or RUNNER_STORE"
            }
            Self::NoSuchRun(_) => "`runner runs` lists them",
        };
        Some(hint.to_owned())
    }
}

/// The first few of many.
fn first_of(runs: &[super::RunId]) -> String {
    let shown: Vec<&str> = runs.iter().take(4).map(|run| run.0.as_str()).collect();
    shown.join(", ")
        + if runs.len() > shown.len() {
            ", …"
        } else {
            ""
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be read at the moment must not be set aside.
    #[test]
    fn a_record_that_cannot_be_read_is_not_a_damaged_one() {
        let read = |kind: io::ErrorKind| CacheError::io("read", Path::new("run.json"))(kind.into());
        let misread = [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::StaleNetworkFileHandle,
            io::ErrorKind::NotFound,
        ];
        assert!(misread.into_iter().all(|kind| !read(kind).is_damage()));
        assert!(
            read(io::ErrorKind::InvalidData).is_damage(),
            "it is not a file, or a huge one"
        );
        assert!(
            CacheError::Record {
                path: "run.json".into(),
                reason: String::new()
            }
            .is_damage()
        );
        assert!(
            read(io::ErrorKind::PermissionDenied)
                .hint()
                .unwrap()
                .contains("read the store")
        );
    }
}
