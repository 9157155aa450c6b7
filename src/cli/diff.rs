//! `runner diff A B`: parameters, stages and metrics in which two runs differ. Exit code 3 if they do.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::show::environment_value;
use super::{Error, Exit, Global};
use crate::cache::{Difference, Key, RunRecord, Store};
use crate::ui::{Align, Paint, Table, number, out, outln, print_json};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The earlier run: `latest`, its name, or the start or end of its name
    a: String,
    /// The later run, named likewise
    #[arg(default_value = "latest")]
    b: String,
}

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
struct StageDifference {
    name: String,
    /// `None` where a run has no such stage.
    keys: [Option<String>; 2],
    manifest: Vec<Difference>,
    /// Whether the outputs are the same although the keys differ.
    same_content: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&global.store);
    let (a, b) = (store.find_run(&arguments.a)?, store.find_run(&arguments.b)?);
    let params = differing(flat(&a), flat(&b));
    let stages = stage_differences(&store, &a, &b);
    let metrics = differing(metric_values(&a), metric_values(&b));
    let environment = environment_differences(&a, &b);
    let same = params.is_empty() && stages.is_empty() && metrics.is_empty();
    if global.json {
        print_json(&json!({
            "a": a.run,
            "b": b.run,
            "params": as_object(&params),
            "stages": stages,
            "metrics": as_object(&metrics),
            "environment": as_object(&environment),
        }));
    } else {
        print(&a, &b, &params, &stages, &metrics);
        print_environment(&environment);
    }
    Ok(if same { Exit::Done } else { Exit::Different })
}

/// A name, and what two runs have under it.
type Pair = (String, [Option<Value>; 2]);

fn as_object(pairs: &[Pair]) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, values) in pairs {
        object.insert(name.clone(), json!(values));
    }
    object
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

fn stage_differences(store: &Store, a: &RunRecord, b: &RunRecord) -> Vec<StageDifference> {
    let mut differences = Vec::new();
    let mut seen = BTreeSet::new();
    for stage in a.stages.iter().chain(&b.stages) {
        let name = stage.name.as_str();
        if !seen.insert(name) {
            continue;
        }
        let both = [a, b].map(|record| record.stages.iter().find(|other| other.name == name));
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

fn print(
    a: &RunRecord,
    b: &RunRecord,
    params: &[Pair],
    stages: &[StageDifference],
    metrics: &[Pair],
) {
    outln!("{} {} and {}", Paint::Quiet.on("comparing"), a.run, b.run);
    let (left, right) = (a.run.0.as_str(), b.run.0.as_str());
    for (title, pairs) in [("parameters", params), ("metrics", metrics)] {
        if pairs.is_empty() {
            outln!("{title}: {}", Paint::Good.on("the same"));
            continue;
        }
        let mut table = Table::new(&[
            (title, Align::Left),
            (left, Align::Right),
            (right, Align::Right),
            ("change", Align::Right),
        ]);
        for (name, [before, after]) in pairs {
            let change = match (
                before.as_ref().and_then(Value::as_f64),
                after.as_ref().and_then(Value::as_f64),
            ) {
                (Some(before), Some(after)) => format!("{:+.4}", after - before),
                _ => String::new(),
            };
            table.row([
                name.clone(),
                value_text(before.as_ref()),
                value_text(after.as_ref()),
                change,
            ]);
        }
        out!("{}", table.render());
    }
    if stages.is_empty() {
        outln!("stages: {}", Paint::Good.on("the same keys"));
    }
    for stage in stages {
        let [before, after] = stage
            .keys
            .clone()
            .map(|key| key.unwrap_or_else(|| "(absent)".to_owned()));
        let content = if stage.same_content {
            ", same content"
        } else {
            ""
        };
        outln!(
            "  {}: {before} -> {after}{content}",
            Paint::Strong.on(&stage.name)
        );
        for difference in &stage.manifest {
            outln!("    {difference}");
        }
    }
}

fn value_text(value: Option<&Value>) -> String {
    match value {
        None => "(absent)".to_owned(),
        Some(value) => value.as_f64().map_or_else(|| value.to_string(), number),
    }
}

/// This is information: two runs whose results are equal are equal wherever they ran.
fn print_environment(environment: &[Pair]) {
    if environment.is_empty() {
        return;
    }
    outln!("environment");
    for (name, values) in environment {
        let [before, after] = values
            .clone()
            .map(|value| value.map_or_else(String::new, |value| environment_value(name, &value)));
        outln!("  {}: {before} -> {after}", Paint::Quiet.on(name));
    }
}
