//! Runs as MLflow's file store keeps them: `EXPERIMENT/RUN/` with metrics, parameters, tags and artifacts below a folder such
//! as `mlruns`, which may hold other runs already. MLflow 3.13 and later reads such folders only with
//! `MLFLOW_ALLOW_FILE_STORE=true`.

use std::fs;
use std::path::{Path, PathBuf};

use contract::artifact::Digest;
use serde_json::Value;

use super::{Attached, PARENT, Tracked, attached, tracked};
use crate::cache::RunStatus;
use crate::report::names::encoded_path;
use crate::report::selection::{extract, of_stage};
use crate::report::{History, ReportError, Selection, Target};

/// Writes the run below a tracking folder, and those of its trials beside it. Returns the run's folder.
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
    let experiment = experiment(&root, &history.record.pipeline)?;
    let folder = root.join(&experiment);
    let is_new = !folder.join("meta.yaml").exists();
    let runs = tracked(history)?;
    let mut targets = Vec::with_capacity(runs.len());
    for run in &runs {
        let target = Target::new(&folder.join(&run.id), force)?;
        write_run(run, &runs[0].id, &folder, &experiment, &target)?;
        targets.push(target);
    }
    if let Some(whole) = targets.first() {
        artifacts(history, selection, whole)?;
    }
    if is_new {
        let meta = folder.join("meta.yaml");
        Target::new(&meta, true)?
            .file(experiment_meta(history, &folder, &experiment).as_bytes())?;
    }
    // The run of the whole comes last: where it is, all is.
    let mut whole = PathBuf::new();
    for target in targets.into_iter().rev() {
        whole = target.finish()?;
    }
    Ok(whole)
}

fn write_run(
    run: &Tracked,
    parent: &str,
    folder: &Path,
    experiment: &str,
    target: &Target,
) -> Result<(), ReportError> {
    for part in ["metrics", "params", "tags", "artifacts"] {
        target.folder(part)?;
    }
    let meta = run_meta(run, &folder.join(&run.id), experiment);
    target.write("meta.yaml", meta.as_bytes())?;
    for (name, value) in &run.params {
        target.write(&format!("params/{name}"), value.as_bytes())?;
    }
    for (name, points) in &run.metrics {
        let mut text = String::new();
        for super::Point { time, value, step } in points {
            text += &format!("{time} {value:?} {step}\n");
        }
        target.write(&format!("metrics/{name}"), text.as_bytes())?;
    }
    for (name, value) in &run.tags {
        target.write(&format!("tags/{name}"), value.as_bytes())?;
    }
    if run.is_child {
        target.write(&format!("tags/{PARENT}"), parent.as_bytes())?;
    }
    Ok(())
}

/// The number of the experiment that holds runs of this pipeline: that of its name, or one that follows from the name.
fn experiment(root: &Path, pipeline: &str) -> Result<String, ReportError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.map_err(ReportError::io("list", root))?),
    };
    let mut known: Vec<String> = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        if name_of(&entry.path()).as_deref() == Some(pipeline) {
            known.extend(entry.file_name().into_string());
        }
    }
    // The order of a listing is the file system's.
    if let Some(first) = known.into_iter().min() {
        return Ok(first);
    }
    let digest = Digest::of_bytes(format!("experiment {pipeline}").as_bytes());
    let mut number = 0_u64;
    for byte in &digest.0[..7] {
        number = number << 8 | u64::from(*byte);
    }
    Ok(number.to_string())
}

/// The name of the experiment in a folder, which is written as JSON here, and plainly or in simple quotes by MLflow.
fn name_of(experiment: &Path) -> Option<String> {
    let text = fs::read_to_string(experiment.join("meta.yaml")).ok()?;
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("name:"))?.trim();
    let plain = || name.trim_matches('\'').replace("''", "'");
    Some(serde_json::from_str(name).unwrap_or_else(|_| plain()))
}

/// Lines of YAML; values are JSON, which is YAML.
fn yaml(entries: &[(&str, Value)]) -> String {
    let lines = entries.iter();
    lines
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn address(folder: &Path) -> String {
    let text = folder.to_string_lossy();
    format!("file://{}", encoded_path(&text))
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

fn run_meta(run: &Tracked, folder: &Path, experiment: &str) -> String {
    // The numbers of MLflow's RunStatus.
    let status = match run.status {
        RunStatus::Running => 1,
        RunStatus::Done => 3,
        RunStatus::Failed => 4,
        RunStatus::Interrupted => 5,
    };
    yaml(&[
        ("artifact_uri", address(&folder.join("artifacts")).into()),
        ("end_time", run.ended.into()),
        ("entry_point_name", "".into()),
        ("experiment_id", experiment.into()),
        ("lifecycle_stage", "active".into()),
        ("run_id", run.id.as_str().into()),
        ("run_name", run.name.as_str().into()),
        ("run_uuid", run.id.as_str().into()),
        ("source_name", "".into()),
        ("source_type", 4.into()),
        ("source_version", "".into()),
        ("start_time", run.started.into()),
        ("status", status.into()),
        ("tags", Value::Array(Vec::new())),
        ("user_id", run.user.as_str().into()),
    ])
}

fn artifacts(
    history: &History<'_>,
    selection: &Selection,
    target: &Target,
) -> Result<(), ReportError> {
    for attached in attached(history, selection)? {
        let path = format!("artifacts/{}", attached.path());
        match attached {
            Attached::Bytes(_, bytes) => target.write(&path, &bytes)?,
            Attached::Object(place, object) => {
                let extracted = extract(history, &object, &target.below(&path)?);
                extracted.map_err(|error| of_stage(&history.stages[place], error))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_experiment_of_a_name_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = experiment(folder.path(), "it's").unwrap();
        assert_eq!(
            first,
            experiment(&folder.path().join("none"), "it's").unwrap()
        );
        for (id, line) in [
            ("7", "name: plain"),
            ("8", "name: 'it''s'"),
            ("9", "name: \"quoted\""),
        ] {
            fs::create_dir(folder.path().join(id)).unwrap();
            fs::write(folder.path().join(id).join("meta.yaml"), line).unwrap();
        }
        let ids = ["plain", "it's", "quoted"].map(|name| experiment(folder.path(), name).unwrap());
        assert_eq!(ids, ["7", "8", "9"]);
    }
}
