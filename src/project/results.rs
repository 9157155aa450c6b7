//! What people see of a run besides its course: its metrics, and the files that it made, linked where people find them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::artifact::{Artifact, ArtifactKind, FileEntry, Files, Folder, Metric, RelativePath};
use indexmap::IndexMap;
use rayon::prelude::*;

use super::Listener;
use crate::cache::{Action, CacheError, FilePaths, Output, OutputPaths, RunId, RunRecord, Store};
use crate::graph::{Graph, StageId};

/// Results that a thread reads or links at a time; fewer are not worth another thread.
const SPAN_OF_WORK: usize = 16;

/// What people see of a run besides its course.
#[derive(Default)]
pub struct Results {
    /// Stage name to its metrics.
    pub metrics: IndexMap<String, Vec<Metric>>,
    files: Vec<OutputFiles>,
    /// Stages whose results turned out to be damaged or missing.
    pub lost: Vec<StageId>,
}

/// An output of files.
struct OutputFiles {
    stage: String,
    output: String,
    /// Where the files belong below those of the run.
    place: String,
    files: Arc<Files>,
}

/// The path of an output below the files of a run.
fn place_of(paths: &OutputPaths, stage: &str, output: &Output, action: &Action) -> String {
    paths.path(
        stage,
        &output.port,
        action.outputs.iter().map(|output| output.port.as_str()),
    )
}

/// Loads the metrics and lists the files of these actions.
pub fn results_of(
    graph: &Graph,
    store: &Store,
    actions: &BTreeMap<StageId, Arc<Action>>,
) -> Result<Results, CacheError> {
    let mut names = Vec::with_capacity(graph.len());
    let mut outputs = Vec::new();
    for id in graph.order() {
        names.push(graph.stage(*id).name.as_str());
        for output in actions.get(id).iter().flat_map(|action| &action.outputs) {
            if let Some(ArtifactKind::Metrics | ArtifactKind::Files) = output.record.kind {
                outputs.push((*id, output));
            }
        }
    }
    let loaded: Vec<_> = outputs
        .par_iter()
        .with_min_len(SPAN_OF_WORK)
        .map(|(_, output)| store.load(&output.record))
        .collect();
    let paths = OutputPaths::of(names);
    let mut results = Results::default();
    for ((id, output), artifact) in outputs.into_iter().zip(loaded) {
        let name = graph.stage(id).name.clone();
        match artifact {
            Ok(Artifact::Metrics(metrics)) => {
                let known = results.metrics.entry(name).or_default();
                for metric in &metrics.entries {
                    known.push(named(metric, output, &actions[&id]));
                }
            }
            Ok(Artifact::Files(files)) => {
                let place = place_of(&paths, &name, output, &actions[&id]);
                results.files.push(OutputFiles {
                    stage: name,
                    output: output.port.clone(),
                    place,
                    files,
                });
            }
            Ok(_) => {}
            Err(error) if error.is_loss() => results.lost.push(id),
            Err(error) => return Err(error),
        }
    }
    results.lost.dedup();
    Ok(results)
}

/// A metric under the name that it has among all of its stage. Where a stage has several outputs of metrics, each may have one
/// of the same name, so that the output's name stands before it.
fn named(metric: &Metric, output: &Output, action: &Action) -> Metric {
    let outputs = action.outputs.iter();
    let of_metrics = outputs.filter(|other| other.record.kind == Some(ArtifactKind::Metrics));
    if of_metrics.count() < 2 {
        return metric.clone();
    }
    Metric {
        name: format!("{}.{}", output.port, metric.name),
        ..metric.clone()
    }
}

/// Links the files of the results below the run's folder, so that they can be opened by name: `STAGE/OUTPUT/PATH`, as
/// [`OutputPaths`] and [`FilePaths`] write it, so that no two files have one place. No link on the way is followed. Returns their
/// paths.
pub fn link_files(
    results: &Results,
    store: &Store,
    run: &RunId,
    listener: &dyn Listener,
) -> Vec<PathBuf> {
    let linked: Vec<Vec<PathBuf>> = results
        .files
        .par_iter()
        .with_min_len(SPAN_OF_WORK)
        .map(|output| link_output(output, store, run, listener))
        .collect();
    linked.concat()
}

fn link_output(
    output: &OutputFiles,
    store: &Store,
    run: &RunId,
    listener: &dyn Listener,
) -> Vec<PathBuf> {
    let place = format!("runs/{run}/files/{}", output.place);
    match show_files(&output.files, store, &place) {
        Ok(paths) => paths,
        Err(error) => {
            let name = format!("{}.{}", output.stage, output.output);
            listener.warning(&format!(
                "the files of {name} cannot be shown at {place}: {error}"
            ));
            Vec::new()
        }
    }
}

/// Makes the files of an artifact appear in a folder of the store. Returns their paths.
fn show_files(files: &Files, store: &Store, place: &str) -> io::Result<Vec<PathBuf>> {
    let mut folder = Folder::open(store.layout().root())?;
    let paths = files
        .entries()
        .iter()
        .map(|entry| &entry.path)
        .chain(files.folders());
    let paths = FilePaths::of(paths.map(RelativePath::as_str));
    let seen = |path: &RelativePath| {
        RelativePath::new(format!("{place}/{}", paths.path(path.as_str())))
            .map_err(io::Error::other)
    };
    folder.make_folder(&RelativePath::new(place).map_err(io::Error::other)?)?;
    for empty in files.folders() {
        folder.make_folder(&seen(empty)?)?;
    }
    let mut linked = Vec::with_capacity(files.entries().len());
    for entry in files.entries() {
        let entry = FileEntry {
            path: seen(&entry.path)?,
            ..entry.clone()
        };
        let source = store.layout().object_named(&entry.digest, "");
        let target = folder.path_of(&entry.path);
        match store
            .layout()
            .with_rescue(&source, || folder.link(&entry.path, &source))
        {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !is_same(&source, &target)? {
                    // Never written over what is there: a link to an object would be emptied with the object.
                    folder.remove_file(&entry.path)?;
                    folder
                        .link(&entry.path, &source)
                        .or_else(|_| folder.write(&entry))?;
                }
            }
            // Elsewhere, or on a file system without links.
            Err(_) => folder.write(&entry)?,
        }
        linked.push(target);
    }
    Ok(linked)
}

/// Whether two files are one, or hold the same bytes.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (left, right) = (fs::metadata(one)?, fs::symlink_metadata(other)?);
    if (left.dev(), left.ino()) == (right.dev(), right.ino()) {
        return Ok(true);
    }
    Ok(right.is_file() && left.len() == right.len() && fs::read(one)? == fs::read(other)?)
}

/// [`link_files`] for a run whose record came from elsewhere, as far as its files are in the store.
pub fn link_files_of(store: &Store, record: &RunRecord, listener: &dyn Listener) -> Vec<PathBuf> {
    let mut results = Results::default();
    let paths = OutputPaths::of(record.stages.iter().map(|stage| stage.name.as_str()));
    for stage in &record.stages {
        let Some(action) = stage.key.and_then(|key| store.action(&key).ok().flatten()) else {
            continue;
        };
        for output in &action.outputs {
            if output.record.kind == Some(ArtifactKind::Files)
                && stage.digests.get(&output.port) == Some(&output.record.digest)
                && let Ok(Artifact::Files(files)) = store.load(&output.record)
            {
                let place = place_of(&paths, &stage.name, output, &action);
                results.files.push(OutputFiles {
                    stage: stage.name.clone(),
                    output: output.port.clone(),
                    place,
                    files,
                });
            }
        }
    }
    link_files(&results, store, &record.run, listener)
}
