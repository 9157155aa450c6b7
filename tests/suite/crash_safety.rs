//! A process that dies at any instant leaves nothing, or complete results: never something half done that is served.

use std::time::{Duration, Instant};

use crate::environment::{Finished, TestEnvironment};
use crate::pipelines::SMALL;
use crate::store::{Digests, digests};

/// The digests of a run that nothing disturbs, and how long it took.
fn undisturbed() -> (Digests, Duration) {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let started = Instant::now();
    environment.succeed(&["run", "pipeline.yaml"]);
    (digests(&environment.latest()), started.elapsed())
}

/// The store is clean, and the next run comes to the same content.
fn check_aftermath(environment: &TestEnvironment, expected: &Digests, place: &str) {
    let verified = environment.run(&["cache", "verify"]);
    assert_eq!(verified.code(), Some(0), "{place}: {}", verified.describe());
    let rerun = environment.run(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(rerun.code(), Some(0), "{place}: {}", rerun.describe());
    assert_eq!(&digests(&environment.latest()), expected, "{place}");
    let verified = environment.run(&["verify", "latest"]);
    assert_eq!(verified.code(), Some(0), "{place}: {}", verified.describe());
}

fn run_until_step(environment: &TestEnvironment, step: usize) -> Finished {
    let mut command = environment.command(&["run", "--quiet", "pipeline.yaml"]);
    command.env("RUNNER_CRASH_AT", step.to_string());
    environment.start(command).wait()
}

/// Fewer would mean that steps are no longer counted, or that the pipeline publishes less than it seems to.
const LEAST_STEPS: usize = 80;

#[test]
fn killed_at_every_step_of_publication() {
    let (expected, _) = undisturbed();
    let mut step = 1;
    loop {
        let environment = TestEnvironment::with_pipeline(SMALL);
        let finished = run_until_step(&environment, step);
        if finished.code() == Some(0) {
            break;
        }
        finished.expect_killed();
        check_aftermath(&environment, &expected, &format!("killed at step {step}"));
        step += 1;
    }
    assert!(step > LEAST_STEPS, "a run has only {step} steps");
}

/// A store that many crashed runs have been through, one after another.
#[test]
fn killed_again_and_again_on_one_store() {
    let (expected, _) = undisturbed();
    let environment = TestEnvironment::with_pipeline(SMALL);
    let mut kills = 0;
    for step in (5..).step_by(4) {
        let finished = run_until_step(&environment, step);
        if finished.code() == Some(0) {
            break;
        }
        finished.expect_killed();
        kills += 1;
        let verified = environment.run(&["cache", "verify"]);
        assert_eq!(
            verified.code(),
            Some(0),
            "after {kills} kills: {}",
            verified.describe()
        );
    }
    assert!(kills >= 3, "only {kills} kills");
    check_aftermath(&environment, &expected, &format!("after {kills} kills"));
}

/// Numbers from 0 to 1 that are the same in every run of the tests (Steele et al., `SplitMix64`).
fn fractions(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    })
}

#[test]
fn killed_at_random_moments() {
    const ROUNDS: usize = 40;
    let (expected, whole) = undisturbed();
    let mut kills = 0;
    for (round, fraction) in fractions(2026).take(ROUNDS).enumerate() {
        let environment = TestEnvironment::with_pipeline(SMALL);
        let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
        std::thread::sleep(whole.mul_f64(fraction));
        running.kill();
        kills += usize::from(running.wait().code().is_none());
        check_aftermath(
            &environment,
            &expected,
            &format!("round {round}, killed after {fraction:.3} of a run"),
        );
    }
    assert!(
        kills >= ROUNDS / 4,
        "only {kills} of {ROUNDS} runs were still going when they were killed"
    );
}
