//! Two runs beside each other: parameters, stages and metrics in which they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::cache::{Difference, Key, RunRecord, Store};

/// Entries of an environment that can explain why results differ.
const EXPLAINING: [&str; 12] = [
    "runner",
    "system",
    "release",
    "architecture",
    "processor",
    "simd",
    "libc",
    "gpu",
    "numeric_class",
    "git",
    "pipeline_git",
    "variables",
];

/// A stage in which two runs differ.
#[derive(Serialize)]
pub struct StageDifference {
    pub name: String,
    /// `None` where a run has no such stage.
    pub keys: [Option<String>; 2],
    pub manifest: Vec<Difference>,
    /// Whether the outputs are the same although the keys differ.
    pub same_content: bool,
}

/// A name, and what two runs have under it.
pub type Pair = (String, [Option<Value>; 2]);

/// How two runs differ.
pub struct RunDiff {
    /// Parameters and seed; those in which trials of a sweep differ with the trial, as in names of stages: `lr#2`.
    pub params: Vec<Pair>,
    pub stages: Vec<StageDifference>,
    /// `STAGE.METRIC` and both values.
    pub metrics: Vec<Pair>,
    /// What of the environments can explain a difference. Runs whose results are equal are equal wherever they ran.
    pub environment: Vec<Pair>,
}

impl RunDiff {
    /// Compares two runs of a store.
    pub fn between(store: &Store, a: &RunRecord, b: &RunRecord) -> Self {
        Self {
            params: differing(flat(a), flat(b)),
            stages: stage_differences(store, a, b),
            metrics: differing(metric_values(a), metric_values(b)),
            environment: environment_differences(a, b),
        }
    }

    /// Whether parameters, stages and metrics are the same.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty() && self.stages.is_empty() && self.metrics.is_empty()
    }
}

/// Parameters and seed; those in which trials of a sweep differ with the trial, as in names of stages: `lr#2`.
fn flat(record: &RunRecord) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<String, Value> = record.common_params().into_iter().collect();
    let common_seed = record.common_seed();
    if let Some(seed) = common_seed {
        all.insert("seed".to_owned(), json!(seed));
    }
    let varied = record.varied();
    for trial in record.trials() {
        let label = &trial.label;
        for name in &varied {
            if let Some(value) = record.value_of_trial(trial, name) {
                all.insert(format!("{name}#{label}"), value);
            }
        }
        if common_seed.is_none() {
            all.insert(format!("seed#{label}"), json!(record.seed_of_trial(trial)));
        }
    }
    all
}

/// What of an environment explains a difference, as far as both runs know it. How many threads there were, or on which
/// host, is none of it; runs in which all was up to date know less.
fn environment_differences(a: &RunRecord, b: &RunRecord) -> Vec<Pair> {
    let (mut of_a, mut of_b) = (BTreeMap::new(), BTreeMap::new());
    for name in EXPLAINING {
        if let (Some(left), Some(right)) = (a.environment.get(name), b.environment.get(name)) {
            of_a.insert(name.to_owned(), explaining_part(name, left));
            of_b.insert(name.to_owned(), explaining_part(name, right));
        }
    }
    differing(of_a, of_b)
}

/// What of an entry can explain a difference.
fn explaining_part(name: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(entries) = &mut value {
        entries.retain(|key, _| match name {
            "git" | "pipeline_git" => ["commit", "dirty", "changed_files"].contains(&key.as_str()),
            "variables" => {
                !key.starts_with("SLURM_") && !key.starts_with("RUNNER_") && key != "TMPDIR"
            }
            _ => true,
        });
    }
    value
}

fn metric_values(record: &RunRecord) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for (stage, metrics) in &record.metrics {
        for metric in metrics {
            values.insert(format!("{stage}.{}", metric.name), json!(metric.value));
        }
    }
    values
}

fn differing(mut a: BTreeMap<String, Value>, mut b: BTreeMap<String, Value>) -> Vec<Pair> {
    let names: BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
    let mut pairs = Vec::new();
    for name in names {
        let values = [a.remove(&name), b.remove(&name)];
        if values[0] != values[1] {
            pairs.push((name, values));
        }
    }
    pairs
}

fn stage_differences<'a>(
    store: &Store,
    a: &'a RunRecord,
    b: &'a RunRecord,
) -> Vec<StageDifference> {
    let mut differences = Vec::new();
    let by_name = |record: &'a RunRecord| {
        let stages = record.stages.iter();
        stages
            .map(|stage| (stage.name.as_str(), stage))
            .collect::<BTreeMap<_, _>>()
    };
    let (of_a, of_b) = (by_name(a), by_name(b));
    let mut seen = BTreeSet::new();
    for stage in a.stages.iter().chain(&b.stages) {
        let name = stage.name.as_str();
        if !seen.insert(name) {
            continue;
        }
        let both = [of_a.get(name).copied(), of_b.get(name).copied()];
        let keys = both.map(|stage| stage.and_then(|stage| stage.key));
        if keys[0] != keys[1] {
            let manifests = keys.map(|key| manifest(store, key));
            let digests = both.map(|stage| stage.map(|stage| &stage.digests));
            differences.push(StageDifference {
                name: name.to_owned(),
                keys: keys.map(|key| key.map(|key| key.short())),
                manifest: Difference::between(&manifests[0], &manifests[1]),
                same_content: digests[0] == digests[1] && digests[0].is_some(),
            });
        }
    }
    differences
}

/// The manifest behind a key, empty if it is not known.
fn manifest(store: &Store, key: Option<Key>) -> String {
    let action = key.and_then(|key| store.action(&key).ok().flatten());
    action.map(|action| action.manifest).unwrap_or_default()
}
