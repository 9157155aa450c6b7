//! The header of a lock against the stages below it and against the pipeline: seed, parameters, overrides, targets, the list
//! of stages and what they need. Its seal says only that nobody changed it since it was sealed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Lock, Verification, header_differences};
use crate::diagnostic::SourceMap;
use crate::graph::Graph;
use crate::pipeline::{Spec, yaml};

/// The pipeline of a lock, as it is now.
pub enum Pipeline {
    /// With the profile, the overrides and the targets of the lock.
    Read(Box<Spec>, Graph),
    /// Why it cannot be read with them.
    Wrong(String),
    /// It is not here.
    Absent(String),
}

/// Checks what a lock says before its stages.
pub fn verify_header(lock: &Lock, pipeline: &Pipeline, found: &mut Verification) {
    let this = env!("CARGO_PKG_VERSION");
    if lock.runner != this {
        found.notes.push(format!(
            "it was written by runner {}, and this is runner {this}",
            lock.runner
        ));
    }
    if lock.is_of_sweep() {
        found.notes.push(
            "it is of several trials of a sweep: its header says what they have in common, and is not checked".into(),
        );
        return;
    }
    verify_seeds(lock, found);
    verify_overrides(lock, found);
    verify_targets(lock, found);
    match pipeline {
        Pipeline::Read(spec, graph) => verify_pipeline(lock, spec, graph, found),
        Pipeline::Wrong(reason) => found.problem("pipeline", reason),
        Pipeline::Absent(reason) => found.notes.push(reason.clone()),
    }
}

/// All stages of a pipeline draw from one seed.
fn verify_seeds(lock: &Lock, found: &mut Verification) {
    let seed = match lock.seed {
        Some(seed) => seed.to_string(),
        None => "missing".to_owned(),
    };
    for (name, stage) in &lock.stages {
        let other = stage.determinant("seed").unwrap_or("null");
        if other != "null" && other != seed {
            let problem = format!("its seed is {other}, but that of the lock {seed}");
            found.problem(format!("stage {name}"), problem);
        }
    }
}

/// What was set last is what a parameter is, unless it refers to others.
fn verify_overrides(lock: &Lock, found: &mut Verification) {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in lock
        .overrides
        .iter()
        .filter_map(|pair| pair.split_once('='))
    {
        last.insert(name.trim().trim_start_matches("params."), value);
    }
    for (name, text) in last.into_iter().filter(|(_, text)| !text.contains("${")) {
        let now = match name {
            _ if lock.params.contains_key(name) => lock.params.get(name).cloned(),
            "seed" => lock.seed.map(Value::from),
            _ => continue,
        };
        if value_of(text) != now {
            let now = now.unwrap_or_default();
            let text = text.trim();
            let problem = format!("it sets {name} to {text}, but says that it is {now}");
            found.problem("header", problem);
        }
    }
}

/// A value of the command line, which is YAML.
fn value_of(text: &str) -> Option<Value> {
    let file = SourceMap::default().add("command line", text);
    yaml::parse(text, file, 0).0.map(|node| node.to_json())
}

/// Every target is a stage, and every stage is one of them or needed by one.
fn verify_targets(lock: &Lock, found: &mut Verification) {
    if lock.targets.is_empty() {
        return;
    }
    let mut reached: BTreeSet<&String> = BTreeSet::new();
    for target in &lock.targets {
        let mut stages = lock
            .stages
            .keys()
            .filter(|name| is_of(name, target))
            .peekable();
        if stages.peek().is_none() {
            let problem = format!("its target {target} is not among its stages");
            found.problem("header", problem);
        }
        reached.extend(stages);
    }
    let mut open: Vec<&String> = reached.iter().copied().collect();
    while let Some(name) = open.pop() {
        for need in &lock.stages[name].needs {
            if lock.stages.contains_key(need) && reached.insert(need) {
                open.push(need);
            }
        }
    }
    for name in lock.stages.keys().filter(|name| !reached.contains(name)) {
        let problem = "none of the lock's targets needs it";
        found.problem(format!("stage {name}"), problem);
    }
}

/// Whether a stage of a lock is this one, or an instance of it.
fn is_of(name: &str, target: &str) -> bool {
    match name.strip_prefix(target) {
        Some(rest) => rest.is_empty() || rest.starts_with('['),
        None => false,
    }
}

fn verify_pipeline(lock: &Lock, spec: &Spec, graph: &Graph, found: &mut Verification) {
    let what = format!("pipeline {}", spec.name.value);
    if lock.pipeline != spec.name.value {
        let problem = format!("the lock is of a pipeline called {}", lock.pipeline);
        found.problem(&what, problem);
    }
    let params = spec
        .params
        .iter()
        .map(|(name, param)| (name.clone(), param.value.to_json()))
        .collect();
    for difference in header_differences(lock, spec.seed, &params) {
        found.problem(&what, format!("it is not as the lock says: {difference}"));
    }
    let mut stages = BTreeMap::new();
    for id in graph.order() {
        stages.insert(graph.stage(*id).name.as_str(), *id);
    }
    for (name, locked) in &lock.stages {
        let Some(&id) = stages.get(name.as_str()) else {
            found.problem(&what, format!("it has no stage {name}, which the lock has"));
            continue;
        };
        let needs: BTreeSet<String> = graph
            .needs(id)
            .into_iter()
            .map(|need| graph.stage(need).name.clone())
            .collect();
        let (kind, then) = (graph.stage(id).kind.name, locked.kind());
        if !locked.manifest.is_empty() && then != kind {
            let problem =
                format!("its stage {name} is of the kind {kind}, that of the lock {then}");
            found.problem(&what, problem);
        }
        if locked.needs != needs {
            let problem = format!("its stage {name} takes from other stages than the lock says");
            found.problem(&what, problem);
        }
    }
    for name in stages.keys() {
        if !lock.stages.contains_key(*name) {
            found.problem(&what, format!("its stage {name} is not in the lock"));
        }
    }
}
