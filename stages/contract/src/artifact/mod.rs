//! The typed values that flow between stages, each with its file format and its logical digest.
//! It knows neither stages nor the store: who wrote an artifact and where it lies is not its business.

mod columns;
mod digest;
mod error;
mod files;
mod folder;
mod forecasts;
mod guard;
mod images;
mod layouts;
mod leaves;
mod metrics;
mod model;
mod pages;
mod path;
mod places;
mod predictions;
mod scores;
mod series;
mod source;
mod split;
mod table;
mod windows;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

pub use digest::{ByteDigest, Digest, DigestWriter};
pub use error::ArtifactError;
pub use files::{Content, FileEntry, Files};
pub use folder::Folder;
pub use forecasts::{Forecasts, Origin};
pub use guard::guarded;
pub use images::{COLOURS, Image, Images};
pub use layouts::{ColumnLayout, EntryLayout, LAYOUTS, Layout, markdown as layouts_markdown};
pub use leaves::{Leaf, Values};
pub use metrics::{Direction, Metric, Metrics};
pub use model::{ElementType, Model, TensorData, tensors_of};
pub use pages::check_page_sizes;
pub use path::{PathFault, RelativePath, Shown};
pub use predictions::Predictions;
pub use scores::Scores;
pub use series::{Segment, Series, StepCount, needs_64_bits};
pub use source::Source;
pub use split::Split;
pub use table::{Column, Table};
pub use windows::{WindowRun, WindowSpec, Windows};

/// The type of an artifact: what a port accepts and what a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// Multivariate time series, split into segments.
    Series,
    /// Sliding windows over a series: an index, never a copy.
    Windows,
    /// Weights with the configuration that gives them meaning.
    Model,
    /// One anomaly score per time point.
    Scores,
    /// Forecast or imputed windows beside the true values.
    Forecasts,
    /// Class probabilities per sample.
    Predictions,
    /// Named figures, each with its direction and caveats.
    Metrics,
    /// Pictures of one size, each with its class.
    Images,
    /// Any other table of columns, such as a training log.
    Table,
    /// A folder of files, such as plots or what a command wrote.
    Files,
}

impl ArtifactKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Series,
        Self::Windows,
        Self::Model,
        Self::Scores,
        Self::Forecasts,
        Self::Predictions,
        Self::Metrics,
        Self::Images,
        Self::Table,
        Self::Files,
    ];

    /// The name that messages and records use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Series => "Series",
            Self::Windows => "Windows",
            Self::Model => "Model",
            Self::Scores => "Scores",
            Self::Forecasts => "Forecasts",
            Self::Predictions => "Predictions",
            Self::Metrics => "Metrics",
            Self::Images => "Images",
            Self::Table => "Table",
            Self::Files => "Files",
        }
    }

    /// Whether the file is best decoded from where it is: it is large, and never needed in memory as a whole.
    pub fn is_read_in_pieces(self) -> bool {
        matches!(self, Self::Series | Self::Scores | Self::Images)
    }

    /// The extension of the file that holds such an artifact.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Model => "safetensors",
            _ => "parquet",
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for ArtifactKind {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            ArtifactError::corrupt("artifact", format!("unknown artifact kind `{text}`"))
        })
    }
}

/// A value on an edge of the graph. Cloning is cheap: the content is shared.
#[derive(Clone, Debug)]
pub enum Artifact {
    Series(Arc<Series>),
    Windows(Arc<Windows>),
    Model(Arc<Model>),
    Scores(Arc<Scores>),
    Forecasts(Arc<Forecasts>),
    Predictions(Arc<Predictions>),
    Metrics(Arc<Metrics>),
    Images(Arc<Images>),
    Table(Arc<Table>),
    Files(Arc<Files>),
}

/// A part of an artifact that is stored as an object of its own, so that it is never copied.
#[derive(Clone, Debug)]
pub enum Part {
    /// Another artifact, such as the series below a set of windows.
    Artifact(Artifact),
    /// Bytes as they are, such as one file of a folder.
    Blob(Digest, Content),
}

impl Part {
    /// The digest by which the whole refers to this part.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Artifact(artifact) => artifact.digest(),
            Self::Blob(digest, _) => *digest,
        }
    }
}

/// Where an artifact that is being decoded finds its parts.
pub trait Parts {
    /// The artifact with this logical digest.
    fn artifact(&self, digest: &Digest) -> Result<Artifact, ArtifactError>;
    /// The path of the blob with this digest.
    fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError>;
}

impl Artifact {
    pub fn kind(&self) -> ArtifactKind {
        match self {
            Self::Series(_) => ArtifactKind::Series,
            Self::Windows(_) => ArtifactKind::Windows,
            Self::Model(_) => ArtifactKind::Model,
            Self::Scores(_) => ArtifactKind::Scores,
            Self::Forecasts(_) => ArtifactKind::Forecasts,
            Self::Predictions(_) => ArtifactKind::Predictions,
            Self::Metrics(_) => ArtifactKind::Metrics,
            Self::Images(_) => ArtifactKind::Images,
            Self::Table(_) => ArtifactKind::Table,
            Self::Files(_) => ArtifactKind::Files,
        }
    }

    /// The blake3 digest of the logical content: names, shapes, types and values, not the file that holds them.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Series(series) => series.digest(),
            Self::Windows(windows) => windows.digest(),
            Self::Model(model) => model.digest(),
            Self::Scores(scores) => scores.digest(),
            Self::Forecasts(forecasts) => forecasts.digest(),
            Self::Predictions(predictions) => predictions.digest(),
            Self::Metrics(metrics) => metrics.digest(),
            Self::Images(images) => images.digest(),
            Self::Table(table) => table.digest(),
            Self::Files(files) => files.digest(),
        }
    }

    /// The parts that are stored as objects of their own.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Windows(windows) => {
                vec![Part::Artifact(Self::Series(Arc::clone(&windows.series)))]
            }
            Self::Files(files) => files
                .entries()
                .iter()
                .map(|entry| Part::Blob(entry.digest, entry.content.clone()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The same artifact with its blobs where `place` says that they are by now, and no longer where they were made.
    #[must_use]
    pub fn with_blobs_at(&self, place: impl Fn(&Digest) -> PathBuf) -> Self {
        match self {
            Self::Files(files) => files
                .with_contents(|entry| Content::Disk(place(&entry.digest)))
                .into(),
            other => other.clone(),
        }
    }

    /// Writes the file that holds this artifact, without its parts. What may be large is never in memory as a
    /// whole file.
    ///
    /// # Errors
    /// If the sink fails, or the content does not fit the format.
    pub fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        let bytes = match self {
            Self::Series(series) => return series.encode_to(sink),
            Self::Scores(scores) => return scores.encode_to(sink),
            Self::Forecasts(forecasts) => return forecasts.encode_to(sink),
            Self::Predictions(predictions) => return predictions.encode_to(sink),
            Self::Images(images) => return images.encode_to(sink),
            Self::Windows(windows) => windows.encode()?,
            Self::Model(model) => model.encode()?,
            Self::Metrics(metrics) => metrics.encode()?,
            Self::Table(table) => table.encode()?,
            Self::Files(files) => files.encode()?,
        };
        Ok(sink.write_all(&bytes)?)
    }

    /// Reads an artifact back from its file, whoever wrote it.
    ///
    /// # Errors
    /// If the file is damaged or of another kind, or a part is missing.
    pub fn decode(
        kind: ArtifactKind,
        source: Source,
        parts: &dyn Parts,
    ) -> Result<Self, ArtifactError> {
        let decoded = guarded(|| Self::decode_unguarded(kind, source, parts));
        decoded.unwrap_or_else(|reason| Err(ArtifactError::corrupt(kind.name(), reason)))
    }

    fn decode_unguarded(
        kind: ArtifactKind,
        source: Source,
        parts: &dyn Parts,
    ) -> Result<Self, ArtifactError> {
        Ok(match kind {
            ArtifactKind::Series => Series::decode(source)?.into(),
            ArtifactKind::Scores => Scores::decode(source)?.into(),
            ArtifactKind::Images => Images::decode(source)?.into(),
            ArtifactKind::Forecasts => Forecasts::decode(source.into_bytes()?)?.into(),
            ArtifactKind::Predictions => Predictions::decode(source.into_bytes()?)?.into(),
            ArtifactKind::Windows => Windows::decode(source.into_bytes()?, parts)?.into(),
            ArtifactKind::Model => Model::decode(&source.into_bytes()?)?.into(),
            ArtifactKind::Metrics => Metrics::decode(source.into_bytes()?)?.into(),
            ArtifactKind::Table => Table::decode(source.into_bytes()?)?.into(),
            ArtifactKind::Files => Files::decode(source.into_bytes()?, parts)?.into(),
        })
    }
}

/// Lets each artifact type travel as an [`Artifact`] and be taken out of one again.
pub trait Typed: Sized {
    const KIND: ArtifactKind;
    fn from_artifact(artifact: &Artifact) -> Option<&Arc<Self>>;
}

macro_rules! typed {
    ($($name:ident),*) => {$(
        impl Typed for $name {
            const KIND: ArtifactKind = ArtifactKind::$name;
            fn from_artifact(artifact: &Artifact) -> Option<&Arc<Self>> {
                match artifact {
                    Artifact::$name(content) => Some(content),
                    _ => None,
                }
            }
        }
        impl From<$name> for Artifact {
            fn from(content: $name) -> Self {
                Self::$name(Arc::new(content))
            }
        }
    )*};
}
typed!(
    Series,
    Windows,
    Model,
    Scores,
    Forecasts,
    Predictions,
    Metrics,
    Images,
    Table,
    Files
);
