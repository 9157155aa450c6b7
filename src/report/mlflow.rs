//! A run as MLflow tracks runs: parameters, metrics with their steps, tags and artifacts. Each trial of a sweep and each point
//! of a matrix is a run of its own below that of the whole, so that MLflow can compare them. The training logs of stages
//! become curves. [`folder`] writes that as files, [`server`] sends it.

mod client;
mod folder;
mod keys;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use contract::artifact::{Artifact, ArtifactKind, Digest, Table};
use indexmap::IndexMap;
use serde_json::Value;

pub use client::Tracking;
pub use folder::write_mlflow;
pub use server::{Sent, send_mlflow};

use super::pipeline_files::pipeline_files;
use super::selection::{NamedObject, named_objects};
use super::{History, ReportError, Selection, StageHistory};
use crate::cache::{RunStatus, StageState, SweepMember};
use keys::key;

/// The tag that names the run with its parent. MLflow shows such runs below it.
const PARENT: &str = "mlflow.parentRunId";

/// One run of MLflow.
#[derive(Clone, Debug, PartialEq)]
struct Tracked {
    /// Names it in every export of the run.
    id: String,
    name: String,
    is_child: bool,
    status: RunStatus,
    started: u64,
    ended: Option<u64>,
    user: String,
    params: BTreeMap<String, String>,
    metrics: BTreeMap<String, Vec<Point>>,
    tags: BTreeMap<String, String>,
}

/// One value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// Milliseconds since 1970.
    time: u64,
    value: f64,
    step: i64,
}

/// What a run of MLflow below that of the whole is about.
enum Part<'a> {
    Trial(&'a SweepMember),
    /// The axes and their values.
    Axes(IndexMap<String, Value>),
}

/// A file among the artifacts of a run, by its path below them.
enum Attached {
    Bytes(String, Vec<u8>),
    /// An object of the stage at this place.
    Object(usize, NamedObject),
}

/// The run of the whole, and those below it.
fn tracked(history: &History<'_>) -> Result<Vec<Tracked>, ReportError> {
    let record = history.record;
    let parts = parts(history);
    let mut whole = Tracked {
        params: parameters(
            record.common_params(),
            record.common_seed(),
            IndexMap::new(),
        ),
        tags: tags(history),
        ..empty(history, record.run.0.clone(), false)
    };
    let stages: Vec<&StageHistory> = history.stages.iter().collect();
    let of_whole: Vec<&StageHistory> = stages
        .iter()
        .copied()
        .filter(|stage| !parts.iter().any(|part| part.has(history, stage)))
        .collect();
    metrics(
        history,
        &of_whole,
        |stage| stage.to_owned(),
        &mut whole.metrics,
    );
    let mut all = vec![whole];
    for part in parts {
        let mut tracked = empty(history, part.name(), true);
        tracked
            .tags
            .insert("runner.part".to_owned(), keys::tag(&part.name()));
        let own: Vec<&StageHistory> = stages
            .iter()
            .copied()
            .filter(|stage| part.has(history, stage))
            .collect();
        match &part {
            Part::Trial(trial) => {
                let params = record.params_of_trial(trial);
                let set = record
                    .varied()
                    .into_iter()
                    .filter(|name| !params.contains_key(name));
                let set = set
                    .filter_map(|name| Some((name.clone(), record.value_of_trial(trial, &name)?)))
                    .collect();
                tracked.params = parameters(params, Some(record.seed_of_trial(trial)), set);
                metrics(
                    history,
                    &own,
                    |stage| record.name_in_trial(stage).to_owned(),
                    &mut tracked.metrics,
                );
            }
            Part::Axes(axes) => {
                tracked.params = parameters(record.params.clone(), Some(record.seed), axes.clone());
                metrics(
                    history,
                    &own,
                    |stage| record.stage_at(stage).to_owned(),
                    &mut tracked.metrics,
                );
            }
        }
        all.push(tracked);
    }
    Ok(all)
}

fn empty(history: &History<'_>, name: String, is_child: bool) -> Tracked {
    let record = history.record;
    let text = if is_child {
        format!("run {} part {name}", record.run)
    } else {
        format!("run {}", record.run)
    };
    let user = history.user().unwrap_or("unknown").to_owned();
    let mut tags = BTreeMap::from([("mlflow.user".to_owned(), keys::tag(&user))]);
    tags.insert("runner.run".to_owned(), record.run.0.clone());
    tags.insert("mlflow.runName".to_owned(), keys::tag(&name));
    Tracked {
        id: Digest::of_bytes(text.as_bytes()).to_string()[..32].to_owned(),
        name,
        is_child,
        status: record.status,
        started: record.started,
        ended: history.ended(),
        user,
        params: BTreeMap::new(),
        metrics: BTreeMap::new(),
        tags,
    }
}

/// The trials of a sweep, or the points at which stages with something to show were expanded.
fn parts<'a>(history: &'a History<'_>) -> Vec<Part<'a>> {
    let record = history.record;
    if !record.trials().is_empty() {
        return record.trials().iter().map(Part::Trial).collect();
    }
    let mut seen = BTreeSet::new();
    let points = history
        .stages
        .iter()
        .map(|stage| (stage, record.axes_at(&stage.record.name)));
    let shown =
        points.filter(|(stage, axes)| !axes.is_empty() && has_something_to_show(history, stage));
    shown
        .map(|(_, axes)| Part::Axes(axes))
        .filter(|part| seen.insert(part.name()))
        .collect()
}

fn has_something_to_show(history: &History<'_>, stage: &StageHistory) -> bool {
    let tables = stage
        .outputs()
        .iter()
        .any(|output| output.record.kind == Some(ArtifactKind::Table));
    tables || history.record.metrics.contains_key(&stage.record.name)
}

impl Part<'_> {
    fn name(&self) -> String {
        match self {
            Self::Trial(trial) => format!("trial {}", trial.label),
            Self::Axes(axes) => axes
                .iter()
                .map(|(axis, value)| format!("{axis}={value}"))
                .collect::<Vec<_>>()
                .join(","),
        }
    }

    /// Whether a stage belongs to this part and not to all.
    fn has(&self, history: &History<'_>, stage: &StageHistory) -> bool {
        let (record, name) = (history.record, &stage.record.name);
        match self {
            Self::Trial(trial) => {
                let trials = record.trials_of(name);
                let is_common = trials.len() == record.trials().len() && trials.len() > 1;
                !is_common && trials.iter().any(|other| other.label == trial.label)
            }
            Self::Axes(axes) => record.axes_at(name) == *axes,
        }
    }
}

/// Parameters under their keys. `more` has names that no parameter has, or else it has a prefix.
fn parameters(
    params: IndexMap<String, Value>,
    seed: Option<u64>,
    more: IndexMap<String, Value>,
) -> BTreeMap<String, String> {
    let seed_name = if params.contains_key("seed") {
        "pipeline.seed"
    } else {
        "seed"
    };
    let mut all: IndexMap<String, Value> = params;
    all.extend(seed.map(|seed| (seed_name.to_owned(), Value::from(seed))));
    for (name, value) in more {
        let name = if all.contains_key(&name) {
            format!("axis.{name}")
        } else {
            name
        };
        all.insert(name, value);
    }
    all.iter()
        .map(|(name, value)| (key(name), keys::parameter(&text_of(value))))
        .collect()
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Adds the figures and curves of stages, named by the stage and the figure.
fn metrics(
    history: &History<'_>,
    stages: &[&StageHistory],
    named: impl Fn(&str) -> String,
    into: &mut BTreeMap<String, Vec<Point>>,
) {
    let ended = history.ended().unwrap_or(history.record.started);
    for stage in stages {
        let name = named(&stage.record.name);
        let time = stage.times().map_or(ended, |(_, end)| end);
        for metric in history
            .record
            .metrics
            .get(&stage.record.name)
            .into_iter()
            .flatten()
        {
            if let Some(value) = metric.value {
                into.insert(
                    key(&format!("{name}.{}", metric.name)),
                    vec![Point {
                        time,
                        value,
                        step: 0,
                    }],
                );
            }
        }
        for (port, column, points) in curves(history, stage) {
            let mut curve = format!("{name}.{column}");
            if into.contains_key(&key(&curve)) {
                curve = format!("{name}.{port}.{column}");
            }
            while into.contains_key(&key(&curve)) {
                curve += ".curve";
            }
            into.insert(key(&curve), points);
        }
    }
}

/// The columns of training logs over their epochs, with the port of the log. Epochs are told apart by step; their times are
/// spread evenly.
fn curves(history: &History<'_>, stage: &StageHistory) -> Vec<(String, String, Vec<Point>)> {
    let Some(times) = stage.times() else {
        return Vec::new();
    };
    let mut curves = Vec::new();
    for output in stage
        .outputs()
        .iter()
        .filter(|output| output.record.kind == Some(ArtifactKind::Table))
    {
        // A table that is gone from the store is no reason to keep the rest back.
        let Ok(Artifact::Table(table)) = history.store.load(&output.record) else {
            continue;
        };
        let Some(epochs) = table.integers("epoch") else {
            continue;
        };
        for column in table.column_names() {
            if column != "epoch"
                && let Some(points) = curve(&table, &column, &epochs, times)
            {
                curves.push((output.port.clone(), column, points));
            }
        }
    }
    curves
}

fn curve(
    table: &Table,
    column: &str,
    epochs: &[Option<i64>],
    (start, end): (u64, u64),
) -> Option<Vec<Point>> {
    let values = table.reals(column)?;
    let count = epochs.len() as u64;
    let point = |(index, (epoch, value)): (usize, (&Option<i64>, &Option<f64>))| {
        let time = start + (end - start) * (index as u64 + 1) / count.max(1);
        Some(Point {
            time,
            value: (*value)?,
            step: (*epoch)?,
        })
    };
    let points: Vec<Point> = epochs
        .iter()
        .zip(&values)
        .enumerate()
        .filter_map(point)
        .collect();
    (!points.is_empty()).then_some(points)
}

/// Tags of the run of the whole.
fn tags(history: &History<'_>) -> BTreeMap<String, String> {
    let record = history.record;
    let mut tags = empty(history, record.run.0.clone(), false).tags;
    let mut tag = |name: &str, value: &str| drop(tags.insert(key(name), keys::tag(value)));
    tag("mlflow.source.name", &record.file);
    tag("mlflow.source.type", "LOCAL");
    if let Some(commit) = record
        .environment
        .get("git")
        .and_then(|git| git.get("commit"))
        .and_then(Value::as_str)
    {
        tag("mlflow.source.git.commit", commit);
    }
    tag("runner.status", record.status.name());
    tag("runner.command", &record.command.join(" "));
    if let Some(profile) = &record.profile {
        tag("runner.profile", profile);
    }
    for (name, value) in &record.environment {
        tag(&format!("runner.environment.{name}"), &text_of(value));
    }
    for stage in &record.stages {
        let name = stage.key.map(|key| key.to_string()).unwrap_or_default();
        tag(&format!("runner.key.{}", stage.name), &name);
        if stage.state == StageState::Failed {
            tag(&format!("runner.error.{}", stage.name), &stage.reason);
        }
    }
    for (stage, metrics) in &record.metrics {
        for metric in metrics {
            tag(
                &format!("runner.direction.{stage}.{}", metric.name),
                metric.direction.name(),
            );
            let marks = [
                metric.oracle.then_some("oracle"),
                metric.inflating.then_some("inflating"),
            ];
            let caveat = (!metric.caveat.is_empty()).then_some(metric.caveat.as_str());
            let text: Vec<&str> = marks.into_iter().chain([caveat]).flatten().collect();
            if !text.is_empty() {
                tag(
                    &format!("runner.caveat.{stage}.{}", metric.name),
                    &text.join("; "),
                );
            }
        }
    }
    tags
}

/// The record, the pipeline, and the objects that are asked for: the artifacts of the run of the whole.
fn attached(history: &History<'_>, selection: &Selection) -> Result<Vec<Attached>, ReportError> {
    let record = history.store.run_path(&history.record.run);
    let bytes = history
        .store
        .layout()
        .read(&record)
        .map_err(ReportError::io("read", &record))?;
    let mut all = vec![Attached::Bytes("run.json".to_owned(), bytes)];
    for (path, text) in pipeline_files(history.record)? {
        all.push(Attached::Bytes(
            format!("pipeline/{path}"),
            text.as_bytes().to_vec(),
        ));
    }
    for (place, stage) in history.stages.iter().enumerate() {
        for output in stage
            .outputs()
            .iter()
            .filter(|output| selection.has(history, stage, output))
        {
            let objects = named_objects(history, stage, output)?;
            all.extend(
                objects
                    .into_iter()
                    .map(|object| Attached::Object(place, object)),
            );
        }
    }
    Ok(all)
}

impl Attached {
    /// Below the artifacts of the run.
    fn path(&self) -> String {
        match self {
            Self::Bytes(path, _) => path.clone(),
            Self::Object(_, object) => format!("objects/{}", object.path),
        }
    }
}
