//! Texts of pipelines: read, built, planned. Whatever they hold, there is a plan or a problem with a place.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use runner::cache::{Ledger, Store};
use runner::diagnostic::{Diagnostics, Severity, SourceMap};
use runner::engine::{NoFiles, Planner};
use runner::graph::build;
use runner::pipeline::{LoadOptions, load_text};

use crate::frame::fuzz;
use crate::{mutate, tree};

/// What the language of pipelines is made of.
const WORDS: &[&str] = &[
    "${a}",
    "${b}${b}",
    "$${",
    "${a.b.0}",
    "${seed}",
    "${",
    "params",
    "stages",
    "include",
    "profiles",
    "matrix",
    "foreach",
    "from",
    "uses",
    "with",
    "by",
    "default",
    "resources",
    "memory",
    "timeout",
    "retries",
    "tolerance",
    "seed",
    "strict",
    "a",
    "b",
    "raw",
    "windows",
    "model",
    "scores",
    "metrics",
    "generate",
    "normalize",
    "window",
    "train",
    "score",
    "evaluate",
    "collect",
    "command",
    "files",
    "pass_env",
    "env",
    "run",
    "outputs",
    "path",
    "kind",
    "epochs",
    "lr",
    "quantile",
    "&x",
    "*x",
    "<<",
    "!tag",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "\t",
    "\u{1b}[2J",
    "\u{0}",
    "\u{202e}",
    "\"",
    "'",
    "|\n",
    "#",
    "---\n",
    "9999999999999999999999",
    "1e400",
    "10 GiB",
    "1e30 s",
    "quickstart.yaml",
];

/// The folder of the shipped pipelines, whose fragments the mutated texts may include.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

/// The texts of all shipped pipelines.
pub fn shipped(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no example", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// A small text that uses every key.
const EVERYTHING: &str = "pipeline: everything
description: d
seed: 3
strict: false
params: {a: 1, b: x, list: [1, 2], map: {kind: tvnet-recon}}
profiles: {smoke: {a: 2}}
stages:
  raw: {uses: generate, matrix: {m: [1, 2], n: {by: m, 1: [3], default: [4, 5]}}, with: {channels: \"${m}\", seed: \"${n}\"}}
  windows: {uses: window, from: raw.series, with: {length: 16}}
  model: {uses: train, from: {windows: windows}, resources: {cpus: 1, memory: 1 GiB}, retries: 2, timeout: 1h 30m,
    with: {model: \"${map}\", epochs: \"${a}\", optimizer: {kind: adam, lr: 1e-3}}, tolerance: {model: {relative: 1e-3}}}
  it: {uses: command, foreach: [{p: 1}, {p: 2}], with: {run: [sh, -c, \"echo ${p} > {out.o}\"], outputs: {o: {path: o}},
    files: [x], pass_env: [HOME], env: {K: v}}}
";

#[test]
fn pipelines() {
    let mut examples = shipped(&folder());
    examples.push(EVERYTHING.as_bytes().to_vec());
    let trees = tree::trees(&examples);
    let strategy = prop_oneof![
        mutate::mutated(examples, WORDS),
        tree::mutated(trees, WORDS)
    ];
    fuzz("pipelines", strategy, judge);
}

static CATALOGUE: LazyLock<contract::Catalogue> = LazyLock::new(stages::catalogue);

fn judge(text: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(text);
    let mut sources = SourceMap::default();
    let path = folder().join("fuzzed.yaml");
    let (spec, mut diagnostics) = load_text(&path, &text, &LoadOptions::default(), &mut sources);
    let graph = spec.map(|spec| {
        let (graph, found) = build(&spec, &CATALOGUE.kinds);
        diagnostics.extend(found);
        graph
    });
    placed(&diagnostics, &sources)?;
    let Some(graph) = graph.filter(|_| !diagnostics.has_errors()) else {
        return if diagnostics.has_errors() {
            Ok(())
        } else {
            Err("no pipeline, and no word about it".to_owned())
        };
    };
    let store = Store::open(Path::new("there-is-no-such-store"));
    let ledger = Ledger::default();
    let planner = Planner {
        graph: &graph,
        store: &store,
        ledger: &ledger,
        files: &NoFiles,
        numeric_class: "fuzz",
        forced: Default::default(),
        environment: |_| None,
    };
    let plan = planner.plan();
    for id in graph.order() {
        let reason = plan.stage(*id).reason(&graph);
        if reason.len() > 1 << 20 {
            return Err(format!("a reason of {} bytes", reason.len()));
        }
    }
    Ok(())
}

/// Every problem has a place, and can be shown.
pub fn placed(diagnostics: &Diagnostics, sources: &SourceMap) -> Result<(), String> {
    // What says that a file cannot be read names the file, and there is no place in it.
    let nowhere = diagnostics
        .iter()
        .find(|problem| problem.primary.is_none() && problem.code != "unreadable-file");
    if let Some(diagnostic) = nowhere.filter(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(format!(
            "[{}] has no place: {}",
            diagnostic.code, diagnostic.message
        ));
    }
    let shown = diagnostics.render(sources, false);
    if let Some(control) = shown
        .chars()
        .find(|character| character.is_ascii_control() && *character != '\n')
    {
        return Err(format!("the report holds {control:?}"));
    }
    let _ = diagnostics.to_json(sources).to_string();
    Ok(())
}
