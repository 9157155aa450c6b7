//! A run as MLflow tracks runs: parameters, metrics with their steps, tags and artifacts. Each trial of a sweep and each point
//! of a matrix is a separate run below that of the whole, so that MLflow can compare them. The training logs of stages
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

use super::names::text_of;
use super::pipeline_files::pipeline_files;
use super::selection::{NamedObject, named_objects};
use super::{History, ReportError, Selection, StageHistory};
use crate::cache::{Output, RunStatus, StageState, SweepMember};
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
    let (params, seed) = (record.common_params(), record.common_seed());
    let mut whole = Tracked {
        params: parameters(params, seed, IndexMap::new()),
        tags: tags(history),
        ..empty(history, record.run.0.clone(), false)
    };
    for stage in &history.stages {
        if !parts.iter().any(|part| part.has(history, stage)) {
            metrics(history, stage, &stage.record.name, &mut whole.metrics);
        }
    }
    let mut all = vec![whole];
    for part in parts {
        let mut tracked = empty(history, part.name(), true);
        tracked
            .tags
            .insert("runner.part".to_owned(), keys::tag(&part.name()));
        tracked.params = match &part {
            Part::Trial(trial) => {
                let params = record.params_of_trial(trial);
                let mut set = IndexMap::new();
                for name in record.varied() {
                    if !params.contains_key(&name)
                        && let Some(value) = record.value_of_trial(trial, &name)
                    {
                        set.insert(name, value);
                    }
                }
                parameters(params, Some(record.seed_of_trial(trial)), set)
            }
            Part::Axes(axes) => parameters(record.params.clone(), Some(record.seed), axes.clone()),
        };
        for stage in &history.stages {
            if part.has(history, stage) {
                let name = part.name_of(history, stage);
                metrics(history, stage, name, &mut tracked.metrics);
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
    let (mut parts, mut seen) = (Vec::new(), BTreeSet::new());
    for stage in &history.stages {
        let axes = record.axes_at(&stage.record.name);
        if axes.is_empty() || !has_something_to_show(history, stage) {
            continue;
        }
        let part = Part::Axes(axes);
        if seen.insert(part.name()) {
            parts.push(part);
        }
    }
    parts
}

fn has_something_to_show(history: &History<'_>, stage: &StageHistory) -> bool {
    let is_table = |output: &Output| output.record.kind == Some(ArtifactKind::Table);
    stage.outputs().iter().any(is_table) || history.record.metrics.contains_key(&stage.record.name)
}

impl Part<'_> {
    fn name(&self) -> String {
        match self {
            Self::Trial(trial) => format!("trial {}", trial.label),
            Self::Axes(axes) => {
                let values = axes.iter().map(|(axis, value)| format!("{axis}={value}"));
                values.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// What a stage of this part is called in it.
    fn name_of<'n>(&self, history: &'n History<'_>, stage: &'n StageHistory) -> &'n str {
        match self {
            Self::Trial(_) => history.record.name_in_trial(&stage.record.name),
            Self::Axes(_) => history.record.stage_at(&stage.record.name),
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
    let mut named = BTreeMap::new();
    for (name, value) in &all {
        named.insert(key(name), keys::parameter(&text_of(value)));
    }
    named
}

/// Adds the metrics and curves of a stage, named by the stage and the metric.
fn metrics(
    history: &History<'_>,
    stage: &StageHistory,
    name: &str,
    into: &mut BTreeMap<String, Vec<Point>>,
) {
    let ended = history.ended().unwrap_or(history.record.started);
    let time = stage.times().map_or(ended, |(_, end)| end);
    let recorded = history.record.metrics.get(&stage.record.name);
    for metric in recorded.into_iter().flatten() {
        if let Some(value) = metric.value {
            let step = 0;
            let point = Point { time, value, step };
            into.insert(key(&format!("{name}.{}", metric.name)), vec![point]);
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

/// The columns of training logs over their epochs, with the port of the log. Epochs are told apart by step; their times are
/// spread evenly.
fn curves(history: &History<'_>, stage: &StageHistory) -> Vec<(String, String, Vec<Point>)> {
    let Some(times) = stage.times() else {
        return Vec::new();
    };
    let mut curves = Vec::new();
    for output in stage.outputs() {
        if output.record.kind != Some(ArtifactKind::Table) {
            continue;
        }
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
    let mut points = Vec::with_capacity(values.len());
    for (index, (epoch, value)) in epochs.iter().zip(values).enumerate() {
        if let (Some(step), Some(value)) = (*epoch, value) {
            let time = start + (end - start) * (index as u64 + 1) / count.max(1);
            points.push(Point { time, value, step });
        }
    }
    (!points.is_empty()).then_some(points)
}

/// Tags of the run of the whole.
fn tags(history: &History<'_>) -> BTreeMap<String, String> {
    let record = history.record;
    let mut tags = empty(history, record.run.0.clone(), false).tags;
    let mut tag = |name: &str, value: &str| drop(tags.insert(key(name), keys::tag(value)));
    tag("mlflow.source.name", &record.file);
    tag("mlflow.source.type", "LOCAL");
    if let Some(git) = record.environment.get("git")
        && let Some(commit) = git["commit"].as_str()
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
            let (name, direction) = (&metric.name, metric.direction.name());
            tag(&format!("runner.direction.{stage}.{name}"), direction);
            let mut caveats = Vec::new();
            if metric.oracle {
                caveats.push("oracle");
            }
            if metric.inflating {
                caveats.push("inflating");
            }
            if !metric.caveat.is_empty() {
                caveats.push(&metric.caveat);
            }
            if !caveats.is_empty() {
                tag(
                    &format!("runner.caveat.{stage}.{name}"),
                    &caveats.join("; "),
                );
            }
        }
    }
    tags
}

/// The record, the pipeline, and the objects that are asked for: the artifacts of the run of the whole.
fn attached(history: &History<'_>, selection: &Selection) -> Result<Vec<Attached>, ReportError> {
    let record = history.store.run_path(&history.record.run);
    let bytes = history.store.layout().read(&record);
    let bytes = bytes.map_err(ReportError::io("read", &record))?;
    let mut all = vec![Attached::Bytes("run.json".to_owned(), bytes)];
    for (path, text) in pipeline_files(history.record)? {
        let path = format!("pipeline/{path}");
        all.push(Attached::Bytes(path, text.as_bytes().to_vec()));
    }
    for (place, stage) in history.stages.iter().enumerate() {
        for output in stage.outputs() {
            if selection.has(history, stage, output) {
                for object in named_objects(history, stage, output)? {
                    all.push(Attached::Object(place, object));
                }
            }
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
