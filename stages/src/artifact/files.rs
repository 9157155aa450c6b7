//! A folder of files as an artifact: a Parquet list of names, each file a blob of its own in the store.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{BooleanArray, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata};
use super::series::optional;
use super::{ArtifactError, Digest, DigestWriter, Parts};

/// Where the bytes of a file are at the moment.
#[derive(Clone, Debug)]
pub enum Content {
    Memory(Arc<[u8]>),
    /// A file that stays as it is until the artifact is published.
    Disk(PathBuf),
}

impl Content {
    pub fn read(&self) -> std::io::Result<Arc<[u8]>> {
        match self {
            Self::Memory(bytes) => Ok(Arc::clone(bytes)),
            Self::Disk(path) => Ok(std::fs::read(path)?.into()),
        }
    }

    /// Writes the bytes to a sink; a file on disk is not read into memory as a whole.
    pub fn copy_to(&self, sink: &mut (dyn Write + Send)) -> std::io::Result<()> {
        match self {
            Self::Memory(bytes) => sink.write_all(bytes),
            Self::Disk(path) => std::io::copy(&mut std::fs::File::open(path)?, sink).map(drop),
        }
    }
}

/// One file of a folder.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Relative, with `/` between its parts.
    pub path: String,
    pub executable: bool,
    pub size: u64,
    /// blake3 of the bytes.
    pub digest: Digest,
    pub content: Content,
}

impl FileEntry {
    pub fn from_bytes(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            executable: false,
            size: bytes.len() as u64,
            digest: Digest::of_bytes(&bytes),
            content: Content::Memory(bytes.into()),
        }
    }
}

/// A folder of files, sorted by path.
#[derive(Clone, Debug)]
pub struct Files {
    pub entries: Vec<FileEntry>,
}

impl Files {
    pub fn new(mut entries: Vec<FileEntry>) -> Self {
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        Self { entries }
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("files");
        writer.number(self.entries.len() as u64);
        for entry in &self.entries {
            writer.text(&entry.path);
            writer.flag(entry.executable);
            writer.digest(&entry.digest);
        }
        writer.finish()
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let fields = vec![
            Field::new("path", DataType::Utf8, false),
            Field::new("executable", DataType::Boolean, false),
            Field::new("size", DataType::UInt64, false),
            Field::new("digest", DataType::Utf8, false),
        ];
        let entries = &self.entries;
        columns::write(
            Schema::new(fields),
            vec![
                Arc::new(entries.iter().map(|entry| Some(entry.path.as_str())).collect::<StringArray>()),
                Arc::new(entries.iter().map(|entry| Some(entry.executable)).collect::<BooleanArray>()),
                Arc::new(entries.iter().map(|entry| entry.size).collect::<UInt64Array>()),
                Arc::new(entries.iter().map(|entry| Some(entry.digest.to_string())).collect::<StringArray>()),
            ],
            entries.len(),
            Metadata::new("files"),
        )
    }

    pub(super) fn decode(bytes: Vec<u8>, parts: &dyn Parts) -> Result<Self, ArtifactError> {
        let (batch, _) = columns::read(bytes, "files")?;
        let corrupt = |reason: &str| ArtifactError::corrupt("files", reason);
        let missing = || corrupt("a column is missing");
        let paths = optional::<StringArray>(&batch, "path").ok_or_else(missing)?;
        let executable = optional::<BooleanArray>(&batch, "executable").ok_or_else(missing)?;
        let sizes = optional::<UInt64Array>(&batch, "size").ok_or_else(missing)?;
        let digests = optional::<StringArray>(&batch, "digest").ok_or_else(missing)?;
        let entry = |row: usize| {
            let digest: Digest = digests.value(row).parse().map_err(|reason: String| corrupt(&reason))?;
            Ok(FileEntry {
                path: paths.value(row).to_owned(),
                executable: executable.value(row),
                size: sizes.value(row),
                digest,
                content: Content::Disk(parts.blob(&digest)?),
            })
        };
        Ok(Self { entries: (0..batch.num_rows()).map(entry).collect::<Result<_, ArtifactError>>()? })
    }
}
