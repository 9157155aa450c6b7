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
    let seed = lock
        .seed
        .map_or_else(|| "missing".to_owned(), |seed| seed.to_string());
    for (name, stage) in &lock.stages {
        if let Some(other) = stage
            .determinant("seed")
            .filter(|other| !["null", &seed].contains(other))
        {
            found.problem(
                format!("stage {name}"),
                format!("its seed is {other}, but that of the lock {seed}"),
            );
        }
    }
}

/// What was set last is what a parameter is, unless it refers to others.
fn verify_overrides(lock: &Lock, found: &mut Verification) {
    let pairs = lock
        .overrides
        .iter()
        .filter_map(|pair| pair.split_once('='));
    let last: BTreeMap<&str, &str> = pairs
        .map(|(name, value)| (name.trim().trim_start_matches("params."), value))
        .collect();
    for (name, text) in last.into_iter().filter(|(_, text)| !text.contains("${")) {
        let now = match name {
            _ if lock.params.contains_key(name) => lock.params.get(name).cloned(),
            "seed" => lock.seed.map(Value::from),
            _ => continue,
        };
        if value_of(text) != now {
            let now = now.unwrap_or_default();
            found.problem(
                "header",
                format!(
                    "it sets {name} to {}, but says that it is {now}",
                    text.trim()
                ),
            );
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
    let is_of = |name: &str, target: &str| {
        name == target
            || name
                .strip_prefix(target)
                .is_some_and(|rest| rest.starts_with('['))
    };
    let mut reached: BTreeSet<&String> = BTreeSet::new();
    for target in &lock.targets {
        let stages = lock.stages.keys().filter(|name| is_of(name, target));
        let before = reached.len();
        reached.extend(stages);
        if reached.len() == before && !lock.stages.keys().any(|name| is_of(name, target)) {
            found.problem(
                "header",
                format!("its target {target} is not among its stages"),
            );
        }
    }
    let mut open: Vec<&String> = reached.iter().copied().collect();
    while let Some(name) = open.pop() {
        let needs = lock
            .stages
            .get(name)
            .into_iter()
            .flat_map(|stage| &stage.needs);
        open.extend(needs.filter(|need| lock.stages.contains_key(*need) && reached.insert(need)));
    }
    for name in lock.stages.keys().filter(|name| !reached.contains(name)) {
        found.problem(
            format!("stage {name}"),
            "none of the lock's targets needs it",
        );
    }
}

fn verify_pipeline(lock: &Lock, spec: &Spec, graph: &Graph, found: &mut Verification) {
    let what = format!("pipeline {}", spec.name.value);
    if lock.pipeline != spec.name.value {
        found.problem(
            &what,
            format!("the lock is of a pipeline called {}", lock.pipeline),
        );
    }
    let params = spec
        .params
        .iter()
        .map(|(name, param)| (name.clone(), param.value.to_json()))
        .collect();
    for difference in header_differences(lock, spec.seed, &params) {
        found.problem(&what, format!("it is not as the lock says: {difference}"));
    }
    let stages = graph
        .order()
        .iter()
        .map(|id| (graph.stage(*id).name.as_str(), *id));
    let stages: BTreeMap<&str, _> = stages.collect();
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
        let kind = graph.stage(id).kind.name;
        if !locked.manifest.is_empty() && locked.kind() != kind {
            found.problem(
                &what,
                format!(
                    "its stage {name} is of the kind {kind}, that of the lock {}",
                    locked.kind()
                ),
            );
        }
        if locked.needs != needs {
            found.problem(
                &what,
                format!("its stage {name} takes from other stages than the lock says"),
            );
        }
    }
    for name in stages
        .keys()
        .filter(|name| !lock.stages.contains_key(**name))
    {
        found.problem(&what, format!("its stage {name} is not in the lock"));
    }
}
