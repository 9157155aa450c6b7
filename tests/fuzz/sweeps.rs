//! Sweep files: read, turned into trials, joined to a graph. Whatever they hold, there are trials or a problem with a
//! place.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use runner::diagnostic::SourceMap;
use runner::sweep::{Course, Outcome, SweepFile, assemble};

use crate::frame::fuzz;
use crate::pipelines::{placed, shipped};
use crate::{mutate, tree};

const WORDS: &[&str] = &[
    "sweep",
    "pipeline",
    "profile",
    "set",
    "axes",
    "zip",
    "seeds",
    "sampler",
    "objective",
    "stopping",
    "targets",
    "slurm",
    "kind",
    "grid",
    "random",
    "tpe",
    "trials",
    "seed",
    "startup",
    "batch",
    "stage",
    "metric",
    "direction",
    "maximize",
    "minimize",
    "rule",
    "over",
    "levels",
    "factor",
    "median",
    "halving",
    "choice",
    "uniform",
    "log_uniform",
    "int",
    "log_int",
    "points",
    "by",
    "default",
    "cpus",
    "memory",
    "time",
    "setup",
    "extra",
    "partition",
    "epochs",
    "lr",
    "f1",
    "metrics",
    "model.with.epochs",
    "a.b.c.d.e",
    "${x}",
    "10 GiB",
    "2h",
    "1e30 d",
    "\u{1b}[2J",
    "\u{0}",
    "\n",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&x",
    "*x",
    "quickstart.yaml",
    "../quickstart.yaml",
];

/// A small file that uses every key.
const EVERYTHING: &str = "sweep: everything
description: d
pipeline: ../quickstart.yaml
set: {seed: 3}
axes:
  model.with.epochs: [1, 2]
  model.with.optimizer.lr: {log_uniform: [1e-4, 1e-2], points: 3}
  windows.with.length: {by: model.with.epochs, 1: {int: [8, 16], points: 2}, default: [32]}
zip: {windows.with.stride: [1, 2], raw.with.noise: [0.1, 0.2]}
sampler: {kind: grid}
objective: {stage: metrics, metric: point_adjusted_f1, direction: maximize}
stopping: {rule: halving, over: model.with.batch, levels: [1, 3, 9], factor: 3}
targets: [scores]
slurm: {partition: gpu, time: 2h, cpus: 2, memory: 1 GiB, setup: [\"module load x\"], stages: {model: {gpus: 1}}}
";

/// The folder in which mutated files seem to lie.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/sweeps")
}

#[test]
fn sweeps() {
    let mut examples = shipped(&folder());
    examples.push(EVERYTHING.as_bytes().to_vec());
    let trees = tree::trees(&examples);
    let strategy = prop_oneof![
        mutate::mutated(examples, WORDS),
        tree::mutated(trees, WORDS)
    ];
    fuzz("sweeps", strategy, judge);
}

static CATALOGUE: LazyLock<contract::Catalogue> = LazyLock::new(stages::catalogue);

/// More members than this are not read one by one: each reads the pipeline.
const MOST_MEMBERS: usize = 60;

fn judge(text: &[u8]) -> Result<(), String> {
    let text: Arc<str> = String::from_utf8_lossy(text).into();
    let path = folder().join("fuzzed.yaml");
    let mut sources = SourceMap::keeping([(path.clone(), text)]);
    let (file, diagnostics) = SweepFile::load(&path, &mut sources);
    placed(&diagnostics, &sources)?;
    let Some(file) = file else {
        return if diagnostics.has_errors() {
            Ok(())
        } else {
            Err("no sweep, and no word about it".to_owned())
        };
    };
    // Some end well, some fail, some are not known.
    let outcome = |member: &runner::sweep::Member| match member.trial % 4 {
        0 => Outcome::Failed,
        3 => Outcome::Unknown,
        trial => Outcome::Loss(Some(trial as f64)),
    };
    if file.space.grid_size() > 1e5 {
        return Ok(());
    }
    let progress = Course::new(&file).progress(&outcome);
    if progress.members.is_empty() || progress.members.len() > MOST_MEMBERS {
        return Ok(());
    }
    match assemble(&file, &progress, &CATALOGUE, &mut sources) {
        Ok(assembly) => placed(&assembly.warnings, &sources),
        Err(diagnostics) if diagnostics.has_errors() => placed(&diagnostics, &sources),
        Err(_) => Err("no graph, and no word about it".to_owned()),
    }
}
