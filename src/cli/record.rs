//! The record of a run as JSON.

use contract::artifact::{Digest, Metric};
use serde_json::{Value, json};

use crate::cache::{RunRecord, SweepMember};

/// The trials of a sweep, each with all of its own parameters.
fn trials(record: &RunRecord) -> Vec<Value> {
    let trial = |trial: &SweepMember| {
        json!({
            "label": trial.label,
            "overrides": trial.overrides,
            "targets": trial.targets,
            "params": record.params_of_trial(trial),
            "seed": record.seed_of_trial(trial),
        })
    };
    record.trials().iter().map(trial).collect()
}

/// The record as `runner show --json` prints it.
pub(super) fn to_json(record: &RunRecord) -> Value {
    let stages: Vec<Value> = record
        .stages
        .iter()
        .map(|stage| {
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
                told["trials"] = record
                    .trials_of(&stage.name)
                    .into_iter()
                    .map(|trial| trial.label.as_str())
                    .collect();
            }
            told
        })
        .collect();
    let values = |metrics: &Vec<Metric>| -> Value {
        metrics
            .iter()
            .map(|metric| (metric.name.clone(), json!(metric.value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let metrics: serde_json::Map<String, Value> = record
        .metrics
        .iter()
        .map(|(stage, metrics)| (stage.clone(), values(metrics)))
        .collect();
    let files: Vec<Value> = record
        .pipeline_files
        .iter()
        .map(|file| json!({"path": file.path, "blake3": Digest::of_bytes(file.text.as_bytes())}))
        .collect();
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
