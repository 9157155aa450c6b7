//! `--locked`: does everything that determines the results still match the lock, and are the results the same?

use std::collections::{BTreeMap, BTreeSet};

use contract::Trouble;
use contract::artifact::{Digest, Metric};
use serde_json::Value;

use super::metric_values::values_of;
use super::{Lock, LockedStage, MetricValues, misquoted};
use crate::cache::{Difference, StageRecord};
use crate::engine::{Planner, StagePlan, Verdict};
use crate::graph::StageId;

/// A stage in which the pipeline and its lock differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Deviation {
    pub stage: String,
    /// One sentence; the lines that differ may follow.
    pub reason: String,
    /// From what the lock says to what is so now.
    pub differences: Vec<Difference>,
}

impl Deviation {
    fn new(stage: &str, reason: &str) -> Self {
        Self {
            stage: stage.to_owned(),
            reason: reason.to_owned(),
            differences: Vec::new(),
        }
    }
}

/// Where the pipeline differs from the lock, before anything runs. Inputs that are yet to be computed are taken from the
/// lock. Without `all`, stages of the lock that the graph lacks are none of its business.
///
/// # Errors
/// If a raw file cannot be found.
pub fn deviations(
    lock: &Lock,
    planner: &Planner<'_>,
    all: bool,
) -> Result<Vec<Deviation>, Trouble> {
    let graph = planner.graph;
    let mut found = Vec::new();
    for &id in graph.order() {
        let name = &graph.stage(id).name;
        let Some(locked) = lock.stages.get(name) else {
            found.push(Deviation::new(name, "it is not in the lock"));
            continue;
        };
        let now = assess(lock, planner, id);
        if let Verdict::Broken(trouble) = now.verdict {
            return Err(trouble);
        }
        let Some(manifest) = now.manifest else {
            found.push(Deviation::new(
                name,
                "it takes an input that is not in the lock",
            ));
            continue;
        };
        let differences = Difference::between(&locked.manifest, &manifest.to_text());
        if !differences.is_empty() {
            found.push(Deviation {
                differences,
                ..Deviation::new(name, "what determines it differs")
            });
        } else if now.key != Some(locked.key) {
            found.push(Deviation::new(name, "its key is not that of its manifest"));
        }
    }
    if all {
        let stages = graph.order().iter();
        let known: BTreeSet<&String> = stages.map(|id| &graph.stage(*id).name).collect();
        for name in lock.stages.keys() {
            if !known.contains(name) {
                found.push(Deviation::new(name, "the pipeline no longer has it"));
            }
        }
    }
    Ok(found)
}

/// [`header_differences`] of the lock of a run of a sweep, which says only what is the same in all trials.
pub fn common_differences(
    lock: &Lock,
    seed: u64,
    params: &BTreeMap<String, Value>,
) -> Vec<Difference> {
    let mut said = params.clone();
    said.retain(|name, _| lock.params.contains_key(name));
    let mut differences = header_differences(lock, seed, &said);
    differences.retain(|difference| difference.path != "seed" || lock.seed.is_some());
    differences
}

/// Where a record's seed and parameters are not those of the pipeline.
pub fn header_differences(
    lock: &Lock,
    seed: u64,
    params: &BTreeMap<String, Value>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    differences.extend(Difference::of_line("seed", lock.seed, Some(seed)));
    let names: BTreeSet<&String> = lock.params.keys().chain(params.keys()).collect();
    for name in names {
        let (before, after) = (lock.params.get(name), params.get(name));
        differences.extend(Difference::of_line(format!("param.{name}"), before, after));
    }
    differences
}

/// The plan of a stage whose inputs are as the lock says that they were.
fn assess(lock: &Lock, planner: &Planner<'_>, id: StageId) -> StagePlan {
    let digest_of =
        |source: StageId, port: &str| lock.output(&planner.graph.stage(source).name, port);
    planner.assess(id, &digest_of, &[])
}

/// The stages whose outputs are not what the lock says, after they ran.
pub fn output_deviations(
    lock: &Lock,
    stages: &[StageRecord],
    metrics: &indexmap::IndexMap<String, Vec<Metric>>,
) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    for record in stages {
        if let Some(locked) = lock.stages.get(&record.name) {
            let metrics = values_of(metrics.get(&record.name).into_iter().flatten());
            deviations.extend(output_deviation(locked, record, &metrics));
        }
    }
    deviations
}

fn output_deviation(
    locked: &LockedStage,
    record: &StageRecord,
    metrics: &MetricValues,
) -> Option<Deviation> {
    // A stage that failed or was skipped has no outputs that could differ.
    if record.digests.is_empty() && !locked.outputs.is_empty() {
        return None;
    }
    let mut differences = Vec::new();
    let ports: BTreeSet<&String> = locked.outputs.keys().chain(record.digests.keys()).collect();
    for port in ports {
        let line = |digest: &Digest| format!("blake3:{digest}");
        let before = locked.outputs.get(port).map(line);
        let after = record.digests.get(port).map(line);
        differences.extend(Difference::of_line(format!("output.{port}"), before, after));
    }
    if !differences.is_empty() {
        return Some(Deviation {
            differences,
            ..Deviation::new(&record.name, "its result is different")
        });
    }
    let wrong = misquoted(&locked.metrics, metrics);
    if wrong.is_empty() {
        return None;
    }
    let reason = format!("the lock misquotes it: {}", wrong.join("; "));
    Some(Deviation::new(&record.name, &reason))
}
