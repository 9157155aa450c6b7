//! `runner diff A B`: parameters, stages and metrics in which two runs differ. Exit code 3 if they do.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::show::environment_value;
use super::{Error, Exit, Global};
use crate::cache::{Difference, RunRecord, StageRecord, Store};
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
        let stage = |difference: &StageDifference| {
            json!({
                "name": difference.name,
                "keys": difference.keys,
                "manifest": difference.manifest,
                "same_content": difference.same_content,
            })
        };
        let pairs = |entries: &[(String, [Option<Value>; 2])]| -> Value {
            entries
                .iter()
                .map(|(name, values)| (name.clone(), json!(values)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let stages: Vec<Value> = stages.iter().map(stage).collect();
        let object = json!({
            "a": a.run,
            "b": b.run,
            "params": pairs(&params),
            "stages": stages,
            "metrics": pairs(&metrics),
            "environment": pairs(&environment),
        });
        print_json(&object);
    } else {
        print(&a, &b, &params, &stages, &metrics);
        print_environment(&environment);
    }
    Ok(if same { Exit::Done } else { Exit::Different })
}

type Pair = (String, [Option<Value>; 2]);

/// Parameters and seed; those that trials of a sweep have of their own, with the trial as in names of stages: `lr#2`.
fn flat(record: &RunRecord) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<String, Value> = record.common_params().into_iter().collect();
    all.extend(
        record
            .common_seed()
            .map(|seed| ("seed".to_owned(), json!(seed))),
    );
    let varied = record.varied();
    for trial in record.trials() {
        for name in &varied {
            let value = record.value_of_trial(trial, name);
            all.extend(value.map(|value| (format!("{name}#{}", trial.label), value)));
        }
        if record.common_seed().is_none() {
            all.insert(
                format!("seed#{}", trial.label),
                json!(record.seed_of_trial(trial)),
            );
        }
    }
    all
}

/// What of an environment explains a difference, as far as both runs know it. How many threads there were, or on which
/// host, is none of it; runs in which all was up to date know less.
fn environment_differences(a: &RunRecord, b: &RunRecord) -> Vec<Pair> {
    let known = |name: &&str| {
        [a, b]
            .iter()
            .all(|record| record.environment.contains_key(*name))
    };
    let part = |record: &RunRecord, name: &str| match (name, &record.environment[name]) {
        ("git" | "pipeline_git", Value::Object(git)) => {
            let told = ["commit", "dirty", "changed_files"].into_iter();
            told.filter_map(|key| Some((key.to_owned(), git.get(key)?.clone())))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        ("variables", Value::Object(variables)) => {
            let of_result = |name: &str| {
                !name.starts_with("SLURM_") && !name.starts_with("RUNNER_") && name != "TMPDIR"
            };
            let kept = variables.iter().filter(|(name, _)| of_result(name));
            kept.map(|(name, value)| (name.clone(), value.clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        (_, value) => value.clone(),
    };
    let of = |record: &RunRecord| -> BTreeMap<String, Value> {
        EXPLAINING
            .into_iter()
            .filter(known)
            .map(|name| (name.to_owned(), part(record, name)))
            .collect()
    };
    differing(of(a), of(b))
}

fn metric_values(record: &RunRecord) -> BTreeMap<String, Value> {
    let named = record.metrics.iter().flat_map(|(stage, metrics)| {
        metrics
            .iter()
            .map(move |metric| (format!("{stage}.{}", metric.name), json!(metric.value)))
    });
    named.collect()
}

fn differing(mut a: BTreeMap<String, Value>, mut b: BTreeMap<String, Value>) -> Vec<Pair> {
    let names: std::collections::BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
    let pair = |name: String| {
        let (left, right) = (a.remove(&name), b.remove(&name));
        (left != right).then_some((name, [left, right]))
    };
    names.into_iter().filter_map(pair).collect()
}

fn stage_differences(store: &Store, a: &RunRecord, b: &RunRecord) -> Vec<StageDifference> {
    let mut names: Vec<&str> = a
        .stages
        .iter()
        .chain(&b.stages)
        .map(|stage| stage.name.as_str())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let find = |record: &RunRecord, name: &str| -> Option<StageRecord> {
        record
            .stages
            .iter()
            .find(|stage| stage.name == name)
            .cloned()
    };
    let manifest = |stage: &Option<StageRecord>| {
        let action = stage
            .as_ref()
            .and_then(|stage| store.action(&stage.key?).ok().flatten());
        action.map(|action| action.manifest).unwrap_or_default()
    };
    names
        .into_iter()
        .filter_map(|name| {
            let (left, right) = (find(a, name), find(b, name));
            let key = |stage: &Option<StageRecord>| stage.as_ref().and_then(|stage| stage.key);
            if key(&left) == key(&right) {
                return None;
            }
            let digests =
                |stage: &Option<StageRecord>| stage.as_ref().map(|stage| stage.digests.clone());
            Some(StageDifference {
                name: name.to_owned(),
                keys: [&left, &right].map(|stage| key(stage).map(|key| key.short())),
                manifest: Difference::between(&manifest(&left), &manifest(&right)),
                same_content: digests(&left) == digests(&right) && left.is_some(),
            })
        })
        .collect()
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
    let text = |value: &Option<Value>| match value {
        None => "(absent)".to_owned(),
        Some(value) => value.as_f64().map_or_else(|| value.to_string(), number),
    };
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
            table.row([name.clone(), text(before), text(after), change]);
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
        stage
            .manifest
            .iter()
            .for_each(|difference| outln!("    {difference}"));
    }
}

/// It is told, but two runs whose results are the same are the same wherever they ran.
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
