//! A run as MLflow's file store keeps it: `EXPERIMENT/RUN/` with metrics, parameters, tags and artifacts below a folder such
//! as `mlruns`, which may hold other runs already. The training logs of its stages become curves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stages::artifact::{Artifact, ArtifactKind, Digest, Table};

use super::pipeline_files::pipeline_files;
use super::selection::{extract, named_objects};
use super::{History, ReportError, Selection, StageHistory, Target};
use crate::cache::{RunStatus, StageState};

/// Longer names of metrics and parameters are cut, and told apart by a digest.
const LONGEST_NAME: usize = 200;

/// MLflow refuses longer values of parameters.
const LONGEST_VALUE: usize = 6000;

/// Writes the run below a tracking folder. Returns the run's folder.
///
/// # Errors
/// If the run is there already and not to be replaced, or something cannot be read or written.
pub fn write_mlflow(
    history: &History<'_>,
    root: &Path,
    selection: &Selection,
    force: bool,
) -> Result<PathBuf, ReportError> {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let record = history.record;
    let experiment = experiment(&root, &record.pipeline)?;
    let id = Digest::of_bytes(format!("run {}", record.run).as_bytes()).to_string()[..32].to_owned();
    let folder = root.join(&experiment);
    let is_new = !folder.join("meta.yaml").exists();
    let target = Target::new(&folder.join(&id), force)?;
    for part in ["metrics", "params", "tags", "artifacts"] {
        let path = target.aside().join(part);
        fs::create_dir_all(&path).map_err(ReportError::io("create", &path))?;
    }
    target.write("meta.yaml", run_meta(history, &folder.join(&id), &experiment, &id).as_bytes())?;
    metrics(history, &target)?;
    parameters(history, &target)?;
    tags(history, &target)?;
    artifacts(history, selection, &target)?;
    if is_new {
        let meta = folder.join("meta.yaml");
        Target::new(&meta, true)?.file(experiment_meta(history, &folder, &experiment).as_bytes())?;
    }
    target.finish()
}

/// The number of the experiment that holds runs of this pipeline: that of its name, or one that follows from the name.
fn experiment(root: &Path, pipeline: &str) -> Result<String, ReportError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.map_err(ReportError::io("list", root))?),
    };
    let mut known: Vec<(String, String)> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let text = fs::read_to_string(entry.path().join("meta.yaml")).ok()?;
            let name = text.lines().find_map(|line| line.strip_prefix("name:"))?.trim();
            // Names are written as JSON here, and plainly or in simple quotes by MLflow.
            let plain = serde_json::from_str(name).unwrap_or_else(|_| name.trim_matches('\'').replace("''", "'"));
            Some((entry.file_name().into_string().ok()?, plain))
        })
        .collect();
    known.sort();
    let found = known.into_iter().find(|(_, name)| name == pipeline).map(|(id, _)| id);
    let digest = Digest::of_bytes(format!("experiment {pipeline}").as_bytes());
    let number = digest.0[..7].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Ok(found.unwrap_or_else(|| number.to_string()))
}

/// Lines of YAML; values are JSON, which is YAML.
fn yaml(entries: &[(&str, Value)]) -> String {
    entries.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

fn address(folder: &Path) -> String {
    let text = folder.to_string_lossy();
    format!("file://{}", super::names::encoded_path(&text))
}

fn experiment_meta(history: &History<'_>, folder: &Path, experiment: &str) -> String {
    let started = history.record.started;
    yaml(&[
        ("artifact_location", address(folder).into()),
        ("creation_time", started.into()),
        ("experiment_id", experiment.into()),
        ("last_update_time", started.into()),
        ("lifecycle_stage", "active".into()),
        ("name", history.record.pipeline.as_str().into()),
    ])
}

fn run_meta(history: &History<'_>, folder: &Path, experiment: &str, id: &str) -> String {
    let record = history.record;
    // The numbers of MLflow's RunStatus.
    let status = match record.status {
        RunStatus::Running => 1,
        RunStatus::Done => 3,
        RunStatus::Failed => 4,
        RunStatus::Interrupted => 5,
    };
    yaml(&[
        ("artifact_uri", address(&folder.join("artifacts")).into()),
        ("end_time", history.ended().into()),
        ("entry_point_name", "".into()),
        ("experiment_id", experiment.into()),
        ("lifecycle_stage", "active".into()),
        ("run_id", id.into()),
        ("run_name", record.run.0.as_str().into()),
        ("run_uuid", id.into()),
        ("source_name", "".into()),
        ("source_type", 4.into()),
        ("source_version", "".into()),
        ("start_time", record.started.into()),
        ("status", status.into()),
        ("tags", Value::Array(Vec::new())),
        ("user_id", history.user().unwrap_or("unknown").into()),
    ])
}

/// A name that MLflow takes: letters, digits and `_-. :/`. What a file system would read as folders is none.
fn name_of(text: &str) -> String {
    let replace = |character: char| match character {
        '[' | ',' | '/' => Some('.'),
        '=' => Some(':'),
        ']' | '"' => None,
        c if c.is_ascii_alphanumeric() || "_-. :".contains(c) => Some(c),
        _ => Some('_'),
    };
    let name: String = text.chars().filter_map(replace).collect();
    let name = name.trim_start_matches('.');
    if name.len() <= LONGEST_NAME && !name.is_empty() {
        return name.to_owned();
    }
    format!("{}-{}", &name[..name.len().min(LONGEST_NAME)], Digest::of_bytes(text.as_bytes()).short())
}

/// Gives every text a name of its own.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn of(&mut self, text: &str) -> String {
        let plain = name_of(text);
        let name = if self.0.contains(&plain) {
            format!("{plain}-{}", Digest::of_bytes(text.as_bytes()).short())
        } else {
            plain
        };
        self.0.insert(name.clone());
        name
    }
}

/// A line per value: time, value, step.
fn metrics(history: &History<'_>, target: &Target) -> Result<(), ReportError> {
    let mut names = Names::default();
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    let ended = history.ended().unwrap_or(history.record.started);
    for (stage, metrics) in &history.record.metrics {
        let past = history.stages.iter().find(|past| past.record.name == *stage);
        let time = past.and_then(StageHistory::times).map_or(ended, |(_, end)| end);
        for metric in metrics {
            let name = names.of(&format!("{stage}.{}", metric.name));
            if let Some(value) = metric.value {
                lines.insert(name, format!("{time} {value:?} 0\n"));
            }
        }
    }
    for stage in &history.stages {
        for (column, text) in curves(history, stage)? {
            lines.insert(names.of(&format!("{}.{column}", stage.record.name)), text);
        }
    }
    lines.iter().try_for_each(|(name, text)| target.write(&format!("metrics/{name}"), text.as_bytes()))
}

/// The columns of a training log over its epochs. Epochs are told apart by step; their times are spread evenly.
fn curves(history: &History<'_>, stage: &StageHistory) -> Result<Vec<(String, String)>, ReportError> {
    let Some((start, end)) = stage.times() else { return Ok(Vec::new()) };
    let mut curves = Vec::new();
    for output in stage.outputs().iter().filter(|output| output.record.kind == Some(ArtifactKind::Table)) {
        // A table that is gone from the store is no reason to keep the rest back.
        let Ok(Artifact::Table(table)) = history.store.load(&output.record) else { continue };
        let Some(epochs) = table.integers("epoch") else { continue };
        for column in table.column_names() {
            if column != "epoch"
                && let Some(text) = curve(&table, &column, &epochs, (start, end))
            {
                curves.push((column, text));
            }
        }
    }
    Ok(curves)
}

fn curve(table: &Table, column: &str, epochs: &[Option<i64>], (start, end): (u64, u64)) -> Option<String> {
    let values = table.reals(column)?;
    let count = epochs.len() as u64;
    let line = |(index, (epoch, value)): (usize, (&Option<i64>, &Option<f64>))| {
        let time = start + (end - start) * (index as u64 + 1) / count.max(1);
        Some(format!("{time} {:?} {}\n", (*value)?, (*epoch)?))
    };
    let text: String = epochs.iter().zip(&values).enumerate().filter_map(line).collect();
    (!text.is_empty()).then_some(text)
}

fn parameters(history: &History<'_>, target: &Target) -> Result<(), ReportError> {
    let record = history.record;
    let mut names = Names::default();
    let seed = ("seed".to_owned(), Value::from(record.seed));
    let own = record.params.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in own.chain(std::iter::once(seed)) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text: String = text.chars().take(LONGEST_VALUE).collect();
        target.write(&format!("params/{}", names.of(&name)), text.as_bytes())?;
    }
    Ok(())
}

fn tags(history: &History<'_>, target: &Target) -> Result<(), ReportError> {
    let record = history.record;
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    let mut tag = |name: &str, value: &str| drop(tags.insert(name_of(name), value.to_owned()));
    tag("mlflow.runName", &record.run.0);
    tag("mlflow.source.name", &record.file);
    tag("mlflow.source.type", "LOCAL");
    tag("mlflow.user", history.user().unwrap_or("unknown"));
    if let Some(commit) = record.environment.get("git").and_then(|git| git.get("commit")).and_then(Value::as_str) {
        tag("mlflow.source.git.commit", commit);
    }
    tag("runner.run", &record.run.0);
    tag("runner.status", record.status.name());
    tag("runner.command", &record.command.join(" "));
    if let Some(profile) = &record.profile {
        tag("runner.profile", profile);
    }
    for (name, value) in &record.environment {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        tag(&format!("runner.environment.{name}"), &text);
    }
    for stage in &record.stages {
        let key = stage.key.map(|key| key.to_string()).unwrap_or_default();
        tag(&format!("runner.key.{}", stage.name), &key);
        if stage.state == StageState::Failed {
            tag(&format!("runner.error.{}", stage.name), &stage.reason);
        }
    }
    for (stage, metrics) in &record.metrics {
        for metric in metrics {
            tag(&format!("runner.direction.{stage}.{}", metric.name), metric.direction.name());
            let marks = [metric.oracle.then_some("oracle"), metric.inflating.then_some("inflating")];
            let caveat = (!metric.caveat.is_empty()).then_some(metric.caveat.as_str());
            let text: Vec<&str> = marks.into_iter().chain([caveat]).flatten().collect();
            if !text.is_empty() {
                tag(&format!("runner.caveat.{stage}.{}", metric.name), &text.join("; "));
            }
        }
    }
    tags.iter().try_for_each(|(name, value)| target.write(&format!("tags/{name}"), value.as_bytes()))
}

/// The record, the pipeline, and the objects that are asked for.
fn artifacts(history: &History<'_>, selection: &Selection, target: &Target) -> Result<(), ReportError> {
    let record = history.store.run_path(&history.record.run);
    let bytes = fs::read(&record).map_err(ReportError::io("read", &record))?;
    target.write("artifacts/run.json", &bytes)?;
    for (path, text) in pipeline_files(history.record)? {
        target.write(&format!("artifacts/pipeline/{path}"), text.as_bytes())?;
    }
    for stage in &history.stages {
        for output in stage.outputs().iter().filter(|output| selection.has(history, stage, output)) {
            for object in named_objects(history, stage, output)? {
                let to = target.below(&format!("artifacts/objects/{}", object.path))?;
                extract(history, &object, &to).map_err(|error| super::selection::of_stage(stage, error))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_mlflow_takes() {
        assert_eq!(name_of("metrics[machine=m-1,lr=1.0e-2].f1"), "metrics.machine:m-1.lr:1.0e-2.f1");
        assert_eq!(name_of("../x/ü"), "x._");
        assert!(name_of(&"a".repeat(500)).len() < 250);
        let mut names = Names::default();
        let (first, second) = (names.of("a/b"), names.of("a,b"));
        assert!(first == "a.b" && second.starts_with("a.b-"), "{first} {second}");
    }

    #[test]
    fn the_experiment_of_a_name_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = experiment(folder.path(), "it's").unwrap();
        assert_eq!(first, experiment(&folder.path().join("none"), "it's").unwrap());
        for (id, line) in [("7", "name: plain"), ("8", "name: 'it''s'"), ("9", "name: \"quoted\"")] {
            fs::create_dir(folder.path().join(id)).unwrap();
            fs::write(folder.path().join(id).join("meta.yaml"), line).unwrap();
        }
        let ids = ["plain", "it's", "quoted"].map(|name| experiment(folder.path(), name).unwrap());
        assert_eq!(ids, ["7", "8", "9"]);
    }
}
