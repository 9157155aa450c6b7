//! `--locked`: does everything that determines the results still match the lock, and did the same come out?

use std::collections::{BTreeMap, BTreeSet};

use contract::artifact::{Digest, Metric};
use serde_json::Value;

use super::{Figures, Lock, LockedStage, misquoted};
use crate::cache::{Difference, StageRecord};
use crate::engine::{Failure, Planner, StagePlan, Verdict};
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
) -> Result<Vec<Deviation>, Failure> {
    let graph = planner.graph;
    let mut found = Vec::new();
    for &id in graph.order() {
        let name = &graph.stage(id).name;
        let Some(locked) = lock.stages.get(name) else {
            found.push(Deviation::new(name, "it is not in the lock"));
            continue;
        };
        let now = assess(lock, planner, id);
        if let Verdict::Broken(failure) = now.verdict {
            return Err(failure);
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
    let gone = |name: &&String| {
        all && !graph
            .order()
            .iter()
            .any(|id| graph.stage(*id).name == **name)
    };
    found.extend(
        lock.stages
            .keys()
            .filter(gone)
            .map(|name| Deviation::new(name, "the pipeline has it no more")),
    );
    Ok(found)
}

/// [`header_differences`] of the lock of a run of a sweep, which says only what is the same in all trials.
pub fn common_differences(
    lock: &Lock,
    seed: u64,
    params: &BTreeMap<String, Value>,
) -> Vec<Difference> {
    let said = params
        .iter()
        .filter(|(name, _)| lock.params.contains_key(*name));
    let said = said
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
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
    let line = |path: String, before: Option<String>, after: Option<String>| {
        (before != after).then_some(Difference {
            path,
            before,
            after,
        })
    };
    let names: BTreeSet<&String> = lock.params.keys().chain(params.keys()).collect();
    let text = |value: Option<&Value>| value.map(Value::to_string);
    let seeds = line(
        "seed".to_owned(),
        lock.seed.map(|seed| seed.to_string()),
        Some(seed.to_string()),
    );
    let params = names.into_iter().filter_map(|name| {
        line(
            format!("param.{name}"),
            text(lock.params.get(name)),
            text(params.get(name)),
        )
    });
    seeds.into_iter().chain(params).collect()
}

/// The plan of a stage whose inputs are what the lock says that they were.
fn assess(lock: &Lock, planner: &Planner<'_>, id: StageId) -> StagePlan {
    let digest = |source: StageId, port: &str| -> Option<Digest> {
        lock.stages
            .get(&planner.graph.stage(source).name)?
            .outputs
            .get(port)
            .copied()
    };
    planner.assess(id, &digest)
}

/// The stages whose outputs are not what the lock says, after they ran.
pub fn output_deviations(
    lock: &Lock,
    stages: &[StageRecord],
    metrics: &indexmap::IndexMap<String, Vec<Metric>>,
) -> Vec<Deviation> {
    let deviation = |record: &StageRecord| {
        let locked: &LockedStage = lock.stages.get(&record.name)?;
        // What failed or was skipped has come to nothing that could differ.
        if record.digests.is_empty() && !locked.outputs.is_empty() {
            return None;
        }
        let line = |digest: Option<&Digest>| digest.map(|digest| format!("blake3:{digest}"));
        let ports: BTreeSet<&String> = locked.outputs.keys().chain(record.digests.keys()).collect();
        let differences: Vec<Difference> = ports
            .into_iter()
            .filter(|port| locked.outputs.get(*port) != record.digests.get(*port))
            .map(|port| Difference {
                path: format!("output.{port}"),
                before: line(locked.outputs.get(port)),
                after: line(record.digests.get(port)),
            })
            .collect();
        if !differences.is_empty() {
            return Some(Deviation {
                differences,
                ..Deviation::new(&record.name, "its result is different")
            });
        }
        let figures = metrics.get(&record.name).into_iter().flatten();
        let figures: Figures = figures
            .map(|metric| (metric.name.clone(), metric.value))
            .collect();
        let wrong = misquoted(&locked.metrics, &figures);
        (!wrong.is_empty()).then(|| {
            Deviation::new(
                &record.name,
                &format!("the lock misquotes it: {}", wrong.join("; ")),
            )
        })
    };
    stages.iter().filter_map(deviation).collect()
}
