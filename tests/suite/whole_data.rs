//! Every pipeline that the project ships runs to its end on all of its default data, with the tiny model of its profile
//! `tiny`; those for one machine or one table run on every other one at hand, too. What a result is worth is
//! for others to test: here a segment that is shorter than a window, or a channel that explodes, ends no run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use contract::testing::{real_data, skip};
use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::shipped::{is_reference, is_sweep, pipelines};
use crate::store::in_state;

/// Pipelines that cannot run as they are, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "templates/csv.yaml",
        "reads a table that its user has: `runner new` puts the name in",
    ),
    (
        "pipelines/python_detectors.yaml",
        "needs an interpreter with packages: python_stages.rs runs all of it with one",
    ),
];

/// A pipeline with what is set besides its profile.
#[derive(Clone)]
struct Job {
    pipeline: PathBuf,
    set: Option<String>,
}

impl Job {
    fn arguments(&self, verb: &'static str) -> Vec<&str> {
        let mut arguments = vec![verb, "--offline", self.pipeline.to_str().unwrap()];
        if let Some(set) = &self.set {
            arguments.extend(["--set", set]);
        }
        arguments
    }

    fn describe(&self) -> String {
        let name = self.pipeline.file_stem().unwrap().to_string_lossy();
        let folder = if is_reference(&self.pipeline) {
            "reference/"
        } else {
            ""
        };
        format!("{folder}{name} {}", self.set.as_deref().unwrap_or_default())
    }
}

fn left_out(path: &Path) -> bool {
    LEFT_OUT.iter().any(|(name, _)| path.ends_with(name))
}

#[test]
fn every_shipped_pipeline_runs_on_its_default_data() {
    let jobs = pipelines()
        .into_iter()
        .filter(|path| !is_sweep(path) && !left_out(path))
        .map(|pipeline| Job {
            pipeline,
            set: None,
        });
    all_run(jobs.collect());
}

/// Not the references: they repeat what was published for one machine.
#[test]
fn pipelines_for_one_entity_run_on_every_other() {
    let jobs = pipelines()
        .into_iter()
        .filter(|path| !is_sweep(path) && !left_out(path) && !is_reference(path))
        .flat_map(|pipeline| on_other_entities(&pipeline));
    all_run(jobs.collect());
}

/// The pipeline on each entity at hand that is not its default.
fn on_other_entities(pipeline: &Path) -> Vec<Job> {
    let text = fs::read_to_string(pipeline).unwrap();
    let document: Value = serde_yaml::from_str(&text).unwrap();
    let mut jobs = Vec::new();
    for (parameter, default) in document["params"].as_object().into_iter().flatten() {
        let Some(default) = default.as_str() else {
            continue;
        };
        for entity in siblings(default) {
            jobs.push(Job {
                pipeline: pipeline.to_owned(),
                set: Some(format!("{parameter}={entity}")),
            });
        }
    }
    jobs
}

/// Where the entities of a data set lie, by the beginning of their names: a file of the folder is one.
const FOLDERS: &[(&str, &str, &str)] = &[
    ("machine-", "ServerMachineDataset/train", "machine-2-1.txt"),
    ("ETT", "ETT-small", "ETTh1.csv"),
];

/// The other entities of the data set that a name belongs to, if it belongs to one.
fn siblings(entity: &str) -> BTreeSet<String> {
    let folder = FOLDERS.iter().find(|(start, ..)| entity.starts_with(start));
    let Some(known) = folder.and_then(|(_, folder, file)| real_data(&format!("{folder}/{file}")))
    else {
        return BTreeSet::new();
    };
    let entries = fs::read_dir(known.parent().unwrap()).unwrap();
    let names = entries.map(|entry| {
        let path = entry.unwrap().path();
        path.file_stem().unwrap().to_string_lossy().into_owned()
    });
    names.filter(|name| name != entity).collect()
}

/// Runs all of them, two at a time, and fails with every one that failed.
fn all_run(jobs: Vec<Job>) {
    let queue = Mutex::new(jobs.into_iter());
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = queue.lock().unwrap().next();
            let Some(job) = next else { return };
            let start = Instant::now();
            if let Err(why) = runs(&job) {
                failures
                    .lock()
                    .unwrap()
                    .push(format!("{}: {why}", job.describe()));
            }
            println!("{:6.1} s {}", start.elapsed().as_secs_f64(), job.describe());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs a pipeline with its profile `tiny`, unless its data are not at hand.
fn runs(job: &Job) -> Result<(), String> {
    let mut environment = TestEnvironment::new();
    let data = std::env::var("RUNNER_DATA_PATH").unwrap_or_default();
    environment.set("RUNNER_DATA_PATH", data);
    let tiny = [job.arguments("plan"), vec!["--json", "--profile", "tiny"]].concat();
    let planned = environment.run(&tiny).json();
    let Some(stages) = planned["stages"].as_array() else {
        return Err(format!("there is no plan: {planned}"));
    };
    if let Some(broken) = stages.iter().find(|stage| stage["verdict"] == "broken") {
        skip(&job.describe(), broken["reason"].as_str().unwrap());
        return Ok(());
    }
    let whole = environment.run(&[job.arguments("plan"), vec!["--json"]].concat());
    is_all(stages, whole.json()["stages"].as_array().unwrap())?;

    let run = [job.arguments("run"), vec!["--quiet", "--profile", "tiny"]].concat();
    let finished = environment.run(&run);
    if finished.code() != Some(0) {
        return Err(finished.describe());
    }
    let latest = environment.latest();
    // A stage that is the same as another in the same run is a hit.
    let done = [in_state(&latest, "ran"), in_state(&latest, "hit")].concat();
    let missing: Vec<&Value> = stages
        .iter()
        .map(|stage| &stage["name"])
        .filter(|name| !done.contains(&name.as_str().unwrap().to_owned()))
        .collect();
    if !missing.is_empty() {
        return Err(format!("these did not run: {missing:?}"));
    }
    Ok(())
}

/// A tiny run leaves out no stage of the whole one, and reads the same rows.
fn is_all(tiny: &[Value], whole: &[Value]) -> Result<(), String> {
    let names = |stages: &[Value]| -> Vec<String> {
        stages
            .iter()
            .map(|stage| stage["name"].to_string())
            .collect()
    };
    if names(tiny) != names(whole) {
        return Err("the profile `tiny` leaves out stages, or adds some".to_owned());
    }
    let other_data =
        |(tiny, whole): &(&Value, &Value)| tiny["kind"] == "ingest" && tiny["key"] != whole["key"];
    match tiny.iter().zip(whole).find(other_data) {
        Some((stage, _)) => Err(format!(
            "with the profile `tiny`, {} reads other data",
            stage["name"]
        )),
        None => Ok(()),
    }
}

/// A parameter that names a machine is followed to all machines; others are left alone.
#[test]
fn entities_are_told_from_other_parameters() {
    assert!(siblings("machines").is_empty());
    assert!(siblings("tvnet-recon").is_empty());
    if real_data("ServerMachineDataset/train/machine-1-6.txt").is_some() {
        let others = siblings("machine-1-6");
        assert!(others.contains("machine-2-1"), "{others:?}");
        assert!(!others.contains("machine-1-6"), "{others:?}");
    }
}

#[test]
fn a_profile_that_leaves_something_out_is_found() {
    let stage = |name: &str, kind: &str, key: &str| serde_json::json!({"name": name, "kind": kind, "key": key});
    let whole = [stage("raw", "ingest", "1"), stage("model", "train", "2")];
    let smaller = [stage("raw", "ingest", "1"), stage("model", "train", "3")];
    let narrower = [stage("raw", "ingest", "4"), stage("model", "train", "3")];
    assert!(is_all(&smaller, &whole).is_ok());
    assert!(
        is_all(&narrower, &whole)
            .unwrap_err()
            .contains("other data")
    );
    assert!(
        is_all(&smaller[..1], &whole)
            .unwrap_err()
            .contains("leaves out")
    );
}
