//! The record of a run as JSON.

use contract::artifact::Digest;
use serde_json::{Map, Value, json};

use crate::cache::{RunRecord, StageRecord};

/// The trials of a sweep, each with all of its own parameters.
fn trials(record: &RunRecord) -> Vec<Value> {
    let mut trials = Vec::new();
    for trial in record.trials() {
        trials.push(json!({
            "label": trial.label,
            "overrides": trial.overrides,
            "targets": trial.targets,
            "params": record.params_of_trial(trial),
            "seed": record.seed_of_trial(trial),
        }));
    }
    trials
}

fn stage(record: &RunRecord, stage: &StageRecord) -> Value {
    let mut told = json!({
        "name": stage.name,
        "kind": stage.kind,
        "state": stage.state.name(),
        "key": stage.key,
        "digests": stage.digests,
        "seconds": stage.seconds,
        "reason": stage.reason,
    });
    if !stage.causes.is_empty() {
        told["causes"] = json!(stage.causes);
    }
    let axes = record.axes_at(&stage.name);
    if !axes.is_empty() {
        told["axes"] = json!(axes);
    }
    if record.sweep.is_some() {
        let trials = record.trials_of(&stage.name).into_iter();
        told["trials"] = trials.map(|trial| trial.label.as_str()).collect();
    }
    told
}

/// The record as `runner show --json` prints it.
pub(super) fn to_json(record: &RunRecord) -> Value {
    let stages: Vec<Value> = record.stages.iter().map(|one| stage(record, one)).collect();
    let mut metrics = Map::new();
    for (stage, entries) in &record.metrics {
        let mut values = Map::new();
        for metric in entries {
            values.insert(metric.name.clone(), json!(metric.value));
        }
        metrics.insert(stage.clone(), values.into());
    }
    let mut files = Vec::new();
    for file in &record.pipeline_files {
        let digest = Digest::of_bytes(file.text.as_bytes());
        files.push(json!({"path": file.path, "blake3": digest}));
    }
    let mut object = json!({
        "run": record.run,
        "pipeline": record.pipeline,
        "file": record.file,
        "status": record.status.name(),
        "started": record.started,
        "seconds": record.seconds,
        "command": record.command,
        "profile": record.profile,
        "overrides": record.overrides,
        "targets": record.targets,
        "params": record.common_params(),
        "seed": record.common_seed(),
        "environment": record.environment,
        "pipeline_files": files,
        "stages": stages,
        "metrics": metrics,
    });
    if let Some(sweep) = &record.sweep {
        object["sweep"] = json!({"pipeline": sweep.pipeline, "varied": record.varied(), "members": trials(record)});
    }
    object
}
