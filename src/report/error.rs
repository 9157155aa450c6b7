//! Why a report cannot be written, or a bundle not be taken in.

use std::io;
use std::path::{Path, PathBuf};

use contract::TroubleKind;
use contract::artifact::{ArtifactError, PathFault};
use thiserror::Error;

use crate::cache::CacheError;
use crate::diagnostic::AsTrouble;

/// A failure of an export or import.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    #[error("{} is a folder of something else", .0.display())]
    Foreign(PathBuf),
    #[error("what the stage {stage} made is gone from the store")]
    Gone { stage: String, source: CacheError },
    #[error("the run has no stage `{name}`")]
    NoSuchStage { name: String, hint: String },
    #[error("the record of the run holds no pipeline, and {} cannot be read", .0.display())]
    NoPipeline(PathBuf),
    #[error("{} is not a bundle of runner: {reason}", path.display())]
    NoBundle { path: PathBuf, reason: String },
    #[error("the bundle {} is damaged or was altered: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} is a bundle of version {found}, and this program reads version {known}", path.display())]
    Version {
        path: PathBuf,
        found: u64,
        known: u64,
    },
    #[error("the store has another run of the name {0}")]
    OtherRun(String),
    #[error("`{0}` is not the address of a tracking server")]
    BadAddress(String),
    #[error("the tracking server {server} cannot be used: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the tracking server {server} refuses {what}: {}", said(*status, code, message))]
    Refused {
        server: String,
        what: String,
        status: u16,
        code: String,
        message: String,
    },
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("a file of the report would lie elsewhere: {0}")]
    Path(#[from] PathFault),
    #[error("a table could not be written")]
    Artifact(#[from] ArtifactError),
}

/// What a server said: its words, and its code, or the status where it has no words.
fn said(status: u16, code: &str, message: &str) -> String {
    match (message, code) {
        ("", "") => format!("it answers with status {status}"),
        ("", code) => code.to_owned(),
        (message, "") => message.to_owned(),
        (message, code) => format!("{message} ({code})"),
    }
}

impl ReportError {
    /// Wraps an error of the operating system: `cannot VERB PATH`.
    pub fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

impl AsTrouble for ReportError {
    fn kind(&self) -> TroubleKind {
        match self {
            Self::Damaged { .. } | Self::OtherRun(_) => TroubleKind::Different,
            Self::Exists(_)
            | Self::NoSuchStage { .. }
            | Self::NoBundle { .. }
            | Self::BadAddress(_)
            | Self::Version { .. } => TroubleKind::Wrong,
            _ => TroubleKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Foreign(_) => "--force replaces files and reports; name another place with -o",
            Self::Exists(_) => "name another place with -o, or replace it with --force",
            Self::Gone { .. } => {
                "run the pipeline again: what was lost is computed again; or leave objects out with --objects none"
            }
            Self::NoSuchStage { hint, .. } => return Some(hint.clone()),
            Self::NoPipeline(_) => "run the pipeline again: records of this version hold it",
            Self::NoBundle { .. } => "`runner export RUN --bundle FILE` makes one",
            Self::Damaged { .. } => {
                "nothing was imported; get the bundle again from where it was made"
            }
            Self::Version { .. } => {
                "nothing was imported; use the version of runner that made it, or a newer one"
            }
            Self::OtherRun(_) => "nothing was imported; import into another store with --store DIR",
            Self::BadAddress(_) => {
                "write one such as `--to http://HOST:PORT`; a folder is named with -o"
            }
            Self::Unreachable { .. } => "does it run? `mlflow server --port 5000` starts one",
            Self::Refused {
                status: 401 | 403, ..
            } => {
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            }
            Self::Refused { message, .. } if message.contains("Changing param values") => {
                "the run was sent before with other parameters; --force deletes that on the server and sends it again"
            }
            Self::Refused { .. } => return None,
            Self::Cache(error) => return error.hint(),
            Self::Io { .. } | Self::Artifact(_) | Self::Path(_) => return None,
        };
        Some(text.to_owned())
    }
}
