//! A training that was interrupted goes on where it was, and ends with the very digests of one that was not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::environment::{Finished, Running, TestEnvironment};
use crate::pipelines::LONG_TRAINING;
use crate::store::{Digests, digests, in_state, journal, ran};

fn uninterrupted() -> Digests {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    digests(&environment.latest())
}

/// The steps of which states are kept, by the folder of their chain.
fn chains(environment: &TestEnvironment) -> BTreeMap<PathBuf, Vec<u64>> {
    let mut chains: BTreeMap<PathBuf, Vec<u64>> = BTreeMap::new();
    for path in environment.files("cache/v1/checkpoints") {
        let step: Option<u64> = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.split_once('-')?.0.parse().ok());
        chains
            .entry(path.parent().unwrap().to_owned())
            .or_default()
            .extend(step);
    }
    chains
}

/// The newest epoch of the only training. Steps of a chain inside an epoch have greater numbers.
fn newest_epoch(environment: &TestEnvironment) -> u64 {
    let newest = chains(environment)
        .into_values()
        .filter_map(|steps| steps.into_iter().max());
    newest.min().unwrap_or(0)
}

/// Starts the pipeline and ends it after its third epoch, when the three stages before are safe on the disk.
fn interrupted(environment: &TestEnvironment, end: impl FnOnce(&mut Running)) -> Finished {
    let mut running = environment.spawn(&["run", "pipeline.yaml"]);
    let far_enough =
        || newest_epoch(environment) >= 3 && environment.files("cache/v1/actions").len() >= 3;
    assert!(
        running.wait_until(far_enough),
        "the training ended too soon: make it longer"
    );
    end(&mut running);
    running.wait()
}

/// Where the training of this run went on.
#[derive(Debug, PartialEq)]
enum Resumed {
    AfterEpoch(u64),
    InsideEpoch(u64),
}

fn resumed(environment: &TestEnvironment, run: &Value) -> Option<Resumed> {
    let notes = journal(environment, run);
    let text = notes
        .iter()
        .filter(|event| event["event"] == "stage-note")
        .find_map(|event| event["text"].as_str())?;
    let after = text
        .strip_prefix("training continues after epoch ")
        .and_then(|epoch| epoch.parse().ok());
    let inside = text
        .strip_prefix("training continues inside epoch ")
        .and_then(|epoch| epoch.parse().ok());
    after
        .map(Resumed::AfterEpoch)
        .or(inside.map(Resumed::InsideEpoch))
}

/// `asked`: the training was asked to stop, so that it kept the state inside its epoch, too.
fn goes_on(environment: &TestEnvironment, asked: bool) {
    let newest = newest_epoch(environment);
    assert!((3..40).contains(&newest), "{newest} epochs");
    environment.succeed(&["run", "pipeline.yaml"]);
    let run = environment.latest();
    assert_eq!(ran(&run), ["model", "scores"], "what was done stays done");
    let expected = if asked {
        Resumed::InsideEpoch(newest + 1)
    } else {
        Resumed::AfterEpoch(newest)
    };
    assert_eq!(resumed(environment, &run), Some(expected));
    let chains: Vec<Vec<u64>> = chains(environment).into_values().collect();
    let [steps] = &chains[..] else {
        panic!("the state inside the epoch is of no use any more: {chains:?}")
    };
    assert!(steps.contains(&40) && steps.len() <= 2, "{steps:?}");
    assert_eq!(digests(&run), uninterrupted());
}

#[test]
fn after_ctrl_c() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    let stopped = interrupted(&environment, |running| running.interrupt()).expect(130);
    stopped.says("interrupted");
    let run = environment.latest();
    assert_eq!(run["status"], "interrupted");
    assert_eq!(ran(&run), ["raw", "scaled", "windows"]);
    assert_eq!(in_state(&run, "skipped"), ["model", "scores"]);
    assert_eq!(in_state(&run, "failed"), Vec::<String>::new());
    goes_on(&environment, true);
}

#[test]
fn after_a_kill() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    interrupted(&environment, Running::kill).expect_killed();
    let record = environment.latest();
    assert_eq!(record["status"], "interrupted", "its process is gone");
    environment.succeed(&["cache", "verify"]);
    goes_on(&environment, false);
}

#[test]
fn more_epochs_go_on_from_fewer() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    environment.succeed(&["run", "--quiet", "--set", "epochs=10", "pipeline.yaml"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest();
    assert_eq!(resumed(&environment, &run), Some(Resumed::AfterEpoch(10)));
    assert_eq!(digests(&run), uninterrupted());
}

#[test]
fn a_damaged_checkpoint_is_not_used() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    interrupted(&environment, Running::kill).expect_killed();
    let newest = newest_epoch(&environment);
    let is_newest = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&format!("{newest:08}-"))
    };
    let checkpoints = environment.files("cache/v1/checkpoints");
    crate::store::Harm::FlipBit.happen_to(checkpoints.iter().find(|path| is_newest(path)).unwrap());
    environment
        .succeed(&["run", "pipeline.yaml"])
        .says("is damaged and was removed");
    let run = environment.latest();
    assert_eq!(
        resumed(&environment, &run),
        Some(Resumed::AfterEpoch(newest - 1))
    );
    assert_eq!(digests(&run), uninterrupted());
}

/// What the user forces is done, from the start: also where a training had not come to its end.
#[test]
fn a_forced_training_begins_at_the_start() {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    interrupted(&environment, |running| running.interrupt()).expect(130);
    environment.succeed(&["run", "pipeline.yaml", "--force", "model"]);
    let run = environment.latest();
    assert_eq!(resumed(&environment, &run), None);
    assert_eq!(digests(&run), uninterrupted());
    environment.succeed(&["run", "pipeline.yaml", "--force", "model"]);
    let run = environment.latest();
    assert_eq!(
        (ran(&run), resumed(&environment, &run)),
        (vec!["model".to_owned()], None)
    );
    // What is lost is another matter: it comes back as fast as it can.
    crate::store::Harm::Delete.happen_to(&crate::store::object_path(
        &environment,
        "model",
        "model",
    ));
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(
        resumed(&environment, &environment.latest()),
        Some(Resumed::AfterEpoch(40))
    );
    assert_eq!(digests(&environment.latest()), uninterrupted());
}

/// Of a training that has ended there stay its last and its best state, and nothing of one that nobody needs.
#[test]
fn states_of_trainings_are_thinned_out_counted_and_collected() {
    let environment = TestEnvironment::with_pipeline(
        &LONG_TRAINING.replace("batch: 64", "batch: 64, keep: last"),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let collected = environment.json(&["cache", "gc"]);
    assert_eq!(
        collected["removed"],
        serde_json::json!([]),
        "they went when the training ended"
    );
    let counted = environment.json(&["cache", "stats"])["checkpoints"]["bytes"].as_u64();
    let [steps] = &chains(&environment).into_values().collect::<Vec<_>>()[..] else {
        panic!("one chain")
    };
    assert!(
        steps.contains(&40) && steps.len() <= 2,
        "the last and the best: {steps:?}"
    );
    assert_eq!(collected["kept_checkpoints"], steps.len());
    assert!(
        collected["kept_checkpoint_bytes"].as_u64() > Some(0)
            && counted > collected["kept_checkpoint_bytes"].as_u64()
    );
    environment.succeed(&["cache", "gc"]).prints(" checkpoint");
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=44"]);
    assert_eq!(
        resumed(&environment, &environment.latest()),
        Some(Resumed::AfterEpoch(40))
    );
    // Without the records of its runs nobody needs it: its results go, and its states with them.
    std::fs::remove_dir_all(environment.path("cache/v1/runs")).unwrap();
    environment.succeed(&["cache", "gc"]);
    assert_eq!(chains(&environment), BTreeMap::new());
}

/// A second Ctrl-C does not wait for anything.
#[test]
fn a_second_ctrl_c_ends_the_process_at_once() {
    let pipeline = "pipeline: slow\nstages:\n  slow: {uses: command, with: {run: [sh, -c, \"trap '' TERM; echo > started; for i in $(seq 40); do sleep 0.1; done\"], outputs: {o: {path: o}}}}\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    let mut running = environment.spawn(&["run", "pipeline.yaml"]);
    let started = || {
        environment
            .files("cache/v1/tmp")
            .iter()
            .any(|path| path.ends_with("started"))
    };
    assert!(running.wait_until(started));
    running.interrupt();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(
        !running.has_ended(),
        "the program that ignores SIGTERM is given a second"
    );
    running.interrupt();
    let asked = std::time::Instant::now();
    running.wait().expect(130);
    assert!(
        asked.elapsed().as_millis() < 600,
        "the second Ctrl-C took {:?}",
        asked.elapsed()
    );
}
