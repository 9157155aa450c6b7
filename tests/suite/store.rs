//! Questions that tests ask of a store and of run records.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use runner::cache::{Action, ObjectRecord, Store};
use serde_json::Value;

use crate::environment::TestEnvironment;

/// Stage name to output port to digest.
pub type Digests = BTreeMap<String, BTreeMap<String, String>>;

/// The digests of a run, as `runner show --json` tells them.
pub fn digests(run: &Value) -> Digests {
    let ports = |stage: &Value| {
        let digests = stage["digests"].as_object().unwrap();
        digests
            .iter()
            .map(|(port, digest)| (port.clone(), digest.as_str().unwrap().to_owned()))
            .collect()
    };
    stages(run)
        .iter()
        .map(|stage| (name(stage), ports(stage)))
        .collect()
}

pub fn stages(run: &Value) -> &Vec<Value> {
    run["stages"].as_array().unwrap()
}

fn name(stage: &Value) -> String {
    stage["name"].as_str().unwrap().to_owned()
}

/// The names of the stages in this state, in the order of the graph.
pub fn in_state(run: &Value, state: &str) -> Vec<String> {
    stages(run)
        .iter()
        .filter(|stage| stage["state"] == state)
        .map(name)
        .collect()
}

/// The names of the stages that were executed.
pub fn ran(run: &Value) -> Vec<String> {
    in_state(run, "ran")
}

/// The stage of a run.
pub fn stage<'a>(run: &'a Value, wanted: &str) -> &'a Value {
    stages(run)
        .iter()
        .find(|stage| stage["name"] == wanted)
        .unwrap_or_else(|| panic!("no stage {wanted} in {run}"))
}

/// All run records of a store, oldest first.
pub fn runs(environment: &TestEnvironment) -> Vec<Value> {
    let listed = environment.json(&["runs", "-n", "1000"]);
    let names = listed["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap().to_owned());
    names.map(|run| environment.json(&["show", &run])).collect()
}

/// The lines of a run's journal.
pub fn journal(environment: &TestEnvironment, run: &Value) -> Vec<Value> {
    let path = format!(
        "cache/v1/runs/{}/events.jsonl",
        run["run"].as_str().unwrap()
    );
    environment
        .read(&path)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The store of an environment, opened by this process.
pub fn open(environment: &TestEnvironment) -> Store {
    Store::open(&environment.path("cache"))
}

/// The action on which a stage of the latest run stands.
pub fn action(environment: &TestEnvironment, wanted: &str) -> Action {
    let run = environment.latest();
    let key = serde_json::from_value(stage(&run, wanted)["key"].clone()).unwrap();
    open(environment)
        .action(&key)
        .unwrap()
        .unwrap_or_else(|| panic!("{wanted} has no action"))
}

/// Where the action of a stage lies.
pub fn action_path(environment: &TestEnvironment, wanted: &str) -> PathBuf {
    open(environment)
        .layout()
        .action(&action(environment, wanted).key)
}

/// Where the object on an output of a stage lies.
pub fn object_path(environment: &TestEnvironment, stage: &str, port: &str) -> PathBuf {
    let action = action(environment, stage);
    open(environment)
        .layout()
        .object(action.output(port).unwrap())
}

/// Where the first part of an output, such as the file of a Files artifact, lies.
pub fn part_path(environment: &TestEnvironment, stage: &str, port: &str) -> PathBuf {
    let action = action(environment, stage);
    let part: &ObjectRecord = action.output(port).unwrap().parts.first().unwrap();
    open(environment).layout().object(part)
}

/// What can happen to a file on a disk.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    /// One bit in the middle is turned over; the size stays.
    FlipBit,
    Truncate,
    Delete,
}

impl Harm {
    pub const ALL: [Self; 3] = [Self::FlipBit, Self::Truncate, Self::Delete];

    /// Does it, although objects are read-only.
    pub fn happen_to(self, path: &PathBuf) {
        let mut bytes = fs::read(path).unwrap();
        // A new file, so that other names of the object keep their bytes.
        fs::remove_file(path).unwrap();
        let middle = bytes.len() / 2;
        match self {
            Self::FlipBit => bytes[middle] ^= 1,
            Self::Truncate => bytes.truncate(middle),
            Self::Delete => return,
        }
        fs::write(path, bytes).unwrap();
    }
}
