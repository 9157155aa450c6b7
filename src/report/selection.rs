//! Which objects of a run go along with a report.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use contract::artifact::{Artifact, ArtifactKind, ByteDigest, Digest};

use super::{History, ReportError, StageHistory};
use crate::cache::{CacheError, FilePaths, ObjectRecord, Output, Store};
use crate::diagnostic::suggestion;

/// The objects that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// None: they are named by their digests.
    None,
    /// Metrics and tables.
    Metrics,
    /// What no stage of the run takes as its input, and metrics: what the run was for.
    Outputs,
    /// Everything that the stages made.
    All,
}

impl Objects {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Metrics => "metrics",
            Self::Outputs => "outputs",
            Self::All => "all",
        }
    }
}

/// What goes along: objects of one sort, and all that some stages made.
#[derive(Clone, Debug)]
pub struct Selection {
    pub objects: Objects,
    /// Names of stages; one with axes means all of its instances.
    pub stages: Vec<String>,
}

impl Selection {
    /// Whether the run has the stages that are named.
    ///
    /// # Errors
    /// For the first that it has not.
    pub fn check(&self, history: &History<'_>) -> Result<(), ReportError> {
        for name in &self.stages {
            let mut stages = history.stages.iter();
            if stages.any(|stage| is_called(history, stage, name)) {
                continue;
            }
            let stages = history.stages.iter();
            let names: Vec<&str> = stages.map(|stage| stage.record.name.as_str()).collect();
            let hint = suggestion(name, &names);
            return Err(ReportError::NoSuchStage {
                name: name.clone(),
                hint: hint.unwrap_or_else(|| "`runner show RUN` lists its stages".to_owned()),
            });
        }
        Ok(())
    }

    /// Whether an output goes along.
    pub fn has(&self, history: &History<'_>, stage: &StageHistory, output: &Output) -> bool {
        let is_meant = match self.objects {
            Objects::None => false,
            Objects::Metrics => {
                matches!(
                    output.record.kind,
                    Some(ArtifactKind::Metrics | ArtifactKind::Table)
                )
            }
            Objects::Outputs => {
                output.record.kind == Some(ArtifactKind::Metrics)
                    || history.is_final(&output.record.digest)
            }
            Objects::All => true,
        };
        let mut names = self.stages.iter();
        is_meant || names.any(|name| is_called(history, stage, name))
    }

    /// Whether all outputs of a stage go along.
    pub fn has_all(&self, history: &History<'_>, stage: &StageHistory) -> bool {
        let mut outputs = stage.outputs().iter();
        outputs.all(|output| self.has(history, stage, output))
    }
}

fn is_called(history: &History<'_>, stage: &StageHistory, name: &str) -> bool {
    stage.record.name == name || history.record.stage_at(&stage.record.name) == name
}

/// A file of an output under a name that people can read.
#[derive(Clone, Debug)]
pub(super) struct NamedObject {
    /// `scores/scores.parquet`, or `plots/plots/a.png` for a file inside a folder of files.
    pub path: String,
    pub object: Digest,
    pub extension: &'static str,
    pub bytes: u64,
}

/// The files of an output: the artifact itself, or the files inside it.
///
/// # Errors
/// If the list of files is gone from the store.
pub(super) fn named_objects(
    history: &History<'_>,
    stage: &StageHistory,
    output: &Output,
) -> Result<Vec<NamedObject>, ReportError> {
    let folder = history.output_path(stage, output);
    let record = &output.record;
    if record.kind != Some(ArtifactKind::Files) {
        let extension = record.kind.map_or("", ArtifactKind::extension);
        let dot = if extension.is_empty() { "" } else { "." };
        let path = format!("{folder}{dot}{extension}");
        return Ok(vec![NamedObject {
            path,
            object: record.object,
            extension,
            bytes: record.bytes,
        }]);
    }
    let files = match history.store.load(record) {
        Ok(Artifact::Files(files)) => files,
        Ok(other) => {
            let error = CacheError::Damaged {
                object: record.object,
                reason: format!("it holds {}", other.kind()),
            };
            return Err(gone(stage, error));
        }
        Err(error) => return Err(gone(stage, error)),
    };
    let paths = FilePaths::of(files.entries().iter().map(|entry| entry.path.as_str()));
    let mut objects = Vec::with_capacity(files.entries().len());
    for entry in files.entries() {
        objects.push(NamedObject {
            path: format!("{folder}/{}", paths.path(entry.path.as_str())),
            object: entry.digest,
            extension: "",
            bytes: entry.size,
        });
    }
    Ok(objects)
}

pub(super) fn gone(stage: &StageHistory, source: CacheError) -> ReportError {
    ReportError::Gone {
        stage: stage.record.name.clone(),
        source,
    }
}

/// All objects of an output, parts included, each once.
pub(super) fn all_objects<'a>(
    records: impl Iterator<Item = &'a ObjectRecord>,
) -> Vec<&'a ObjectRecord> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for record in records.flat_map(ObjectRecord::all) {
        if seen.insert((record.object, record.kind)) {
            all.push(record);
        }
    }
    all
}

/// Copies an object out of the store and checks its bytes on the way.
///
/// # Errors
/// If it is gone or damaged, or the target cannot be written.
pub(super) fn copy_object(
    store: &Store,
    object: &Digest,
    extension: &str,
    to: &mut dyn Write,
    name: &Path,
) -> Result<(), ReportError> {
    let from = store.layout().object_named(object, extension);
    match store.layout().open(&from) {
        Ok(file) => copy_checked(file, &from, object, to, name),
        Err(_) => Err(CacheError::Missing { object: *object }.into()),
    }
}

/// Copies a file, which lies at `from`, and checks its bytes on the way.
///
/// # Errors
/// If its bytes are not those of its name, or the target cannot be written.
pub(super) fn copy_checked(
    mut file: File,
    from: &Path,
    object: &Digest,
    to: &mut dyn Write,
    name: &Path,
) -> Result<(), ReportError> {
    let (mut digest, mut piece) = (ByteDigest::default(), vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut piece);
        let read = read.map_err(CacheError::io("read", from))?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        to.write_all(&piece[..read])
            .map_err(ReportError::io("write", name))?;
    }
    let found = digest.finish();
    if found == *object {
        return Ok(());
    }
    Err(ReportError::Cache(CacheError::Damaged {
        object: *object,
        reason: format!("its bytes have the digest {}", found.short()),
    }))
}

/// [`copy_object`] into a new file.
pub(super) fn extract(
    history: &History<'_>,
    from: &NamedObject,
    to: &Path,
) -> Result<(), ReportError> {
    let mut file = fs::File::create(to).map_err(ReportError::io("write", to))?;
    copy_object(history.store, &from.object, from.extension, &mut file, to)
}

/// An object that is lost or damaged is the stage's loss.
pub(super) fn of_stage(stage: &StageHistory, error: ReportError) -> ReportError {
    match error {
        ReportError::Cache(source) if source.is_loss() => gone(stage, source),
        other => other,
    }
}
