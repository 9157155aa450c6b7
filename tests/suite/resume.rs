//! A training that was interrupted goes on where it was, and ends with the very digests of one that was not.

use serde_json::Value;

use crate::environment::{Finished, Running, TestEnvironment};
use crate::pipelines::LONG_TRAINING;
use crate::store::{Digests, digests, in_state, journal, ran};

fn uninterrupted() -> Digests {
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    digests(&environment.latest())
}

/// Starts the pipeline and ends it after its third checkpoint, when the three stages before are safe on the disk.
fn interrupted(environment: &TestEnvironment, end: impl FnOnce(&mut Running)) -> Finished {
    let mut running = environment.spawn(&["run", "pipeline.yaml"]);
    let count = |folder: &str| environment.files(folder).len();
    let far_enough = || count("cache/v1/checkpoints") >= 3 && count("cache/v1/actions") >= 3;
    assert!(running.wait_until(far_enough), "the training ended too soon: make it longer");
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
    let text = notes.iter().filter(|event| event["event"] == "stage-note").find_map(|event| event["text"].as_str())?;
    let after = text.strip_prefix("training goes on after epoch ").and_then(|epoch| epoch.parse().ok());
    let inside = text.strip_prefix("training goes on inside epoch ").and_then(|epoch| epoch.parse().ok());
    after.map(Resumed::AfterEpoch).or(inside.map(Resumed::InsideEpoch))
}

/// `asked`: the training was asked to stop, so that it kept the state inside its epoch, too.
fn goes_on(environment: &TestEnvironment, asked: bool) {
    let kept = environment.files("cache/v1/checkpoints").len() as u64;
    assert!((3..40).contains(&kept), "{kept} checkpoints");
    environment.succeed(&["run", "pipeline.yaml"]);
    let run = environment.latest();
    assert_eq!(ran(&run), ["model", "scores"], "what was done stays done");
    // A process killed between writing a checkpoint and renaming it leaves one less.
    let expected = if asked { Resumed::InsideEpoch(kept) } else { Resumed::AfterEpoch(kept) };
    assert_eq!(resumed(environment, &run), Some(expected));
    let all = if asked { 41 } else { 40 };
    assert_eq!(environment.files("cache/v1/checkpoints").len(), all, "every epoch was trained once");
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
    assert_eq!(record["status"], "running", "nobody could say how it ended");
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
    let checkpoints = environment.files("cache/v1/checkpoints");
    let newest = checkpoints.last().unwrap();
    crate::store::Harm::FlipBit.happen_to(newest);
    environment.succeed(&["run", "pipeline.yaml"]).says("is damaged and was removed");
    let run = environment.latest();
    let expected = Resumed::AfterEpoch(checkpoints.len() as u64 - 1);
    assert_eq!(resumed(&environment, &run), Some(expected));
    assert_eq!(digests(&run), uninterrupted());
}

/// A second Ctrl-C does not wait for anything.
#[test]
fn a_second_ctrl_c_ends_the_process_at_once() {
    let pipeline = "pipeline: slow\nstages:\n  slow: {uses: command, with: {run: [sh, -c, \"trap '' TERM; echo > started; for i in $(seq 40); do sleep 0.1; done\"], outputs: {o: {path: o}}}}\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    let mut running = environment.spawn(&["run", "pipeline.yaml"]);
    let started = || environment.files("cache/v1/tmp").iter().any(|path| path.ends_with("started"));
    assert!(running.wait_until(started));
    running.interrupt();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!running.has_ended(), "the program that ignores SIGTERM is given a second");
    running.interrupt();
    let asked = std::time::Instant::now();
    running.wait().expect(130);
    assert!(asked.elapsed().as_millis() < 600, "the second Ctrl-C took {:?}", asked.elapsed());
}
