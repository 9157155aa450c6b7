//! What can go wrong between an artifact and its file.

use thiserror::Error;

/// An artifact that could not be read from or written to its file.
#[derive(Debug, Error)]
pub enum ArtifactError {
    #[error("this {what} file is damaged or of another format: {reason}")]
    Corrupt { what: &'static str, reason: String },
    #[error("a part of this artifact is missing: {0}")]
    MissingPart(String),
    #[error("Arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("Parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("safetensors: {0}")]
    SafeTensors(#[from] safetensors::SafeTensorError),
    #[error(transparent)]
    Path(#[from] super::PathFault),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl ArtifactError {
    pub(crate) fn corrupt(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            what,
            reason: reason.into(),
        }
    }
}
