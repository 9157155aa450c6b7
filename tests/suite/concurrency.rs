//! Several processes on one store: each key is computed once, everybody ends with the same results.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::environment::{Running, TestEnvironment};
use crate::pipelines::{LONG_TRAINING, SMALL, SMALL_STAGES};
use crate::store::{digests, in_state, journal, open, ran, runs};

/// Starts so many runs at the same time and checks what they came to.
fn together(processes: usize) {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let running: Vec<Running> = (0..processes)
        .map(|_| environment.spawn(&["run", "--quiet", "pipeline.yaml"]))
        .collect();
    for process in running {
        process.wait().expect(0);
    }
    let records = runs(&environment);
    assert_eq!(records.len(), processes);
    let mut executions: BTreeMap<String, usize> = BTreeMap::new();
    for record in &records {
        assert_eq!(record["status"], "done");
        assert_eq!(
            in_state(record, "ran").len() + in_state(record, "hit").len(),
            SMALL_STAGES.len(),
            "{record}"
        );
        assert_eq!(digests(record), digests(&records[0]));
        for stage in ran(record) {
            *executions.entry(stage).or_default() += 1;
        }
    }
    let once: BTreeMap<String, usize> = SMALL_STAGES
        .iter()
        .map(|stage| ((*stage).to_owned(), 1))
        .collect();
    assert_eq!(executions, once, "executions by stage");
    for record in records.iter().filter(|record| !ran(record).is_empty()) {
        assert_each_stage_is_told_once(&journal(&environment, record));
    }
    environment.succeed(&["cache", "verify"]);
    // Records that were written at once are one chain.
    let verified = environment.json(&["verify", "latest"]);
    assert_eq!(
        (&verified["records"], &verified["notes"]),
        (&json!(processes), &json!([])),
        "{verified}"
    );
    assert_eq!(
        environment.files("cache/v1/leases"),
        Vec::<std::path::PathBuf>::new(),
        "leases are given back"
    );
    assert_eq!(
        environment.files("cache/v1/tmp"),
        Vec::<std::path::PathBuf>::new(),
        "nothing is left behind"
    );
}

fn assert_each_stage_is_told_once(journal: &[Value]) {
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for event in journal
        .iter()
        .filter(|event| event["event"] == "stage-finished")
    {
        *told.entry(event["stage"].as_str().unwrap()).or_default() += 1;
    }
    assert!(
        told.values().all(|count| *count == 1) && told.len() == SMALL_STAGES.len(),
        "{told:?}"
    );
}

#[test]
fn two_runs_share_the_work() {
    for _ in 0..4 {
        together(2);
    }
}

#[test]
fn eight_runs_share_the_work() {
    for _ in 0..3 {
        together(8);
    }
}

#[test]
fn who_waits_says_so_and_then_takes_the_result() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    let mut first = environment.spawn(&["run", "pipeline.yaml"]);
    assert!(
        first.wait_until(|| !environment.files("cache/v1/checkpoints").is_empty()),
        "the training ended too soon"
    );
    let second = environment
        .spawn(&["run", "pipeline.yaml"])
        .wait()
        .expect(0);
    second.says("model: another process is working on it; waiting for its result");
    first.wait().expect(0);
    let records = runs(&environment);
    assert_eq!(digests(&records[0]), digests(&records[1]));
    let trained = records
        .iter()
        .filter(|record| ran(record).contains(&"model".to_owned()));
    assert_eq!(trained.count(), 1);
}

/// The worker dies; who waits for it notices at once, not when the lease expires, and goes on from its checkpoint.
#[test]
fn the_lease_of_a_killed_process_is_taken_over() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    let mut worker = environment.spawn(&["run", "pipeline.yaml"]);
    assert!(
        worker.wait_until(|| !environment.files("cache/v1/checkpoints").is_empty()),
        "the training ended too soon"
    );
    let mut waiting = environment.spawn(&["run", "--json", "pipeline.yaml"]);
    let said = waiting.stdout();
    assert!(
        waiting.wait_until(|| said().contains("stage-waiting")),
        "it does not wait"
    );
    worker.kill();
    worker.wait().expect_killed();
    let finished = waiting.wait().expect(0);
    let events = finished.json_lines();
    let model = |event: &&Value| event["stage"] == "model";
    assert!(
        events
            .iter()
            .filter(model)
            .any(|event| event["event"] == "stage-waiting"),
        "it waited"
    );
    let resumed = |event: &Value| {
        event["text"]
            .as_str()
            .is_some_and(|text| text.contains("training continues after"))
    };
    assert!(
        events.iter().filter(model).any(resumed),
        "it went on from the checkpoint"
    );
}

#[test]
fn a_lease_left_by_a_dead_process_does_not_hold_up_a_run() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let plan = environment.json(&["plan", "pipeline.yaml"]);
    let key = plan["stages"][0]["key"].as_str().unwrap().to_owned();
    let mut worker = environment.command(&["run", "--quiet", "pipeline.yaml"]);
    // The third step that a run passes is the lease of its first stage, after the two of its own record.
    worker.env("RUNNER_CRASH_AT", "3");
    environment.start(worker).wait().expect_killed();
    let lease = open(&environment).layout().leases().join(key);
    assert!(lease.exists(), "{} should be left behind", lease.display());
    let started = std::time::Instant::now();
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert!(
        started.elapsed().as_secs() < 20,
        "it waited for the lease to expire"
    );
    assert_eq!(in_state(&environment.latest(), "ran"), SMALL_STAGES);
    assert_eq!(json!(environment.files("cache/v1/leases")), json!([]));
}

/// What a stage copies may look old at once; garbage it is not.
#[test]
fn a_collection_of_garbage_spares_the_files_of_a_stage_at_work() {
    let environment = TestEnvironment::new();
    let old = environment.write("old", "old");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
    std::fs::File::options()
        .append(true)
        .open(&old)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let command = format!(
        "mkdir {{out.g}}; cp -p {0} {{out.g}}/a; touch {0}.begun; sleep 2",
        old.display()
    );
    environment.write(
        "pipeline.yaml",
        format!("pipeline: p\nstages:\n  it: {{uses: command, with: {{run: [sh, -c, \"{command}\"], outputs: {{g: {{path: g}}}}}}}}\n"),
    );
    let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
    assert!(running.wait_until(|| environment.path("old.begun").exists()));
    let collected = environment.json(&["cache", "gc"]);
    running.wait().expect(0);
    assert_eq!(
        collected["removed"].as_array().map_or(0, Vec::len),
        0,
        "{collected}"
    );
    let files = environment.files("cache/v1/runs");
    assert!(
        files.iter().any(|path| path.ends_with("files/it/g/a")),
        "{files:?}"
    );
}
