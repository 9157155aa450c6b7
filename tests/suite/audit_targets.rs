//! What can be audited besides runs and locks: runs of sweeps, bundles, and runs that came in one.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;
use crate::store::runs;

const SWEEP: &str = "sweep: test
pipeline: ../pipeline.yaml
objective: {stage: metrics, metric: f1}
axes: {epochs: [1, 2]}
seeds: [1, 2]
";

fn audit(environment: &TestEnvironment, arguments: &[&str], code: i32) -> Value {
    environment
        .run(&[&["audit"], arguments, &["--json"]].concat())
        .expect(code)
        .json()
}

fn stages(report: &Value) -> Vec<(&str, &str)> {
    let stages = report["stages"].as_array().unwrap().iter();
    stages
        .map(|stage| {
            (
                stage["stage"].as_str().unwrap(),
                stage["verdict"].as_str().unwrap(),
            )
        })
        .collect()
}

fn swept() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.write("sweeps/test.yaml", SWEEP);
    environment.succeed(&[
        "sweep",
        "sweeps/test.yaml",
        "--quiet",
        "--set",
        "channels=2",
    ]);
    environment
}

#[test]
fn a_run_of_a_sweep_is_done_again_from_its_record() {
    let environment = swept();
    let recorded = environment.latest();
    assert_eq!(
        recorded["sweep"]["members"].as_array().unwrap().len(),
        4,
        "{recorded}"
    );
    let report = audit(&environment, &["latest"], 0);
    let names: Vec<&str> = stages(&report).into_iter().map(|(name, _)| name).collect();
    // Per seed: data, normalisation and windows; per member: model, scores and figures.
    assert_eq!(names.len(), 2 * 3 + 4 * 3, "{names:?}");
    assert!(
        names.contains(&"raw#1,seed=2") && names.contains(&"metrics#2,seed=1"),
        "{names:?}"
    );
    assert!(
        stages(&report)
            .iter()
            .all(|(_, verdict)| *verdict == "bitwise"),
        "{report}"
    );
    // What the file says by now does not matter; what the pipeline says does.
    environment.write("sweeps/test.yaml", SWEEP.replace("[1, 2]", "[5]"));
    environment
        .succeed(&["audit", "sweeps/test.yaml"])
        .prints("18 bitwise");
    environment.write(
        "pipeline.yaml",
        SMALL.replace("method: zscore", "method: minmax"),
    );
    let report = audit(&environment, &["latest", "--from", "scaled"], 3);
    assert_eq!(report["first_divergence"], "scaled#1,seed=1", "{report}");
    assert_eq!(stages(&report).len(), 16);
    environment.write("pipeline.yaml", SMALL);
    let part = audit(&environment, &["latest", "--sample", "2", "--seed", "1"], 0);
    assert_eq!(stages(&part).len(), 2);
    environment
        .run(&["audit", "latest", "--pipeline", "sweeps/test.yaml"])
        .expect(2)
        .says("is a sweep file");
}

#[test]
fn what_a_task_of_a_submission_did_is_done_again() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.write("sweeps/test.yaml", SWEEP.replace("seeds: [1, 2]\n", ""));
    environment.succeed(&["sweep", "sweeps/test.yaml", "--on", "local"]);
    let started = std::time::Instant::now();
    let is_over = |run: &Value| run["status"] != "running";
    while environment.json(&["sweep", "status", "sweeps/test.yaml"])["done"] != 2
        || !runs(&environment).iter().all(is_over)
    {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "it takes too long"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let recorded = runs(&environment);
    assert!(!recorded.is_empty());
    for run in recorded {
        let report = audit(&environment, &[run["run"].as_str().unwrap()], 0);
        assert_eq!(report["good"], true, "{report}");
    }
}

/// Records of earlier versions do not name members.
#[test]
fn a_record_without_members_says_what_to_do() {
    let environment = swept();
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let path = environment.path(&format!("cache/v1/runs/{run}/run.json"));
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("sweep");
    record.as_object_mut().unwrap().remove("seal");
    fs::write(&path, record.to_string()).unwrap();
    let refused = environment.run(&["audit", "latest"]).expect(2);
    refused
        .says("does not say which of its trials were run")
        .says("runner sweep best sweeps/test.yaml");
}

#[test]
fn a_bundle_is_audited_with_the_pipeline_in_it() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=1"]);
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let elsewhere = TestEnvironment::new();
    elsewhere.write(
        "run.bundle",
        fs::read(environment.path("run.bundle")).unwrap(),
    );
    // The path in the record leads nowhere.
    fs::remove_file(environment.path("pipeline.yaml")).unwrap();
    let report = audit(&elsewhere, &["run.bundle"], 0);
    assert_eq!(
        (stages(&report).len(), &report["pipeline_is_recorded"]),
        (8, &true.into()),
        "{report}"
    );
    assert!(
        report["target"]
            .as_str()
            .unwrap()
            .ends_with(" in run.bundle"),
        "{report}"
    );
    assert!(!elsewhere.path("cache").exists(), "nothing is imported");
    elsewhere.succeed(&["import", "run.bundle"]);
    let before = elsewhere.files("cache");
    let told = elsewhere.succeed(&["audit", "latest"]);
    told.prints("with the pipeline that came with the record")
        .prints("8 bitwise");
    assert_eq!(
        elsewhere.files("cache"),
        before,
        "the original is not written"
    );
    // A part of it stands on what came along.
    assert_eq!(
        stages(&audit(&elsewhere, &["run.bundle", "--from", "scores"], 0)).len(),
        4
    );
    // Another pipeline is asked for by name.
    elsewhere.write(
        "mine.yaml",
        SMALL.replace("method: zscore", "method: minmax"),
    );
    for target in ["run.bundle", "latest"] {
        let report = audit(&elsewhere, &[target, "--pipeline", "mine.yaml"], 3);
        assert_eq!(
            (&report["first_divergence"], &report["pipeline_is_recorded"]),
            (&"scaled".into(), &false.into())
        );
    }
    elsewhere
        .run(&["audit", "no.bundle"])
        .expect(2)
        .says("there is no bundle no.bundle");
    let mut damaged = fs::read(elsewhere.path("run.bundle")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    elsewhere.write("damaged.bundle", damaged);
    elsewhere
        .run(&["audit", "damaged.bundle"])
        .expect(3)
        .says("damaged or was altered");
}

#[test]
fn a_bundle_of_a_sweep_brings_its_members() {
    let environment = swept();
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let elsewhere = TestEnvironment::new();
    elsewhere.write(
        "run.bundle",
        fs::read(environment.path("run.bundle")).unwrap(),
    );
    fs::remove_file(environment.path("pipeline.yaml")).unwrap();
    elsewhere
        .succeed(&["audit", "run.bundle"])
        .prints("18 bitwise");
    elsewhere.succeed(&["import", "run.bundle", "--extract", "here"]);
    elsewhere.succeed(&["audit", "latest"]).prints("18 bitwise");
    elsewhere
        .succeed(&["verify", "here/pipeline.lock"])
        .prints("it is of several trials of a sweep");
    elsewhere
        .run(&["audit", "here/pipeline.lock"])
        .expect(2)
        .says("is of several trials of a sweep");
}
